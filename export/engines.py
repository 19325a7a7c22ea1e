"""TensorRT's engines, built ahead of time into the cache in which the runtime looks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from streamdeblur.errors import ModelError
from streamdeblur.network import catalogue, devices, engines
from streamdeblur.network.choice import settings_for

Size = tuple[int, int]
"""Width and height, in pixels."""


def require_tensorrt() -> None:
    """Fail before the work, not after it.

    Raises:
        ModelError: this ONNX Runtime has no TensorRT, or a library of it is missing.
    """
    if complaint := devices.why_missing(devices.find("tensorrt")):
        raise ModelError(complaint)
    engines.load_tensorrt()


def is_model(path: Path) -> bool:
    """Whether that is an ONNX file or a bundled model's name, and not a checkpoint."""
    return path.suffix == ".onnx" or str(path) in catalogue.bundled_names()


def build(
    model: str | Path, sizes: list[Size], *, say: Callable[[str], None] = lambda line: None
) -> Iterator[Path]:
    """Build the engines of a model for pictures of these sizes; yields the folder of each.

    They are those that `--device tensorrt` would build at the first use: one for each size, in the
    precision that the model accepts, for this GPU and these versions.

    Args:
        model: an ONNX file of ours, or a bundled model's name.
        sizes: of the pictures.
        say: told before each, since each takes minutes.

    Raises:
        ModelError: TensorRT cannot be had, or cannot run the model.
    """
    files = catalogue.find(model)
    (setting,) = settings_for(files, device="tensorrt")
    path = files.path(setting.precision)
    if path is None or not files.knows(setting.precision):
        raise ModelError(
            f"{model} was not written by `python -m export`: its engines are built in use"
        )
    for width, height in sizes:
        say(f"building an engine of {path.name} for {width}x{height}, which takes minutes")
        yield engines.build(path, (1, height, width, 3), setting)
