"""What is sharp is spared the network, what is blurred is not, and nothing jumps in between."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamdeblur.cli import main
from streamdeblur.frames import Image
from streamdeblur.sharpness import sharpness
from streamdeblur.skipping import SkipSharp, change_by_block
from tests.conftest import ClipMaker
from tests.tiny_onnx import identity, invert


def scene(seed: int = 0, size: tuple[int, int] = (96, 128)) -> Image:
    """Shapes with sharp edges, and some noise."""
    rng = np.random.default_rng(seed)
    picture = np.full((*size, 3), 90, np.int16)
    for _ in range(40):
        top, left = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
        height, width = rng.integers(4, 24, 2)
        picture[top : top + height, left : left + width] = rng.integers(20, 235, 3)
    return np.clip(picture + rng.normal(0, 1.5, picture.shape), 0, 255).astype(np.uint8)


def blurred(image: Image, length: int) -> Image:
    """As a camera does that moves to the side."""
    shifted = [np.roll(image, step, axis=1).astype(np.float32) for step in range(length)]
    return np.rint(np.mean(shifted, axis=0)).astype(np.uint8)


class Known:
    """A network that knows the sharp picture."""

    def __init__(self, sharp: Image) -> None:
        self._sharp = sharp
        self.calls = 0

    def __call__(self, image: Image) -> Image:
        self.calls += 1
        return self._sharp


@pytest.mark.parametrize("seed", range(5))
def test_blur_lowers_sharpness_whatever_is_shown(seed: int) -> None:
    values = [sharpness(blurred(scene(seed), length)).value for length in (1, 2, 4, 8)]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[2] > 0.1
    darker = (scene(seed) // 2).astype(np.uint8)
    assert abs(sharpness(darker).value - values[0]) < 0.03


def test_sharpness_of_known_pictures() -> None:
    rows, columns = np.mgrid[0:200, 0:200]
    ramp = np.repeat((rows // 2 + columns // 2)[:, :, None] * 1.25, 3, axis=2).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    assert sharpness(noise).value == pytest.approx(1, abs=0.05)
    assert sharpness(ramp).value < -0.1
    assert sharpness(np.zeros((200, 200, 3), np.uint8)).value == 0
    assert sharpness(noise[:1]).value == 0
    large = np.tile(scene(), (12, 14, 1))  # of which a part is looked at
    assert sharpness(large).value == pytest.approx(sharpness(scene()).value, abs=0.03)


def test_a_change_is_found_in_its_block() -> None:
    image = np.full((70, 100, 3), 50, np.uint8)
    sharp = image.copy()
    sharp[64:70, 96:100] += 8  # the last block, smaller than the others
    changes = change_by_block(image, sharp)
    assert changes.shape == (3, 4)
    assert changes[2, 3] == pytest.approx(8)
    assert np.count_nonzero(changes) == 1


def test_sharp_frames_are_spared_and_checked_now_and_then() -> None:
    picture = scene()
    network = Known(picture)
    skipping = SkipSharp(network)
    answers = [skipping.sharpened(picture) for _ in range(60)]
    assert all(np.array_equal(answer, picture) for answer in answers)
    assert skipping.frames == 60
    assert skipping.skipped == 60 - network.calls
    assert 40 <= skipping.skipped < 54
    assert "the network was spared" in skipping.summary
    assert "changed them by 0.00 levels" in skipping.summary


def test_blurred_frames_are_not_spared() -> None:
    picture = scene()
    skipping = SkipSharp(network := Known(picture))
    for index in range(40):
        assert np.array_equal(skipping.sharpened(blurred(picture, 5 + index % 3)), picture)
    assert (network.calls, skipping.skipped) == (40, 0)


def test_blur_that_comes_is_corrected_within_two_frames() -> None:
    picture = scene()
    skipping = SkipSharp(Known(picture))
    for _ in range(30):
        skipping.sharpened(picture)
    soft = blurred(picture, 6)
    first, second, third = (skipping.sharpened(soft) for _ in range(3))
    assert np.abs(first.astype(int) - soft).sum() / np.abs(picture.astype(int) - soft).sum() > 0.4
    assert np.array_equal(second, picture)
    assert np.array_equal(third, picture)


def test_another_scene_is_looked_at_anew() -> None:
    sharp, other = scene(0), (scene(1) // 4 + 90).astype(np.uint8)
    skipping = SkipSharp(network := Known(sharp))
    for _ in range(30):
        skipping.sharpened(sharp)
    before = network.calls
    skipping.sharpened(other)
    assert network.calls == before + 1


def test_what_the_network_changes_a_little_fades_out_and_never_jumps() -> None:
    picture = scene()
    slightly = np.clip(picture.astype(int) + 2, 0, 255).astype(np.uint8)
    skipping = SkipSharp(Known(slightly))
    answers = [skipping.sharpened(picture).astype(int) for _ in range(40)]
    steps = [np.abs(after - before).max() for before, after in pairwise(answers)]
    assert skipping.skipped > 20
    assert max(steps) <= 1
    assert np.array_equal(answers[0], slightly)
    assert np.array_equal(answers[-1], picture)


def test_the_command_says_what_was_spared(
    make_clip: ClipMaker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip("clip.mkv", codec="ffv1", pts=range(40))
    for name, content, words in (
        ("same", identity(), "it would have changed them by 0.00 levels"),
        ("other", invert(), "the network was spared 0 of 40 frames, 0 %"),
    ):
        (tmp_path / "x.onnx").write_bytes(content)
        output = str(tmp_path / f"{name}.mkv")
        arguments = ["-m", str(tmp_path / "x.onnx"), "--skip-sharp", "-o", output]
        assert main([str(clip), *arguments]) == 0
        assert words in capfd.readouterr().err
    assert main(["lavfi:testsrc2", "--skip-sharp", "-m", str(tmp_path / "x.onnx")]) == 1
    assert "is for files" in capfd.readouterr().err
