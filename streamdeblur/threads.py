"""Work in other threads: the only file that starts any.

Streams are iterators, and concurrency is a function around one.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")

PATIENCE = 1.0
"""Seconds that a source which may hang is given to end; it is left behind then."""
_NAME = "streamdeblur"
_TICK = 0.05  # seconds after which one who waits for an item looks at something else


def prefetch(items: Iterable[T], depth: int = 4) -> Generator[T, None, None]:
    """Iterate over `items` in a thread, at most `depth` ahead.

    An error in `items` is raised here. Closing this generator ends the thread and closes `items`.
    """
    with closing(Ahead(items, Handover[T](depth))) as ahead:
        yield from ahead


def latest(
    items: Iterable[T], on_drop: Callable[[], None] = lambda: None
) -> Generator[T, None, None]:
    """Iterate over `items` in a thread, always giving the newest; `on_drop` counts the others.

    Errors and closing are as for `prefetch`, but a thread that waits in vain is left behind.
    """
    with closing(Ahead(items, Handover[T](1, on_drop), PATIENCE)) as ahead:
        yield from ahead


def watched(items: Iterable[T], patience: float) -> Generator[T | None, None, None]:
    """Iterate over `items` in a thread; None whenever none came for a moment.

    Raises:
        TimeoutError: none came for `patience` seconds. If the thread hangs it is left behind.
    """
    with closing(Ahead(items, Handover[T](1), PATIENCE)) as ahead:
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
    with closing(_called(call)) as ahead:
        yield from ahead.ticking(0.0)


def awaited(call: Callable[[], T]) -> T:
    """What a call gives that is made in a thread, left behind if Ctrl-C ends the waiting for it.

    An error of the call is raised here.
    """
    with closing(_called(call)) as ahead:
        return next(iter(ahead))


def _called(call: Callable[[], T]) -> Ahead[T]:
    return Ahead((call() for _ in range(1)), Handover[T](1), 0.0)


def spread(work: Callable[[S], T], items: Iterable[S], threads: int) -> Generator[T, None, None]:
    """What `work` makes of each item, in the order of the items, `threads` of them at a time.

    The items are taken in the caller's thread, at most `threads` ahead; with one thread the work is
    done there too. An error of either is raised here. Closing this generator closes `items`.
    """
    with closed(iter(items)) as iterator:
        if threads < 2:
            yield from map(work, iterator)
            return
        with ThreadPoolExecutor(threads, _NAME) as pool:
            pending: deque[Future[T]] = deque()
            try:
                for item in iterator:
                    pending.append(pool.submit(work, item))
                    if len(pending) > threads:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()


def begun(work: Callable[[], None]) -> threading.Thread:
    """A thread that does `work`, and does not keep the program from ending."""
    thread = threading.Thread(target=work, name=_NAME, daemon=True)
    thread.start()
    return thread


def turnstile() -> AbstractContextManager[object]:
    """Something that threads pass one at a time: entered by one, it holds up all others."""
    return threading.Lock()


def is_main_thread() -> bool:
    """Whether this is the thread that the process began with."""
    return threading.current_thread() is threading.main_thread()


def usable_cores() -> int:
    """Processor cores that this process may use, which can be fewer than the machine has."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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

    thread = begun(work)
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


class Handover(Generic[T]):
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
        """Hand over an item; after the end it goes nowhere."""
        with self._changed:
            while len(self._items) >= self._depth and not self.ended:
                if self._on_drop is None:
                    self._changed.wait()
                else:
                    self._items.popleft()
                    self._on_drop()
            if self.ended:
                return
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Say that no item will be added; what is there can still be taken, and then `error`."""
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


class Ahead(Generic[T]):
    """Iterates over `items` in a thread, which hands them over.

    Closing ends the thread and closes `items`. Given `patience`, a thread that does not end within
    so many seconds, because it hangs in a driver, a pipe or on the network, is left behind.
    """

    def __init__(
        self, items: Iterable[T], handover: Handover[T], patience: float | None = None
    ) -> None:
        self._items, self._handover, self._patience = items, handover, patience
        self._thread = begun(self._work)

    def __iter__(self) -> Iterator[T]:
        return iter(self._handover)

    def ticking(self, tick: float = _TICK) -> Iterator[T | None]:
        """The items as they come; None whenever none came for `tick` seconds."""
        return self._handover.ticking(tick)

    def end(self) -> None:
        """No more items are wanted: whoever waits for one is told that there are none."""
        self._handover.end()

    def close(self) -> None:
        """End, and wait until the thread has."""
        self.end()
        self._thread.join(self._patience)

    def _work(self) -> None:
        failure = None
        try:
            with closed(iter(self._items)) as iterator:  # here, in the thread that runs it
                for item in iterator:
                    self._handover.put(item)
                    if self._handover.ended:
                        break
        except BaseException as error:  # whatever it is, it belongs to the caller
            failure = error
        self._handover.end(failure)


@contextmanager
def closed(iterator: Iterator[T]) -> Iterator[Iterator[T]]:
    """Close `iterator` at the end, if it is one that can be closed."""
    try:
        yield iterator
    finally:
        if isinstance(iterator, Generator):
            iterator.close()
