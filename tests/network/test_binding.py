"""The binding path, on the processor's memory: of a GPU only where tensors lie is another."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from streamdeblur.deblurrer import Deblurrer
from streamdeblur.frames import Frame
from streamdeblur.network import binding, devices
from streamdeblur.network.binding import BoundSession
from tests.tiny_onnx import OURS, foreign, identity, invert, overflowing

Open = Callable[[bytes], ort.InferenceSession]


@pytest.fixture
def session(tmp_path: Path) -> Open:
    def opened(content: bytes) -> ort.InferenceSession:
        (tmp_path / "tiny.onnx").write_bytes(content)
        return ort.InferenceSession(tmp_path / "tiny.onnx", providers=["CPUExecutionProvider"])

    return opened


@pytest.fixture(params=["cpu", "cuda"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As on a GPU, too, with buffers for the input, but in the processor's memory."""

    def value(_: BoundSession, shape: tuple[int, ...], dtype: Any) -> Any:
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype)

    monkeypatch.setattr(BoundSession, "_value", value)
    return str(request.param)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_every_call_answers_its_own_tensor(session: Open, memory: str) -> None:
    bound = BoundSession(session(invert()), memory)
    answers = [bound(noise(2, 5, 7, 3, seed=seed))[0] for seed in range(5)]
    for seed, answer in enumerate(answers):  # also those given long ago
        assert np.array_equal(answer, 255 - noise(2, 5, 7, 3, seed=seed))


def test_more_shapes_than_are_kept(session: Open, memory: str) -> None:
    bound = BoundSession(session(invert()), memory)
    for repeat in range(3):
        for height in range(1, 9):
            tensor = noise(1, height, 4, 3, seed=repeat)
            assert np.array_equal(bound(tensor)[0], 255 - tensor)
    assert len(bound._idle) == 4


def test_all_outputs_and_floats(session: Open, memory: str) -> None:
    tensor = noise(3, 4, 4, 3)
    tensor[1, 2, 2, 2] = 0
    flagged = BoundSession(session(overflowing(OURS)), memory)
    for _ in range(3):
        sharp, finite = flagged(tensor)
        assert np.array_equal(sharp, tensor)
        assert finite.tolist() == [True, False, True]
    floats = tensor.transpose(0, 3, 1, 2).astype(np.float32)
    bound = BoundSession(session(foreign()), memory)
    for _ in range(2):
        assert np.array_equal(bound(floats)[0], floats)


def test_threads_do_not_meet_in_the_buffers(session: Open, memory: str) -> None:
    bound = BoundSession(session(invert()), memory)

    def agrees(level: int) -> bool:
        tensor = np.full((1, 8, 8, 3), level, np.uint8)
        return all(np.array_equal(bound(tensor)[0], 255 - tensor) for _ in range(30))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(agrees, range(32)))


def test_a_run_that_failed_spoils_none_that_follows(session: Open) -> None:
    bound = BoundSession(session(invert()))
    tensor = noise(1, 4, 4, 3)
    for _ in range(2):
        bound(tensor)
    with pytest.raises(Exception, match=r"(?i)type|unexpected"):
        bound(tensor.astype(np.float32))
    assert np.array_equal(bound(tensor)[0], 255 - tensor)


def test_work_that_repeats_is_recorded_where_cuda_graphs_are_on(
    session: Open, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run of a shape is neither recorded nor replayed; then each has its number."""
    if memory == "cpu":
        pytest.skip("of a GPU")
    real = session(invert())
    asked: list[str] = []
    bound = BoundSession(Recording(real, asked), memory)
    assert bound.captures
    for height in (4, 4, 4, 6, 6, 4):
        bound(noise(1, height, 4, 3))
    assert asked == ["-1", "1", "1", "-1", "2", "1"]


def test_work_that_cuda_cannot_record_is_done_without(session: Open, memory: str) -> None:
    if memory == "cpu":
        pytest.skip("of a GPU")
    asked: list[str] = []
    bound = BoundSession(Recording(session(invert()), asked, fails=("1",)), memory)
    for seed in range(5):
        tensor = noise(1, 4, 4, 3, seed=seed)
        assert np.array_equal(bound(tensor)[0], 255 - tensor)
    assert asked == ["-1", "1", "-1", "-1", "-1", "-1"]
    assert not bound.captures


class Recording:
    """A session that says it records CUDA graphs, and notes which one each run is to be."""

    def __init__(
        self, real: ort.InferenceSession, asked: list[str], fails: tuple[str, ...] = ()
    ) -> None:
        self.real, self.asked, self.fails = real, asked, fails

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def get_provider_options(self) -> Any:
        return {devices.CUDA: {"enable_cuda_graph": "1"}}

    def run(self, names: Any, feeds: Any, options: Any) -> Any:
        self.asked.append(options.get_run_config_entry("gpu_graph_id"))
        return self.real.run(names, feeds)

    def run_with_iobinding(self, bound: Any, options: Any) -> None:
        self.asked.append(options.get_run_config_entry("gpu_graph_id"))
        if self.asked[-1] in self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.real.run_with_iobinding(bound)


def test_pinned_memory_is_taken_where_it_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert binding.pinned((1, 2), np.uint8, devices.CUDA, 0) is None  # none here
    value = SimpleNamespace()
    offer = SimpleNamespace(ep_name=devices.CUDA, memory_info=lambda kind: f"pinned {kind}")
    monkeypatch.setattr(devices, "plugin_devices", lambda provider: [offer])
    taken: list[Any] = []

    def allocated(shape: Any, dtype: Any, memory_info: Any) -> Any:
        taken.append(memory_info)
        return value

    fake = SimpleNamespace(ortvalue_from_shape_and_type=allocated)
    monkeypatch.setattr(binding.ort, "OrtValue", fake)
    monkeypatch.setattr(
        binding.ort, "OrtDeviceMemoryType", SimpleNamespace(HOST_ACCESSIBLE=1), raising=False
    )
    assert binding.pinned((1, 2), np.uint8, devices.CUDA, 0) is value
    assert taken == ["pinned 1"]


@pytest.mark.skipif(
    "openvino" not in [device.name for device in devices.present()],
    reason="needs onnxruntime-ep-openvino",
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_openvino_answers_each_picture(tmp_path: Path, precision: str) -> None:
    """Its provider has memory of its own, into which what is bound is copied."""
    if precision not in devices.offered(devices.find("openvino")):
        pytest.skip("this processor has no bf16")
    path = tmp_path / "tiny.onnx"
    path.write_bytes(identity())
    deblurrer = Deblurrer.load(path, device="openvino", precision=precision)
    assert (deblurrer.provider, deblurrer.precision) == (devices.OPENVINO, precision)
    for seed in range(4):
        image = noise(9, 12, 3, seed=seed)
        assert np.array_equal(deblurrer(image), image)


@pytest.mark.skipif(
    "openvino" not in [device.name for device in devices.present()],
    reason="needs onnxruntime-ep-openvino",
)
def test_openvino_takes_two_frames_of_a_file_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(invert())
    deblurrer = Deblurrer.load(path, device="openvino", precision="fp32")
    picture = av.VideoFrame(12, 9, "rgb24")
    for captured, together in ((None, 2), (0.0, 1)):
        images = noise(6, 9, 12, 3)
        frames = [Frame(picture, each, n, captured=captured) for n, each in enumerate(images)]
        for frame in deblurrer.stream(iter(frames)):
            assert np.array_equal(frame.sharp, 255 - frame.image)
        assert deblurrer._runner.current.together == together
