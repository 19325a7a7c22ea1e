"""Tiny pictures and folders for the training tests, made in code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")
from PIL import Image
from scipy.ndimage import gaussian_filter

torch.set_num_threads(1)  # tiny tensors: threads would only wait for each other


def photograph(seed: int, height: int = 160, width: int = 180) -> np.ndarray:
    """A picture with structure at several scales, uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    layers = [gaussian_filter(random.normal(size=(height, width, 3)), (s, s, 0)) for s in (1, 3, 9)]
    picture = sum(layer / layer.std() for layer in layers)
    return np.clip(128 + 35 * picture, 0, 255).astype(np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(photograph(seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    for kind in ("blur", "sharp"):
        (folder / kind).mkdir(parents=True)
    for seed in range(2):
        sharp = photograph(seed, 70, 90)
        Image.fromarray(sharp).save(folder / "sharp" / f"{seed}.png")
        Image.fromarray(gaussian_filter(sharp, (0, 2, 0))).save(folder / "blur" / f"{seed}.png")
    return folder


@pytest.fixture
def vgg_weights() -> dict[str, torch.Tensor]:
    """Random weights in the order of VGG-19 up to conv3_3, an eighth as wide."""
    generator = torch.Generator().manual_seed(0)
    layers = {"1_1": (3, 8), "1_2": (8, 8), "2_1": (8, 16), "2_2": (16, 16)}
    layers |= {"3_1": (16, 32), "3_2": (32, 32), "3_3": (32, 32)}
    weights = {}
    for name, (channels, out) in layers.items():
        spread = (2 / (9 * channels)) ** 0.5
        kernel = torch.randn(out, channels, 3, 3, generator=generator)
        weights[f"conv{name}.weight"] = spread * kernel
        weights[f"conv{name}.bias"] = 0.1 * torch.randn(out, generator=generator)
    return weights


@pytest.fixture
def vgg(vgg_weights, tmp_path: Path) -> Path:
    np.savez(tmp_path / "vgg.npz", **{name: w.numpy() for name, w in vgg_weights.items()})
    return tmp_path / "vgg.npz"
