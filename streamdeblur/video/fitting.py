"""Frames of another size than the output's: sources change theirs, and outputs cannot."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from streamdeblur.correction import copy_tags
from streamdeblur.frames import Frame, Image, is_full_range
from streamdeblur.video.filters import filter_chain


def fitted(frame: Frame, width: int, height: int) -> Frame:
    """The frame at that size in pixels, with black borders where its shape is another.

    The same frame if it has the size; else one whose picture is RGB with 8 bits.
    """
    if (frame.picture.width, frame.picture.height) == (width, height):
        return frame
    image = boxed(frame.image, width, height)
    picture = av.VideoFrame.from_ndarray(image, format="rgb24")
    picture.pts, picture.time_base = frame.pts, frame.picture.time_base or Fraction(1, 1_000_000)
    sharp = None if frame.sharp is None else boxed(frame.sharp, width, height)
    return Frame(picture, image, frame.pts, sharp, frame.captured)


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
    # The same meaning at both ends, whichever it is: the numbers are not to be converted.
    meaning = "full" if is_full_range(picture) else "limited"
    same = f"in_range={meaning}:out_range={meaning}:in_color_matrix=bt709:out_color_matrix=bt709"
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
