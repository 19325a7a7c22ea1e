"""From a network to an ONNX file that is known to do the same, or to no file at all."""

from __future__ import annotations

import logging
import tempfile
import tomllib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from export import OPSET
from export.fuse import FuseSeparable, count_shuffles, optimise, with_unbounded
from export.gate import Gate, Restore, Verdict
from export.graph import ExportGraph
from export.operators import pool_globally
from export.quantise import quantise
from export.verify import (
    TOLERANCE,
    Frames,
    Parity,
    in_onnxruntime,
    in_torch,
    reference,
    verify,
)
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import ModelError
from streamdeblur.spec import FINITE_NAME, INPUT_NAME, OUTPUT_NAME, ModelSpec
from train import checkpoint
from train.checkpoint import Checkpoint
from train.config import HARMLESS, without_folders
from train.generator import Network

AXES = ("batch", "height", "width")


def load(path: Path) -> tuple[Checkpoint, Network]:
    """A checkpoint and its network, with the averaged weights, in evaluation mode.

    Raises:
        ModelError: there is no such file, it is no checkpoint, or its weights fit no network.
    """
    if not checkpoint.exists(path):
        raise ModelError(f"there is no file {path}; `python -m train` writes checkpoints")
    try:
        return checkpoint.load_network(path)
    except ValueError as error:
        raise ModelError(str(error)) from error


def restorer_of(network: Network) -> Restore:
    """What restores single pictures by the network itself, in torch."""
    return lambda picture: reference(network, picture[np.newaxis])[0]


def describe(
    network: Network,
    saved: Checkpoint,
    *,
    name: str,
    precision: str = "fp32",
    twin: str | None = None,
) -> ModelSpec:
    """The facts that travel with the model: no dates and no folders, so exports are reproducible.

    Of the curve only the numbers of the last validation are kept, not those of each picture.
    """
    last = saved.curve[-1] if saved.curve else {}
    figures = {key: value for key, value in last.items() if isinstance(value, int | float)}
    recipe = without_folders({k: v for k, v in saved.train_config.items() if k not in HARMLESS})
    return ModelSpec(
        name=name,
        precision=precision,
        twin=twin,
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


@dataclass(frozen=True, slots=True)
class Written:
    """What was found out about a file before it was written."""

    spec: ModelSpec
    parity: Parity
    verdict: Verdict | None
    """On what its precision costs, if that was measured."""
    in_float: Sequence[str]
    """Layers of an int8 file that would have cost too much in int8."""


def export(
    network: Network,
    spec: ModelSpec,
    path: Path,
    *,
    fuse_separable: FuseSeparable = "auto",
    opset: int = OPSET,
    gate: Gate | None = None,
    frames: Sequence[Frames] = (),
) -> Written:
    """Write `network` to `path`, whole, once it is shown to do the same; `spec` says how precise.

    Args:
        network: with its weights, in evaluation mode.
        spec: of the file; what `gate` tells about its precision is added.
        path: where to; what is there is replaced.
        fuse_separable: as of `export.fuse.optimise`.
        opset: version of the operators.
        gate: what `network` in fp32 gains, to measure the precision against; int8 needs it. A file
            in fp32 is measured in the bf16 that OpenVINO makes of it, or torch where that can't be
            had.
        frames: to calibrate int8 on.

    Raises:
        ModelError: the file would differ from torch by more than `TOLERANCE`, would lose more by
            `gate` than `export.gate.LIMIT`, or the network's answers are not finite. Nothing is
            written.
        ValueError: a picture is broken.
        OSError: `path` cannot be written.
    """
    int8 = spec.precision == "int8"
    exact = replace(spec, precision="fp32") if int8 else spec
    graph = _graph(network, exact.precision, fuse_separable)
    model = _to_onnx(graph, exact, opset)
    parity = verify(in_onnxruntime(model), network, tolerance=TOLERANCE[exact.precision])
    run = in_torch(graph)
    if spec.precision == "fp16":
        parity = verify(run, network, tolerance=TOLERANCE["fp16"])
    verdict, in_float = None, list[str]()
    if gate:
        judged = onnx.load_from_string(model)
        lower = spec.precision
        if int8:
            judged, verdict, in_float = quantise(model, frames, gate.judge)
            run = in_onnxruntime(judged.SerializeToString())
            parity = verify(run, network, tolerance=TOLERANCE["int8"])
        elif lower == "fp16":
            verdict = gate.judge(lambda picture: run(picture[np.newaxis])[0][0])
        else:
            lower, verdict = "bf16", _judge_bf16(model, network, gate)
        accepted = [lower] if verdict.accepted else []
        spec = replace(spec, accepted=accepted, gate=verdict.facts(lower))
        model = labelled(judged, spec)
    checkpoint.write_whole(path, model)
    return Written(spec, parity, verdict, in_float)


def _judge_bf16(model: bytes, network: Network, gate: Gate) -> Verdict:
    """What the fp32 file costs as OpenVINO computes it in bf16, or else torch, which always can."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(model)
        try:
            deblurrer = Deblurrer.load(path, device="openvino", precision="bf16")
        except ModelError:
            with torch.autocast("cpu", torch.bfloat16):
                return gate.judge(restorer_of(network))
        return gate.judge(deblurrer)


def to_onnx(
    network: Network,
    spec: ModelSpec,
    *,
    fuse_separable: FuseSeparable = "auto",
    opset: int = OPSET,
) -> bytes:
    """The file's bytes in fp32 or fp16, the same for the same arguments and versions of torch."""
    return _to_onnx(_graph(network, spec.precision, fuse_separable), spec, opset)


def _graph(network: Network, precision: str, fuse_separable: FuseSeparable) -> ExportGraph:
    correct = optimise(network, fuse_separable=fuse_separable)
    if precision == "fp16":
        half = with_unbounded(correct).half()
        return ExportGraph(half, network.multiple_of, watched=True).eval()
    return ExportGraph(correct, network.multiple_of).eval()


def _to_onnx(graph: ExportGraph, spec: ModelSpec, opset: int) -> bytes:
    outputs = [OUTPUT_NAME, FINITE_NAME] if graph.watched else [OUTPUT_NAME]
    model = pool_globally(_traced(graph, opset, outputs))
    shuffles = count_shuffles(graph.correct)
    written = [_mode(node) for node in model.graph.node if node.op_type == "DepthToSpace"]
    if written != [b"CRD"] * shuffles:
        raise AssertionError(f"{shuffles} PixelShuffles became {written}: torch's exporter changed")
    return labelled(model, spec)


def _mode(node: onnx.NodeProto) -> bytes:
    return bytes(next(item.s for item in node.attribute if item.name == "mode"))


def _traced(graph: nn.Module, opset: int, outputs: list[str]) -> onnx.ModelProto:
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
            output_names=outputs,
            dynamic_shapes={INPUT_NAME: dict(enumerate(AXES))},
        )
    assert program is not None  # as it always is with dynamo
    return program.model_proto


def labelled(model: onnx.ModelProto, spec: ModelSpec) -> bytes:
    """The file's bytes: with what the model is and who made it, without notes on every node."""
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
    onnx.checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _ports(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.output]
