from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamdeblur import correction
from streamdeblur.correction import (
    chroma_grid,
    corrected,
    planar_copy,
    planar_layout,
    planes,
    side_by_side,
)
from streamdeblur.frames import Frame, is_full_range, luma_weights, matrix, rgb_view
from tests.clips import noisy_picture

LAYOUTS = [
    "yuv420p",
    "yuvj420p",
    "yuv422p",
    "yuv444p",
    "yuv440p",
    "yuv411p",
    "yuva420p",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p12le",
    "yuv444p16le",
    "gray",
    "gray10le",
    "gbrp",
    "gbrp10le",
    "gbrap",
]
MATRICES = [1, 2, 5, 6, 7, 9]
# swscale works with 15-bit factors and, for more than 8 bits, cuts before it multiplies.
VIEW_TOLERANCE = 2  # grey levels

pictures = st.builds(
    lambda layout, tag, color_range, width, height, seed: tagged(
        noisy_picture(seed, (width, height), layout), tag, color_range
    ),
    st.sampled_from(LAYOUTS),
    st.sampled_from(MATRICES),
    st.sampled_from([0, 1, 2]),
    st.integers(1, 21),
    st.integers(1, 21),
    st.integers(0, 9),
)


def tagged(picture: av.VideoFrame, colorspace: int, color_range: int) -> av.VideoFrame:
    if not picture.format.is_rgb:
        picture.colorspace, picture.color_range = colorspace, color_range
    picture.pts, picture.time_base = 7, Fraction(1, 90_000)
    return picture


def samples(picture: av.VideoFrame) -> list[NDArray[Any]]:
    return [plane.copy() for plane in planes(picture)]


def sharpened(picture: av.VideoFrame, seed: int = 0, reach: int = 30) -> Frame:
    image = rgb_view(picture)
    change = np.random.default_rng(seed).integers(-reach, reach + 1, image.shape)
    sharp = np.clip(image + change, 0, 255).astype(np.uint8)
    return Frame(picture, image, 7, sharp)


def to_yuv(rgb: NDArray[np.float64], picture: av.VideoFrame) -> NDArray[np.float64]:
    """The textbook's conversion of RGB steps of 1/255 to steps of YUV, offsets left out."""
    red, green, blue = np.moveaxis(rgb, -1, 0) / 255
    kr, kg, kb = luma_weights(picture)
    luma = kr * red + kg * green + kb * blue
    cb, cr = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    depth = picture.format.components[0].bits
    if is_full_range(picture):
        return np.stack([luma, cb, cr]) * (2**depth - 1)
    return np.stack([219 * luma, 224 * cb, 224 * cr]) * 2 ** (depth - 8)


@given(pictures)
@settings(max_examples=60, deadline=None)
def test_what_the_network_leaves_alone_stays_bit_exact(picture: av.VideoFrame) -> None:
    before = samples(picture)
    frame = sharpened(picture)
    for strength, sharp in ((1.0, frame.image.copy()), (0.0, frame.sharp), (1.0, None)):
        after = corrected(Frame(picture, frame.image, 7, sharp), strength)
        assert all(np.array_equal(*pair) for pair in zip(before, samples(after), strict=True))
    assert all(np.array_equal(*pair) for pair in zip(before, samples(picture), strict=True))


