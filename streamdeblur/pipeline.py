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
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from streamdeblur.delays import Delays
from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, FrameSink, FrameSource, VideoInfo

T = TypeVar("T")

_MOST_WAITING = 300e6  # bytes of frames between two stages: four of 3840x2160, one of 7680x4320
_BYTES_A_PIXEL = 9  # of a frame: its picture, the view of it, and what the network made of it
_TICK = 0.05  # seconds after which one who waits for a live frame looks at something else
_SINK_TICK = 0.02  # the same for a sink: a window that is pressed two keys in this time hears one
# Seconds that a live source is given to end: it may hang in a driver, and is left behind then.
_PATIENCE = 1.0


class Network(Protocol):
    """What sharpens frames: a `Deblurrer`."""

    def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield as many frames, in the same order, each with its `sharp` set."""


class LiveSink(FrameSink, Protocol):
    """A sink that is a context manager, which finishes what it has written."""

    @property
    def closed(self) -> bool:
        """Whether those who watched have left, so that the run should end."""

    def __enter__(self) -> FrameSink: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


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
        on_progress: called after each frame that was written; of a live source, also in between.
        stopped: asked as often; True ends the run early.

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

    depth = 1 if source.live else _depth(source.info)
    first = _Handover[Frame](depth, dropped if source.live else None)
    read = _Ahead(counted(), first, _PATIENCE if source.live else None)
    # What the network's stage waits for its input counts against it, and is taken off again.
    deblurring = _timed(deblurrer.stream(_timed(read, busy, "deblur", -1)), busy, "deblur")
    sharp = _Ahead(deblurring, _Handover[Frame](depth))
    try:
        for frame in sharp.ticking():
            if frame is not None:
                began = time.perf_counter()
                sink.write(frame)
                busy["write"] += time.perf_counter() - began
                progress.written += 1
                progress.pts = frame.pts
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


def prefetch(items: Iterable[T], depth: int = 4) -> Generator[T, None, None]:
    """Iterate over `items` in a thread, at most `depth` ahead.

    An error in `items` is raised here. Closing this generator ends the thread and closes `items`.
    """
    with closing(_Ahead(items, _Handover[T](depth))) as ahead:
        yield from ahead


def latest(
    items: Iterable[T], on_drop: Callable[[], None] = lambda: None
) -> Generator[T, None, None]:
    """Iterate over `items` in a thread, always giving the newest; `on_drop` counts the others.

    Errors and closing are as for `prefetch`, but a thread that waits in vain is left behind.
    """
    with closing(_Ahead(items, _Handover[T](1, on_drop), _PATIENCE)) as ahead:
        yield from ahead


def watched(items: Iterable[T], patience: float) -> Generator[T | None, None, None]:
    """Iterate over `items` in a thread; None whenever none came for a moment.

    Raises:
        TimeoutError: none came for `patience` seconds. If the thread hangs it is left behind.
    """
    with closing(_Ahead(items, _Handover[T](1), _PATIENCE)) as ahead:
        last = time.monotonic()
        for item in ahead.ticking():
            if item is not None:
                last = time.monotonic()
            elif time.monotonic() - last > patience:
                raise TimeoutError(f"nothing came for {patience:g} s")
            yield item


def promised(call: Callable[[], T]) -> Generator[T | None, None, None]:
    """Call in a thread; iterating gives None until there is an answer, and then that.

    It never waits. An error of the call is raised here.
    """
    with closing(_Ahead((call() for _ in range(1)), _Handover[T](1), 0.0)) as ahead:
        yield from ahead.ticking(0.0)


class Detached:
    """A sink in a thread of its own, so that none holds up another. A context manager.

    Args:
        sink: an open sink, from now on used by that thread alone, which closes it in the end.
        depth: frames that may wait for it; when there are more, the oldest is dropped.
        idle: called whenever no frame came for a moment.
        patience: seconds that it is given to close; if it hangs, it is left behind then.
    """

    def __init__(
        self,
        sink: LiveSink,
        *,
        depth: int = 1,
        idle: Callable[[], None] | None = None,
        patience: float = 5.0,
    ) -> None:
        self.sink = sink
        self.dropped = 0
        """Frames that came while the sink was busy with others."""
        self.delays = Delays()
        """From each frame's capture until the sink had taken it."""
        self._idle, self._patience = idle, patience
        self._handover = _Handover[Frame](depth, self._drop)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="streamdeblur", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the sink takes no more frames: it failed, or was told to finish."""
        return self._handover.ended

    def write(self, frame: Frame) -> None:
        """Hand over a frame; never waits.

        Raises:
            Exception: what the sink raised meanwhile.
        """
        self._complain()
        if not self._handover.ended:
            self._handover.put(frame)

    def finish(self) -> None:
        """Let the sink take what waits for it and close, without waiting until it has."""
        self._handover.end()

    def close(self) -> None:
        """Finish, and wait for the end of it.

        Raises:
            Exception: what the sink raised; VideoError if it hangs.
        """
        self.finish()
        self._thread.join(self._patience)
        self._complain()
        if self._thread.is_alive():
            raise VideoError(f"an output hangs and was left behind after {self._patience:g} s")

    def __enter__(self) -> Detached:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drop(self) -> None:
        self.dropped += 1

    def _complain(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        try:
            with self.sink as sink:
                for frame in self._handover.ticking(_SINK_TICK):
                    if frame is not None:
                        sink.write(frame)
                        if frame.captured is not None:
                            self.delays.add(time.monotonic() - frame.captured)
                    elif self._idle is not None:
                        self._idle()
        except BaseException as error:  # whatever it is, it belongs to the one who writes
            self._error = error
        self._handover.end()


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
        return (item for item in self.ticking() if item is not None)

    def ticking(self, tick: float = _TICK) -> Iterator[T | None]:
        """The items as they come; None whenever none came for `tick` seconds."""
        while True:
            with self._changed:
                if not self._items and not self.ended:
                    self._changed.wait(tick)  # on Windows Ctrl-C does not interrupt a wait
                if not self._items and self.ended:
                    break
                item = self._items.popleft() if self._items else None
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error


class _Ahead(Generic[T]):
    """Iterates over `items` in a thread, which hands them over.

    Closing ends the thread and closes `items`. Given `patience`, a thread that does not end within
    so many seconds, because it hangs in a driver or on the network, is left behind.
    """

    def __init__(
        self, items: Iterable[T], handover: _Handover[T], patience: float | None = None
    ) -> None:
        self._items, self._handover, self._patience = items, handover, patience
        self._thread = threading.Thread(target=self._work, name="streamdeblur", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return iter(self._handover)

    def ticking(self, tick: float = _TICK) -> Iterator[T | None]:
        """The items as they come; None whenever none came for `tick` seconds."""
        return self._handover.ticking(tick)

    def end(self) -> None:
        """No more items are wanted: whoever waits for one is told that there are none."""
        self._handover.end()

    def close(self) -> None:
        self.end()
        self._thread.join(self._patience)

    def _work(self) -> None:
        failure = None
        try:
            with _closed(iter(self._items)) as iterator:  # here, in the thread that runs it
                for item in iterator:
                    self._handover.put(item)
                    if self._handover.ended:
                        break
        except BaseException as error:  # whatever it is, it belongs to the caller
            failure = error
        self._handover.end(failure)


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
