"""Tries the command on thousands of damaged files; for Linux.

Clips are made in many containers and codecs, and cut from those that are given. Each trial damages
one and runs `streamdeblur` on it in a process of its own, forked from one that has loaded
everything, with a limit of time and memory. Judged: no crash, no traceback, no hang, nothing said
but lines of ours, exit code 0 or 1, the input untouched, no partial file; an output only with exit
code 0 or a line that calls the input damaged, and then with all the frames that were announced,
as another process counts them, and sometimes the ffmpeg program.

A trial depends on its seed and number alone:

    python -m bench.fuzz --trials 10000 --seed 1 samples/*.mp4
    python -m bench.fuzz --seed 1 --only 4711 samples/*.mp4       # once more
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process with threads should not fork

import av

# All that a trial needs is imported here, once.
import streamdeblur.job
import streamdeblur.photos  # noqa: F401
from bench import harness
from bench.corpus import make_clips
from bench.mutations import Clip, mutated
from streamdeblur.cli import main as command
from streamdeblur.inputs import is_image_file
from streamdeblur.ledger import NAME
from streamdeblur.resume import work_folder
from tests.tiny_onnx import invert

_SECONDS, _CPU_SECONDS = 120, 30  # the first is long: the machine may have other work
_MEMORY = 3 << 30  # bytes of address space beyond what the program's libraries take
_DISK = 1 << 29
_BUG = 70  # the exit code of a traceback
_REASONS = 12  # for exit code 1 that are printed
_JUDGED_BY_FFMPEG = 20  # each so manieth output
# What PyAV prints if a decoder's thread meets damage in the very moment in which its log is turned
# off (av.logging.set_level(None), 18.1): harmless, counted, and no finding.
_LOG_RACE = re.compile(
    r"^av\.logging: exception while handling .*\n(?:(?!streamdeblur: ).*\n)*", re.M
)
_OPTIONS = (
    *[[]] * 24,
    ["--start", "0.1"],
    ["--duration", "0.2"],
    ["--start", "0.1", "--duration", "0.1"],
    ["--compare"],
    ["--strength", "0.5"],
    *[["--resume"]] * 2,
    *(["-o", f"out.{kind}"] for kind in ("mkv", "mp4", "mov", "webm", "avi", "ts")),
)


@dataclass(frozen=True)
class Outcome:
    """What came of one trial."""

    number: int
    clip: str
    ways: tuple[str, ...]
    """How the clip was damaged."""
    options: tuple[str, ...]
    end: str
    """In words: how the run ended."""
    complaint: str
    """What is wrong with that; empty if nothing."""
    cpu: float
    """Seconds of processor time."""
    memory: float
    """Most memory that the process had, in MB."""
    said: str
    """On stderr."""


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    """Its exit code, or the negative number of a signal."""
    hung: bool
    cpu: float
    memory: float


def forked(work: Callable[[], int | None], folder: Path) -> Ended:
    """Run `work` in a process of its own, within the limits, its output in files of `folder`."""
    process = os.fork()
    if not process:
        _become(folder)
        try:
            code = work() or 0
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else _BUG
        except BaseException:
            traceback.print_exc()
            code = _BUG
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    handle = os.pidfd_open(process)
    hung = not select.select([handle], [], [], _SECONDS)[0]
    if hung:
        os.kill(process, signal.SIGKILL)
    os.close(handle)
    _, status, used = os.wait4(process, 0)
    return Ended(
        os.waitstatus_to_exitcode(status),
        hung,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 1024,
    )


def _become(folder: Path) -> None:
    """Make this process one that has its own folder, output and limits."""
    os.chdir(folder)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = {
        resource.RLIMIT_AS: taken + _MEMORY,
        resource.RLIMIT_CPU: _CPU_SECONDS,
        resource.RLIMIT_FSIZE: _DISK,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


class Fuzzer:
    """Makes clips once, and trials of them by number."""

    def __init__(self, folder: Path, seed: int, more: list[Path], keep: Path | None) -> None:
        self._folder, self._seed, self._keep = folder, seed, keep
        (folder / "model.onnx").write_bytes(invert())
        made = folder / "made"
        made.mkdir()
        ended = forked(lambda: harness.command(lambda: make_clips(made, more)), folder)
        if ended.code:
            raise SystemExit((folder / "stderr").read_text())
        self._clips = [Clip.read(path) for path in sorted(made.iterdir())]

    def trial(self, number: int) -> Outcome:
        """Damage a clip, run the command on it, and judge what came of it."""
        rng = random.Random(f"{self._seed}/{number}")
        clip = rng.choice(self._clips)
        ways, data = mutated(rng, clip, self._clips)
        options = rng.choice(_OPTIONS)
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            source = folder / clip.name
            source.write_bytes(data)
            output = folder / (options[1] if "-o" in options else _default(clip.name))
            arguments = [clip.name, "-m", "../model.onnx", "--threads", "1", *options]
            ended = forked(lambda: _run(arguments), folder)
            said = (folder / "stderr").read_text(errors="replace")
            complaint = self._judged(folder, source, data, output, ended, said, number)
            if self._keep and complaint:
                self._keep.mkdir(exist_ok=True)
                shutil.copy(source, self._keep / f"{self._seed}-{number}-{clip.name}")
            how = ("exit 0", "exit 1, no output", "exit 1, what could be read")
            code = ended.code + (ended.code == 1 and output.exists())
            words = how[code] if 0 <= code < len(how) else f"exit {ended.code}"
        return Outcome(
            number, clip.name, tuple(ways), tuple(options), words, complaint, ended.cpu,
            ended.memory, said,
        )  # fmt: skip

    def _judged(
        self,
        folder: Path,
        source: Path,
        data: bytes,
        output: Path,
        ended: Ended,
        said: str,
        number: int,
    ) -> str:
        """What is wrong with how a run ended; empty if nothing."""
        lines = _LOG_RACE.sub("", said).splitlines()
        if ended.hung:
            return f"hung for {_SECONDS} s"
        if ended.code < 0:
            name = signal.Signals(-ended.code).name
            return f"took {_CPU_SECONDS} s" if name in ("SIGXCPU", "SIGKILL") else f"died by {name}"
        if ended.code not in (0, 1):
            return next(
                (line for line in reversed(lines) if "Error" in line), f"exit code {ended.code}"
            )
        errors = [line for line in lines if line.startswith("streamdeblur: error: ")]
        if len(errors) != ended.code or (errors and lines[-1] != errors[0]):
            return f"{len(errors)} lines of error with exit code {ended.code}"
        if foreign := [line for line in lines if not line.startswith("streamdeblur: ")]:
            return f"not ours on stderr: {foreign[0][:200]}"
        if (folder / "stdout").stat().st_size:
            return "something on stdout"
        if hashlib.sha256(source.read_bytes()).digest() != hashlib.sha256(data).digest():
            return "the input was changed"
        there = {path.name for path in folder.iterdir()} - {"stdout", "stderr", NAME, source.name}
        kept = (
            {work_folder(output).name}
            if ended.code and "frames are kept in" in errors[0]
            else set()
        )
        if there - {output.name} - kept:
            return f"left over: {there - {output.name} - kept}"
        if output.name not in there:
            return "" if ended.code else "exit code 0 without an output"
        if ended.code and "damaged" not in errors[0]:
            return "an output beside an error"
        return _played(output, said, number)


def _played(output: Path, said: str, number: int) -> str:
    """What is wrong with an output; empty if it has the frames that were announced."""
    found = re.search(r": (\d+) frames? in ", said)
    if not found and not is_image_file(output.name):
        return "no summary"
    frames = int(found[1]) if found else 1
    if forked(lambda: _counted(output) != frames, output.parent).code:
        return f"the output has not the {frames} frames announced"
    if number % _JUDGED_BY_FFMPEG or not shutil.which("ffmpeg"):
        return ""
    play = ["ffmpeg", "-v", "error", "-i", output.name, "-map", "0:v:0", "-f", "null", "-"]
    done = subprocess.run(play, cwd=output.parent, capture_output=True, text=True)
    return f"ffmpeg: {done.stderr.splitlines()[-1]}" if done.returncode else ""


def _run(arguments: list[str]) -> int:
    code = command(arguments)
    if left := [thread for thread in threading.enumerate() if thread.name == "streamdeblur"]:
        print(f"RuntimeError: {len(left)} threads left", file=sys.stderr)
        return _BUG
    return code


def _counted(path: Path) -> int:
    """Frames of a file that can be decoded; an error is a traceback."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def _default(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    return f"{stem}.deblurred.{kind}"


