"""The network, ready to run: a session and what is known of its model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from streamdeblur.errors import ModelError
from streamdeblur.frames import Frame
from streamdeblur.session import (
    CPU,
    captured_output,
    cpu_session,
    cuda_session,
    has_nvidia_driver,
    reason,
)
from streamdeblur.spec import ModelSpec
from streamdeblur.tiling import RunFailed, Tile, Tiling, need_of

Device = Literal["auto", "cpu", "cuda"]

DEFAULT_MODEL = "fast"
_MODELS = Path(__file__).parent / "models"
_UINT8 = "tensor(uint8)"
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
# Networks made elsewhere rarely say which sizes they accept, but nearly all halve the picture at
# most five times. A wider border would cost time for the sake of the few that do not.
_FOREIGN_MULTIPLE = 32


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A model that comes with the program."""

    name: str
    """What `Deblurrer.load` and `--model` take."""
    path: Path
    size: int
    """Of the file, in bytes."""
    spec: ModelSpec


def bundled_names() -> list[str]:
    """Names of the models that come with the program; unlike `bundled_models`, reads no file."""
    return list(_bundled_files())


def bundled_models() -> tuple[BundledModel, ...]:
    """Every model that comes with the program, by name.

    Raises:
        ModelError: one of the files is damaged.
    """
    return tuple(
        BundledModel(name, path, path.stat().st_size, Deblurrer.load(path, device="cpu").spec)
        for name, path in _bundled_files().items()
    )


