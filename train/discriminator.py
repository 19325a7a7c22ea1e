"""The discriminator of `paper`'s training: a PatchGAN on one picture."""

from __future__ import annotations

from torch import Tensor, nn

from train.layers import SLOPE


class PatchDiscriminator(nn.Sequential):
    """RGB in [-1, 1], (N, 3, H, W) -> patch scores C(x), logits, (N, 1, H/8 - 2, W/8 - 2).

    Five 4x4 convolutions with strides 2, 2, 2, 1, 1 and padding 1 [read]; the blurred input is
    not given to it [read]. The sigmoid that the paper puts last is the one in its equation 5,
    applied once, on differences of scores [read]; the mean over the patches is taken there too.
    H and W must be at least 32.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (64, 128, 256, 512)) -> None:
        layers: list[nn.Module] = [_conv(3, widths[0], stride=2), nn.LeakyReLU(SLOPE)]
        for before, after, stride in zip(widths, widths[1:], (2, 2, 1), strict=False):
            layers += [_conv(before, after, stride=stride), nn.InstanceNorm2d(after)]
            layers += [nn.LeakyReLU(SLOPE)]
        super().__init__(*layers, _conv(widths[-1], 1, stride=1))

    def forward(self, pictures: Tensor) -> Tensor:
        """The scores of every patch, as float32 also under autocast."""
        scores: Tensor = super().forward(pictures)  # type: ignore[no-untyped-call]
        return scores.float()


def _conv(channels: int, out: int, *, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 4, stride=stride, padding=1)
