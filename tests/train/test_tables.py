from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("skimage")
from PIL import Image
from scipy.ndimage import gaussian_filter

from tests.tiny_onnx import identity
from tests.train.conftest import photograph
from train.metrics import psnr, ssim, ssim_3d
from train.tables import main


@pytest.fixture
def onnx(tmp_path):
    path = tmp_path / "identity.onnx"
    path.write_bytes(identity())
    return path


def test_without_data_our_columns_say_so(onnx, capsys):
    assert main(["--model", str(onnx)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("no --gopro") == shown.count("no --koehler") == 3
    for figure in ("29.34", "0.928", "26.32", "0.822", "0.48", "11.9", "Li, Kong, Xue, Wang"):
        assert figure in shown


def test_with_data_our_columns_hold_figures(pairs, onnx, tmp_path, capsys):
    sharp = photograph(0, 180, 184)
    frames = tmp_path / "koehler" / "Image1" / "Kernel1"
    frames.mkdir(parents=True)
    Image.fromarray(gaussian_filter(sharp, (1, 1, 0))).save(tmp_path / "koehler" / "Blurry1_1.png")
    Image.fromarray(sharp).save(frames / "GroundTruth1_1_1.png")
    (pairs / "blur" / "1.png").unlink()
    (pairs / "sharp" / "1.png").unlink()
    flags = ["--model", str(onnx), "--gopro", str(pairs), "--koehler", str(tmp_path / "koehler")]
    assert main(flags) == 0
    shown = capsys.readouterr().out
    assert "no --" not in shown
    twin = photograph(0, 70, 90)
    blurred = gaussian_filter(twin, (0, 2, 0))
    assert f"{psnr(blurred, twin):.2f}" in shown
    assert f"{ssim(blurred, twin):.4f} SSIM" in shown
    assert f"{ssim_3d(blurred, twin):.4f} SSIM-3D" in shown
    assert "1 of Köhler's 48" in shown


def test_the_wrong_data_set_is_one_line(pairs, onnx, capsys):
    assert main(["--model", str(onnx), "--koehler", str(pairs)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tables: error: ")
    assert "the other data set" in error
    assert error.count("\n") == 1
