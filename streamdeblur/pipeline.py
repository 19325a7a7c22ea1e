"""Decoding, deblurring and writing at the same time: the only file with threads.

Streams are iterators, and concurrency is a function around one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, FrameSink, FrameSource

T = TypeVar("T")


class Network(Protocol):
    """What sharpens frames: a `Deblurrer`."""

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
    dropped: int = 0
    """Frames of a live source that came while the network was busy with others."""
    started: float = field(default_factory=time.perf_counter)
    busy: dict[str, float] = field(default_factory=dict)
    """Seconds of work by stage, waiting for other stages left out. The stages overlap."""

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
        """The stage that the others wait for: decode, deblur or write."""
        return max(self.busy, key=lambda stage: self.busy[stage], default="decode")


def run(
    source: FrameSource,
    deblurrer: Network,
    sink: FrameSink,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Progress:
    """Send every frame of `source` through `deblurrer` into `sink`; of a live one, the newest.

    Decoding and deblurring run in a thread each, writing in the caller's.

    Args:
        source: an open source; closing it is left to the caller.
        deblurrer: a `Deblurrer`.
        sink: an open sink; closing it is left to the caller.
        on_progress: called after each frame that was written.
        stopped: asked after each frame; True ends the run early.

    Raises:
        VideoError: fewer frames were written than read.
        Exception: whatever a stage raises; the others have ended by then.
    """
    progress = Progress(busy=dict.fromkeys(("decode", "deblur", "write"), 0.0))
    busy = progress.busy

    def dropped() -> None:
        progress.dropped += 1

    def counted() -> Iterator[Frame]:
        for frame in _timed(source, busy, "decode"):
            progress.read += 1
            yield frame

    decoding = counted()
    read = latest(decoding, on_drop=dropped) if source.live else prefetch(decoding)
    with closing(read) as frames:
        # What the network's stage waits for its input counts against it, and is taken off again.
        deblurring = _timed(deblurrer.stream(_timed(frames, busy, "deblur", -1)), busy, "deblur")
        with closing(prefetch(deblurring, depth=1 if source.live else 4)) as sharp:
            for frame in sharp:
                began = time.perf_counter()
                sink.write(frame)
                busy["write"] += time.perf_counter() - began
                progress.written += 1
                progress.pts = frame.pts
                on_progress(progress)
                if stopped():
                    return progress
    if not source.live and progress.written != progress.read:
        raise VideoError(
            f"{progress.read} frames were read but {progress.written} written; please report this"
        )
    return progress


def prefetch(items: Iterable[T], depth: int = 4) -> Generator[T, None, None]:
    """Iterate over `items` in a thread, at most `depth` ahead.

    An error in `items` is raised here. Closing this generator ends the thread and closes `items`.
    """
    return _threaded(items, _Handover(depth))


def latest(
    items: Iterable[T], on_drop: Callable[[], None] = lambda: None
) -> Generator[T, None, None]:
    """Iterate over `items` in a thread, always giving the newest; `on_drop` counts the others.

    Errors and closing are as for `prefetch`.
    """
    return _threaded(items, _Handover(1, on_drop))


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread, for work that waits for other computers, until the block ends.

    What it still runs is cancelled then.
    """
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    loop = runner.get_loop()

    def work() -> None:
        with runner:
            loop.run_forever()

    thread = threading.Thread(target=work, name="streamdeblur", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


class _Handover(Generic[T]):
    """A queue between two threads that either of them can end.

    When it is full, `put` waits, or, given `on_drop`, throws away the oldest.
    """

    def __init__(self, depth: int, on_drop: Callable[[], None] | None = None) -> None:
        self._items: deque[T] = deque()
        self._depth = depth
        self._on_drop = on_drop
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self.ended = False
        """No item will be added: the giver has no more, or the taker has left."""

    def put(self, item: T) -> None:
        with self._changed:
            while len(self._items) >= self._depth and not self.ended:
                if self._on_drop is None:
                    self._changed.wait()
                else:
                    self._items.popleft()
                    self._on_drop()
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        with self._changed:
            self.ended = True
            self._error = self._error or error
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                while not self._items and not self.ended:
                    self._changed.wait(0.2)  # on Windows Ctrl-C does not interrupt a wait
                if not self._items:
                    break
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error


def _threaded(items: Iterable[T], handover: _Handover[T]) -> Generator[T, None, None]:
    def work() -> None:
        failure = None
        try:
            with _closed(iter(items)) as iterator:  # here, in the thread that runs it
                for item in iterator:
                    handover.put(item)
                    if handover.ended:
                        break
        except BaseException as error:  # whatever it is, it belongs to the caller
            failure = error
        handover.end(failure)

    thread = threading.Thread(target=work, name="streamdeblur", daemon=True)
    thread.start()
    try:
        yield from handover
    finally:
        handover.end()
        thread.join()


def _timed(
    items: Iterable[T], busy: dict[str, float], stage: str, sign: int = 1
) -> Generator[T, None, None]:
    """Add the time that `items` takes for each item to `busy[stage]`, or take it off."""
    with _closed(iter(items)) as iterator:
        while True:
            began = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                busy[stage] += sign * (time.perf_counter() - began)
            yield item


@contextmanager
def _closed(iterator: Iterator[T]) -> Iterator[Iterator[T]]:
    """Close `iterator` at the end, if it is one that can be closed."""
    try:
        yield iterator
    finally:
        if isinstance(iterator, Generator):
            iterator.close()
