from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from streamdeblur import pipeline
from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, VideoInfo
from streamdeblur.pipeline import Progress, run
from streamdeblur.threads import event_loop, latest, prefetch, spread


def frame(pts: int) -> Frame:
    picture = av.VideoFrame(2, 2, "rgb24")
    return Frame(picture, np.full((2, 2, 3), pts, np.uint8), pts)


class Clip:
    """A source of `count` frames that take `seconds` each, and may break at one."""

    info = VideoInfo(
        width=2,
        height=2,
        time_base=Fraction(1, 25),
        rate=Fraction(25),
        codec="rawvideo",
        pix_fmt="rgb24",
    )

    def __init__(
        self, count: int, *, live: bool = False, seconds: float = 0, broken_at: int = -1
    ) -> None:
        self.live = self.may_hang = live
        self.closed = False
        self._count, self._seconds, self._broken_at = count, seconds, broken_at

    def close(self) -> None:
        raise AssertionError("closing the source is left to the caller")

    def __iter__(self) -> Iterator[Frame]:
        try:
            for pts in range(self._count):
                time.sleep(self._seconds)
                if pts == self._broken_at:
                    raise VideoError("the clip is broken")
                yield frame(pts)
        finally:
            self.closed = True


class Inverter:
    """Stands in for a network that takes `seconds` a frame and may lose one."""

    def __init__(self, *, seconds: float = 0, loses: int = -1) -> None:
        self._seconds, self._loses = seconds, loses

    def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for item in frames:
            time.sleep(self._seconds)
            item.sharp = 255 - item.image
            if item.pts != self._loses:
                yield item


class Collector:
    """A sink that keeps what it is given, and may be full."""

    def __init__(self, *, seconds: float = 0, full_at: int = -1) -> None:
        self.frames: list[Frame] = []
        self._seconds, self._full_at = seconds, full_at

    def write(self, frame: Frame) -> None:
        time.sleep(self._seconds)
        if frame.pts == self._full_at:
            raise VideoError("the disk is full")
        self.frames.append(frame)


class PreparingCollector(Collector):
    """One that does a part of its work ahead."""

    def prepare(self, item: Frame) -> Frame:
        item.finished = item.picture
        return item


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_test() -> Iterator[None]:
    yield
    assert not [each for each in threading.enumerate() if each.name.startswith("streamdeblur")]


def test_run_writes_every_frame_in_order_and_sharp() -> None:
    sink = Collector()
    progress = run(Clip(20), Inverter(), sink)
    assert [item.pts for item in sink.frames] == list(range(20))
    assert all(
        item.sharp is not None and item.sharp[0, 0, 0] == 255 - item.pts for item in sink.frames
    )
    assert (progress.read, progress.written, progress.dropped) == (20, 20, 0)


def test_stages_overlap() -> None:
    meeting = threading.Barrier(3, timeout=5)

    class MeetingClip(Clip):
        def __iter__(self) -> Iterator[Frame]:
            for item in super().__iter__():
                yield item
                if item.pts == 1:
                    meeting.wait()  # on the way to frame 2

    class MeetingInverter(Inverter):
        def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
            for item in super().stream(frames):
                if item.pts == 1:
                    meeting.wait()
                yield item

    class MeetingCollector(Collector):
        def write(self, frame: Frame) -> None:
            if frame.pts == 0:
                meeting.wait()
            super().write(frame)

    sink = MeetingCollector()
    run(MeetingClip(3), MeetingInverter(), sink)
    assert len(sink.frames) == 3


@pytest.mark.parametrize("slow", ["decode", "deblur", "write"])
def test_the_slowest_stage_is_named(slow: str) -> None:
    source = Clip(8, seconds=0.02 * (slow == "decode"))
    network = Inverter(seconds=0.02 * (slow == "deblur"))
    sink = Collector(seconds=0.02 * (slow == "write"))
    progress = run(source, network, sink)
    assert progress.slowest == slow
    assert progress.busy[slow] >= 8 * 0.02


def test_an_error_of_the_source_surfaces_after_the_frames_before_it() -> None:
    sink = Collector()
    with pytest.raises(VideoError, match="the clip is broken"):
        run(Clip(9, broken_at=5), Inverter(), sink)
    assert [item.pts for item in sink.frames] == list(range(5))


@pytest.mark.parametrize("helpers", [1, 3])
def test_an_error_of_the_sink_stops_the_other_stages(helpers: int) -> None:
    source = Clip(10**9)
    with pytest.raises(VideoError, match="the disk is full"):
        run(source, Inverter(), PreparingCollector(full_at=3), helpers=helpers)
    assert source.closed


def test_an_error_while_preparing_surfaces_after_the_frames_before_it() -> None:
    class Refusing(PreparingCollector):
        def prepare(self, item: Frame) -> Frame:
            if item.pts == 4:
                raise VideoError("the frame has another size")
            return super().prepare(item)

    source, sink = Clip(10**9), Refusing()
    with pytest.raises(VideoError, match="another size"):
        run(source, Inverter(), sink, helpers=3)
    assert [item.pts for item in sink.frames] == [0, 1, 2, 3]
    assert source.closed


