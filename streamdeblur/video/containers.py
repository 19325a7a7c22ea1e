"""What each container can hold; all are known by FFmpeg's names."""

from __future__ import annotations

import io
from contextlib import suppress

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import DataStream, Stream

MATROSKA = {"matroska", "webm"}
MOV_FAMILY = {"mov", "mp4", "ipod", "3gp", "3g2", "psp", "ismv", "f4v"}
RAW = {"rawvideo", "yuv4mpegpipe"}
"""Of pictures that are not encoded."""
PIPED = {"matroska", "mpegts", "nut", *RAW}
"""That can be written into a pipe as well as into a file."""
AS_BYTES = "surrogateescape"
"""How tags are read and written whose texts are in no known encoding: as they are."""
_GOING_BACK = {"avi", "asf", "flv", "mxf"}  # to complete a header that players rely on
# Containers that take more than they hold, and write what no player understands or fail at the
# header: the codecs that they hold, or those that they don't.
_HOLDS = {
    "mpegts": ("h264", "hevc", "mpeg2video", "aac"),
    **dict.fromkeys(
        ("mpeg", "vob", "svcd", "dvd"), ("mpeg1video", "mpeg2video", "mpeg4", "h264", "hevc")
    ),
    "mxf": ("dnxhd", "dvvideo", "ffv1", "h264", "jpeg2000", "mpeg2video", "prores"),
    "ogg": ("theora", "vp8"),
    "ogv": ("theora", "vp8"),
}
_LACKS = {"mov": ("av1", "vp8", "vp9"), "ismv": ("av1", "vp9"), "flv": ("mpeg4",)}
# Of tracks that are copied these take the bytes of any codec, and have a name for few: who reads
# them does not know what the others are.
_NAMES = {
    "mpegts": {
        *("aac", "aac_latm", "ac3", "dts", "eac3", "mp1", "mp2", "mp3", "opus", "s302m", "truehd"),
        *("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "vvc"),
        *("dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle", "klv", "timed_id3"),
    }
}
_NAMELESS = {"mov": {"wmav1", "wmav2"}, "nut": {"wmav1", "wmav2"}}
# Raw pictures have a name in NUT whatever their layout; in these only where it is one of these.
_HOLDS_RAW = {"matroska", "avi"}
_RAW_LAYOUTS = {"yuv420p", "yuv422p", "yuv410p", "yuv411p", "gray"}
NO_TIMES = 0x0080
"""AVFMT_NOTIMESTAMPS, a flag of formats: they hold no times, and FFmpeg counts frames instead."""
_NO_FILE, _VARIABLE_RATE = 0x0001, 0x0400  # AVFMT_NOFILE, AVFMT_VARIABLE_FPS


def keeps_times(container: str) -> bool:
    """Whether each frame has a time of its own, where others know only a frame rate."""
    return bool(av.ContainerFormat(container, "w").flags & _VARIABLE_RATE)


def is_one_file(output: OutputContainer) -> bool:
    """Whether it is written as one file, and not as several or none."""
    return not output.format.flags & _NO_FILE


def goes_back(output: OutputContainer) -> bool:
    """Whether its beginning is completed in the end, which a pipe does not allow."""
    return output.format.name in _GOING_BACK


def takes_encoder(container: str, encoder: str) -> bool:
    """Whether a container holds what an encoder makes."""
    codec = av.Codec(encoder, "w").canonical_name
    if container in _HOLDS:
        return codec in _HOLDS[container]
    if codec in _LACKS.get(container, ()):
        return False
    trial = av.open(io.BytesIO(), "w", format=container)
    try:
        trial.add_stream(encoder, rate=25)
    except ValueError:
        return False
    return True


def takes_raw(container: str, pix_fmt: str) -> bool:
    """Whether pictures of a layout that are not encoded can be read out of a container again."""
    return container == "nut" or (container in _HOLDS_RAW and pix_fmt in _RAW_LAYOUTS)


def takes_track(container: str, stream: Stream) -> bool:
    """Whether a container can hold a copy of a track.

    Some refuse only when the header is written, so one is written to memory. Camera makers' data
    has no name outside the MOV family, and what FFmpeg has no name for is lost without a word.
    """
    nameless = {None} if container in MOV_FAMILY else {None, "bin_data"}
    codec = codec_of(stream)
    if isinstance(stream, DataStream) and codec in nameless:
        return False
    if container == "avi" and codec and codec.startswith("adpcm_"):
        return False  # whose clock is a rate of bytes, which a copy is given by guess
    if codec not in _NAMES.get(container, {codec}) or codec in _NAMELESS.get(container, ()):
        return False
    if container != "mxf" and av.ContainerFormat(container, "w").flags & NO_TIMES:
        return False  # a bare stream of one track, into which another would be mixed
    trial = av.open(io.BytesIO(), "w", format=container, metadata_errors=AS_BYTES)
    try:
        if container == "mxf":
            trial.add_stream("mpeg2video", rate=25)  # without a picture it holds nothing at all
        trial.add_stream_from_template(stream, opaque=True)
        trial.start_encoding()
    except (FFmpegError, ValueError):
        return False
    finally:
        with suppress(FFmpegError, ValueError):
            trial.close()
    return True


def codec_of(stream: Stream) -> str | None:
    """FFmpeg's name of what a track is coded in; None if it has none."""
    if isinstance(stream, DataStream):
        return stream.name
    context = stream.codec_context
    return None if context is None else context.codec.canonical_name
