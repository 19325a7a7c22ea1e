"""The training loop: one step after another, validated, saved, and resumed exactly.

Under `torchrun` several processes share a run. Each makes its own samples; the gradients are
averaged, so that all hold the same weights; the first one validates, saves and prints.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from torch import Tensor

from train import checkpoint, metrics
from train.checkpoint import Checkpoint
from train.config import TrainConfig
from train.data import Samples
from train.generator import ARCHITECTURES, FastGenerator, PaperGenerator, build
from train.losses import pixel_loss

_LOOK_EVERY = 10
"""Steps between looks at the loss: each makes the program wait for the device."""


@dataclass(slots=True)
class Run:
    """A training run in memory."""

    config: TrainConfig
    network: PaperGenerator | FastGenerator
    ema: PaperGenerator | FastGenerator
    optimizer: torch.optim.Optimizer
    step: int
    seconds: float
    """Time spent in optimizer steps so far, over all interruptions."""
    curve: list[dict[str, Any]]


def train(config: TrainConfig, console: Console) -> Path:
    """Train until `config.steps`, from the start or from last.pt; return the best checkpoint.

    Raises:
        KeyboardInterrupt: Ctrl-C, or a scheduler's SIGTERM; after the step, and last.pt is saved.
        FileNotFoundError, ValueError: the data, or the checkpoint to go on from, is not usable.
    """
    device, rank = _place(config.device)
    console.quiet = rank > 0
    if config.threads:
        torch.set_num_threads(config.threads)
    run = start(config, device)
    samples = Samples(config, device, rank=rank)
    judging = rank == 0  # the others wait for its validations with their next gradients
    chosen_by, reported = (
        metrics.load_pairs(folders) if judging else [] for folders in (config.val, config.report)
    )
    config.out.mkdir(parents=True, exist_ok=True)
    console.print(f"{config.arch} on {device}, step {run.step} of {config.steps}")
    console.print(metrics.PROTOCOL)

    losses: list[float] = []
    with _progress(console, config, run.step) as advance, _interruptions() as asked:
        while run.step < config.steps:
            began = time.monotonic()
            figures = advance_one(run, samples)
            due = run.step % config.val_every == 0 or run.step == config.steps
            if due or run.step % _LOOK_EVERY == 0:
                losses.append(look(figures))
                advance(run.step, losses[-1])
            run.seconds += time.monotonic() - began
            if run.step % config.log_every == 0:
                console.print(_line(run, figures, losses))
                losses.clear()
            if due and judging:
                _validate(run, chosen_by, reported, console)
            if (due or asked) and judging:
                save(run, config.out / "last.pt")
            if asked:
                console.print(f"stopped at step {run.step}; go on with --resume")
                raise KeyboardInterrupt
    best = config.out / "best.pt"
    return best if best.exists() else config.out / "last.pt"


def start(config: TrainConfig, device: torch.device) -> Run:
    """A new run, or the one that last.pt holds if `config.resume`."""
    if not config.resume and (config.out / "last.pt").exists():
        raise ValueError(f"{config.out} holds a run: pass --resume, or another --out")
    torch.manual_seed(config.seed)
    network = build(ARCHITECTURES[config.arch]).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the pair
    ema = build(ARCHITECTURES[config.arch]).to(device).requires_grad_(False).eval()
    ema.load_state_dict(network.state_dict())
    betas = (0.9, 0.99) if config.optimizer == "adamw" else (0.5, 0.999)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    optimizer = kind(network.parameters(), lr=config.lr, betas=betas, weight_decay=0.0, fused=True)
    run = Run(config, network, ema, optimizer, step=0, seconds=0.0, curve=[])
    if config.resume:
        _restore(run, checkpoint.load(config.out / "last.pt"))
    return run


@dataclass(frozen=True, slots=True)
class Figures:
    """What a step measured; tensors, so that a GPU goes on until someone looks."""

    step: int
    loss: Tensor
    norm: Tensor
    """Of the gradient, before clipping."""
    rate: float


def advance_one(run: Run, samples: Samples) -> Figures:
    """One optimizer step."""
    config = run.config
    # Dropout draws from the global generator: tie it to the step, as the samples are.
    torch.manual_seed(samples.seed(run.step, salt=2))
    rate = learning_rate(config, run.step)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    blurred, sharp = samples.batch(run.step)
    blurred = blurred.contiguous(memory_format=torch.channels_last)
    run.network.train()
    with torch.autocast(blurred.device.type, torch.bfloat16, enabled=config.amp):
        restored = run.network(blurred)
    loss = pixel_loss(restored.float(), sharp, fft=config.fft, psnr=config.psnr)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    _share_gradients(run)
    norm = torch.nn.utils.clip_grad_norm_(run.network.parameters(), config.clip)
    run.optimizer.step()
    run.step += 1
    _average(run)
    return Figures(run.step, loss.detach(), norm, rate)


def look(figures: Figures) -> float:
    """The loss.

    Raises:
        ValueError: it is not a number any more: the run has diverged.
    """
    loss = figures.loss.item()
    if not math.isfinite(loss):
        raise ValueError(f"the loss is {loss} at step {figures.step}: lower --lr")
    return loss


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, a constant rate, and half a cosine down to 0 over the last `decay` steps.

    The long constant part lets a run be prolonged: what comes before the decay does not depend
    on `config.steps`.
    """
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    left = min(1.0, (config.steps - step) / max(1, min(config.decay, config.steps)))
    return config.lr * warm * 0.5 * (1 - math.cos(math.pi * left))


