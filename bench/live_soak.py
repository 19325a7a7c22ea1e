"""How long frames take, how many are lost and whether anything grows, over a long live run.

A simulated camera sends at its own pace; frames go through the network into a window's stand-in
(which takes each at once), or, with --record, into a file as well. Prints a line a minute, and at
the end the delay above the network's own time, the share of dropped frames, and the growth of the
delay and of the memory between the first and the last third.

    python -m bench.live_soak --minutes 30                                 # an identity network
    python -m bench.live_soak --minutes 30 --model fast --size 320x240
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench import harness
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.frames import Frame
from streamdeblur.live.feeds import LiveSource
from streamdeblur.live.recording import Recording
from streamdeblur.live.rhythm import AdaptiveNetwork, Choice, choices_of
from streamdeblur.live.run import Live
from streamdeblur.pipeline import Progress
from streamdeblur.sources import open_source
from streamdeblur.values import size

FRAME = 1 / 30  # second


class Identity:
    """A network that leaves everything as it is, and takes no time."""

    spec = SimpleNamespace(name="identity")
    precision, provider = "uint8", "none"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The picture itself."""
        return image


class Timed:
    """A network, and how long it took for each frame, in seconds."""

    def __init__(self, network: Any) -> None:
        self._network, self.spec = network, network.spec
        self.precision, self.provider = network.precision, network.provider
        self.seconds: list[float] = []

    def __call__(self, image: np.ndarray) -> Any:
        """Ask the network."""
        began = time.monotonic()
        sharp = self._network(image)
        self.seconds.append(time.monotonic() - began)
        return sharp


class Screen:
    """Stands in for a window: notes the delay of each frame, in seconds."""

    closed = False

    def __init__(self) -> None:
        self.delays: list[float] = []

    def write(self, frame: Frame) -> None:
        """Look at the clock."""
        assert frame.captured is not None
        self.delays.append(time.monotonic() - frame.captured)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def main() -> None:
    """Run, and print the figures."""
    parser = harness.parser("bench.live_soak", __doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--model", help="name or file; by default an identity network")
    parser.add_argument("--size", type=size, default="640x480", metavar="WxH")
    parser.add_argument("--input", help="another source; --size is its own then")
    parser.add_argument("--adapt", action="store_true", help="let the network step down")
    parser.add_argument("--record", action="store_true", help="record as well")
    args = parser.parse_args()
    facts = harness.say_machine()

    network = Timed(Deblurrer.load(args.model) if args.model else Identity())
    choices = choices_of(network, None) if args.adapt else [Choice(network)]  # type: ignore[arg-type]
    screen, memory = Screen(), list[float]()
    name = args.input or f"lavfi:testsrc2=size={args.size}:rate=30"
    with tempfile.TemporaryDirectory() as folder, open_source(name) as source:
        assert isinstance(source, LiveSource)
        network(np.zeros((source.info.height, source.info.width, 3), np.uint8))  # the first is slow
        network.seconds.clear()
        live = Live(
            source,
            AdaptiveNetwork(choices),
            say=print,
            record=lambda path: Recording(path, source.info),
            models=["-"],
            load=lambda name: choices,
        )
        end = time.monotonic() + 60 * args.minutes
        next_line = time.monotonic()

        def watch(progress: Progress) -> None:
            nonlocal next_line
            if time.monotonic() >= next_line:
                next_line += 60
                memory.append(harness.resident())
                print(f"{live.figures(progress)}, {memory[-1]:.0f} MB", flush=True)
            if time.monotonic() >= end:
                live.obey("quit")

        with live:
            live.add(screen)
            if args.record:
                live.add(Recording(Path(folder, "soak.mp4"), source.info))
            progress = live.run(watch)
        memory.append(harness.resident())
    figures = report(progress, screen.delays, network.seconds, memory)
    harness.write(args.json, facts, **figures)


def report(
    progress: Progress, delays: list[float], costs: list[float], memory: list[float]
) -> dict[str, float]:
    """Print what the run is judged by, and return it: times in ms, memory in MB."""
    own = median(costs)
    first, last = (median(part) for part in thirds(delays))
    figures = {
        "frames": progress.read,
        "seconds": progress.seconds,
        "dropped": progress.dropped,
        "delay": 1000 * median(delays),
        "delay of 95 %": 1000 * sorted(delays)[int(0.95 * len(delays))],
        "longest delay": 1000 * max(delays),
        "network": 1000 * own,
        "growth of the delay": 1000 * (last - first),
        "memory at first": memory[0],
        "memory at last": memory[-1],
    }
    share = progress.dropped / max(progress.read, 1)
    print(
        f"{progress.read} frames in {progress.seconds:.0f} s, {progress.dropped} dropped"
        f" ({100 * share:.3f} %)\n"
        f"delay: median {figures['delay']:.1f} ms, 95 % {figures['delay of 95 %']:.1f} ms,"
        f" most {figures['longest delay']:.0f} ms\n"
        f"network: median {figures['network']:.1f} ms; the delay's median above it:"
        f" {(median(delays) - own) / FRAME:.2f} frames\n"
        f"growth from the first to the last third: delay {figures['growth of the delay']:+.1f} ms;"
        f" memory {memory[0]:.0f} to {memory[-1]:.0f} MB"
    )
    return figures


def thirds(values: list[float]) -> Iterator[Iterable[float]]:
    """The first and the last third."""
    third = max(1, len(values) // 3)
    yield values[:third]
    yield values[-third:]


if __name__ == "__main__":
    harness.command(main)
