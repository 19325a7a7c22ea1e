"""What a lower precision costs on real pairs, and how much it may cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdeblur.errors import ModelError
from train import metrics
from train.pictures import find_pairs, read_picture

LIMIT = 0.1
"""Share of the gain over the blurred input that a lower precision may give up."""
Picture = NDArray[np.uint8]
"""RGB, shape (H, W, 3)."""
Restore = Callable[[Picture], Picture]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Mean gains in PSNR over the blurred pictures, in dB: of the network in fp32, and lower."""

    pairs: str
    """Name of the folder."""
    pictures: int
    fp32: float
    lower: float

    @property
    def share(self) -> float:
        """Of the gain that is given up; negative if the lower precision does better."""
        return (self.fp32 - self.lower) / self.fp32

    @property
    def accepted(self) -> bool:
        """Whether that is within the limit."""
        return self.share <= LIMIT

    def facts(self, precision: str) -> dict[str, Any]:
        """As they travel in a model's file."""
        gain = {"fp32": round(self.fp32, 4), precision: round(self.lower, 4)}
        return {"pairs": self.pairs, "pictures": self.pictures, "gain": gain, "limit": LIMIT}

    def __str__(self) -> str:
        return (
            f"{self.lower:+.3f} dB where fp32 has {self.fp32:+.3f}, on {self.pictures} pairs of "
            f"{self.pairs}: {self.share:z.1%} of the gain given up, {LIMIT:.0%} allowed"
        )


class Gate:
    """Pairs that a network in fp32 was measured on, and is measured on in lower precisions."""

    def __init__(self, folder: Path, fp32: Restore) -> None:
        """Measure `fp32` on what `train.pictures.find_pairs` finds in `folder`.

        Raises:
            FileNotFoundError, ValueError: there are no pairs, or a picture is broken.
            ModelError: the network gains nothing, so that there is nothing to keep.
        """
        self._name = folder.resolve().name
        self._pairs = find_pairs(folder)
        self._blurred = [
            metrics.finite_psnr(read_picture(blurred), read_picture(sharp), blurred)
            for blurred, sharp in self._pairs
        ]
        self._fp32 = self._gain(fp32)
        if self._fp32 <= 0:
            raise ModelError(
                f"on {folder} the network gains {self._fp32:+.3f} dB in fp32: there is nothing "
                "that a lower precision could keep"
            )

    def judge(self, lower: Restore) -> Verdict:
        """Measure the network in a lower precision."""
        return Verdict(self._name, len(self._pairs), self._fp32, self._gain(lower))

    def _gain(self, restore: Restore) -> float:
        return fmean(
            metrics.psnr(restore(read_picture(blurred)), read_picture(sharp)) - before
            for (blurred, sharp), before in zip(self._pairs, self._blurred, strict=True)
        )
