"""Decoders and encoders of GPUs: which there are, whether they really work, and their settings.

What FFmpeg was built with says little: data-centre GPUs decode but do not encode, and a driver may
be missing or too old. So each is tried before it is relied on; a decoder with the file itself,
since it must give the same pictures at the same times as FFmpeg's own, to the bit.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice, zip_longest
from typing import Any, cast

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.container import InputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from streamdeblur.correction import planar_copy, planes
from streamdeblur.errors import VideoError
from streamdeblur.frames import is_full_range
from streamdeblur.video.ffmpeg import close_reader, explained, reason
from streamdeblur.video.headers import decoder_of, picture_stream

Opened = Callable[[HWAccel | None], InputContainer]
"""Opens a file, to be decoded by what is given, or on the processor."""

MAKERS = ("nvenc", "qsv", "amf", "videotoolbox")
"""Kinds of hardware encoders, as FFmpeg's names of them end, in the order that they are tried."""
_TRIED = 16  # pictures of a file that are compared: more than are reordered
_PROBE_SIZE = (320, 240)  # pixels: more than the least that each of them takes
# Qualities as fine as those of the software encoders, in the measure that --crf means: of H.264
# and HEVC the quantiser, which for AV1 has a longer scale.
_QUALITY = {"h264": 19.0, "hevc": 21.0, "av1": 26.0}
_SETTINGS = {
    "nvenc": {"preset": "p5", "tune": "hq", "rc": "vbr", "spatial-aq": "1"},
    "qsv": {"preset": "medium"},
    "amf": {"quality": "quality", "rc": "cqp"},
    "videotoolbox": {"flags": "+qscale"},
}
_LIVE = {  # each frame comes out when it has gone in
    "nvenc": {"tune": "ull", "zerolatency": "1", "delay": "0", "bf": "0"},
    "qsv": {"async_depth": "1", "bf": "0"},
    "amf": {"usage": "lowlatency", "bf": "0"},
    "videotoolbox": {"realtime": "1", "bf": "0"},
}


def probes() -> Iterator[tuple[str, str]]:
    """Try every decoder and encoder of hardware that this FFmpeg was built with.

    Each with the reason why it does not work, which is empty if it does: `decoder cuda`, as
    --decoder takes it, or `encoder h264_nvenc`, as --codec does.
    """
    clip = _clip()
    for device in decoders():
        yield f"decoder {device}", decoder_failure(lambda accel: _opened(clip, accel), device, 0)
    for family in _QUALITY:
        for name in encoders(family):
            yield f"encoder {name}", encoder_failure(name, host_layouts(name)[0], _PROBE_SIZE)


def decoders() -> list[str]:
    """Hardware that this FFmpeg can decode with, by FFmpeg's names; it need not be there."""
    usable = {
        config.device_type.name
        for config in av.Codec("h264", "r").hardware_configs or ()
        if config.is_supported
    }
    return [name for name in hwdevices_available() if name in usable]


def accelerator(device: str, gpu: int) -> HWAccel:
    """What makes PyAV decode on a device or fail, and never fall back silently."""
    number = str(gpu) if device == "cuda" else None  # other kinds have no numbers
    return HWAccel(device, number, allow_software_fallback=False)


def choose_decoder(wish: str, opened: Opened, name: str, gpu: int) -> tuple[str | None, list[str]]:
    """The device that decodes a file, None for the processor, and what a person should know.

    Args:
        wish: `software`, one of `decoders()`, or `auto`: the first that can be trusted.
        opened: opens the file, with an accelerator or without.
        name: the file's, for messages.
        gpu: which of several.

    Raises:
        VideoError: the device asked for cannot be trusted with the file, or is none.
    """
    known = decoders()
    if wish == "auto":
        failures = []
        for device in known:
            failure = decoder_failure(opened, device, gpu)
            if not failure:
                return device, [f"{name} is decoded by {device}"]
            failures.append(f"{device}: {failure}")
        why = "; ".join(failures) or "this FFmpeg has no other decoders"
        return None, [f"{name} is decoded on the processor: {why}"]
    if wish == "software":
        return None, []
    if wish not in known:
        raise VideoError(f"no decoder {wish}: this FFmpeg has {', '.join(['software', *known])}")
    if failure := decoder_failure(opened, wish, gpu):
        raise VideoError(f"{wish} can't decode {name}: {failure}; leave out --decoder")
    return wish, []


def decoder_failure(opened: Opened, device: str, gpu: int) -> str:
    """Why a device cannot be trusted with a file; empty if it can.

    It can if it gives the first pictures as FFmpeg's own decoder does, to the bit.
    """
    codec, ours = _first_pictures(opened(None), decoder_of)
    accel = accelerator(device, gpu)
    try:
        with explained("it fails"):
            accel.create(codec)
    except VideoError as error:
        return str(error)
    except NotImplementedError:
        return f"it can't decode {codec.name}"
    try:
        _, theirs = _first_pictures(opened(accel), lambda stream: stream.codec_context)
    except FFmpegError as error:
        return f"it fails: {reason(error)}"
    for number, (wanted, given) in enumerate(zip_longest(ours, theirs)):
        if wanted is None or given is None or not _are_equal(wanted, given):
            return f"picture {number} comes out otherwise than from FFmpeg's own decoder"
    return ""


