"""What the road around the network costs, and how fast it is with a network that takes no time.

First the processor time that each stage takes for a frame, one stage after the other, beside the
time in which this machine only moves the bytes that the view and the correction must read and
write. Then frames per second from a file to nowhere, to pictures that are corrected and thrown
away, and to a file, with one helper for each kind of work that needs no order, and with two.

    python -m bench.road
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench import harness
from bench.end_to_end import CRF, ENCODER, SAMPLE, write_clip
from streamdeblur.correction import corrected
from streamdeblur.frames import Frame, FrameSink
from streamdeblur.pipeline import Progress, run
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource
from streamdeblur.values import whole

_COPIED = 64 << 20  # bytes at a time: more than the caches keep


class Still:
    """A network that changes nothing, but hands out pictures of its own."""

    def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the frames, each with its `sharp` set."""
        for frame in frames:
            frame.sharp = frame.image.copy()
            yield frame


class Nowhere:
    """A sink that takes frames and forgets them."""

    def write(self, frame: Frame) -> None:
        """Take the next frame."""


class Corrected(Nowhere):
    """A sink that corrects frames, or has them corrected, and forgets them."""

    def prepare(self, frame: Frame) -> Frame:
        """Correct a frame."""
        frame.finished = corrected(frame)
        return frame

    def write(self, frame: Frame) -> None:
        """Correct a frame that is not."""
        if frame.finished is None:
            self.prepare(frame)


def main() -> None:
    """Measure at each size and print the tables."""
    parser = harness.parser("bench.road", __doc__, rounds=3)
    parser.add_argument("--clip", type=Path, default=SAMPLE, help="source of the pictures")
    parser.add_argument("--sizes", nargs="+", type=harness.clip_size, metavar="WxH",
        default=["640x480", "1280x720"])  # fmt: skip
    parser.add_argument("--frames", type=whole(1), default=60, help="frames a round (default 60)")
    args = parser.parse_args()
    facts = harness.say_machine()
    costs, rates = [], []
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "clip.mp4"
            write_clip(args.clip, clip, *harness.size(size), args.frames)
            rounds = [stages(clip) for _ in range(args.rounds)]
            middle = {name: median(each[name] for each in rounds) for name in rounds[0]}
            costs.append({"size": size, **middle})
            rates.append({"size": size, **frames_a_second(clip, args.rounds)})
    title = f"ms of processor time a frame, {ENCODER} veryfast"
    harness.show(title, {"size": ""} | dict.fromkeys(middle, ".1f"), costs)
    columns = {"size": ""} | {name: ".0f" for name in rates[0] if name != "size"}
    harness.show("frames/s, a network that takes no time", columns, rates)
    harness.write(args.json, facts, costs=costs, rates=rates)


def stages(clip: Path) -> dict[str, float]:
    """Milliseconds that all threads together take for a frame, by stage."""
    spent: dict[str, float] = {}
    with FileSource(clip) as source:
        frames = timed(spent, "decode", lambda: list(source))
        count = len(frames)
        timed(spent, "view", lambda: [frame.image for frame in frames])
        for frame in list(Still().stream(frames)):
            timed(spent, "correct", lambda: corrected(frame))  # noqa: B023
        with FileSink(clip.with_name("out.mp4"), source.info, **encoding()) as sink:
            for frame in frames:
                sink.prepare(frame)
                timed(spent, "encode", lambda: sink.write(frame))  # noqa: B023
            began = time.process_time()
        spent["encode"] += time.process_time() - began  # what the encoder still held
    picture, rgb = sum(plane.buffer_size for plane in frames[0].picture.planes), frames[0].image
    moved = time_of_bytes()
    floors = {
        "floor of view": moved * (picture + rgb.nbytes),
        "floor of correct": moved * (2 * picture + 2 * rgb.nbytes),
    }
    return {name: 1e3 * spent[name] / count for name in spent} | {
        name: 1e3 * seconds for name, seconds in floors.items()
    }


def timed(spent: dict[str, float], stage: str, work: Callable[[], Any]) -> Any:
    """Do `work`, and add the processor time that it took."""
    began = time.process_time()
    done = work()
    spent[stage] = spent.get(stage, 0.0) + time.process_time() - began
    return done


def time_of_bytes() -> float:
    """Seconds of one core for a byte that is read or written, by copying."""
    source, target = (np.ones(_COPIED, np.uint8) for _ in range(2))
    times = []
    for _ in range(5):
        began = time.thread_time()
        np.copyto(target, source)
        times.append(time.thread_time() - began)
    return min(times) / (2 * _COPIED)


def frames_a_second(clip: Path, rounds: int) -> dict[str, float]:
    """By sink and number of helpers, in turns."""
    cases = {
        f"{name}, {helpers} helper{'s' * (helpers > 1)}": (make, helpers)
        for (name, make), helpers in product(
            {"nowhere": Nowhere, "corrected": Corrected, "file": None}.items(), (1, 2)
        )
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _, (name, (make, helpers)) in product(range(rounds), cases.items()):
        with FileSource(clip) as source:
            began = time.perf_counter()
            if make is not None:
                progress = driven(source, make(), helpers)
            else:
                with FileSink(clip.with_name("out.mp4"), source.info, **encoding()) as sink:
                    progress = driven(source, sink, helpers)
            times[name].append((time.perf_counter() - began) / progress.written)
    return {name: 1 / median(seconds) for name, seconds in times.items()}


def driven(source: FileSource, sink: FrameSink, helpers: int) -> Progress:
    """Send all frames through."""
    return run(source, Still(), sink, helpers=helpers)


def encoding() -> dict[str, Any]:
    """As the command chooses for a clip of H.264."""
    return {"codec": ENCODER, "crf": CRF, "preset": "veryfast", "overwrite": True}


if __name__ == "__main__":
    harness.command(main)
