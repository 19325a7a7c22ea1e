"""Keeping up with a live source: a network that steps down when it must, and up when it can."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdeblur.correction import blended
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.frames import Frame, Image

_WINDOW = 2.0  # seconds that are judged together
_LEAST_FRAMES = 3  # in a window
_OVERLOAD = 0.97  # share of the time at work from which on frames are being dropped
_ROOM = 0.8  # share of the limits within which the better choice must be expected to stay
_CALM_WINDOWS = 3  # before the better choice is tried; four times as many after each failure
_MOST_CALM_WINDOWS = 300


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to sharpen: a network, at full or at half resolution."""

    network: Deblurrer
    is_half: bool = False

    @property
    def name(self) -> str:
        """As people are told."""
        return self.network.spec.name + (" at half resolution" if self.is_half else "")

    def sharpen(self, image: Image) -> Image:
        """The sharp picture: same shape."""
        return sharpened_at_half(self.network, image) if self.is_half else self.network(image)


class AdaptiveNetwork:
    """Sharpens live frames by the best of several choices that keeps up.

    It steps down when it is at work all the time, so that frames are dropped, or when frames come
    out later than `max_latency`; and up again when there has been room for a while. Each change is
    put into `messages`. Made for `run`: `stream` is iterated in one thread, while another may set
    `strength` and call `use`.

    Args:
        choices: best first, each quicker than the one before.
        strength: how much of the correction is applied, 0 to 1.
        max_latency: from capture to the end of the network's work, in seconds; None for any.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        *,
        strength: float = 1.0,
        max_latency: float | None = None,
    ) -> None:
        self.strength = strength
        self.messages: deque[str] = deque()
        """What has changed, one line each: to be taken from the left."""
        self._max_latency = max_latency
        self._wished: Sequence[Choice] | None = None
        self._begin(choices)

    @property
    def choice(self) -> Choice:
        """What is in use."""
        return self._choices[self._level]

    def use(self, choices: Sequence[Choice]) -> None:
        """Take other choices from the next frame on, beginning with the best."""
        self._wished = choices

    def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield as many frames, in the same order, each with its `sharp` set."""
        ended = time.monotonic()
        for frame in frames:
            wished, self._wished = self._wished, None
            if wished is not None:
                self._begin(wished)
            began = time.monotonic()
            sharp = self.choice.sharpen(frame.image) if self.strength else frame.image
            frame.sharp = blended(frame.image, sharp, self.strength)
            now = time.monotonic()
            age = now - began if frame.captured is None else now - frame.captured
            self._judge(work=now - began, cycle=now - ended, age=age)
            ended = now
            yield frame

    def _begin(self, choices: Sequence[Choice]) -> None:
        self._enter(0)  # first: another thread may ask for the choice
        self._choices = tuple(choices)
        self._calm, self._calm_needed = 0, _CALM_WINDOWS
        self._costs = dict[int, float]()  # seconds a frame by level, when it was last left
        self._told_of_limit = False

    def _enter(self, level: int) -> None:
        self._level = level
        # The first frame at a new size is slow, and says nothing of those that follow.
        self._frames, self._work, self._cycle, self._age = -1, 0.0, 0.0, 0.0

    def _judge(self, *, work: float, cycle: float, age: float) -> None:
        """Take one frame's seconds into account: of work, since the last frame, since capture."""
        self._frames += 1
        if self._frames == 0:
            return
        self._work, self._cycle, self._age = (
            self._work + work,
            self._cycle + cycle,
            self._age + age,
        )
        if self._cycle < _WINDOW or self._frames < _LEAST_FRAMES:
            return
        cost, interval, age = (
            total / self._frames for total in (self._work, self._cycle, self._age)
        )
        level = self._level
        self._enter(level)
        self._frames = 0
        is_late = self._max_latency is not None and age > self._max_latency
        if cost > _OVERLOAD * interval or is_late:
            self._step_down(cost, age)
        elif level and self._has_room_above(cost, interval, age):
            self._calm += 1
            if self._calm >= self._calm_needed:
                self._step_up()
        else:
            self._calm = 0

    def _step_down(self, cost: float, age: float) -> None:
        if self._calm_needed > _CALM_WINDOWS or self._costs:
            self._calm_needed = min(4 * self._calm_needed, _MOST_CALM_WINDOWS)
        self._calm = 0
        self._costs[self._level] = cost
        what = f"{self.choice.name} takes {1000 * cost:.0f} ms a frame and can't keep up"
        if self._max_latency is not None and age > self._max_latency:
            what = f"{self.choice.name} leads to a delay of {1000 * age:.0f} ms"
        if self._level + 1 < len(self._choices):
            self._enter(self._level + 1)
            self.messages.append(f"{what}: going on with {self.choice.name}")
        elif not self._told_of_limit:
            self._told_of_limit = True
            self.messages.append(f"{what}, and there is nothing quicker")

    def _step_up(self) -> None:
        self._calm = 0
        self._enter(self._level - 1)
        self.messages.append(f"there is room again: back to {self.choice.name}")

    def _has_room_above(self, cost: float, interval: float, age: float) -> bool:
        """Whether the better choice would keep up, if it still costs what it did.

        What it cost is forgotten by and by: another program may have had the processor then.
        """
        above = self._level - 1
        expected = self._costs[above] = max(0.99 * self._costs.get(above, 0.0), cost)
        if self._max_latency is not None and age - cost + expected > _ROOM * self._max_latency:
            return False
        return expected < _ROOM * interval


def sharpened_at_half(network: Deblurrer, image: Image) -> Image:
    """Sharpen at half the width and height, and add what changed to the whole picture.

    It takes a quarter of the time. The picture's own detail stays; only the correction is coarser.
    """
    height, width, _ = image.shape
    half = halved(image)
    change = doubled(np.subtract(network(half), half, dtype=np.int16))[:height, :width]
    change += image
    return np.clip(change, 0, 255, out=change).astype(np.uint8)


def halved(image: Image) -> Image:
    """Means over 2x2 pixels, shape (ceil(H / 2), ceil(W / 2), 3); the edge is repeated."""
    height, width, _ = image.shape
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rows = np.add(image[::2], image[1::2], dtype=np.uint16)
    return ((rows[:, ::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)


def doubled(change: NDArray[np.int16]) -> NDArray[np.int16]:
    """Twice the rows and columns of shape (H, W, 3), interpolated linearly between centres."""
    for axis in (0, 1):
        change = _doubled_along(change, axis)
    return change


def _doubled_along(change: NDArray[np.int16], axis: int) -> NDArray[np.int16]:
    padded = np.pad(change, [(1, 1) if each == axis else (0, 0) for each in range(3)], mode="edge")
    count = change.shape[axis]

    def part(begin: int) -> Any:
        return padded[begin : begin + count] if axis == 0 else padded[:, begin : begin + count]

    whole = 3 * change + 2
    shape = list(change.shape)
    shape[axis] *= 2
    result = np.empty(shape, np.int16)
    even, odd = (result[::2], result[1::2]) if axis == 0 else (result[:, ::2], result[:, 1::2])
    np.right_shift(whole + part(0), 2, out=even)
    np.right_shift(whole + part(2), 2, out=odd)
    return result


def choices_of(chosen: Deblurrer, fast: Deblurrer | None) -> list[Choice]:
    """The network asked for, then a faster one if there is, then the last at half resolution."""
    full = [Choice(chosen)] if fast is None else [Choice(chosen), Choice(fast)]
    return [*full, Choice(full[-1].network, is_half=True)]
