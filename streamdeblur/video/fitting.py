"""Frames of another size than the output's: sources change theirs, and outputs cannot."""

from __future__ import annotations

import av
import numpy as np

from streamdeblur.correction import copy_tags
from streamdeblur.frames import Image, is_full_range, matrix, usual_matrix
from streamdeblur.video.filters import filter_chain

_NAMES = {1: "bt709", 6: "bt601"}  # of matrices, by FFmpeg's filter


def scaled(picture: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """A picture scaled to fit in that size, in pixels, in the middle of black, in its own layout.

    The same if it has the size.
    """
    if (picture.width, picture.height) == (width, height):
        return picture
    result = _fitted_into(picture, width, height)
    if picture.time_base:
        result.time_base = picture.time_base
    copy_tags(picture, result)
    return result


def boxed(image: Image, width: int, height: int) -> Image:
    """A picture scaled to fit in that size, in pixels, in the middle of black."""
    if image.shape[:2] == (height, width):
        return image
    source = av.VideoFrame.from_ndarray(image, format="rgb24")
    result = _fitted_into(source, width, height)
    return np.ascontiguousarray(result.to_ndarray(), dtype=np.uint8)


def _fitted_into(picture: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    size = f"{width}:{height}"
    # The same meaning at both ends, whichever it is: the numbers are not to be converted. But what
    # says nothing of its matrix is read by its height.
    meaning = "full" if is_full_range(picture) else "limited"
    old = matrix(picture)
    new = old if old == picture.colorspace else usual_matrix(height)
    old_name, new_name = (_NAMES.get(each, "bt709") for each in (old, new))
    ranges = f"in_range={meaning}:out_range={meaning}"
    same = f"{ranges}:in_color_matrix={old_name}:out_color_matrix={new_name}"
    graph = filter_chain(
        picture,
        ("scale", f"{size}:force_original_aspect_ratio=decrease:flags=area:{same}"),
        ("pad", f"{size}:-1:-1"),
        ("format", picture.format.name),
    )
    graph.push(picture)
    result = graph.pull()
    assert isinstance(result, av.VideoFrame)
    return result
