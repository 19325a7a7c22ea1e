from dataclasses import replace
from itertools import pairwise

import pytest

from train.config import TrainConfig, parse_config
from train.schedule import plan

CONFIG = TrainConfig(steps=100, warmup=10, decay=0.5, lr=1e-3, crops=(64, 128), batch=8)


def test_the_rate_rises_stays_and_falls():
    rates = [plan(CONFIG, step, step / 100).rate for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[10:50] == [pytest.approx(1e-3)] * 40
    assert all(later < earlier for earlier, later in pairwise(rates[51:]))
    assert rates[-1] < 1e-6
    assert rates[75] == pytest.approx(5e-4)


def test_crops_grow_and_batches_shrink_with_them():
    assert [(p.crop, p.batch) for p in (plan(CONFIG, s, s / 100) for s in (0, 49, 50, 99))] == [
        (64, 8),
        (64, 8),
        (128, 2),
        (128, 2),
    ]


def test_the_prefix_of_a_prolonged_run_is_the_same():
    longer = replace(CONFIG, steps=200)
    for step in range(50):
        now, then = plan(CONFIG, step, step / 100), plan(longer, step, step / 200)
        assert now.rate == then.rate
        assert now.steady
    assert not plan(CONFIG, 51, 0.51).steady


def test_the_adversarial_phase_comes_last_with_its_own_rate():
    config = replace(CONFIG, finetune=0.2, lr_finetune=1e-5)
    assert not plan(config, 79, 0.79).adversarial
    begun = plan(config, 80, 0.8)
    assert begun.adversarial
    assert begun.rate == 1e-5
    assert begun.crop == 128
    assert not begun.steady
    assert plan(config, 99, 0.99).rate < 1e-6


def test_the_papers_recipe_is_the_papers_schedule():
    config = parse_config(["--recipe", "paper", "--pairs", "GOPRO"])
    epochs = 500
    assert config.epochs == epochs
    for epoch, rate in ((0, 1e-4), (149, 1e-4), (325, 5e-5), (499, 1e-4 / 350)):
        now = plan(config, epoch, epoch / epochs)
        assert now.rate == pytest.approx(rate)
        assert (now.crop, now.batch, now.adversarial) == (256, 1, True)
    quicker = parse_config(["--recipe", "paper", "--pairs", "GOPRO", "--lr", "1e-3"])
    assert plan(quicker, 0, 0.0).rate == pytest.approx(1e-3)
    assert (config.arch, config.dropout, config.optimizer) == ("paper", 0.5, "adam")
    assert (config.beta1, config.beta2) == (0.5, 0.999)
    assert (config.adversarial, config.perceptual) == (1.0, 100.0)
    assert (config.pixel, config.fft, config.psnr) == (0, 0, 0)


def test_the_papers_run_is_steady_until_its_rate_falls():
    config = replace(
        parse_config(["--recipe", "paper", "--steps", "100", "--pairs", "x"]), epochs=0
    )
    assert [plan(config, step, step / 100).steady for step in (0, 29, 31)] == [True, True, False]


def test_flags_win_over_the_recipe():
    config = parse_config(["--recipe", "paper", "--pairs", "GOPRO", "--epochs", "2", "--amp"])
    assert (config.epochs, config.amp, config.batch) == (2, True, 1)
