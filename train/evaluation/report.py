"""Figures as tables for people and as JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from train.evaluation import video
from train.evaluation.datasets import DataSet, Figures
from train.evaluation.judging import Report
from train.evaluation.restorer import Restorer
from train.evaluation.video import Clip


def show(data: DataSet, restorers: Sequence[Restorer], report: Report, console: Console) -> None:
    """Print the protocol, a table for each network, and one for the video."""
    console.print(f"\n{data.folder}: {data.protocol}", markup=False)
    for index, restorer in enumerate(restorers):
        console.print(_table(f"{data.folder.name}, {restorer.name}", report, index))
    if report.clips:
        console.print(video.PROTOCOL)
        console.print(_video_table(data.folder.name, restorers, report.clips))


def _table(title: str, report: Report, network: int) -> Table:
    table = Table("picture", title=escape(title))
    for key in report.rows[0].blurred:
        table.add_column(f"{key}\nblurred", justify="right", no_wrap=True)
        table.add_column("\nrestored", justify="right", no_wrap=True)
        if key == "PSNR":
            table.add_column("gain\ndB", justify="right", no_wrap=True)
    with_identity = bool(report.rows[0].identity)
    if with_identity:
        table.add_column("sharp fed\nPSNR", justify="right", no_wrap=True)
    for row in report.rows:
        cells = _cells(row.blurred, row.restored[network])
        if with_identity:
            cells.append(f"{row.identity[network]:.2f}")
        table.add_row(escape(row.name), *cells)
    cells = _cells(report.mean_blurred(), report.mean_restored(network))
    if with_identity:
        returned = [row.identity[network] for row in report.rows]
        cells.append(f"{fmean(returned):.2f}\nleast {min(returned):.2f}")
    table.add_section()
    table.add_row(f"mean of {len(report.rows)}", *cells, style="bold")
    return table


def _cells(blurred: Figures, restored: Figures) -> list[str]:
    cells = []
    for key in blurred:
        digits = 2 if key == "PSNR" else 4
        cells += [f"{blurred[key]:.{digits}f}", f"{restored[key]:.{digits}f}"]
        if key == "PSNR":
            gain = restored[key] - blurred[key]
            cells.append(f"{gain:+.2f}" if math.isfinite(gain) else "-")  # of equal pictures
    return cells


def _video_table(title: str, restorers: Sequence[Restorer], clips: Sequence[Clip]) -> Table:
    table = Table("clip", title=escape(f"{title}, as a video"))
    for column in ("flicker", "of the sharp's", "of the blurred's", "temporal error"):
        table.add_column(column, justify="right")
    names = ["sharp", "blurred", *(restorer.name for restorer in restorers)]
    sharp, blurred = clips[0].flicker, clips[1].flicker
    for name, clip in zip(names, clips, strict=True):
        ratios = [f"{clip.flicker / base:.3f}" if base else "-" for base in (sharp, blurred)]
        table.add_row(escape(name), f"{clip.flicker:.3f}", *ratios, f"{clip.temporal_error:.3f}")
    return table


def to_json(data: DataSet, report: Report, restorers: Sequence[Restorer]) -> dict[str, Any]:
    """Plain data; an infinite PSNR, of equal pictures, becomes None."""

    def plain(figures: Figures) -> dict[str, float | None]:
        return {key: _finite(value) for key, value in figures.items()}

    networks: list[dict[str, Any]] = []
    for index, restorer in enumerate(restorers):
        pictures = [
            {"name": row.name, "seconds": row.seconds[index], **plain(row.restored[index])}
            | ({"identity": _finite(row.identity[index])} if row.identity else {})
            for row in report.rows
        ]
        mean = plain(report.mean_restored(index))
        if report.rows[0].identity:
            mean["identity"] = _finite(fmean(row.identity[index] for row in report.rows))
        networks.append(
            {
                "model": restorer.name,
                "runs_on": restorer.runs_on,
                "mean": mean,
                "pictures": pictures,
            }
        )
    blurred = {
        "mean": plain(report.mean_blurred()),
        "pictures": [{"name": row.name, **plain(row.blurred)} for row in report.rows],
    }
    temporal = [
        {"flicker": clip.flicker, "temporal_error": clip.temporal_error} for clip in report.clips
    ]
    if temporal:
        sharp, blurred["video"], *others = temporal
        for network, figures in zip(networks, others, strict=True):
            network["video"] = figures
    return {
        "data": data.folder.name,
        "protocol": data.protocol,
        **({"sharp": {"video": sharp}} if temporal else {}),
        "blurred": blurred,
        "networks": networks,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
