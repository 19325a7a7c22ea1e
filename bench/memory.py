"""Whether memory grows over a long file: its curve, and the slope of its second half.

A file of small frames goes through the whole road, from file to file; what a process would lose
with each frame it loses with small ones as well. The slope is that of the least squares over the
second half of the frames, when caches are full.

    python -m bench.memory --frames 100000
"""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from bench import harness
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.pipeline import Progress, run
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource
from streamdeblur.values import whole
from tests.tiny_onnx import identity

_LINES = 20  # of the curve that are printed
_SAMPLES = 200


def main() -> None:
    """Run, and print the figures."""
    parser = harness.parser("bench.memory", __doc__)
    parser.add_argument("--frames", type=whole(1), default=100_000)
    parser.add_argument("--size", type=harness.clip_size, default="64x48", metavar="WxH")
    parser.add_argument("--model", help="name or file; by default a network of one identity node")
    args = parser.parse_args()
    facts = harness.say_machine()
    with tempfile.TemporaryDirectory() as folder:
        clip, tiny = Path(folder, "clip.mkv"), Path(folder, "tiny.onnx")
        tiny.write_bytes(identity())
        network = Deblurrer.load(args.model or tiny)
        write_clip(clip, args.frames, harness.size(args.size))
        curve = measured(clip, Path(folder, "out.mkv"), network)
    for frame, memory in curve[:: max(1, len(curve) // _LINES)]:
        print(f"{frame:>8} frames {memory:8.1f} MB")
    slope = slope_of(curve)
    most = max(memory for _, memory in curve)
    print(f"second half: {slope:+.3f} MB in 10,000 frames; most {most:.1f} MB")
    harness.write(args.json, facts, curve=curve, slope=slope, most=most)


def write_clip(path: Path, frames: int, size: tuple[int, int]) -> None:
    """A clip of noise that repeats, with sound beside it."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (size[1], size[0], 3), np.uint8) for _ in range(16)]
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height = size
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 25)
        for pts in range(frames):
            frame = av.VideoFrame.from_ndarray(pictures[pts % 16], format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def measured(clip: Path, output: Path, network: Deblurrer) -> list[tuple[int, float]]:
    """Frames written and megabytes held, some 200 times while a clip is deblurred."""
    curve: list[tuple[int, float]] = []
    with FileSource(clip) as source:
        total = source.info.frame_count or round((source.info.duration or 1) * source.info.rate)
        every = max(1, total // _SAMPLES)

        def watch(progress: Progress) -> None:
            if progress.written % every == 0:
                curve.append((progress.written, harness.resident()))

        with FileSink(output, source.info, copy_from=source, preset="ultrafast") as sink:
            run(source, network, sink, on_progress=watch)
    return curve


def slope_of(curve: list[tuple[int, float]]) -> float:
    """Megabytes that are added in 10,000 frames, over the second half."""
    frames, memory = np.array(curve[len(curve) // 2 :]).T
    return float(1e4 * np.polyfit(frames, memory, 1)[0])


if __name__ == "__main__":
    harness.command(main)
