"""Devices: their names, what they lack, and what ONNX Runtime is told for them.

No GPU is needed: NVIDIA's driver is a fake, and of the providers the options are looked at.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest

from streamdeblur.cache import cache_folder, cache_size
from streamdeblur.errors import ModelError
from streamdeblur.network import devices, nvidia, session
from streamdeblur.network.devices import CPU, CUDA, OPENVINO, RTX, TENSORRT, Device
from streamdeblur.network.session import Setting, open_session
from tests.tiny_onnx import identity

GIB = 1 << 30


class Driver:
    """NVIDIA's driver with one GPU, as far as it is asked."""

    def __init__(self, free: int) -> None:
        self.free = free

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13_020
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        return 101 if index else 0  # CUDA_ERROR_INVALID_DEVICE

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        ctypes.memmove(name, b"NVIDIA Test\x00", 12)
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:  # noqa: N802
        return 0

    def cuCtxPushCurrent_v2(self, context: Any) -> int:  # noqa: N802
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:  # noqa: N802
        free._obj.value, total._obj.value = self.free, 80 * GIB
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:  # noqa: N802
        return 0


def has_gpu(monkeypatch: pytest.MonkeyPatch, free: int = 70 * GIB) -> None:
    monkeypatch.setattr(nvidia, "driver", lambda: Driver(free))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "tiny.onnx").write_bytes(identity())
    return tmp_path / "tiny.onnx"


def test_the_driver_tells_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    has_gpu(monkeypatch)
    assert nvidia.gpu(0) == nvidia.Gpu("NVIDIA Test", "9.0", "13.2", 80 * GIB, 70 * GIB)
    assert nvidia.gpu(1) is None
    monkeypatch.setattr(nvidia, "driver", lambda: None)
    assert nvidia.gpu(0) is None


def test_devices_by_name() -> None:
    names = [device.name for device in devices.present()]
    assert names[-1] == "cpu"
    assert "azure" not in names
    assert devices.find("CPU").provider == CPU
    assert devices.find("directml").provider == "DmlExecutionProvider"
    with pytest.raises(ModelError, match=r"no device 'abacus': this onnxruntime has .*cpu"):
        devices.find("abacus")


def test_any_provider_of_the_runtime_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ort, "get_available_providers", lambda: ["MIGraphXExecutionProvider", "X.AUTO", CPU]
    )
    assert devices.find("migraphx").provider == "MIGraphXExecutionProvider"
    assert "x.auto" not in [device.name for device in devices.present()]


def test_auto_looks_for_a_gpu_first_and_for_the_processor_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = [devices.find(name) for name in ("coreml", "tensorrt", "openvino", "cpu")]
    monkeypatch.setattr(devices, "present", lambda: here)
    monkeypatch.setattr(devices, "has_driver", lambda: True)
    assert [device.name for device in devices.candidates()] == ["cuda", "openvino", "cpu"]
    monkeypatch.setattr(devices, "has_driver", lambda: False)
    assert [device.name for device in devices.candidates()] == ["openvino", "cpu"]


def test_openvino_offers_bf16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = devices.find("openvino")
    kind = SimpleNamespace(type="cpu")
    monkeypatch.setattr(ort, "OrtHardwareDeviceType", SimpleNamespace(CPU="cpu"), raising=False)
    for words, expected in (("FP32 BF16", ("bf16", "fp32", "int8")), ("FP32", ("fp32", "int8"))):
        facts = {"OPTIMIZATION_CAPABILITIES": words}
        described = SimpleNamespace(device=kind, ep_metadata=facts)
        monkeypatch.setattr(devices, "plugin_devices", lambda _, each=described: [each])
        assert devices.offered(openvino) == expected


