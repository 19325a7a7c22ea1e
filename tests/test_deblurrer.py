from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import ModelError
from streamdeblur.frames import Frame
from streamdeblur.network import catalogue, devices, runner
from streamdeblur.network.catalogue import bundled_models
from streamdeblur.network.nvidia import has_driver
from streamdeblur.network.ports import Ports
from streamdeblur.network.session import Setting, captured_output
from streamdeblur.spec import FORMAT_VERSION, ModelSpec
from tests.tiny_onnx import (
    FLOAT16,
    NCHW,
    NHWC,
    UINT8,
    foreign,
    identity,
    invert,
    language_model,
    model,
    without_metadata,
)

Save = Callable[[bytes], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(content: bytes) -> Path:
        path = tmp_path / "tiny.onnx"
        path.write_bytes(content)
        return path

    return write


def pictures(count: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize(
    "content",
    [
        identity(),
        invert(),
        without_metadata(),
        foreign(),
        foreign(element=FLOAT16),
        language_model(),
    ],
)
def test_the_tiny_models_are_valid_onnx(content: bytes) -> None:
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (48, 64), (33, 17)])
def test_any_size_and_any_number_of_pictures(save: Save, height: int, width: int) -> None:
    images = pictures(3, height, width)
    assert np.array_equal(Deblurrer.load(save(identity()))(images), images)
    assert np.array_equal(Deblurrer.load(save(invert()))(images), 255 - images)


def test_pictures_may_be_views(save: Save) -> None:
    mirrored = pictures(1, 8, 8)[:, :, ::-1]
    assert np.array_equal(Deblurrer.load(save(invert()))(mirrored), 255 - mirrored)


