"""What training makes small. Each term is a pure function of pictures, shape (N, 3, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor


def charbonnier(restored: Tensor, sharp: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(d^2 + epsilon^2): L1 with a round foot (Charbonnier et al., ICIP 1994)."""
    return torch.sqrt((restored - sharp).square() + epsilon**2).mean()


def spectral_l1(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute difference of the Fourier spectra, orthonormal (MIMO-UNet, ICCV 2021)."""
    difference = torch.fft.rfft2((restored - sharp).float(), norm="ortho")
    return torch.view_as_real(difference).abs().mean()


def pixel_loss(restored: Tensor, sharp: Tensor, *, fft: float) -> Tensor:
    """Charbonnier distance plus `fft` times the spectral one."""
    loss = charbonnier(restored, sharp)
    return loss + fft * spectral_l1(restored, sharp) if fft else loss
