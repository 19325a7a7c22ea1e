"""Köhler's data set of real camera shake, and the protocol of its authors' own script.

R. Köhler, M. Hirsch, B. Mohler, B. Schölkopf, S. Harmeling: "Recording and playback of camera
shake: benchmarking blind deconvolution with a real-world database", ECCV 2012.

The download has 48 blurred pictures, `Blurry1_1.png` to `Blurry4_12.png` (four scenes, twelve
trajectories), and for each about 199 sharp frames along its trajectory (198 to 200),
`Image1/Kernel1/GroundTruth1_1_1.png` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, gaussian_filter, shift
from skimage.registration import phase_cross_correlation

from train.pictures import read_picture

PICTURES = 48
PROTOCOL = (
    "Köhler's script (eval_image.m): each picture is scaled to the least squared error and moved "
    "by whole pixels to the peak of the cross-correlation; PSNR and multi-scale SSIM on the luma "
    "of the overlap, each the best of all reference frames; rounded to 8 bits"
)
SMALLEST = 176
"""Pixels either way: the coarsest of the five scales must hold a window of 11."""
_BLURRED = re.compile(r"Blurry(\d+)_(\d+)\.\w+")
_REFERENCE = re.compile(r"GroundTruth(\d+)_(\d+)_(\d+)\.\w+")
_LUMA = np.array([0.299, 0.587, 0.114])
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, finest first (Wang, Simoncelli, Bovik, Asilomar 2003)."""
_HALVING = np.array([0.037828, -0.023849, -0.110624, 0.377403, 0.852699])
"""Half of the 9/7 wavelet's low-pass filter, up to its middle; scaled to the sum 1 where used."""

Plane = NDArray[np.float64]
"""Luma in levels, shape (H, W)."""


def find(folder: Path) -> list[tuple[Path, list[Path]]]:
    """Each blurred picture below `folder` with its reference frames, in the order of the numbers.

    Empty if there is no such picture: then the folder is another data set.

    Raises:
        FileNotFoundError: a blurred picture has no reference frames.
    """
    blurred: dict[tuple[int, ...], Path] = {}
    references: dict[tuple[int, ...], list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if match := _BLURRED.fullmatch(path.name):
            blurred[tuple(map(int, match.groups()))] = path
        elif match := _REFERENCE.fullmatch(path.name):
            scene, kernel, _ = map(int, match.groups())
            references.setdefault((scene, kernel), []).append(path)
    for key, path in blurred.items():
        if key not in references:
            name = "GroundTruth{}_{}_*".format(*key)
            raise FileNotFoundError(f"{path} has no reference frames {name} in {folder}")
    return [(blurred[key], references[key]) for key in sorted(blurred)]


def judge(references: Sequence[Path], picture: NDArray[np.uint8]) -> dict[str, float]:
    """The best PSNR in dB and the best multi-scale SSIM of (H, W, 3) over all references.

    Raises:
        ValueError: a reference is no picture.
    """
    with ThreadPoolExecutor() as pool:
        figures = list(pool.map(partial(_against, picture), references))
    return {"PSNR": max(f[0] for f in figures), "MSSIM": max(f[1] for f in figures)}


def _against(picture: NDArray[np.uint8], reference: Path) -> tuple[float, float]:
    return compare(picture, read_picture(reference))


def compare(picture: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> tuple[float, float]:
    """PSNR and multi-scale SSIM by `PROTOCOL` against one reference frame, both (H, W, 3)."""
    x, z = sharp.astype(np.float64), picture.astype(np.float64)
    scale = (x * z).sum() / max((z * z).sum(), 1.0)
    offset, _, _ = phase_cross_correlation(x.mean(axis=2), z.mean(axis=2), normalization=None)
    overlap = shift(np.ones(x.shape[:2]), offset, order=0)
    moved = shift(scale * (z @ _LUMA), offset, order=0)
    reference = (x @ _LUMA) * overlap
    error = float(np.square(reference - moved).mean())
    psnr = 10 * np.log10(255**2 / error) if error else float("inf")
    return float(psnr), mssim(reference, moved)


def mssim(x: Plane, y: Plane) -> float:
    """Multi-scale structural similarity of two planes (Wang, Simoncelli, Bovik, Asilomar 2003).

    Contrast and structure at five scales, luminance at the coarsest; Gaussian windows of 11x11,
    sigma 1.5, inside the picture; halved through the 9/7 low-pass filter, as in the MeTriX MuX
    package that Köhler's script calls.

    Raises:
        ValueError: the planes are smaller than `SMALLEST` either way.
    """
    if min(x.shape) < SMALLEST:
        raise ValueError(f"multi-scale SSIM needs {SMALLEST} pixels either way, got {x.shape}")
    product = 1.0
    for level, weight in enumerate(_WEIGHTS):
        if level:
            x, y = _halved(x), _halved(y)
        luminance, contrast, structure = _components(x, y)
        product *= (contrast * max(structure, 0.0)) ** weight
    return float(product * luminance ** _WEIGHTS[-1])


def _components(x: Plane, y: Plane) -> tuple[float, float, float]:
    """Mean luminance, contrast and structure terms of one scale."""

    def mean(plane: Plane) -> Plane:
        smooth: Plane = gaussian_filter(plane, 1.5, radius=5)[5:-5, 5:-5]
        return smooth

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = mean(x), mean(y)
    # Rounding may leave the variance of a flat window a little below zero.
    variance_x = np.maximum(mean(x * x) - mean_x**2, 0)
    variance_y = np.maximum(mean(y * y) - mean_y**2, 0)
    covariance = mean(x * y) - mean_x * mean_y
    deviations = np.sqrt(variance_x * variance_y)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast = (2 * deviations + c2) / (variance_x + variance_y + c2)
    structure = (covariance + c2 / 2) / (deviations + c2 / 2)
    return float(luminance.mean()), float(contrast.mean()), float(structure.mean())


def _halved(plane: Plane) -> Plane:
    taps = np.concatenate([_HALVING, _HALVING[-2::-1]])
    for axis in (0, 1):
        plane = correlate1d(plane, taps / taps.sum(), axis=axis, mode="reflect")
    return plane[::2, ::2]
