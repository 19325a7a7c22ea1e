"""Watching a run: lines and tables on the console, scalars and pictures for TensorBoard."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from train import metrics, processes
from train.config import TrainConfig
from train.metrics import Pair, Score
from train.run import Run
from train.schedule import Plan

_SHOWN = 3
"""Pairs that become pictures in TensorBoard."""
_WINDOW = 256
"""Side of their cut-out, in pixels."""
_CERTAIN = 0.995
_PATIENCE = 100
"""Looks in a row at which a discriminator that certain is called dead."""


class Watch:
    """Collects what is looked at between two lines of the log."""

    def __init__(self, run: Run, console: Console, *, writing: bool) -> None:
        """Raise ValueError if TensorBoard is wanted, `writing`, and not installed."""
        config = run.config
        self._before = run.step, run.seconds
        """Of the last line."""
        self._console = console
        self._seen: dict[str, list[float]] = defaultdict(list)
        self._certainty: deque[float] = deque(maxlen=_PATIENCE)
        self._board = _board(config) if config.tensorboard and writing else None

    def see(self, values: dict[str, float]) -> None:
        """Note what a step measured.

        Raises:
            ValueError: the discriminator is dead, so the generator learns nothing from it.
        """
        for name, value in values.items():
            self._seen[name].append(value)
        if "D_Ra(real, fake)" not in values:
            return
        self._certainty.append(values["D_Ra(real, fake)"])
        if len(self._certainty) == _PATIENCE and min(self._certainty) > _CERTAIN:
            raise ValueError(
                f"the discriminator is certain of everything (D_Ra above {_CERTAIN}): "
                "lower --lr-finetune, or raise --pixel or --perceptual against --adversarial"
            )
        if values["D norm"] == 0:
            raise ValueError("the discriminator has no gradient any more: lower --lr-finetune")

    def line(self, run: Run, plan: Plan) -> None:
        """A line of the log, means since the last one; and the scalars."""
        means = {name: fmean(values) for name, values in self._seen.items()}
        self._seen.clear()
        step, seconds = self._before
        self._before = run.step, run.seconds
        steps = (run.step - step) / max(1e-9, run.seconds - seconds)
        rates = {
            "learning rate": plan.rate,
            "steps/s": steps,
            "samples/s": steps * plan.batch * processes.count(),
        }
        shown = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        self._console.print(
            f"step {run.step}  {shown}  lr {plan.rate:.2e}  crop {plan.crop}  "
            f"{rates['steps/s']:.2f} steps/s  {rates['samples/s']:.0f} samples/s",
            soft_wrap=True,
        )
        self._scalars(run.step, means | rates)

    def table(self, title: str, step: int, scores: list[Score]) -> None:
        """The figures of a validation, picture by picture; their means as scalars."""
        table = Table(title=f"{title}, step {step}")
        for column in (
            "picture",
            "PSNR blurred",
            "restored",
            "gain, dB",
            "SSIM blurred",
            "restored",
        ):
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
        self._console.print(table)
        means = {
            "PSNR": fmean(s.psnr_restored for s in scores),
            "SSIM": fmean(s.ssim_restored for s in scores),
            "gain": metrics.mean_gain(scores),
        }
        self._scalars(step, {f"{title}/{name}": value for name, value in means.items()})

    def pictures(self, run: Run, pairs: Sequence[Pair]) -> None:
        """Blurred, restored and sharp beside each other, the middles of the first few pairs."""
        if self._board is None:
            return
        for pair in pairs[:_SHOWN]:
            restored = metrics.restore(run.ema, pair.blurred)
            row = [_middle(picture) for picture in (pair.blurred, restored, pair.sharp)]
            name = f"blurred, restored, sharp/{pair.name}"
            self._board.add_image(name, np.hstack(row), run.step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        if self._board is not None:
            self._board.close()

    def _scalars(self, step: int, values: dict[str, float]) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)


@contextmanager
def progress_bar(console: Console) -> Iterator[Any]:
    """A bar with the loss on a terminal; nothing elsewhere, where the log lines serve."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("loss", total=1.0)

        def advance(share: float, step: int, loss: float) -> None:
            progress.update(task, completed=share, description=f"step {step}  loss {loss:.4f}")

        yield advance


def _board(config: TrainConfig) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "TensorBoard is not installed: pip install tensorboard, or pass --no-tensorboard"
        ) from error
    return SummaryWriter(config.out / "tensorboard")


def _middle(picture: Any) -> Any:
    top, left = (max(0, side - _WINDOW) // 2 for side in picture.shape[:2])
    return picture[top : top + _WINDOW, left : left + _WINDOW]
