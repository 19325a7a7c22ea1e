"""What training makes small. Each term is a pure function of pictures, shape (N, 3, H, W)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def charbonnier(restored: Tensor, sharp: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(d^2 + epsilon^2): L1 with a round foot (Charbonnier et al., ICIP 1994)."""
    return torch.sqrt((restored - sharp).square() + epsilon**2).mean()


def spectral_l1(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute difference of the Fourier spectra, orthonormal (MIMO-UNet, ICCV 2021)."""
    difference = torch.fft.rfft2((restored - sharp).float(), norm="ortho")
    return torch.view_as_real(difference).abs().mean()


def log_mse(restored: Tensor, sharp: Tensor, floor: float = 1e-4) -> Tensor:
    """Mean over the pictures of log(MSE + floor): their mean PSNR, in other units.

    Every picture counts by its relative error, so harm done to a nearly sharp one weighs as much
    as help for a very blurred one. The floor, 46 dB for pictures in [-1, 1], bounds the weight
    of those that need nothing (the PSNR loss of HINet, CVPRW 2021, has next to none).
    """
    mse = (restored - sharp).square().mean(dim=(1, 2, 3))
    return torch.log(mse + floor).mean()


def pixel_loss(restored: Tensor, sharp: Tensor, *, pixel: float, fft: float, psnr: float) -> Tensor:
    """Weighted sum of the Charbonnier and the spectral distance and `log_mse`."""
    loss = restored.new_zeros(())
    if pixel:
        loss = loss + pixel * charbonnier(restored, sharp)
    if fft:
        loss = loss + fft * spectral_l1(restored, sharp)
    return loss + psnr * log_mse(restored, sharp) if psnr else loss


def relativistic(ours: Tensor, theirs: Tensor) -> Tensor:
    """The logit of equation 5, `D_Ra(a, b) = sigmoid(C(a) - mean C(b))`.

    How much more real the patches of a, (N, 1, H, W), score than those of b in the mean, which is
    over batch and patches [read]: that keeps batches of one meaningful.
    """
    return ours - theirs.mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Equation 6: `L_D = -E log D_Ra(real, fake) - E log(1 - D_Ra(fake, real))`.

    Takes scores C(x). Relativistic average GAN (arXiv 1807.00734).
    """
    above, below = relativistic(real, fake), relativistic(fake, real)
    return F.softplus(-above).mean() + F.softplus(below).mean()


def adversarial_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Equation 7 without its last term: `-E log(1 - D_Ra(real, fake)) - E log D_Ra(fake, real)`."""
    return discriminator_loss(fake, real)
