"""The time of live frames, whatever streams say of it."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from streamdeblur.video.clocks import Clock, Pace, moment_of


def ticks(*pictures: tuple[int | None, float]) -> list[int]:
    """Microseconds that a clock gives pictures with these milliseconds, captured then (seconds)."""
    clock = Clock()
    return [clock.tick(taken(moment), captured) for moment, captured in pictures]


def taken(moment: int | None) -> av.VideoFrame:
    picture = av.VideoFrame(2, 2, "gray")
    picture.pts, picture.time_base = moment, Fraction(1, 1000)
    return picture


def test_a_stream_keeps_its_own_time_from_zero_on() -> None:
    assert ticks((5000, 7.0), (5040, 7.1), (5080, 7.1)) == [0, 40_000, 80_000]


def test_what_comes_twice_or_backwards_is_a_millisecond_later() -> None:
    assert ticks((0, 7.0), (0, 7.0), (-40, 7.0), (40, 7.1)) == [0, 1000, 2000, 40_000]


def test_a_stream_that_begins_again_follows_the_wall_clock() -> None:
    assert ticks((90_000, 7.0), (90_040, 7.04), (0, 9.5), (40, 9.5)) == [
        0,
        40_000,
        2_500_000,
        2_540_000,
    ]


def test_a_gap_in_both_clocks_is_no_new_beginning() -> None:
    assert ticks((0, 7.0), (30_000, 37.0)) == [0, 30_000_000]


def test_a_leap_ahead_is_a_new_beginning() -> None:
    assert ticks((0, 7.0), (30_000, 7.5)) == [0, 500_000]


def test_a_new_beginning_never_overtakes_what_was() -> None:
    clock = Clock()
    early = [clock.tick(taken(moment), 7.0) for moment in (0, 800, 1600)]  # a burst
    clock.restart()
    late = [clock.tick(taken(moment), 7.5) for moment in (0, 40)]
    assert [*early, *late] == [0, 800_000, 1_600_000, 1_601_000, 1_641_000]


def test_pictures_without_a_time_have_that_of_their_capture() -> None:
    assert ticks((None, 7.0), (None, 7.25)) == [0, 250_000]
    assert moment_of(taken(None), 7.5) == Fraction(15, 2)


def test_pace_holds_back_what_is_early(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [10.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("streamdeblur.video.clocks.time.monotonic", lambda: now[0])
    monkeypatch.setattr("streamdeblur.video.clocks.time.sleep", sleep)
    pace = Pace()
    assert pace.wait_for(Fraction(100)) == 10.0
    assert pace.wait_for(Fraction(201, 2)) == 10.5
    assert slept == [0.5]
    now[0] = 11.5  # late: not held back, but its delay counts from when it was due
    assert pace.wait_for(Fraction(101)) == 11.0
    assert pace.wait_for(Fraction(500)) == 11.5  # a leap
    assert slept == [0.5]
