"""A training run in memory: how it starts, what one step does to it, and how it is kept."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train import checkpoint, processes
from train.adversary import Adversary
from train.architecture import ARCHITECTURES, GeneratorConfig
from train.checkpoint import Checkpoint
from train.config import HARMLESS, TrainConfig
from train.data import Samples
from train.generator import Network, build
from train.losses import pixel_loss
from train.optimizer import Optimizer
from train.precision import mixed
from train.schedule import Plan


@dataclass(slots=True)
class Run:
    """The networks, their optimizers, and how far they have come."""

    config: TrainConfig
    network: Network
    forward: Callable[[Tensor], Tensor]
    """The network, compiled if that was asked for."""
    ema: Network
    optimizer: Optimizer
    adversary: Adversary | None
    """If the run has an adversarial phase."""
    step: int = 0
    seconds: float = 0.0
    """Time spent in optimizer steps so far, over all interruptions."""
    spent: float = 0.0
    """The same with validations and checkpoints: what --minutes counts."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    """One entry a validation."""
    changes: list[str] = field(default_factory=list)
    """What was other before, in the run or the weights that this one goes on from."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a step measured; tensors, so that a GPU goes on until someone looks."""

    step: int
    plan: Plan
    values: dict[str, Tensor]


def start(config: TrainConfig, device: torch.device) -> Run:
    """A new run, or the one that last.pt holds if `config.resume`.

    Raises:
        ValueError: the folder holds a run already, a checkpoint does not fit, or VGG-19's weights
            are wanted and cannot be had.
        FileNotFoundError: there is no checkpoint to go on from.
    """
    if not config.resume and checkpoint.exists(config.out / "last.pt"):
        raise ValueError(f"{config.out} holds a run: pass --resume, or another --out")
    torch.manual_seed(config.seed)
    shape = replace(ARCHITECTURES[config.arch], dropout=config.dropout)
    network = build(shape).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the pair
    if not config.identity:
        _start_anywhere(network)
    ema = build(shape).to(device).requires_grad_(False).eval()
    ema.load_state_dict(network.state_dict())
    optimizer = Optimizer(config, network)
    forward = torch.compile(network) if config.compile else network
    adversary = Adversary(config, device) if config.finetune else None
    run = Run(config, network, forward, ema, optimizer, adversary)
    if config.resume:
        _restore(run, checkpoint.load(config.out / "last.pt"))
    elif config.start_from:
        _take_weights(run, checkpoint.load(config.start_from))
        run.network.load_state_dict(run.ema.state_dict())
    return run


def advance(run: Run, samples: Samples, plan: Plan) -> Figures:
    """One optimizer step; in the adversarial phase one of the discriminator before it [read]."""
    config = run.config
    # Dropout draws from the global generator: tie it to the step, as the samples are.
    torch.manual_seed(samples.seed(run.step, salt=2))
    blurred, sharp = samples.batch(run.step, plan.crop, plan.batch)
    blurred = blurred.contiguous(memory_format=torch.channels_last)
    sharp = sharp.contiguous(memory_format=torch.channels_last)
    run.network.train()
    with mixed(blurred.device, config.amp):
        restored = run.forward(blurred)
    restored = restored.float()
    loss = pixel_loss(restored, sharp, pixel=config.pixel, fft=config.fft, psnr=config.psnr)
    values: dict[str, Tensor] = {}
    if plan.adversarial and run.adversary is not None:
        values |= run.adversary.learn(restored, sharp, plan.rate)
        asked, terms = run.adversary.loss(restored, sharp)
        loss, values = loss + asked, values | terms
    norm = _descend(run, loss, plan.rate)
    run.step += 1
    _average(run)
    return Figures(run.step, plan, {"loss": loss.detach(), "norm": norm, **values})


def look(figures: Figures) -> dict[str, float]:
    """The values, waited for.

    Raises:
        ValueError: one is not a number any more: the run has diverged.
    """
    values = {name: value.item() for name, value in figures.values.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value} at step {figures.step}: lower the learning rate")
    return values


