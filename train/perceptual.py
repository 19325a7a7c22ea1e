"""Perceptual distance: how far apart VGG-19 sees two pictures (equation 8)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal
from urllib.error import URLError
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
"""torchvision's VGG-19, trained on ImageNet."""

_LAYERS = {  # torchvision's place of each convolution up to conv3_3, in order
    "conv1_1": 0,
    "conv1_2": 2,
    "conv2_1": 5,
    "conv2_2": 7,
    "conv3_1": 10,
    "conv3_2": 12,
    "conv3_3": 14,
}
_POOLED_AFTER = {"conv1_2", "conv2_2"}
_CAFFE_SCALE = 255 * 0.226
"""The original weights were made for pictures in 0..255, torchvision's for unit variance."""


class VggFeatures(nn.Module):
    """VGG-19 up to conv3_3, after its ReLU [read]; frozen.

    RGB in [-1, 1], (N, 3, H, W) -> (N, 256, H/4, W/4), on the scale of torchvision's weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """Take `convX_Y.weight` and `.bias`, OIHW, of torchvision's or of Caffe's scale."""
        super().__init__()
        self.convs = nn.ModuleDict()
        for name in _LAYERS:
            kernel = weights[f"{name}.weight"]
            conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
            conv.load_state_dict({"weight": kernel, "bias": weights[f"{name}.bias"]})
            self.convs[name] = conv
        caffe = weights["conv1_1.weight"].abs().mean().item() > 1  # torchvision's is about 0.2
        self.scale = 1 / _CAFFE_SCALE if caffe else 1.0
        # ImageNet's, as both kinds of weights want them.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """The features of `pictures`."""
        x = ((pictures + 1) / 2 - self.mean) / self.std
        for name, conv in self.convs.items():
            x = F.relu(conv(x))
            if name in _POOLED_AFTER:
                x = F.max_pool2d(x, 2)
        return x * self.scale


def perceptual_loss(
    restored: Tensor, sharp: Tensor, *, channels: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Equation 8, `L_per`: squared difference of features (N, C, H, W), divided by W * H.

    As written it sums over the channels. DeblurGAN's code, on which the paper builds, takes their
    mean; with the paper's weight of 100 that is the one that balances [read].
    """
    squared = (restored.float() - sharp.float()).square().mean(dim=(0, 2, 3))
    return squared.sum() if channels == "sum" else squared.mean()


def load_vgg(path: Path | None) -> VggFeatures:
    """VGG-19's features from a .pth as torchvision's, or an .npz; without a path from `URL`.

    Raises:
        ValueError: the weights cannot be had, or the file is not one of VGG-19.
    """
    try:
        return VggFeatures(_from_url() if path is None else _from_file(path))
    except FileNotFoundError as error:
        raise ValueError(f"no VGG-19 weights at {path}: check --vgg") from error
    except (KeyError, RuntimeError, AttributeError, UnpicklingError, BadZipFile) as error:
        raise ValueError(f"{path or URL} does not hold VGG-19 up to conv3_3") from error


def _from_url() -> dict[str, Tensor]:
    try:
        state = torch.hub.load_state_dict_from_url(URL, map_location="cpu", progress=True)
    except (URLError, OSError) as error:
        raise ValueError(
            f"the perceptual loss needs VGG-19, and {URL} could not be fetched ({error}): "
            "connect, or pass --vgg FILE with a .pth of torchvision or an .npz"
        ) from error
    return _named(state)


def _from_file(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return _named(torch.load(path, map_location="cpu", weights_only=True))


def _named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's state, or its features alone, under the names of the layers."""
    prefix = "features." if any(key.startswith("features.") for key in state) else ""
    return {
        f"{name}.{kind}": state[f"{prefix}{place}.{kind}"]
        for name, place in _LAYERS.items()
        for kind in ("weight", "bias")
    }
