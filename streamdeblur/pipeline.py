"""Decoding, deblurring and writing at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, FrameSink, FrameSource, PreparingSink, VideoInfo
from streamdeblur.threads import PATIENCE, Ahead, Handover, closed, spread, usable_cores

T = TypeVar("T")

_MOST_WAITING = 300e6  # bytes of frames between two stages: four of 3840x2160, one of 7680x4320
_BYTES_A_PIXEL = 9  # of a frame: its picture, the view of it, and what the network made of it
# A GPU of today asks for some hundred frames a second: at 1280x720 that is about one core for their
# views and two for their corrections. Where the processor runs the network it needs the cores more.
_CORES_A_HELPER = 4


class Network(Protocol):
    """What sharpens frames: a `Deblurrer`, or something around one."""

    def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield as many frames, in the same order, each with its `sharp` set."""


@dataclass(slots=True)
class Progress:
    """How far a run has come."""

    read: int = 0
    """Frames decoded; they run ahead of those written."""
    written: int = 0
    """Frames that the sink has taken."""
    pts: int = 0
    """Of the last frame written, in ticks."""
    duration: int = 0
    """For how many ticks it is shown; 0 if that is not known."""
    dropped: int = 0
    """Frames of a live source that came while the network was busy with others."""
    started: float = field(default_factory=time.perf_counter)
    busy: dict[str, float] = field(default_factory=dict)
    """Seconds of work by stage, waiting for other stages left out. The stages overlap; of one that
    several threads share it is their mean."""

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.started

    @property
    def rate(self) -> float:
        """Frames written per second since the start."""
        return self.written / max(self.seconds, 1e-9)

    @property
    def slowest(self) -> str:
        """The stage that the others wait for: decode, view, deblur, correct or write."""
        return max(self.busy, key=lambda stage: self.busy[stage], default="decode")


def run(
    source: FrameSource,
    deblurrer: Network,
    sink: FrameSink,
    *,
    helpers: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Progress:
    """Send every frame of `source` through `deblurrer` into `sink`; of a live one, the newest.

    Decoding and deblurring run in a thread each, writing in the caller's. Of a file, what frames do
    not need each other for (the RGB view; what a `PreparingSink` prepares) is done for several of
    them at the same time where there are cores for it.

    Args:
        source: an open source; closing it is left to the caller.
        deblurrer: a `Deblurrer`.
        sink: an open sink; closing it is left to the caller.
        helpers: threads for each kind of such work, at most four; by default as cores allow.
        on_progress: called after each frame that was written; of a live source, also in between.
        stopped: asked as often; True ends the run early.

    Raises:
        VideoError: fewer frames were written than read.
        Exception: whatever a stage raises; the others have ended by then.
    """
    depth = 1 if source.live else _depth(source.info)
    if helpers is None:
        helpers = max(1, usable_cores() // _CORES_A_HELPER)
    helpers = min(helpers, depth)
    progress = Progress(busy=dict.fromkeys(("decode", "view", "deblur", "write"), 0.0))
    busy = progress.busy

    def dropped() -> None:
        progress.dropped += 1

    def counted() -> Iterator[Frame]:
        decoded = _timed(source, busy, "decode")
        with closing(_shared(_viewed, decoded, busy, "view", helpers)) as frames:
            for frame in frames:
                progress.read += 1
                yield frame

    first = Handover[Frame](depth, dropped if source.live else None)
    read = Ahead(counted(), first, PATIENCE if source.may_hang else None)
    # What the network's stage waits for its input counts against it, and is taken off again.
    deblurring = _timed(deblurrer.stream(_timed(read, busy, "deblur", -1)), busy, "deblur")
    if helpers > 1 and isinstance(sink, PreparingSink):
        busy["correct"] = 0.0
        deblurring = _shared(sink.prepare, deblurring, busy, "correct", helpers)
    sharp = Ahead(deblurring, Handover[Frame](depth))
    try:
        for frame in sharp.ticking():
            if frame is not None:
                began = time.perf_counter()
                sink.write(frame)
                busy["write"] += time.perf_counter() - began
                progress.written += 1
                progress.pts, progress.duration = frame.pts, frame.picture.duration
                on_progress(progress)
            elif source.live:
                on_progress(progress)
            if stopped():
                return progress
    finally:
        read.end()  # first, since the network may be waiting for it
        sharp.close()
        read.close()
    if not source.live and progress.written != progress.read:
        raise VideoError(
            f"{progress.read} frames were read but {progress.written} written; please report this"
        )
    return progress


def _depth(info: VideoInfo) -> int:
    """How many frames may wait between two stages."""
    frame = _BYTES_A_PIXEL * info.width * info.height
    return max(1, min(4, int(_MOST_WAITING / frame)))


def _viewed(frame: Frame) -> Frame:
    assert frame.image is not None  # which makes it
    return frame


def _shared(
    work: Callable[[Frame], Frame],
    frames: Iterable[Frame],
    busy: dict[str, float],
    stage: str,
    threads: int,
) -> Generator[Frame, None, None]:
    """Do `work` for the frames in several threads; add the time that it takes to `busy[stage]`."""

    def measured(frame: Frame) -> tuple[Frame, float]:
        began = time.perf_counter()
        done = work(frame)
        return done, time.perf_counter() - began

    with closing(spread(measured, frames, threads)) as results:
        for frame, seconds in results:
            busy[stage] += seconds / threads
            yield frame


def _timed(
    items: Iterable[T], busy: dict[str, float], stage: str, sign: int = 1
) -> Generator[T, None, None]:
    """Add the time that `items` takes for each item to `busy[stage]`, or take it off."""
    with closed(iter(items)) as iterator:
        while True:
            began = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                busy[stage] += sign * (time.perf_counter() - began)
            yield item
