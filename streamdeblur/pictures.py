"""Frames as viewers elsewhere are sent them: composed, and coded once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

import av
import numpy as np
from numpy.typing import NDArray

from streamdeblur.frames import Frame, Image

T = TypeVar("T")

# Constant quality, 2 is the best of 31: whoever judges sharpness must not see the coding.
_JPEG_OPTIONS = {"flags": "+qscale", "global_quality": str(3 * 118)}  # in FFmpeg's lambda units
_MOST_PIXELS = 2 * 1280 * 720  # of both halves together: what a few cores can code as video


class Newest:
    """The newest frame, coded once for all who want it in the same way. Lives in an event loop.

    Args:
        strength: how much of the correction is shown, 0 to 1.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength
        """How much of the correction is shown; changed by `strengthen`."""
        self.frames = 0
        """How many there were."""
        self.number = 0
        """Of what there is to be seen: goes up with each frame and each change of strength."""
        self._frame: Frame | None = None
        self._changed = asyncio.Event()
        self._coding: dict[Callable[..., Any], tuple[int, asyncio.Future[Any]]] = {}

    def put(self, frame: Frame) -> None:
        """Let `frame` be the newest."""
        self._frame = frame
        self.frames += 1
        self._renew()

    def strengthen(self, strength: float) -> None:
        """Show `strength` from now on, also of a frame that stands still."""
        self.strength = strength
        if self._frame:
            self._renew()

    def _renew(self) -> None:
        self.number += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def coded(self, coder: Callable[[Frame, float], T], after: int) -> tuple[int, T]:
        """Wait until there is something newer than number `after`.

        Returns:
            Its number, and what `coder` makes of the frame and the strength, in another thread.
        """
        while self.number <= after:
            await self._changed.wait()
        number, coding = self._coding.get(coder, (0, None))
        # One that is still being made is good enough, if it is new to who asks.
        if coding is None or number <= after or (number < self.number and coding.done()):
            number, frame = self.number, self._frame
            assert frame is not None
            coding = asyncio.ensure_future(asyncio.to_thread(coder, frame, self.strength))
            self._coding[coder] = (number, coding)
        return number, await asyncio.shield(coding)  # the others who wait are not to be cancelled


def as_jpeg(frame: Frame, strength: float) -> bytes:
    """Before above after, as a JPEG file."""
    return _coded(_before_above_after(frame, strength), "mjpeg", "yuvj420p", _JPEG_OPTIONS)


def as_png(frame: Frame, strength: float) -> bytes:
    """The frame after, to the pixel, as a PNG file."""
    return _coded(_blended(frame, strength), "png", "rgb24", {})


def as_planes(frame: Frame, strength: float) -> NDArray[np.uint8]:
    """Before above after as coders of video want it: the planes of yuv420p below each other.

    Shape (3 * H / 2, W); scaled down if it is large.
    """
    image = _before_above_after(frame, strength)
    height, width, _ = image.shape
    scale = min(1.0, (_MOST_PIXELS / (height * width)) ** 0.5)
    picture = av.VideoFrame.from_ndarray(image, format="rgb24")
    picture = picture.reformat(
        width=_even(width * scale), height=_even(height * scale), format="yuv420p", threads=1
    )
    return np.ascontiguousarray(picture.to_ndarray(), dtype=np.uint8)


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)


def _blended(frame: Frame, strength: float) -> Image:
    """The frame with `strength` of its correction; shape (H, W, 3)."""
    assert frame.sharp is not None
    if strength == 1:
        return frame.sharp
    correction = (frame.sharp.astype(np.float32) - frame.image) * strength
    return np.rint(frame.image + correction).astype(np.uint8)


def _before_above_after(frame: Frame, strength: float) -> Image:
    """The frame as it came, and below it with its correction; shape (2 * H', W', 3).

    H' and W' are H and W, made even by repeating the last row or column: coders share one colour
    between two rows, which must not be one of each picture.
    """
    height, width, _ = frame.image.shape
    margins = ((0, height % 2), (0, width % 2), (0, 0))
    halves = (frame.image, _blended(frame, strength))
    return np.vstack([np.pad(half, margins, mode="edge") for half in halves])


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
