"""Opening ONNX Runtime on a device: quietly, and with the true reason where that fails."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    contextmanager,
    nullcontext,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from streamdeblur.cache import cache_folder
from streamdeblur.errors import ModelError
from streamdeblur.network import devices, nvidia
from streamdeblur.network.devices import CPU, CUDA, DIRECTML, OPENVINO, RTX, TENSORRT, Device
from streamdeblur.threads import is_main_thread, usable_cores

# Free memory of a GPU from which on cuDNN may try all its algorithms, with all the workspace that
# they want: 5 GB against 0.6 has been reported for one network, for half the time.
_ROOM_TO_SEARCH = 6 << 30


@dataclass(frozen=True, slots=True)
class Setting:
    """How a network is to be run."""

    device: Device
    precision: str
    threads: int | None = None
    """On the processor; None for one on each core that this process may use."""
    gpu: int = 0
    """Which of the GPUs."""
    together: int = 1
    """Pictures that are run at the same time."""


def open_session(
    path: Path,
    setting: Setting,
    *,
    quiet: bool = True,
    captures: bool = True,
    fixed: Mapping[str, int] | None = None,
    engines: Path | None = None,
) -> ort.InferenceSession:
    """Open a model on a device.

    Args:
        path: of the model.
        setting: what it is to run on.
        quiet: whether all that is printed meanwhile is captured, by `captured_output`.
        captures: whether work that repeats is to be recorded as a CUDA graph, where it can be.
        fixed: sizes of free dimensions, by name.
        engines: folder in which TensorRT keeps what it builds.

    Raises:
        ModelError: the device cannot be had (names what is missing), the file is no ONNX model,
            or this ONNX Runtime cannot run it.
    """
    device = setting.device
    if complaint := devices.why_missing(device):
        raise ModelError(complaint)
    options = _options(setting)
    for name, size in (fixed or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    if device.provider == CPU:
        return opened(path, options, [CPU])
    if plugins := devices.plugin_devices(device.provider):
        is_openvino = device.provider == OPENVINO  # on processors alone, which have no numbers
        wished = devices.processors(OPENVINO)[:1] if is_openvino else plugins[setting.gpu :][:1]
        if not wished:
            raise ModelError(f"cannot use {device.name}: there is no GPU {setting.gpu}")
        options.add_provider_for_devices(wished, _plugin_options(setting))
    is_silent = not quiet or device.provider == OPENVINO
    shield: AbstractContextManager[list[str]] = nullcontext([]) if is_silent else captured_output()
    with shield as output:
        if device.memory == "cuda" and hasattr(ort, "preload_dlls"):  # from 1.21
            ort.preload_dlls()  # finds the libraries that pip installed
        providers = None if plugins else _providers(setting, captures=captures, engines=engines)
        try:
            session = opened(path, options, providers)
        except ModelError:
            if not captures or device.provider != CUDA:
                raise
            # A graph of which a part runs on the processor cannot be recorded.
            session = opened(path, options, _providers(setting, captures=False, engines=None))
    # A provider that fails becomes the processor without an exception; only the session knows.
    if session.get_providers()[0] != device.provider:
        raise ModelError(f"cannot use {device.name}: {_missing(output, device)}; {device.install}")
    return session


def opened(
    path: Path, options: ort.SessionOptions, providers: list[Any] | None
) -> ort.InferenceSession:
    """A session; None for the providers that `options` name.

    Raises:
        ModelError: the file is no ONNX model, or one that this ONNX Runtime cannot run.
    """
    try:
        return ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
    except Exception as error:  # ORT's errors share no base of their own
        raise ModelError(f"cannot load {path}: {reason(error)}; is it an ONNX model?") from error


def cuda_options(
    precision: str, free: int, gpu: int = 0, *, captures: bool = True
) -> dict[str, str]:
    """For the CUDA provider.

    Args:
        precision: of the arithmetic.
        free: bytes of the GPU's memory that nobody uses.
        gpu: which one.
        captures: whether runs may be recorded as CUDA graphs.
    """
    roomy = free >= _ROOM_TO_SEARCH
    return {
        "device_id": str(gpu),
        "arena_extend_strategy": "kSameAsRequested",  # by default memory grows in doublings
        "cudnn_conv_algo_search": "EXHAUSTIVE" if roomy else "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1" if roomy else "0",
        "use_tf32": "0",  # else fp32 would be fp32 in name only
        "prefer_nhwc": "1" if precision == "fp16" else "0",  # the order that tensor cores want
        "enable_cuda_graph": "1" if captures else "0",
    }


def tensorrt_options(precision: str, folder: Path, gpu: int = 0) -> dict[str, str]:
    """For the TensorRT provider, which keeps its engines in `folder`."""
    return {
        "device_id": str(gpu),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",  # makes the next engine of a like network quicker to build
        "trt_timing_cache_path": str(folder.parent),
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
        "trt_bf16_enable": "1" if precision == "bf16" else "0",
        "trt_int8_enable": "1" if precision == "int8" else "0",
    }


@contextmanager
def captured_output() -> Iterator[list[str]]:
    """Keep what native code prints off stdout and stderr; its lines, once the block is left.

    CUDA's part of ONNX Runtime prints to both, whatever its log level, and piped video on stdout
    would be corrupted by one such line. The redirection holds for the whole process, so that there
    is none in threads, beside which others print.
    """
    lines: list[str] = []
    if not is_main_thread():
        yield lines
        return
    with tempfile.TemporaryFile("w+", errors="replace", buffering=1) as file:
        _flush()
        kept = {stream: os.dup(stream) for stream in (1, 2)}
        try:
            for stream in kept:
                os.dup2(file.fileno(), stream)
            # Python's own streams need not be these two, in a notebook for example.
            with redirect_stdout(file), redirect_stderr(file):
                yield lines
        finally:
            for stream, original in kept.items():
                os.dup2(original, stream)
                os.close(original)
            file.seek(0)
            lines += file.read().splitlines()


def reason(error: Exception) -> str:
    """ONNX Runtime's message on one line, without its codes."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    return text[:300].rstrip(" .")


