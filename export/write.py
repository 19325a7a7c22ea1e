"""From a network to an ONNX file that is known to do the same, or to no file at all."""

from __future__ import annotations

import copy
import logging
import os
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage import data
from torch import nn

from export import OPSET
from export.fuse import FuseSeparable, count_shuffles, optimise
from export.graph import ExportGraph
from streamdeblur.errors import ModelError
from streamdeblur.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec
from train.checkpoint import Checkpoint
from train.generator import FastGenerator, PaperGenerator

Network = PaperGenerator | FastGenerator
Frames = NDArray[np.uint8]
"""RGB, shape (N, H, W, 3)."""

AXES = ("batch", "height", "width")
TOLERANCE: dict[str, float] = {"fp32": 1, "fp16": 2}
"""Largest difference from torch in fp32, in grey levels. In fp32 only rounding can differ; in
fp16 activations keep 11 bits, and a trained network's answers stay within a level or two."""
SIZES = ((1, 1), (1, 2), (13, 17), (48, 64), (101, 63), (250, 333))
"""Height and width of the pictures that a file must prove itself on."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a file's frames are from torch's, over all frames tried."""

    largest: int
    """In grey levels."""
    share: float
    """Of samples that differ at all, 0 to 1."""
    frames: int


def describe(
    network: Network, checkpoint: Checkpoint, *, name: str, precision: Literal["fp32", "fp16"]
) -> ModelSpec:
    """The facts that travel with the model: no dates and no folders, so exports are reproducible.

    Of the curve only the numbers of the last validation are kept, not those of each picture.
    """
    last = checkpoint.curve[-1] if checkpoint.curve else {}
    figures = {key: value for key, value in last.items() if isinstance(value, int | float)}
    recipe = {k: _named(v) for k, v in checkpoint.train_config.items() if k not in _NO_RECIPE}
    return ModelSpec(
        name=name,
        precision=precision,
        multiple_of=network.multiple_of,
        receptive_field=network.receptive_field,
        generator=network.config.to_dict(),
        training={
            "steps": checkpoint.step,
            "hours": round(checkpoint.seconds / 3600, 3),
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
    part.write_bytes(model)
    os.replace(part, path)
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
    return model.SerializeToString(deterministic=True)


def _mode(node: onnx.NodeProto) -> bytes:
    return next(item.s for item in node.attribute if item.name == "mode")


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


def verify(model: bytes, network: Network, *, tolerance: float) -> Parity:
    """Compare ONNX Runtime on the processor with torch, on real pictures of many sizes.

    Raises:
        ModelError: a frame differs by more than `tolerance` grey levels or in shape, or the
            network's answers are not finite.
    """
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    largest = differing = samples = count = 0
    for frames in proving_frames():
        expected = reference(network, frames)
        (written,) = session.run([OUTPUT_NAME], {INPUT_NAME: frames})
        if written.shape != expected.shape or written.dtype != np.uint8:
            raise ModelError(f"the graph gives {written.dtype} {written.shape} for {frames.shape}")
        difference = np.abs(written.astype(int) - expected)
        largest = max(largest, int(difference.max()))
        differing += int(np.count_nonzero(difference))
        samples += difference.size
        count += len(frames)
        if largest > tolerance:
            raise ModelError(
                f"the graph differs from torch by {largest} grey levels at "
                f"{frames.shape[2]}x{frames.shape[1]}, {tolerance:g} allowed"
            )
    return Parity(largest, differing / samples, count)


def proving_frames() -> Iterator[Frames]:
    """Pieces of photographs, sharp and with the kinds of extremes that real ones have."""
    photographs = np.stack([data.astronaut()[:300, :400], data.coffee()[:300, :400]])
    for height, width in SIZES:
        yield photographs[:1, -height:, -width:]
    yield photographs[:, 20:97, 30:151]
    yield photographs[:, 20:97, 30:151] // 128 * 255  # every edge the steepest there is


@torch.no_grad()
def reference(network: Network, frames: Frames) -> Frames:
    """What `network` itself, unaltered, makes of frames of any size.

    Raises:
        ModelError: its answers are not finite.
    """
    _, height, width, _ = frames.shape
    multiple = network.multiple_of
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
    x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    sharp = copy.deepcopy(network).eval()(x)[:, :, :height, :width]
    if not sharp.isfinite().all():
        raise ModelError("the network's answers are not finite: its weights are damaged")
    levels = ((sharp + 1) * 127.5).round().clamp(0, 255).byte()
    return levels.permute(0, 2, 3, 1).numpy()
