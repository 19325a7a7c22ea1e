import io
import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
from rich.console import Console

from train import checkpoint, loop
from train.config import TrainConfig
from train.data import Samples
from train.generator import GeneratorConfig

TINY = {
    "fast": GeneratorConfig(widths=(8, 8), blocks=(1, 1, 1)),
    "paper": GeneratorConfig(architecture="paper", widths=(16, 16, 16), blocks=(1,), dropout=0.5),
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(loop, "ARCHITECTURES", TINY)


@pytest.fixture
def config(photos, pairs, tmp_path):
    return TrainConfig(
        photos=(photos,),
        val=(pairs,),
        report=(pairs,),
        crop=32,
        batch=2,
        steps=6,
        warmup=2,
        decay=2,
        val_every=3,
        log_every=2,
        device="cpu",
        out=tmp_path / "run",
    )


def changed(config: TrainConfig, **values) -> TrainConfig:
    return replace(config, **values)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=120)


@pytest.mark.parametrize("arch", ["fast", "paper"])
def test_a_resumed_run_equals_an_uninterrupted_one(config, tmp_path, arch):
    config = changed(config, arch=arch)
    loop.train(config, quiet())
    other = changed(config, out=tmp_path / "other")
    run = loop.start(other, torch.device("cpu"))
    samples = Samples(other, torch.device("cpu"))
    for _ in range(2):  # stopped between validations, before the decay
        loop.advance_one(run, samples)
    other.out.mkdir()
    loop.save(run, other.out / "last.pt")
    loop.train(changed(other, resume=True), quiet())
    whole, resumed = (checkpoint.load(c.out / "last.pt") for c in (config, other))
    assert whole.step == resumed.step == 6
    for name in whole.generator:
        assert torch.equal(whole.generator[name], resumed.generator[name]), name
        assert torch.equal(whole.ema[name], resumed.ema[name]), name


class OneBatch:
    """The same samples at every step."""

    def __init__(self, samples: Samples) -> None:
        self._batch = samples.batch(0)

    def batch(self, step: int):
        return self._batch


def test_training_lowers_the_loss(config, pairs):
    config = changed(config, photos=(), pairs=(pairs,), steps=80, decay=1, lr=3e-3, clip=1.0)
    run = loop.start(config, torch.device("cpu"))
    samples = OneBatch(Samples(config, torch.device("cpu")))
    losses = [loop.advance_one(run, samples)["loss"] for _ in range(80)]
    assert losses[-1] < 0.8 * losses[0]


def test_the_validation_stands_beside_the_blurred_input(config):
    console = quiet()
    best = loop.train(config, console)
    text = console.file.getvalue()
    assert "PSNR blurred" in text
    assert "SSIM blurred" in text
    assert "samples/s" in text
    curve = json.loads((config.out / "curve.json").read_text())
    assert [entry["step"] for entry in curve] == [3, 6]
    assert curve[0]["val"][0]["psnr_blurred"] > 0
    assert checkpoint.load(best).curve[0]["val_gain"] == curve[0]["val_gain"]


def test_the_prefix_of_a_prolonged_run_is_the_same(config):
    longer = changed(config, steps=1000)
    assert [loop.learning_rate(config, step) for step in range(4)] == [
        loop.learning_rate(longer, step) for step in range(4)
    ]
    assert loop.learning_rate(config, 5) < loop.learning_rate(config, 4)


def test_a_run_is_not_overwritten_by_accident(config):
    loop.train(config, quiet())
    with pytest.raises(ValueError, match="--resume"):
        loop.train(config, quiet())


def test_a_diverging_run_stops_with_its_reason(config):
    run = loop.start(config, torch.device("cpu"))
    with torch.no_grad():
        run.network.exit.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="--lr"):
        loop.advance_one(run, Samples(config, torch.device("cpu")))


def test_a_checkpoint_of_another_network_is_refused(config):
    loop.train(config, quiet())
    with pytest.raises(ValueError, match="not paper"):
        loop.start(changed(config, arch="paper", resume=True), torch.device("cpu"))


def test_a_foreign_file_is_no_checkpoint(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "x.pt")
    torch.save({"weights": 1}, tmp_path / "y.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "y.pt")
