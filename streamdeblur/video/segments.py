"""The picture in closed segments, so that an interruption costs no more than one.

A segment is SEGMENT frames, encoded by an encoder of its own, which begins with a key frame and
refers to nothing outside. In the end the packets of all are copied into the output. So the same
work gives the same file, wherever it was interrupted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from av import VideoFrame
from av.packet import Packet

from streamdeblur.errors import VideoError
from streamdeblur.resume import Journal
from streamdeblur.video.picture import PictureTrack

SEGMENT = 100
"""Frames of a segment: so much work can be lost, and so far are key frames apart at most."""


class SegmentedTrack:
    """A `PictureTrack` whose packets go through a journal and come out together, when flushed.

    Args:
        picture: what encodes, opened; from now on only its settings are used.
        journal: keeps the packets.
    """

    def __init__(self, picture: PictureTrack, journal: Journal) -> None:
        self._picture, self._journal = picture, journal
        picture.go_on_after(journal.times)
        self._segment: PictureTrack | None = None
        self._frames = self._packets = 0  # of the segment

    def encode(self, picture: VideoFrame) -> list[Packet[Any]]:
        """Encode a finished picture; the packets are kept."""
        if self._segment is None:
            self._segment = self._picture.sibling()
        self._keep(self._segment.encode(picture))
        self._frames += 1
        if self._frames == SEGMENT:
            self._close_segment()
        return []

    def flush(self) -> Iterator[Packet[Any]]:
        """The packets of all segments, with times of decoding that hold for all of them."""
        self._close_segment()
        times = decoding_times(self._journal.times())
        for dts, packet in zip(times, self._journal.packets(), strict=True):
            yield self._picture.addressed(packet, dts)

    def _keep(self, packets: list[Packet[Any]]) -> None:
        self._journal.add(packets)
        self._packets += len(packets)

    def _close_segment(self) -> None:
        if self._segment is None:
            return
        self._keep(self._segment.flush())
        if self._packets != self._frames:
            raise VideoError(
                f"{self._picture.encoder} made {self._packets} packets of {self._frames} frames:"
                " --resume can't keep them apart; leave it out or try another --codec"
            )
        self._journal.close_segment(self._frames)
        self._segment, self._frames, self._packets = None, 0, 0


def decoding_times(pts: list[int]) -> list[int]:
    """When packets are to be decoded, given when they are shown, in the order of decoding.

    Strictly increasing, none later than the packet is shown: the times of presentation in order,
    put off by as many packets as the most displaced one needs.
    """
    order = sorted(pts)
    delay = max((i - bisect_left(order, time) for i, time in enumerate(pts)), default=0)
    before = [time - (order[delay] - order[0]) for time in order[:delay]]
    return before + order[: len(order) - delay]
