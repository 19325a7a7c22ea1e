from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnxruntime
import torch

from export import engines, write
from export.__main__ import main
from tests.tiny_onnx import foreign
from train import checkpoint
from train.architecture import FAST
from train.checkpoint import Checkpoint
from train.generator import build


def fails(capsys, *arguments):
    """The one line that a failing export prints."""
    assert main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("export: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_missing_checkpoint(tmp_path, capsys):
    error = fails(capsys, tmp_path / "none.pt", "-o", tmp_path / "model.onnx")
    assert f"there is no file {tmp_path / 'none.pt'}" in error
    assert "python -m train" in error


def fresh(path, shard_mb=0.0):
    """The path of a checkpoint of `fast`, whose weights are as they begin."""
    saved = Checkpoint(
        step=1,
        seconds=1.0,
        generator_config=FAST.to_dict(),
        train_config={},
        ema=build(FAST).state_dict(),
    )
    checkpoint.save(saved, path, shard_mb=shard_mb)
    return path


def test_a_checkpoint_in_parts(tmp_path):
    fresh(tmp_path / "best.pt", shard_mb=4)
    assert not (tmp_path / "best.pt").exists()
    assert main([str(tmp_path / "best.pt"), "-o", str(tmp_path / "model.onnx")]) == 0
    assert (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint\n" * 100])
def test_not_a_checkpoint(tmp_path, capsys, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    error = fails(capsys, path, "-o", tmp_path / "model.onnx")
    assert f"{path} is not a checkpoint of `python -m train`" in error
    assert list(tmp_path.iterdir()) == [path]


def test_weights_of_another_network(tmp_path, capsys):
    weights = torch.nn.Conv2d(3, 3, 1).state_dict()
    shape = FAST.to_dict()
    other = Checkpoint(step=1, seconds=1.0, generator_config=shape, train_config={}, ema=weights)
    path = tmp_path / "last.pt"
    checkpoint.save(other, path)
    error = fails(capsys, path, "-o", tmp_path / "model.onnx")
    assert f"the weights in {path} do not fit" in error


def test_missing_folder(tmp_path, capsys):
    error = fails(capsys, tmp_path / "last.pt", "-o", tmp_path / "none" / "model.onnx")
    assert f"there is no folder {tmp_path / 'none'}" in error


def test_folder_as_output(tmp_path, capsys):
    assert "is a folder" in fails(capsys, tmp_path / "last.pt", "-o", tmp_path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--half", "--gate", "none"], "no blur/ folder"),
        (["--int8", "--gate", "none", "--calibrate", "none"], "no pictures in"),
    ],
)
def test_missing_pictures_are_told_before_the_network_is_traced(
    tmp_path, capsys, monkeypatch, flags, said
):
    monkeypatch.setattr(write, "_to_onnx", lambda *_: pytest.fail("traced"))
    saved = fresh(tmp_path / "last.pt")
    assert said in fails(capsys, saved, "-o", tmp_path / "model.onnx", *flags)


def test_checkpoint_as_output(tmp_path, capsys):
    path = tmp_path / "last.pt"
    path.write_bytes(b"precious")
    assert "is the checkpoint itself" in fails(capsys, path, "-o", path)
    assert path.read_bytes() == b"precious"


def test_usage_errors_and_help_answer_without_torch():
    code = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "from export.__main__ import main\n"
        "main(sys.argv[1:])"
    )
    root = Path(__file__).parents[2]
    for flag, status in (
        ("--help", 0),
        ("--fuse-separable=maybe", 2),
        ("--int8", 2),
        ("--twins", 2),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, "last.pt", flag], cwd=root, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
        assert "usage: python -m export" in done.stdout + done.stderr


def test_int8_without_pairs_says_why_they_are_needed(capsys):
    with pytest.raises(SystemExit):
        main(["last.pt", "--int8"])
    assert "int8 needs --gate PAIRS: what it costs must be measured" in capsys.readouterr().err


def test_twins_that_would_not_be_found_are_refused(capsys):
    """`streamdeblur` would look for the twins of my.v2 under my.int8.onnx."""
    with pytest.raises(SystemExit):
        main(["last.pt", "-o", "my.v2", "--twins", "--gate", "pairs"])
    assert "end that of -o in .onnx, as in my.v2.onnx" in capsys.readouterr().err


def test_pictures_to_calibrate_on_are_for_int8(capsys):
    with pytest.raises(SystemExit):
        main(["last.pt", "--half", "--calibrate", "pictures"])
    assert "--calibrate is of --int8 and --twins" in capsys.readouterr().err


def test_tensorrt_that_is_missing_is_named_before_the_work(tmp_path, capsys):
    if "TensorrtExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("it is not missing here")
    error = fails(capsys, "fast", "--tensorrt", "--shapes", "720p,1080p")
    assert "cannot use tensorrt" in error
    assert "pip install" in error


@pytest.fixture
def built(tmp_path, monkeypatch):
    """(file, shape, precision) of each engine asked for, on a machine that pretends to build."""
    asked = []

    def build(path, shape, setting):
        asked.append((path.name, shape, setting.precision))
        return tmp_path / "engine"

    monkeypatch.setattr(engines, "require_tensorrt", lambda: None)
    monkeypatch.setattr("streamdeblur.network.devices.why_missing", lambda device: None)
    monkeypatch.setattr("streamdeblur.network.engines.build", build)
    return asked


def test_engines_of_a_bundled_model_are_built_for_the_shapes(built, tmp_path, capsys):
    assert main(["fast", "--tensorrt", "--shapes", "720p,640x360"]) == 0
    assert built == [
        ("fast.fp16.onnx", (1, 720, 1280, 3), "fp16"),
        ("fast.fp16.onnx", (1, 360, 640, 3), "fp16"),
    ]
    assert capsys.readouterr().out.count(f"wrote {tmp_path / 'engine'}") == 2


def test_engines_of_models_made_elsewhere_are_refused(built, tmp_path, capsys):
    path = tmp_path / "other.onnx"
    path.write_bytes(foreign())
    assert "was not written by `python -m export`" in fails(capsys, path, "--tensorrt")
    assert built == []


@pytest.mark.parametrize("flags", [["--tensorrt", "--shapes", "721p"], ["--shapes", "720p"]])
def test_shapes_must_be_sizes_and_for_tensorrt(flags, capsys):
    with pytest.raises(SystemExit):
        main(["fast", *flags])
    assert "--shapes" in capsys.readouterr().err
