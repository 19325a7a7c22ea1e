"""From what the network changed to the picture that is written.

Not the network's RGB is written but the source's own planes plus the difference that the network
made, turned into YUV. What it left alone stays as it was to the last bit, more than 8 bits stay,
and a colour matrix touches nothing but the difference.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray

from streamdeblur.frames import Frame, Image, is_full_range, luma_weights
from streamdeblur.video.filters import filter_chain

Plane = NDArray[Any]
"""One component, shape (H, W), uint8 or uint16; writing to it writes to the picture."""
Way = tuple[int, int]
"""Where the right of a picture as shown lies in what is stored, which players turn and mirror: an
axis, 0 for down and 1 for across, and 1 for along it or -1 for against it."""
ACROSS: Way = 1, 1
"""That of pictures which are stored upright."""

# Nothing is interpolated when a layout is only repacked: the numbers pass through as they are.
_EXACT = (
    Interpolation.POINT
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.BITEXACT
)


# BLAS takes its buffer (32 MB in OpenBLAS) at its first product, and ends the program if there is
# no room by then: so take it before a network fills what a limit leaves.
np.matmul(np.zeros((4096, 3), np.float32), np.zeros(3, np.float32))
_STRIP = 80_000  # pixels, of which the steps of a correction take about 2 MB


def corrected(frame: Frame, strength: float = 1.0) -> av.VideoFrame:
    """The picture of `frame` with its correction: planes + YUV(strength * (sharp - image)).

    A new picture in a planar layout of the same depth and chroma grid (see `planar_layout`), with
    the tags and side data of the old one and the frame's pts. Samples saturate at the depth's
    range. With strength 0, or where `sharp` equals `image`, they are those of the source.
    """
    picture = planar_copy(frame.picture)
    picture.pts = frame.pts
    if strength and frame.sharp is not None and frame.sharp is not frame.image:
        _add(picture, frame.image, frame.sharp, strength)
    return picture


def planar_layout(layout: av.VideoFormat) -> str:
    """FFmpeg's name of the planar layout with the depth and chroma grid of `layout`.

    Layouts with 2 to 7 bits become 8, and 9 is kept; floating point becomes 16 bits.
    """
    parts = layout.components
    depth = min(16, max(8, *(part.bits for part in parts)))
    suffix = f"{depth}le" if depth > 8 else ""
    alpha = "a" if len(parts) in (2, 4) else ""
    if layout.is_rgb or layout.has_palette:
        return f"gbr{alpha}p{suffix}"
    if len(parts) == 1:
        return f"gray{suffix}"
    if len(parts) == 2:  # gray with alpha has no planar layout of its own
        return f"yuva444p{suffix}"
    columns, rows = chroma_grid(layout)
    grid = {(1, 1): "444", (1, 2): "440", (2, 1): "422", (2, 2): "420", (4, 1): "411"}
    return f"yuv{alpha}{grid.get((columns, rows), '410')}p{suffix}"


def chroma_grid(layout: av.VideoFormat) -> tuple[int, int]:
    """Columns and rows of pixels that share one chroma sample."""
    if layout.is_rgb or len(layout.components) < 3:
        return 1, 1
    return 8 // layout.chroma_width(8), 8 // layout.chroma_height(8)


def planar_copy(picture: av.VideoFrame) -> av.VideoFrame:
    """A copy in its planar layout that may be written to, with all tags and side data."""
    layout = planar_layout(picture.format)
    if layout == picture.format.name:
        copy = _clone(picture)
    else:
        if picture.format.is_rgb and picture.format.components[0].bits < 8:
            picture = picture.reformat(format="rgb24")  # or else white would not stay white
        # Equal ranges: whatever they are, the numbers are not to be stretched.
        copy = picture.reformat(
            format=layout,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=int(_EXACT),
            threads=1,
        )
        copy.color_range = picture.color_range
        if is_full_range(picture) and not is_full_range(copy):
            copy.color_range = ColorRange.JPEG  # which the old layout implied
    copy.pict_type = 0  # else encoders repeat the source's choice of key frames
    return copy


def side_by_side(left: av.VideoFrame, right: av.VideoFrame, way: Way = ACROSS) -> av.VideoFrame:
    """Two planar pictures of one layout and size joined, with the tags of `right`.

    Where rightwards is along rows the width is doubled, else the height. If that is odd and chroma
    is subsampled, each half repeats its last column or row first, because the other half must start
    on the chroma grid.
    """
    layout = right.format.name
    joined = av.VideoFrame(*joined_size((right.width, right.height), layout, way), layout)
    axis, sense = way
    for target, *both in zip(planes(joined), planes(left), planes(right), strict=True):
        for half, plane in zip(np.split(target, 2, axis)[::sense], both, strict=True):
            half[...] = _extended(plane, half.shape)
    if right.time_base:
        joined.time_base = right.time_base
    copy_tags(right, joined)
    return joined


def copy_tags(source: av.VideoFrame, target: av.VideoFrame) -> None:
    """Give `target` the timestamp, in ticks, and the colour tags of `source`."""
    for tag in ("pts", "colorspace", "color_range", "color_primaries", "color_trc"):
        setattr(target, tag, getattr(source, tag))


def joined_size(size: tuple[int, int], pix_fmt: str, way: Way) -> tuple[int, int]:
    """Width and height, in pixels, of two pictures of that size side by side."""
    width, height = size
    columns, rows = chroma_grid(av.VideoFormat(pix_fmt))
    if way[0] == 1:
        return 2 * (-(-width // columns) * columns), height
    return width, 2 * (-(-height // rows) * rows)


def planes(picture: av.VideoFrame) -> list[Plane]:
    """The components of a planar picture, as arrays that share its memory."""
    dtype = np.dtype("<u2" if picture.format.components[0].bits > 8 else np.uint8)
    return [
        np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width]  # type: ignore[call-overload]
        for plane in picture.planes
    ]


def match_alpha(source: av.VideoFrame, target: av.VideoFrame) -> None:
    """Give `target` the transparency of `source`, both planar, if it has another depth.

    swscale shifts bits in, so that opaque would become a little transparent.
    """
    (*_, old), (*_, new) = source.format.components, target.format.components
    if old.is_alpha and new.is_alpha and old.bits != new.bits:
        share = planes(source)[-1] / np.float32(2**old.bits - 1)
        planes(target)[-1][...] = np.rint(share * (2**new.bits - 1))


def blended(image: Image, sharp: Image, strength: float) -> Image:
    """The picture between `image` (strength 0) and `sharp` (1)."""
    if strength >= 1 or sharp is image:
        return sharp
    weight = round(256 * strength)
    change = np.subtract(sharp, image, dtype=np.int32)
    change *= weight
    change += 128
    change >>= 8
    return (image + change).astype(np.uint8)


def _add(picture: av.VideoFrame, image: Image, sharp: Image, strength: float) -> None:
    """Add `strength` times the change from `image` to `sharp` to the planes of a picture.

    Strip by strip, since what lies between the steps is several times the picture's own size, and
    quick only while it fits into the processor's cache.
    """
    depth = picture.format.components[0].bits
    columns, rows = chroma_grid(picture.format)
    first, *others = zip(planes(picture), _weights(picture, strength), strict=False)
    height, width, _ = image.shape
    step = max(1, _STRIP // (rows * width)) * rows
    for top in range(0, height, step):
        change = np.subtract(sharp[top : top + step], image[top : top + step], dtype=np.int16)
        plane, weights = first
        _shift(plane[top : top + step], _sums(change, 1, 1) @ weights, depth)
        if others:
            sums, begin = _sums(change, columns, rows), top // rows
            for plane, weights in others:
                _shift(plane[begin : begin + len(sums)], sums @ weights, depth)


def _weights(picture: av.VideoFrame, strength: float) -> list[NDArray[np.float32]]:
    """What the `_sums` of a change of RGB, in steps of 1/255, add to a sample of each plane.

    By ITU-R BT.601-7 (2.5), BT.709-6 (3) and BT.2020-2 (table 4), for differences:

        Y = Kr R + Kg G + Kb B,    Cb = (B - Y) / (2 - 2 Kb),    Cr = (R - Y) / (2 - 2 Kr)

    full range spans 2^depth - 1 steps, limited range 219 (luma) and 224 (chroma) times 2^(depth-8);
    a chroma sample has the mean of its pixels. Alpha has no weights.
    """
    depth = picture.format.components[0].bits
    full = is_full_range(picture)
    luma_scale = strength * ((2**depth - 1) if full else 219 * 2 ** (depth - 8)) / 255
    chroma_scale = strength * ((2**depth - 1) if full else 224 * 2 ** (depth - 8)) / 255
    red, green, blue = np.eye(3)
    if picture.format.is_rgb:
        weights = [luma_scale * channel for channel in (green, blue, red)]  # as they are stored
    else:
        luma = np.array(luma_weights(picture))
        weights = [luma_scale * luma]
        if len(picture.format.components) >= 3:
            columns, rows = chroma_grid(picture.format)
            for channel in (blue, red):  # Cb, Cr
                share = (channel - luma) / (2 - 2 * luma @ channel) / (rows * columns)
                weights.append(np.tile(chroma_scale * share, columns))
    return [each.astype(np.float32) for each in weights]


def _sums(change: NDArray[np.int16], columns: int, rows: int) -> NDArray[np.float32]:
    """A change of RGB over blocks of pixels, shape (ceil(H / rows), ceil(W / columns), 3 columns).

    Rows are added up, columns stay side by side. A block that the picture's edge cuts repeats the
    last pixel.
    """
    height, width, _ = change.shape
    if height % rows or width % columns:
        edge = ((0, -height % rows), (0, -width % columns), (0, 0))
        change = np.pad(change, edge, mode="edge")
    added = change[::rows]
    for row in range(1, rows):
        added = added + change[row::rows]  # four differences fit into 16 bits
    return added.astype(np.float32).reshape(len(added), -1, 3 * columns)


def _shift(plane: Plane, change: NDArray[np.float32], depth: int) -> None:
    """Add `change` to `plane`, rounded to the nearest step and held within the depth."""
    total: NDArray[Any] = np.rint(change, out=change).astype(np.int16 if depth == 8 else np.int32)
    total += plane
    plane[...] = np.clip(total, 0, 2**depth - 1, out=total)


def _extended(plane: Plane, shape: tuple[int, ...]) -> Plane:
    """The plane with its last row and column repeated up to `shape`."""
    rows, columns = (whole - part for whole, part in zip(shape, plane.shape, strict=True))
    return np.pad(plane, ((0, rows), (0, columns)), mode="edge")


def _clone(picture: av.VideoFrame) -> av.VideoFrame:
    """A copy with samples of its own.

    PyAV cannot copy a frame with its side data (captions, HDR, field flags), but a filter graph
    hands on a second reference, which then gets its own samples. It takes 0.2 ms.
    """
    graph = filter_chain(picture)
    graph.push(picture)
    copy = graph.pull()
    assert isinstance(copy, av.VideoFrame)
    copy.make_writable()
    return copy
