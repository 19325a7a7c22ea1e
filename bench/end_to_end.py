"""How much of the network's own speed is left at the end of the whole road, in one run.

Deblurs a clip from file to file, runs the network alone on the same frames, and lets FFmpeg alone
transcode the same clip with the same encoder, in turns. Prints frames per second of each, the
ratio of the whole road to the network, the time that each stage was at work per frame, and the
peak memory of the whole command.

    python -m bench.end_to_end
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import av

from bench import harness
from streamdeblur.deblurrer import DEFAULT_MODEL, Deblurrer
from streamdeblur.frames import Frame
from streamdeblur.pipeline import run
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource
from streamdeblur.values import whole

SAMPLE = Path(__file__).parent.parent / "samples" / "pavilion.mp4"
ENCODER, CRF = "libx264", 17
"""As the command chooses for a clip of H.264."""


@dataclass(frozen=True)
class Round:
    """One pass over the clip: seconds a frame of each; stages overlap."""

    model: float
    whole: float
    ffmpeg: float | None
    stages: dict[str, float]

    @property
    def ratio(self) -> float:
        """Frames a second end to end against those of the model alone."""
        return self.model / self.whole


def main() -> None:
    """Measure at each size and print the table."""
    parser = harness.parser("bench.end_to_end", __doc__, rounds=3)
    parser.add_argument("--clip", type=Path, default=SAMPLE, help="source of the pictures")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or file")
    parser.add_argument("--device", default="auto", help="as of streamdeblur")
    parser.add_argument("--precision", default="auto", help="as of streamdeblur")
    parser.add_argument("--sizes", nargs="+", type=harness.clip_size, metavar="WxH",
        default=["1280x720", "640x480"])  # fmt: skip
    parser.add_argument("--frames", type=whole(1), default=60, help="frames a round (default 60)")
    parser.add_argument("--preset", default="veryfast", help="of x264 (default veryfast)")
    args = parser.parse_args()

    deblurrer = Deblurrer.load(args.model, device=args.device, precision=args.precision)
    facts = harness.say_machine()
    rows: list[dict[str, Any]] = []
    peak = None
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "clip.mp4"
            write_clip(args.clip, clip, *harness.size(size), args.frames)
            rounds = [measure(clip, deblurrer, args.preset) for _ in range(args.rounds)]
            if not rows:
                wishes = ["--device", args.device, "--precision", args.precision]
                peak = peak_memory(clip, args.model, args.preset, wishes)
        rows.append(row(size, rounds))
    title = f"{deblurrer.spec.name} {deblurrer.precision} on {deblurrer.provider}, "
    title += f"{args.frames} frames a round, {ENCODER} {args.preset}, frames/s and ms a frame"
    harness.show(title, COLUMNS | dict.fromkeys(rounds[0].stages, ".1f"), rows)
    if peak:
        print(f"peak memory {peak:.0f} MB, at {args.sizes[0]}")
    harness.write(args.json, facts, title=title, sizes=rows, peak_mb=peak)


def write_clip(source: Path, target: Path, width: int, height: int, frames: int) -> None:
    """A clip of that size and length: the source's pictures, scaled, forwards and backwards."""
    with av.open(str(source)) as container:
        pictures = [
            frame.to_ndarray(format="rgb24", width=width, height=height)
            for frame in container.decode(video=0)
        ]
    loop = pictures + pictures[::-1]
    with av.open(str(target), "w") as output:
        stream = output.add_stream(ENCODER, rate=Fraction(30), options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            output.mux(
                stream.encode(av.VideoFrame.from_ndarray(loop[index % len(loop)], format="rgb24"))
            )
        output.mux(stream.encode())


def measure(clip: Path, deblurrer: Deblurrer, preset: str) -> Round:
    """One pass of each kind; the first frame of all is warm-up, in `Deblurrer.load`."""
    with FileSource(clip) as source:
        frames = list(source)
    count = len(frames)
    alone = time_alone(deblurrer, frames)
    with (
        FileSource(clip) as source,
        FileSink(
            clip.with_name("sharp.mp4"),
            source.info,
            copy_from=source,
            codec=ENCODER,
            crf=CRF,
            preset=preset,
            overwrite=True,
        ) as sink,
    ):
        began = time.perf_counter()
        progress = run(source, deblurrer, sink)
    seconds = time.perf_counter() - began  # with the flush of the encoder and the rename
    ffmpeg = time_ffmpeg(clip, preset)
    return Round(
        alone / count,
        seconds / count,
        None if ffmpeg is None else ffmpeg / count,
        {name: busy / count for name, busy in progress.busy.items()},
    )


def time_alone(deblurrer: Deblurrer, frames: list[Frame]) -> float:
    """Seconds for all frames, as many at a time as on the road, nothing else running."""
    for frame in frames:
        assert frame.image is not None  # made before the time counts
    began = time.perf_counter()
    for _ in deblurrer.stream(frames):
        pass
    return time.perf_counter() - began


def time_ffmpeg(clip: Path, preset: str) -> float | None:
    """Seconds of FFmpeg's own program for decoding and encoding alike; None if there is none."""
    if not shutil.which("ffmpeg"):
        return None
    encoder = ["-c:v", ENCODER, "-preset", preset, "-crf", str(CRF)]
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(clip), *encoder]
    began = time.perf_counter()
    subprocess.run([*command, str(clip.with_name("ffmpeg.mp4"))], check=True)
    return time.perf_counter() - began


COLUMNS = {
    "size": "",
    "model alone": ".2f",
    "end to end": ".2f",
    "ratio": ".2f",
    "from": ".2f",
    "to": ".2f",
    "ffmpeg alone": ".1f",
}


def row(size: str, rounds: list[Round]) -> dict[str, Any]:
    """The medians of the rounds, with the spread of the ratio; stages in ms."""
    ratios = [each.ratio for each in rounds]
    ffmpeg = [each.ffmpeg for each in rounds if each.ffmpeg is not None]
    stages = {name: 1e3 * median(each.stages[name] for each in rounds) for name in rounds[0].stages}
    return {
        "size": size,
        "model alone": median(1 / each.model for each in rounds),
        "end to end": median(1 / each.whole for each in rounds),
        "ratio": median(ratios),
        "from": min(ratios),
        "to": max(ratios),
        "ffmpeg alone": 1 / median(ffmpeg) if ffmpeg else None,
        **stages,
    }


def peak_memory(clip: Path, model: str, preset: str, wishes: list[str]) -> float | None:
    """Megabytes that the command held at most, in a process of its own; None on Windows."""
    command = [sys.executable, "-m", "streamdeblur", str(clip), "--quiet", *wishes]
    target = str(clip.with_name("memory.mp4"))
    return harness.peak_memory([*command, "-o", target, "--model", model, "--preset", preset])


if __name__ == "__main__":
    harness.command(main)
