"""How sharp a picture is, in one number that depends little on what it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamdeblur.frames import Image

_MOST_PIXELS = 400_000  # that are looked at
_GROUP = 4  # rows that are looked at together, for gradients across rows at two scales
# Squared levels: keeps noise in flat pictures, black ones above all, from counting as detail.
_FLOOR = 0.5


@dataclass(frozen=True, slots=True)
class Sharpness:
    """What `sharpness` finds."""

    value: float
    """-1 for what has no detail but slopes, 0 for that of a sharp photograph, 1 for white noise."""
    energy: float
    """Of the gradients at half resolution, in squared levels: it jumps when the scene changes."""
    edges: float
    """RMS of the gradients at both scales, in levels: of two pictures of one thing, the sharper has
    the greater. (A network that takes noise away as well may lower `value`.)"""


def sharpness(image: Image) -> Sharpness:
    """Measure a picture, RGB uint8 of shape (H, W, 3), by the gradient energies at two scales.

    Blur takes from the fine scale what it leaves in the coarse one, so their ratio tells blur from
    pictures that are merely plain, as comparing a picture with itself blurred again does (Crete,
    Dolmiere, Ladret and Nicolas, "The blur effect", SPIE 6492, 2007). Gradient energy alone, by
    which frames of one scene are often ranked (Matsushita, Ofek, Ge, Tang and Shum, "Full-frame
    video stabilization with motion inpainting", PAMI 28, 2006), cannot.
    """
    height, width, _ = image.shape
    if height < _GROUP or width < _GROUP:
        return Sharpness(0.0, _FLOOR, 0.0)
    every = _GROUP * max(1, round(height * width / _MOST_PIXELS))
    starts = range(0, height - _GROUP + 1, every)
    # Green carries most of the luma, and is there already.
    rows = np.stack([image[top : top + _GROUP, : width // 2 * 2, 1] for top in starts])
    fine = rows.astype(np.float32)
    coarse = fine.reshape(len(starts), _GROUP // 2, 2, width // 2, 2).mean(axis=(2, 4))
    energies = [_energies(scale) for scale in (fine, coarse)]
    # Across and along are compared on their own: motion takes from one direction alone.
    ratios = [math.log(one / other, 4) for one, other in zip(*energies, strict=True)]
    edges = math.sqrt(sum(map(sum, energies)) / 2)
    return Sharpness(sum(ratios) / 2, sum(energies[1]), edges)


def _energies(rows: NDArray[np.float32]) -> list[float]:
    """Means of the squared differences downwards and to the right."""
    return [float(np.mean(np.square(np.diff(rows, axis=axis)))) + _FLOOR for axis in (1, 2)]
