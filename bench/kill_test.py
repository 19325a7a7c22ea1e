"""Interrupts runs with `--resume` by SIGKILL, and compares what comes out in the end.

    python bench/kill_test.py                  # a hundred interruptions
    python bench/kill_test.py --kills 10 --seed 3

Two ways in turn: at a random moment, and at the n-th time that something is forced to the disk,
renamed or removed, where a mistake would do most harm. After each kill there must be either no
output, or a complete one. When a run ends by itself its output must be that of a run that nobody
interrupted, frame for frame in time and content, sound included, and nothing else may be left.
Clips in five codecs, with frames of uneven times; the network is one node, so that encoding and
writing take all of the time. Needs FFmpeg's command for `framemd5`. The exit code is 1 if anything
was wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.clips import write_clip  # noqa: E402
from tests.tiny_onnx import invert  # noqa: E402

# Codec, container, and layout of the clips.
CODECS = {
    "libx264": ("mp4", "yuv420p"),
    "libx265": ("mp4", "yuv420p10le"),
    "ffv1": ("mkv", "yuv422p10le"),
    "libvpx-vp9": ("webm", "yuv420p"),
    "libsvtav1": ("mkv", "yuv420p"),
}
QUIET = {"libx265": {"x265-params": "log-level=none"}}
# The command, in a process that ends without any farewell at its n-th call of one of these.
DOOMED = """\
import os, sys, shutil
left = int(sys.argv.pop(1))
def doomed(call):
    def counted(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os._exit(137)
        return call(*arguments, **options)
    return counted
os.fsync, os.replace, os.unlink = doomed(os.fsync), doomed(os.replace), doomed(os.unlink)
os.link = doomed(os.link)
from streamdeblur.cli import main
sys.exit(main())
"""


def main() -> int:
    """Interrupt and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--frames", type=int, default=330, help="of each clip")
    parser.add_argument("--codecs", nargs="+", choices=CODECS, default=list(CODECS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not shutil.which("ffmpeg"):
        parser.error("the ffmpeg program is missing, which compares what comes out")
    os.environ["SVT_LOG"] = "1"  # errors only
    rng, counts = random.Random(options.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        trials = [Trial(Path(folder), codec, options.frames) for codec in options.codecs]
        began = time.perf_counter()
        while counts["kills"] < options.kills:
            trial = trials[counts["finished"] % len(trials)]
            trial.interrupted_until_done(rng, counts, options.kills)
        seconds = time.perf_counter() - began
    for words in ("kills", "at a call", "with work kept", "output complete", "finished"):
        print(f"{words:<16} {counts[words]}")
    wrong = {words: counts[words] for words in counts if words.startswith("WRONG")}
    print(*[f"{words}: {count}" for words, count in wrong.items()] or ["nothing was wrong"])
    print(f"{seconds:.0f} s, seed {options.seed}")
    return 1 if wrong else 0


class Trial:
    """A clip, and what an uninterrupted run makes of it."""

    def __init__(self, folder: Path, codec: str, frames: int) -> None:
        kind, pix_fmt = CODECS[codec]
        self.folder = folder / codec
        self.folder.mkdir()
        self.clip, self.output = (self.folder / f"{name}.{kind}" for name in ("clip", "out"))
        self.model = self.folder / "model.onnx"
        self.model.write_bytes(invert())
        rng = random.Random(1)
        times = [index * 40 + rng.randrange(20) + (index > 210) * 3000 for index in range(frames)]
        write_clip(
            self.clip,
            codec=codec,
            pix_fmt=pix_fmt,
            pts=times,
            time_base=Fraction(1, 1000),
            options=QUIET.get(codec),
            audio=kind != "webm",
            size=(160, 96),
        )
        began = time.perf_counter()
        subprocess.run(self.command(), check=True, cwd=ROOT)
        self.seconds = time.perf_counter() - began
        self.wanted = frame_hashes(self.output)
        assert len(self.wanted) >= frames
        self.output.unlink()
        self.names = {path.name for path in self.folder.iterdir()}

    def command(self, doom: int | None = None) -> list[str]:
        """What is run; with `doom`, so that it ends at that call."""
        program = ["-m", "streamdeblur"] if doom is None else ["-c", DOOMED, str(doom)]
        files = [str(self.clip), "-o", str(self.output), "-m", str(self.model)]
        return [sys.executable, *program, *files, "--resume", "--quiet"]

    def interrupted_until_done(self, rng: random.Random, counts: Counter[str], kills: int) -> None:
        """Run and kill until a run ends by itself, or there were kills enough."""
        while True:
            if counts["kills"] >= kills:
                code = subprocess.run(self.command(), cwd=ROOT).returncode
            elif rng.random() < 0.5:
                code = subprocess.run(self.command(rng.randint(1, 25)), cwd=ROOT).returncode
                counts["at a call"] += code == 137
            else:
                code = self.killed_after(rng.uniform(0.2, 1.1) * self.seconds)
            if code in (137, -9):
                counts["kills"] += 1
                counts["with work kept"] += (self.folder / f"{self.output.name}.part").exists()
                if self.output.exists():
                    counts["output complete"] += 1
                    counts["WRONG: an output not whole"] += self.differs()
                continue
            counts["WRONG: exit code"] += code != 0
            break
        counts["finished"] += 1
        counts["WRONG: a result that differs"] += self.differs()
        left = {path.name for path in self.folder.iterdir()} - self.names - {self.output.name}
        counts["WRONG: files left over"] += bool(left)
        self.output.unlink(missing_ok=True)
        for name in [words for words in counts if not counts[words]]:
            del counts[name]

    def killed_after(self, seconds: float) -> int:
        """The exit code of a run that is given so long."""
        process = subprocess.Popen(self.command(), cwd=ROOT)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def differs(self) -> bool:
        """Whether the output is missing, or is not what an uninterrupted run makes."""
        return not self.output.exists() or frame_hashes(self.output) != self.wanted


def frame_hashes(path: Path) -> list[str]:
    """FFmpeg's line for every frame of every track: time, length, MD5 of the content."""
    program = ["ffmpeg", "-v", "error", "-copyts", "-i", str(path)]
    flags = ["-map", "0", "-fps_mode", "passthrough", "-enc_time_base", "-1"]
    done = subprocess.run(
        [*program, *flags, "-f", "framemd5", "-"], capture_output=True, text=True, check=True
    )
    return [line for line in done.stdout.splitlines() if not line.startswith("#")]


if __name__ == "__main__":
    sys.exit(main())
