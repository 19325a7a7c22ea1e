"""The contract of a model file, around a network: bytes in, bytes out, any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.fuse import HALF_RANGE


class ExportGraph(nn.Module):
    """Frames in, sharp frames out, both uint8 RGB (N, H, W, 3), any H and W from 1 up.

    Around `correct`, which has the contract of `export.fuse.in_levels`, and in its precision,
    stand padding by the edge to a multiple of `multiple_of`, the cast, rounding, and the crop.
    """

    def __init__(self, correct: nn.Module, multiple_of: int) -> None:
        super().__init__()
        self.correct = correct
        self.multiple_of = multiple_of
        self.dtype = next(correct.parameters()).dtype

    def forward(self, frames: Tensor) -> Tensor:
        """See the class."""
        _, height, width, _ = frames.shape
        levels = self._pad(frames).permute(0, 3, 1, 2).float()
        correction = self.correct(levels.to(self.dtype) - HALF_RANGE).float()
        # The cast truncates and the correction has half a level to spare: that rounds.
        sharp = (levels + correction).clamp(0.0, 255.5).to(torch.uint8)
        cropped: Tensor = sharp.permute(0, 2, 3, 1)[:, :height, :width]
        return cropped

    def _pad(self, frames: Tensor) -> Tensor:
        """Repeat the last row and column: reflection could not pad a single pixel.

        Concatenated bytes, since that is how it is cheapest, and a Pad of bytes is no CUDA kernel
        of ONNX Runtime.
        """
        _, height, width, _ = frames.shape
        rows, columns = -height % self.multiple_of, -width % self.multiple_of
        frames = torch.cat([frames, frames[:, -1:].expand(-1, rows, -1, -1)], dim=1)
        return torch.cat([frames, frames[:, :, -1:].expand(-1, -1, columns, -1)], dim=2)
