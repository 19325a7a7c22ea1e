"""Checkpoints: written whole or not at all, and enough to go on exactly or to export."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train.generator import FastGenerator, GeneratorConfig, PaperGenerator, build

FORMAT_VERSION = 1


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """The state of a run after `step` optimizer steps. Plain data and tensors only."""

    step: int
    seconds: float
    """Spent in those steps, over all interruptions."""
    generator_config: dict[str, Any]
    train_config: dict[str, Any]
    ema: dict[str, Tensor]
    """The running average of the weights: what is validated and exported."""
    generator: dict[str, Tensor] = field(default_factory=dict)
    """The weights being trained; empty in a checkpoint that is for use, a fifth of the size."""
    optimizer: dict[str, Any] = field(default_factory=dict)
    """Its moments; empty likewise."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    """One entry a validation: step, hours, and the figures of each picture set."""
    format_version: int = FORMAT_VERSION


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write `path` in one move: a crash leaves the old file or the new one."""
    part = path.with_name(path.name + ".part")
    torch.save({name: getattr(checkpoint, name) for name in Checkpoint.__slots__}, part)
    os.replace(part, path)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the processor; nothing in the file is executed.

    Raises:
        ValueError: the file is not a checkpoint of ours.
        FileNotFoundError: there is no such file.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(**values)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises whatever its unpickler meets
        raise ValueError(f"{path} is not a checkpoint of `python -m train`: {error}") from error


def restore_generator(checkpoint: Checkpoint) -> PaperGenerator | FastGenerator:
    """The network with its averaged weights, in evaluation mode."""
    network = build(GeneratorConfig.from_dict(checkpoint.generator_config))
    network.load_state_dict(checkpoint.ema)
    return network.eval()
