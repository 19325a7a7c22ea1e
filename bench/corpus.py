"""Clips to be damaged: made in many containers and codecs, and cut from real ones."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.clips import write_clip

_CHAPTER = {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {}}
_QUIET = {"x265-params": "log-level=none"}
_FULL = {"audio": True, "chapters": [_CHAPTER], "metadata": {"title": "Holiday"}}
# How each clip is made; those without an entry for the codec are H.264.
_CORPUS: dict[str, dict[str, Any]] = {
    "rotated.mp4": {**_FULL, "rotation": 90, "cover": True},
    "vfr.mp4": {"pts": [0, 3003, 6007, 12_012, 12_013, 30_000], "time_base": Fraction(1, 90_000)},
    "interlaced.mp4": {"options": {"flags": "+ildct+ilme"}, "field_order": 2},
    "chapters.mov": _FULL,
    "aspect.m4v": {"pixel_aspect": Fraction(4, 3), "audio": True},
    "tracks.mkv": {**_FULL, "subtitles": True, "attachment": True},
    "h264.ts": {"audio": True},
    "h264.flv": {"audio": True},
    "h264.avi": {"options": {"bf": "0"}},
    "h264.h264": {},
    "ten.mkv": {"pix_fmt": "yuv420p10le"},
    "hevc.mp4": {"codec": "libx265", "size": (64, 48), "options": _QUIET, "audio": True},
    "hevc.ts": {"codec": "libx265", "size": (64, 48), "options": _QUIET},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "av1.webm": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp8.webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4.mp4": {"codec": "mpeg4", "audio": True},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "mpeg2.mpg": {"codec": "mpeg2video"},
    "wmv.asf": {"codec": "wmv2"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "pts": range(4)},
    "ffv1.mkv": {"codec": "ffv1", "size": (33, 17)},
    "ffv1.avi": {"codec": "ffv1", "pix_fmt": "yuv444p"},
    "alpha.mkv": {"codec": "ffv1", "pix_fmt": "yuva420p"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "audio": True},
    "raw.avi": {"codec": "rawvideo", "pts": range(4)},
    "raw.y4m": {"codec": "wrapped_avframe", "pts": range(4)},
    "qtrle.mov": {"codec": "qtrle", "pix_fmt": "argb"},
    "gif.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "photo.png": {"codec": "png", "pix_fmt": "rgb24", "pts": [0]},
    "photo.jpg": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "pts": [0]},
    "photo.tif": {"codec": "tiff", "pix_fmt": "rgb48le", "pts": [0]},
    "photo.webp": {"codec": "libwebp", "pix_fmt": "yuv420p", "pts": [0]},
}
# How clips are cut: by name, options of the muxer.
_CUTS = {
    "fast.mp4": {"movflags": "faststart"},
    "fragments.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "cut.mkv": {},
    "cut.ts": {},
}


def make_clips(folder: Path, more: list[Path]) -> None:
    """Write the clips into a folder, some of them cut from `more`."""
    for name, options in _CORPUS.items():
        write_clip(folder / name, **{"size": (48, 32), "pts": range(8), **options})
    for number, path in enumerate([folder / "rotated.mp4", *more]):
        for name, options in _CUTS.items():
            _cut(path, folder / f"real{number}{name}", options)


def _cut(path: Path, output: Path, options: dict[str, str], frames: int = 6) -> None:
    """Copy the first packets of a clip, the picture's and what lies between them."""
    with av.open(str(path)) as source, av.open(str(output), "w", container_options=options) as new:
        streams = [source.streams.video[0], *source.streams.audio]
        copies = {stream.index: new.add_stream_from_template(stream) for stream in streams}
        for packet in source.demux(streams):
            frames -= packet.stream.type == "video"
            if frames < 0:
                return
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                new.mux(packet)
