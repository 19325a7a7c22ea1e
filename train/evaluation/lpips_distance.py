"""LPIPS, for those who have its weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ALEXNET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
Distance = Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]
"""Of two RGB pictures (H, W, 3); 0 for equal ones, lower is better."""


def open_lpips() -> Distance:
    """The learned perceptual distance of Zhang et al. (CVPR 2018), version 0.1 on AlexNet.

    Raises:
        ValueError: the package or AlexNet's weights are missing; says which, and what to do.
    """
    try:
        from lpips import LPIPS
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises either
        raise ValueError(
            f"--lpips needs the package lpips, and a torchvision that fits this torch ({error}): "
            "pip install lpips"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls torchvision by a deprecated name
            network = LPIPS(net="alex", verbose=False)
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(
            f"--lpips needs AlexNet's weights, which could not be had ({error}): "
            f"put {ALEXNET} into {folder}"
        ) from error

    @torch.no_grad()
    def distance(picture: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> float:
        return float(network(_tensor(picture), _tensor(sharp)))

    return distance


def _tensor(picture: NDArray[np.uint8]) -> Tensor:
    """(1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
