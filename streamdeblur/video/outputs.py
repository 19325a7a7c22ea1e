"""What an output is called, whether it may be written, and the container that grows there."""

from __future__ import annotations

import math
import os
from pathlib import Path

import av
from av.container import OutputContainer

from streamdeblur.errors import VideoError
from streamdeblur.frames import VideoInfo
from streamdeblur.video.containers import AS_BYTES, goes_back, is_one_file

_AUDIO_RATE = 48_000


def default_output(path: Path) -> Path:
    """The output's name beside the input: `clip.mp4` gives `clip.deblurred.mp4`."""
    return path.with_name(f"{path.stem}.deblurred{path.suffix}")


def part_name(path: Path) -> Path:
    """Where an output grows: `clip.mp4` as `clip.part.mp4`."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


def refuse_paths(path: Path, part: Path, original: Path | None, overwrite: bool) -> None:
    """Refuse to write where it would fail, or harm a file that is there.

    Raises:
        VideoError: says which, and what to do.
    """
    if not path.parent.is_dir():
        raise VideoError(f"can't write {path}: there is no folder {path.parent}; create it first")
    if path.is_dir():
        raise VideoError(f"can't write {path}: it is a folder; name a file in it")
    for name in (path, part):
        if original is not None and _are_same(original, name):
            raise VideoError(f"can't write {path}: it would replace the input; choose another name")
    if path.exists() and not overwrite:
        raise VideoError(f"{path} exists; pass --overwrite to replace it")
    if not os.access(path.parent, os.W_OK):
        raise VideoError(f"can't write {path}: {path.parent} is not yours to write in")


def _are_same(original: Path, name: Path) -> bool:
    """Whether two names lead to one file; standard input has none."""
    return original.exists() and name.exists() and original.samefile(name)


def open_pipe(descriptor: int, form: str | None, info: VideoInfo) -> OutputContainer:
    """The container that goes into a pipe, of which nothing is written yet.

    Raises:
        VideoError: there is none of this name, or it cannot be written without going back.
    """
    options = {**_container_options(info), "movflags": "frag_keyframe+empty_moov"}
    try:
        output = av.open(
            f"pipe:{descriptor}",
            "w",
            format=form,
            container_options=options,
            metadata_errors=AS_BYTES,
        )
    except ValueError as error:
        raise VideoError(
            f"there is no format {form}: use matroska, mpegts, nut, mp4, yuv4mpegpipe or rawvideo"
        ) from error
    if goes_back(output) or not is_one_file(output):
        raise VideoError(f"{output.format.name} can't be written to a pipe: use matroska or mpegts")
    return _deep(output)


def open_output(
    path: Path, part: Path, info: VideoInfo, form: str | None = None
) -> OutputContainer:
    """The container that grows as `part`, of which nothing is written yet.

    Raises:
        VideoError: no container has the extension of `path`.
    """
    try:
        output = av.open(
            str(part.absolute()),
            "w",
            format=form,
            container_options=_container_options(info),
            metadata_errors=AS_BYTES,
        )
    except ValueError as error:
        if form:
            raise VideoError(f"there is no format {form}: leave out --format") from error
        end = f"no video container ends in “{path.suffix}”" if path.suffix else "it ends in nothing"
        advice = "use -o NAME.mp4, .mov, .mkv, .webm or .avi"
        raise VideoError(f"can't write {path}: {end}; {advice}") from error
    if not is_one_file(output):
        name = output.format.name
        why = "an image holds no video" if name == "image2" else f"{name} is not one file"
        raise VideoError(f"can't write {path}: {why}; use .mp4")
    return _deep(output)


def _deep(output: OutputContainer) -> OutputContainer:
    """The container, ready for more than 8 bits, which Y4M has by custom and not by its rules."""
    if output.format.name == "yuv4mpegpipe":
        output.container_options["strict"] = "unofficial"
    return output


def _container_options(info: VideoInfo) -> dict[str, str]:
    """Options that keep timestamps as they are; containers ignore those of others."""
    ticks = info.time_base.denominator
    both = math.lcm(ticks, _AUDIO_RATE)
    return {
        "video_track_timescale": str(ticks),
        # The clock of start offsets: by default they are rounded to milliseconds.
        "movie_timescale": str(both if both < 2**31 else ticks),
        "mpegts_copyts": "1",  # else a transport stream's clock is moved
    }
