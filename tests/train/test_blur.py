import io
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.train.conftest import photograph
from train import blur
from train.blur import MARGIN


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dice(seed: int = 0) -> blur.Dice:
    return blur.Dice.of(seed, torch.device("cpu"))


def checkerboard(count: int, side: int) -> torch.Tensor:
    rows = torch.arange(side) // 8
    board = ((rows[:, None] + rows) % 2).float() * 0.6 + 0.2
    return board.expand(count, 3, side, side).contiguous()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([5, 11, 17]), st.floats(0, 60))
def test_trajectories_pass_through_identity_in_the_middle(seed, frames, extent):
    poses = blur.trajectories(4, frames, extent=extent, generator=seeded(seed))
    assert poses.shape == (4, frames, 4)
    assert poses[:, frames // 2].abs().max() == 0
    span = poses[..., :2].amax(dim=1) - poses[..., :2].amin(dim=1)
    assert span.norm(dim=-1).max() <= extent + 1e-3
    assert torch.isfinite(poses).all()


def test_paths_are_nearly_straight_and_the_sharp_moment_is_halfway():
    paths = blur.trajectories(512, 13, extent=40.0, generator=seeded())[..., :2]
    paths = paths[paths.abs().amax(dim=(1, 2)) > 1]
    travelled = paths.diff(dim=1).norm(dim=-1).sum(dim=1)
    before, after = paths[:, 0].norm(dim=-1), paths[:, -1].norm(dim=-1)
    assert ((paths[:, -1] - paths[:, 0]).norm(dim=-1) / travelled).quantile(0.1) > 0.9
    assert (torch.minimum(before, after) / torch.maximum(before, after)).median() > 0.75


def test_warp_at_identity_is_the_centre_crop():
    picture = torch.rand(2, 3, 48, 48, generator=seeded())
    seen = blur.warp(picture, torch.zeros(2, 3, 4), 32)
    assert seen.shape == (2, 3, 3, 32, 32)
    torch.testing.assert_close(seen[:, :, 1], picture[:, :, 8:40, 8:40], atol=1e-5, rtol=0)


def test_warp_moves_by_whole_pixels():
    picture = torch.rand(1, 3, 48, 48, generator=seeded())
    pose = torch.tensor([[[3.0, -2.0, 0.0, 0.0]]])
    seen = blur.warp(picture, pose, 32)[:, :, 0]
    torch.testing.assert_close(seen, picture[:, :, 6:38, 11:43], atol=1e-5, rtol=0)


def test_warp_between_pixels_keeps_detail():
    # A wave of 4 pixels moved by half a one: bilinear sampling leaves cos(45 degrees) = 0.71 of it.
    wave = torch.cos(math.pi / 2 * torch.arange(48.0)).expand(1, 3, 48, 48)
    seen = blur.warp(wave, torch.tensor([[[0.5, 0.0, 0.0, 0.0]]]), 32)[:, :, 0]
    moved = torch.cos(math.pi / 2 * (torch.arange(8.0, 40.0) + 0.5)).expand(1, 3, 32, 32)
    kept = (seen * moved).sum() / (moved * moved).sum()
    assert 0.9 < kept < 1.1


def test_warp_turns_and_zooms_about_the_middle():
    along = torch.linspace(0, 1, 64)  # slopes, of which every symmetric interpolation is exact
    across = along.expand(64, 64)
    picture = torch.stack([across, across.mT, across * across.mT])[None]
    quarter, twice = math.pi / 2, math.log(2)
    poses = torch.tensor([[[0, 0, quarter, 0], [0, 0, 0, twice], [0, 0, quarter, twice]]])
    turned, small, both = blur.warp(picture, poses, 32).unbind(dim=2)
    torch.testing.assert_close(
        turned, picture[..., 16:48, 16:48].rot90(1, (2, 3)), atol=1e-4, rtol=0
    )
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(small[inside], F.avg_pool2d(picture, 2)[inside], atol=1e-4, rtol=0)
    torch.testing.assert_close(both[inside], small.rot90(1, (2, 3))[inside], atol=1e-4, rtol=0)


def test_poses_stay_within_what_the_margin_is_for():
    poses = blur.trajectories(2000, 11, extent=40.0, generator=seeded())
    still = (poses == 0).all(dim=2).all(dim=1)
    assert still.float().mean() == pytest.approx(0.1, abs=0.02)
    span = poses[..., :2].amax(dim=1) - poses[..., :2].amin(dim=1)
    assert (span.norm(dim=1) <= 10 + 1e-3).float().mean() == pytest.approx(0.66, abs=0.03)
    turned, zoomed = poses[..., 2:].abs().amax(dim=1).unbind(dim=1)
    assert (turned > 0).float().mean() == pytest.approx(0.45, abs=0.04)
    assert math.degrees(turned.max()) == pytest.approx(2.5, abs=0.1)
    assert zoomed.max() == pytest.approx(0.02, abs=1e-3)


def test_half_is_averaged_without_a_curve_and_the_rest_around_2_2():
    gammas = blur._gammas(2000, seeded()).flatten()
    straight = gammas == 1
    assert straight.float().mean() == pytest.approx(0.5, abs=0.04)
    assert 1.8 <= gammas[~straight].min() < gammas[~straight].max() <= 2.4


def test_clipped_highlights_get_their_light_back():
    light = torch.tensor([0.5, 0.8, 1.0]).expand(600, 3, 1, 3).contiguous()
    dim, edge, bright = blur._brighten(light, seeded())[:, 0, 0].unbind(dim=1)
    assert (dim == 0.5).all()
    torch.testing.assert_close(edge, torch.full_like(edge, 0.8))
    assert (bright > 1).float().mean() == pytest.approx(0.33, abs=0.06)
    assert 4.5 < bright.max() <= 5


def test_what_moves_in_front_hides_what_is_behind(monkeypatch):
    """Two layers of one grey are that grey, not the sum of both."""
    monkeypatch.setattr(blur, "_gammas", lambda n, g: torch.full((n, 1, 1, 1), 2.2))
    grey = torch.full((40, 3, 16 + 2 * MARGIN, 16 + 2 * MARGIN), 0.5)
    for picture in blur.integrate(grey, 16, frames=5, extent=20.0, dice=dice()):
        torch.testing.assert_close(picture, torch.full_like(picture, 0.5), atol=1e-4, rtol=0)


def test_integration_happens_in_linear_light(monkeypatch):
    """Half black, half white for half of the time each: brighter than the mean of the codes."""
    monkeypatch.setattr(blur, "_gammas", lambda n, g: torch.full((n, 1, 1, 1), 2.2))
    side = 8 + 2 * MARGIN
    frames = torch.zeros(1, 2, 3, side, side)
    frames[:, 1] = 1
    blurred, _ = blur.average(frames, 8, extent=0.0, generator=seeded())
    assert blurred.mean().item() == pytest.approx(0.5 ** (1 / 2.2), abs=1e-4)


def test_half_of_the_averages_shake_and_none_of_a_single_frame_does():
    frames = checkerboard(60, 32 + 2 * MARGIN)[:, None]
    alone, middle = blur.average(frames, 32, extent=20.0, generator=seeded())
    torch.testing.assert_close(alone, middle, atol=1e-4, rtol=0)
    standing = frames.expand(-1, 5, -1, -1, -1)
    blurred, sharp = blur.average(standing, 32, extent=20.0, generator=seeded())
    torch.testing.assert_close(sharp, middle)
    moved = (blurred - sharp).abs().amax(dim=(1, 2, 3)) > 0.05
    assert 15 <= moved.sum() <= 35


def test_half_is_softened_by_a_quarter_of_a_pixel_to_two():
    dot = torch.zeros(600, 3, 31, 31)
    dot[:, :, 15, 15] = 1
    seen = blur._soften(dot, seeded())
    torch.testing.assert_close(seen.sum(dim=(2, 3)), torch.ones(600, 3))  # as bright as before
    assert (seen == seen[:, :1]).all()  # no colour
    torch.testing.assert_close(seen, seen.transpose(2, 3))
    torch.testing.assert_close(seen, seen.flip(2))
    soft = (seen != dot).flatten(1).any(dim=1)
    assert soft.float().mean() == pytest.approx(0.5, abs=0.06)
    along = torch.arange(31.0) - 15
    sigma = (seen[soft, 0].sum(dim=1) * along**2).sum(dim=1).sqrt()
    assert sigma.max() == pytest.approx(2, abs=0.05)
    assert (sigma > 1).float().mean() == pytest.approx(1 / 3, abs=0.08)  # octaves, evenly
    assert (sigma > 0.5).float().mean() == pytest.approx(2 / 3, abs=0.08)


def test_what_is_soft_but_still_is_its_own_target(monkeypatch):
    monkeypatch.setattr(blur, "_soften", lambda pictures, _: F.avg_pool2d(pictures, 3, 1, 1))
    monkeypatch.setattr(blur, "trajectories", lambda n, frames, **_: torch.zeros(n, frames, 4))
    pictures = checkerboard(8, 32 + 2 * MARGIN)
    blurred, sharp = blur.integrate(pictures, 32, frames=3, extent=0.0, dice=dice())
    torch.testing.assert_close(blurred, sharp)
    assert (sharp - pictures[..., MARGIN:-MARGIN, MARGIN:-MARGIN]).abs().amax() > 0.1


def test_integrate_blurs_some_and_leaves_still_ones(monkeypatch):
    monkeypatch.setattr(blur, "_soften", lambda pictures, _: pictures)
    side = 32 + 2 * MARGIN
    pictures = checkerboard(100, side)
    blurred, sharp = blur.integrate(pictures, 32, frames=11, extent=30.0, dice=dice(3))
    assert blurred.shape == sharp.shape == (100, 3, 32, 32)
    assert blurred.min() >= 0
    assert blurred.max() <= 1
    moved = (blurred - sharp).abs().amax(dim=(1, 2, 3))
    assert (moved > 0.2).sum() >= 50
    as_it_was = (sharp - pictures[..., MARGIN:-MARGIN, MARGIN:-MARGIN]).abs().amax(dim=(1, 2, 3))
    assert 65 <= (as_it_was < 1e-4).sum() <= 90  # a quarter have another layer
    assert (moved < 1e-3).sum() >= 1  # of what stands still and has one layer


@pytest.mark.parametrize("batch", [1, 50])
def test_a_quarter_has_a_layer_that_moves_on_its_own(monkeypatch, batch: int):
    """However many are made at a time."""
    layers = []
    blobs = blur._blobs

    def counted(count, *others):
        layers.append(count)
        return blobs(count, *others)

    monkeypatch.setattr(blur, "_blobs", counted)
    for seed in range(400 // batch):
        blur._moving_scene(torch.rand(batch, 3, 4, 4), 2, frames=3, extent=9.0, dice=dice(seed))
    assert 70 <= sum(layers) <= 130


def test_clip_keeps_the_middle_exposure_sharp(monkeypatch):
    monkeypatch.setattr(blur, "_soften", lambda pictures, _: pictures)
    pictures = checkerboard(40, 32 + 2 * MARGIN)
    blurred, sharp = blur.integrate_clip(
        pictures, 32, exposures=3, frames=5, extent=30.0, dice=dice()
    )
    assert blurred.shape == (40, 3, 3, 32, 32)
    assert sharp.shape == (40, 3, 32, 32)
    as_it_was = (sharp - pictures[..., MARGIN:-MARGIN, MARGIN:-MARGIN]).abs().amax(dim=(1, 2, 3))
    assert (as_it_was < 1e-4).sum() >= 24
    apart = (blurred - sharp[:, None]).abs().mean(dim=(0, 2, 3, 4))
    assert 0.01 < apart[1] < 0.7 * min(apart[0], apart[2])


def test_a_clip_of_one_exposure_is_a_picture():
    pictures = checkerboard(8, 32 + 2 * MARGIN)
    blurred, sharp = blur.integrate(pictures, 32, frames=5, extent=20.0, dice=dice())
    clip, middle = blur.integrate_clip(
        pictures, 32, exposures=1, frames=5, extent=20.0, dice=dice()
    )
    torch.testing.assert_close(clip[:, 0], blurred)
    torch.testing.assert_close(middle, sharp)


def test_the_same_seed_makes_the_same_sample():
    pictures = torch.rand(2, 3, 32 + 2 * MARGIN, 32 + 2 * MARGIN, generator=seeded())
    first, again = (
        blur.integrate(pictures, 32, frames=5, extent=20.0, dice=dice(7)) for _ in range(2)
    )
    assert torch.equal(first[0], again[0])


def test_jpeg_matches_a_real_encoder():
    """Within the rounding of integer DCTs: compared by PSNR with Pillow's libjpeg."""
    picture = photograph(0, 64, 64)
    ours = blur.jpeg(
        torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255, torch.tensor([70.0])
    )
    memory = io.BytesIO()
    Image.fromarray(picture).save(memory, "jpeg", quality=70, subsampling="4:2:0")
    theirs = np.array(Image.open(memory)).astype(np.float32)
    mine = (ours[0].permute(1, 2, 0) * 255).numpy()

    def psnr(a, b):
        return 10 * np.log10(255**2 / np.mean((a - b) ** 2))

    assert psnr(mine, theirs) > psnr(picture.astype(np.float32), theirs) + 6


def test_degrade_keeps_eight_bit_levels():
    noisy = blur.degrade(torch.rand(6, 3, 32, 32, generator=seeded()), dice(1))
    levels = noisy * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)


def test_noise_and_jpeg_come_in_their_shares_and_strengths():
    grey = torch.full((400, 3, 32, 32), 128 / 255)
    clean = blur.degrade(grey, dice()) - grey
    assert clean.std(dim=(1, 2, 3)).max() == pytest.approx(0.015, abs=0.001)
    assert (clean == 0).all(dim=3).all(dim=2).all(dim=1).float().mean() == pytest.approx(
        0.52,
        abs=0.06,  # what JPEG does to an even grey is nothing
    )
    levels = (torch.rand(400, 3, 32, 32, generator=seeded()) * 255).round() / 255
    same = (blur.degrade(levels, dice()) == levels).all(dim=3).all(dim=2).all(dim=1)
    assert same.float().mean() == pytest.approx(0.31, abs=0.06)


def test_jpeg_leaves_the_picture_in_its_place():
    board = checkerboard(60, 32)
    assert (blur.degrade(board, dice()) - board).abs().mean(dim=(1, 2, 3)).max() < 0.04
