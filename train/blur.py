"""Blurred pictures from sharp ones, whole batches at once, on the device that trains.

A camera integrates light while it and the world move. Here a trajectory of poses stands for the
motion, the sharp picture is warped to every pose, and the warped pictures are averaged: in linear
light, or in half of the samples as they are encoded, as the GoPro set's `blur/` was. Noise and JPEG
come after the integration, as in a camera.

Pictures are float RGB in [0, 1], shape (N, 3, H, W); randomness comes from the dice given, so that
a sample depends on its seed alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

MARGIN = 40
"""Pixels around a crop that motion may bring into view."""


@dataclass(frozen=True, slots=True)
class Dice:
    """The randomness of one step."""

    device: Generator
    """For what samples are made of."""
    host: np.random.Generator
    """For decisions of the program, for which it would have to wait if a GPU threw the dice."""

    @classmethod
    def of(cls, seed: int, device: torch.device) -> Dice:
        """Dice that fall in the same way for the same 64-bit seed and kind of device."""
        return cls(torch.Generator(device).manual_seed(seed), np.random.default_rng(seed))


def uniform(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    """Uniform random numbers on the generator's device."""
    random = torch.rand(*shape, generator=generator, device=generator.device)
    return random * (high - low) + low


def trajectories(count: int, frames: int, *, extent: float, generator: Generator) -> Tensor:
    """Camera shake: poses (count, frames, 4) as x, y in pixels, angle in radians, and log zoom.

    A smooth path (a cubic in time) plus a random walk with inertia, scaled to an extent between 0
    and `extent` pixels. The middle pose is the identity: it is the moment that the sharp picture
    shows. One path in ten does not move at all, so that sharp pictures pass unharmed.

    Paths are nearly straight, as a hand's are within the 30 to 60 ms of an exposure. That matters
    more than their variety: where a bent path is in its middle cannot be told from its blur, and
    a network that must answer so averages (train/README.md has what it costs).
    """
    device = generator.device
    time = torch.linspace(-1.0, 1.0, frames, device=device)
    powers = torch.stack([time, time**2, time**3], dim=-1)  # (frames, 3)
    strength = torch.tensor([1.0, 0.08, 0.04], device=device)[:, None]
    weights = uniform(generator, -1, 1, count, 3, 4) * strength
    smooth = torch.einsum("fp,npd->nfd", powers, weights)
    push = torch.randn(count, frames, 4, generator=generator, device=device)
    walk = push.cumsum(dim=1).cumsum(dim=1) / frames**1.5
    poses = smooth + 0.1 * uniform(generator, 0, 1, count, 1, 1) ** 2 * walk
    poses = poses - poses[:, frames // 2 : frames // 2 + 1]

    # Half of the paths are short, so that nearly sharp pictures are neither sharpened too much nor
    # left alone; the rest reach up to `extent`: GoPro's blur is often 40 px long.
    length = uniform(generator, 0, 1, count)
    long = uniform(generator, 0, 1, count) < 0.5
    still = uniform(generator, 0, 1, count) < 0.1
    length = length * torch.where(long, extent, extent / 4)
    length = torch.where(still, torch.zeros_like(length), length)
    span = (poses[..., :2].amax(dim=1) - poses[..., :2].amin(dim=1)).norm(dim=-1).clamp_min(1e-6)
    turning = (~still) * (uniform(generator, 0, 1, count) < 0.5)
    scale = torch.stack(
        [
            length / span,
            length / span,
            turning * math.radians(2.5) * uniform(generator, 0, 1, count),
            turning * 0.02 * uniform(generator, 0, 1, count),
        ],
        dim=-1,
    )
    peaks = poses[..., 2:].abs().amax(dim=1, keepdim=True).clamp_min(1e-6)
    poses = torch.cat([poses[..., :2], poses[..., 2:] / peaks], dim=-1)
    return poses * scale[:, None, :]


def warp(pictures: Tensor, poses: Tensor, size: int) -> Tensor:
    """See each picture from each pose: (N, C, P, P), (N, T, 4) -> (N, C, T, size, size).

    The result is the picture's centre; what moves in from beyond the picture repeats its edge.
    Between pixels it is bicubic: bilinear sampling is itself a blur, at 40 dB far more than that
    of a path of half a pixel (52 dB), and teaches to sharpen what is sharp.
    """
    count, channels, side, _ = pictures.shape
    frames = poses.shape[1]
    x, y, angle, zoom = poses.unbind(dim=-1)
    cos, sin = torch.cos(angle) * zoom.exp(), torch.sin(angle) * zoom.exp()
    ratio = size / side  # the crop's share of the picture, in the sampler's [-1, 1] coordinates
    rows = [cos * ratio, -sin * ratio, 2 * x / side, sin * ratio, cos * ratio, 2 * y / side]
    theta = torch.stack(rows, dim=-1).view(count * frames, 2, 3)
    grid = F.affine_grid(theta, [count * frames, channels, size, size], align_corners=False)
    grid = grid.view(count, frames * size, size, 2)  # one tall picture, so that none is copied
    seen = F.grid_sample(pictures, grid, "bicubic", padding_mode="border", align_corners=False)
    return seen.view(count, channels, frames, size, size)


def integrate(
    pictures: Tensor, size: int, *, frames: int, extent: float, dice: Dice
) -> tuple[Tensor, Tensor]:
    """Blurred and sharp crops from sharp pictures (N, 3, size + 2 * MARGIN, same)."""
    light, gamma = _moving_scene(pictures, size, frames=frames, extent=extent, dice=dice)
    return to_display(light.mean(dim=2), gamma), to_display(light[:, :, frames // 2], gamma)


def integrate_clip(
    pictures: Tensor, size: int, *, exposures: int, frames: int, extent: float, dice: Dice
) -> tuple[Tensor, Tensor]:
    """The same for a short video: blurred (N, exposures, 3, size, size), sharp of its middle one.

    `exposures` and `frames` (per exposure) are odd; `extent` is that of the whole video.
    """
    total = exposures * frames
    light, gamma = _moving_scene(pictures, size, frames=total, extent=extent, dice=dice)
    blurred = light.view(len(light), 3, exposures, frames, size, size).mean(dim=3).transpose(1, 2)
    return to_display(blurred, gamma[:, None]), to_display(light[:, :, total // 2], gamma)


def _moving_scene(
    pictures: Tensor, size: int, *, frames: int, extent: float, dice: Dice
) -> tuple[Tensor, Tensor]:
    """Linear light at every pose, (N, 3, frames, size, size), and the response curves.

    In a quarter of the samples a second layer, cut from another picture of the batch, or from
    its own if there is no other, by a smooth random mask, moves on its own in front.
    """
    generator = dice.device
    gamma = _gammas(len(pictures), generator)
    light = _brighten(_soften(pictures, generator) ** gamma, generator)
    poses = trajectories(len(pictures), frames, extent=extent, generator=generator)
    scene = warp(light, poses, size)
    layered = torch.from_numpy(np.flatnonzero(dice.host.random(len(light)) < 0.25)).to(light.device)
    if len(layered):
        cells = int(dice.host.integers(3, 9))
        mask = _blobs(len(layered), pictures.shape[-1], cells, generator)
        other = light.roll(1, dims=0).flip(3)[layered]
        own = trajectories(len(layered), frames, extent=extent, generator=generator)
        moved = warp(torch.cat([other * mask, mask], dim=1), own, size)
        scene[layered] = moved[:, :3] + scene[layered] * (1 - moved[:, 3:])
    return scene, gamma


def average(
    frames: Tensor, size: int, *, extent: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Blurred and sharp crops from high-rate frames (N, T, 3, size + 2 * MARGIN, same), T odd.

    The GoPro way: the mean over the exposure against its middle frame. In half of the samples the
    camera shakes in addition, so that a short sequence gives many motions.
    """
    count, length, channels = frames.shape[:3]
    gamma = _gammas(count, generator)
    poses = trajectories(count, length, extent=extent, generator=generator)
    poses = poses * (uniform(generator, 0, 1, count, 1, 1) < 0.5)
    seen = warp(frames.flatten(0, 1), poses.view(count * length, 1, 4), size)
    seen = seen.view(count, length, channels, size, size).clamp(0, 1)
    blurred = (seen ** gamma[:, None]).mean(dim=1)
    return to_display(blurred, gamma), seen[:, length // 2]


def degrade(blurred: Tensor, dice: Dice) -> Tensor:
    """Sensor noise in half of the pictures, JPEG in four of ten, rounding to 8 bits in all.

    Three of ten stay clean, so that what is sharp and clean is learnt to be left alone.
    """
    count, generator = len(blurred), dice.device
    sigma = uniform(generator, 0, 0.015, count, 1, 1, 1)
    sigma = sigma * (uniform(generator, 0, 1, count, 1, 1, 1) < 0.5)
    noise = torch.randn(blurred.shape, generator=generator, device=generator.device)
    noisy = (blurred + sigma * noise).clamp(0, 1)
    chosen = torch.from_numpy(np.flatnonzero(dice.host.random(count) < 0.4)).to(blurred.device)
    if len(chosen):
        quality = uniform(generator, 60, 95, len(chosen))
        shift = dice.host.integers(0, 8, 2).tolist()  # blocks seldom start at the crop
        rolled = noisy[chosen].roll(shift, dims=(2, 3))
        noisy[chosen] = jpeg(rolled, quality).roll([-s for s in shift], dims=(2, 3))
    return (noisy * 255).round() / 255


def jpeg(pictures: Tensor, quality: Tensor) -> Tensor:
    """The loss of baseline JPEG with 4:2:0 chroma, quality (N,) in 1..100.

    ITU-T T.81: colour transform, 8x8 DCT, quantisation by the tables of its Annex K scaled as
    libjpeg does, and back. H and W must be multiples of 16.
    """
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    to_ycc = _YCC.to(pictures)
    ycc = torch.einsum("ij,njhw->nihw", to_ycc, pictures * 255)
    luma = _quantise(ycc[:, :1] - 128, _LUMA.to(pictures), scale)
    chroma = _quantise(F.avg_pool2d(ycc[:, 1:], 2), _CHROMA.to(pictures), scale)
    chroma = F.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False)
    back = torch.linalg.inv(_YCC).to(pictures)
    decoded = torch.einsum("ij,njhw->nihw", back, torch.cat([luma + 128, chroma], dim=1))
    return (decoded / 255).clamp(0, 1)


def _quantise(planes: Tensor, table: Tensor, scale: Tensor) -> Tensor:
    """Round the 8x8 DCT of planes (N, C, H, W) to multiples of the scaled table."""
    count, channels, height, width = planes.shape
    dct = _dct().to(planes)
    blocks = planes.view(count, channels, height // 8, 8, width // 8, 8)
    spectrum = torch.einsum("ij,nchjwk,lk->nchiwl", dct, blocks, dct)
    step = (table * scale[:, None, None]).round().clamp(1, 255)[:, None, None, :, None, :]
    spectrum = (spectrum / step).round() * step
    return torch.einsum("ij,nchiwl,lk->nchjwk", dct, spectrum, dct).reshape(planes.shape)


@cache
def _dct() -> Tensor:
    """The orthonormal 8-point DCT-II, one basis function a row."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    rows = torch.cos(math.pi / 8 * (n + 0.5) * k) / 2
    rows[0] /= math.sqrt(2)
    return rows


def _soften(pictures: Tensor, generator: Generator) -> Tensor:
    """Give half of the pictures (N, 3, H, W) a softness that is no motion, and is to stay.

    Photographs that were reduced are sharper than a camera's own frames: GoPro's sharp ones have 7
    to 10 dB less above 0.3 cycles a pixel, as if behind a Gaussian of half a pixel, and what is
    out of focus has less still. A network that has seen the former alone takes softness for motion.
    Here sigma is between a quarter of a pixel and two, evenly over these three octaves.
    """
    count, channels = pictures.shape[:2]
    sigma = 2 ** uniform(generator, -2, 1, count, 1)
    soft = uniform(generator, 0, 1, count, 1, 1, 1) < 0.5
    taps = torch.arange(-6.0, 7.0, device=pictures.device)
    kernel = torch.softmax(-(taps**2) / (2 * sigma**2), dim=1).repeat_interleave(channels, dim=0)
    planes = F.pad(pictures.flatten(0, 1)[None], (6, 6, 6, 6), mode="replicate")
    for across in (kernel[:, None, None, :], kernel[:, None, :, None]):
        planes = F.conv2d(planes, across, groups=len(kernel))
    return torch.where(soft, planes.view_as(pictures), pictures)


def _gammas(count: int, generator: Generator) -> Tensor:
    """Response curves, (count, 1, 1, 1): around 2.2; half average the encoded values.

    The official GoPro `blur/` set was averaged without a curve, `blur_gamma/` with 2.2.
    """
    curve = uniform(generator, 1.8, 2.4, count)
    straight = uniform(generator, 0, 1, count) < 0.5
    return torch.where(straight, torch.ones_like(curve), curve).view(count, 1, 1, 1)


def to_display(light: Tensor, gamma: Tensor | float) -> Tensor:
    """Linear light as it is encoded by a response curve, both in [0, 1]."""
    return light.clamp(1e-6, 1) ** (1 / gamma)


def _brighten(light: Tensor, generator: Generator) -> Tensor:
    """Give clipped highlights back the light that the sensor cut off, in a third of the batch.

    Moving lamps draw bright streaks; an average of clipped values would draw grey ones.
    """
    count = len(light)
    gain = uniform(generator, 0, 4, count, 1, 1, 1)
    gain = gain * (uniform(generator, 0, 1, count, 1, 1, 1) < 0.33)
    return light * (1 + gain * ((light - 0.8) / 0.2).clamp(0, 1))


def _blobs(count: int, side: int, cells: int, generator: Generator) -> Tensor:
    """Smooth random masks (count, 1, side, side) with soft edges, covering about a third."""
    noise = torch.randn(count, 1, cells, cells, generator=generator, device=generator.device)
    field = F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=False)
    return ((field - 0.35) * 12).clamp(0, 1)


_YCC = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)
"""RGB to YCbCr of JFIF (ITU-T T.871), chroma around 0."""

_LUMA = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=torch.float32,
)
_CHROMA = torch.tensor(
    [
        [17, 18, 24, 47, 99, 99, 99, 99],
        [18, 21, 26, 66, 99, 99, 99, 99],
        [24, 26, 56, 99, 99, 99, 99, 99],
        [47, 66, 99, 99, 99, 99, 99, 99],
        *[[99] * 8] * 4,
    ],
    dtype=torch.float32,
)
