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
