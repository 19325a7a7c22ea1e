"""What a report tells of one file, gathered while it is deblurred, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from streamdeblur.correction import blended
from streamdeblur.frames import Frame, Image
from streamdeblur.pipeline import Network
from streamdeblur.sharpness import sharpness
from streamdeblur.skipping import change_by_block
from streamdeblur.stills import picture_as_jpeg

_MOST_POINTS = 400  # of a curve
_MOST_MOMENTS = 4
_APART = 0.05  # of what was seen so far: moments nearer to each other are one
_CLEARLY = 1.1  # times the change: what is shown is only exchanged for what changed clearly more
_WINDOW = (720, 1280)  # height and width; what is shown of larger pictures, at their own size


@dataclass(slots=True)
class Point:
    """Means over as many neighbouring frames."""

    frames: int
    time: float
    """Of the first, in seconds."""
    before: float
    """Strength of the edges as they came, in levels."""
    after: float
    """Strength of the edges as they were written, in levels."""


@dataclass(slots=True)
class Moment:
    """A frame before and after."""

    time: float
    """In seconds."""
    change: float
    """RMS in levels, in the block that changed most."""
    before: bytes
    """JPEG."""
    after: bytes
    """JPEG."""
    size: tuple[int, int]
    """Width and height of both, in pixels."""
    is_part: bool
    """Whether it is only the part of the frame that changed most."""


@dataclass(slots=True)
class Account:
    """Of one file."""

    path: Path
    output: Path
    strength: float = 1.0
    """How much of the network's change is applied."""
    seconds_a_tick: float = 1.0
    turns: int = 0
    """Quarter turns, counter-clockwise, by which viewers show the frames."""
    is_image: bool = False
    facts: dict[str, str] = field(default_factory=dict)
    """What was done, by name."""
    notices: list[str] = field(default_factory=list)
    """What could not be kept, one line each."""
    damage: list[str] = field(default_factory=list)
    """What was wrong with the input, one line each."""
    problem: str = ""
    """Why it failed; empty if it did not."""
    frames: int = 0
    points: list[Point] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    _every: int = 1  # frames of a point

    @property
    def before(self) -> float:
        """Mean strength of the edges as they came, in levels."""
        return fmean((point.before for point in self.points), self._weights)

    @property
    def after(self) -> float:
        """Mean strength of the edges as they were written, in levels."""
        return fmean((point.after for point in self.points), self._weights)

    @property
    def _weights(self) -> list[int]:
        return [point.frames for point in self.points]

    def watching(self, network: Network) -> Network:
        """The same network, whose frames are looked at."""
        return _Watched(self, network)

    def add(self, image: Image, sharp: Image, time: float) -> None:
        """Look at a frame, as it came and as the network has it."""
        sharp = blended(image, sharp, self.strength)
        before = sharpness(image).edges
        after = before if sharp is image else sharpness(sharp).edges
        self._extend(Point(1, time, before, after))
        self.frames += 1
        changes = change_by_block(image, sharp)
        self._consider(image, sharp, time, changes)

    def _extend(self, point: Point) -> None:
        """Add a point to the curve; when there are too many, each two become one."""
        last = self.points[-1] if self.points else None
        if last is not None and last.frames < self._every:
            self.points[-1] = _joined(last, point)
            return
        self.points.append(point)
        if len(self.points) > _MOST_POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=False)
            odd = self.points[-1:] if len(self.points) % 2 else []
            self.points = [*(_joined(*pair) for pair in pairs), *odd]
            self._every *= 2

    def _consider(
        self, image: Image, sharp: Image, time: float, changes: NDArray[np.float32]
    ) -> None:
        """Keep a frame if it changed more than one of those that are kept."""
        change = float(changes.max())
        apart = _APART * (time - self.points[0].time)
        kept: list[Moment] = []  # those that were apart when less had been seen need not be so now
        for each in sorted(self.moments, key=lambda moment: -moment.change):
            if all(abs(each.time - other.time) > apart for other in kept):
                kept.append(each)
        self.moments = kept
        rivals = [each for each in kept if abs(each.time - time) <= apart]
        if not rivals and len(kept) == _MOST_MOMENTS:
            rivals = kept[-1:]
        if not any(_CLEARLY * each.change >= change for each in rivals):
            self.moments = [each for each in kept if each not in rivals]
            self.moments.append(_moment(image, sharp, time, changes, self.turns))


@dataclass(frozen=True, slots=True)
class _Watched:
    account: Account
    network: Network

    def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in self.network.stream(frames):
            assert frame.sharp is not None
            self.account.add(frame.image, frame.sharp, frame.pts * self.account.seconds_a_tick)
            yield frame


def _joined(one: Point, other: Point) -> Point:
    frames = one.frames + other.frames
    before = (one.frames * one.before + other.frames * other.before) / frames
    after = (one.frames * one.after + other.frames * other.after) / frames
    return Point(frames, one.time, before, after)


def _moment(
    image: Image, sharp: Image, time: float, changes: NDArray[np.float32], turns: int
) -> Moment:
    most = np.unravel_index(int(changes.argmax()), changes.shape)
    window = []
    for place, blocks, size, shown in zip(
        most, changes.shape, image.shape[:2], _WINDOW, strict=True
    ):
        middle = int((place + 0.5) * size / blocks)
        begin = min(max(middle - shown // 2, 0), max(size - shown, 0))
        window.append(slice(begin, begin + shown))
    before, after = image[window[0], window[1]], sharp[window[0], window[1]]
    is_part = before.shape != image.shape
    before, after = np.rot90(before, turns), np.rot90(after, turns)
    height, width, _ = before.shape
    return Moment(
        time=time,
        change=float(changes.max()),
        before=picture_as_jpeg(before),
        after=picture_as_jpeg(after),
        size=(width, height),
        is_part=is_part,
    )
