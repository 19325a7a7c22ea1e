"""Packets of copied tracks in the order that muxers want, wherever a file's clock leaps."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from av.packet import Packet

from streamdeblur.video.headers import LEAP_BACK

DISORDER = 10
"""Seconds by which a file may store one track after another."""


class Order:
    """Sets each packet behind its predecessor.

    Args:
        jumps: by how much the picture's clock was set on each time it leapt back, in seconds; may
            grow meanwhile.
    """

    def __init__(self, jumps: Sequence[Fraction]) -> None:
        self._jumps = jumps
        self._latest: dict[int, int] = {}
        self._leaps: dict[int, list[int]] = {}

    def place(self, packet: Packet[Any], until: Fraction | None) -> bool:
        """Move a packet that comes out of order behind its predecessor: muxers refuse it otherwise.

        Where the clock of a track leaps back, that of the picture does, and both are set on alike.
        False if the picture, which is at `until`, may yet come to that place.
        """
        index, base = packet.stream_index, packet.time_base
        if packet.dts is None or not base:
            return True
        leaps, latest = self._leaps.setdefault(index, []), self._latest.get(index)
        dts = packet.dts + (leaps[-1] if leaps else 0)
        if latest is not None and (latest - dts) * base > LEAP_BACK:
            count = len(leaps)
            if count < len(self._jumps):
                leaps.append(round(self._jumps[count] / base))
            elif until is not None and until <= latest * base + DISORDER:
                return False
            else:
                leaps.append(latest + 1 - packet.dts)
            dts = packet.dts + leaps[-1]
        if packet.pts is not None:
            packet.pts += dts - packet.dts
        packet.dts = dts
        if latest is not None and dts <= latest:
            packet.dts = latest + 1
            packet.pts = None if packet.pts is None else max(packet.pts, packet.dts)
        self._latest[index] = packet.dts
        return True
