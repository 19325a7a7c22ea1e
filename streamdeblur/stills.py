"""Single frames as pictures: to be saved, or sent to viewers elsewhere."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, Image

# Constant quality, 2 is the best of 31: whoever judges sharpness must not see the coding.
_JPEG_OPTIONS = {"flags": "+qscale", "global_quality": str(3 * 118)}  # in FFmpeg's lambda units
_MOST_PIXELS = 2 * 1280 * 720  # of both halves together: what a few cores can code as video


def as_jpeg(frame: Frame) -> bytes:
    """Before above after, as a JPEG file."""
    return _coded(_before_above_after(frame), "mjpeg", "yuvj420p", _JPEG_OPTIONS)


def picture_as_jpeg(image: Image) -> bytes:
    """A picture, shape (H, W, 3), as a JPEG file; an odd side repeats its last row or column."""
    return _coded(_evened(image), "mjpeg", "yuvj420p", _JPEG_OPTIONS)


def as_png(frame: Frame) -> bytes:
    """The sharp frame, to the pixel, as a PNG file."""
    assert frame.sharp is not None
    return _coded(frame.sharp, "png", "rgb24", {})


def as_planes(frame: Frame) -> NDArray[np.uint8]:
    """Before above after as coders of video want it: the planes of yuv420p below each other.

    Shape (3 * H / 2, W); scaled down if it is large.
    """
    image = _before_above_after(frame)
    height, width, _ = image.shape
    scale = min(1.0, (_MOST_PIXELS / (height * width)) ** 0.5)
    picture = av.VideoFrame.from_ndarray(image, format="rgb24")
    picture = picture.reformat(
        width=_even(width * scale), height=_even(height * scale), format="yuv420p", threads=1
    )
    return np.ascontiguousarray(picture.to_ndarray(), dtype=np.uint8)


class Snapshot:
    """A sink that saves frames as a PNG file."""

    closed = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, frame: Frame) -> None:
        """Save the sharp frame.

        Raises:
            VideoError: the file cannot be written.
        """
        try:
            self._path.write_bytes(as_png(frame))
        except OSError as error:
            raise VideoError(f"can't save {self._path}: {error.strerror}") from error

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)


def _before_above_after(frame: Frame) -> Image:
    """The frame as it came, and below it sharp; shape (2 * H', W', 3).

    H' and W' are H and W, made even by repeating the last row or column: coders share one colour
    between two rows, which must not be one of each picture.
    """
    assert frame.sharp is not None
    return np.vstack([_evened(half) for half in (frame.image, frame.sharp)])


def _evened(image: Image) -> Image:
    height, width, _ = image.shape
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _coded(image: Image, codec: str, pix_fmt: str, options: dict[str, str]) -> bytes:
    """`image`, shape (H, W, 3), as a file of its own."""
    image = np.ascontiguousarray(image)
    picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt, threads=1)
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = picture.width, picture.height, pix_fmt
    context.time_base = Fraction(1, 30)  # of no consequence to a picture alone
    context.thread_count = 1  # the other cores belong to the network
    context.options = options
    picture.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(picture), *context.encode(None)])
