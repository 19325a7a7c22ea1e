"""Whatever restores pictures: a checkpoint through torch, an ONNX file through ONNX Runtime."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import ModelError
from streamdeblur.network.views import averaged
from train import checkpoint, metrics
from train.architecture import GeneratorConfig
from train.generator import build

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Restorer:
    """A network ready to run on single pictures."""

    name: str
    """Of the file, without its folder."""
    runs_on: str
    """Library, device and precision, as they are and not as they were wished for."""
    parameters: int | None
    """None for networks made elsewhere."""
    restore: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    """RGB (H, W, 3) of any size to the same, sharp."""
    notices: tuple[str, ...] = ()
    """What a person should know; one line each."""


def open_restorer(model: str, device: Device = "auto", views: int = 1) -> Restorer:
    """Make `model` ready: a checkpoint, an ONNX file, or a bundled model's name.

    With more than one of `views` its answer is the mean of theirs.

    Raises:
        ModelError: the ONNX file or the bundled model cannot run.
        ValueError: the file is neither model nor checkpoint, its weights do not fit, or there is
            no such device.
    """
    path = Path(model)
    in_parts = not path.exists() and checkpoint.exists(path)
    if in_parts or zipfile.is_zipfile(path):  # what torch writes
        return _in_views(_open_checkpoint(path, device), views)
    try:
        return _in_views(_open_onnx(model, device), views)
    except ModelError as error:
        if not path.is_file() or path.suffix == ".onnx":
            raise
        raise ValueError(
            f"{model} is neither a checkpoint of `python -m train` nor an ONNX model: {error}"
        ) from error


def _in_views(restorer: Restorer, views: int) -> Restorer:
    if views == 1:
        return restorer

    def each(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return restorer.restore(images[0])[np.newaxis]

    return replace(
        restorer,
        name=f"{restorer.name}, {views} views",
        restore=lambda picture: averaged(picture[np.newaxis], each, views)[0],
    )


def _open_checkpoint(path: Path, device: Device) -> Restorer:
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise ValueError("--device cuda: this torch sees no CUDA device")
    place = "cuda" if cuda and device != "cpu" else "cpu"
    network = checkpoint.load_network(path)[1].to(place)
    return Restorer(
        name=path.name,
        runs_on=f"torch {torch.__version__}, {place}, fp32",
        parameters=sum(weight.numel() for weight in network.parameters()),
        restore=lambda picture: metrics.restore(network, picture),
    )


def _open_onnx(model: str, device: Device) -> Restorer:
    deblurrer = Deblurrer.load(model, device=device)
    generator = deblurrer.spec.generator
    parameters = None
    if generator:
        with torch.device("meta"):  # counted, not made
            network = build(GeneratorConfig.from_dict(generator))
        parameters = sum(weight.numel() for weight in network.parameters())
    return Restorer(
        name=Path(model).name,
        runs_on=f"ONNX Runtime, {deblurrer.provider}, {deblurrer.precision}",
        parameters=parameters,
        restore=lambda picture: deblurrer(picture[np.newaxis])[0],
        notices=deblurrer.notices,
    )
