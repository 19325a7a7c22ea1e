"""The sample clips are what they claim to be, and the examples run as printed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tiny_onnx import identity, invert

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
CLIPS = ("pavilion", "gallery")


def run(script: str, *arguments: str | Path, exit_code: int = 0) -> str:
    """What an example prints."""
    # From a checkout that is not installed, too.
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SAMPLES / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == exit_code, done.stderr
    return done.stdout + done.stderr


def decoded(path: Path, frames: int | None = None) -> tuple[list[int], NDArray[np.uint8]]:
    """Timestamps, and pictures (T, H, W, 3)."""
    pts, images = [], []
    with av.open(path) as video:
        for frame in video.decode(video=0):
            assert frame.pts is not None
            pts.append(frame.pts)
            images.append(frame.to_ndarray(format="rgb24"))
            if len(pts) == frames:
                break
    return pts, np.stack(images)


def sound(path: Path) -> bytes:
    with av.open(path) as video:
        assert video.streams.audio[0].codec_context.layout.name == "stereo"
        return b"".join(bytes(packet) for packet in video.demux(audio=0))


def distances(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean difference of each pair of frames, in grey levels."""
    pairs = zip(left, right, strict=True)
    return np.array([np.abs(np.subtract(a, b, dtype=np.int16)).mean() for a, b in pairs])


@pytest.mark.parametrize("name", CLIPS)
class TestClips:
    def test_are_small_and_tagged(self, name: str) -> None:
        for path in (SAMPLES / f"{name}.mp4", SAMPLES / f"{name}-sharp.mp4"):
            assert path.stat().st_size < 1_500_000
            with av.open(path) as video:
                picture = video.streams.video[0].codec_context
                assert (picture.name, picture.pix_fmt) == ("h264", "yuv420p")
                tags = (picture.color_primaries, picture.color_trc, picture.colorspace)
                assert tags == (1, 1, 1)
                assert picture.color_range == 1
                assert "CC" in video.metadata["comment"]  # the authors travel with the file

    def test_twin_shows_the_same_moments_with_the_same_sound(self, name: str) -> None:
        blurred, sharp = SAMPLES / f"{name}.mp4", SAMPLES / f"{name}-sharp.mp4"
        pts, images = decoded(blurred)
        twin_pts, twins = decoded(sharp)
        assert pts == twin_pts
        assert len(pts) >= 90
        difference = distances(images, twins)
        assert np.median(difference) > 6, "most frames are blurred"
        assert difference.min() < 3, "some frames are nearly sharp"
        assert sound(blurred)
        assert sound(blurred) == sound(sharp)


def test_deblur_file_writes_the_video(tmp_path: Path) -> None:
    model, output = tmp_path / "identity.onnx", tmp_path / "out.mp4"
    model.write_bytes(identity())
    source = SAMPLES / "pavilion.mp4"
    printed = run("deblur_file.py", source, output, "--model", model, "--duration", "0.2")
    assert "6 frames" in printed
    pts, images = decoded(output)
    wanted_pts, wanted = decoded(source, frames=6)
    assert pts == wanted_pts
    assert distances(images, wanted).max() < 4  # H.264 is lossy
    assert sound(output)


def test_deblur_file_says_what_is_wrong(tmp_path: Path) -> None:
    model = tmp_path / "identity.onnx"
    model.write_bytes(identity())
    arguments = ("missing.mp4", tmp_path / "out.mp4", "--model", model)
    printed = run("deblur_file.py", *arguments, exit_code=1)
    assert printed.startswith("error: can't open missing.mp4")


def test_deblur_image_answers_with_the_networks_picture(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    model, output = tmp_path / "invert.onnx", tmp_path / "out.png"
    model.write_bytes(invert())
    source = SAMPLES / "gallery.jpg"
    run("deblur_image.py", source, output, "--model", model)
    assert np.array_equal(cv2.imread(str(output)), 255 - cv2.imread(str(source)))


def test_compare_measures_against_the_twin(tmp_path: Path) -> None:
    model = tmp_path / "identity.onnx"
    model.write_bytes(identity())
    clips = (SAMPLES / "pavilion.mp4", SAMPLES / "pavilion-sharp.mp4")
    printed = run("compare.py", *clips, "--model", model, "--duration", "0.2")
    assert "6 frames: blurred" in printed
    assert "gain +0.00 dB" in printed


def test_plain_onnxruntime_needs_no_streamdeblur(tmp_path: Path) -> None:
    model, output = tmp_path / "invert.onnx", tmp_path / "out.png"
    model.write_bytes(invert())
    script = "plain_onnxruntime.py"
    assert "import streamdeblur" not in (SAMPLES / script).read_text(encoding="utf-8")
    printed = run(script, SAMPLES / "gallery.mp4", output, "--model", model, "--frame", "2")
    assert 'model "tiny" on CPUExecutionProvider' in printed
    _, [both] = decoded(output)
    before, after = np.split(both, 2, axis=1)
    assert np.array_equal(after, 255 - before)


def test_examples_run_with_the_bundled_model(tmp_path: Path) -> None:
    run("deblur_file.py", SAMPLES / "gallery.mp4", tmp_path / "out.mp4", "--duration", "0.1")
    run("plain_onnxruntime.py", SAMPLES / "gallery.mp4", tmp_path / "out.png", "--frame", "0")


def test_make_clips_makes_these_clips(tmp_path: Path) -> None:
    for package in ("cv2", "PIL", "skimage"):
        if find_spec(package) is None:
            pytest.skip(f"rendering needs {package}")
    run("make_clips.py", "gallery", "--seconds", "0.08", "-o", tmp_path)
    for name in ("gallery.mp4", "gallery-sharp.mp4"):
        pts, images = decoded(tmp_path / name)
        wanted_pts, wanted = decoded(SAMPLES / name, frames=2)
        assert pts == wanted_pts
        assert distances(images, wanted).max() < 4  # H.264 is lossy
