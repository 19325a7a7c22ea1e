"""Interlaced video: two moments in each frame, which a network would take for detail."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import Literal

import av
from av.filter import Graph

from streamdeblur.correction import planar_copy
from streamdeblur.video.filters import filter_chain

Deinterlace = Literal["auto", "on", "off"]
"""Which frames become progressive: those that are marked as interlaced, all, or none."""


class Deinterlacer:
    """Makes progressive frames of interlaced ones: as many, at the same times.

    By FFmpeg's `bwdif`, which fills in the lines of one field from the frames before and after.
    """

    def __init__(self, which: Deinterlace) -> None:
        self._which = which
        self._graph: Graph | None = None
        self._form: tuple[int, int, str] | None = None
        self._waiting: deque[av.VideoFrame] = deque()
        self.deinterlaced = 0
        """Frames that were made progressive, so far; each counts when the next is asked for."""

    @property
    def is_at_work(self) -> bool:
        """Whether pictures go through the filter, as all do from the first that is meant."""
        return self._graph is not None

    def progressive(
        self, pictures: Generator[av.VideoFrame, None, None]
    ) -> Generator[av.VideoFrame, None, None]:
        """The pictures, untouched up to the first that is to be made progressive."""
        try:
            for picture in pictures:
                if self._graph is None and not self._is_meant(picture):
                    yield picture
                    continue
                form = (picture.width, picture.height, picture.format.name)
                if form != self._form:
                    yield from self._rest()
                    self._graph, self._form = self._opened(picture), form
                assert self._graph is not None
                self._waiting.append(picture)
                self._graph.push(planar_copy(picture))
                yield from self._ready()
            yield from self._rest()
        finally:
            pictures.close()

    def _is_meant(self, picture: av.VideoFrame) -> bool:
        return self._which == "on" or (self._which == "auto" and picture.interlaced_frame)

    def _opened(self, picture: av.VideoFrame) -> Graph:
        which = "all" if self._which == "on" else "interlaced"
        arguments = f"mode=send_frame:parity=auto:deint={which}"
        return filter_chain(planar_copy(picture), ("bwdif", arguments))

    def _ready(self) -> Iterator[av.VideoFrame]:
        """What has come out; the filter counts in half ticks, and is a frame behind."""
        while self._graph is not None:
            try:
                picture = self._graph.pull()
            except (BlockingIOError, EOFError):
                return
            assert isinstance(picture, av.VideoFrame)
            original = self._waiting.popleft()
            picture.pts, picture.dts = original.pts, original.dts
            picture.duration = original.duration
            if original.time_base:
                picture.time_base = original.time_base
            yield picture
            self.deinterlaced += self._is_meant(original)

    def _rest(self) -> Iterator[av.VideoFrame]:
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()
            self._graph = None
