import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from rich.console import Console

from train import checkpoint, loop
from train.config import TrainConfig
from train.data import Samples
from train.generator import GeneratorConfig

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interruption_saves_between_steps(config, tmp_path, monkeypatch, name):
    loop.train(config, quiet())
    average = loop._average

    def interrupted(run):  # after the optimizer's step, before the average follows
        if run.step == 4:
            os.kill(os.getpid(), getattr(signal, name))
        average(run)

    other = changed(config, out=tmp_path / "other")
    monkeypatch.setattr(loop, "_average", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.train(other, quiet())
    monkeypatch.setattr(loop, "_average", average)
    assert checkpoint.load(other.out / "last.pt").step == 4
    loop.train(changed(other, resume=True), quiet())
    whole, resumed = (checkpoint.load(c.out / "last.pt") for c in (config, other))
    for weight in whole.ema:
        assert torch.equal(whole.ema[weight], resumed.ema[weight]), weight


class OneBatch:
    """The same samples at every step."""

    def __init__(self, samples: Samples) -> None:
        self._batch = samples.batch(0)
        self.seed = samples.seed

    def batch(self, step: int):
        return self._batch


def test_training_lowers_the_loss(config, pairs):
    config = changed(config, photos=(), pairs=(pairs,), steps=80, decay=1, lr=3e-3, clip=1.0)
    run = loop.start(config, torch.device("cpu"))
    samples = OneBatch(Samples(config, torch.device("cpu")))
    losses = [loop.look(loop.advance_one(run, samples)) for _ in range(80)]
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
        loop.look(loop.advance_one(run, Samples(config, torch.device("cpu"))))


def test_a_checkpoint_of_another_network_is_refused(config):
    loop.train(config, quiet())
    with pytest.raises(ValueError, match="not paper"):
        loop.start(changed(config, arch="paper", resume=True), torch.device("cpu"))


def test_a_checkpoint_for_use_can_be_trained_further(config, tmp_path):
    best = loop.train(config, quiet())
    assert checkpoint.load(best).optimizer == {}
    further = changed(config, out=tmp_path / "further", resume=True, steps=9, decay=1)
    further.out.mkdir()
    best.rename(further.out / "last.pt")
    loop.train(further, quiet())
    assert checkpoint.load(further.out / "last.pt").step == 9


def test_a_foreign_file_is_no_checkpoint(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "x.pt")
    torch.save({"weights": 1}, tmp_path / "y.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "y.pt")


@pytest.mark.slow
def test_processes_that_share_a_run_average_their_gradients(config, photos, tmp_path):
    """After one step of two processes, the gradient is the mean of what each has alone."""
    script = tmp_path / "share.py"
    script.write_text(SHARE.format(root=str(ROOT), photos=str(photos)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*launch, str(script)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the same") == 2


SHARE = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
import torch
import torch.distributed as dist
from train import loop
from train.config import TrainConfig
from train.data import Samples
from train.generator import GeneratorConfig

torch.set_num_threads(1)
loop.ARCHITECTURES = {{"fast": GeneratorConfig(widths=(8, 8), blocks=(1, 1, 1))}}
config = TrainConfig(
    photos=(Path({photos!r}),), crop=32, batch=2, warmup=1, clip=1e9, device="cpu", amp=False
)
device, rank = loop._place("cpu")
shared = loop.start(config, device)
loop.advance_one(shared, Samples(config, device, rank=rank))
dist.destroy_process_group()

gradients = []
for alone in range(2):
    run = loop.start(config, device)
    loop.advance_one(run, Samples(config, device, rank=alone))
    gradients.append([p.grad for p in run.network.parameters()])
for p, first, second in zip(shared.network.parameters(), *gradients, strict=True):
    torch.testing.assert_close(p.grad, (first + second) / 2, atol=1e-7, rtol=1e-4)
    assert not torch.equal(first, second) or not first.any()
print("the same", flush=True)
"""
