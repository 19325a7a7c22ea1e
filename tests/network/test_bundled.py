"""What the bundled weights do to pictures whose answer is known without a data set."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from streamdeblur.deblurrer import Deblurrer
from streamdeblur.network.catalogue import bundled_models

Picture = NDArray[np.uint8]

_WAYS = [
    (model.name, precision) for model in bundled_models() for precision in sorted(model.precisions)
]


@pytest.fixture(scope="module", params=_WAYS, ids="-".join)
def network(request: pytest.FixtureRequest) -> Deblurrer:
    name, precision = request.param
    return Deblurrer.load(name, device="cpu", precision=precision)


def checks() -> NDArray[np.float64]:
    """A board of gray fields, (H, W) in levels."""
    y, x = np.mgrid[:96, :128]
    return np.where((x // 32 + y // 24) % 2, 200.0, 50.0)


def moved(plane: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    """The mean over a movement to the side."""
    return np.mean([np.roll(plane, step - pixels // 2, axis=1) for step in range(pixels)], axis=0)


def gray(plane: NDArray[np.float64]) -> Picture:
    return np.repeat(plane.round().astype(np.uint8)[..., None], 3, axis=2)


def test_motion_blur_becomes_less(network: Deblurrer) -> None:
    blurred, sharp = gray(moved(checks(), 9)), checks()[..., None]
    before, after = (((each - sharp) ** 2).mean() for each in (blurred, network(blurred)))
    assert after < 0.95 * before


def test_gray_edges_stay_nearly_gray(network: Deblurrer) -> None:
    """What is corrected is lightness: colour is a lesser part of it."""
    blurred = gray(moved(checks(), 9))
    restored = network(blurred).astype(int)
    colour = restored.max(axis=2) - restored.min(axis=2)
    correction = np.abs(restored - blurred)
    assert colour.max() <= 16
    assert colour.max() < 0.4 * correction.max()
    assert colour.mean() < 0.35 * correction.mean()


@pytest.mark.parametrize("level", [0, 64, 128, 255])
def test_what_is_flat_stays_flat(network: Deblurrer, level: int) -> None:
    flat = np.full((64, 96, 3), level, np.uint8)
    assert np.abs(network(flat).astype(int) - level).max() <= 2


def test_no_grid_is_laid_over_the_picture(network: Deblurrer) -> None:
    """Networks that shuffle pixels can favour some places of each 4x4 group of them."""
    y, x = np.mgrid[:192, :256] / 64
    waves = [127 + 60 * np.sin(2 * x + p) * np.cos(3 * y - p) for p in (0, 1, 2)]
    smooth = np.stack(waves, axis=-1).round().astype(np.uint8)
    correction = network(smooth).astype(float) - smooth
    places = correction[16:-16, 16:-16].reshape(40, 4, 56, 4, 3).mean(axis=(0, 2, 4))
    assert np.ptp(places, axis=(0, 1)).max() < 0.3


def test_all_precisions_are_of_one_training(network: Deblurrer) -> None:
    assert network.spec.training == Deblurrer.load(network.spec.name, device="cpu").spec.training
