"""A stream that comes faster than it is read: from time to time, on to its newest key frame.

What is not read waits in the network's buffers, where the newest frame cannot overtake it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from av.packet import Packet

_LATE = 1.0  # seconds by which packets may come later than they could
_IN_TIME = 0.1  # seconds: less is the network's own unrest
_SOONER = 0.002  # seconds: what has come is there at once, and so by its duration sooner
_LONGEST = 0.25  # seconds for which packets are read and none is given
_MOST = 500  # packets read at a time: some streams have no key frame but their first
_DRIFT = 0.0005  # seconds by which clocks may part in a second: ten times what quartz does


class _Lateness:
    """How much later packets come than the soonest did, by the clock of their stream."""

    def __init__(self) -> None:
        self._soonest, self._asked = math.inf, 0.0

    def of(self, packet: Packet[Any]) -> float:
        """In seconds, now; 0 if the packet has no time."""
        if packet.dts is None or packet.time_base is None:
            return 0.0
        now = time.monotonic()
        delay = now - float(packet.dts * packet.time_base)
        self._soonest = min(self._soonest + _DRIFT * (now - self._asked), delay)
        self._asked = now
        return delay - self._soonest

    def forget(self) -> None:
        """Whatever comes next is in time."""
        self._soonest = math.inf


def caught_up(packets: Iterator[Packet[Any]], track: int) -> Iterator[Packet[Any]]:
    """The packets; once they are late, those alone that follow the newest key frame that is there.

    Args:
        packets: as they are read; reading waits for them.
        track: the index of the stream that times and key frames are those of.
    """
    lateness = _Lateness()
    waiting: deque[Packet[Any]] = deque()
    while (packet := waiting.popleft() if waiting else next(packets, None)) is not None:
        is_judged = packet.stream.index == track and len(waiting) < _MOST
        if is_judged and lateness.of(packet) >= _LATE:
            waiting.appendleft(packet)
            _read_on(waiting, packets, track, lateness)
            packet = waiting.popleft()
        yield packet


def _read_on(
    waiting: deque[Packet[Any]], packets: Iterator[Packet[Any]], track: int, lateness: _Lateness
) -> None:
    """Add all that has come; of it and what was `waiting`, what is before a key frame goes."""
    read: list[Packet[Any]] = []
    newest = None
    late = late_at_first = lateness.of(waiting[0])
    began, no_sooner = time.monotonic(), 0  # packets in a row that did not come sooner
    for packet in packets:
        if packet.stream.index == track:
            if packet.is_keyframe:
                newest = len(read)
            before, late = late, lateness.of(packet)
            no_sooner = 0 if before - late > _SOONER else no_sooner + 1
        read.append(packet)
        is_long = len(read) == _MOST or time.monotonic() - began > _LONGEST
        if late < _IN_TIME or no_sooner == 2 or is_long:
            break
    if late_at_first - late < _IN_TIME:  # nothing had come: the stream's clock has changed
        lateness.forget()
    elif newest is not None:
        waiting.clear()
        del read[:newest]
    waiting.extend(read)
