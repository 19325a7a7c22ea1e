"""How the time of a frame grows with the picture, and falls with the threads, in one run.

The network alone, in each precision that its files have, all sizes on all cores and one size on
each number of threads, in turns.

    python -m bench.scaling
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench import harness
from streamdeblur import values
from streamdeblur.deblurrer import DEFAULT_MODEL, Deblurrer
from streamdeblur.network import catalogue

SIZES = ["320x240", "640x480", "1280x720", "1920x1080"]
COLUMNS = {
    "size": "",
    "threads": "",
    "precision": "",
    **harness.TIME,
    "Mpixel/s": ".2f",
    "of fp32's time": ".2f",
    "times one thread": ".2f",
}


def main() -> int:
    """Measure in turns, print; the exit status."""
    parser = harness.parser("bench.scaling", __doc__, rounds=5)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or file")
    parser.add_argument("--device", default="cpu", help="as of streamdeblur")
    parser.add_argument("--precisions", nargs="+", metavar="NAME", help="default: all with a file")
    parser.add_argument("--sizes", nargs="+", type=values.size, default=SIZES, metavar="WxH",
        help="on all cores")  # fmt: skip
    parser.add_argument("--size", type=values.size, default="1280x720", metavar="WxH",
        help="on 1, 2, 4... threads")  # fmt: skip
    options = parser.parse_args()
    facts = harness.say_machine()
    cores = facts["cores"]
    counts = [2**power for power in range(cores.bit_length()) if 2**power < cores] + [cores]
    settings = {(size, cores): None for size in options.sizes}
    settings |= {(options.size, count): None for count in counts}
    found = catalogue.find(options.model).paths
    precisions = options.precisions or [each for each in found if each != "fp16"]
    cases: dict[tuple[str, int, str], Callable[[], object]] = {}
    for precision in precisions:
        loaded = {
            count: Deblurrer.load(
                options.model, device=options.device, precision=precision, threads=count
            )
            for count in counts
        }
        for size, count in settings:
            cases[size, count, precision] = partial(loaded[count], _noise(size))
    named = {_name(*case): call for case, call in cases.items()}
    times = harness.take_turns(named, options.rounds, clock=options.clock)
    rows = [_row(*case, times) for case in cases]
    title = f"{options.model} on {options.device}, ms of {options.clock} time"
    harness.show(title, COLUMNS, rows)
    harness.write(options.json, facts, title=title, rows=rows, seconds=times)
    return 0


def _noise(size: str) -> Any:
    width, height = harness.size(size)
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _name(size: str, threads: int, precision: str) -> str:
    return f"{size} {threads} {precision}"


def _row(size: str, threads: int, precision: str, times: harness.Times) -> dict[str, Any]:
    case, plain, single = (
        _name(size, threads, precision),
        _name(size, threads, "fp32"),
        _name(size, 1, precision),
    )
    figures = harness.in_milliseconds(times[case])
    width, height = harness.size(size)
    return {
        "size": size,
        "threads": threads,
        "precision": precision,
        **figures,
        "Mpixel/s": width * height / figures["ms"] / 1e3,
        "of fp32's time": harness.ratio(times, case, plain) if plain in times else None,
        "times one thread": harness.ratio(times, single, case) if single in times else None,
    }


if __name__ == "__main__":
    harness.command(main)
