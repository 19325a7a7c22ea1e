"""How much of a blur of known length each network takes away: where it is strong, and where weak.

The easiest motion that there is: straight, even, the same all over the picture, without noise or
compression, in six directions. What a network can't do here it does nowhere. The photographs are
those that scikit-image brings, which no network of ours has been trained on, or your own.

    python -m bench.lengths --model fast runs/mine/best.pt
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import numpy as np
import skimage.data
import torch
from torch import Tensor

from bench import harness
from streamdeblur.frames import Image
from streamdeblur.values import whole
from train.blur import MARGIN, to_display, warp
from train.evaluation.restorer import open_restorer
from train.metrics import psnr
from train.pictures import find_pictures, read_picture

_DIRECTIONS = 6
_OWN = ("astronaut", "coffee", "chelsea", "rocket")  # of scikit-image, in its package


def main() -> None:
    """Measure and print."""
    parser = harness.parser("bench.lengths", __doc__)
    parser.add_argument("--model", nargs="+", default=["fast"], help="names, ONNX or checkpoints")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="sharp pictures of your own")
    parser.add_argument("--lengths", type=whole(1), nargs="+", default=[2, 4, 8, 16, 32, 48])
    parser.add_argument("--size", type=whole(1), default=208, help="side of what is judged")
    curve = "2.2 to blur light, as cameras do; 1 to blur encoded values, as GoPro's blur/ was"
    parser.add_argument("--gamma", type=float, choices=(1.0, 2.2), default=2.2, help=curve)
    args = parser.parse_args()
    facts = harness.say_machine()
    networks = {model: open_restorer(model, "cpu") for model in args.model}
    parts = [centre(photo, args.size) for photo in photos(args.photos)]
    lights = [part**args.gamma for part in parts if part is not None]
    if not lights:
        raise ValueError(f"no picture has {args.size + 2 * MARGIN} pixels each way: less --size")
    rows = []
    for length in args.lengths:
        pairs = [pair for light in lights for pair in blurred(light, length, args.size, args.gamma)]
        before = [psnr(*pair) for pair in pairs]
        row: dict[str, float] = {"pixels": length, "input dB": fmean(before)}
        for name, network in networks.items():
            after = [psnr(network.restore(blur), truth) for blur, truth in pairs]
            row[name] = fmean(after) - row["input dB"]
        rows.append(row)
    columns = {"pixels": "d", "input dB": ".2f", **dict.fromkeys(networks, "+.2f")}
    title = f"gain in dB, {len(pairs)} pictures a row, gamma {args.gamma:g}"
    harness.show(title, columns, rows)
    harness.write(args.json, facts, gamma=args.gamma, rows=rows)


def photos(folder: Path | None) -> Iterator[Image]:
    """Sharp RGB pictures, (H, W, 3)."""
    if folder is None:
        yield from (getattr(skimage.data, name)() for name in _OWN)
    else:
        yield from map(read_picture, find_pictures(folder))


def centre(photo: Image, size: int) -> Tensor | None:
    """The middle with a margin, (1, 3, side, side) in [0, 1]; None of a small photograph."""
    side = size + 2 * MARGIN
    top, left = ((length - side) // 2 for length in photo.shape[:2])
    if min(top, left) < 0:
        return None
    part = torch.from_numpy(photo[top : top + side, left : left + side].copy())
    return part.permute(2, 0, 1)[None].float() / 255


def blurred(light: Tensor, length: float, size: int, gamma: float) -> Iterator[tuple[Image, Image]]:
    """The picture moved evenly over `length` pixels, and its sharp middle, for each direction."""
    along = torch.linspace(-length / 2, length / 2, 2 * math.ceil(length) + 1)  # half a pixel apart
    for direction in range(_DIRECTIONS):
        angle = math.pi * direction / _DIRECTIONS
        still = torch.zeros_like(along)
        poses = [along * math.cos(angle), along * math.sin(angle), still, still]
        seen = warp(light, torch.stack(poses, dim=-1)[None], size)
        sharp = seen[:, :, len(along) // 2]
        yield displayed(seen.mean(dim=2), gamma), displayed(sharp, gamma)


def displayed(light: Tensor, gamma: float) -> Image:
    """Linear light (1, 3, H, W) as RGB of 8 bits, (H, W, 3)."""
    levels = (to_display(light[0], gamma) * 255).round().byte()
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())


if __name__ == "__main__":
    harness.command(main)
