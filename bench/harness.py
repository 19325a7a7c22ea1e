"""What every benchmark does alike: name the machine, take turns, print a table, write JSON.

Machines are shared and their clocks change, so nothing is compared across runs: the cases of a
benchmark take turns within one, and what is reported first is the ratio of neighbours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

from av.error import FFmpegError
from rich.console import Console
from rich.table import Table

from streamdeblur import values
from streamdeblur.errors import StreamDeblurError
from streamdeblur.video.outputs import refuse_paths

Times = dict[str, list[float]]
"""By case, seconds of a call in each round."""
Row = Mapping[str, Any]
"""By column; None where there is no figure."""

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
"""`processor` adds up the threads of this process, so it says what a frame costs and not how long
one waits for it, unless there is one thread."""
_PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-ep-openvino",
    "torch",
    "av",
    "numpy",
    "streamdeblur",
)
_EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd")
"""Instructions that decide which precision is fast."""


def parser(module: str, text: str | None, *, rounds: int = 0) -> argparse.ArgumentParser:
    """The options of all benchmarks, for `python -m MODULE`; `text` is its docstring.

    `rounds` is how many it takes unless told; those that take none have no such option.
    """
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=(text or "").strip())
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    if rounds:
        text = f"turns of each case (default {rounds})"
        made.add_argument("--rounds", type=values.whole(1), default=rounds, metavar="N", help=text)
        text = "processor: count what this process computed, on a machine that others use as well"
        made.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help=text)
    made.add_argument("--json", type=_output, metavar="FILE", help="also write the figures here")
    return made


def command(main: Callable[[], int | None]) -> NoReturn:
    """End the process with what `main` returns; mistakes that a person can mend are one line."""
    try:
        sys.exit(main() or 0)
    except (StreamDeblurError, FFmpegError, OSError, ValueError) as error:
        print(f"{Path(sys.argv[0]).stem}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)


def size(text: str) -> tuple[int, int]:
    """Width and height from `WxH`; a type for argparse."""
    width, height = map(int, values.size(text).split("x"))
    return width, height


def clip_size(text: str) -> str:
    """The same as text, of clips that are made here; a type for argparse."""
    if any(side % 2 for side in size(text)):
        raise argparse.ArgumentTypeError(f"{text} has an odd side: H.264 in 4:2:0 takes even ones")
    return text


def _output(text: str) -> Path:
    path = Path(text)
    refuse_paths(path, path, None, overwrite=True)
    return path


def take_turns(
    cases: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    calls: int = 1,
    warm_up: int = 1,
    clock: str = "wall",
    finish: Callable[[], object] = lambda: None,
) -> Times:
    """Time every case once a round, in turns, so that all meet the same machine.

    Args:
        cases: what to call.
        rounds: how often each is timed.
        calls: calls a measurement, for cases too short for one.
        warm_up: measurements of each that are thrown away.
        clock: one of `CLOCKS`.
        finish: waits for what the calls only began, on a GPU.
    """
    now = CLOCKS[clock]
    times: Times = {name: [] for name in cases}
    for turn in range(warm_up + rounds):
        for name, call in cases.items():
            began = now()
            for _ in range(calls):
                call()
            finish()
            if turn >= warm_up:
                times[name].append((now() - began) / calls)
    return times


def ratio(times: Times, case: str, base: str) -> float:
    """Time of `case` against that of `base`: the median over the rounds of what each round says."""
    return median(one / other for one, other in zip(times[case], times[base], strict=True))


def in_milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """The columns of a time: median, and from where to where the rounds went."""
    return {
        "ms": 1e3 * median(seconds),
        "from": 1e3 * min(seconds),
        "to": 1e3 * max(seconds),
    }


TIME = {"ms": ".1f", "from": ".1f", "to": ".1f"}
"""How the columns of `in_milliseconds` are written."""


def show(title: str, columns: Mapping[str, str], rows: Sequence[Row]) -> None:
    """Print a table; `columns` holds each one's format, as of `format()`."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_written(row.get(name), form) for name, form in columns.items()))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a file has no edge at 80
    console.print(table)


def _written(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def machine() -> dict[str, Any]:
    """What the figures depend on, as far as the system says."""
    name, flags = _processor()
    facts: dict[str, Any] = {
        "processor": name,
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "instructions": [each for each in _EXTENSIONS if each in flags],
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if hasattr(os, "getloadavg"):
        facts["load"] = round(os.getloadavg()[0], 2)
    return facts | _versions()


def say_machine() -> dict[str, Any]:
    """Print the machine's facts in two lines, and return them."""
    facts = machine()
    shown = {key: value for key, value in facts.items() if value}
    first = ["processor", "cores", "instructions", "gpu", "load"]
    print(", ".join(_fact(key, shown[key]) for key in first if key in shown))
    print(", ".join(f"{key} {value}" for key, value in shown.items() if key not in first))
    return facts


def _fact(key: str, value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return f"{value} {key}" if key == "cores" else f"load {value}" if key == "load" else str(value)


def write(path: Path | None, facts: Mapping[str, Any], **figures: Any) -> None:
    """Write the machine's facts and the figures as JSON, if there is a `path`."""
    if path:
        path.write_text(json.dumps({"machine": facts, **figures}, indent=1) + "\n")


def peak_memory(command: Sequence[str]) -> float | None:
    """Megabytes that a command held at most; None on Windows.

    The largest child of this process so far counts: measure the largest picture first.
    """
    subprocess.run(command, check=True)
    if sys.platform == "win32":
        return None
    import resource

    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit


def resident() -> float:
    """Megabytes that this process holds: now on Linux, elsewhere the most so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def _processor() -> tuple[str, set[str]]:
    """Its name and its flags, where Linux tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    values = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    name = values.get("model name") or platform.machine()
    return name, set((values.get("flags") or values.get("Features") or "").split())


def _gpu() -> str | None:
    """Name and driver of the first NVIDIA GPU."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0] if done.stdout else None


def _versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
