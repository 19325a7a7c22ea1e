"""Cover pictures, which in Matroska are attached files and no tracks."""

from __future__ import annotations

from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream

_KINDS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


def is_still(stream: Stream) -> bool:
    """Whether a track is a still picture, such as a cover, which belongs to all of the video."""
    return bool(stream.disposition & Disposition.attached_pic)


def can_be_attached(stream: Stream) -> bool:
    """Whether a track is a still picture of a kind that is attached to Matroska files."""
    return is_still(stream) and getattr(stream, "name", None) in _KINDS


def attach(cover: Stream, source: InputContainer, output: OutputContainer) -> None:
    """Attach a cover to a Matroska file, where as a track it would be a second video.

    Args:
        cover: the track.
        source: its file, of which nothing is read yet.
        output: where it goes.
    """
    picture = next(source.demux(source.streams[cover.index]))
    name, kind = _KINDS[getattr(cover, "name", "")]
    tags = cover.metadata
    output.add_attachment(tags.get("filename", name), tags.get("mimetype", kind), bytes(picture))
