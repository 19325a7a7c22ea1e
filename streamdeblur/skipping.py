"""Sparing the network what is sharp already."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from streamdeblur.correction import blended
from streamdeblur.frames import Frame, Image
from streamdeblur.sharpness import sharpness

# A change of the picture, in levels (RMS over the block that changed most), that nobody misses.
_LEAST_CHANGE = 3.0
_BLOCK = 32  # pixels; a frame that is blurred in one place only is a blurred frame
_ALIKE = 0.04  # in sharpness: frames so near to each other need the same
_NEIGHBOURS = 2  # frames alike that the network must have seen
_SEEN = 48  # frames that are remembered
_CUT = 0.35  # in the logarithm of the gradients' energy: another scene
_CHECK = 8  # frames in a row that are skipped at most
_FADE_IN, _FADE_OUT = 1 / 2, 1 / 4  # of the correction, a frame


class SkipSharp:
    """A network that is asked only where it would change something.

    What it would change is known from frames of the same scene and sharpness that it has seen
    shortly before; every few frames it is asked all the same, and the memory put right. The
    correction fades out over eight frames and in over two, so that nothing pumps.

    Args:
        network: gives the sharp picture for a picture.
    """

    def __init__(self, network: Callable[[Image], Image]) -> None:
        self._network = network
        self._seen: deque[tuple[float, float]] = deque(maxlen=_SEEN)  # sharpness, change
        self._energy: float | None = None
        self._weight = 1.0  # of the correction
        self._in_a_row = 0
        self.frames = 0
        """All frames so far."""
        self.skipped = 0
        """Those of them that the network did not see."""
        self._missed: list[float] = []

    def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield as many frames, in the same order, each with its `sharp` set."""
        for frame in frames:
            frame.sharp = self.sharpened(frame.image)
            yield frame

    def sharpened(self, image: Image) -> Image:
        """The next picture of the stream, sharp: the same object if the network was not asked."""
        found = sharpness(image)
        if self._energy is None or abs(math.log(found.energy / self._energy)) > _CUT:
            self._seen.clear()
        self._energy = found.energy
        self.frames += 1
        is_sharp = self._is_known_to_be_sharp(found.value)
        self._fade(is_sharp)
        if not self._weight and self._in_a_row < _CHECK:
            self._in_a_row += 1
            self.skipped += 1
            return image
        self._in_a_row = 0
        answer = self._network(image)
        changes = change_by_block(image, answer)
        most = float(changes.max())
        self._seen.append((found.value, most))
        if not self._weight:
            self._missed.append(float(np.mean(np.square(changes))))
        if is_sharp and most > _LEAST_CHANGE:
            self._fade(False)
        return blended(image, answer, self._weight)

    @property
    def summary(self) -> str:
        """What was spared and what it costs, in words."""
        share = 100 * self.skipped / max(self.frames, 1)
        spared = f"the network was spared {self.skipped} of {self.frames} frames, {share:.0f} %"
        if not self._missed:
            return spared
        levels = float(np.sqrt(np.mean(self._missed)))
        return (
            f"{spared}; it would have changed them by {levels:.2f} levels (RMS over every"
            f" {_CHECK + 1}th, where it was asked)"
        )

    def _is_known_to_be_sharp(self, value: float) -> bool:
        alike = [change for other, change in self._seen if abs(other - value) <= _ALIKE]
        return len(alike) >= _NEIGHBOURS and max(alike) <= _LEAST_CHANGE

    def _fade(self, is_sharp: bool) -> None:
        step = -_FADE_OUT if is_sharp else _FADE_IN
        self._weight = min(max(self._weight + step, 0.0), 1.0)


def change_by_block(image: Image, sharp: Image) -> NDArray[np.float32]:
    """How much a picture was changed, RMS in levels, in each block of 32 by 32 pixels."""
    change = np.subtract(sharp[:, :, 1], image[:, :, 1], dtype=np.int16).astype(np.float32)
    np.square(change, out=change)
    starts = [np.arange(0, size, _BLOCK) for size in change.shape]
    sums = np.add.reduceat(np.add.reduceat(change, starts[0], axis=0), starts[1], axis=1)
    sides = [np.diff(at, append=size) for at, size in zip(starts, change.shape, strict=True)]
    return np.sqrt(sums / np.outer(*sides))
