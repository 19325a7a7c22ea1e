"""How many crops a second training sees, and what limits it, in one run.

Times the making of samples, the network's step on a batch that is there already, and the whole
step, in turns, so that all meet the same machine. Beside them a matrix product in the same
precision and a copy of memory, for the shares of the machine's limits that the network's step
reaches: in operations (three passes over its multiply-adds: forward, and backward to inputs and
weights), and in bytes (all that goes into and out of its kernels, caches left aside; --compile
fuses some of them, which is not counted). Pictures are random noise.

    python -m bench.training --arch paper --crop 256 --batch 32
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench import harness
from train import cost, processes, run
from train.config import TrainConfig
from train.data import Samples
from train.precision import has_bfloat16
from train.schedule import Plan

_MATRIX = 4096
_COPIED = 2**28  # bytes: more than caches hold


class Traffic(TorchDispatchMode):
    """Counts the bytes of the tensors that go in and out of kernels while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """Call, and count."""
        given = kwargs or {}
        out = func(*args, **given)
        if not func.is_view:
            leaves = tree_leaves((args, given, out))
            self.bytes += sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))
        return out


class Same:
    """The same batch at every step."""

    def __init__(self, samples: Samples, plan: Plan) -> None:
        self._batch = samples.batch(0, plan.crop, plan.batch)
        self.seed = samples.seed

    def batch(self, step: int, crop: int, count: int) -> tuple[Tensor, Tensor]:
        """It."""
        return self._batch


def main() -> int:
    """Measure and print; the exit status."""
    options = _parser().parse_args()
    facts = harness.say_machine()
    with tempfile.TemporaryDirectory() as folder:
        device, _ = processes.join(options.device)
        config = TrainConfig(
            photos=(Path(folder),),
            arch=options.arch,
            batch=options.batch,
            crops=(options.crop,),
            compile=options.compile,
            reuse=options.reuse,
            out=Path(folder) / "run",
        )
        _make_pictures(Path(folder), options.crop + 128)
        figures = _measure(config, device, options.rounds, options.steps)
    title = f"{options.arch} on {device.type}, {options.batch} crops of {options.crop} a step"
    rows = [{"part": name, "figure": value} for name, value in figures.items()]
    harness.show(title, {"part": "", "figure": ".4g"}, rows)
    harness.write(options.json, facts, title=title, figures=figures)
    return 0


def _measure(
    config: TrainConfig, device: torch.device, rounds: int, steps: int
) -> dict[str, float]:
    """Crops a second of each part, medians over the rounds, and their ratios."""
    alone, job = run.start(config, device), run.start(config, device)
    # Each with a stream of its own: one that is asked for a later step makes up for those between.
    making, samples = Samples(config, device), Samples(config, device)
    plan = Plan(1e-4, config.crops[0], config.batch, adversarial=False, steady=True)
    same = Same(samples, plan)
    kind = torch.bfloat16 if has_bfloat16(device) else torch.float32  # as the network's
    left, right = torch.randn(2, _MATRIX, _MATRIX, device=device, dtype=kind)
    source, target = torch.zeros(2, _COPIED, device=device, dtype=torch.uint8)
    count = iter(range(10**9))
    plain = replace(alone, forward=alone.network)  # not compiled
    run.advance(plain, same, plan)  # type: ignore[arg-type]  # the first makes the moments
    with Traffic() as traffic:
        run.advance(plain, same, plan)  # type: ignore[arg-type]

    parts: dict[str, Callable[[], object]] = {
        "samples": lambda: making.batch(next(count), plan.crop, plan.batch),
        "network": lambda: run.advance(alone, same, plan),  # type: ignore[arg-type]
        "whole": lambda: run.advance(job, samples, plan),
        "matrix": lambda: left @ right,
        "copy": lambda: target.copy_(source),
    }

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times = harness.take_turns(parts, rounds, calls=steps, finish=finish)
    seconds = {name: median(values) for name, values in times.items()}
    crops = {name: config.batch / seconds[name] for name in ("samples", "network", "whole")}
    _, multiply_adds = cost.total(cost.layers(job.network, plan.crop, plan.crop))
    used = 3 * 2 * multiply_adds * crops["network"]
    limit = 2 * _MATRIX**3 / seconds["matrix"]
    moved = traffic.bytes / config.batch * crops["network"]
    bandwidth = 2 * _COPIED / seconds["copy"]
    return {
        "crops/s, making samples alone": crops["samples"],
        "crops/s, network's step alone": crops["network"],
        "crops/s, whole step": crops["whole"],
        "whole : network alone": crops["whole"] / crops["network"],
        "network's step, TFLOP/s": used / 1e12,
        f"matrix product in {str(kind)[6:]}, TFLOP/s": limit / 1e12,
        "share of it": used / limit,
        "read and written for a crop, GB": traffic.bytes / config.batch / 1e9,
        "network's step, GB/s": moved / 1e9,
        "copy of memory, GB/s": bandwidth / 1e9,
        "share of that": moved / bandwidth,
    }


def _make_pictures(folder: Path, side: int) -> None:
    random = np.random.default_rng(0)
    for number in range(8):
        noise = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")


def _parser() -> argparse.ArgumentParser:
    parser = harness.parser("bench.training", __doc__, rounds=5)
    parser.add_argument("--arch", choices=("fast", "paper"), default="paper", help="architecture")
    parser.add_argument("--crop", type=int, default=256, help="side in pixels")
    parser.add_argument("--batch", type=int, default=32, help="crops a step")
    parser.add_argument("--reuse", type=int, default=4, help="as in training")
    parser.add_argument("--compile", action="store_true", help="torch.compile the generator")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto")
    parser.add_argument("--steps", type=int, default=10, help="steps a measurement")
    return parser


if __name__ == "__main__":
    harness.command(main)
