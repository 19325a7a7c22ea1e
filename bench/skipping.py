"""What `--skip-sharp` saves, and what it costs against asking the network about every frame.

For each clip: the share of frames that the network was spared, the time that this took against the
time without, in turns, and how far the results are apart. With --truth, a folder of sharp frames
beside a folder of blurred ones (both as images), also how near both ways come to it: for the
blurred frames, and for ten sharp frames in turn with ten blurred ones.

    python -m bench.skipping clip.mp4 --frames 120 --truth val-video/sharp --blurred val-video/blur
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from bench import harness
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.frames import Image
from streamdeblur.images import read_image
from streamdeblur.skipping import SkipSharp
from streamdeblur.sources import FileSource
from streamdeblur.values import whole

_TURN = 10  # frames, sharp and blurred
_MOST_DB = 60.0  # what a frame that equals the truth counts as


def main() -> None:
    """Measure and print."""
    parser = harness.parser("bench.skipping", __doc__)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--frames", type=whole(1), default=100, help="of each clip, from its start")
    parser.add_argument("--model", default="fast")
    parser.add_argument("--truth", type=Path, metavar="FOLDER")
    parser.add_argument("--blurred", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    if bool(args.truth) != bool(args.blurred) or not (args.clips or args.truth):
        parser.error("give clips, or both --truth and --blurred")
    facts = harness.say_machine()
    network = Deblurrer.load(args.model)
    rows = [compared(clip.name, frames_of(clip, args.frames), network) for clip in args.clips]
    if args.truth:
        sharp, blurred = map(pictures_of, (args.truth, args.blurred))
        if [each.shape for each in sharp] != [each.shape for each in blurred]:
            raise ValueError(f"{args.truth} and {args.blurred} differ in number or size")
        mixed = [
            one if index // _TURN % 2 == 0 else other
            for index, (one, other) in enumerate(zip(sharp, blurred, strict=True))
        ]
        rows.append(compared("blurred", blurred, network, sharp))
        rows.append(compared("in turns", mixed, network, sharp))
    columns = {"clip": "", "frames": "d", "spared %": ".0f", "time": ".2f", "apart dB": ".1f"}
    if args.truth:
        columns |= {"input dB": ".2f", "always dB": ".2f", "skipping dB": ".2f"}
    harness.show("time: that of skipping against that of always asking", columns, rows)
    harness.write(args.json, facts, rows=rows)


def pictures_of(folder: Path) -> list[Image]:
    """The pictures of a folder, in the order of their names."""
    paths = sorted(folder.iterdir())
    if not paths:
        raise ValueError(f"no pictures in {folder}")
    return [read_image(path).view for path in paths]


def frames_of(clip: Path, most: int) -> list[Image]:
    """The first frames of a clip."""
    with FileSource(clip) as source:
        return [frame.image for frame in islice(source, most)]


def compared(
    name: str,
    frames: Sequence[Image],
    network: Callable[[Image], Image],
    truth: Sequence[Image] | None = None,
) -> harness.Row:
    """Both ways, frame by frame in turns."""
    skipping = SkipSharp(network)
    spent = {"always": 0.0, "skipping": 0.0}
    errors: dict[str, list[float]] = {"apart": [], "input": [], "always": [], "skipping": []}
    network(frames[0])  # the first of a size is slow
    for index, frame in enumerate(frames):
        began = time.perf_counter()
        always = network(frame)
        between = time.perf_counter()
        skipped = skipping.sharpened(frame)
        spent["always"] += between - began
        spent["skipping"] += time.perf_counter() - between
        errors["apart"].append(_error(always, skipped))
        if truth is not None:
            for key, picture in (("input", frame), ("always", always), ("skipping", skipped)):
                errors[key].append(_error(picture, truth[index]))
    row = {
        "clip": name,
        "frames": len(frames),
        "spared %": 100 * skipping.skipped / skipping.frames,
        "time": spent["skipping"] / spent["always"],
        "apart dB": _decibels(float(np.mean(errors["apart"]))),
    }
    for key in ("input", "always", "skipping"):
        if errors[key]:
            values = [min(_decibels(error), _MOST_DB) for error in errors[key]]
            row[f"{key} dB"] = float(np.mean(values))
    return row


def _error(one: Image, other: Image) -> float:
    return float(np.mean(np.square(np.subtract(one, other, dtype=np.float32))))


def _decibels(error: float) -> float:
    return 10 * math.log10(255**2 / error) if error else math.inf


if __name__ == "__main__":
    harness.command(main)
