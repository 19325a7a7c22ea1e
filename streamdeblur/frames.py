"""What travels through the program: frames, and what is known of the video they come from."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import av
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""RGB, shape (H, W, 3), full range, C-contiguous."""


@dataclass(slots=True)
class Frame:
    """One picture and the moment it is shown."""

    picture: av.VideoFrame
    """As decoded: native planes, depth, tags and side data. Never changed."""
    image: Image
    """The RGB view of `picture` that the network sees, made once."""
    pts: int
    """Presentation time, in ticks of the video's `time_base`."""
    sharp: Image | None = None
    """The network's answer to `image`; same shape. None until a deblurrer has seen the frame."""

    def __repr__(self) -> str:
        height, width, _ = self.image.shape
        return f"Frame({width}x{height} {self.picture.format.name}, pts={self.pts})"
