import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from tests.tiny_onnx import identity
from train import loop
from train.__main__ import main
from train.compress import main as compress
from train.config import parse_config
from train.pictures import find_pairs, read_picture

ROOT = Path(__file__).parents[2]


def test_help_answers_without_torch():
    code = (
        "import sys; from train.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--photos" in done.stdout
    assert "folders of sharp photographs" in done.stdout


def test_flags_become_settings():
    config = parse_config(["--photos", "a", "b", "--no-amp", "--lr", "1e-3", "--arch", "paper"])
    assert config.photos == (Path("a"), Path("b"))
    assert not config.amp
    assert config.lr == 1e-3
    assert config.arch == "paper"


def test_settings_that_cannot_work_are_usage_errors(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse_config(["--crops", "100"])
    assert exit_.value.code == 2
    assert "multiples of 16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--epochs", "3"], "give --pairs"),
        (["--minutes", "3", "--epochs", "3", "--pairs", "x"], "exclude each other"),
        (["--decay", "2"], "--decay is a share"),
        (["--share-pairs", "3"], "--share-pairs is a share, from 0 to 1"),
        (["--ema", "-1"], "--ema is a share"),
        (["--recipe", "worst"], "invalid choice"),
        (["--recip", "paper"], "unrecognized arguments"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--val-every", "0"], "--val-every must be at least 1"),
        (["--crops", "0"], "multiples of 16"),
        (["--threads", "-1"], "--threads must be 0 or more"),
        (["--finetune", "0.1", "--crops", "32", "16"], "last --crops of 32 or more"),
        (["--lr", "0"], "--lr must be more than 0"),
        (["--lr", "nan"], "--lr must be more than 0"),
        (["--lr-finetune", "-1"], "--lr-finetune must be 0 or more"),
        (["--perceptual", "-1"], "--perceptual must be 0 or more"),
        (["--clip", "-1"], "--clip must be 0 or more"),
        (["--extent", "nan"], "--extent must be 0 or more"),
        (["--shard-mb", "nan"], "--shard-mb must be at least 1"),
        (["--pixel", "0", "--fft", "0", "--psnr", "0"], "nothing to learn by"),
        (["--recipe", "paper", "--finetune", "0.5"], "nothing to learn by"),
    ],
)
def test_contradictions_are_usage_errors(capsys, flags, said):
    with pytest.raises(SystemExit) as exit_:
        parse_config(flags)
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    status = main(["--photos", str(tmp_path / "none"), "--out", str(tmp_path / "run")])
    assert status == 1
    error = capsys.readouterr().err
    assert error.startswith("train: error: ")
    assert error.count("\n") == 1


def test_a_place_for_no_folder_is_told_before_pictures_are_read(tmp_path, capsys):
    (tmp_path / "run").write_text("precious")
    for out in (tmp_path / "run", tmp_path / "run" / "mine"):
        assert main(["--photos", str(tmp_path / "none"), "--out", str(out)]) == 1
        expected = f"train: error: {tmp_path / 'run'} is no folder: pass another --out\n"
        assert capsys.readouterr().err == expected


@pytest.mark.parametrize("device", ["gpu", "meta", "mps", "cuda:x"])
def test_a_device_that_is_none_is_one_line(photos, capsys, device):
    assert main(["--photos", str(photos), "--device", device]) == 1
    expected = f"train: error: --device {device}: there is cpu, cuda and auto\n"
    assert capsys.readouterr().err == expected


def test_a_gpu_that_is_not_there_is_one_line(photos, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert main(["--photos", str(photos), "--device", "cuda:1"]) == 1
    expected = "train: error: --device cuda:1: this torch sees 1 CUDA devices\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_too_little_memory_is_one_line(photos, tmp_path, capsys, monkeypatch, error):
    def full(*_, **__):
        raise error("11 GiB wanted")

    monkeypatch.setattr(loop, "Samples", full)
    assert main(["--photos", str(photos), "--device", "cpu", "--out", str(tmp_path / "run")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("train: error: out of memory: ")
    assert told.endswith("(11 GiB wanted)\n")
    assert told.count("\n") == 1


def test_compressed_sets_of_other_seeds_share_nothing(photos, tmp_path):
    for seed in ("0", "4"):
        flags = ["--photos", str(photos), "--count", "8", "--crop", "32", "--seed", seed]
        assert compress([*flags, "-o", str(tmp_path / seed)]) == 0
    sets = [{p.read_bytes() for p in (tmp_path / s / "blur").iterdir()} for s in ("0", "4")]
    assert len(sets[0]) == 8
    assert not sets[0] & sets[1]
    with pytest.raises(SystemExit):
        compress(["--photos", str(photos), "--crop", "33", "-o", str(tmp_path / "odd")])


def test_what_cannot_be_compressed_is_told_before_the_work(photos, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    flags = ["--photos", str(photos), "--count", "1", "--crop", "32"]
    assert compress([*flags, "-o", str(tmp_path / "file")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("train.compress: error: ")
    assert told.count("\n") == 1
    for extent in ("-1", "49", "nan"):
        with pytest.raises(SystemExit):
            compress([*flags, "--extent", extent, "-o", str(tmp_path / "out")])
        assert "--extent is from 0 to 48" in capsys.readouterr().err


def test_compressed_pairs_can_be_trained_on(photos, tmp_path):
    out = tmp_path / "compressed"
    assert compress(["--photos", str(photos), "--count", "3", "--crop", "64", "-o", str(out)]) == 0
    pairs = find_pairs(out)
    assert len(pairs) == 3
    assert all(read_picture(path).shape == (64, 64, 3) for pair in pairs for path in pair)


@pytest.mark.slow
def test_the_benchmark_of_training_says_what_limits_it(tmp_path, capsys, monkeypatch):
    from bench import training

    figures = tmp_path / "figures.json"
    settings = {"arch": "fast", "crop": 32, "batch": 2, "rounds": 1, "steps": 1, "device": "cpu"}
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["training", *flags, "--json", str(figures)])
    assert training.main() == 0
    assert "whole : network alone" in capsys.readouterr().out
    assert 0 < json.loads(figures.read_text())["figures"]["share of it"] < 2


def test_the_gain_by_length_of_blur_is_that_of_the_network(tmp_path, capsys, monkeypatch):
    from bench import lengths

    model, figures = tmp_path / "identity.onnx", tmp_path / "figures.json"
    model.write_bytes(identity())
    flags = ["--model", str(model), "--lengths", "2", "16", "--size", "64"]
    blurred = {}
    for gamma in ("1", "2.2"):
        shown = ["--gamma", gamma, "--json", str(figures)]
        monkeypatch.setattr(sys, "argv", ["lengths", *flags, *shown])
        lengths.main()
        rows = json.loads(figures.read_text())["rows"]
        assert [row[str(model)] for row in rows] == [0, 0]
        short, long = blurred[gamma] = [row["input dB"] for row in rows]
        assert 40 > short > long + 5 > 20
    for encoded, light in zip(*blurred.values(), strict=True):
        assert encoded > light + 0.5  # dB: in light, what is bright spreads over what is dark


@pytest.mark.slow
def test_a_compiled_generator_learns(photos, tmp_path):
    """Needs a C++ compiler, as torch.compile does."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    flags = ["--compile", "--steps", "2", "--crops", "32", "--batch", "1", "--no-tensorboard"]
    flags += ["--photos", str(photos), "--out", str(tmp_path / "run"), "--device", "cpu"]
    command = [sys.executable, "-m", "train", *flags, "--optimizer", "adamw"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "last.pt").exists()
