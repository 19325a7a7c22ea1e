"""TensorRT's engines: kept for whom they fit, and built while CUDA does the work."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from streamdeblur.cache import cache_folder
from streamdeblur.digests import digest_of, digest_of_facts
from streamdeblur.errors import ModelError
from streamdeblur.network import devices, nvidia
from streamdeblur.network.binding import BoundSession, Tensor
from streamdeblur.network.session import Setting, open_session
from streamdeblur.threads import promised, turnstile

Shape = tuple[int, ...]

_LIBRARIES = (  # of TensorRT 10, in the order in which they need each other
    ("nvinfer_10.dll", "nvinfer_plugin_10.dll", "nvonnxparser_10.dll")
    if sys.platform == "win32"
    else ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")
)
_PACKAGE = "tensorrt_libs"  # where pip puts them
_WORTHWHILE = 3  # runs with one shape after which an engine for it is built


def load_tensorrt() -> str:
    """Load TensorRT's libraries, where pip put them or where the system looks; its version.

    Raises:
        ModelError: one is missing.
    """
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # its fp32 would be TF32; no option says so
    found = find_spec(_PACKAGE)
    folders = [Path(each) for each in found.submodule_search_locations or ()] if found else []
    first = None
    for name in _LIBRARIES:
        places = [str(folder / name) for folder in folders if (folder / name).is_file()]
        library = _library((*places, name))
        if library is None:
            install = devices.find("tensorrt").install
            raise ModelError(f"cannot use tensorrt: {name} (TensorRT 10) not found; {install}")
        first = first or library
    number = int(first.getInferLibVersion()) if first else 0
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def engine_folder(path: Path, shape: Shape, setting: Setting, version: str) -> Path:
    """Where the engine of a model for one shape of input lies, or will lie.

    An engine fits one GPU, precision and version of all that had a part in it; another of any has
    a folder of its own.
    """
    key = digest_of_facts(_facts(path, shape, setting, version))[:20]
    return cache_folder() / "tensorrt" / key


def is_built(folder: Path) -> bool:
    """Whether the engine is there; it appears whole or not at all."""
    return any(folder.glob("*.engine"))


def build(path: Path, shape: Shape, setting: Setting) -> Path:
    """Build the engine for one shape, unless it is there; its folder. This takes minutes.

    Raises:
        ModelError: TensorRT cannot be had, or cannot run the model.
    """
    version = load_tensorrt()
    folder = engine_folder(path, shape, setting, version)
    if is_built(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.part-"))
    try:
        bound = open_engine(path, shape, setting, part)
        bound(np.zeros(shape, bound.dtype))
        if not is_built(part):
            raise ModelError(f"TensorRT left no engine of {path}: it may not run on TensorRT")
        facts = json.dumps(_facts(path, shape, setting, version), indent=1)
        (part / "facts.json").write_text(facts + "\n", encoding="utf-8")
        with suppress(OSError):  # another process was quicker
            os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def open_engine(path: Path, shape: Shape, setting: Setting, folder: Path) -> BoundSession:
    """A session on TensorRT for inputs of one shape, with the engine in that folder.

    Raises:
        ModelError: TensorRT cannot be had, or cannot run the model.
    """
    names = _free_names(path)
    fixed = {name: size for name, size in zip(names, shape, strict=True) if name}
    session = open_session(path, setting, quiet=False, captures=False, fixed=fixed, engines=folder)
    return BoundSession(session, setting.device.memory, setting.gpu)


class Engines:
    """Runs on CUDA at once, and on TensorRT as soon as there is an engine for the shape.

    Each shape that comes often has one, built in a process of its own, which ends with this one.
    Safe to call from several threads.

    Args:
        path: of the model.
        setting: TensorRT, and how it is to compute.
        meanwhile: runs the model on CUDA.
        say: told when a build begins, and when its engine takes over.

    Raises:
        ModelError: TensorRT cannot be had.
    """

    def __init__(
        self,
        path: Path,
        setting: Setting,
        meanwhile: Callable[[Tensor], list[Tensor]],
        say: Callable[[str], None],
    ) -> None:
        self._path, self._setting = path, setting
        self._meanwhile, self._say = meanwhile, say
        self._version = load_tensorrt()
        self._counts: dict[Shape, int] = {}
        self._ready: dict[Shape, Callable[[Tensor], list[Tensor]]] = {}
        self._work: Iterator[Callable[[Tensor], list[Tensor]] | None] | None = None
        self._shape: Shape = ()
        self._turnstile = turnstile()

    @property
    def is_ready(self) -> bool:
        """Whether an engine runs."""
        return bool(self._ready)

    @property
    def is_busy(self) -> bool:
        """Whether an engine is being made."""
        return self._work is not None

    def __call__(self, tensor: Tensor) -> list[Tensor]:
        """The outputs for `tensor`.

        Raises:
            Exception: whatever ONNX Runtime raises.
        """
        with self._turnstile:
            self._advance(tensor.shape)
            run = self._ready.get(tensor.shape, self._meanwhile)
        return run(tensor)

    def _advance(self, shape: Shape) -> None:
        """Look after the engine that is being made, and begin the next one; never waits."""
        if self._work is None:
            count = self._counts[shape] = self._counts.get(shape, 0) + 1
            if shape in self._ready or count != _WORTHWHILE:
                return
            self._work, self._shape = self._made(shape), shape
        try:
            run = next(self._work)
        except StopIteration:  # it failed, and said so
            self._work = None
            return
        if run is not None:
            self._ready[self._shape] = run
            self._work = None

    def _made(self, shape: Shape) -> Iterator[Callable[[Tensor], list[Tensor]] | None]:
        """None until the engine for that shape is there, then what runs it."""
        size = "x".join(map(str, shape))
        folder = engine_folder(self._path, shape, self._setting, self._version)
        try:
            if not is_built(folder):
                self._say(
                    f"TensorRT builds an engine for {size}, which takes minutes; CUDA does the work"
                    " until then (`python -m export --tensorrt` builds it beforehand)"
                )
                yield from _built_elsewhere(self, self._path, shape, self._setting)
            for run in promised(lambda: open_engine(self._path, shape, self._setting, folder)):
                if run is not None:
                    self._say(f"from here on, {size} runs on TensorRT")
                yield run
        except ModelError as error:
            self._say(f"{size} stays on CUDA: {error}")


def _built_elsewhere(owner: object, path: Path, shape: Shape, setting: Setting) -> Iterator[None]:
    """Build in another process, which may print, block and fail as it likes; None until done."""
    program = (
        "import sys; from streamdeblur.network.engines import main; sys.exit(main(sys.argv[1:]))"
    )
    facts = {
        "shape": list(shape),
        "device": setting.device.name,
        "precision": setting.precision,
        "gpu": setting.gpu,
    }
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(path.resolve()), json.dumps(facts)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        finish = weakref.finalize(owner, process.kill)
        try:
            while process.poll() is None:
                yield None
        finally:
            finish()
            process.wait()
        if process.returncode:
            output.seek(0)
            lines = output.read().split("\n")
            told = next((line for line in reversed(lines) if line.strip()), "it gave no reason")
            raise ModelError(f"TensorRT could not build the engine: {told.strip()[:300]}")


def main(argv: list[str]) -> int:
    """Build one engine: what the process that `Engines` starts does."""
    path, facts = Path(argv[0]), json.loads(argv[1])
    device = devices.find(facts["device"])
    setting = Setting(device, facts["precision"], gpu=facts["gpu"])
    try:
        build(path, tuple(facts["shape"]), setting)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _facts(path: Path, shape: Shape, setting: Setting, version: str) -> dict[str, Any]:
    gpu = nvidia.gpu(setting.gpu)
    return {
        "model": digest_of(path),
        "shape": list(shape),
        "precision": setting.precision,
        "onnxruntime": ort.__version__,
        "tensorrt": version,
        "gpu": [gpu.name, gpu.capability, gpu.cuda] if gpu else None,
    }


def _free_names(path: Path) -> list[str]:
    """The names of the input's sizes that are free; empty where one is fixed.

    Raises:
        ModelError: one is free and has no name to be fixed by.
    """
    (given,) = ort.InferenceSession(path, providers=[devices.CPU]).get_inputs()
    if None in given.shape:
        raise ModelError(f"{path} does not name its free sizes, so none can be fixed for TensorRT")
    return [size if isinstance(size, str) else "" for size in given.shape]


def _library(names: tuple[str, ...]) -> Any:
    for name in names:
        with suppress(OSError):
            return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    return None


def meanwhile_setting(setting: Setting) -> Setting:
    """What CUDA computes in while TensorRT is not ready: it has neither bf16 nor int8."""
    precision = "fp16" if setting.precision == "fp16" else "fp32"
    return replace(setting, device=devices.find("cuda"), precision=precision)
