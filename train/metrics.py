"""How close restored pictures come to the sharp ones, beside how close the blurred ones were."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from train.pictures import find_pairs, read_picture

PROTOCOL = (
    "PSNR and SSIM on whole RGB pictures rounded to 8 bits, no crop; "
    "SSIM with Gaussian windows of sigma 1.5, data range 255, mean of the channels (scikit-image)"
)


SMALLEST = 11
"""Pixels either way that a window of SSIM needs."""


@dataclass(frozen=True, slots=True)
class Score:
    """The figures of one picture. PSNR in dB."""

    name: str
    psnr_blurred: float
    psnr_restored: float
    ssim_blurred: float
    ssim_restored: float

    @property
    def gain(self) -> float:
        """What the network gave, in dB; negative where it did harm."""
        return self.psnr_restored - self.psnr_blurred


@dataclass(frozen=True, slots=True)
class Pair:
    """A blurred picture with its sharp twin, uint8 RGB (H, W, 3), and the blurred one's figures."""

    name: str
    blurred: NDArray[np.uint8]
    sharp: NDArray[np.uint8]
    psnr: float
    ssim: float


def load_pairs(folders: Iterable[Path], blur_folder: str = "blur") -> list[Pair]:
    """Read the pairs of `folders`, named after their blurred files.

    Raises:
        FileNotFoundError, ValueError: as `find_pairs` and `read_picture`; twins differ in size, are
            too small, or a gain in PSNR cannot be measured.
    """
    found = [pair for folder in folders for pair in find_pairs(folder, blur_folder)]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_loaded, found))


def _loaded(paths: tuple[Path, Path]) -> Pair:
    name, (blurred, sharp) = paths[0], map(read_picture, paths)
    refuse_small(name, blurred.shape[:2])
    measured = finite_psnr(blurred, sharp, name), ssim(blurred, sharp)
    return Pair(name.stem, blurred, sharp, *measured)


def refuse_small(name: Path, size: tuple[int, int], smallest: int = SMALLEST) -> None:
    """Raise ValueError if a picture of `size`, (height, width), is too small for what judges it."""
    if min(size) < smallest:
        height, width = size
        raise ValueError(f"{name} is {width}x{height}: too small to judge, {smallest} needed")


def finite_psnr(blurred: NDArray[np.uint8], sharp: NDArray[np.uint8], name: Path) -> float:
    """PSNR in dB of a blurred picture, to which a gain is to be measured.

    Raises:
        ValueError: it is infinite, or the two differ in size.
    """
    if blurred.shape != sharp.shape:
        raise ValueError(f"{name} and its sharp twin differ in size")
    if math.isinf(value := psnr(blurred, sharp)):
        raise ValueError(f"{name} equals its sharp twin: no gain can be measured on it")
    return value


def psnr(picture: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal pictures."""
    if np.array_equal(picture, sharp):
        return float("inf")
    return float(peak_signal_noise_ratio(sharp, picture, data_range=255))


def ssim(picture: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> float:
    """Structural similarity (Wang et al., 2004), by `PROTOCOL`."""
    return float(
        structural_similarity(
            sharp,
            picture,
            channel_axis=2,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def ssim_3d(picture: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> float:
    """Structural similarity as MATLAB's `ssim` gives it for two RGB arrays; as a rule higher.

    It takes (H, W, 3) for a volume: one Gaussian window of 11x11x11, sigma 1.5, over pixels and
    channels alike, all edges replicated, nothing cut off. MPRNet and Restormer report this (their
    evaluate_GOPRO_HIDE.m), NAFNet too (basicsr/metrics/psnr_ssim.py, a conv3d in single precision,
    as here); DeepDeblur's author calls it a mistake, made in his paper as well
    (github.com/SeungjunNah/DeepDeblur_release/issues/51).
    """

    def mean(volume: NDArray[np.float32]) -> NDArray[np.float32]:
        smooth: NDArray[np.float32] = gaussian_filter(volume, 1.5, mode="nearest", radius=5)
        return smooth

    x, y = sharp.astype(np.float32), picture.astype(np.float32)
    mean_x, mean_y = mean(x), mean(y)
    variances = mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return float((luminance * structure).mean(dtype=np.float64))


@torch.no_grad()
def restore(network: nn.Module, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Run one picture of any size, (H, W, 3), through a network, as an exported model does."""
    height, width, _ = picture.shape
    multiple: int = network.multiple_of  # type: ignore[assignment]  # every generator has it
    device = next(network.parameters()).device
    x = torch.from_numpy(picture).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1
    x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    sharp = network(x)[0, :, :height, :width]
    levels = ((sharp + 1) * 127.5).round().clamp(0, 255).byte()
    restored: NDArray[np.uint8] = levels.permute(1, 2, 0).cpu().numpy()
    return restored


def evaluate(network: nn.Module, pairs: Iterable[Pair]) -> list[Score]:
    """Restore every pair's blurred picture and compare."""

    def score(restored: NDArray[np.uint8], pair: Pair) -> Score:
        measured = psnr(restored, pair.sharp), ssim(restored, pair.sharp)
        return Score(pair.name, pair.psnr, measured[0], pair.ssim, measured[1])

    with ThreadPoolExecutor() as pool:
        scores = [pool.submit(score, restore(network, pair.blurred), pair) for pair in pairs]
        return [each.result() for each in scores]


def entry(title: str, scores: Sequence[Score]) -> dict[str, Any]:
    """What a curve keeps of the scores of one set of pictures."""
    figures = [asdict(score) for score in scores]
    return {title: figures, f"{title}_gain": round(mean_gain(scores), 4)}


def mean_gain(scores: Iterable[Score]) -> float:
    """Mean gain over the blurred pictures, in dB."""
    return fmean(score.gain for score in scores)