def refuse_out(run: Run) -> None:
    """Raise OSError where not one checkpoint could be written, before the work and not after it."""
    out = run.config.out
    there = next(each for each in (out, *out.absolute().parents) if each.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is no folder: pass another --out")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{there} is not yours to write in: pass another --out")
    weights = sum(each.numel() * each.element_size() for each in run.network.parameters())
    needed = 3 * weights  # themselves, their average, and a moment of each at least
    free = shutil.disk_usage(there).free
    if free < needed:
        raise OSError(
            f"{out} has {free / 1e6:.0f} MB left, and a checkpoint takes "
            f"{needed / 1e6:.0f} or more: make room, or pass another --out"
        )


def save(run: Run, path: Path, *, for_use: bool = False) -> None:
    """Write the run's state to `path`: whole, or the averaged weights alone if `for_use`."""
    whole = not for_use
    checkpoint.save(
        Checkpoint(
            step=run.step,
            seconds=run.seconds,
            spent=run.spent,
            generator_config=run.network.config.to_dict(),
            train_config=run.config.to_dict() | {"processes": processes.count()},
            ema=run.ema.state_dict(),
            generator=run.network.state_dict() if whole else {},
            optimizer=run.optimizer.state() if whole else {},
            adversary=run.adversary.state() if whole and run.adversary else {},
            curve=run.curve,
        ),
        path,
        shard_mb=run.config.shard_mb,
    )


def _start_anywhere(network: torch.nn.Module) -> None:
    """torch's ordinary random start for every layer, the last one too."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.reset_parameters()


def _descend(run: Run, loss: Tensor, rate: float) -> Tensor:
    """Move the generator down the gradient; the gradient's norm before clipping."""
    run.network.zero_grad(set_to_none=True)
    loss.backward()
    processes.average_gradients(run.network.parameters())
    limit = run.config.clip or math.inf
    norm = torch.nn.utils.clip_grad_norm_(run.network.parameters(), limit)
    run.optimizer.step(rate)
    return norm.detach()


@torch.no_grad()
def _average(run: Run) -> None:
    """Move the averaged weights towards the trained ones; faster while there are few steps."""
    decay = min(run.config.ema, (1 + run.step) / (10 + run.step))
    for averaged, trained in zip(run.ema.parameters(), run.network.parameters(), strict=True):
        averaged.lerp_(trained, 1 - decay)


def _restore(run: Run, saved: Checkpoint) -> None:
    """Go on exactly; from a checkpoint for use, from its weights with fresh moments."""
    _take_weights(run, saved)
    if saved.optimizer:
        run.optimizer.restore(saved.optimizer)
    if saved.adversary and run.adversary:
        run.adversary.restore(saved.adversary)
    run.step, run.seconds, run.spent = saved.step, saved.seconds, saved.spent
    run.curve = saved.curve
    now = run.config.to_dict() | {"processes": processes.count()}
    if run.config.epochs:
        del now["steps"]  # which follow from them, and are not known yet
    run.changes += [
        f"{name} is {now[name]}, and was {value}"
        for name, value in saved.train_config.items()
        if name in now and name not in HARMLESS and now[name] != value
    ]


def _take_weights(run: Run, saved: Checkpoint) -> None:
    """The trained and the averaged ones; the latter for both if that is all there is."""
    ours = run.network.config.to_dict()
    theirs = GeneratorConfig.from_dict(saved.generator_config).to_dict()
    theirs |= {name: ours[name] for name in ("dropout", "coring")}  # which have no weights
    if theirs != ours:
        raise ValueError(f"the checkpoint holds {theirs}, not {run.config.arch}: {ours}")
    run.network.load_state_dict(saved.generator or saved.ema)
    run.ema.load_state_dict(saved.ema)
    if coring := saved.generator_config.get("coring"):
        run.changes.append(f"coring is 0, and was {coring:g}: `python -m train.finish` adds it")
