"""What the networks have in common: a slope, and how layers begin."""

from __future__ import annotations

import torch
from torch import nn

SLOPE = 0.2
"""Of every LeakyReLU [read]."""


def start_at_identity(last: nn.Conv2d) -> None:
    """Make the residual zero, so that training starts from the blurred picture."""
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)


@torch.no_grad()
def icnr(conv: nn.Conv2d) -> nn.Conv2d:
    """Start the conv before a PixelShuffle(2) as nearest-neighbour (ICNR, arXiv 1707.02937)."""
    conv.weight.copy_(conv.weight[::4].repeat_interleave(4, dim=0))
    if conv.bias is not None:
        conv.bias.copy_(conv.bias[::4].repeat_interleave(4))
    return conv
