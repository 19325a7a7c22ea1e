"""Frames as a viewer elsewhere is sent them: composed, and coded one by one."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from streamdeblur.frames import Frame, Image

# Constant quality, 2 is the best of 31: whoever judges sharpness must not see the coding.
_JPEG_OPTIONS = {"flags": "+qscale", "global_quality": str(3 * 118)}  # in FFmpeg's lambda units


def blended(frame: Frame, strength: float) -> Image:
    """The frame with `strength` (0 to 1) of its correction; shape (H, W, 3)."""
    assert frame.sharp is not None
    if strength == 1:
        return frame.sharp
    correction = (frame.sharp.astype(np.float32) - frame.image) * strength
    return np.rint(frame.image + correction).astype(np.uint8)


def before_and_after(frame: Frame, strength: float) -> Image:
    """The frame as it came above the one with its correction; shape (2 * H', W', 3).

    H' and W' are H and W, made even by repeating the last row or column: coders share one colour
    between two rows, which must not be one of each picture.
    """
    height, width, _ = frame.image.shape
    margins = ((0, height % 2), (0, width % 2), (0, 0))
    halves = (frame.image, blended(frame, strength))
    return np.vstack([np.pad(half, margins, mode="edge") for half in halves])


def jpeg(image: Image) -> bytes:
    """`image`, shape (H, W, 3), as a JPEG file."""
    return _coded(image, "mjpeg", "yuvj420p", _JPEG_OPTIONS)


def png(image: Image) -> bytes:
    """`image`, shape (H, W, 3), as a PNG file."""
    return _coded(image, "png", "rgb24", {})


def planes(image: Image, largest: int) -> NDArray[np.uint8]:
    """`image` as video coders want it: the planes of yuv420p below each other, (3 * H / 2, W).

    Args:
        image: shape (H, W, 3), H and W even.
        largest: pixels; a longer side is scaled down to it.
    """
    height, width, _ = image.shape
    scale = min(1.0, largest / max(height, width))
    picture = av.VideoFrame.from_ndarray(image, format="rgb24")
    picture = picture.reformat(
        width=_even(width * scale), height=_even(height * scale), format="yuv420p", threads=1
    )
    return np.ascontiguousarray(picture.to_ndarray(), dtype=np.uint8)


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)


def _coded(image: Image, codec: str, pix_fmt: str, options: dict[str, str]) -> bytes:
    picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt, threads=1)
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = picture.width, picture.height, pix_fmt
    context.time_base = Fraction(1, 30)  # of no consequence to a picture alone
    context.thread_count = 1  # the other cores belong to the network
    context.options = options
    picture.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(picture), *context.encode(None)])
