"""Clips for the tests, made in code: small, and with whatever a test is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def write_clip(
    path: Path,
    *,
    size: tuple[int, int] = (64, 48),
    pts: Iterable[int] = range(12),
    time_base: Fraction = Fraction(1, 25),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    colorspace: int = 2,
    color_range: int = 0,
    color_primaries: int = 2,
    color_trc: int = 2,
    pixel_aspect: Fraction | None = None,
    rotation: int = 0,
    display_matrix: tuple[int, ...] | None = None,
    field_order: int = 0,
    language: str | None = None,
    metadata: Mapping[str, str] | None = None,
    chapters: Iterable[Mapping[str, Any]] = (),
    audio: bool | str = False,
    audio_layout: str = "mono",
    audio_start: Fraction = Fraction(0),
    audio_seconds: Fraction = Fraction(1, 2),
    subtitles: bool = False,
    attachment: bool = False,
    cover: bool = False,
) -> Path:
    """Write pictures of noise and slopes, no two alike, at `pts` ticks of `time_base` seconds."""
    width, height = size
    with av.open(str(path), "w") as output:
        output.metadata.update(metadata or {})
        output.set_chapters([dict(chapter) for chapter in chapters])
        stream = output.add_stream(
            codec, rate=25, width=width, height=height, time_base=time_base, options=options
        )
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_range = colorspace, color_range
        context.color_primaries, context.color_trc = color_primaries, color_trc
        context.field_order = field_order
        if pixel_aspect:
            context.sample_aspect_ratio = pixel_aspect
        if rotation:
            stream.set_display_rotation(rotation)
        if display_matrix:
            stream.set_display_matrix(display_matrix)
        if language:
            stream.metadata["language"] = language
        others = []
        if audio:
            codec = "pcm_s16le" if output.format.name == "mxf" else "aac"
            codec = audio if isinstance(audio, str) else codec
            others.append(_add_sound(output, codec, audio_layout, audio_start, audio_seconds))
        if subtitles:
            others.append(_add_subtitles(output))
        if cover:
            others.append(_add_cover(output))
        if attachment:
            output.add_attachment("notes.txt", "text/plain", b"hello")
        output.start_encoding()
        for packets in others:
            output.mux(packets())
        for index, tick in enumerate(pts):
            picture = noisy_picture(index, size, pix_fmt)
            picture.colorspace, picture.color_range = colorspace, color_range
            picture.pts, picture.time_base = tick, time_base
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


def with_last_held(clip: Path, seconds: int) -> Path:
    """The same clip in MP4, whose last picture is shown for so long."""
    held = clip.with_name("held.mp4")
    with av.open(str(clip)) as whole, av.open(str(held), "w") as copy:
        stream = copy.add_stream_from_template(whole.streams.video[0])
        *others, last = (packet for packet in whole.demux() if packet.size)
        assert last.time_base is not None
        last.duration = round(seconds / last.time_base)
        for packet in (*others, last):
            packet.stream = stream
            copy.mux(packet)
    return held


def noisy_picture(seed: int, size: tuple[int, int], pix_fmt: str) -> av.VideoFrame:
    """A picture whose samples take every value that its depth allows."""
    rng = np.random.default_rng(seed)
    picture = av.VideoFrame(*size, pix_fmt)
    depths = {part.plane: part.bits for part in picture.format.components}
    for index, plane in enumerate(picture.planes):
        dtype = np.dtype(np.uint16 if depths[index] > 8 else np.uint8)
        if pix_fmt.endswith("be"):
            dtype = dtype.newbyteorder(">")
        shape = (plane.height, plane.line_size // dtype.itemsize)
        noise = rng.integers(0, 2 ** depths[index], shape).astype(dtype)
        plane.update(noise.tobytes())
    return picture


def _add_sound(
    output: Any, codec: str, layout: str, start: Fraction, seconds: Fraction
) -> Callable[[], list[Any]]:
    """Noise, for so many seconds."""
    stream = output.add_stream(codec, rate=48_000)
    stream.layout = layout

    def packets() -> list[Any]:
        shape = (stream.channels, int(seconds * 48_000))
        samples = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        sound.sample_rate, sound.time_base = 48_000, Fraction(1, 48_000)
        sound.pts = int(start * 48_000)
        return [*stream.encode(sound), *stream.encode(None)]

    return packets


def _add_subtitles(output: Any) -> Callable[[], list[Any]]:
    """One line of text."""
    stream = output.add_mux_stream("subrip", time_base=Fraction(1, 1000))
    stream.metadata["language"] = "eng"

    def packets() -> list[Any]:
        packet = av.Packet(b"hello")
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = 40
        packet.duration = 200
        return [packet]

    return packets


def _add_cover(output: Any) -> Callable[[], list[Any]]:
    """A still picture, as music players show it."""
    stream = output.add_stream("mjpeg", rate=1, width=16, height=16)
    stream.pix_fmt = "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic

    def packets() -> list[Any]:
        picture = noisy_picture(0, (16, 16), "yuvj420p")
        picture.pts, picture.time_base = 0, Fraction(1)
        return [*stream.encode(picture), *stream.encode(None)]

    return packets
