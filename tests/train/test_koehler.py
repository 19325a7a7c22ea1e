from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("skimage")
from PIL import Image
from scipy.ndimage import gaussian_filter

from tests.train.conftest import photograph
from train.evaluation import koehler


@pytest.fixture
def folder(tmp_path):
    """Two blurred pictures laid out as the download; the second reference of each is the twin."""
    for scene, kernel in ((1, 2), (1, 10)):
        frames = tmp_path / f"Image{scene}" / f"Kernel{kernel}"
        frames.mkdir(parents=True)
        sharp = photograph(kernel, 184, 200)
        blurred = gaussian_filter(sharp, (0, 1, 0))
        Image.fromarray(blurred).save(tmp_path / f"Blurry{scene}_{kernel}.png")
        for index, frame in enumerate((photograph(7, 184, 200), sharp), start=1):
            Image.fromarray(frame).save(frames / f"GroundTruth{scene}_{kernel}_{index}.png")
    return tmp_path


def test_the_download_is_found_in_the_order_of_its_numbers(folder):
    found = koehler.find(folder)
    assert [blurred.name for blurred, _ in found] == ["Blurry1_2.png", "Blurry1_10.png"]
    assert [[path.name for path in references] for _, references in found] == [
        [f"GroundTruth1_{kernel}_{index}.png" for index in (1, 2)] for kernel in (2, 10)
    ]
    assert koehler.find(folder / "Image1") == []  # no blurred pictures: not this data set


def test_missing_references_are_named(folder):
    for path in (folder / "Image1" / "Kernel10").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"Blurry1_10\.png has no reference frames"):
        koehler.find(folder)


def test_the_best_reference_counts(folder):
    ((_, references), _) = koehler.find(folder)
    picture = np.asarray(Image.open(folder / "Blurry1_2.png"))
    best = koehler.judge(references, picture)
    psnr, similarity = koehler.compare(picture, np.asarray(Image.open(references[1])))
    assert best == {"PSNR": psnr, "MSSIM": similarity}
    assert koehler.judge(references[:1], picture)["PSNR"] < psnr - 3


def plain_psnr(picture, sharp):
    return 10 * np.log10(255**2 / np.square(sharp.astype(float) - picture).mean())


def test_brightness_does_not_count():
    sharp = photograph(0, 180, 200)
    half = (sharp * 0.5).round().astype(np.uint8)
    psnr, similarity = koehler.compare(half, sharp)
    assert plain_psnr(half, sharp) < 20
    assert psnr > 45  # rounding alone
    assert similarity > 0.99


def test_a_shift_by_whole_pixels_hardly_counts():
    sharp = photograph(0, 180, 200)
    moved = np.zeros_like(sharp)
    moved[3:, :-5] = sharp[:-3, 5:]  # 3 down, 5 to the left
    psnr, similarity = koehler.compare(moved, sharp)
    # Not exact: the scale is found first, on the pictures as they lie.
    assert psnr > plain_psnr(moved, sharp) + 8
    assert similarity > 0.97


def test_a_known_error_has_its_psnr():
    sharp = np.full((180, 180, 3), 100, np.uint8)
    sharp[::2] = 104
    other = np.full((180, 180, 3), 102, np.uint8)
    psnr, _ = koehler.compare(other, sharp)  # scale and shift cannot help: 2 levels everywhere
    assert psnr == pytest.approx(20 * np.log10(255 / 2), abs=0.01)


def test_mssim_falls_with_blur_and_needs_room():
    plane = photograph(1, 200, 200)[..., 0].astype(float)
    figures = [koehler.mssim(plane, gaussian_filter(plane, sigma)) for sigma in (0.0, 1.0, 3.0)]
    assert figures[0] == pytest.approx(1)
    assert figures[0] > figures[1] > figures[2] > 0
    with pytest.raises(ValueError, match="176 pixels"):
        koehler.mssim(plane[:100], plane[:100])


def test_luminance_counts_at_the_coarsest_scale_alone():
    flat = np.full((200, 200), 100.0)
    c1 = 2.55**2
    luminance = (2 * 100 * 50 + c1) / (100**2 + 50**2 + c1)
    assert koehler.mssim(flat, flat / 2) == pytest.approx(luminance**0.1333)