@given(pictures, st.sampled_from([0.3, 1.0]), st.sampled_from([1, 8, 80_000]))
@settings(max_examples=80, deadline=None)
def test_the_correction_is_the_difference_in_the_pictures_own_colours(
    picture: av.VideoFrame, strength: float, strip: int
) -> None:
    frame = sharpened(picture)
    assert frame.sharp is not None
    change = strength * (frame.sharp.astype(float) - frame.image)
    depth = picture.format.components[0].bits
    if picture.format.is_rgb:
        wanted = [change[..., channel] * (2**depth - 1) / 255 for channel in (1, 2, 0)]
    else:
        columns, rows = chroma_grid(picture.format)
        height, width, _ = change.shape
        edge = ((0, -height % rows), (0, -width % columns), (0, 0))
        padded = np.pad(change, edge, mode="edge")
        blocks = padded.reshape(padded.shape[0] // rows, rows, -1, columns, 3)
        wanted = [to_yuv(change, picture)[0], *to_yuv(blocks.mean((1, 3)), picture)[1:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correction, "_STRIP", strip)
        after = samples(corrected(frame, strength))
    for old, new, step in zip(samples(picture), after, wanted, strict=False):
        exact = np.clip(old + step, 0, 2**depth - 1)
        assert np.abs(new - exact).max() <= 0.5 + 2.0 ** (depth - 22)  # float32's own steps


@given(pictures)
@settings(max_examples=80, deadline=None)
def test_the_view_has_the_pictures_own_matrix_and_range(picture: av.VideoFrame) -> None:
    depth = picture.format.components[0].bits
    for plane in planes(picture):
        # One colour, so that chroma's interpolation plays no part, and in the nominal range:
        # swscale's 32 bits overflow where a channel would be twice as bright as white.
        plane[...] = np.clip(plane[0, 0], 2 ** (depth - 4), 235 * 2 ** (depth - 8))
    view = rgb_view(picture)
    values = [float(plane[0, 0]) for plane in planes(picture)][:3]
    if picture.format.is_rgb:
        wanted = np.array([values[2], values[0], values[1]]) * 255 / (2**depth - 1)
    else:
        luma, cb, cr = values if len(values) == 3 else (values[0], 2.0 ** (depth - 1), 0)
        cr = cr if len(values) == 3 else cb
        full = is_full_range(picture)
        span, swing = (
            (2**depth - 1,) * 2 if full else (219 * 2 ** (depth - 8), 224 * 2 ** (depth - 8))
        )
        luma = (luma - (0 if full else 2 ** (depth - 4))) / span
        cb, cr = (cb - 2 ** (depth - 1)) / swing, (cr - 2 ** (depth - 1)) / swing
        kr, kg, kb = luma_weights(picture)
        red, blue = luma + (2 - 2 * kr) * cr, luma + (2 - 2 * kb) * cb
        wanted = 255 * np.array([red, (luma - kr * red - kb * blue) / kg, blue])
    assert view.shape == (picture.height, picture.width, 3)
    assert view.dtype == np.uint8
    assert view.flags.c_contiguous
    assert np.abs(view[0, 0] - np.clip(wanted, 0, 255)).max() <= VIEW_TOLERANCE


@pytest.mark.parametrize(("height", "code"), [(719, 6), (720, 1)])
def test_untagged_video_is_bt709_from_720_lines_up(height: int, code: int) -> None:
    assert matrix(av.VideoFrame(2, height, "yuv420p")) == code


@pytest.mark.parametrize(
    ("packed", "planar"),
    [
        ("nv12", "yuv420p"),
        ("nv16", "yuv422p"),
        ("p010le", "yuv420p10le"),
        ("p210le", "yuv422p10le"),
        ("yuyv422", "yuv422p"),
        ("uyvy422", "yuv422p"),
        ("yuv420p10be", "yuv420p10le"),
        ("rgb24", "gbrp"),
        ("bgr0", "gbrp"),
        ("rgba", "gbrap"),
        ("rgb48le", "gbrp16le"),
        ("gray16be", "gray16le"),
        ("yuvj422p", "yuv422p"),
    ],
)
def test_other_layouts_are_repacked_without_loss(packed: str, planar: str) -> None:
    original = noisy_picture(0, (22, 14), planar)
    if packed == "yuvj422p":
        original.color_range = 2
    picture = original.reformat(format=packed, threads=1)
    assert planar_layout(picture.format) == planar
    copy = planar_copy(picture)
    assert copy.format.name == planar
    pairs = zip(samples(original), samples(copy), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)


@pytest.mark.parametrize("layout", ["rgb565le", "rgb8", "monow", "ya8", "yuv410p", "gbrpf32le"])
def test_every_layout_has_a_planar_one_and_keeps_its_look(layout: str) -> None:
    picture = noisy_picture(0, (16, 16), "rgb24").reformat(format=layout)
    again = corrected(Frame(picture, rgb_view(picture), 0))
    assert planar_layout(again.format) == again.format.name
    assert np.abs(rgb_view(again).astype(int) - rgb_view(picture)).max() <= VIEW_TOLERANCE


def test_palettes_become_the_colours_that_they_stand_for() -> None:
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 256, (16, 16), dtype=np.uint8)
    palette = rng.integers(0, 256, (256, 4), dtype=np.uint8)
    picture = av.VideoFrame.from_ndarray((indices, palette), format="pal8")  # type: ignore[arg-type]
    again = corrected(Frame(picture, rgb_view(picture), 0))
    assert again.format.name == "gbrp"
    assert np.array_equal(rgb_view(again), rgb_view(picture))


def test_corrected_keeps_time_tags_and_side_data(make_clip: Any) -> None:
    path = make_clip("clip.mp4", rotation=90, colorspace=1, color_range=1, color_trc=1)
    with av.open(str(path)) as container:
        picture = list(container.decode(video=0))[3]
    after = corrected(sharpened(picture))
    for tag in ("time_base", "colorspace", "color_range", "color_trc", "color_primaries"):
        assert getattr(after, tag) == getattr(picture, tag), tag
    assert after.pts == 7
    assert after.rotation == picture.rotation == 90
    assert after.pict_type == 0  # the encoder chooses key frames by itself


def test_corrections_saturate() -> None:
    picture = av.VideoFrame(2, 2, "yuv444p")
    for plane in planes(picture):
        plane[...] = 250
    image = np.zeros((2, 2, 3), np.uint8)
    after = corrected(Frame(picture, image, 0, np.full_like(image, 255)))
    assert planes(after)[0].min() == 255


@pytest.mark.parametrize(("layout", "width", "joined"), [("yuv420p", 5, 12), ("gbrp10le", 5, 10)])
def test_side_by_side_joins_native_samples(layout: str, width: int, joined: int) -> None:
    left, right = (noisy_picture(seed, (width, 4), layout) for seed in (1, 2))
    both = side_by_side(left, right)
    assert (both.width, both.height, both.format.name) == (joined, 4, layout)
    for whole, first, second in zip(samples(both), samples(left), samples(right), strict=True):
        half = whole.shape[1] // 2
        assert np.array_equal(whole[:, : first.shape[1]], first)
        assert np.array_equal(whole[:, half : half + second.shape[1]], second)


def test_frame_tells_size_layout_and_time() -> None:
    picture = av.VideoFrame(4, 2, "yuv420p")
    assert repr(Frame(picture, rgb_view(picture), 5)) == "Frame(4x2 yuv420p, pts=5)"
