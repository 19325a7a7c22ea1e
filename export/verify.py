"""Showing that a model file does what its network does, before anyone relies on it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage import data

from streamdeblur.errors import ModelError
from streamdeblur.spec import INPUT_NAME, OUTPUT_NAME
from train.generator import FastGenerator, PaperGenerator

Network = PaperGenerator | FastGenerator
Frames = NDArray[np.uint8]
"""RGB, shape (N, H, W, 3)."""

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
    return np.asarray(levels.permute(0, 2, 3, 1), dtype=np.uint8)
