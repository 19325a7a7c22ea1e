"""The pictures that networks are judged on, checked before hours are spent on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train import metrics
from train.evaluation import koehler
from train.evaluation.lpips_distance import Distance
from train.pictures import find_pairs, read_picture, size_of

Figures = dict[str, float]
"""By name, for one picture: PSNR in dB (infinite for equal pictures), the others without unit."""

PAIRS_PROTOCOL = (
    "whole RGB pictures, no crop, rounded to 8 bits; PSNR over all channels; "
    "SSIM: 11x11 Gaussian windows of sigma 1.5 inside each channel, their mean (scikit-image, "
    "after Wang et al. 2004); SSIM-3D: 11x11x11 windows over pixels and channels, edges "
    "replicated (MATLAB's ssim on RGB, as MPRNet, Restormer and NAFNet report)"
)
_LINEAR = {"blur": ", which in GoPro is averaged linearly", "blur_gamma": ", averaged with gamma"}


@dataclass(frozen=True, slots=True)
class Case:
    """A blurred picture, and how what is made of it is judged."""

    name: str
    blurred: Path
    sharp: Path | None
    """Its twin; None where there are many references."""
    judge: Callable[[NDArray[np.uint8]], Figures]

    @property
    def scene(self) -> Path:
        """The folder of the blurred picture: where it is a frame, that of its clip."""
        return self.blurred.parent


@dataclass(frozen=True, slots=True)
class DataSet:
    """Cases that share a protocol."""

    folder: Path
    protocol: str
    cases: list[Case]


def open_data(
    folder: Path, *, blur_folder: str = "blur", perceptual: Distance | None = None
) -> DataSet:
    """Köhler's data set, GoPro as it unpacks, or plain blur/ and sharp/: what `folder` holds.

    Every file is opened, so that what is missing, broken or of another size shows at once.

    Raises:
        FileNotFoundError: there is no such folder, it holds no data set, or a twin is missing.
        ValueError: a picture is broken or too small, or differs in size from its twin.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if found := koehler.find(folder):
        if perceptual:
            raise ValueError("--lpips: Köhler's protocol has no place for it")
        return _koehler(folder, found)
    pairs = find_pairs(folder, blur_folder)
    for pair in pairs:
        _check_sizes(pair, metrics.SMALLEST)
    cases = []
    for blurred, sharp in pairs:
        parts = blurred.relative_to(folder).with_suffix("").parts
        name = "/".join(part for part in parts if part != blur_folder)
        cases.append(Case(name, blurred, sharp, partial(_compare, sharp, perceptual)))
    kind = f"{len(pairs)} pairs, blurred ones from {blur_folder}/{_LINEAR.get(blur_folder, '')}"
    lpips = "; LPIPS: version 0.1, AlexNet" if perceptual else ""
    return DataSet(folder, f"{kind}; {PAIRS_PROTOCOL}{lpips}", cases)


def _koehler(folder: Path, found: list[tuple[Path, list[Path]]]) -> DataSet:
    for blurred, references in found:
        _check_sizes([blurred, *references], koehler.SMALLEST)
    cases = [
        Case(blurred.stem, blurred, None, partial(koehler.judge, references))
        for blurred, references in found
    ]
    counts = sorted({len(references) for _, references in found})
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    kind = f"{len(cases)} of Köhler's {koehler.PICTURES} pictures, {each} reference frames each"
    return DataSet(folder, f"{kind}; {koehler.PROTOCOL}", cases)


def _compare(sharp: Path, perceptual: Distance | None, picture: NDArray[np.uint8]) -> Figures:
    reference = read_picture(sharp)
    figures = {
        "PSNR": metrics.psnr(picture, reference),
        "SSIM": metrics.ssim(picture, reference),
        "SSIM-3D": metrics.ssim_3d(picture, reference),
    }
    return figures | ({"LPIPS": perceptual(picture, reference)} if perceptual else {})


def _check_sizes(paths: Iterable[Path], smallest: int) -> None:
    """All alike and at least `smallest` pixels either way."""
    first, *others = paths
    metrics.refuse_small(first, size := size_of(first), smallest)
    for other in others:
        if size_of(other) != size:
            raise ValueError(f"{first} and {other} differ in size")
