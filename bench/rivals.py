"""Generators of others, written from their published descriptions, with random weights.

Both have the contract of `train.generator`: RGB in [-1, 1], shape (N, 3, H, W), H and W multiples
of `multiple_of`, to the same; and the global residual that `export` looks for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DeblurGanGenerator(nn.Module):
    """DeblurGAN's generator (Kupyn et al., CVPR 2018, arXiv 1711.07064, section 3.2).

    A 7x7 convolution to 64 channels, two of stride 2, nine residual blocks of 256 channels, two
    transposed convolutions, a 7x7 convolution, tanh; InstanceNorm without weights and ReLU after
    all but the last. Of one convolution a block it has 6,067,459 parameters, the 23.2 MB that our
    paper's table gives it; of two, the usual ResNet block, 11,378,179. The published code pads by
    reflection; zeros here are quicker, so the comparison favours it.
    """

    multiple_of = 4

    def __init__(self, convolutions: int) -> None:
        """Blocks of that many convolutions, 1 or 2."""
        super().__init__()
        self.body = nn.Sequential(
            *_normalised(nn.Conv2d(3, 64, 7, padding=3)),
            *_normalised(nn.Conv2d(64, 128, 3, stride=2, padding=1)),
            *_normalised(nn.Conv2d(128, 256, 3, stride=2, padding=1)),
            *(_ResidualBlock(256, convolutions) for _ in range(9)),
            *_normalised(_doubling(256, 128)),
            *_normalised(_doubling(128, 64)),
            nn.Conv2d(64, 3, 7, padding=3),
            nn.Tanh(),
        )

    def forward(self, blurred: Tensor) -> Tensor:
        """See the module."""
        return torch.clamp(blurred + self.body(blurred), -1.0, 1.0)


def _normalised(conv: nn.Module) -> list[nn.Module]:
    return [conv, nn.InstanceNorm2d(int(conv.out_channels)), nn.ReLU()]


def _doubling(channels: int, out: int) -> nn.ConvTranspose2d:
    """Twice the resolution."""
    return nn.ConvTranspose2d(channels, out, 3, stride=2, padding=1, output_padding=1)


class _ResidualBlock(nn.Module):
    """Convolution, norm, ReLU; then, of two, a second convolution and norm."""

    def __init__(self, channels: int, convolutions: int) -> None:
        super().__init__()
        layers = _normalised(nn.Conv2d(channels, channels, 3, padding=1))
        if convolutions == 2:
            layers += _normalised(nn.Conv2d(channels, channels, 3, padding=1))[:2]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        out: Tensor = x + self.body(x)
        return out


class NafStyleGenerator(nn.Module):
    """NAFNet (Chen et al., ECCV 2022, arXiv 2204.04676): gated blocks in a U-Net, no activations.

    Of width 32 with (1, 1, 1, 28) blocks on the way down it is the published NAFNet-32, of
    17.1 million parameters.
    """

    def __init__(self, width: int, down: tuple[int, ...], bottom: int = 1) -> None:
        """`down` has the blocks of each resolution on the way down; on the way up it is one."""
        super().__init__()
        self.multiple_of = 2 ** len(down)
        widths = [width * 2**level for level in range(len(down))]
        self.entry = nn.Conv2d(3, width, 3, padding=1)
        self.encoders = nn.ModuleList(
            _blocks(c, count) for c, count in zip(widths, down, strict=True)
        )
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in widths)
        self.bottom = _blocks(2 * widths[-1], bottom)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * c, 4 * c, 1, bias=False), nn.PixelShuffle(2))
            for c in reversed(widths)
        )
        self.decoders = nn.ModuleList(_GatedBlock(c) for c in reversed(widths))
        self.exit = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, blurred: Tensor) -> Tensor:
        """See the module."""
        x = self.entry(blurred)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(up(x) + skips.pop())
        return blurred + self.exit(x)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_GatedBlock(channels) for _ in range(count)))


class _GatedBlock(nn.Module):
    """Two residual halves: spatial mixing with channel attention, then channel mixing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Sequential(
            _ChannelNorm(channels),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels),
            _Gate(),
            _SimpleAttention(channels),
            nn.Conv2d(channels, channels, 1),
        )
        self.channel = nn.Sequential(
            _ChannelNorm(channels),
            nn.Conv2d(channels, 2 * channels, 1),
            _Gate(),
            nn.Conv2d(channels, channels, 1),
        )
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        x = x + self.beta * self.spatial(x)
        out: Tensor = x + self.gamma * self.channel(x)
        return out


class _Gate(nn.Module):
    """Half of the channels times the other half."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2C, H, W) -> (N, C, H, W)."""
        first, second = x.chunk(2, dim=1)
        return first * second


class _SimpleAttention(nn.Module):
    """Scales channels by a linear map of their global means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        out: Tensor = x * self.conv(x.mean(dim=(2, 3), keepdim=True))
        return out


class _ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        out: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out
