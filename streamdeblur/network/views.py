"""Restoring a picture in several mirrored views: the mean of the answers is better than each.

A network errs a little otherwise on each view, and the mean errs less (Timofte, Rothe and Van Gool,
"Seven ways to improve example-based single image super resolution", CVPR 2016).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamdeblur.network.ports import Images

VIEWS = (1, 2, 4)
"""How many views there can be. None is on its side: that would be another size to prepare for."""
_MIRRORED = ((), (1, 2), (1,), (2,))  # axes of images: the first two are half a turn apart


def averaged(images: Images, sharpen: Callable[[Images], Images], views: int) -> Images:
    """The rounded mean of what `sharpen` makes of `views` views of images (N, H, W, 3)."""
    if views == 1:
        return sharpen(images)
    total = np.full(images.shape, views // 2, np.uint16)  # so that the division rounds
    for axes in _MIRRORED[:views]:
        view = np.ascontiguousarray(np.flip(images, axes))
        total += np.flip(sharpen(view), axes)
    return (total // views).astype(np.uint8)
