import math

import pytest

torch = pytest.importorskip("torch")
from train import losses


def scores(*values: float):
    return torch.tensor(values).view(1, 1, 1, -1)


def test_the_relativistic_losses_are_equations_5_to_7():
    real, fake = scores(2.0, 0.0), scores(-1.0, 3.0)

    def d_ra(a, b):  # equation 5, written out
        return torch.sigmoid(a - b.mean())

    expected_d = -d_ra(real, fake).log().mean() - (1 - d_ra(fake, real)).log().mean()
    expected_g = -(1 - d_ra(real, fake)).log().mean() - d_ra(fake, real).log().mean()
    torch.testing.assert_close(losses.discriminator_loss(real, fake), expected_d)
    torch.testing.assert_close(losses.adversarial_loss(real, fake), expected_g)


def test_equal_scores_leave_the_discriminator_at_a_coin_toss():
    same = scores(0.7, 0.7)
    assert losses.discriminator_loss(same, same).item() == pytest.approx(2 * math.log(2))


def test_scores_far_apart_stay_finite():
    loss = losses.adversarial_loss(scores(1000.0), scores(-1000.0))
    assert loss.item() == pytest.approx(4000)


def test_the_weights_of_the_pixel_losses_are_theirs():
    restored, sharp = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert losses.pixel_loss(restored, sharp, pixel=0, fft=0, psnr=0).item() == 0
    both = losses.pixel_loss(restored, sharp, pixel=2, fft=3, psnr=0.5)
    expected = (
        2 * losses.charbonnier(restored, sharp)
        + 3 * losses.spectral_l1(restored, sharp)
        + 0.5 * losses.log_mse(restored, sharp)
    )
    torch.testing.assert_close(both, expected)


def test_the_pixel_losses_are_their_formulas():
    restored, sharp = torch.rand(2, 2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    apart = (restored - sharp).double()
    torch.testing.assert_close(
        losses.charbonnier(restored, sharp).double(), (apart**2 + 1e-6).sqrt().mean()
    )
    mse = (apart**2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(losses.log_mse(restored, sharp).double(), (mse + 1e-4).log().mean())
    rows, columns = (
        torch.exp(-2j * math.pi * torch.outer(torch.arange(n), torch.arange(n)) / n) / n**0.5
        for n in (4, 6)
    )  # the orthonormal transform, as matrices
    spectrum = rows.to(torch.complex128) @ apart.to(torch.complex128) @ columns.to(torch.complex128)
    half = torch.view_as_real(spectrum[..., :4].contiguous())  # real pictures mirror the rest
    torch.testing.assert_close(
        losses.spectral_l1(restored, sharp).double(), half.abs().mean(), atol=1e-5, rtol=1e-4
    )
