"""How long pictures are shown: encoders do not tell, and the last one may be held for long."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from av import VideoFrame
from av.packet import Packet


class Durations:
    """Gives packets the durations of their pictures, in place of those by the rate.

    Args:
        time_base: seconds per tick.
        rate: frames a second.
    """

    def __init__(self, time_base: Fraction, rate: Fraction) -> None:
        self._time_base = time_base
        self._usual = round(1 / rate / time_base)
        self._ticks: dict[int, int] = {}
        self._last = 0
        self.end: Fraction | None = None
        """When the last picture ends at the latest, in seconds; None if that is not known."""

    def note(self, picture: VideoFrame) -> None:
        """Remember the duration of a picture; 0 if that is not known.

        In MP4 with frames out of order it may be another's: none goes further beyond `end` than
        by the rate.
        """
        assert picture.pts is not None
        self._last = picture.duration
        if self.end is not None:
            rest = round(self.end / self._time_base) - picture.pts
            self._last = min(self._last, max(self._usual, rest))
        self._ticks[picture.pts] = self._last

    def given(self, packets: list[Packet[Any]]) -> list[Packet[Any]]:
        """Packets of pictures that were noted, with what is known of their durations."""
        for packet in packets:
            assert packet.pts is not None
            packet.duration = self._ticks.pop(packet.pts, 0) or packet.duration
        return packets

    def given_last(self, packets: list[Packet[Any]]) -> list[Packet[Any]]:
        """The last packets. MP4 takes the end from the last to be decoded, whenever it is shown."""
        packets = self.given(packets)
        if packets:
            packets[-1].duration = max(packets[-1].duration or 0, self._last)
        return packets
