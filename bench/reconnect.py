"""How soon a picture is back after its server went away and returned, many times over.

The tests' own server sends MPEG-TS over TCP, breaks off, stays away for up to 4 s, and returns.
Prints for each time how long after the return the first picture came, and at the end the slowest,
and the threads, open files and memory before and after.

    python bench/reconnect.py --times 50
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import threading
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from streamdeblur.feeds import LiveSource  # after the path to `tests`
from streamdeblur.sources import open_source
from tests.broadcast import Broadcast


def main() -> None:
    """Break and mend, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--times", type=int, default=50)
    args = parser.parse_args()
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


def census() -> tuple[int, int, float]:
    """Threads, open files and MB of memory of this process; for Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = round(pages * resource.getpagesize() / 1e6, 1)
    return threading.active_count(), len(os.listdir("/proc/self/fd")), memory


if __name__ == "__main__":
    main()