def test_a_wrong_kind_of_picture_is_a_mistake_of_the_program(save: Save) -> None:
    deblurrer = Deblurrer.load(save(identity()))
    with pytest.raises(ValueError, match=r"uint8 \(N, H, W, 3\)"):
        deblurrer(np.zeros((1, 4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"not float32 \(4, 5, 3\)"):
        deblurrer(np.zeros((4, 5, 3), np.float32))  # type: ignore[arg-type]


def test_stream_sets_sharp_and_keeps_order(save: Save) -> None:
    picture = av.VideoFrame(4, 2, "rgb24")
    frames = [Frame(picture, image, pts) for pts, image in enumerate(pictures(5, 2, 4))]
    answered = list(Deblurrer.load(save(invert())).stream(iter(frames)))
    assert [frame.pts for frame in answered] == [0, 1, 2, 3, 4]
    for frame in answered:
        assert frame.sharp is not None
        assert np.array_equal(frame.sharp, 255 - frame.image)


def test_frames_of_a_file_go_two_at_a_time_and_live_ones_alone(save: Save) -> None:
    deblurrer = Deblurrer.load(save(identity()), device="cpu")
    image, taken = pictures(1, 2, 4)[0], []

    def frames(captured: float | None) -> Iterator[Frame]:
        for pts in range(6):
            taken.append(pts)
            yield Frame(av.VideoFrame(4, 2, "rgb24"), image, pts, captured=captured)

    next(deblurrer.stream(frames(captured=1.0)))
    assert taken == [0]
    taken.clear()
    next(deblurrer.stream(frames(captured=None)))
    assert taken == [0, 1, 2]


def test_it_says_what_really_runs(save: Save) -> None:
    deblurrer = Deblurrer.load(save(identity()), device="cpu", threads=1)
    assert (deblurrer.spec.name, deblurrer.precision) == ("tiny", "fp32")
    assert deblurrer.provider == "CPUExecutionProvider"
    assert deblurrer.notices == ()


@pytest.mark.parametrize("element", [1, FLOAT16])
@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_foreign_model_runs_with_a_notice(save: Save, element: int, batch: int | str) -> None:
    dims = (batch, *NCHW[1:])
    deblurrer = Deblurrer.load(save(foreign(element=element, dims=dims)))
    images = pictures(2, 33, 47)
    assert np.array_equal(deblurrer(images), images)
    (notice,) = deblurrer.notices
    assert "made elsewhere" in notice
    assert deblurrer.precision == ("fp32" if element == 1 else "fp16")


def test_a_foreign_model_sees_rgb_in_0_to_1_padded_by_its_edge() -> None:
    ports = Ports(np.float32, tells_finite=False)
    image = pictures(1, 5, 40)
    tensor = ports.tensor(image, 32)
    assert tensor.shape == (1, 3, 32, 64)
    assert tensor.dtype == np.float32
    assert np.array_equal(tensor[0, :, 4, 39], image[0, 4, 39] / np.float32(255))
    assert np.array_equal(tensor[0, :, 31, 63], tensor[0, :, 4, 39])
    sharp = ports.images(tensor * 2 - 0.4, tensor, 5, 40)
    assert np.array_equal(sharp, np.clip(image * 2.0 - 102, 0, 255))  # clamped


def test_nan_is_an_error_and_not_a_black_frame(save: Save) -> None:
    path = save(foreign("Log"))  # of the black trial picture: minus infinity
    with pytest.raises(ModelError, match="NaN or infinity"):
        Deblurrer.load(path)


def test_a_model_without_our_metadata_that_fits_runs_with_a_notice(save: Save) -> None:
    deblurrer = Deblurrer.load(save(without_metadata()))
    images = pictures(1, 5, 7)
    assert np.array_equal(deblurrer(images), 255 - images)
    assert deblurrer.notices == (
        "tiny was not written by streamdeblur's export: its precision is a guess",
    )


UNFIT = {
    "language": language_model(),
    "fixed size": model("Identity", UINT8, ("batch", 256, 256, 3)),
    "fixed batch": model("Identity", UINT8, (4, "height", "width", 3)),
    "grey": model("Identity", UINT8, ("batch", "height", "width", 1)),
    "uint8 NCHW": model("Identity", UINT8, NCHW),
    "float NHWC": model("Identity", 1, NHWC),
    "scalar": model("Identity", 1, ()),
}


@pytest.mark.parametrize("content", UNFIT.values(), ids=UNFIT.keys())
def test_a_model_that_does_not_fit_is_described(save: Save, content: bytes) -> None:
    path = save(content)
    with pytest.raises(
        ModelError, match=r"takes .*\[.*\] and gives .*\[.*python -m export"
    ) as caught:
        Deblurrer.load(path)
    assert str(path) in str(caught.value)


def test_a_model_that_changes_the_size_is_refused_before_the_work(save: Save) -> None:
    path = save(model("Transpose", 1, ("batch", 3, "height", "width"), names=("in", "out")))
    with pytest.raises(ModelError, match="keep the size"):
        Deblurrer.load(path)


@pytest.mark.parametrize("content", [b"", b"not a model\n" * 9, identity()[:60], b"\x00" * 64])
def test_a_file_that_is_not_onnx(save: Save, content: bytes) -> None:
    path = save(content)
    with pytest.raises(ModelError, match="is it an ONNX model") as caught:
        Deblurrer.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "ONNXRuntimeError" not in str(caught.value)


def test_a_missing_model_names_the_bundled_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model .*nosuch\.onnx.*bundled"):
        Deblurrer.load(tmp_path / "nosuch.onnx")
    with pytest.raises(ModelError, match="is not a file"):
        Deblurrer.load(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"streamdeblur.name": "{"}, "damaged"),
        (ModelSpec(name="new", format_version=FORMAT_VERSION + 1).to_metadata(), "upgrade"),
    ],
)
def test_metadata_that_cannot_be_used(save: Save, metadata: dict[str, str], complaint: str) -> None:
    path = save(model("Identity", metadata=metadata))
    with pytest.raises(ModelError, match=complaint) as caught:
        Deblurrer.load(path)
    assert str(path) in str(caught.value)


