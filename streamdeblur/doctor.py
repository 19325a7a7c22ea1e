"""What works on this machine, what does not, and what is missing for it."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec

import av
import numpy as np
import onnxruntime as ort

from streamdeblur.cache import VARIABLE, cache_folder, cache_size
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import ModelError, StreamDeblurError
from streamdeblur.network import catalogue, devices, nvidia, speeds
from streamdeblur.network.devices import TENSORRT, Device
from streamdeblur.network.engines import load_tensorrt
from streamdeblur.threads import usable_cores
from streamdeblur.versions import installed
from streamdeblur.video import hardware

SIZES = ((640, 480), (1280, 720))
"""Width and height of the pictures that a benchmark runs on, in pixels."""
_ROUNDS = 7
_EXTRAS = {  # extra of our package: what it brings, and what that is for
    "cuda": ("nvidia.cudnn", "NVIDIA's libraries for --device cuda"),
    "openvino": ("onnxruntime_ep_openvino", "--device openvino"),
    "serve": ("aiortc", "WebRTC for --serve, else MJPEG"),
    "virtual-cam": ("pyvirtualcam", "--virtual-cam"),
}
_ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "prores_ks", "ffv1")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    works: bool | None
    """None for what is only told."""
    text: str


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a device took in one precision."""

    device: str
    precision: str
    milliseconds: dict[str, float]
    """The median of a picture, by its size: `640x480`."""


def findings() -> Iterator[Finding]:
    """Look at everything in turn; takes some seconds."""
    yield from _programs()
    yield from _gpus()
    for problem in devices.register_plugins():
        yield Finding("plugin", False, problem)
    for device in devices.known():
        yield _tried(device)
    yield from _coders()
    yield _window()
    for extra, (module, purpose) in _EXTRAS.items():
        has = _is_installed(module)
        advice = "" if has else f"; pip install 'streamdeblur[{extra}]' brings it"
        yield Finding(f"extra {extra}", has, f"{purpose}{advice}")
    yield from _models()
    yield _cache()


def benchmark(model: str, gpu: int = 0) -> list[Timing]:
    """Measure a model on every device and in every precision that can be had.

    `speeds.remember` keeps the result for `auto`, by the time of the larger picture.

    Raises:
        ModelError: there is no such model.
    """
    files = catalogue.find(model)
    networks: dict[tuple[str, str], Deblurrer] = {}
    for device in devices.present():
        for precision in devices.offered(device):
            with suppress(ModelError):  # the findings tell why
                networks[device.name, precision] = Deblurrer.load(
                    model, device=device.name, precision=precision, gpu=gpu, tile="off"
                )
    spent = {f"{width}x{height}": _medians(networks, width, height) for width, height in SIZES}
    with suppress(OSError):  # `auto` goes by its fixed order then
        speeds.remember(files, list(spent.values())[-1], gpu)
    return [
        Timing(*pair, {size: 1000 * medians[pair] for size, medians in spent.items()})
        for pair in networks
    ]


def table(timings: Sequence[Timing]) -> tuple[Sequence[str], Iterator[Sequence[str]]]:
    """A head, and a row for each: with its ratio to the processor in fp32, or else to the first."""
    head = ("device", "precision", *(f"{size}, ms" for size in timings[0].milliseconds))
    plain = (each for each in timings if (each.device, each.precision) == ("cpu", "fp32"))
    base = next(plain, timings[0]).milliseconds
    rows = (
        (
            each.device,
            each.precision,
            *(f"{took:.1f} ({took / base[size]:.2f})" for size, took in each.milliseconds.items()),
        )
        for each in timings
    )
    return head, rows


def _programs() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.machine()}"
    yield Finding("system", None, f"{system}, {usable_cores()} cores, {speeds.processor_name()}")
    yield Finding("Python", None, platform.python_version())
    codecs = ".".join(map(str, av.library_versions["libavcodec"]))
    yield Finding("FFmpeg", None, f"PyAV {av.__version__}, libavcodec {codecs}")
    package = getattr(ort, "package_name", "onnxruntime")
    yield Finding("ONNX Runtime", None, f"{package} {ort.__version__}")
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if installed(name)]
    if len(both) > 1:
        yield Finding(
            "ONNX Runtime", False, f"{' and '.join(both)} overwrite each other: uninstall both,"
            " then install streamdeblur again"
        )  # fmt: skip


def _gpus() -> Iterator[Finding]:
    if not nvidia.has_driver():
        yield Finding("NVIDIA driver", False, "not found: no GPU, or its driver is not installed")
        return
    index = 0
    while gpu := nvidia.gpu(index):
        size = f"{gpu.memory / 2**30:.1f} GiB, {gpu.free / 2**30:.1f} free"
        text = f"{gpu.name}, compute capability {gpu.capability}, {size}, CUDA {gpu.cuda}"
        yield Finding(f"GPU {index}", True, text)
        index += 1
    if not index:
        yield Finding("NVIDIA driver", False, "it finds no GPU")


def _tried(device: Device) -> Finding:
    """A device, really opened, with one picture run."""
    subject = f"--device {device.name}"
    try:
        network = Deblurrer.load(device=device.name, precision="fp32")
    except ModelError as error:
        return Finding(subject, False, str(error).removeprefix(f"cannot use {device.name}: "))
    if device.provider == TENSORRT:
        version = load_tensorrt()
        return Finding(subject, True, f"TensorRT {version} loads; CUDA works until it has built")
    return Finding(subject, True, f"{network.provider}, in {', '.join(devices.offered(device))}")


def _coders() -> Iterator[Finding]:
    missing = [name for name in _ENCODERS if name not in av.codecs_available]
    text = f"without {', '.join(missing)}" if missing else ", ".join(_ENCODERS)
    yield Finding("encoders", not missing, text)
    for name, failure in hardware.probes():
        yield Finding(name, not failure, failure)


def _window() -> Finding:
    from streamdeblur.live.preview import PreviewSink

    try:
        PreviewSink("streamdeblur").close()
    except StreamDeblurError as error:
        return Finding("window", False, str(error))
    return Finding("window", True, "a preview can be shown")


def _models() -> Iterator[Finding]:
    for model in catalogue.bundled_models():
        accepted = [name for name in devices.PRECISIONS if model.files.accepts(name)]
        text = f"in {', '.join(model.precisions)}; auto may take {', '.join(accepted)}"
        yield Finding(f"model {model.name}", True, text)


def _cache() -> Finding:
    folder = cache_folder()
    return Finding("cache", None, f"{folder}, {cache_size() / 1e6:.1f} MB ({VARIABLE} moves it)")


def _medians(
    networks: dict[tuple[str, str], Deblurrer], width: int, height: int
) -> dict[tuple[str, str], float]:
    """Seconds for a picture; in turns, so that all meet the same machine."""
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    for network in networks.values():
        network.warm_up(picture)
    spent: dict[tuple[str, str], list[float]] = {pair: [] for pair in networks}
    for _ in range(_ROUNDS):
        for pair, network in networks.items():
            began = time.perf_counter()
            network(picture)
            spent[pair].append(time.perf_counter() - began)
    return {pair: statistics.median(times) for pair, times in spent.items()}


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False
