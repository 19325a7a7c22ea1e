"""A stream that comes faster than it is read: from time to time, on to its newest key frame.

What is not read waits in the network's buffers, where the newest frame cannot overtake it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from av.packet import Packet

_LATE = 1.0  # seconds by which packets may come later than they could
_IN_TIME = 0.1  # seconds: less is the network's own unrest
_LONGEST = 0.25  # seconds for which packets are read and none is given
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
    """The packets; those of them that have waited long, only from their newest key frame on.

    Args:
        packets: as they are read; reading waits for them.
        track: the index of the stream that times and key frames are those of.
    """
    lateness = _Lateness()
    for packet in packets:
        if packet.stream.index != track or lateness.of(packet) < _LATE:
            yield packet
        else:
            yield from _from_newest_key(packet, packets, track, lateness)


def _from_newest_key(
    first: Packet[Any], packets: Iterator[Packet[Any]], track: int, lateness: _Lateness
) -> list[Packet[Any]]:
    """Read on until nothing waits any more; what is to be decoded of it."""
    read, newest = [first], 0
    late = before = lateness.of(first)
    waited, began = 0, time.monotonic()
    for packet in packets:
        if packet.stream.index == track:
            if packet.is_keyframe:
                newest = len(read)
            earlier, late = late, lateness.of(packet)
            waited = 0 if late < earlier else waited + 1  # each that is there already comes sooner
        read.append(packet)
        if late < _IN_TIME or waited == 2 or time.monotonic() - began > _LONGEST:
            break
    if before - late < _IN_TIME:  # nothing was there: it is the stream's clock that goes otherwise
        lateness.forget()
        return read
    return read[newest:]