def test_a_package_whose_provider_cannot_be_loaded_is_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "onnxruntime_ep_broken.py").write_text("def get_library_path(): return '/none.so'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(devices, "_plugins", devices._plugins.__wrapped__)
    (problem,) = [line for line in devices.register_plugins() if "broken" in line]
    assert problem.startswith("onnxruntime_ep_broken cannot be loaded: ")
    assert "\n" not in problem
    broken = Device("broken", "BrokenExecutionProvider")
    assert devices.why_missing(broken) == f"cannot use broken: {problem}"


def test_a_plugin_that_serves_nothing_here_is_not_to_be_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    openvino = devices.find("openvino")
    monkeypatch.setattr(devices, "present", lambda: [])
    monkeypatch.setattr(devices, "register_plugins", lambda: [])
    monkeypatch.setattr(devices, "_registered", set[str]())
    assert "pip install" in str(devices.why_missing(openvino))
    devices._registered.add("onnxruntime_ep_openvino")
    expected = "cannot use openvino: its plugin finds no hardware here that it serves"
    assert devices.why_missing(openvino) == expected


@pytest.mark.parametrize(
    ("precision", "free", "expected"),
    [
        ("fp16", 70, {"cudnn_conv_algo_search": "EXHAUSTIVE", "prefer_nhwc": "1"}),
        ("fp32", 70, {"prefer_nhwc": "0", "use_tf32": "0", "cudnn_conv_use_max_workspace": "1"}),
        ("fp32", 2, {"cudnn_conv_algo_search": "HEURISTIC", "cudnn_conv_use_max_workspace": "0"}),
    ],
)
def test_what_cuda_is_told(precision: str, free: int, expected: dict[str, str]) -> None:
    options = session.cuda_options(precision, free * GIB, gpu=3)
    assert options.items() >= expected.items()
    assert options["device_id"] == "3"
    assert options["enable_cuda_graph"] == "1"


def test_what_tensorrt_is_told(tmp_path: Path) -> None:
    options = session.tensorrt_options("fp16", tmp_path / "key")
    assert options["trt_engine_cache_path"] == str(tmp_path / "key")
    assert options["trt_timing_cache_path"] == str(tmp_path)  # shared by all engines
    enabled = {key for key, value in options.items() if key.endswith("_enable") and value == "1"}
    assert enabled == {"trt_engine_cache_enable", "trt_timing_cache_enable", "trt_fp16_enable"}


class Opened:
    """Takes the place of `ort.InferenceSession`, and notes what it is given."""

    def __init__(self, confirmed: str | None = None, printed: str = "") -> None:
        self.confirmed, self.printed = confirmed, printed
        self.providers: Any = None

    def __call__(self, path: Any, options: Any, providers: Any, **_: Any) -> Any:
        self.providers = providers
        os.write(1, self.printed.encode())  # as native code does
        first = providers[0] if isinstance(providers[0], str) else providers[0][0]
        return SimpleNamespace(get_providers=lambda: [self.confirmed or first, CPU])


def with_provider(monkeypatch: pytest.MonkeyPatch, device: Device, opened: Opened) -> None:
    here = [device, devices.find("cpu")]
    monkeypatch.setattr(devices, "present", lambda: here)
    monkeypatch.setattr(ort, "InferenceSession", opened)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)


def test_tensorrt_has_cuda_behind_it(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    has_gpu(monkeypatch)
    opened = Opened()
    tensorrt = devices.find("tensorrt")
    with_provider(monkeypatch, tensorrt, opened)
    open_session(model, Setting(tensorrt, "fp32"), engines=tmp_path, captures=False)
    assert [each if isinstance(each, str) else each[0] for each in opened.providers] == [
        TENSORRT,
        CUDA,
        CPU,
    ]
    assert opened.providers[1][1]["enable_cuda_graph"] == "0"


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    has_gpu(monkeypatch)
    cuda = devices.find("cuda")
    with_provider(monkeypatch, cuda, Opened())
    with pytest.raises(ModelError, match="cannot use cuda: there is no GPU 7"):
        open_session(model, Setting(cuda, "fp32", gpu=7))


def test_a_provider_that_became_the_processor_is_an_error_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    has_gpu(monkeypatch)
    cuda = devices.find("cuda")
    line = "Failed to load: libcudnn.so.9: cannot open shared object file"
    with_provider(monkeypatch, cuda, Opened(CPU, line))
    with pytest.raises(ModelError, match=r"cannot use cuda: libcudnn\.so\.9 not found; pip"):
        open_session(model, Setting(cuda, "fp32"))
    assert capfd.readouterr().out == ""


def test_a_model_that_cuda_cannot_record_is_opened_without(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    """As ONNX Runtime refuses a graph of which a part runs on the processor."""
    has_gpu(monkeypatch)
    cuda = devices.find("cuda")
    opened = Opened()

    def refuses(path: Any, options: Any, providers: Any, **more: Any) -> Any:
        if providers[0][1]["enable_cuda_graph"] == "1":
            raise RuntimeError("This session cannot use the graph capture feature")
        return opened(path, options, providers, **more)

    with_provider(monkeypatch, cuda, opened)
    monkeypatch.setattr(ort, "InferenceSession", refuses)
    open_session(model, Setting(cuda, "fp32"))
    assert opened.providers[0][1]["enable_cuda_graph"] == "0"


def test_other_providers_are_opened_by_their_name(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    opened = Opened()
    directml = devices.find("directml")
    with_provider(monkeypatch, directml, opened)
    open_session(model, Setting(directml, "fp32", gpu=1))
    assert opened.providers == [("DmlExecutionProvider", {"device_id": "1"}), CPU]


def test_plugins_are_told_precision_threads_and_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STREAMDEBLUR_CACHE", str(tmp_path))
    openvino = devices.find("openvino")
    for precision, hint in (("fp32", "f32"), ("int8", "f32"), ("bf16", "bf16")):
        told = session._plugin_options(Setting(openvino, precision, threads=3))["load_config"]
        assert f'"INFERENCE_PRECISION_HINT": "{hint}"' in told
        assert '"INFERENCE_NUM_THREADS": "3"' in told
    rtx = session._plugin_options(Setting(devices.find("tensorrt-rtx"), "fp16"))
    assert rtx == {"nv_runtime_cache_path": str(tmp_path / "tensorrt-rtx")}
    assert {OPENVINO, RTX} == {openvino.provider, devices.find("tensorrt-rtx").provider}


def test_the_cache_is_where_the_system_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STREAMDEBLUR_CACHE", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "streamdeblur"
    assert cache_size() == 0  # it is not there yet
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "streamdeblur"
    monkeypatch.setenv("STREAMDEBLUR_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "engine").write_bytes(b"12345")
    assert cache_size() == 5
