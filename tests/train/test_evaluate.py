from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")
from PIL import Image
from scipy.ndimage import gaussian_filter

from tests.tiny_onnx import identity, invert, language_model
from tests.train.conftest import photograph
from train import metrics
from train.architecture import GeneratorConfig
from train.checkpoint import Checkpoint, save
from train.evaluate import main
from train.evaluation.restorer import open_restorer
from train.generator import build
from train.pictures import read_picture

TINY = GeneratorConfig(widths=(8, 8), blocks=(1, 1, 1))


def save_weights(weights, path):
    save(
        Checkpoint(
            step=1, seconds=1.0, generator_config=TINY.to_dict(), train_config={}, ema=weights
        ),
        path,
    )
    return path


@pytest.fixture
def onnx(tmp_path):
    path = tmp_path / "identity.onnx"
    path.write_bytes(identity())
    return path


@pytest.fixture
def checkpoint(tmp_path):
    """A network that changes pictures by some levels."""
    torch.manual_seed(0)
    network = build(TINY)
    torch.nn.init.normal_(network.exit.weight, std=0.02)
    return save_weights(network.state_dict(), tmp_path / "best.pt")


def run(*arguments):
    return main([str(argument) for argument in arguments])


def fails(capsys, *arguments):
    """The one line that a failing evaluation prints."""
    assert run(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("evaluate: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_figures_stand_beside_the_blurred_ones(pairs, onnx, checkpoint, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    assert run("--data", pairs, "--model", onnx, checkpoint, "--json", figures, "--identity") == 0
    shown = capsys.readouterr().out
    assert "averaged linearly" in shown
    assert "no crop" in shown
    assert "SSIM-3D" in shown
    (data,) = json.loads(figures.read_text())
    blurred, sharp = (read_picture(pairs / kind / "1.png") for kind in ("blur", "sharp"))
    expected = {
        "name": "1",
        "PSNR": metrics.psnr(blurred, sharp),
        "SSIM": metrics.ssim(blurred, sharp),
        "SSIM-3D": metrics.ssim_3d(blurred, sharp),
    }
    assert data["blurred"]["pictures"][1] == expected
    same, other = data["networks"]
    assert same["mean"] == data["blurred"]["mean"] | {"identity": None}  # infinite
    assert other["mean"]["PSNR"] != pytest.approx(same["mean"]["PSNR"], abs=0.01)
    assert 10 < other["mean"]["identity"] < 60
    assert f"{data['blurred']['mean']['PSNR']:.2f}" in shown


def test_a_model_of_another_function_is_really_run(pairs, tmp_path):
    path, figures = tmp_path / "invert.onnx", tmp_path / "figures.json"
    path.write_bytes(invert())
    assert run("--data", pairs, "--model", path, "--json", figures) == 0
    (network,) = json.loads(figures.read_text())[0]["networks"]
    blurred, sharp = (read_picture(pairs / kind / "0.png") for kind in ("blur", "sharp"))
    assert network["pictures"][0]["PSNR"] == pytest.approx(metrics.psnr(255 - blurred, sharp))


def test_checkpoint_and_model_agree_within_a_level(checkpoint, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from export import write

    saved, network = write.load(checkpoint)
    spec = write.describe(network, saved, name="tiny", precision="fp32")
    (tmp_path / "tiny.onnx").write_bytes(write.to_onnx(network, spec))
    torch_one, onnx_one = (open_restorer(str(tmp_path / n)) for n in ("best.pt", "tiny.onnx"))
    picture = photograph(3, 61, 83)
    ours, theirs = (one.restore(picture).astype(int) for one in (torch_one, onnx_one))
    assert np.abs(ours - theirs).max() <= 1
    assert np.abs(ours - picture).max() > 3
    assert torch_one.parameters == onnx_one.parameters
    assert torch_one.parameters == sum(weight.numel() for weight in network.parameters())


def test_a_video_is_judged_by_its_flicker(tmp_path, onnx, capsys):
    for index in range(8, 12):
        picture = np.full((24, 32, 3), 100 + 8 * (index % 2), np.uint8)
        for kind, level in (("blur", 0), ("sharp", 2 * (index % 2))):
            (tmp_path / "clip" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture + np.uint8(level)).save(
                tmp_path / "clip" / kind / f"{index}.png"
            )
    figures = tmp_path / "figures.json"
    flags = ["--data", tmp_path / "clip", "--model", onnx, "--video", "--json", figures]
    assert run(*flags) == 0
    (data,) = json.loads(figures.read_text())
    names = [picture["name"] for picture in data["blurred"]["pictures"]]
    assert names == ["8", "9", "10", "11"]  # as a clip runs, not as the alphabet does
    assert data["sharp"]["video"] == {"flicker": 25, "temporal_error": 0}
    assert data["blurred"]["video"] == {"flicker": 16, "temporal_error": 2}
    assert data["networks"][0]["video"] == data["blurred"]["video"]
    assert "0.640" in capsys.readouterr().out  # 16 of 25


def test_two_clips_are_not_one(tmp_path, onnx):
    for clip in range(2):
        for index in range(3):
            for kind in ("blur", "sharp"):
                folder = tmp_path / "clips" / str(clip) / kind
                folder.mkdir(parents=True, exist_ok=True)
                picture = np.full((24, 32, 3), 200 * clip, np.uint8)
                Image.fromarray(picture).save(folder / f"{index}.png")
    figures = tmp_path / "figures.json"
    flags = ["--data", tmp_path / "clips", "--model", onnx, "--video", "--json", figures]
    assert run(*flags) == 0
    assert json.loads(figures.read_text())[0]["sharp"]["video"]["flicker"] == 0


def test_koehlers_data_set_is_recognised(tmp_path, onnx, capsys):
    frames = tmp_path / "Image1" / "Kernel1"
    frames.mkdir(parents=True)
    sharp = photograph(0, 180, 184)
    Image.fromarray(gaussian_filter(sharp, (1, 1, 0))).save(tmp_path / "Blurry1_1.png")
    Image.fromarray(sharp).save(frames / "GroundTruth1_1_1.png")
    assert run("--data", tmp_path, "--model", onnx) == 0
    shown = capsys.readouterr().out
    assert "1 of Köhler's 48 pictures, 1 reference frames each" in shown
    assert "MSSIM" in shown
    assert "sharp twins" in fails(capsys, "--data", tmp_path, "--model", onnx, "--identity")
    Image.fromarray(sharp[:179]).save(frames / "GroundTruth1_1_2.png")
    assert "differ in size" in fails(capsys, "--data", tmp_path, "--model", onnx)


def test_gopros_two_kinds_of_blur(tmp_path, onnx, capsys):
    for kind in ("blur", "blur_gamma", "sharp"):
        folder = tmp_path / "test" / "GOPR0001" / kind
        folder.mkdir(parents=True)
        Image.fromarray(photograph(0, 20, 24)).save(folder / "000001.png")
    flags = ["--data", tmp_path, "--model", onnx]
    assert run(*flags, "--blur-folder", "blur_gamma") == 0
    shown = capsys.readouterr().out
    assert "averaged with gamma" in shown
    assert "test/GOPR0001/000001" in shown
    assert "inf" in shown  # equal pictures


def test_lpips_figures_are_asked_of_the_package(pairs, onnx, tmp_path, monkeypatch, capsys):
    class Fake(torch.nn.Module):
        def __init__(self, net, verbose):
            super().__init__()
            assert (net, verbose) == ("alex", False)

        def forward(self, a, b):
            assert a.shape == b.shape == (1, 3, 70, 90)
            assert a.min() >= -1
            return (a - b).abs().mean().view(1, 1, 1, 1)

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Fake))
    figures = tmp_path / "figures.json"
    assert run("--data", pairs, "--model", onnx, "--lpips", "--json", figures) == 0
    assert "LPIPS: version 0.1, AlexNet" in " ".join(capsys.readouterr().out.split())
    blurred, sharp = (read_picture(pairs / k / "0.png").astype(float) for k in ("blur", "sharp"))
    measured = json.loads(figures.read_text())[0]["blurred"]["pictures"][0]["LPIPS"]
    assert measured == pytest.approx(np.abs(blurred - sharp).mean() / 127.5, rel=1e-4)


def test_missing_lpips_says_what_to_do(pairs, onnx, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lpips", None)
    error = fails(capsys, "--data", pairs, "--model", onnx, "--lpips")
    assert "pip install lpips" in error

    monkeypatch.delitem(sys.modules, "lpips")
    (tmp_path / "lpips.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    error = fails(capsys, "--data", pairs, "--model", onnx, "--lpips")
    assert "operator nms does not exist" in error

    def no_weights(**_):
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=no_weights))
    error = fails(capsys, "--data", pairs, "--model", onnx, "--lpips")
    assert "no route to host" in error
    assert "alexnet-owt-7be5be79.pth" in error


def test_bad_data_is_one_line(pairs, onnx, tmp_path, capsys):
    def fails_with(text, folder=pairs):
        assert text in fails(capsys, "--data", folder, "--model", onnx)

    fails_with("there is no folder", tmp_path / "none")
    fails_with("no blur/ folder", pairs / "sharp")
    Image.fromarray(photograph(5, 70, 90)).save(pairs / "sharp" / "9.png")
    fails_with("1 sharp pictures beside")
    Image.fromarray(photograph(5, 70, 91)).save(pairs / "blur" / "9.png")
    fails_with("differ in size")
    whole = (pairs / "sharp" / "9.png").read_bytes()
    (pairs / "blur" / "9.png").write_bytes(whole[: len(whole) // 2])
    fails_with("can't read the picture")
    for kind in ("blur", "sharp"):
        Image.fromarray(photograph(5, 8, 90)).save(pairs / kind / "9.png")
    fails_with("too small to judge")


def test_bad_models_are_one_line(pairs, tmp_path, capsys):
    notes, words = tmp_path / "notes.txt", tmp_path / "words.onnx"
    notes.write_text("not a model\n" * 50)
    words.write_bytes(language_model())
    for model, text in (
        (notes, "neither a checkpoint"),
        (words, "should take and give"),
        (tmp_path / "none.onnx", "no model"),
    ):
        assert text in fails(capsys, "--data", pairs, "--model", model)


def test_other_flags_that_cannot_work_are_one_line(pairs, onnx, tmp_path, capsys):
    flags = ["--data", pairs, "--model", onnx]
    assert "three or more frames" in fails(capsys, *flags, "--video")
    missing = tmp_path / "none"
    told = fails(capsys, *flags, "--json", missing / "a.json")
    assert f"there is no folder {missing} to write a.json in" in told
    assert "is a folder" in fails(capsys, *flags, "--json", tmp_path)


def test_weights_that_do_not_fit_are_one_line(pairs, tmp_path, capsys):
    path = save_weights(torch.nn.Conv2d(3, 3, 1).state_dict(), tmp_path / "other.pt")
    assert "do not fit" in fails(capsys, "--data", pairs, "--model", path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_for_a_gpu_flag(pairs, onnx, checkpoint, capsys):
    for model in (onnx, checkpoint):
        error = fails(capsys, "--data", pairs, "--model", model, "--device", "cuda")
        assert "cuda" in error.lower()
