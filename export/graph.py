"""The contract of a model file, around a network: bytes in, bytes out, any size."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from export.fuse import HALF_RANGE


class ExportGraph(nn.Module):
    """Frames in, sharp frames out, both uint8 RGB (N, H, W, 3), any H and W from 1 up.

    Around `correct`, which has the contract of `export.fuse.in_levels`, and in its precision,
    stand padding by the edge to a multiple of `multiple_of`, the cast, rounding, and the crop.

    If `watched`, `correct` is what `export.fuse.with_unbounded` makes of it, and a second output
    says of each picture whether its numbers were finite before they became levels: bool (N,).
    """

    def __init__(self, correct: fx.GraphModule, multiple_of: int, *, watched: bool = False) -> None:
        super().__init__()
        self.correct = correct
        self.multiple_of = multiple_of
        self.watched = watched
        self.dtype = next(correct.parameters()).dtype

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        _, height, width, _ = frames.shape
        levels = self._pad(frames).permute(0, 3, 1, 2).float()
        answer = self.correct(levels.to(self.dtype) - HALF_RANGE)
        correction, unbounded = answer if self.watched else (answer, None)
        # The cast truncates and the correction has half a level to spare: that rounds.
        sharp = (levels + correction.float()).clamp(0.0, 255.5).to(torch.uint8)
        cropped = sharp.permute(0, 2, 3, 1)[:, :height, :width]
        return (cropped,) if unbounded is None else (cropped, _finite(unbounded))

    def _pad(self, frames: Tensor) -> Tensor:
        """Repeat the last row and column: reflection could not pad a single pixel.

        Concatenated bytes, since that is how it is cheapest, and a Pad of bytes is no CUDA kernel
        of ONNX Runtime.
        """
        _, height, width, _ = frames.shape
        rows, columns = -height % self.multiple_of, -width % self.multiple_of
        frames = torch.cat([frames, frames[:, -1:].expand(-1, rows, -1, -1)], dim=1)
        return torch.cat([frames, frames[:, :, -1:].expand(-1, -1, columns, -1)], dim=2)


def _finite(numbers: Tensor) -> Tensor:
    """Whether all numbers (N, ...) of a picture are: their sum in fp32 keeps infinity and NaN.

    Numbers of fp16 are too small for the sum itself to overflow, however large the picture.
    """
    return numbers.float().flatten(1).sum(dim=1).abs() < torch.inf