def main() -> int:
    """Try, and print the counts and every finding; exit code 1 if there is one."""
    parser = harness.parser("bench.fuzz", __doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="N", help="one trial, with what it said")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for files with a finding")
    parser.add_argument("clips", type=Path, nargs="*", help="real clips, of which some are cut")
    args = parser.parse_args()
    args.clips = [path.absolute() for path in args.clips]
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder), args.seed, args.clips, args.keep)
        if args.only is not None:
            outcome = fuzzer.trial(args.only)
            print(outcome.said, outcome, sep="\n")
            return bool(outcome.complaint)
        return _report(fuzzer, range(args.first, args.first + args.trials), args)


_fuzzer: Fuzzer  # of the process that forks the trials


def _trial(number: int) -> Outcome:
    return _fuzzer.trial(number)


def _report(fuzzer: Fuzzer, numbers: range, args: argparse.Namespace) -> int:
    global _fuzzer
    _fuzzer = fuzzer
    outcomes: list[Outcome] = []
    began = time.monotonic()
    with multiprocessing.get_context("fork").Pool(args.jobs) as pool:
        for outcome in pool.imap_unordered(_trial, numbers):
            outcomes.append(outcome)
            if outcome.complaint:
                print(f"--only {outcome.number}: {_in_words(outcome)}", flush=True)
            if len(outcomes) % 500 == 0:
                print(f"{len(outcomes)} trials, {time.monotonic() - began:.0f} s", flush=True)
    findings = [outcome for outcome in outcomes if outcome.complaint]
    print(f"seed {args.seed}, trials {numbers.start} to {numbers.stop - 1}")
    for words, count in Counter(outcome.end for outcome in outcomes).most_common():
        print(f"{count:6} {words}")
    for title, of in (("damage", lambda o: o.ways), ("clip", lambda o: (o.clip,))):
        tried = Counter(name for outcome in outcomes for name in of(outcome))
        print(f"by {title}: " + ", ".join(f"{name} {n}" for name, n in tried.most_common()))
    reasons = Counter(_reason(outcome.said) for outcome in outcomes if "exit 1" in outcome.end)
    for words, count in reasons.most_common(_REASONS):
        print(f"{count:6} said {words}")
    cpu, memory = ([getattr(o, what) for o in outcomes] for what in ("cpu", "memory"))
    print(f"processor time {mean(cpu):.3f} s in the mean, {max(cpu):.1f} s at most")
    print(f"memory {max(memory):.0f} MB at most")
    races = sum(bool(_LOG_RACE.search(outcome.said)) for outcome in outcomes)
    print(f"findings: {len(findings)}, and {races} lines of PyAV's log")
    for words, count in Counter(outcome.complaint for outcome in findings).most_common():
        print(f"{count:6} {words}")
    return bool(findings)


def _reason(said: str) -> str:
    """The last line without names and numbers."""
    line = said.splitlines()[-1].removeprefix("streamdeblur: error: ")
    return re.sub(r"\S+\.(\w+)", r"FILE.\1", re.sub(r"\d+", "N", line))[:120]


def _in_words(outcome: Outcome) -> str:
    ways, options = ", ".join(outcome.ways), " ".join(outcome.options)
    return f"{outcome.clip} ({ways}) {options}: {outcome.complaint}"


if __name__ == "__main__":
    harness.command(main)
