"""Clips deblurred, and looked into."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from numpy.typing import NDArray

from streamdeblur.correction import planar_copy, planes
from streamdeblur.errors import VideoError
from streamdeblur.frames import VideoInfo
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource
from streamdeblur.video.fields import Deinterlace

INFO = VideoInfo(
    width=64,
    height=48,
    time_base=Fraction(1, 25),
    rate=Fraction(25),
    codec="h264",
    pix_fmt="yuv420p",
)


def deblur(
    source: Path,
    output: Path,
    *,
    start: Fraction | None = None,
    duration: Fraction | None = None,
    deinterlace: Deinterlace = "auto",
    invert: bool = False,
    **options: Any,
) -> FileSink:
    """Write `source` to `output` as a network that changes nothing, or everything, would."""
    with (
        FileSource(source, start=start, duration=duration, deinterlace=deinterlace) as frames,
        FileSink(output, frames.info, copy_from=frames, **options) as sink,
    ):
        for frame in frames:
            frame.sharp = 255 - frame.image if invert else frame.image.copy()
            sink.write(frame)
    assert sink.frames_written == frames.frames_read
    return sink


def pictures(path: Path) -> list[av.VideoFrame]:
    """The frames of the first video track."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def in_planes(picture: av.VideoFrame) -> list[NDArray[Any]]:
    """The samples of a picture."""
    return [plane.copy() for plane in planes(planar_copy(picture))]


def samples(path: Path) -> list[list[NDArray[Any]]]:
    """The samples of every picture of a clip."""
    return [in_planes(picture) for picture in pictures(path)]


def levels(path: Path | str) -> list[float]:
    """The mean of each picture of a clip, 0 to 255."""
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [float(frame.to_ndarray(format="rgb24").mean()) for frame in frames]


def packets(path: Path, kind: str) -> list[tuple[bytes, Fraction | None]]:
    """Content and time, in seconds, of the packets of the first track of a kind."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [
            (bytes(packet), None if packet.pts is None else packet.pts * stream.time_base)
            for packet in container.demux(stream)
            if packet.size
        ]


def names(folder: Path) -> list[str]:
    """What is in a folder, in order."""
    return sorted(path.name for path in folder.iterdir())


def refused(path: Path, info: VideoInfo = INFO, **options: Any) -> str:
    """What a sink says that will not write there; it must have left nothing behind."""
    before = names(path.parent) if path.parent.exists() else []
    with pytest.raises(VideoError) as caught:
        FileSink(path, info, **options)
    assert (names(path.parent) if path.parent.exists() else []) == before
    message = str(caught.value)
    assert "\n" not in message
    return message
