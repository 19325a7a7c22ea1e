import math
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from PIL import Image

from tests.train.conftest import photograph
from train import metrics
from train.architecture import GeneratorConfig
from train.generator import build


def test_psnr_of_a_known_error():
    sharp = np.full((16, 16, 3), 100, np.uint8)
    assert metrics.psnr(sharp + 5, sharp) == pytest.approx(20 * math.log10(255 / 5))
    assert metrics.psnr(sharp, sharp) == math.inf


def test_ssim_of_equal_pictures_is_one():
    picture = photograph(0, 40, 40)
    assert metrics.ssim(picture, picture) == pytest.approx(1)
    assert metrics.ssim(255 - picture, picture) < 0.5


def test_ssim_is_wangs_inside_each_channel():
    sharp = photograph(0, 24, 30)
    picture = np.roll(sharp, 1, axis=1)
    line = np.exp(-np.square(np.arange(-5, 6)) / (2 * 1.5**2))
    window = torch.from_numpy(np.outer(line, line) / line.sum() ** 2)[None, None]
    x, y = (torch.from_numpy(each).permute(2, 0, 1)[:, None].double() for each in (sharp, picture))

    def mean(planes):
        return torch.nn.functional.conv2d(planes, window)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 2.55**2, 7.65**2
    whole = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert metrics.ssim(picture, sharp) == pytest.approx(whole.mean().item(), abs=1e-6)


def test_ssim_3d_is_a_convolution_in_three_dimensions():
    sharp = photograph(0, 24, 30)
    picture = np.roll(sharp, 1, axis=1)
    window = np.exp(-np.square(np.arange(-5, 6)) / (2 * 1.5**2))
    window = torch.from_numpy(window / window.sum())
    kernel = window[:, None, None] * window[:, None] * window

    def mean(volume):
        padded = torch.nn.functional.pad(volume[None, None], (5,) * 6, mode="replicate")
        return torch.nn.functional.conv3d(padded, kernel[None, None])[0, 0]

    x, y = (torch.from_numpy(each).double() for each in (sharp, picture))
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 2.55**2, 7.65**2
    whole = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert metrics.ssim_3d(picture, sharp) == pytest.approx(whole.mean().item(), abs=1e-5)
    assert metrics.ssim_3d(sharp, sharp) == pytest.approx(1)
    assert metrics.ssim_3d(picture, sharp) != pytest.approx(metrics.ssim(picture, sharp), abs=0.01)


@pytest.mark.parametrize("size", [(1, 1), (17, 13), (32, 48)])
def test_restore_takes_any_size(size):
    network = build(GeneratorConfig(widths=(8, 8), blocks=(1, 1, 1))).eval()
    picture = photograph(1, *size)
    assert np.array_equal(metrics.restore(network, picture), picture)  # fresh: the identity


def test_evaluate_reports_the_gain(pairs):
    network = build(GeneratorConfig(widths=(8, 8), blocks=(1, 1, 1))).eval()
    scores = metrics.evaluate(network, metrics.load_pairs([pairs]))
    assert [score.name for score in scores] == ["0", "1"]
    assert metrics.mean_gain(scores) == pytest.approx(0)


def test_pairs_of_two_sizes_are_refused(pairs):
    Image.new("RGB", (90, 71)).save(pairs / "sharp" / "1.png")
    with pytest.raises(ValueError, match=r"blur/1\.png and its sharp twin differ in size"):
        metrics.load_pairs([pairs])


def test_pairs_without_room_for_a_window_are_refused(pairs):
    for kind, level in (("blur", 1), ("sharp", 2)):
        Image.new("RGB", (90, 10), (level,) * 3).save(pairs / kind / "1.png")
    with pytest.raises(ValueError, match=r"blur/1\.png is 90x10: too small to judge"):
        metrics.load_pairs([pairs])


def test_a_pair_of_equal_pictures_is_refused(pairs):
    shutil.copy(pairs / "sharp" / "1.png", pairs / "blur" / "1.png")
    with pytest.raises(ValueError, match=r"blur/1\.png equals its sharp twin"):
        metrics.load_pairs([pairs])


def test_the_blurred_folder_can_have_another_name(pairs):
    (pairs / "blur").rename(pairs / "blur_gamma")
    assert len(metrics.load_pairs([pairs], "blur_gamma")) == 2
