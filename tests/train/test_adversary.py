import copy
from dataclasses import replace
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
from train import adversary, run
from train.architecture import GeneratorConfig
from train.config import TrainConfig
from train.discriminator import PatchDiscriminator
from train.metrics import psnr
from train.schedule import Plan

CPU = torch.device("cpu")
NARROW = GeneratorConfig(architecture="paper", widths=(16, 32, 32), blocks=(2,))
ADVERSARIAL = Plan(rate=1e-4, crop=64, batch=1, adversarial=True, steady=False)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr(run, "ARCHITECTURES", {"paper": NARROW})
    monkeypatch.setattr(adversary, "PatchDiscriminator", lambda: PatchDiscriminator((8, 8, 8, 8)))


@pytest.fixture
def config(photos, vgg, tmp_path):
    return TrainConfig(
        photos=(photos,), arch="paper", finetune=1.0, vgg=vgg, amp=False, out=tmp_path / "run"
    )


class OnePair:
    """The same pair at every step."""

    def __init__(self, size: int) -> None:
        torch.manual_seed(3)
        coarse = torch.rand(1, 3, size // 8, size // 8)
        self.sharp = torch.nn.functional.interpolate(coarse, scale_factor=8.0, mode="nearest")
        self.sharp = self.sharp * 1.6 - 0.8
        self.blurred = torch.nn.functional.avg_pool2d(self.sharp, (1, 9), stride=1, padding=(0, 4))

    def seed(self, step, *, salt):
        return step

    def batch(self, step, crop, count):
        return self.blurred, self.sharp


def levels(pictures):
    return ((pictures[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def test_the_discriminator_is_the_papers():
    """Five 4x4 convolutions, by hand: 4 * 4 * in * out weights and out biases each."""
    discriminator = PatchDiscriminator()
    channels = [3, 64, 128, 256, 512, 1]
    expected = sum(16 * a * b + b for a, b in pairwise(channels))
    assert sum(p.numel() for p in discriminator.parameters()) == expected == 2_764_737
    strides = [m.stride[0] for m in discriminator if isinstance(m, torch.nn.Conv2d)]
    assert strides == [2, 2, 2, 1, 1]
    assert discriminator(torch.zeros(2, 3, 256, 256)).shape == (2, 1, 30, 30)


def test_gradients_reach_every_parameter_and_a_step_leaves_the_other_untouched(config):
    job = run.start(replace(config, identity=False), CPU)
    pair = OnePair(64)
    judge = job.adversary.discriminator
    generator, discriminator = (copy.deepcopy(n.state_dict()) for n in (job.network, judge))

    restored = job.network(pair.blurred)
    job.adversary.learn(restored, pair.sharp, 1e-3)
    assert all(p.grad.abs().max() > 1e-4 for name, p in judge.named_parameters() if felt(name))
    assert all(p.grad is None for p in job.network.parameters())
    assert all(torch.equal(generator[k], v) for k, v in job.network.state_dict().items())
    assert not any(
        torch.equal(discriminator[name], p) for name, p in judge.named_parameters() if felt(name)
    )

    learnt = copy.deepcopy(judge.state_dict())
    loss, _ = job.adversary.loss(restored, pair.sharp)
    run._descend(job, loss, 1e-3)
    assert all(p.grad is not None and p.grad.any() for p in job.network.parameters())
    assert not any(torch.equal(generator[n], p) for n, p in job.network.named_parameters())
    assert all(torch.equal(learnt[k], v) for k, v in judge.state_dict().items())
    assert all(p.requires_grad for p in judge.parameters())


def felt(name: str) -> bool:
    """Whether a parameter of the discriminator changes anything.

    The others are biases that InstanceNorm takes off again, and the last one, which is the same in
    all scores, where only differences count.
    """
    return name.endswith("weight") or name == "0.bias"


def test_the_terms_are_the_equations(config):
    """5 to 7, from the scores of the real and the restored picture, by hand."""
    job = run.start(replace(config, identity=False), CPU)
    pair = OnePair(64)
    with torch.no_grad():
        restored = job.network(pair.blurred)
        real, fake = (job.adversary.discriminator(x) for x in (pair.sharp, restored))
    above, below = torch.sigmoid(real - fake.mean()), torch.sigmoid(fake - real.mean())
    loss, terms = job.adversary.loss(restored, pair.sharp)
    torch.testing.assert_close(loss.detach(), 0.005 * terms["L_adv"] + 0.1 * terms["L_per"])
    wanted = -(1 - above).log().mean() - below.log().mean()
    torch.testing.assert_close(terms["L_adv"], wanted)
    told = job.adversary.learn(restored, pair.sharp, 1e-3)
    torch.testing.assert_close(told["D_Ra(real, fake)"], above.mean())
    torch.testing.assert_close(told["L_D"], -above.log().mean() - (1 - below).log().mean())


def test_the_discriminator_learns_at_the_rate_of_the_plan(config):
    job = run.start(config, CPU)
    pair = OnePair(64)
    judge = job.adversary.discriminator
    before = copy.deepcopy(judge.state_dict())
    job.adversary.learn(pair.blurred, pair.sharp, 0.0)
    assert all(torch.equal(before[name], weight) for name, weight in judge.state_dict().items())


def test_each_side_gains_by_its_own_step(config):
    job = run.start(replace(config, identity=False, perceptual=0.0, clip=0.0), CPU)
    pair = OnePair(64)
    restored = job.network(pair.blurred).detach()
    told = [job.adversary.learn(restored, pair.sharp, 1e-3) for _ in range(20)]
    assert told[-1]["L_D"] < 0.8 * told[0]["L_D"]
    assert told[-1]["D_Ra(real, fake)"] > told[0]["D_Ra(real, fake)"]
    asked = []
    for _ in range(20):
        loss, terms = job.adversary.loss(job.network(pair.blurred), pair.sharp)
        run._descend(job, loss, 1e-3)
        asked.append(terms["L_adv"])
    assert asked[-1] < 0.8 * asked[0]


def test_the_full_step_learns_one_pair_by_heart(config):
    settings = {"pixel": 1.0, "fft": 0.0, "psnr": 0.0, "adversarial": 0.001, "perceptual": 0.01}
    job = run.start(replace(config, clip=0.0, ema=0.0, optimizer="adam", **settings), CPU)
    pair = OnePair(64)
    plan = replace(ADVERSARIAL, rate=2e-3)
    for _ in range(400):
        figures = run.advance(job, pair, plan)
    values = run.look(figures)
    with torch.no_grad():
        restored = job.network.eval()(pair.blurred)
    assert psnr(*(levels(x) for x in (restored, pair.sharp))) > 35
    assert set(values) == {"loss", "norm", "L_D", "D_Ra(real, fake)", "D norm", "L_adv", "L_per"}


def test_an_adversarial_run_resumes_exactly(config, tmp_path):
    pair = OnePair(64)
    whole = run.start(config, CPU)
    for _ in range(3):
        run.advance(whole, pair, ADVERSARIAL)
    first = run.start(config, CPU)
    run.advance(first, pair, ADVERSARIAL)
    config.out.mkdir()
    run.save(first, config.out / "last.pt")
    resumed = run.start(replace(config, resume=True), CPU)
    for _ in range(2):
        run.advance(resumed, pair, ADVERSARIAL)
    for one, other in (
        (whole.network, resumed.network),
        (whole.adversary.discriminator, resumed.adversary.discriminator),
    ):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
