"""The paper's tables 1 to 3, with columns for ours.

Li, Kong, Xue, Wang: "Depth Separable Convolution Lightweight Blind Motion Deblurring Algorithm".
"""

from __future__ import annotations

from statistics import median

from rich.markup import escape
from rich.table import Table

from train.evaluation.judging import Report
from train.evaluation.restorer import Restorer

CITATION = (
    'figures of others from Li, Kong, Xue, Wang: "Depth Separable Convolution Lightweight Blind '
    'Motion Deblurring Algorithm", measured there on a GTX 1080 Ti; it does not say which SSIM'
)
METHODS = ("Xu", "Kim", "CNN-Deblur", "DeepDeblur", "DeblurGAN", "GR-DeblurGAN", "the paper")
Figures = dict[str, tuple[float | None, ...]]
"""Rows of a table; each in the order of `METHODS`, None where the paper has none."""
GOPRO: Figures = {
    "PSNR": (24.81, 23.64, 24.64, 29.08, 28.42, 27.7, 29.34),
    "SSIM": (0.884, 0.823, 0.842, 0.913, 0.917, 0.923, 0.928),
}
KOEHLER: Figures = {
    "PSNR": (27.41, None, 25.22, 26.21, 26.10, None, 26.32),
    "SSIM": (0.750, None, 0.773, 0.807, 0.815, None, 0.822),
}
COST: Figures = {
    "GoPro, s an image": (13.41, None, 1200, 4.3, 0.91, None, 0.48),
    "Köhler, s an image": (12.59, None, 1200, 4.3, 0.62, None, 0.35),
    # The paper's own count is MiB of fp32: 3,133,582 parameters are its 11.9.
    "parameters, MB": (37, None, 52, 303, 23.2, None, 11.9),
}


def tables(restorer: Restorer, gopro: Report | None, koehler: Report | None) -> list[Table]:
    """The three tables; where the data is not given, our columns say so."""
    times = {
        "GoPro, s an image": _seconds(gopro, "no --gopro"),
        "Köhler, s an image": _seconds(koehler, "no --koehler"),
        "parameters, MB": _megabytes(restorer),
    }
    name = escape(restorer.name)
    return [
        _quality(f"Table 1: GoPro, {_count(gopro, 'pairs')}", GOPRO, name, gopro, "no --gopro"),
        _quality(
            f"Table 2: Köhler, {_count(koehler, 'pictures')}; SSIM multi-scale",
            KOEHLER,
            name,
            koehler,
            "no --koehler",
        ),
        _table("Table 3: time and size", COST, {name: times}),
    ]


def _quality(title: str, figures: Figures, name: str, report: Report | None, absent: str) -> Table:
    if report is None:
        return _table(title, figures, {name: dict.fromkeys(figures, absent)})
    columns = {}
    for column, mean in (("blurred", report.mean_blurred()), (name, report.mean_restored(0))):
        ssims = [f"{value:.4f} {kind}" for kind, value in mean.items() if "SSIM" in kind]
        columns[column] = {"PSNR": f"{mean['PSNR']:.2f}", "SSIM": "\n".join(ssims)}
    return _table(title, figures, columns)


def _table(title: str, figures: Figures, ours: dict[str, dict[str, str]]) -> Table:
    """Rows of the paper's figures, then our columns, each a text for every row."""
    shown = Table("", title=title)
    for method in (*METHODS, *ours):
        shown.add_column(method, justify="right")
    for row, values in figures.items():
        others = ["-" if value is None else f"{value:g}" for value in values]
        shown.add_row(row, *others, *(column[row] for column in ours.values()))
    return shown


def _count(report: Report | None, things: str) -> str:
    return f"{len(report.rows)} {things}" if report else "not measured"


def _seconds(report: Report | None, absent: str) -> str:
    """The median, here and now."""
    return f"{median(row.seconds[0] for row in report.rows):.3f}" if report else absent


def _megabytes(restorer: Restorer) -> str:
    return f"{restorer.parameters * 4 / 2**20:.1f}" if restorer.parameters else "unknown"
