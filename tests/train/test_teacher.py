from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
from torch import nn

from train import blur, run
from train.architecture import GeneratorConfig
from train.config import TrainConfig
from train.data import Samples
from train.teacher import Teacher

CPU = torch.device("cpu")


class Brighter(nn.Module):
    """Adds a tenth of the range."""

    def forward(self, pictures):
        return pictures + 0.2


def asymmetric() -> nn.Module:
    """Answers darkly, so that it helps where the truth is far below."""
    torch.manual_seed(3)
    network = nn.Conv2d(3, 3, 3, padding=1)
    with torch.no_grad():
        network.bias.sub_(4)
    return network


def test_a_target_lies_between_the_truth_and_the_answer():
    sharp = torch.full((1, 3, 8, 8), 0.5)
    targets = Teacher(Brighter(), 0.7).targets(sharp - 0.3, sharp)  # the answer is 0.3
    assert torch.allclose(targets, torch.full_like(sharp, 0.36))


def test_the_truth_alone_counts_in_each_crop_that_needs_no_help():
    sharp = torch.full((2, 3, 8, 8), 0.5)
    blurred = sharp - torch.tensor([0.3, 0.04])[:, None, None, None]
    targets = Teacher(Brighter(), 1.0).targets(blurred, sharp)
    assert torch.allclose(targets[0], sharp[0] - 0.2)
    assert torch.equal(targets[1], sharp[1])


def test_its_share_falls_with_what_it_takes_off_the_error():
    sharp = torch.full((3, 3, 8, 8), 0.5)
    off = torch.tensor([2.0, 1.0, 0.1])[:, None, None, None]  # dB that the teacher takes off
    before = 0.1 / (1 - 10 ** (-off / 20))
    targets = Teacher(Brighter(), 0.7).targets(sharp - before, sharp)
    shares = ((targets - sharp) / (0.1 - before)).mean(dim=(1, 2, 3)).tolist()
    tenth = (1 - 10**-0.01) / (1 - 10**-0.1)
    assert shares == pytest.approx([0.7, 0.7, 0.7 * tenth], abs=1e-3)


def test_it_sees_in_all_eight_ways():
    teacher = Teacher(asymmetric(), 1.0)
    blurred = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    far = torch.full_like(blurred, -9.0)  # on the answers' side, so that they help
    straight = teacher.targets(blurred, far)
    answer = asymmetric()(blurred)
    assert (straight - far).abs().min() > 1
    for see in (lambda x: x.flip(3), lambda x: x.flip(2), lambda x: x.transpose(2, 3)):
        assert torch.allclose(see(straight), teacher.targets(see(blurred), see(far)), atol=1e-6)
        assert not torch.allclose(see(answer), asymmetric()(see(blurred)), atol=1e-3)


def test_a_taught_batch_depends_on_the_step_alone(photos, tmp_path, monkeypatch):
    shape = GeneratorConfig(widths=(8, 8), blocks=(1, 1, 1))
    monkeypatch.setattr(run, "ARCHITECTURES", {"fast": shape})
    plain = TrainConfig(photos=(photos,), crops=(32,), out=tmp_path, device="cpu")
    schooled = run.start(plain, CPU)
    # What is averaged in light is brighter than sharp: a teacher that darkens a little helps.
    monkeypatch.setattr(blur, "_gammas", lambda n, _: torch.full((n, 1, 1, 1), 2.2))
    with torch.no_grad():
        schooled.ema.exit.bias.sub_(1e-3)
    run.save(schooled, tmp_path / "teacher.pt", for_use=True)
    taught = replace(plain, teacher=tmp_path / "teacher.pt")
    walked = Samples(taught, CPU)
    batches = [walked.batch(step, 32, 4) for step in range(6)]
    jumped = Samples(taught, CPU).batch(5, 32, 4)
    assert all(torch.equal(*both) for both in zip(jumped, batches[5], strict=True))
    untaught = Samples(plain, CPU)
    pairs = [(batches[step], untaught.batch(step, 32, 4)) for step in range(6)]
    assert all(torch.equal(learnt[0], true[0]) for learnt, true in pairs)
    assert sum(not torch.equal(learnt[1], true[1]) for learnt, true in pairs) >= 3


def test_a_teacher_takes_crops_of_its_own_multiples(photos, tmp_path, monkeypatch):
    shape = GeneratorConfig(widths=(8, 8, 8, 8), blocks=(0,) * 7)
    monkeypatch.setattr(run, "ARCHITECTURES", {"fast": shape})
    config = TrainConfig(photos=(photos,), crops=(32, 48), out=tmp_path, device="cpu")
    run.save(run.start(config, CPU), tmp_path / "teacher.pt", for_use=True)
    with pytest.raises(ValueError, match="takes multiples of 32 pixels"):
        Samples(replace(config, teacher=tmp_path / "teacher.pt"), CPU)


def test_a_teacher_that_is_not_there_is_an_error(photos, tmp_path):
    config = TrainConfig(photos=(photos,), crops=(32,), teacher=tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        Samples(config, CPU)
    with pytest.raises(ValueError, match="--teacher-share"):
        replace(config, teacher_share=0.0)
