"""What can run a network: devices by the names that people use, and what each one lacks here."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import onnxruntime as ort

from streamdeblur.errors import ModelError
from streamdeblur.network.nvidia import has_driver

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT, RTX = "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"
OPENVINO, DIRECTML = "OpenVINOExecutionProvider", "DmlExecutionProvider"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_SUFFIX = "ExecutionProvider"
_PLUGIN = "onnxruntime_ep_"  # how packages that bring a provider begin


@dataclass(frozen=True, slots=True)
class Device:
    """Something that a network can run on."""

    name: str
    """What `--device` takes."""
    provider: str
    """ONNX Runtime's name for it."""
    precisions: tuple[str, ...] = ("fp32", "fp16")
    """What it computes in. Without a measurement, the first one that a network accepted."""
    install: str = "another onnxruntime package may have it"
    """What to do where it is missing."""
    memory: str = "cpu"
    """ONNX Runtime's name for where its tensors lie."""


_CUDA_INSTALL = "pip install 'streamdeblur[cuda]' brings what it needs"
_KNOWN = (
    Device("cpu", CPU, ("fp32", "int8", "fp16")),
    Device("cuda", CUDA, ("fp16", "fp32"), _CUDA_INSTALL, memory="cuda"),
    Device(
        "tensorrt",
        TENSORRT,
        ("fp16", "fp32", "bf16", "int8"),
        f"{_CUDA_INSTALL}, and pip install 'tensorrt<11' brings TensorRT 10",
        memory="cuda",
    ),
    Device(
        "tensorrt-rtx",
        RTX,
        ("fp16", "fp32"),
        "pip install onnxruntime-ep-nv-tensorrt-rtx brings it",
    ),
    Device(
        "openvino",
        OPENVINO,
        ("bf16", "fp32", "int8"),
        "pip install 'streamdeblur[openvino]' brings it",
    ),
    Device("directml", DIRECTML, install="pip install onnxruntime-directml has it"),
    Device("coreml", "CoreMLExecutionProvider", install="onnxruntime for macOS has it"),
)
_NO_DEVICE = ("AzureExecutionProvider",)  # other people's computers


def find(name: str) -> Device:
    """The device of that name, whether it is here or not.

    Raises:
        ModelError: nothing is called so, not even in this ONNX Runtime.
    """
    wished = name.lower()
    named = {device.name: device for device in _KNOWN}
    if wished not in named:  # only then are plugins loaded
        named = {device.name: device for device in present()}
    if wished in named:
        return named[wished]
    names = ", ".join(named)
    raise ModelError(f"no device {name!r}: this onnxruntime has {names}; --doctor says more")


def present() -> list[Device]:
    """The devices that this ONNX Runtime was built with or has a plugin for; not all may work."""
    register_plugins()
    plugins = [device.ep_name for device in _ep_devices()]
    providers = dict.fromkeys([*plugins, *ort.get_available_providers()])  # the processor last
    named = {device.provider: device for device in _KNOWN}
    return [
        named.get(provider) or Device(provider.removesuffix(_SUFFIX).lower(), provider)
        for provider in providers
        if provider not in _NO_DEVICE and "." not in provider  # a plugin's own choice of devices
    ]


def known() -> list[Device]:
    """Devices that can be asked for, whether they are here or not; those that are come first."""
    return list(dict.fromkeys((*present(), *_KNOWN)))


def candidates() -> list[Device]:
    """Where `auto` looks without a measurement, best first; whatever else, the processor.

    CUDA is among them wherever there is an NVIDIA GPU: if it cannot be had, a person should know.
    Those that must build an engine first, or that are no faster on many machines, it takes only
    where a measurement has shown that they pay.
    """
    here = [device for device in present() if device.provider in (OPENVINO, CPU)]
    return [*([find("cuda")] if has_driver() else []), *here]


def why_missing(device: Device) -> str | None:
    """What keeps this ONNX Runtime from having that device; None if it has it."""
    if device.provider in ort.get_available_providers() or device in present():
        return None
    if problem := next((line for line in register_plugins() if _brings(line, device)), None):
        return f"cannot use {device.name}: {problem}"
    if any(_brings(package, device) for package in _registered):  # OpenVINO's, on AMD's processors
        return f"cannot use {device.name}: its plugin finds no hardware here that it serves"
    return f"cannot use {device.name}: it is not in this onnxruntime; {device.install}"


def plugin_devices(provider: str) -> list[Any]:
    """The hardware that a plugin serves, as ONNX Runtime describes it; empty if it is none."""
    register_plugins()
    return [device for device in _ep_devices() if device.ep_name == provider]


def register_plugins() -> list[str]:
    """Make the providers of installed packages known to ONNX Runtime.

    Returns:
        One line for each package whose provider cannot be loaded.
    """
    problems = []
    for name in _plugins():
        if name in _registered:
            continue
        try:
            path = import_module(name).get_library_path()
            ort.register_execution_provider_library(name, path)
        except Exception as error:  # whatever a foreign package and ONNX Runtime raise
            problems.append(f"{name} cannot be loaded: {' '.join(str(error).split())[:300]}")
        else:
            _registered.add(name)
    return problems


def _brings(line: str, device: Device) -> bool:
    """Whether the package that a line begins with is there for the device."""
    package = line.partition(" ")[0].removeprefix(_PLUGIN)
    return package.replace("_", "-").removeprefix("nv-") == device.name


_registered: set[str] = set()  # ONNX Runtime knows them for the whole process, as this does


@cache
def _plugins() -> list[str]:
    """The packages that bring a provider; looking for them takes a while."""
    if not hasattr(ort, "get_ep_devices"):  # before 1.23 there are no plugins
        return []
    return [each.name for each in pkgutil.iter_modules() if each.name.startswith(_PLUGIN)]


def _ep_devices() -> list[Any]:
    if not hasattr(ort, "get_ep_devices"):
        return []
    return [device for device in ort.get_ep_devices() if device.ep_name != CPU]


def processors(provider: str) -> list[Any]:
    """The processor, as a plugin describes it; other hardware that it serves is left out."""
    return [
        device
        for device in plugin_devices(provider)
        if device.device.type == ort.OrtHardwareDeviceType.CPU
    ]


def offered(device: Device) -> tuple[str, ...]:
    """The precisions that a device truly computes in on this machine."""
    if device.provider != OPENVINO:
        return device.precisions
    said = [str(each.ep_metadata.get("OPTIMIZATION_CAPABILITIES")) for each in processors(OPENVINO)]
    has_bf16 = any("BF16" in words.split() for words in said)
    return tuple(name for name in device.precisions if has_bf16 or name != "bf16")
