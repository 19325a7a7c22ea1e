"""From a network to an ONNX file that is known to do the same, or to no file at all."""

from __future__ import annotations

import logging
import os
import tomllib
import warnings
from pathlib import Path, PurePath
from typing import Any, Literal

import onnx
import torch
from torch import nn

from export import OPSET
from export.fuse import FuseSeparable, count_shuffles, optimise
from export.graph import ExportGraph
from export.verify import TOLERANCE, Network, Parity, verify
from streamdeblur.errors import ModelError
from streamdeblur.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec
from train import checkpoint
from train.checkpoint import Checkpoint

AXES = ("batch", "height", "width")


def load(path: Path) -> tuple[Checkpoint, Network]:
    """A checkpoint and its network, with the averaged weights, in evaluation mode.

    Raises:
        ModelError: there is no such file, it is no checkpoint, or its weights fit no network.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path}; `python -m train` writes checkpoints")
    try:
        saved = checkpoint.load(path)
        return saved, checkpoint.restore_generator(saved)
    except ValueError as error:
        raise ModelError(str(error)) from error
    except (RuntimeError, TypeError, KeyError) as error:  # torch's words on weights and shapes
        raise ModelError(f"the weights in {path} do not fit its network: {error}") from error


def describe(
    network: Network, saved: Checkpoint, *, name: str, precision: Literal["fp32", "fp16"]
) -> ModelSpec:
    """The facts that travel with the model: no dates and no folders, so exports are reproducible.

    Of the curve only the numbers of the last validation are kept, not those of each picture.
    """
    last = saved.curve[-1] if saved.curve else {}
    figures = {key: value for key, value in last.items() if isinstance(value, int | float)}
    recipe = {k: _named(v) for k, v in saved.train_config.items() if k not in _NO_RECIPE}
    return ModelSpec(
        name=name,
        precision=precision,
        multiple_of=network.multiple_of,
        receptive_field=network.receptive_field,
        generator=network.config.to_dict(),
        training={
            "steps": saved.step,
            "hours": round(saved.seconds / 3600, 3),
            "recipe": recipe,
            "figures": figures,
        },
    )


_NO_RECIPE = {"out", "resume", "threads", "log_every"}
"""Settings of a training that change nothing of what is learnt."""


def _named(value: Any) -> Any:
    """A setting, with paths cut to their last name."""
    if isinstance(value, list | tuple):
        return [_named(item) for item in value]
    return PurePath(value).name if isinstance(value, str) else value


def export(
    network: Network,
    spec: ModelSpec,
    path: Path,
    *,
    fuse_separable: FuseSeparable = "auto",
    opset: int = OPSET,
) -> Parity:
    """Write `network` to `path`, whole, once it is shown to do the same; `spec` says how precise.

    Raises:
        ModelError: the file would differ from torch by more than `TOLERANCE`, or the network's
            answers are not finite. Nothing is written.
        OSError: `path` cannot be written.
    """
    model = to_onnx(network, spec, fuse_separable=fuse_separable, opset=opset)
    parity = verify(model, network, tolerance=TOLERANCE[spec.precision])
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(model)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return parity


def to_onnx(
    network: Network,
    spec: ModelSpec,
    *,
    fuse_separable: FuseSeparable = "auto",
    opset: int = OPSET,
) -> bytes:
    """The file's bytes, the same for the same arguments and versions of torch."""
    correct = optimise(network, fuse_separable=fuse_separable)
    if spec.precision == "fp16":
        correct.half()
    graph = ExportGraph(correct, network.multiple_of).eval()
    model = _traced(graph, opset)
    shuffles = count_shuffles(correct)
    written = [_mode(node) for node in model.graph.node if node.op_type == "DepthToSpace"]
    if written != [b"CRD"] * shuffles:
        raise AssertionError(f"{shuffles} PixelShuffles became {written}: torch's exporter changed")
    _label(model, spec)
    onnx.checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _mode(node: onnx.NodeProto) -> bytes:
    return bytes(next(item.s for item in node.attribute if item.name == "mode"))


def _traced(graph: nn.Module, opset: int) -> onnx.ModelProto:
    """What torch makes of `graph`, with batch, height and width free."""
    # It notes for every operator of torchvision, which we do not use, that it is not installed.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    frames = torch.zeros(2, 45, 61, 3, dtype=torch.uint8)  # no size that a multiple would mark
    with warnings.catch_warnings():
        # Its own use of its own deprecated class, when it copies the traced program.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        program = torch.onnx.export(
            graph,
            (frames,),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes={INPUT_NAME: dict(enumerate(AXES))},
        )
    assert program is not None  # as it always is with dynamo
    return program.model_proto


def _label(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Say what the model is and who made it; drop torch's notes on every node."""
    pyproject = Path(__file__).parent.parent / "pyproject.toml"  # exports are made in a checkout
    model.producer_name = "streamdeblur"
    model.producer_version = tomllib.loads(pyproject.read_text())["project"]["version"]
    model.doc_string = ""
    model.graph.name = spec.name
    model.graph.doc_string = ""
    del model.graph.value_info[:], model.graph.metadata_props[:], model.metadata_props[:]
    for item in (*model.graph.node, *model.graph.initializer, *_ports(model)):
        del item.metadata_props[:]
        item.doc_string = ""
    for port in _ports(model):
        for dim, axis in zip(port.type.tensor_type.shape.dim, AXES, strict=False):
            dim.dim_param = axis
    onnx.helper.set_model_props(model, spec.to_metadata())


def _ports(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.output]