def _options(setting: Setting) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what matters arrives as an exception
    # By itself it would count the machine's cores, also those that this process may not use.
    options.intra_op_num_threads = setting.threads or usable_cores()
    # Values too small for the eye must not slow the processor down.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    # Decoding and encoding need the same cores. On two of them, files came out as fast without
    # spinning for an eighth less processor time, and finer blocks of work gained 4 %.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.dynamic_block_base", "4")
    return options


def _plugin_options(setting: Setting) -> dict[str, str]:
    if setting.device.provider == OPENVINO:
        # Left to itself it takes bf16 where the processor has it, also when fp32 was asked for.
        hint = "bf16" if setting.precision == "bf16" else "f32"
        threads = str(setting.threads or usable_cores())
        wishes = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": str(setting.together),
        }
        return {"load_config": json.dumps({"CPU": wishes})}
    if setting.device.provider == RTX:
        return {"nv_runtime_cache_path": str(cache_folder() / "tensorrt-rtx")}
    return {}


def _providers(setting: Setting, *, captures: bool, engines: Path | None) -> list[Any]:
    """Of this ONNX Runtime's own, with what CUDA can do as the second choice of TensorRT."""
    provider, precision, gpu = setting.device.provider, setting.precision, setting.gpu
    if provider == DIRECTML:
        return [(provider, {"device_id": str(gpu)}), CPU]
    if provider not in (CUDA, TENSORRT):
        return [provider, CPU]
    found = nvidia.gpu(gpu)
    if found is None and nvidia.has_driver():
        raise ModelError(f"cannot use {setting.device.name}: there is no GPU {gpu}; see --doctor")
    cuda = (CUDA, cuda_options(precision, found.free if found else 0, gpu, captures=captures))
    if provider == CUDA:
        return [cuda, CPU]
    assert engines is not None
    return [(TENSORRT, tensorrt_options(precision, engines, gpu)), cuda, CPU]


def _missing(lines: list[str], device: Device) -> str:
    """Which libraries ONNX Runtime missed, from what it printed."""
    pattern = r'([\w.-]+\.so[\w.]*): cannot open|"([\w.-]+\.dll)" which is missing'
    found = [linux or windows for line in lines for linux, windows in re.findall(pattern, line)]
    if device.memory == "cuda" and not nvidia.has_driver():
        found.append("the NVIDIA driver")
    if found:
        return ", ".join(dict.fromkeys(found)) + " not found"  # each once, in order
    errors = [line.strip() for line in lines if "rror" in line]
    return errors[0][:300] if errors else "ONNX Runtime gave no reason"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # there is none, or it is closed
            stream.flush()
