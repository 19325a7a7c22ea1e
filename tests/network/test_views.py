"""The mean of mirrored views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamdeblur import arguments
from streamdeblur.cli import main
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.network.views import VIEWS, averaged
from tests.test_samples import SAMPLES, decoded
from tests.tiny_onnx import identity

Images = NDArray[np.uint8]


def noise(*shape: int) -> Images:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def push_right(images: Images) -> Images:
    return np.roll(images, 1, axis=2)


@pytest.mark.parametrize("views", VIEWS)
@given(height=st.integers(1, 9), width=st.integers(1, 9))
def test_what_has_no_direction_is_the_same_in_every_view(
    views: int, height: int, width: int
) -> None:
    images = noise(2, height, width, 3)
    assert np.array_equal(averaged(images, lambda view: 255 - view, views), 255 - images)


def test_what_favours_a_direction_is_evened_out_and_rounded() -> None:
    images = noise(1, 6, 8, 3)
    right, left = np.roll(images, 1, axis=2).astype(int), np.roll(images, -1, axis=2).astype(int)
    assert np.array_equal(averaged(images, push_right, 1), right)
    for views in (2, 4):
        assert np.array_equal(averaged(images, push_right, views), (right + left + 1) // 2)


def test_each_view_is_another() -> None:
    seen: list[Images] = []

    def look(view: Images) -> Images:
        assert view.flags["C_CONTIGUOUS"]
        seen.append(view)
        return view

    averaged(noise(1, 5, 7, 3), look, 4)
    assert len({view.tobytes() for view in seen}) == 4


def test_the_network_says_that_its_answer_is_a_mean(tmp_path: Path) -> None:
    (tmp_path / "same.onnx").write_bytes(identity())
    network = Deblurrer.load(tmp_path / "same.onnx", device="cpu", views=4)
    picture = noise(5, 7, 3)
    assert np.array_equal(network(picture), picture)
    assert network.running.endswith(", the mean of 4 views")
    with pytest.raises(ValueError, match="views must be one of"):
        Deblurrer.load(tmp_path / "same.onnx", views=3)


def test_the_command_offers_what_there_is() -> None:
    for views in VIEWS:
        assert arguments.parse(["clip.mp4", "--views", str(views)]).views == views
    with pytest.raises(SystemExit):
        arguments.parse(["clip.mp4", "--views", "3"])


def test_live_pictures_are_done_once(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["lavfi:testsrc2", "--views", "2"]) == 1
    assert "leave out --views, which is for files" in capfd.readouterr().err


def test_the_bundled_network_errs_less_in_the_mean_of_its_views() -> None:
    blurred, sharp = (
        decoded(SAMPLES / name, frames=25)[1][24, :240, :320]
        for name in ("gallery.mp4", "gallery-sharp.mp4")
    )
    errors = []
    for views in (1, 4):
        restored = Deblurrer.load("fast", device="cpu", views=views)(blurred)
        errors.append(np.square(restored - sharp.astype(float)).mean())
    assert errors[1] < 0.99 * errors[0]
