"""How good networks are, picture by picture, beside doing nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from train import metrics
from train.evaluation.datasets import Case, DataSet, Figures
from train.evaluation.restorer import Restorer
from train.evaluation.video import Clip
from train.pictures import read_picture

Picture = NDArray[np.uint8]
"""RGB, shape (H, W, 3)."""


@dataclass(frozen=True, slots=True)
class Row:
    """A picture's figures: of its blurred self, and of what each network made of it."""

    name: str
    blurred: Figures
    restored: list[Figures]
    seconds: list[float]
    """That each network took."""
    identity: list[float]
    """PSNR in dB at which each network returns the sharp picture; empty unless asked for."""


@dataclass(frozen=True, slots=True)
class Report:
    """One data set's figures; lists are in the order of the networks."""

    rows: list[Row]
    clips: list[Clip]
    """Temporal figures of the sharp clip, the blurred one, and each network's; if asked for."""

    def mean_blurred(self) -> Figures:
        """Mean of the pictures' figures."""
        return _mean([row.blurred for row in self.rows])

    def mean_restored(self, network: int) -> Figures:
        """Mean of the pictures' figures."""
        return _mean([row.restored[network] for row in self.rows])


def evaluate(
    data: DataSet,
    restorers: Sequence[Restorer],
    *,
    video: bool = False,
    identity: bool = False,
    console: Console | None = None,
) -> Report:
    """Restore and judge every picture; a bar shows on `console` if that is a terminal.

    Raises:
        ValueError: `video` or `identity` was asked of data without sharp twins, or `video` of
            folders with fewer than three frames or with frames of several sizes.
    """
    check(data, video=video, identity=identity)
    report = Report([], [Clip() for _ in range(2 + len(restorers))] if video else [])
    hidden = console is None or not console.is_terminal
    before = None
    with ThreadPoolExecutor() as pool, Progress(console=console, disable=hidden) as progress:
        for case in progress.track(data.cases, description=data.folder.name):
            blurred = read_picture(case.blurred)
            restored, seconds = _restore(blurred, restorers)
            first, *others = pool.map(case.judge, [blurred, *restored])
            back = _identity(case, restorers) if identity else []
            report.rows.append(Row(case.name, first, others, seconds, back))
            if case.sharp and report.clips:
                _watch(report.clips, case.sharp, [blurred, *restored], cut=case.scene != before)
            before = case.scene
    return report


def _restore(blurred: Picture, restorers: Sequence[Restorer]) -> tuple[list[Picture], list[float]]:
    """What each network makes of a picture, and its seconds."""
    restored, seconds = [], []
    for restorer in restorers:
        began = time.perf_counter()
        restored.append(restorer.restore(blurred))
        seconds.append(time.perf_counter() - began)
    return restored, seconds


def _watch(clips: Sequence[Clip], sharp: Path, others: Sequence[Picture], *, cut: bool) -> None:
    """Add a frame to every clip, the sharp one first."""
    twin = read_picture(sharp)
    for clip, frame in zip(clips, [twin, *others], strict=True):
        if cut:
            clip.cut()
        clip.add(frame, twin)


def check(data: DataSet, *, video: bool, identity: bool) -> None:
    """Whether `evaluate` can do what is asked of it; see there."""
    if (video or identity) and any(case.sharp is None for case in data.cases):
        raise ValueError(
            f"{data.folder}: --video and --identity need sharp twins, not Köhler's frames"
        )
    if not video:
        return
    for folder, sequence in groupby(data.cases, key=lambda case: case.scene):
        sizes = []
        for case in sequence:
            with Image.open(case.blurred) as picture:
                sizes.append(picture.size)
        if len(sizes) < 3 or len(set(sizes)) > 1:
            raise ValueError(f"--video needs three or more frames of one size in {folder}")


def _identity(case: Case, restorers: Sequence[Restorer]) -> list[float]:
    """PSNR at which the networks return the sharp picture."""
    assert case.sharp is not None  # `check` saw to it
    sharp = read_picture(case.sharp)
    return [metrics.psnr(restorer.restore(sharp), sharp) for restorer in restorers]


def _mean(figures: Sequence[Figures]) -> Figures:
    return {key: fmean(each[key] for each in figures) for key in figures[0]}
