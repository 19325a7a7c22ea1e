"""Models by name or file, in the precisions that lie beside each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnxruntime as ort

from streamdeblur.errors import ModelError
from streamdeblur.network.devices import CPU
from streamdeblur.network.session import opened
from streamdeblur.spec import ModelSpec

DEFAULT_MODEL = "fast"
_MODELS = Path(__file__).parents[1] / "models"
_LOWER = ("fp16", "int8")  # precisions that have files of their own: NAME.fp16.onnx


@dataclass(frozen=True)
class BundledModel:
    """A model that comes with the program."""

    name: str
    """What `Deblurrer.load` and `--model` take."""
    path: Path
    """Of its file in fp32."""
    files: ModelFiles

    @property
    def size(self) -> int:
        """Of the file in fp32, in bytes."""
        return self.path.stat().st_size

    @property
    def spec(self) -> ModelSpec:
        """What that file says of itself."""
        return self.files.spec("fp32")

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that there are files of."""
        return tuple(self.files.paths)


class ModelFiles:
    """The files of one network, by precision.

    Args:
        given: the file that was asked for.

    Raises:
        ModelError: it is no ONNX model, or its metadata are damaged.
    """

    def __init__(self, given: Path) -> None:
        self.given = given
        self._facts: dict[Path, tuple[ModelSpec | None, str]] = {}
        self.own = self._own()
        """The precision of the file that was asked for."""

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Each precision's file, that which was asked for first."""
        found = {self.own: self.given}
        base = self._base()
        beside = {"fp32": base, **{name: _beside(base, name) for name in _LOWER}}
        for precision, path in beside.items():
            if path.is_file():
                found.setdefault(precision, path)
        return found

    def path(self, precision: str) -> Path | None:
        """The file to run in that precision, if there is one: bf16 is computed from fp32's."""
        return self.paths.get("fp32" if precision == "bf16" else precision)

    def needed(self, precision: str) -> Path:
        """The file to run in that precision, which has to be there.

        Raises:
            ModelError: there is none.
        """
        path = self.path(precision)
        if path is None:
            raise ModelError(self.complaint(precision))
        return path

    def spec(self, precision: str) -> ModelSpec:
        """What the file for that precision says of itself; guessed where it says nothing."""
        path = self.needed(precision)
        return self._read(path)[0] or ModelSpec(name=path.stem, precision=precision)

    def knows(self, precision: str) -> bool:
        """Whether our own export wrote the file for that precision."""
        path = self.path(precision)
        return path is not None and self._read(path)[0] is not None

    def accepts(self, precision: str) -> bool:
        """Whether that precision may be taken without being asked for."""
        if self.path(precision) is None:
            return False
        return precision == "fp32" or precision in self.spec(precision).accepted

    def complaint(self, precision: str) -> str:
        """That there is no file of that precision, and how one is made."""
        base = self._base()
        flag = {"fp16": " --half", "int8": " --int8"}.get(precision, "")
        wanted = base if precision in ("fp32", "bf16") else _beside(base, precision)
        return (
            f"{self.given.name} cannot be had in {precision}: no {wanted.name} lies beside it;"
            f" `python -m export CHECKPOINT{flag} -o {wanted.name}` writes one"
        )

    def _own(self) -> str:
        spec, kind = self._read(self.given)
        if spec is not None:
            return spec.precision
        return "fp16" if kind == "tensor(float16)" else "fp32"

    def _base(self) -> Path:
        """Where the file in fp32 is, or would be."""
        if self.own == "fp32":
            return self.given
        spec, _ = self._read(self.given)
        if spec is not None and spec.twin:
            return self.given.with_name(Path(spec.twin).name)  # beside it, and nowhere else
        stem = self.given.stem.removesuffix(f".{self.own}")
        return self.given.with_name(f"{stem}.onnx")

    def _read(self, path: Path) -> tuple[ModelSpec | None, str]:
        """What a file says of itself, and the type of its input."""
        if path not in self._facts:
            self._facts[path] = _facts(path)
        return self._facts[path]


def find(model: str | Path) -> ModelFiles:
    """The files of a bundled model, by name, or of an ONNX file.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    bundled = bundled_files()
    path = bundled.get(str(model), Path(model))
    if os.path.isfile(path):  # unlike Path's, never raises
        return ModelFiles(path)
    if os.path.exists(path):
        raise ModelError(f"{model} is not a file: give an ONNX file or a bundled model's name")
    names = ", ".join(bundled) or "this installation has none"
    raise ModelError(f"no model {model}: there is no such file and no such bundled model ({names})")


def bundled_files() -> dict[str, Path]:
    """The fp32 file of each bundled model, by name; reads none of them."""
    lower = tuple(f".{precision}.onnx" for precision in _LOWER)
    files = sorted(_MODELS.glob("*.onnx"))
    return {path.stem: path for path in files if not path.name.endswith(lower)}


def bundled_names() -> list[str]:
    """Names of the models that come with the program; unlike `bundled_models`, reads no file."""
    return list(bundled_files())


def bundled_models() -> tuple[BundledModel, ...]:
    """Every model that comes with the program, by name.

    Raises:
        ModelError: one of the files is damaged.
    """
    return tuple(
        BundledModel(name, path, ModelFiles(path)) for name, path in bundled_files().items()
    )


def _beside(base: Path, precision: str) -> Path:
    return base.with_name(f"{base.stem}.{precision}.onnx")


def _facts(path: Path) -> tuple[ModelSpec | None, str]:
    """Of a model that is opened only to be asked: nothing is optimised or run."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = opened(path, options, [CPU])
    try:
        spec = ModelSpec.from_metadata(session.get_modelmeta().custom_metadata_map)
    except ModelError as error:
        raise ModelError(f"cannot use {path}: {error}") from error
    inputs = session.get_inputs()
    return spec, inputs[0].type if inputs else ""
