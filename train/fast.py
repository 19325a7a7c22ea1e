"""Our generator for processors, and its block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.architecture import FAST, GeneratorConfig
from train.layers import SLOPE, icnr, start_at_identity


class ResidualBlock(nn.Module):
    """`x + conv(act(conv(x)))`, dense 3x3, no normalisation.

    Dense convolutions with a fused activation reach most of a processor's peak, where norms,
    gates and depthwise convolutions wait for memory.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():  # without norms, deep sums stay bounded if branches start small
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        out: Tensor = x + self.second(F.leaky_relu(self.first(x), SLOPE))
        return out


class FastGenerator(nn.Module):
    """A U-Net of dense residual blocks that never works above a quarter of the resolution.

    PixelUnshuffle(4) at the door, PixelShuffle(4) at the exit; each further width halves the
    resolution once more, for reach. Nothing is pooled globally, so tiles agree with the whole.
    """

    def __init__(self, config: GeneratorConfig = FAST) -> None:
        super().__init__()
        widths, levels = config.widths, len(config.widths) - 1
        if levels < 1 or len(config.blocks) != 2 * levels + 1:
            raise ValueError(f"fast takes 2 * widths - 1 numbers of blocks, got {config}")
        self.config = config
        self.multiple_of: int = 4 * 2**levels
        self.entry = nn.Conv2d(48, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(_blocks(widths[i], config.blocks[i]) for i in range(levels))
        self.downs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, stride=2, padding=1) for i in range(levels)
        )
        self.bottom = _blocks(widths[-1], config.blocks[levels])
        self.ups = nn.ModuleList(
            icnr(nn.Conv2d(widths[i + 1], 4 * widths[i], 1)) for i in reversed(range(levels))
        )
        self.decoders = nn.ModuleList(
            _blocks(widths[i], config.blocks[2 * levels - i]) for i in reversed(range(levels))
        )
        self.exit = nn.Conv2d(widths[0], 48, 3, padding=1)
        start_at_identity(self.exit)

    @property
    def receptive_field(self) -> int:
        """Side of the square of input pixels that can change one output pixel.

        At a stride of s pixels each 3x3 convolution adds s to either side; at the door and the
        exit the 4x4 shuffles add 3, and each 2x2 shuffle or stride widens by what it groups.
        """
        levels = len(self.config.widths) - 1
        reach: int = 4 + 4 + 3  # entry and exit, and the place inside a 4x4 group
        for level in range(levels):
            stride = 4 * 2**level
            blocks = self.config.blocks[level] + self.config.blocks[2 * levels - level]
            reach += stride * 2 * blocks  # two convolutions a block
            reach += stride + stride  # the strided convolution, and the place inside its group
        reach += 4 * 2**levels * 2 * self.config.blocks[levels]
        reach += 4 if self.config.coring else 0  # the cells beside the place's own
        return 2 * reach + 1

    def forward(self, blurred: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> the same, sharp; may overshoot the range a little.

        No clamp: it would stop the gradient of exactly those pixels that are furthest off.
        """
        x = F.leaky_relu(self.entry(F.pixel_unshuffle(blurred, 4)), SLOPE)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = F.leaky_relu(down(x), SLOPE)
        x = self.bottom(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(F.pixel_shuffle(up(x), 2) + skips.pop())
        residual = self.exit(x)
        if self.config.coring:
            residual = residual * _trust(residual, self.config.coring)
        return blurred + F.pixel_shuffle(residual, 4)


def _trust(residual: Tensor, coring: float) -> Tensor:
    """The share of a correction (N, 48, H, W) that is kept, (N, 1, H, W): e / (e + coring^2).

    That is the Wiener filter's share of a signal of mean square e in noise of `coring` grey levels;
    e is taken over 3x3 cells of 4x4 pixels. Sharp pictures, whose corrections are small, so come
    back as they were, and large corrections are kept.
    """
    scaled = residual * (127.5 / coring)  # in units that fp16 can square
    energy = scaled.square().mean(dim=1, keepdim=True)
    energy = F.avg_pool2d(energy, 3, stride=1, padding=1, count_include_pad=False)
    return energy / (energy + 1)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))
