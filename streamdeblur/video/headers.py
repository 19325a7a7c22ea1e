"""What a video file says of itself: its picture stream and the facts of that picture."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.audio.stream import AudioStream
from av.codec.codec import UnknownCodecError
from av.codec.context import CodecContext
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideData
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from streamdeblur.errors import VideoError
from streamdeblur.frames import VideoInfo
from streamdeblur.video.covers import is_still

MICROSECOND = Fraction(1, 1_000_000)
_USUAL_RATE = Fraction(25)  # where a file does not say, and only as a hint
PROGRESSIVE = 1
"""FFmpeg's AV_FIELD_PROGRESSIVE; 0 is unknown, and what follows are the kinds of interlacing."""
LEAP_BACK = 1
"""Seconds by which a clock goes back only where recordings were joined, or it was set anew."""
UNSPECIFIED = 2
"""What H.273 has for a matrix, primaries or a transfer function that is not named."""
MAX_PIXELS = 2**27
"""Of one picture: a little more than 16K, 15360x8640. A header can announce any size."""
BOUNDS = {"max_pixels": str(MAX_PIXELS)}
"""What keeps decoders to it."""


def begins_late(stream: Stream) -> bool:
    """Whether a track was announced, and nothing of it met that tells its format."""
    if isinstance(stream, AudioStream):
        return stream.codec_context is not None and not stream.codec_context.sample_rate
    return isinstance(stream, VideoStream) and stream.codec_context is not None and not stream.width


def tracks_met(description: str) -> int:
    """How many tracks a file, as `described`, has turned out to have: some appear late."""
    return len(re.findall(r"^ *Stream #0:\d+", description, re.MULTILINE))


def picture_stream(container: InputContainer, path: Path | str) -> VideoStream:
    """The stream to deblur: FFmpeg's choice, but never cover art.

    Raises:
        VideoError: there is none, or no decoder for it.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or is_still(stream):
        raise VideoError(f"{path} has no video stream: is it a sound file?")
    if stream.codec_context is None:
        raise VideoError(f"no decoder for the video of {path}: convert it to H.264 first")
    stream.codec_context.options |= BOUNDS
    return stream


def sound_stream(container: InputContainer, picture: Stream | None = None) -> AudioStream | None:
    """What is heard beside a picture: FFmpeg's choice, or None if it can't be decoded."""
    stream = container.streams.best("audio", related=picture)
    if isinstance(stream, AudioStream) and stream.codec_context is not None:
        return stream
    return None


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """The decoder of a stream: FFmpeg's choice, unless that one leaves transparency behind."""
    decoder = stream.codec_context
    tags = {key.lower(): text for key, text in stream.metadata.items()}
    if tags.get("alpha_mode") == "1" and decoder.name in _SEEING_ALPHA:
        with suppress(UnknownCodecError):
            seeing = CodecContext.create(_SEEING_ALPHA[decoder.name], "r")
            assert isinstance(seeing, VideoCodecContext)
            seeing.options = BOUNDS
            return seeing
    return decoder


_SEEING_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def video_info(
    container: InputContainer,
    stream: VideoStream,
    first: av.VideoFrame,
    start: Fraction | None,
    duration: Fraction | None,
    *,
    chroma_location: str | None,
) -> VideoInfo:
    """What the header and the first decoded picture say; the picture wins."""
    whole = start is None and duration is None
    side_data = _side_data(first)
    return VideoInfo(
        width=first.width,
        height=first.height,
        time_base=first.time_base or tick_length(stream),
        rate=frame_rate(stream),
        codec=stream.codec_context.codec.canonical_name,
        pix_fmt=first.format.name,
        frame_count=(stream.frames or None) if whole else None,
        duration=_duration(container, stream, start, duration),
        colorspace=first.colorspace,
        color_range=first.color_range,
        # Not every decoder puts into its pictures what the container says of them.
        color_primaries=_either(first.color_primaries, stream.codec_context.color_primaries),
        color_trc=_either(first.color_trc, stream.codec_context.color_trc),
        chroma_location=chroma_location,
        sample_aspect_ratio=stream.sample_aspect_ratio or None,
        display_matrix=_display_matrix(side_data.get(SideData.DISPLAYMATRIX)),
        rotation=first.rotation,
        field_order=stream.codec_context.field_order,
        profile=stream.profile,
        mastering_display=_mastering_display(side_data.get(SideData.MASTERING_DISPLAY_METADATA)),
        content_light=_content_light(side_data.get(SideData.CONTENT_LIGHT_LEVEL)),
        unkept=tuple(words for kind, words in _UNKEPT.items() if kind in side_data),
    )


