"""Pictures as players show them: turned and mirrored as their file asks."""

from __future__ import annotations

from dataclasses import replace

import av

from streamdeblur.correction import ACROSS, Way, copy_tags
from streamdeblur.frames import VideoInfo
from streamdeblur.video.filters import filter_chain

Matrix = tuple[int, ...]
"""FFmpeg's AVDisplayMatrix: nine integers."""

# By the signs of its first, second, fourth and fifth, which say where the axes of the picture go.
# As FFmpeg's own program does it; angles that are not right ones are left alone.
_FILTERS = {
    (0, 1, -1, 0): (("transpose", "clock"),),
    (0, 1, 1, 0): (("transpose", "cclock_flip"),),
    (-1, 0, 0, -1): (("hflip", ""), ("vflip", "")),
    (-1, 0, 0, 1): (("hflip", ""),),
    (0, -1, 1, 0): (("transpose", "cclock"),),
    (0, -1, -1, 0): (("transpose", "clock_flip"),),
    (1, 0, 0, -1): (("vflip", ""),),
}


def upright(picture: av.VideoFrame, matrix: Matrix | None) -> av.VideoFrame:
    """A picture turned as `matrix` asks, in its own layout; the same if it asks for nothing."""
    filters = _filters(matrix)
    if not filters:
        return picture
    graph = filter_chain(picture, *filters, ("format", picture.format.name))
    graph.push(picture)
    result = graph.pull()
    assert isinstance(result, av.VideoFrame)
    if picture.time_base:
        result.time_base = picture.time_base
    copy_tags(picture, result)
    return result


def upright_info(info: VideoInfo) -> VideoInfo:
    """What is known of a video once its pictures are upright."""
    filters = _filters(info.display_matrix)
    if not filters:
        return info
    info = replace(info, display_matrix=None, rotation=0, chroma_location=None)
    if filters[0][0] != "transpose":
        return info
    aspect = info.sample_aspect_ratio and 1 / info.sample_aspect_ratio
    return replace(info, width=info.height, height=info.width, sample_aspect_ratio=aspect)


def rightwards(matrix: Matrix | None) -> Way:
    """Where the right of the shown picture lies in the stored one."""
    if matrix is None or not _filters(matrix):
        return ACROSS
    across, down = matrix[0], matrix[3]  # how the place that is shown grows with that stored
    return (1, 1 if across > 0 else -1) if across else (0, 1 if down > 0 else -1)


def _filters(matrix: Matrix | None) -> tuple[tuple[str, str], ...]:
    """FFmpeg's filters that do what a matrix asks for, each a name and its arguments."""
    if matrix is None:
        return ()
    a, b, _, c, d, *_ = ((number > 0) - (number < 0) for number in matrix)
    return _FILTERS.get((a, b, c, d), ())
