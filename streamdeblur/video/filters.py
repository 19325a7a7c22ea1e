"""FFmpeg's filters, one after another."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import av
from av.filter import Graph


def filter_chain(like: av.VideoFrame, *filters: tuple[str, str]) -> Graph:
    """A graph that takes pictures like that one through filters, each a name and its arguments."""
    graph = Graph()
    graph.threads = 1
    door = graph.add_buffer(
        width=like.width,
        height=like.height,
        format=like.format,
        time_base=like.time_base or Fraction(1, 1_000_000),
    )
    chain = [door, *(graph.add(*each) for each in filters), graph.add("buffersink")]
    for one, other in pairwise(chain):
        one.link_to(other)
    graph.configure()
    return graph
