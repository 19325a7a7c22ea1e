import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.ports import free_port
from train import checkpoint, loop, metrics, run
from train.architecture import GeneratorConfig
from train.config import TrainConfig
from train.data import Samples
from train.schedule import Plan, plan
from train.watch import Watch

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TINY = {
    "fast": GeneratorConfig(widths=(8, 8), blocks=(1, 1, 1)),
    "paper": GeneratorConfig(architecture="paper", widths=(16, 16, 16), blocks=(1,), dropout=0.5),
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(run, "ARCHITECTURES", TINY)


@pytest.fixture
def config(photos, pairs, tmp_path):
    return TrainConfig(
        photos=(photos,),
        val=(pairs,),
        report=(pairs,),
        crops=(32,),
        batch=2,
        steps=6,
        warmup=2,
        decay=0.4,
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
    config = changed(config, arch=arch, dropout=0.5)  # which draws at random too
    loop.train(config, quiet())
    other = changed(config, out=tmp_path / "other")
    begun = run.start(other, torch.device("cpu"))
    samples = Samples(other, torch.device("cpu"))
    for step in range(2):  # stopped between validations, before the decay
        run.advance(begun, samples, plan(other, step, step / other.steps))
    other.out.mkdir()
    run.save(begun, other.out / "last.pt")
    loop.train(changed(other, resume=True), quiet())
    whole, resumed = (checkpoint.load(c.out / "last.pt") for c in (config, other))
    assert whole.step == resumed.step == 6
    for name in whole.generator:
        assert torch.equal(whole.generator[name], resumed.generator[name]), name
        assert torch.equal(whole.ema[name], resumed.ema[name]), name


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interruption_saves_between_steps(config, tmp_path, monkeypatch, name):
    loop.train(config, quiet())
    other = changed(config, out=tmp_path / "other")
    stop_at(4, monkeypatch, getattr(signal, name))
    with pytest.raises(KeyboardInterrupt):
        loop.train(other, quiet())
    assert checkpoint.load(other.out / "last.pt").step == 4
    loop.train(changed(other, resume=True), quiet())
    whole, resumed = (checkpoint.load(c.out / "last.pt") for c in (config, other))
    for weight in whole.ema:
        assert torch.equal(whole.ema[weight], resumed.ema[weight]), weight


def stop_at(step, monkeypatch, number=signal.SIGTERM):
    """Send the signal after the optimizer's step, before the average follows."""
    average = run._average

    def interrupted(job):
        if job.step == step:
            os.kill(os.getpid(), number)
        average(job)

    monkeypatch.setattr(run, "_average", interrupted)


@pytest.mark.parametrize("stopped", [3, 4, 5])
def test_the_state_before_the_rate_falls_is_kept_wherever_a_run_stops(config, monkeypatch, stopped):
    stop_at(stopped, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        loop.train(config, quiet())
    loop.train(changed(config, resume=True), quiet())
    assert checkpoint.load(config.out / "steady.pt").step == 4


def test_a_run_that_ends_before_its_rate_falls_can_be_prolonged_from_there(config):
    loop.train(changed(config, steps=2), quiet())
    assert checkpoint.load(config.out / "steady.pt").step == 2


def test_averaged_weights_follow_fast_at_first_and_slowly_later(config):
    job = run.start(changed(config, ema=0.9), CPU)
    for step, share in ((1, 2 / 11), (1000, 0.9)):
        job.step = step
        before = [p.clone() for p in job.ema.parameters()]
        with torch.no_grad():
            for weight in job.network.parameters():
                weight.add_(1)
        run._average(job)
        for old, new, now in zip(
            before, job.ema.parameters(), job.network.parameters(), strict=True
        ):
            torch.testing.assert_close(new, share * old + (1 - share) * now)


def test_gradients_are_clipped(config):
    for clip, norm in ((0.1, 0.1), (0.0, 5.0)):
        job = run.start(changed(config, clip=clip, optimizer="adamw"), CPU)
        loss = 5 * next(job.network.parameters()).flatten()[0]
        assert run._descend(job, loss, 0.0).item() == pytest.approx(5)
        left = sum(p.grad.square().sum() for p in job.network.parameters() if p.grad is not None)
        assert left.sqrt().item() == pytest.approx(norm, rel=1e-3)


class OneBatch:
    """The same samples at every step."""

    def __init__(self, samples: Samples) -> None:
        self._batch = samples.batch(0, 32, 2)
        self.seed = samples.seed

    def batch(self, step: int, crop: int, count: int):
        return self._batch


def test_training_lowers_the_loss(config, pairs):
    config = changed(config, photos=(), pairs=(pairs,), clip=1.0, optimizer="adamw")
    job = run.start(config, CPU)
    samples = OneBatch(Samples(config, CPU))
    steady = Plan(rate=3e-3, crop=32, batch=2, adversarial=False, steady=True)
    losses = [run.look(run.advance(job, samples, steady))["loss"] for _ in range(80)]
    assert losses[-1] < losses[0] - 0.2 * abs(losses[0])


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


@pytest.mark.parametrize("arch", ["fast", "paper"])
def test_runs_start_at_the_identity_unless_told_otherwise(config, arch):
    x = torch.rand(1, 3, 32, 32)
    at_identity = run.start(changed(config, arch=arch), CPU).network.eval()
    assert torch.equal(at_identity(x), x)
    anywhere = run.start(changed(config, arch=arch, identity=False), CPU)
    assert not torch.equal(anywhere.network.eval()(x), x)
    torch.testing.assert_close(anywhere.ema(x), anywhere.network(x))


def test_the_best_validation_is_kept(config, monkeypatch):
    gains = iter([0.5, 0.2])
    monkeypatch.setattr(metrics, "mean_gain", lambda _: next(gains))
    monkeypatch.setattr(Watch, "table", lambda *_: None)
    best = loop.train(changed(config, report=()), quiet())
    assert checkpoint.load(best).step == 3


def test_a_run_is_not_overwritten_by_accident(config):
    loop.train(config, quiet())
    with pytest.raises(ValueError, match="--resume"):
        loop.train(config, quiet())


def test_a_diverging_run_stops_and_leaves_the_last_good_checkpoint(config, monkeypatch):
    descend = run._descend

    def broken(job, loss, rate):
        return descend(job, loss * (float("nan") if job.step == 4 else 1), rate)

    monkeypatch.setattr(run, "_descend", broken)
    with pytest.raises(ValueError, match="is nan at step 6: lower"):
        loop.train(config, quiet())
    kept = checkpoint.load(config.out / "last.pt")
    assert kept.step == 3
    assert all(weight.isfinite().all() for weight in kept.generator.values())


def test_a_dead_discriminator_ends_the_run(config):
    job = run.start(changed(config, tensorboard=False), torch.device("cpu"))
    watch = Watch(job, quiet(), writing=True)
    certain = {"loss": 1.0, "D_Ra(real, fake)": 0.9999, "D norm": 0.1}
    for _ in range(99):
        watch.see(certain)
    with pytest.raises(ValueError, match="certain of everything"):
        watch.see(certain)
    with pytest.raises(ValueError, match="no gradient"):
        watch.see({"loss": 1.0, "D_Ra(real, fake)": 0.5, "D norm": 0.0})


def test_an_adversarial_phase_is_trained_and_watched(config, vgg):
    console = quiet()
    job = changed(config, arch="paper", finetune=0.5, vgg=vgg, log_every=1)
    loop.train(job, console)
    text = console.file.getvalue()
    assert text.count("D_Ra(real, fake)") >= 1
    assert "L_per" in text
    saved = checkpoint.load(job.out / "last.pt")
    assert set(saved.adversary) == {"discriminator", "optimizer"}
    events = EventAccumulator(str(job.out / "tensorboard"))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"loss", "norm", "learning rate", "val/PSNR", "report/gain"} <= scalars
    assert events.Tags()["images"]


def test_minutes_end_the_schedule_in_time(config):
    began = time.monotonic()
    budget = changed(config, minutes=0.15, val_every=10**9, log_every=10**9)
    loop.train(budget, quiet())
    saved = checkpoint.load(budget.out / "last.pt")
    assert saved.spent >= 7  # of 9 seconds, at the end of which there is a validation
    assert time.monotonic() - began < 30  # and not until the 6 steps are done a few times
    assert checkpoint.exists(budget.out / "steady.pt")


def test_minutes_leave_time_for_the_validation(config, monkeypatch):
    def slow(*_):
        time.sleep(1)
        return []

    monkeypatch.setattr(metrics, "evaluate", slow)
    monkeypatch.setattr(metrics, "mean_gain", lambda _: 0.0)
    monkeypatch.setattr(Watch, "table", lambda *_: None)
    began = time.monotonic()
    loop.train(changed(config, minutes=0.15, val_every=10**9, report=()), quiet())
    assert time.monotonic() - began < 9.9  # where 9 s were given, and a validation takes 1


def test_what_changed_since_the_interruption_is_told(config):
    loop.train(config, quiet())
    further = changed(config, steps=8, resume=True, seed=7, beta1=0.5)
    job = run.start(further, CPU)
    assert job.changes == [
        "steps is 8, and was 6",
        "beta1 is 0.5, and was 0.9",
        "seed is 7, and was 0",
    ]
    groups = [group for part in job.optimizer._optimizers for group in part.param_groups]
    assert groups[0]["betas"] == (0.5, 0.99)


def test_minutes_without_time_for_a_step_are_refused(config):
    with pytest.raises(ValueError, match=r"--minutes 0\.0001 leave no time"):
        loop.train(changed(config, minutes=0.0001), quiet())


def test_epochs_count_the_pairs(config, pairs):
    job = changed(config, photos=(), pairs=(pairs,), epochs=8, batch=2, val_every=100)
    loop.train(job, quiet())
    assert checkpoint.load(job.out / "last.pt").step == 8  # 8 times two pairs, two at a time
    assert run.start(changed(job, resume=True), CPU).changes == []


def test_a_run_can_begin_with_the_weights_of_another(config, tmp_path):
    best = loop.train(config, quiet())
    further = changed(config, out=tmp_path / "further", start_from=best)
    job = run.start(further, CPU)
    assert job.step == 0
    saved = checkpoint.load(best)
    for name, weight in job.network.state_dict().items():
        assert torch.equal(weight, saved.ema[name])


def test_a_run_is_split_into_parts_and_resumed_from_them(config):
    job = changed(config, shard_mb=1, val=(), report=())
    loop.train(job, quiet())
    assert not (job.out / "last.pt").exists()
    assert checkpoint.load(job.out / "last.pt").step == 6
    loop.train(changed(job, resume=True, steps=8), quiet())
    assert checkpoint.load(job.out / "last.pt").step == 8


def test_parts_stay_below_their_size_and_old_ones_go(tmp_path):
    def at(step):
        noise = torch.randn(700_000, generator=torch.Generator().manual_seed(step))
        return checkpoint.Checkpoint(
            step=step, seconds=0, generator_config={}, train_config={}, ema={"w": noise}
        )

    path = tmp_path / "last.pt"
    for step in (1, 2):
        checkpoint.save(at(step), path, shard_mb=1)
    parts = [p for p in tmp_path.iterdir() if p.suffix != ".json"]
    assert len(parts) == 3
    assert all(p.stat().st_size <= 1e6 for p in parts)
    assert torch.equal(checkpoint.load(path).ema["w"], at(2).ema["w"])
    checkpoint.save(at(3), path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
    checkpoint.save(at(4), path, shard_mb=1)
    assert checkpoint.load(path).step == 4
    parts = sorted(p for p in tmp_path.iterdir() if p.suffix != ".json")
    parts[1].unlink()
    with pytest.raises(FileNotFoundError):
        checkpoint.load(path)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    empty = checkpoint.Checkpoint(step=1, seconds=0, generator_config={}, train_config={}, ema={})
    checkpoint.save(empty, path)

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: .*last\.pt"):
        checkpoint.save(empty, path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
    assert checkpoint.load(path).step == 1


def test_a_disk_without_room_for_a_checkpoint_is_told_before_the_first_step(config, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr(loop, "advance", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(OSError, match=r"run has 0 MB left, and a checkpoint takes \d+ or more"):
        loop.train(config, quiet())


def test_a_checkpoint_of_another_network_is_refused(config):
    loop.train(config, quiet())
    with pytest.raises(ValueError, match="not paper"):
        run.start(changed(config, arch="paper", resume=True), CPU)


def test_a_checkpoint_for_use_can_be_trained_further(config, tmp_path):
    best = loop.train(config, quiet())
    assert checkpoint.load(best).optimizer == {}
    further = changed(config, out=tmp_path / "further", resume=True, steps=9)
    further.out.mkdir()
    best.rename(further.out / "last.pt")
    loop.train(further, quiet())
    assert checkpoint.load(further.out / "last.pt").step == 9


class Trap:
    """What a pickle can do to who opens it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_runs_nothing(tmp_path):
    torch.save({"step": Trap(tmp_path / "sprung")}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "x.pt")
    assert not (tmp_path / "sprung").exists()
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert (tmp_path / "sprung").exists()  # it would have


def test_a_file_that_cannot_be_read_is_not_called_foreign(tmp_path):
    with pytest.raises(IsADirectoryError):
        checkpoint.load(tmp_path)


def test_a_foreign_file_is_no_checkpoint(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "x.pt")
    torch.save({"weights": 1}, tmp_path / "y.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "y.pt")
    torch.save({"format_version": 99, "news": 1}, tmp_path / "z.pt")
    with pytest.raises(ValueError, match="written by a newer version"):
        checkpoint.load(tmp_path / "z.pt")


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
from train import processes, run
from train.config import TrainConfig
from train.data import Samples
from train.architecture import GeneratorConfig
from train.schedule import plan

torch.set_num_threads(1)
run.ARCHITECTURES = {{"fast": GeneratorConfig(widths=(8, 8), blocks=(1, 1, 1))}}
config = TrainConfig(
    photos=(Path({photos!r}),), crops=(32,), batch=2, warmup=1, clip=0, device="cpu", amp=False
)
device, rank = processes.join("cpu")
assert processes.agree(float(rank + 5), device) == 5
shared = run.start(config, device)
first = plan(config, 0, 0.0)
run.advance(shared, Samples(config, device, rank=rank), first)
dist.destroy_process_group()

gradients = []
for alone in range(2):
    job = run.start(config, device)
    run.advance(job, Samples(config, device, rank=alone), first)
    gradients.append([p.grad for p in job.network.parameters()])
for p, one, other in zip(shared.network.parameters(), *gradients, strict=True):
    torch.testing.assert_close(p.grad, (one + other) / 2, atol=1e-7, rtol=1e-4)
    assert not torch.equal(one, other) or not one.any()
print("the same", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize("first", [0, 1])
def test_processes_end_together_whichever_is_asked(photos, tmp_path, first):
    """One of two gets SIGTERM: both end, and what was done is saved."""
    out = tmp_path / "run"
    settings = ["--photos", str(photos), "--crops", "32", "--batch", "1", "--no-tensorboard"]
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "train", *settings, "--device", "cpu", "--out", str(out)]
    ranks = [
        subprocess.Popen(
            [*command, "--log-every", "1"],
            cwd=ROOT,
            env={**os.environ, **environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert ranks[0].stdout is not None
    while "steps/s" not in ranks[0].stdout.readline():
        assert ranks[0].poll() is None
    ranks[first].send_signal(signal.SIGTERM)
    said = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [130, 130], said
    assert checkpoint.load(out / "last.pt").step > 0
