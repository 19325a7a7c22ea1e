"""Showing that a model file does what its network does, before anyone relies on it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage import data
from torch import nn

from streamdeblur.errors import ModelError
from streamdeblur.spec import INPUT_NAME
from train.generator import Network

Frames = NDArray[np.uint8]
"""RGB, shape (N, H, W, 3)."""
Run = Callable[[Frames], Sequence[NDArray[Any]]]
"""From frames to the outputs of a graph: `sharp`, and `finite` if it has that."""

TOLERANCE: dict[str, float] = {"fp32": 1, "fp16": 2, "int8": 255}
"""Largest difference from torch in fp32, in grey levels. In fp32 only rounding can differ; in
fp16 activations keep 11 bits, and a trained network's answers stay within a level or two. What
int8 costs is not the same for all pictures: `export.gate` judges it on real ones."""
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


def in_onnxruntime(model: bytes) -> Run:
    """A model file, on the processor, which has no kernels for fp16 and computes it in fp32."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda frames: session.run(None, {INPUT_NAME: frames})


def in_torch(graph: nn.Module) -> Run:
    """What the file will be made of, in torch, which has kernels for fp16 on processors as well."""

    @torch.no_grad()
    def run(frames: Frames) -> list[NDArray[Any]]:
        return [each.numpy() for each in graph(torch.from_numpy(np.ascontiguousarray(frames)))]

    return run


def verify(run: Run, network: Network, *, tolerance: float) -> Parity:
    """Compare a graph with its network in fp32 in torch, on real pictures of many sizes.

    Raises:
        ModelError: a frame differs by more than `tolerance` grey levels or in shape, the network's
            answers are not finite, or the graph says that its own numbers are not.
    """
    largest = differing = samples = count = 0
    for frames in proving_frames():
        expected = reference(network, frames)
        written, *finite = run(frames)
        if finite and not finite[0].all():
            raise ModelError("the network's numbers are too large for fp16: export it without")
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
    return np.asarray(levels.permute(0, 2, 3, 1), dtype=np.uint8)