def _either(pictures: int, containers: int) -> int:
    """The picture's code point of H.273, or the container's if the picture has none."""
    return containers if pictures == UNSPECIFIED else pictures


def chroma_location(description: str, stream: VideoStream) -> str | None:
    """The last word in `yuv420p10le(tv, progressive, topleft)`: PyAV has no attribute for it."""
    found = re.search(rf"Stream #0:{stream.index}\b.*? \w+\(([^()]*)\), \d+x\d+", description)
    last = found[1].split(", ")[-1] if found else ""
    return last if last in _CHROMA_LOCATIONS else None


_CHROMA_LOCATIONS = {"left", "center", "topleft", "top", "bottomleft", "bottom"}


def needs_dolby_vision(description: str, stream: VideoStream) -> bool:
    """Whether the colours are right only with what Dolby Vision stores beside the picture.

    So it is in its profile 5 and those without another meaning in AV1 (10.0) and MV-HEVC (20.0).
    """
    own = rf"Stream #0:{stream.index}\b(?:(?!Stream #).)*"
    record = r"DOVI configuration[^\n]* profile: (?:5|(?:10|20),[^\n]* compatibility id: 0),"
    return bool(re.search(own + record, description, re.DOTALL))


def _side_data(picture: av.VideoFrame) -> dict[SideData, bytes]:
    """What travels beside the samples, by type."""
    try:
        found = cast(Iterable[Any], picture.side_data)  # a mapping that iterates over its values
        return {item.type: bytes(item) for item in found}
    except ValueError:  # a type that this PyAV does not know hides the others
        return {}


_UNKEPT = {
    SideData.SPHERICAL: "the 360° tag",
    SideData.STEREO3D: "the stereo 3D tag",
    SideData.DYNAMIC_HDR_PLUS: "the dynamic HDR10+ metadata (what holds for the whole stays)",
    SideData.DOVI_METADATA: "Dolby Vision (its base layer stays)",
    SideData.ICC_PROFILE: "the ICC profile",
}


def ticks_of(picture: av.VideoFrame) -> int | None:
    """A decoded picture's timestamp, or in files without any, that of its packet."""
    return picture.pts if picture.pts is not None else picture.dts


def frame_rate(stream: VideoStream) -> Fraction:
    """Frames a second on average; a usual number if the file does not say."""
    return stream.average_rate or stream.guessed_rate or _USUAL_RATE


def tick_length(stream: VideoStream) -> Fraction:
    """Seconds per tick of a stream's timestamps; a microsecond if it does not say."""
    return stream.time_base or MICROSECOND


def _duration(
    container: InputContainer,
    stream: VideoStream,
    start: Fraction | None,
    duration: Fraction | None,
) -> Fraction | None:
    """Seconds between `start` and the end, or less if `duration` is."""
    if stream.duration is not None:
        whole = stream.duration * tick_length(stream)
    elif container.duration is not None:
        whole = Fraction(container.duration, av.time_base)
    else:
        return duration
    rest = max(Fraction(0), whole - (start or 0))
    return rest if duration is None else min(rest, duration)


def _display_matrix(data: bytes | None) -> tuple[int, ...] | None:
    """FFmpeg's AVDisplayMatrix: nine 32-bit integers."""
    return None if data is None else struct.unpack("=9i", data[:36])


def _mastering_display(data: bytes | None) -> tuple[Fraction, ...] | None:
    """FFmpeg's AVMasteringDisplayMetadata: ten rationals, then which of them are set."""
    if data is None:
        return None
    numbers = struct.unpack("=22i", data[:88])
    pairs = list(zip(numbers[0:20:2], numbers[1:20:2], strict=True))
    if not all(numbers[20:]) or not all(bottom for _, bottom in pairs):
        return None
    return tuple(Fraction(top, bottom) for top, bottom in pairs)


def _content_light(data: bytes | None) -> tuple[int, int] | None:
    """FFmpeg's AVContentLightMetadata: two 32-bit integers."""
    if data is None:
        return None
    most, average = struct.unpack("=2I", data[:8])
    return most, average
