import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tests.train.conftest import photograph
from train import metrics
from train.generator import GeneratorConfig, build


def test_psnr_of_a_known_error():
    sharp = np.full((16, 16, 3), 100, np.uint8)
    assert metrics.psnr(sharp + 5, sharp) == pytest.approx(20 * math.log10(255 / 5))
    assert metrics.psnr(sharp, sharp) == math.inf


def test_ssim_of_equal_pictures_is_one():
    picture = photograph(0, 40, 40)
    assert metrics.ssim(picture, picture) == pytest.approx(1)
    assert metrics.ssim(255 - picture, picture) < 0.5


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
