"""What a layout of pixels can hold, and what is lost from one to another.

Layouts go by FFmpeg's names, such as `yuv420p10le`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import av

from streamdeblur.correction import chroma_grid, planar_layout


@dataclass(frozen=True, slots=True)
class Traits:
    """What a layout can hold, however it is packed."""

    colours: int
    """1 for gray, else 3."""
    columns: int
    """Pixels in a row that share a chroma sample."""
    rows: int
    """Pixels in a column that share a chroma sample."""
    depth: int
    """Bits of a sample."""
    alpha: bool
    rgb: bool


@cache
def traits(name: str) -> Traits:
    """Those of a layout that FFmpeg knows."""
    layout = av.VideoFormat(planar_layout(av.VideoFormat(name)))
    parts = len(layout.components)
    grid = chroma_grid(layout)
    depth = layout.components[0].bits
    return Traits(3 if parts > 2 else 1, *grid, depth, parts in (2, 4), layout.is_rgb)


def fits(name: str, size: tuple[int, int]) -> bool:
    """Whether whole chroma samples cover a picture of `size`, (width, height) in pixels."""
    return size[0] % traits(name).columns == 0 and size[1] % traits(name).rows == 0


def losses(source: str, target: str) -> list[str]:
    """What the target cannot hold of the source, in words."""
    ours, theirs = traits(source), traits(target)
    is_coarser = ours.columns < theirs.columns or ours.rows < theirs.rows
    found = {
        "colour": ours.colours > theirs.colours,
        "resolution of colour": ours.colours > 1 and is_coarser,
        f"depth ({ours.depth} to {theirs.depth} bits)": ours.depth > theirs.depth,
        "transparency": ours.alpha and not theirs.alpha,
    }
    return [words for words, lost in found.items() if lost]


def distance(source: str, target: str) -> tuple[int, ...]:
    """How unlike two layouts are: every loss weighs more than any waste."""
    ours, theirs = traits(source), traits(target)
    lost = losses(source, target)
    return (
        len(lost[:2]),
        len(lost),
        max(0, ours.depth - theirs.depth),
        max(0, theirs.columns * theirs.rows - ours.columns * ours.rows),
        ours.rgb != theirs.rgb,
        max(0, theirs.depth - ours.depth),
        max(0, ours.columns * ours.rows - theirs.columns * theirs.rows),
        theirs.colours + theirs.alpha,
    )