def test_an_unknown_device_is_refused(save: Save) -> None:
    with pytest.raises(ModelError, match=r"no device 'tpu': this onnxruntime has .*cpu"):
        Deblurrer.load(save(identity()), device="tpu")


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="may have CUDA after all"
)
def test_cuda_that_this_build_lacks_is_an_error(save: Save) -> None:
    with pytest.raises(ModelError, match=r"not in this onnx.*; pip install 'streamdeblur\[cuda\]'"):
        Deblurrer.load(save(identity()), device="cuda")


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in ort.get_available_providers() or has_driver(),
    reason="needs onnxruntime-gpu on a machine without an NVIDIA driver",
)
def test_cuda_without_its_libraries_is_an_error_that_names_them(
    save: Save, capfd: pytest.CaptureFixture[str]
) -> None:
    path = save(identity())
    with pytest.raises(ModelError, match=r"NVIDIA driver.* not found; pip install"):
        Deblurrer.load(path, device="cuda")
    deblurrer = Deblurrer.load(path, device="auto")
    assert (deblurrer.provider, deblurrer.notices) == ("CPUExecutionProvider", ())
    assert capfd.readouterr() == ("", "")


def test_auto_says_why_it_does_not_use_a_gpu_that_is_there(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "has_driver", lambda: True)
    here = [devices.find("cuda"), devices.find("cpu")]
    monkeypatch.setattr(devices, "present", lambda: here)
    monkeypatch.setattr(runner, "open_session", _without_cuda(runner.open_session))
    deblurrer = Deblurrer.load(save(identity()), device="auto")
    assert deblurrer.provider == "CPUExecutionProvider"
    assert deblurrer.notices == ("not on cuda: cannot use cuda: libcudnn.so.9 not found",)


def _without_cuda(open_session: Callable[..., Any]) -> Callable[..., Any]:
    def opens(path: Path, setting: Setting) -> Any:
        if setting.device.name == "cuda":
            raise ModelError("cannot use cuda: libcudnn.so.9 not found")
        return open_session(path, setting)

    return opens


@pytest.mark.needs_cuda
@pytest.mark.skipif(not has_driver(), reason="no NVIDIA GPU")
def test_cuda_runs(save: Save) -> None:
    deblurrer = Deblurrer.load(save(invert()), device="cuda")
    images = pictures(1, 32, 32)
    assert deblurrer.provider == "CUDAExecutionProvider"
    assert np.array_equal(deblurrer(images), 255 - images)


def test_what_native_code_prints_is_captured(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_output() as lines:
        os.write(1, b"to stdout\n")
        os.write(2, b"to stderr\n")
    os.write(1, b"after\n")
    assert lines == ["to stdout", "to stderr"]
    assert capfd.readouterr().out == "after\n"


def test_loading_prints_nothing(save: Save) -> None:
    path = save(identity())
    bad = path.with_name("bad.onnx")
    bad.write_text("not a model")
    script = (
        "import sys\n"
        "from streamdeblur.deblurrer import Deblurrer, ModelError\n"
        "Deblurrer.load(sys.argv[1])\n"
        "try: Deblurrer.load(sys.argv[2])\n"
        "except ModelError: pass\n"
    )
    command = [sys.executable, "-c", script, str(path), str(bad)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_bundled_models_are_listed_and_load_by_name(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(invert())
    monkeypatch.setattr(catalogue, "_MODELS", path.parent)
    (bundled,) = bundled_models()
    assert (bundled.name, bundled.path, bundled.size) == ("tiny", path, len(invert()))
    assert bundled.spec.receptive_field == 1
    assert Deblurrer.load("tiny").spec == bundled.spec


def test_one_picture_is_enough(save: Save) -> None:
    picture = pictures(1, 8, 6)[0]
    sharp = Deblurrer.load(save(invert()))(picture)
    assert np.array_equal(sharp, 255 - picture)


def test_several_threads_may_call_it_at_once(save: Save) -> None:
    deblurrer = Deblurrer.load(save(invert()))

    def agrees(level: int) -> bool:
        image = np.full((level % 7 + 3, 9, 3), level, np.uint8)
        return all(np.array_equal(deblurrer(image), 255 - image) for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(agrees, range(64)))
