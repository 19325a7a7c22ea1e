"""What a step of a run does: its learning rate, its crops, and whether it is adversarial."""

from __future__ import annotations

import math
from dataclasses import dataclass

from train.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of one step."""

    rate: float
    """Learning rate."""
    crop: int
    """Side of the crops, in pixels."""
    batch: int
    """Crops of each process."""
    adversarial: bool
    """Whether the discriminator takes part."""
    steady: bool
    """Whether the rate has not begun to fall: a run can be prolonged from here."""


def plan(config: TrainConfig, step: int, progress: float) -> Plan:
    """The plan of `step`, at `progress` (0 to 1) of the run.

    First the pixel phase, with growing crops: the rate rises over `warmup` steps, stays, and falls
    to 0 over the last `decay` of the phase. Then the adversarial phase, with its own rate, which
    stays and falls likewise.
    """
    pixel = 1 - config.finetune
    if progress < pixel:
        within = progress / pixel
        stage = min(int(within * len(config.crops)), len(config.crops) - 1)
        rate = config.lr * min(1.0, (step + 1) / max(1, config.warmup))
    else:
        within = (progress - pixel) / max(config.finetune, 1e-9)
        stage = len(config.crops) - 1
        rate = config.lr_finetune or config.lr
    crop = config.crops[stage]
    left = min(1.0, (1 - within) / config.decay)
    return Plan(
        rate=rate * _fall(left, config.decay_shape),
        crop=crop,
        # As many pixels a step as at first.
        batch=max(1, round(config.batch * (config.crops[0] / crop) ** 2)),
        adversarial=progress >= pixel,
        steady=left == 1.0 and (progress < pixel or not pixel),
    )


def _fall(left: float, shape: str) -> float:
    """From 1 where the whole decay is left, to 0 at its end."""
    return left if shape == "linear" else 0.5 * (1 - math.cos(math.pi * left))
