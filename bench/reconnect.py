"""How soon a picture is back after its server went away and returned, many times over.

The tests' own server sends MPEG-TS over TCP, breaks off, stays away for up to 4 s, and returns.
Prints for each time how long after the return the first picture came, and at the end the slowest,
and the threads, open files and memory before and after.

    python -m bench.reconnect --times 50
"""

from __future__ import annotations

import os
import random
import threading
import time
from statistics import median

from bench import harness
from streamdeblur.live.feeds import LiveSource
from streamdeblur.sources import open_source
from tests.live.broadcast import Broadcast


def main() -> None:
    """Break and mend, and print the figures."""
    parser = harness.parser("bench.reconnect", __doc__)
    parser.add_argument("--times", type=int, default=50)
    args = parser.parse_args()
    facts = harness.say_machine()
    took: list[float] = []
    with Broadcast(size=(320, 240)) as station, open_source(station.url) as source:
        assert isinstance(source, LiveSource)
        frames = iter(source)
        next(frames)
        before = census()
        for number in range(args.times):
            for _ in range(40):
                next(frames)
            station.off()
            away = random.uniform(0.2, 4)
            returning = threading.Timer(away, station.on)
            returning.start()
            connections = source.connections
            while source.connections == connections:
                next(frames)
            took.append(time.monotonic() - station.returned)
            returning.join()
            print(f"{number + 1}: away {away:.1f} s, back {took[-1]:.2f} s after", flush=True)
        after = census()
    print(f"back after {median(took):.2f} s in the median, {max(took):.2f} s at most")
    for name, old, new in zip(("threads", "open files", "MB"), before, after, strict=True):
        print(f"{name}: {old:g} before, {new:g} after")
    harness.write(args.json, facts, back=took, before=before, after=after)


def census() -> tuple[int, int, float]:
    """Threads, open files and MB of memory of this process; for Linux."""
    memory = round(harness.resident(), 1)
    return threading.active_count(), len(os.listdir("/proc/self/fd")), memory


if __name__ == "__main__":
    harness.command(main)
