"""How much of the network's own speed is left at the end of the whole road, in one run.

Deblurs a clip from file to file and runs the network alone on the same frames, in turns, so that
both meet the same machine. Prints frames per second of either, their ratio, the time that each
stage was at work per frame, and the peak memory.

    python bench/end_to_end.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from streamdeblur.deblurrer import DEFAULT_MODEL, Deblurrer
from streamdeblur.pipeline import run
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource

SAMPLE = Path(__file__).parent.parent / "samples" / "pavilion.mp4"


@dataclass(frozen=True)
class Round:
    """One pass over the clip. Stages in milliseconds of work per frame; they overlap."""

    model_fps: float
    end_to_end_fps: float
    stages: dict[str, float]

    @property
    def ratio(self) -> float:
        """End to end against the model alone."""
        return self.end_to_end_fps / self.model_fps


def main() -> None:
    """Measure at each size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--clip", type=Path, default=SAMPLE, help="source of the pictures")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or file")
    parser.add_argument("--sizes", nargs="+", default=["1280x720", "640x480"], metavar="WxH")
    parser.add_argument("--frames", type=int, default=60, help="frames a round (default 60)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds a size (default 3)")
    parser.add_argument("--preset", default="veryfast", help="of x264 (default veryfast)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()

    deblurrer = Deblurrer.load(args.model)
    print(
        f"{deblurrer.spec.name} {deblurrer.precision} on {deblurrer.provider}, onnxruntime "
        f"{onnxruntime.__version__}, av {av.__version__}, {os.cpu_count()} cores, "
        f"{platform.machine()}, {args.frames} frames x {args.rounds} rounds, x264 {args.preset}"
    )
    results: dict[str, list[dict[str, object]]] = {}
    peak = None
    for size in args.sizes:
        width, height = map(int, size.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "clip.mp4"
            write_clip(args.clip, clip, width, height, args.frames)
            rounds = [measure(clip, deblurrer, args.preset) for _ in range(args.rounds)]
            if not results:
                peak = peak_memory(clip, args.model, args.preset)
        results[size] = [asdict(each) | {"ratio": each.ratio} for each in rounds]
        print(line(size, rounds))
    if peak:
        print(f"peak memory {peak:.0f} MB, at {args.sizes[0]}")
    if args.json:
        args.json.write_text(json.dumps({"sizes": results, "peak_mb": peak}, indent=1) + "\n")


def write_clip(source: Path, target: Path, width: int, height: int, frames: int) -> None:
    """A clip of that size and length: the source's pictures, scaled, forwards and backwards."""
    with av.open(str(source)) as container:
        pictures = [
            frame.to_ndarray(format="rgb24", width=width, height=height)
            for frame in container.decode(video=0)
        ]
    loop = pictures + pictures[::-1]
    with av.open(str(target), "w") as output:
        stream = output.add_stream("libx264", rate=Fraction(30), options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            output.mux(
                stream.encode(av.VideoFrame.from_ndarray(loop[index % len(loop)], format="rgb24"))
            )
        output.mux(stream.encode())


def measure(clip: Path, deblurrer: Deblurrer, preset: str) -> Round:
    """One pass of either kind; the first frame of both is warm-up, in `Deblurrer.load`."""
    with FileSource(clip) as source:
        images = [frame.image for frame in source]
    alone = time_alone(deblurrer, images)
    target = clip.with_name("sharp.mp4")
    with (
        FileSource(clip) as source,
        FileSink(target, source.info, copy_from=source, preset=preset, overwrite=True) as sink,
    ):
        began = time.perf_counter()
        progress = run(source, deblurrer, sink)
    seconds = time.perf_counter() - began  # with the flush of the encoder and the rename
    stages = {name: 1e3 * busy / len(images) for name, busy in progress.busy.items()}
    return Round(len(images) / alone, len(images) / seconds, stages)


def time_alone(deblurrer: Deblurrer, images: list[NDArray[np.uint8]]) -> float:
    """Seconds for all images, nothing else running."""
    deblurrer(images[0][np.newaxis])
    began = time.perf_counter()
    for image in images:
        deblurrer(image[np.newaxis])
    return time.perf_counter() - began


def line(size: str, rounds: list[Round]) -> str:
    """The medians of the rounds, with the spread of the ratio."""
    ratios = [each.ratio for each in rounds]
    stages = ", ".join(
        f"{name} {median(each.stages[name] for each in rounds):.1f} ms" for name in rounds[0].stages
    )
    return (
        f"{size}: model alone {median(r.model_fps for r in rounds):.2f} frames/s, end to end "
        f"{median(r.end_to_end_fps for r in rounds):.2f}, ratio {median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}); a frame: {stages}"
    )


def peak_memory(clip: Path, model: str, preset: str) -> float | None:
    """Megabytes that the command held at most, in a process of its own; None on Windows.

    The maximum over the children of this process: measure the largest picture first.
    """
    if sys.platform == "win32":
        return None
    import resource

    target = clip.with_name("memory.mp4")
    command = [sys.executable, "-m", "streamdeblur", str(clip), "-o", str(target), "--quiet"]
    subprocess.run([*command, "--model", model, "--preset", preset], check=True)
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit


if __name__ == "__main__":
    main()