class Deblurrer:
    """Removes motion blur from pictures. Made by `Deblurrer.load`.

    Safe to call from several threads at the same time: a call changes nothing of the object.
    """

    spec: ModelSpec
    """Facts of the model; guessed where its file holds none."""
    provider: str
    """The ONNX Runtime provider that the session runs on: asked of it, not wished for."""
    notices: tuple[str, ...]
    """What a person should know before the work starts; one line each."""

    def __init__(
        self,
        session: ort.InferenceSession,
        path: Path,
        *notices: str,
        tile: Tile = "auto",
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._session = session
        self._path = path
        self._input = _picture_input(session, path)
        spec = _spec(session, path)
        self.spec = spec or _guessed_spec(path, self._input.type)
        self.provider = session.get_providers()[0]
        self.notices = notices if spec else (*notices, _foreign_notice(self.spec))
        # One small picture: a model that changes sizes, or a GPU that lacks a library, fails
        # here and not after the output was begun.
        self._whole(np.zeros((1, 32, 64, 3), np.uint8))
        is_measured = self.provider == CPU and tile == "auto"
        need = need_of(self._whole) if is_measured else None
        self._tiling = Tiling(self.spec, tile=tile, need=need, say=say)

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        *,
        device: Device = "auto",
        threads: int | None = None,
        gpu: int = 0,
        tile: Tile = "auto",
        say: Callable[[str], None] = lambda line: None,
    ) -> Deblurrer:
        """Make a network ready to run.

        Args:
            model: name of a bundled model, or an ONNX file.
            device: `auto` takes an NVIDIA GPU if it truly works, and else the processor.
            threads: on the processor; None for one on each core that this process may use.
            gpu: which of the NVIDIA GPUs, from 0.
            tile: side in pixels of the tiles in which large pictures are done; `auto` cuts what
                does not fit into the memory, `off` nothing.
            say: told while the work goes on that pictures are cut, and why.

        Raises:
            ModelError: there is no such model, it does not fit, or the device cannot be had.
        """
        if device not in get_args(Device):
            raise ModelError(f"no device {device!r}: take one of {', '.join(get_args(Device))}")
        path = _find(model)
        notices = []
        if device == "cuda" or (device == "auto" and has_nvidia_driver()):
            try:
                session = cuda_session(path, threads, gpu)
                with captured_output():
                    return cls(session, path, tile=tile, say=say)
            except ModelError as error:
                if device == "cuda":
                    raise
                notices.append(f"running on the processor: {error}")
        return cls(cpu_session(path, threads), path, *notices, tile=tile, say=say)

    @property
    def precision(self) -> str:
        """Of the arithmetic inside the network: fp32 or fp16."""
        return self.spec.precision

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Deblur a picture, or several at once.

        Args:
            images: RGB, uint8, shape (H, W, 3) or (N, H, W, 3), any size from 1x1 up.

        Returns:
            The sharp pictures: the same type and shape.

        Raises:
            ModelError: the network failed, for example for want of memory.
            ValueError: `images` has another type or shape.
        """
        if images.ndim == 3:
            single: NDArray[np.uint8] = self(images[np.newaxis])[0]
            return single
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(
                f"images must be uint8 (N, H, W, 3) or (H, W, 3), not {images.dtype} {images.shape}"
            )
        return self._tiling(images, self._whole)

    def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield as many frames, in the same order, each with its `sharp` set.

        Raises:
            ModelError: as for a call.
        """
        for frame in frames:
            frame.sharp = self(frame.image)
            yield frame

    def _whole(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._input.type == _UINT8:
            sharp = self._run(np.ascontiguousarray(images))
        else:
            # One by one: the batch of a model made elsewhere is often fixed at 1.
            sharp = np.concatenate([self._run_float(image[np.newaxis]) for image in images])
        if sharp.shape != images.shape:
            raise ModelError(
                f"{self._path} answers a picture of {_size(images)} with one of {_size(sharp)}:"
                " only models that keep the size can be used"
            )
        return sharp

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        try:
            answer: NDArray[Any] = self._session.run(None, {self._input.name: tensor})[0]
        except Exception as error:  # ORT's errors share no base of their own
            shape = "x".join(map(str, tensor.shape))
            raise RunFailed(f"{self._path} failed on a {shape} tensor: {reason(error)}") from error
        return answer

    def _run_float(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What our own graphs do inside: (1, H, W, 3) to float NCHW in 0..1 and back."""
        _, height, width, _ = image.shape
        multiple = self.spec.multiple_of
        border = ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0))
        padded = np.pad(image, border, mode="edge").transpose(0, 3, 1, 2)
        kind = _FLOATS[self._input.type]
        answer = self._run(np.ascontiguousarray(padded, kind) / kind(255))
        if not np.isfinite(answer).all():
            raise ModelError(f"{self._path} answers with numbers that are none (NaN or infinity)")
        levels = np.rint(answer.clip(0, 1).astype(np.float32) * 255).astype(np.uint8)
        if levels.shape == padded.shape:
            levels = levels[:, :, :height, :width]
        return np.ascontiguousarray(levels.transpose(0, 2, 3, 1))


def _bundled_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_MODELS.glob("*.onnx"))}


def _find(model: str | Path) -> Path:
    bundled = _bundled_files()
    path = bundled.get(str(model), Path(model))
    if os.path.isfile(path):  # unlike Path's, never raises
        return path
    if os.path.exists(path):
        raise ModelError(f"{model} is not a file: give an ONNX file or a bundled model's name")
    names = ", ".join(bundled) or "this installation has none"
    raise ModelError(f"no model {model}: there is no such file and no such bundled model ({names})")


def _picture_input(session: ort.InferenceSession, path: Path) -> ort.NodeArg:
    """The model's input, if the model is one that we can feed and understand."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) == len(outputs) == 1 and inputs[0].type == outputs[0].type:
        batch, *picture = inputs[0].shape or [None]
        any_batch = not isinstance(batch, int)
        free = [size for size in picture if not isinstance(size, int)]
        ours = inputs[0].type == _UINT8 and any_batch and picture == [*free, 3]
        usual = inputs[0].type in _FLOATS and (any_batch or batch == 1) and picture == [3, *free]
        if len(free) == 2 and (ours or usual):
            return inputs[0]
    takes, gives = (", ".join(map(_described, ends)) for ends in (inputs, outputs))
    raise ModelError(
        f"{path} takes {takes} and gives {gives}, but should take and give either uint8 [batch,"
        " height, width, 3], as `python -m export` writes it, or float [batch, 3, height, width]"
    )


def _spec(session: ort.InferenceSession, path: Path) -> ModelSpec | None:
    try:
        return ModelSpec.from_metadata(session.get_modelmeta().custom_metadata_map)
    except ModelError as error:
        raise ModelError(f"cannot use {path}: {error}") from error


def _described(end: ort.NodeArg) -> str:
    kind = end.type.removeprefix("tensor(").removesuffix(")")
    return f"{kind} [{', '.join(map(str, end.shape))}]"


def _guessed_spec(path: Path, kind: str) -> ModelSpec:
    if kind == _UINT8:
        return ModelSpec(name=path.stem)
    precision = "fp16" if kind == "tensor(float16)" else "fp32"
    return ModelSpec(name=path.stem, precision=precision, multiple_of=_FOREIGN_MULTIPLE)


def _foreign_notice(spec: ModelSpec) -> str:
    if spec.multiple_of == 1:
        return f"{spec.name} was not written by streamdeblur's export: its precision is a guess"
    return (
        f"{spec.name} was made elsewhere: fed RGB in 0..1, padded to multiples of"
        f" {spec.multiple_of} pixels"
    )


def _size(images: NDArray[Any]) -> str:
    return f"{images.shape[2]}x{images.shape[1]}"
