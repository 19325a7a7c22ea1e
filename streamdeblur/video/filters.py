"""FFmpeg's filters, one after another."""

from __future__ import annotations

from itertools import pairwise

import av
from av.filter import Graph

from streamdeblur.video.headers import MICROSECOND


def filter_chain(like: av.VideoFrame, *filters: tuple[str, str]) -> Graph:
    """A graph that takes pictures like that one through filters, each a name and its arguments."""
    graph = Graph()
    graph.threads = 1  # no workers are started for one picture
    door = graph.add_buffer(
        width=like.width,
        height=like.height,
        format=like.format,
        time_base=like.time_base or MICROSECOND,  # pictures made in code have none
    )
    chain = [door, *(graph.add(*each) for each in filters), graph.add("buffersink")]
    for one, other in pairwise(chain):
        one.link_to(other)
    graph.configure()
    return graph
