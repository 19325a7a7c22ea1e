"""A stream that comes faster than it is read, by a clock that the tests turn."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from streamdeblur.live.catching_up import caught_up

RATE, KEY = 25, 25  # frames a second, and from one key frame to the next


class Line:
    """A network, and who reads from it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.given: list[int] = []
        """The time of each packet that was given, in ticks of the rate."""
        self.latest = 0.0
        """Seconds from the moment that a packet could come to when it was given, at the most."""
        self.held = 0
        """Packets that were read before they were given, at the most."""
        self._read = 0

    def play(self, arrivals: Iterable[tuple[float, int]], busy: float, key: int = KEY) -> list[int]:
        """Read what arrives, each at a moment in seconds, and be `busy` with it for so many."""
        for packet in caught_up(self._packets(arrivals, key), 0):
            self.given.append(packet.dts)
            self.latest = max(self.latest, self.now - packet.dts / RATE)
            self.held = max(self.held, self._read - len(self.given))
            self.now += busy
        return self.given

    def _packets(self, arrivals: Iterable[tuple[float, int]], key: int) -> Iterator[Any]:
        for number, (moment, ticks) in enumerate(arrivals):
            self.now = max(self.now, moment)
            self._read += 1
            yield SimpleNamespace(
                dts=ticks,
                time_base=Fraction(1, RATE),
                stream=SimpleNamespace(index=0),
                is_keyframe=number % key == 0,
            )


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    made = Line()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


def in_time(count: int) -> list[tuple[float, int]]:
    return [(number / RATE, number) for number in range(count)]


def test_what_is_read_in_time_is_read_whole(line: Line) -> None:
    assert line.play(in_time(300), 0.039) == list(range(300))


def test_who_reads_too_slowly_goes_on_from_key_frames(line: Line) -> None:
    times = line.play(in_time(1000), 0.1)
    leaps = [after for before, after in pairwise(times) if after != before + 1]
    assert len(leaps) > 10
    assert all(time % KEY == 0 for time in leaps)
    assert line.latest < 1 + KEY / RATE + 0.1


def test_a_stream_without_key_frames_is_read_whole_and_does_not_pile_up(line: Line) -> None:
    assert line.play(in_time(3000), 0.1, key=3000) == list(range(3000))
    assert line.held < 1000  # of 1800 that came meanwhile


def test_a_network_that_stood_still_is_caught_up_with(line: Line) -> None:
    stood = [(max(moment, 7.9 * (moment > 4)), ticks) for moment, ticks in in_time(250)]
    # At 7.9 s those up to 197 are there, and the newest key frame of these is 175.
    assert line.play(stood, 0.01) == [*range(101), *range(175, 250)]


@pytest.mark.parametrize("leap", [-2500, 2500])
def test_a_clock_that_leaps_loses_nothing(line: Line, leap: int) -> None:
    leaping = [(moment, ticks + leap * (ticks > 60)) for moment, ticks in in_time(300)]
    assert line.play(leaping, 0.01) == [ticks for _, ticks in leaping]
    assert line.held < 5  # who waits for what has not come yet is late himself


def test_a_clock_that_runs_a_little_slower_is_not_late(line: Line) -> None:
    hours = [(number * 10 * 1.0004, number * 10 * RATE) for number in range(1000)]
    assert line.play(hours, 0.01) == [ticks for _, ticks in hours]
    assert line.held == 0
