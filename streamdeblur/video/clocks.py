"""The time of frames: in files nearly always their own; of live ones, when each came and is due."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any

import av
from av.packet import Packet

from streamdeblur.frames import VideoInfo
from streamdeblur.video.damage import Damage
from streamdeblur.video.headers import LEAP_BACK, MICROSECOND, ticks_of

# Moments of a stream that differ so much from the clock's, in seconds, come from a new beginning.
_LEAP = Fraction(2)
_STEP = 1000  # microseconds


class FileClock:
    """Timestamps that always increase, changed only where the file's own do not.

    Args:
        info: of the video.
        damage: where what was put right is counted.
        jumps: where it is noted by how many seconds the clock is set on after each leap back.
        first: the timestamp of a first picture that has none.
        end: where the part that is read ends, in seconds; None for the whole.
    """

    def __init__(
        self,
        info: VideoInfo,
        damage: Damage,
        jumps: list[Fraction],
        *,
        first: int,
        end: Fraction | None,
    ) -> None:
        self._time_base, self._damage, self._jumps = info.time_base, damage, jumps
        self._next, self._end = first, end
        self._step = max(1, round(1 / (info.rate * info.time_base)))
        self._last: int | None = None
        self._offset = 0

    def tick(self, picture: av.VideoFrame) -> int | None:
        """The timestamp of the next picture, in its time base; None if it is not before the end."""
        ticks = ticks_of(picture)
        pts = self._next if ticks is None else ticks + self._offset
        back = -1 if self._last is None else self._last - pts
        if leaps := back * self._time_base > LEAP_BACK:
            self._offset += self._next - pts
            self._jumps.append(self._offset * self._time_base)  # which holds for sound in any case
            pts = self._next
        elif back >= 0:
            pts += back + 1
        if self._end is not None and pts * self._time_base >= self._end:
            return None
        self._damage.jumps += leaps
        self._damage.mended_times += ticks is None or (back >= 0 and not leaps)
        self._last, self._next = pts, pts + self._step
        return pts


class FrameCounter:
    """Timestamps for containers that know only a frame rate: each frame has a number of its own.

    It is the nearest to the frame's time that is free; frames that come quicker wait for a gap.

    Args:
        rate: frames a second.
    """

    def __init__(self, rate: Fraction) -> None:
        self._tick = 1 / rate
        self._last: int | None = None

    def go_on_after(self, number: int) -> None:
        """So far have frames been numbered already, by a run that was interrupted."""
        self._last = number

    def place(self, picture: av.VideoFrame) -> None:
        """Replace the time of the next picture by its number."""
        assert picture.pts is not None
        assert picture.time_base is not None
        number = round(picture.pts * picture.time_base / self._tick)
        self._last = number if self._last is None else max(number, self._last + 1)
        picture.pts, picture.time_base = self._last, self._tick


class Clock:
    """Timestamps in microseconds since the first picture, whatever streams say or do.

    Within a stream they are its own. Where one begins, or leaps, the clock on the wall counts.
    """

    def __init__(self) -> None:
        self._begin: float | None = None
        self._offset: Fraction | None = None
        self._moment, self._captured, self._last = Fraction(0), 0.0, -_STEP

    def restart(self) -> None:
        """The next picture comes from a new stream."""
        self._offset = None

    @property
    def offset(self) -> Fraction:
        """Seconds from the clock of the stream to this one, by the last picture."""
        assert self._offset is not None
        return self._offset

    def tick(self, picture: av.VideoFrame, captured: float) -> int:
        """The timestamp of the next picture, a millisecond or more after the last.

        Streams that break off end in pictures without a time of their own, and Matroska and others
        count in milliseconds: less would be the same moment to them.
        """
        if self._begin is None:
            self._begin = captured
        moment = moment_of(picture, captured)
        step, passed = moment - self._moment, Fraction(captured - self._captured)
        if self._offset is None or not -_LEAP < step < passed + _LEAP:
            begin = max(Fraction(captured - self._begin), (self._last + _STEP) * MICROSECOND)
            self._offset = begin - moment
        self._moment, self._captured = moment, captured
        self._last = max(round((moment + self._offset) / MICROSECOND), self._last + _STEP)
        return self._last


class Pace:
    """Holds pictures back until they are due; what is late is let through at once.

    With `leaps`, what is out of step by more than 2 s begins anew: so play streams with gaps.
    """

    def __init__(self, *, leaps: bool = True) -> None:
        self._leaps = leaps
        self._zero: float | None = None

    def wait_for(self, moment: Fraction) -> float:
        """Sleep until `moment`, in seconds of the picture's clock; when it was, in monotonic."""
        now = time.monotonic()
        if self._zero is None or (self._leaps and abs(self._zero + float(moment) - now) > _LEAP):
            self._zero = now - float(moment)
        due = self._zero + float(moment)
        if due > now:
            time.sleep(due - now)
        return due


def moment_of(picture: av.VideoFrame, captured: float) -> Fraction:
    """When a picture was taken, in seconds of the stream's clock, or else of ours."""
    if picture.pts is None or not picture.time_base:
        return Fraction(captured)
    return picture.pts * picture.time_base


def packet_time(packet: Packet[Any]) -> Fraction | None:
    """When a packet is due at the decoder, in seconds; None if it does not say."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    return None if ticks is None or not packet.time_base else ticks * packet.time_base