def test_a_keyboard_interrupt_stops_all_stages_promptly() -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    source = Clip(10**9, seconds=0.01)
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        run(source, Inverter(), Collector(), on_progress=interrupt)
    assert source.closed
    assert time.perf_counter() - began < 5


def test_a_lost_frame_is_an_error() -> None:
    with pytest.raises(VideoError, match="9 frames were read but 8 written"):
        run(Clip(9), Inverter(loses=4), Collector())


def test_a_live_source_drops_what_comes_while_the_network_is_busy() -> None:
    sink = Collector()
    progress = run(Clip(40, live=True, seconds=0.005), Inverter(seconds=0.03), sink)
    shown = [item.pts for item in sink.frames]
    assert shown == sorted(set(shown))
    assert progress.dropped > 0
    assert progress.written + progress.dropped == progress.read == 40
    assert shown[-1] == 39  # the newest is never the one that is dropped


def test_run_stops_when_asked() -> None:
    source, sink = Clip(10**9, live=True, seconds=0.001), Collector()
    progress = run(source, Inverter(), sink, stopped=lambda: len(sink.frames) == 3)
    assert progress.written == 3
    assert source.closed


def test_what_needs_no_order_is_done_for_several_frames_at_a_time() -> None:
    meeting = threading.Barrier(3, timeout=5)

    class Meeting(PreparingCollector):
        def prepare(self, item: Frame) -> Frame:
            if item.pts < 3:
                meeting.wait()
            return super().prepare(item)

    sink = Meeting()
    progress = run(Clip(20), Inverter(), sink, helpers=3)
    assert [item.pts for item in sink.frames] == list(range(20))
    assert all(item.finished is item.picture for item in sink.frames)
    assert progress.busy.keys() == {"decode", "view", "deblur", "correct", "write"}


@pytest.mark.parametrize(("cores", "width", "helps"), [(2, 2, 0), (16, 2, 1), (16, 8000, 0)])
def test_helpers_are_for_many_cores_and_pictures_that_fit(
    monkeypatch: pytest.MonkeyPatch, cores: int, width: int, helps: int
) -> None:
    monkeypatch.setattr(pipeline, "usable_cores", lambda: cores)
    clip = Clip(3)
    monkeypatch.setattr(clip, "info", replace(clip.info, width=width, height=width))
    assert len(run(clip, Inverter(), PreparingCollector()).busy) == 4 + helps


def test_spread_keeps_the_order_and_is_at_most_so_far_ahead() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    def square(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number**2

    results = spread(square, numbers(), 3)
    assert next(results) == 0
    assert taken == [0, 1, 2, 3]
    assert list(results) == [number**2 for number in range(1, 20)]


@pytest.mark.parametrize("threads", [1, 3])
def test_spread_raises_what_the_work_raises_and_closes_its_items(threads: int) -> None:
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield from (1, 2, 0, 4)
        finally:
            closed.set()

    results = spread(lambda number: 4 // number, numbers(), threads)
    assert [next(results), next(results)] == [4, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert closed.is_set()
    with pytest.raises(VideoError, match="broken"):
        list(spread(frame_of, Clip(9, broken_at=5), threads))


def frame_of(item: Frame) -> Frame:
    return item


def test_prefetch_is_at_most_depth_ahead() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    ahead = prefetch(numbers(), depth=3)
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(taken) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.02)  # for more, if it wanted more
    assert len(taken) == 5  # the one given out, three waiting, one in hand
    ahead.close()


def test_closing_prefetch_closes_its_items_in_their_own_thread() -> None:
    threads: list[str] = []

    def numbers() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            threads.append(threading.current_thread().name)

    ahead = prefetch(numbers())
    next(ahead)
    ahead.close()
    assert threads == ["streamdeblur"]


def test_an_error_while_closing_items_surfaces() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("at the end")

    ahead = prefetch(numbers())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="at the end"):
        next(ahead)


def test_latest_gives_the_newest_and_counts_the_rest() -> None:
    begin, delivered = threading.Event(), threading.Event()
    dropped: list[None] = []

    def numbers() -> Iterator[int]:
        yield 0
        begin.wait(5)
        yield from (1, 2, 3)
        delivered.set()

    newest = latest(numbers(), on_drop=lambda: dropped.append(None))
    assert next(newest) == 0
    begin.set()
    assert delivered.wait(5)
    assert list(newest) == [3]
    assert len(dropped) == 2


def test_progress_measures_rate() -> None:
    progress = Progress(written=10, started=time.perf_counter() - 2)
    assert progress.rate == pytest.approx(5, rel=0.1)


def test_an_event_loop_ends_with_its_block_and_takes_its_work_along() -> None:
    threads, ended = threading.active_count(), threading.Event()

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def begin() -> asyncio.Task[None]:
        task = asyncio.create_task(wait_for_ever())
        await asyncio.sleep(0)
        return task

    with event_loop() as loop:
        asyncio.run_coroutine_threadsafe(begin(), loop).result()
        assert not ended.is_set()
    assert ended.is_set()
    assert threading.active_count() <= threads
