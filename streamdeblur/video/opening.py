"""Opening files for reading, those of strangers too: nothing else that they may name is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.error import FFmpegError

from streamdeblur.errors import VideoError
from streamdeblur.video.containers import AS_BYTES
from streamdeblur.video.ffmpeg import explained
from streamdeblur.video.headers import BOUNDS, begins_late

_MAKE_UP_TIMES = 0x0001  # AVFMT_FLAG_GENPTS
# How far a file is looked into, in bytes and in microseconds, where a track begins late; else it
# is 5 MB and 5 s, or a little more. What is looked at is held in memory.
_PATIENT = {"probesize": str(64 << 20), "analyzeduration": str(600_000_000)}
# Formats that make FFmpeg open what a file names, or run it: playlists, sessions, scripts.
# fmt: off
_REFERRING = {
    "avisynth", "concat", "dash", "hls", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp",
    "vapoursynth", "vobsub", "webm_dash_manifest",
}
# fmt: on
STANDARD_INPUT = Path("standard input")
"""Stands for what `-` means; known by its identity, since a file may have this name."""


def is_pipe(path: Path) -> bool:
    """Whether a file can be read but once."""
    return path is STANDARD_INPUT or path.is_fifo()


def open_container(
    path: Path,
    accelerator: HWAccel | None = None,
    form: str | None = None,
    options: Mapping[str, str] | None = None,
) -> InputContainer:
    """Open a file of this computer for reading, and nothing else that it may name.

    Args:
        path: the file's.
        accelerator: the hardware that decodes it; None for the processor.
        form: FFmpeg's name of its format; None where it tells by itself.
        options: for that format.

    Raises:
        VideoError: it is missing, a folder, empty, not allowed, a playlist, or not a video.
    """
    if path is not STANDARD_INPUT:
        _refuse(path)
    container = _opened(path, accelerator, form, options or {})
    if not is_pipe(path) and any(map(begins_late, container.streams)):
        container.close()
        container = _opened(path, accelerator, form, {**_PATIENT, **(options or {})})
    if container.format.name == "avi":
        # It stores no times of presentation, and those that FFmpeg makes up come a frame late.
        container.flags &= ~_MAKE_UP_TIMES
    return container


def _refuse(path: Path) -> None:
    if path.is_dir():
        raise VideoError(f"can't open {path}: it is a folder; name a video file in it")
    if not path.exists():
        raise VideoError(f"can't open {path}: no such file; check the spelling and the folder")
    if path.is_file() and path.stat().st_size == 0:
        raise VideoError(f"can't open {path}: the file is empty; copy it again from where it was")


def _opened(
    path: Path, accelerator: HWAccel | None, form: str | None, options: Mapping[str, str]
) -> InputContainer:
    url, protocol = str(path.absolute()), "file"  # a relative one with a colon would be a URL
    if path is STANDARD_INPUT:
        url, protocol = "pipe:0", "pipe"
    with explained(f"can't open {path}", "is it a complete video file that you may read?"):
        try:
            return av.open(
                url,
                format=form,
                options=BOUNDS,  # also of the decoders that look at the first pictures
                container_options={
                    **options,
                    "protocol_whitelist": protocol,
                    "format_whitelist": ",".join(av.formats_available - _REFERRING),
                    "pattern_type": "none",  # `%03d.png` is one picture and no series
                },
                metadata_errors=AS_BYTES,
                hwaccel=accelerator,
            )
        except FFmpegError as error:
            if "Format not on whitelist" not in str(error.log):
                raise
            raise VideoError(
                f"can't open {path}: it is a list of other files or addresses; give one of those"
            ) from error