def encoders(family: str) -> list[str]:
    """Hardware encoders of a codec family that this FFmpeg was built with.

    None of a family for which no setting is known that is visually lossless.
    """
    names = (f"{family}_{maker}" for maker in MAKERS if family in _QUALITY)
    return [name for name in names if name in av.codecs_available]


def host_layouts(encoder: str) -> list[str]:
    """FFmpeg's names of the layouts that an encoder takes from this machine's memory."""
    formats = av.Codec(encoder, "w").video_formats or []
    return [layout.name for layout in formats if layout.components]  # others lie on the GPU


def maker_of(encoder: str) -> str | None:
    """Which of MAKERS an encoder belongs to; None if it runs on the processor."""
    maker = encoder.rpartition("_")[2]
    return maker if maker in MAKERS else None


def encoder_options(encoder: str, quality: float | None, *, live: bool) -> dict[str, str]:
    """Settings of a hardware encoder: visually lossless, or of the `quality` given.

    Args:
        encoder: FFmpeg's name of it.
        quality: in the measure of --crf: less is better.
        live: no frame may wait in the encoder.
    """
    maker = maker_of(encoder)
    assert maker is not None
    if quality is None:
        quality = _QUALITY[av.Codec(encoder, "w").canonical_name]
    level = f"{quality:g}"
    scale = {
        "nvenc": {"cq": level},
        "qsv": {"global_quality": f"{round(quality)}"},
        "amf": {"qp_i": f"{round(quality)}", "qp_p": f"{round(quality)}"},
        # Apple counts from 1 to 100, the best; FFmpeg multiplies by 118 (FF_QP2LAMBDA).
        "videotoolbox": {"global_quality": f"{118 * max(1, round(100 - 2 * quality))}"},
    }[maker]
    return {**_SETTINGS[maker], **scale, **(_LIVE[maker] if live else {})}


def encoder_failure(encoder: str, pix_fmt: str, size: tuple[int, int]) -> str:
    """Why a hardware encoder cannot encode such pictures here; empty if it can.

    Args:
        encoder: FFmpeg's name of it.
        pix_fmt: FFmpeg's name of the pictures' layout.
        size: width and height in pixels.
    """
    if encoder not in av.codecs_available:
        return "this FFmpeg has none"
    if av.Codec(encoder, "w").canonical_name not in _QUALITY:
        return f"only {', '.join(_QUALITY)} are encoded by hardware"
    try:
        with explained("it fails"):
            packets = _encoded(encoder, pix_fmt, size, encoder_options(encoder, None, live=False))
    except VideoError as error:
        return str(error)
    return "" if packets else "it fails: no picture comes out"


def _first_pictures(
    container: InputContainer, decoder: Callable[[VideoStream], VideoCodecContext]
) -> tuple[av.Codec, list[av.VideoFrame]]:
    """The codec of a file, and the pictures that a decoder of its stream gives first."""
    stream = picture_stream(container, container.name)
    try:
        decode = decoder(stream).decode
        pictures = (picture for packet in container.demux(stream) for picture in decode(packet))
        return stream.codec_context.codec, list(islice(pictures, _TRIED))
    finally:
        close_reader(container, stream)


def _are_equal(ours: av.VideoFrame, theirs: av.VideoFrame) -> bool:
    """Whether two pictures have the same time, meaning and samples, however they are packed."""
    first, second = planar_copy(ours), planar_copy(theirs)
    facts = [
        (each.pts, each.time_base, each.format.name, each.width, each.height, each.colorspace)
        for each in (first, second)
    ]
    return (
        facts[0] == facts[1]
        and is_full_range(first) == is_full_range(second)
        and all(np.array_equal(*pair) for pair in zip(planes(first), planes(second), strict=True))
    )


def _clip() -> bytes:
    """A few moving pictures, as a video file."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height = _PROBE_SIZE
        stream.pix_fmt = "yuv420p"
        for picture in _moving("yuv420p", _PROBE_SIZE):
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return file.getvalue()


def _opened(clip: bytes, accel: HWAccel | None) -> InputContainer:
    return av.open(io.BytesIO(clip), "r", hwaccel=accel)


def _encoded(
    encoder: str, pix_fmt: str, size: tuple[int, int], options: dict[str, str]
) -> list[Any]:
    context = cast(VideoCodecContext, av.CodecContext.create(encoder, "w"))
    context.width, context.height = size
    context.pix_fmt, context.options = pix_fmt, options
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    packets = [packet for picture in _moving(pix_fmt, size) for packet in context.encode(picture)]
    return [*packets, *context.encode(None)]


def _moving(pix_fmt: str, size: tuple[int, int], count: int = 4) -> Iterator[av.VideoFrame]:
    """Slopes that wander."""
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    for number in range(count):
        slopes = np.stack([columns + 8 * number, rows, columns + rows], axis=-1) % 256
        picture = av.VideoFrame.from_ndarray(slopes.astype(np.uint8), format="rgb24")
        picture = picture.reformat(format=pix_fmt)
        picture.pts, picture.time_base = number, Fraction(1, 25)
        yield picture
