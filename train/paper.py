"""The paper's generator, of Li, Kong, Xue and Wang, and its block.

"Depth Separable Convolution Lightweight Blind Motion Deblurring Algorithm". The paper's figures are
not available; where its text leaves a choice open, the line that makes the choice is marked [read].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from train.architecture import PAPER, GeneratorConfig
from train.layers import SLOPE, icnr, start_at_identity


class ChannelAttention(nn.Module):
    """Scales channels by what their global mean and maximum say (CBAM, arXiv 1807.06521)."""

    def __init__(self, channels: int, ratio: int = 16) -> None:  # ratio [read]
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, channels // ratio, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(channels // ratio, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        peak = x.amax(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.mlp(mean) + self.mlp(peak))


class SpatialAttention(nn.Module):
    """Scales places by the mean and maximum over their channels (CBAM, arXiv 1807.06521)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(summary))


class SeparableConv(nn.Module):
    """Depthwise 3x3 without bias [read], then pointwise 1x1 with bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class AttentiveSeparableBlock(nn.Module):
    """The paper's DSCRB: `x + body(attention(x))`.

    The text feeds F' to the convolutions where its own definition makes F'', after both
    attentions, the result; F'' is used [read], and the skip leaves from x [read].
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.Sequential(ChannelAttention(channels), SpatialAttention())
        self.body = nn.Sequential(
            SeparableConv(channels),
            nn.LeakyReLU(SLOPE),
            nn.Dropout(dropout),  # after the first of three [read]
            SeparableConv(channels),
            nn.LeakyReLU(SLOPE),
            SeparableConv(channels),
            nn.LeakyReLU(SLOPE),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        out: Tensor = x + self.body(self.attention(x))
        return out


class PaperGenerator(nn.Module):
    """The paper's generator: 3,133,582 parameters, which is its 11.9 MB of fp32.

    Zeros around the features, and biases in all convolutions but the depthwise ones [read].
    """

    multiple_of = 4
    receptive_field = None
    """The channel attention pools over the whole picture."""

    def __init__(self, config: GeneratorConfig = PAPER) -> None:
        super().__init__()
        if len(config.widths) != 3 or len(config.blocks) != 1:
            raise ValueError(f"paper takes three widths and one number of blocks, got {config}")
        fine, middle, coarse = config.widths
        self.config = config
        self.stem = nn.Sequential(nn.Conv2d(3, fine, 7, padding=3), nn.LeakyReLU(SLOPE))
        self.down = nn.Sequential(
            nn.Conv2d(fine, middle, 3, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(middle, coarse, 3, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
        )
        self.trunk = nn.Sequential(
            *(AttentiveSeparableBlock(coarse, config.dropout) for _ in range(config.blocks[0]))
        )
        self.up = nn.Sequential(
            *_shuffle_up(coarse, coarse, middle), *_shuffle_up(middle, middle, fine)
        )
        self.head = nn.Conv2d(fine, 3, 7, padding=3)
        start_at_identity(self.head)

    def forward(self, blurred: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> the same, sharp."""
        features = self.up(self.trunk(self.down(self.stem(blurred))))
        # The clamp after the global residual [read].
        return torch.clamp(blurred + torch.tanh(self.head(features)), -1.0, 1.0)


def _shuffle_up(channels: int, expanded: int, out: int) -> list[nn.Module]:
    """Twice the resolution: conv, LeakyReLU, PixelShuffle(2), conv, LeakyReLU [read]."""
    return [
        icnr(nn.Conv2d(channels, expanded, 3, padding=1)),
        nn.LeakyReLU(SLOPE),
        nn.PixelShuffle(2),
        nn.Conv2d(expanded // 4, out, 3, padding=1),
        nn.LeakyReLU(SLOPE),
    ]
