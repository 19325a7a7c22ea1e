import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from train import checkpoint, finish
from train.architecture import GeneratorConfig
from train.checkpoint import Checkpoint
from train.generator import build

SHAPE = GeneratorConfig(widths=(8, 8), blocks=(1, 1, 1))


def saved(seed: int, step: int, gain: float, shape: GeneratorConfig = SHAPE) -> Checkpoint:
    torch.manual_seed(seed)
    network = build(shape)
    torch.nn.init.normal_(network.exit.weight, std=0.1)
    return Checkpoint(
        step=step,
        seconds=3600.0,
        generator_config=shape.to_dict(),
        train_config={"lr": 1e-3, "photos": ["/home/me/photos"]},
        ema=network.state_dict(),
        curve=[{"step": step, "hours": 1.0, "val_gain": gain}],
    )


def test_weights_are_mixed_and_the_correction_is_made_smaller():
    run, earlier = saved(0, 100, 1.0), saved(1, 1000, 0.5)
    made = finish.finish(run, earlier, share=0.25, scale=0.8, coring=2.0)
    for name, weight in made.ema.items():
        mixed = 0.75 * run.ema[name] + 0.25 * earlier.ema[name]
        torch.testing.assert_close(weight, 0.8 * mixed if name.startswith("exit.") else mixed)
    assert GeneratorConfig.from_dict(made.generator_config) == replace(SHAPE, coring=2.0)


def test_what_came_before_comes_first():
    made = finish.finish(saved(0, 100, 1.0), saved(1, 1000, 0.5))
    assert (made.step, made.seconds) == (1100, 7200.0)
    assert [(point["step"], point["hours"]) for point in made.curve] == [(1000, 1.0), (1100, 2.0)]


def test_nothing_of_the_machine_is_published():
    assert finish.finish(saved(0, 1, 0.1)).train_config == {"lr": 1e-3, "photos": ["photos"]}


def test_the_command_judges_what_it_writes(pairs, tmp_path, capsys):
    checkpoint.save(saved(0, 100, 1.0), tmp_path / "last.pt")
    out = tmp_path / "done.pt"
    flags = ["--coring", "1.5", "--scale", "0.5", "--val", str(pairs), "-o", str(out)]
    assert finish.main([str(tmp_path / "last.pt"), *flags]) == 0
    made, network = checkpoint.load_network(out)
    assert network.config.coring == 1.5
    entry = made.curve[-1]
    assert (entry["step"], entry["correction"], entry["coring"]) == (100, 0.5, 1.5)
    assert json.loads((tmp_path / "done-curve.json").read_text()) == made.curve
    assert f"val: {entry['val_gain']:+.3f} dB in the mean" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--share", "0.5"], "--share is of the weights of --earlier"),
        (["--earlier", "other.pt"], "the run's network is"),
        (["--earlier", "none.pt"], "none.pt"),
        (["--earlier", "foreign.pt"], "do not fit"),
        (["--val", "nowhere"], "nowhere"),
        (["-o", "nowhere/done.pt"], "there is no folder nowhere"),
        (["-o", "./last.pt"], "last.pt is the run itself"),
    ],
)
def test_what_cannot_be_done_is_one_line(flags, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checkpoint.save(saved(0, 1, 0.1), tmp_path / "last.pt")
    other = GeneratorConfig(widths=(8, 16), blocks=(1, 1, 1))
    checkpoint.save(saved(0, 1, 0.1, other), tmp_path / "other.pt")
    foreign = saved(0, 1, 0.1)
    foreign.ema = {"weight": torch.zeros(1)}
    checkpoint.save(foreign, tmp_path / "foreign.pt")
    before = (tmp_path / "last.pt").read_bytes()
    assert finish.main(["last.pt", "-o", "done.pt", *flags]) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert not (tmp_path / "done.pt").exists()
    assert (tmp_path / "last.pt").read_bytes() == before


def test_ctrl_c_is_no_traceback(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "load_network", interrupted)
    assert finish.main(["last.pt", "-o", str(tmp_path / "done.pt")]) == 130


@pytest.mark.parametrize("levels", ["-2", "nan"])
def test_coring_is_in_grey_levels(levels, capsys):
    with pytest.raises(SystemExit):
        finish.main(["last.pt", "--coring", levels, "-o", "done.pt"])
    assert "not between 0 and 255" in capsys.readouterr().err


def test_a_run_in_parts_is_not_written_over(tmp_path, capsys):
    path = tmp_path / "last.pt"
    checkpoint.save(saved(0, 1, 0.1), path, shard_mb=0.001)
    before = {part.name: part.read_bytes() for part in tmp_path.iterdir()}
    assert not path.exists()
    assert len(before) > 2
    assert finish.main([str(path), "-o", str(path)]) == 1
    assert "is the run itself" in capsys.readouterr().err
    assert {part.name: part.read_bytes() for part in tmp_path.iterdir()} == before
