"""What files say of themselves, in places where only FFmpeg's own description shows it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from streamdeblur.errors import VideoError
from streamdeblur.sources import FileSource

ENTRY = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"]


def call_dolby_vision(clip: Path, profile: int, compatibility: int) -> None:
    """Add to an MP4, whose index comes last, a configuration box of Dolby Vision."""
    data, at, starts = bytearray(clip.read_bytes()), 0, []
    for kind in ENTRY:
        while bytes(data[at + 4 : at + 8]) != kind:
            at += struct.unpack_from(">I", data, at)[0]
        starts.append(at)
        end = at + struct.unpack_from(">I", data, at)[0]
        at += 16 if kind == b"stsd" else 8
    facts = struct.pack(">BBHB19x", 1, 0, profile << 9 | 0b101, compatibility << 4)
    box = struct.pack(">I4s", 8 + len(facts), b"dvcC") + facts
    data[end:end] = box
    for start in starts:
        struct.pack_into(">I", data, start, struct.unpack_from(">I", data, start)[0] + len(box))
    clip.write_bytes(data)


@pytest.mark.parametrize(("profile", "compatibility"), [(5, 0), (10, 0)])
def test_colours_that_only_dolby_vision_makes_right_are_refused(
    clip: Path, profile: int, compatibility: int
) -> None:
    call_dolby_vision(clip, profile, compatibility)
    with pytest.raises(VideoError, match="convert it to HDR10 or SDR first"):
        FileSource(clip)


@pytest.mark.parametrize(("profile", "compatibility"), [(8, 4), (8, 1), (10, 4), (7, 0)])
def test_dolby_vision_over_usual_colours_is_read(
    clip: Path, profile: int, compatibility: int
) -> None:
    call_dolby_vision(clip, profile, compatibility)
    with FileSource(clip) as source:
        assert len(list(source)) == 12
