"""Blurred samples that went through a video encoder, prepared ahead: `python -m train.compress`.

H.264 cannot be imitated on the device that trains. This renders short blurred videos, encodes and
decodes each, and keeps the middle frame beside its sharp twin as plain blur/ and sharp/ folders,
which `python -m train --pairs` takes.
"""

from __future__ import annotations

import argparse
import io
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from torch import Generator, Tensor

from train import blur
from train.blur import Dice
from train.pictures import PictureStore, find_pictures

MARGIN = 120
"""Pixels around a crop: a video moves further than one exposure."""
EXPOSURES = 5
"""Frames of a video, of which the middle one is kept."""


def encode(clip: NDArray[np.uint8], *, crf: int) -> NDArray[np.uint8]:
    """What is left of a clip (T, H, W, 3), RGB, after H.264 4:2:0 at `crf`; the same shape."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=Fraction(30))
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast"}
        for picture in clip:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())
    memory.seek(0)
    with av.open(memory, "r") as source:
        frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    return np.stack(frames).astype(np.uint8, copy=False)


def make_samples(
    store: PictureStore, count: int, *, crop: int, extent: float, seed: int
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """`count` pairs of compressed blurred and sharp crops, each (crop, crop, 3) uint8."""
    dice = Dice.of(seed, torch.device("cpu"))
    side = crop + 2 * MARGIN
    pictures = store.crops(store.places(count, side, dice.device), side)
    clips, sharp = blur.integrate_clip(
        pictures, crop, exposures=EXPOSURES, frames=11, extent=EXPOSURES * extent, dice=dice
    )
    clips = _with_noise(clips, dice.device)
    pairs = []
    for clip, twin in zip(clips, sharp, strict=True):
        crf = int(dice.host.integers(18, 33))
        pairs.append((encode(_bytes(clip), crf=crf)[EXPOSURES // 2], _bytes(twin[None])[0]))
    return pairs


def _with_noise(clips: Tensor, random: Generator) -> Tensor:
    sigma = blur.uniform(random, 0, 0.01, len(clips), 1, 1, 1, 1)
    return (clips + sigma * torch.randn(clips.shape, generator=random)).clamp(0, 1)


def _bytes(pictures: Tensor) -> NDArray[np.uint8]:
    """(T, 3, H, W) in [0, 1] -> (T, H, W, 3)."""
    return (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()


def main(argv: list[str] | None = None) -> int:
    """Prepare samples as the flags say; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m train.compress", description=__doc__)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="sharp photographs")
    parser.add_argument("--count", type=int, default=800, help="samples to make (default 800)")
    parser.add_argument("--crop", type=int, default=256, help="side in pixels (default 256)")
    parser.add_argument("--extent", type=float, default=30.0, help="longest blur of a frame, px")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for blur/ and sharp/")
    args = parser.parse_args(argv)
    if args.crop % 2 or args.crop < 16 or args.count < 1 or args.seed < 0:
        parser.error("--crop is an even number of 16 or more, --count 1 or more, --seed 0 or more")
    longest = 2 * MARGIN / EXPOSURES  # half of a path lies on either side of its middle
    if not 0 <= args.extent <= longest:
        parser.error(f"--extent is from 0 to {longest:g}")
    try:
        _write(args)
    except (OSError, ValueError) as error:  # a missing folder, a full disk, a broken picture
        print(f"train.compress: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"wrote {args.count} pairs\nnext: python -m train --pairs {args.out} ...")
    return 0


def _write(args: argparse.Namespace) -> None:
    paths = [path for folder in args.photos for path in find_pictures(folder)]
    for kind in ("blur", "sharp"):
        (args.out / kind).mkdir(parents=True, exist_ok=True)
    store = PictureStore(paths, smallest=args.crop + 2 * MARGIN, device=torch.device("cpu"))
    batch = 4
    for first in track(range(0, args.count, batch), "encoding"):
        size = min(batch, args.count - first)
        seed = np.random.SeedSequence((args.seed, first)).generate_state(1, np.uint64)[0]
        made = make_samples(store, size, crop=args.crop, extent=args.extent, seed=int(seed))
        for index, pair in enumerate(made, start=first):
            for kind, picture in zip(("blur", "sharp"), pair, strict=True):
                Image.fromarray(picture).save(args.out / kind / f"{index:06d}.png")


if __name__ == "__main__":
    sys.exit(main())
