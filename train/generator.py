"""The networks: `paper`, after Li, Kong, Xue and Wang, and `fast`, ours, for processors.

`paper` is the generator of "Depth Separable Convolution Lightweight Blind Motion Deblurring
Algorithm". The paper's figures are not available; where its text leaves a choice open, the line
that makes the choice is marked [read].

Both take and give RGB in [-1, 1], shape (N, 3, H, W), H and W multiples of `multiple_of`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
"""Of every LeakyReLU [read]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    """Which network, and how large. Stored in checkpoints and in exported models."""

    architecture: Literal["paper", "fast"] = "fast"
    widths: tuple[int, ...] = (48, 96, 144)
    """Channels at each resolution, finest first."""
    blocks: tuple[int, ...] = (1, 2, 4, 1, 1)
    """Residual blocks: on the way down, at the bottom, and on the way up.

    `paper` has blocks at the bottom alone.
    """
    dropout: float = 0.0
    """Probability, inside the blocks of `paper`, during training only."""
    coring: float = 0.0
    """Of `fast`: grey levels below which a correction is mostly taken back; no weights."""

    def to_dict(self) -> dict[str, Any]:
        """As plain lists and numbers."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GeneratorConfig:
        """Inverse of `to_dict`."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)


PAPER = GeneratorConfig(architecture="paper", widths=(64, 128, 256), blocks=(9,), dropout=0.5)
FAST = GeneratorConfig()
ARCHITECTURES = {"paper": PAPER, "fast": FAST}


def build(config: GeneratorConfig) -> PaperGenerator | FastGenerator:
    """The network that `config` describes, with fresh weights.

    Raises:
        ValueError: the widths and blocks do not fit the architecture.
    """
    if config.architecture == "paper":
        return PaperGenerator(config)
    return FastGenerator(config)


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
    """The paper's generator: 3,133,582 parameters, which is its 11.9 MB of fp32."""

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
        _start_at_identity(self.head)

    def forward(self, blurred: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> the same, sharp."""
        features = self.up(self.trunk(self.down(self.stem(blurred))))
        # The clamp after the global residual [read].
        return torch.clamp(blurred + torch.tanh(self.head(features)), -1.0, 1.0)


def _shuffle_up(channels: int, expanded: int, out: int) -> list[nn.Module]:
    """Twice the resolution: conv, LeakyReLU, PixelShuffle(2), conv, LeakyReLU [read]."""
    return [
        _icnr(nn.Conv2d(channels, expanded, 3, padding=1)),
        nn.LeakyReLU(SLOPE),
        nn.PixelShuffle(2),
        nn.Conv2d(expanded // 4, out, 3, padding=1),
        nn.LeakyReLU(SLOPE),
    ]


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
            _icnr(nn.Conv2d(widths[i + 1], 4 * widths[i], 1)) for i in reversed(range(levels))
        )
        self.decoders = nn.ModuleList(
            _blocks(widths[i], config.blocks[2 * levels - i]) for i in reversed(range(levels))
        )
        self.exit = nn.Conv2d(widths[0], 48, 3, padding=1)
        _start_at_identity(self.exit)

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


def _start_at_identity(last: nn.Conv2d) -> None:
    """Make the residual zero, so that training starts from the blurred picture."""
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)


@torch.no_grad()
def _icnr(conv: nn.Conv2d) -> nn.Conv2d:
    """Start the conv before a PixelShuffle(2) as nearest-neighbour (ICNR, arXiv 1707.02937)."""
    conv.weight.copy_(conv.weight[::4].repeat_interleave(4, dim=0))
    if conv.bias is not None:
        conv.bias.copy_(conv.bias[::4].repeat_interleave(4))
    return conv