def save(run: Run, path: Path, *, for_use: bool = False) -> None:
    """Write the run's state to `path`: whole, or the averaged weights alone if `for_use`."""
    checkpoint.save(
        Checkpoint(
            step=run.step,
            seconds=run.seconds,
            generator_config=run.network.config.to_dict(),
            train_config=run.config.to_dict() | {"processes": _processes()},
            ema=run.ema.state_dict(),
            generator={} if for_use else run.network.state_dict(),
            optimizer={} if for_use else run.optimizer.state_dict(),
            curve=run.curve,
        ),
        path,
    )


def _restore(run: Run, saved: Checkpoint) -> None:
    """Go on exactly; from a checkpoint for use, from its weights with fresh moments."""
    if saved.generator_config != run.network.config.to_dict():
        raise ValueError(f"the checkpoint holds {saved.generator_config}, not {run.config.arch}")
    run.network.load_state_dict(saved.generator or saved.ema)
    run.ema.load_state_dict(saved.ema)
    if saved.optimizer:
        run.optimizer.load_state_dict(saved.optimizer)
    run.step, run.seconds, run.curve = saved.step, saved.seconds, saved.curve


@torch.no_grad()
def _share_gradients(run: Run) -> None:
    """Replace the gradients by their mean over all processes, in one message."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in run.network.parameters() if p.grad is not None]
    message = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(message)
    message /= _processes()
    parts = message.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def _average(run: Run) -> None:
    """Move the averaged weights towards the trained ones; faster while there are few steps."""
    decay = min(run.config.ema, (1 + run.step) / (10 + run.step))
    for averaged, trained in zip(run.ema.parameters(), run.network.parameters(), strict=True):
        averaged.lerp_(trained, 1 - decay)


def _validate(
    run: Run, chosen_by: list[metrics.Pair], reported: list[metrics.Pair], console: Console
) -> None:
    """Score the averaged weights, show and note the figures, and keep the best."""
    entry: dict[str, Any] = {"step": run.step, "hours": round(run.seconds / 3600, 3)}
    for title, pairs in (("val", chosen_by), ("report", reported)):
        if pairs:
            scores = metrics.evaluate(run.ema, pairs)
            entry[title] = [asdict(score) for score in scores]
            entry[f"{title}_gain"] = round(metrics.mean_gain(scores), 4)
            console.print(_table(f"{title}, step {run.step}", scores))
    earlier = [past["val_gain"] for past in run.curve if "val_gain" in past]
    run.curve.append(entry)
    (run.config.out / "curve.json").write_text(json.dumps(run.curve, indent=1) + "\n")
    if "val_gain" in entry and entry["val_gain"] > max(earlier, default=-math.inf):
        save(run, run.config.out / "best.pt", for_use=True)


def _table(title: str, scores: list[metrics.Score]) -> Table:
    table = Table(title=title)
    for column in ("picture", "PSNR blurred", "restored", "gain, dB", "SSIM blurred", "restored"):
        table.add_column(column, justify="left" if column == "picture" else "right")
    for s in scores:
        table.add_row(
            s.name,
            f"{s.psnr_blurred:.2f}",
            f"{s.psnr_restored:.2f}",
            f"{s.gain:+.3f}",
            f"{s.ssim_blurred:.4f}",
            f"{s.ssim_restored:.4f}",
        )
    table.add_row("mean", "", "", f"{metrics.mean_gain(scores):+.3f}", "", "")
    return table


def _line(run: Run, figures: Figures, losses: list[float]) -> str:
    """A line of the log: the mean loss of the steps looked at since the last, and the rates."""
    loss = fmean(losses) if losses else look(figures)
    rate = run.step / run.seconds
    samples = rate * run.config.batch * _processes()
    return (
        f"step {run.step}  loss {loss:.4f}  norm {figures.norm.item():.3f}  "
        f"lr {figures.rate:.2e}  {rate:.2f} steps/s  {samples:.0f} samples/s"
    )


@contextmanager
def _progress(console: Console, config: TrainConfig, done: int) -> Iterator[Any]:
    """A bar with the loss on a terminal; nothing elsewhere, where the log lines serve."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("loss", total=config.steps, completed=done)

        def advance(step: int, loss: float) -> None:
            progress.update(task, completed=step, description=f"loss {loss:.4f}")

        yield advance


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """The signals that ask for an end; a second one ends at once.

    An exception in the middle of a step would leave weights, average and counter apart, and what
    is then saved could not go on exactly.
    """
    asked: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)

    def note(number: int, _: object) -> None:
        asked.append(number)
        signal.signal(number, signal.default_int_handler)

    before = [signal.signal(number, note) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _processes() -> int:
    """How many share this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def _place(name: str) -> tuple[torch.device, int]:
    """The device of this process and its rank; joins the others if `torchrun` started it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("--device cuda: this torch sees no CUDA device")
    if "RANK" not in os.environ:
        return torch.device(name), 0
    if not dist.is_initialized():
        dist.init_process_group("nccl" if name == "cuda" else "gloo")
    if name == "cuda":
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    return torch.device(name), dist.get_rank()
