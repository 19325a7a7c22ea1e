"""A trained network that teaches the next one what it makes of a picture seen in eight ways.

A network errs differently on a picture and on its mirror image, so the mean over the eight
symmetries of the square is better than each ("seven ways to improve example-based single image
super resolution", arXiv 1511.02228). Learning that mean (self-distillation, as in "Data
Distillation", arXiv 1712.04440) gives a network in one pass part of what eight give; and unlike
the truth it holds nothing that cannot be known from the blurred picture, so steps are less noisy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from train import checkpoint
from train.config import TrainConfig
from train.precision import mixed

_OF_A_DECIBEL = 1 - 10**-0.1
"""The part of a squared error by which it shrinks where PSNR rises by 1 dB."""


class Teacher:
    """A network that is not trained, and how much it has to say."""

    def __init__(self, network: nn.Module, share: float, *, amp: bool = False) -> None:
        """`share` is its part of a target, the truth's being the rest."""
        self._network = network.eval().requires_grad_(False)
        self._share = share
        self._amp = amp

    @classmethod
    def of(cls, config: TrainConfig, device: torch.device) -> Teacher | None:
        """The one that the settings name.

        Raises:
            FileNotFoundError, ValueError: its checkpoint is missing, is none, or does not fit.
        """
        if config.teacher is None:
            return None
        network = checkpoint.load_network(config.teacher)[1].to(device)
        if any(crop % network.multiple_of for crop in config.crops):
            raise ValueError(
                f"--teacher {config.teacher} takes multiples of {network.multiple_of} pixels: "
                "choose such --crops"
            )
        return cls(network, config.teacher_share, amp=config.amp)

    @torch.no_grad()
    def targets(self, blurred: Tensor, sharp: Tensor) -> Tensor:
        """What to learn in place of `sharp`; all are square crops (N, 3, S, S) in [0, 1].

        The share is whole where the teacher takes a decibel off the error, and falls to none where
        it takes nothing off: a teacher that hardly knows better than the blurred crop, as with weak
        blur, would teach to leave it blurred.
        """
        answers = self._mean_of_views(blurred * 2 - 1) / 2 + 0.5
        left = _squared_error(answers, sharp) / _squared_error(blurred, sharp).clamp_min(1e-12)
        share = self._share * ((1 - left) / _OF_A_DECIBEL).clamp(0, 1)
        return sharp.lerp(answers, share)

    def _mean_of_views(self, blurred: Tensor) -> Tensor:
        ways = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)]
        views = torch.cat([_see(blurred, *way) for way in ways])
        with mixed(blurred.device, self._amp):
            restored = self._network(views.contiguous(memory_format=torch.channels_last))
        chunks = zip(restored.float().chunk(len(ways)), ways, strict=True)
        return torch.stack([_see_back(view, *way) for view, way in chunks]).mean(dim=0)


def _see(pictures: Tensor, turns: int, mirrored: bool) -> Tensor:
    return (pictures.flip(3) if mirrored else pictures).rot90(turns, (2, 3))


def _see_back(pictures: Tensor, turns: int, mirrored: bool) -> Tensor:
    turned = pictures.rot90(-turns, (2, 3))
    return turned.flip(3) if mirrored else turned


def _squared_error(pictures: Tensor, truth: Tensor) -> Tensor:
    """Mean of each picture, (N, 1, 1, 1)."""
    return (pictures - truth).square().mean(dim=(1, 2, 3), keepdim=True)
