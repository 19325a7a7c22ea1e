"""The training loop: one step after another, validated, saved, and resumed exactly.

Under `torchrun` several processes share a run. Each makes its own samples; the gradients are
averaged, so that all hold the same weights; the first one validates, saves and prints.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from train import checkpoint, cost, metrics, processes
from train.config import TrainConfig
from train.data import Samples
from train.metrics import Pair
from train.run import Run, advance, look, refuse_out, save, start
from train.schedule import plan
from train.watch import Watch, progress_bar

_LOOK_EVERY = 10
"""Steps between looks at what is measured: each makes the program wait for the device."""


def train(config: TrainConfig, console: Console) -> Path:
    """Train to the end of the schedule, from the start or from last.pt; the best checkpoint.

    Raises:
        KeyboardInterrupt: Ctrl-C, or a scheduler's SIGTERM; after the step, and last.pt is saved.
        FileNotFoundError, ValueError: the data, or the checkpoint to go on from, is not usable; or
            the run has diverged, and what was saved last stays.
        OSError: a checkpoint cannot be written, and the one before it stays; or none could be
            from the beginning.
    """
    began = time.monotonic()
    device, rank = processes.join(config.device)
    console.quiet = rank > 0
    if config.threads:
        torch.set_num_threads(config.threads)
    run = start(config, device)
    refuse_out(run)
    samples = Samples(config, device, rank=rank)
    run.config = config = _counted(config, samples)
    judging = rank == 0  # the others wait for its validations with their next gradients
    chosen_by, reported = (
        metrics.load_pairs(folders, config.blur_folder) if judging else []
        for folders in (config.val, config.report)
    )
    config.out.mkdir(parents=True, exist_ok=True)
    watch = Watch(run, console, writing=judging)
    console.print(f"{config.arch} on {device}, from step {run.step}: {cost.brief(run.network)}")
    console.print(f"{metrics.PROTOCOL}; blurred ones from {config.blur_folder}/")
    for change in run.changes:
        console.print(f"other than before: {change}")

    clock = _Clock(run, began, device)
    if config.minutes and judging:
        rehearsing = time.monotonic()
        metrics.evaluate(run.ema, [*chosen_by, *reported])
        clock.keep_time_for_another(rehearsing)
    done = clock.progress()
    if config.minutes and done >= 1 and not run.step:
        raise ValueError(f"--minutes {config.minutes:g} leave no time for a step")
    now = plan(config, run.step, done)
    with progress_bar(console) as show, _interruptions() as asked, closing(watch):
        while done < 1:
            stepping = time.monotonic()
            figures = advance(run, samples, now)
            done = clock.progress()
            due = run.step % config.val_every == 0 or done >= 1
            is_look = due or run.step % min(_LOOK_EVERY, config.log_every) == 0
            if is_look:
                values = look(figures)
                watch.see(values)
                show(done, run.step, values["loss"])
            run.seconds += time.monotonic() - stepping
            if run.step % config.log_every == 0:
                watch.line(run, now)
            ends = _is_asked(asked, device, together=is_look)
            # Whoever asks for an end does not wait for long; but the last one comes only here.
            if due and judging and (done >= 1 or not ends):
                _validate(run, chosen_by, reported, watch)
            if (due or ends) and judging:
                save(run, config.out / "last.pt")
                clock.keep_time_for_another(stepping)
            before, now = now, plan(config, run.step, done)
            # Before an end that was asked for: with --resume it would be too late.
            if judging and before.steady and not now.steady:
                save(run, config.out / "steady.pt")
            if ends:
                processes.wait_for_all()  # the end of one is the end of all, saved or not
                console.print(f"stopped at step {run.step}; go on with --resume")
                raise KeyboardInterrupt
    best = config.out / "best.pt"
    return best if checkpoint.exists(best) else config.out / "last.pt"


def _counted(config: TrainConfig, samples: Samples) -> TrainConfig:
    """With `steps` from `epochs`, if those are what was given."""
    if not config.epochs:
        return config
    crops = config.batch * processes.count()
    return replace(config, steps=max(1, config.epochs * samples.pairs // crops))


class _Clock:
    """How much of the run is done: by its steps, or by its minutes."""

    def __init__(self, run: Run, began: float, device: torch.device) -> None:
        self._run = run
        self._began = began - run.spent
        self._device = device
        self._last_things = 0.0

    def progress(self) -> float:
        """From 0 to 1; the same in all processes."""
        self._run.spent = time.monotonic() - self._began
        config = self._run.config
        if not config.minutes:
            return self._run.step / config.steps
        budget = max(1e-6, config.minutes * 60 - self._last_things)
        return processes.agree(min(1.0, self._run.spent / budget), self._device)

    def keep_time_for_another(self, since: float) -> None:
        """Leave time at the end for a step, a validation and a checkpoint, begun at `since`."""
        self._last_things = max(self._last_things, time.monotonic() - since)


def _validate(run: Run, chosen_by: list[Pair], reported: list[Pair], watch: Watch) -> None:
    """Score the averaged weights, show and note the figures, and keep the best."""
    entry: dict[str, Any] = {"step": run.step, "hours": round(run.seconds / 3600, 3)}
    for title, pairs in (("val", chosen_by), ("report", reported)):
        if pairs:
            scores = metrics.evaluate(run.ema, pairs)
            entry |= metrics.entry(title, scores)
            watch.table(title, run.step, scores)
    watch.pictures(run, chosen_by)
    earlier = [past["val_gain"] for past in run.curve if "val_gain" in past]
    run.curve.append(entry)
    (run.config.out / "curve.json").write_text(json.dumps(run.curve, indent=1) + "\n")
    if "val_gain" in entry and entry["val_gain"] > max(earlier, default=-math.inf):
        save(run, run.config.out / "best.pt", for_use=True)


def _is_asked(asked: list[int], device: torch.device, *, together: bool) -> bool:
    """Whether to end: one process at once, several where they are `together`, all or none."""
    if processes.count() == 1:
        return bool(asked)
    return together and processes.any_of(bool(asked), device)


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
