from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamdeblur.correction import Plane
from streamdeblur.frames import rgb_view
from streamdeblur.sources import FileSource
from streamdeblur.video.upright import upright, upright_info
from tests.conftest import ClipMaker
from tests.footage import deblur, in_planes, pictures

TURN, MIRROR = 1 << 16, -(1 << 16)


def matrix(a: int, b: int, c: int, d: int) -> tuple[int, ...]:
    return (a, b, 0, c, d, 0, 0, 0, 1 << 30)


def corners(picture: av.VideoFrame) -> list[int]:
    """The light of the four corners, row by row."""
    image = rgb_view(picture)[..., 0].astype(int)
    rows, columns = image.shape[0] // 4, image.shape[1] // 4
    return [int(image[y, x]) for y in (rows, -rows) for x in (columns, -columns)]


def picture(layout: str = "gray") -> av.VideoFrame:
    """Its corners have the light 0, 80, 160 and 240, row by row."""
    image = np.repeat(np.repeat(np.uint8([[0, 80], [160, 240]]), 24, axis=0), 32, axis=1)
    made = av.VideoFrame.from_ndarray(image, format="gray").reformat(format=layout)
    made.pts, made.time_base = 7, Fraction(1, 25)
    return made


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ((TURN, 0, 0, TURN), [0, 80, 160, 240]),
        ((0, TURN, MIRROR, 0), [160, 0, 240, 80]),  # clockwise
        ((0, MIRROR, TURN, 0), [80, 240, 0, 160]),
        ((MIRROR, 0, 0, MIRROR), [240, 160, 80, 0]),
        ((MIRROR, 0, 0, TURN), [80, 0, 240, 160]),
        ((TURN, 0, 0, MIRROR), [160, 240, 0, 80]),
        ((0, TURN, TURN, 0), [0, 160, 80, 240]),
        ((0, MIRROR, MIRROR, 0), [240, 80, 160, 0]),
        ((TURN, TURN, MIRROR, TURN), [0, 80, 160, 240]),  # by 45 degrees: left alone
    ],
)
def test_a_picture_is_turned_and_mirrored(numbers: tuple[int, ...], found: list[int]) -> None:
    turned = upright(picture(), matrix(*numbers))
    assert corners(turned) == found
    assert (turned.pts, turned.time_base) == (7, Fraction(1, 25))


@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p10le", "nv12", "yuyv422", "bgr0"])
def test_a_turned_picture_keeps_its_layout(layout: str) -> None:
    turned = upright(picture(layout), matrix(0, TURN, MIRROR, 0))
    assert (turned.width, turned.height, turned.format.name) == (48, 64, layout)
    assert np.allclose(corners(turned), [160, 0, 240, 80], atol=2)


def shown(path: Path) -> tuple[Plane, Fraction | None]:
    """The luma of a clip's only picture, as players show it, and the aspect of its pixels."""
    with FileSource(path) as source:
        (frame,) = source
        luma, *_ = in_planes(upright(frame.picture, source.info.display_matrix))
        return luma, upright_info(source.info).sample_aspect_ratio


@pytest.mark.parametrize(
    "numbers",
    [
        (0, TURN, MIRROR, 0),
        (0, MIRROR, TURN, 0),
        (MIRROR, 0, 0, MIRROR),
        (MIRROR, 0, 0, TURN),
        (TURN, 0, 0, MIRROR),
        (0, TURN, TURN, 0),
        (0, MIRROR, MIRROR, 0),
    ],
)
@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_compare_shows_the_original_at_the_left_however_it_is_turned(
    make_clip: ClipMaker, kind: str, numbers: tuple[int, ...]
) -> None:
    clip = make_clip(
        f"in.{kind}",
        pix_fmt="yuv444p",
        size=(64, 47),
        pts=range(1),
        options={"crf": "0"},  # without loss
        pixel_aspect=Fraction(4, 3),
        display_matrix=matrix(*numbers),
    )
    output = clip.with_name(f"out.{kind}")
    deblur(clip, output, invert=True, compare=True, crf=0)
    (before, aspect), (both, new_aspect) = shown(clip), shown(output)
    height, width = before.shape
    assert (both.shape, new_aspect) == ((height, 2 * width), aspect)
    assert np.array_equal(both[:, :width], before)
    assert not np.array_equal(both[:, width:], before)


def test_compare_is_not_turned_where_the_turn_is_lost(make_clip: ClipMaker) -> None:
    clip = make_clip("in.mp4", pts=range(2), rotation=90)
    sink = deblur(clip, clip.with_name("out.avi"), compare=True)
    assert any("can't keep the rotation" in notice for notice in sink.notices)
    assert {(p.width, p.height) for p in pictures(sink.path)} == {(128, 48)}


def test_colours_are_read_alike_when_the_height_is_doubled(make_clip: ClipMaker) -> None:
    """Untagged pictures of 400 lines are BT.601, those of 800 would be BT.709."""
    clip = make_clip("in.mp4", size=(16, 400), pts=range(2), rotation=90)
    deblur(clip, clip.with_name("out.mp4"), compare=True)
    assert {p.colorspace for p in pictures(clip.with_name("out.mp4"))} == {6}
