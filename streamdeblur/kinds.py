"""What kind of thing is to be deblurred, and which options would do nothing for it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

from streamdeblur.arguments import default
from streamdeblur.errors import VideoError
from streamdeblur.inputs import are_several, foreign, is_image_file
from streamdeblur.live import addresses
from streamdeblur.live.restream import is_stream

Kind = Literal["image", "file", "files", "played"] | addresses.Kind
"""A picture, a video, several of either, a file as if it were live, or a kind of what is live."""

_FILES: set[Kind] = {"file", "files"}
_LIVE: set[Kind] = {"played", "camera", "screen", "stream", "pipe", "filter"}
_SCREENS: set[Kind] = {"camera", "screen"}
# Options that do nothing for some kinds: those for which they do, and how a person calls them.
_FITTING: tuple[tuple[str, set[Kind], str], ...] = (
    ("start duration deinterlace decoder", _FILES | {"played"}, "files"),
    ("input_format input_option", _FILES | {"played", "pipe"}, "files and standard input"),
    ("codec crf preset encoder_option", _FILES | _LIVE, "videos"),
    ("format skip_sharp", _FILES, "files"),
    ("report resume views", _FILES | {"image"}, "files"),
    ("camera_size camera_rate", _SCREENS, "cameras and screens"),
    ("camera_format", {"camera"}, "cameras"),
    ("rtsp_transport", {"stream"}, "streams"),
    ("retry", _SCREENS | {"stream"}, "cameras and streams"),
    ("max_latency keep_model", _LIVE, "what is live"),
    ("no_sound", _LIVE - _SCREENS, "streams"),
    ("realtime", {"played", "pipe"}, "a single file and standard input"),
    ("recursive", {"files"}, "folders"),
)


def kind_of(options: argparse.Namespace) -> tuple[Kind, str]:
    """What the inputs are, and in words for messages: "clip.mp4 is a file".

    Raises:
        VideoError: the name of what is live is not complete, or is that of an image of no use here.
    """
    if are_several(options.inputs):
        return "files", "these are files"
    (name,) = options.inputs
    if is_image_file(name) and not options.realtime:
        return "image", f"{Path(name)} is an image"
    address = addresses.live_address(name)
    if address is not None and not (address.kind == "pipe" and is_whole(options)):
        return address.kind, f"{address.shown} is live"
    if why := foreign(Path(name)):
        raise VideoError(f"can't deblur {name}: {why}")
    if options.realtime:
        return "played", f"{name} is played live"
    return "file", f"{address.shown if address else name} is a file"


def refuse_unfit(options: argparse.Namespace, kind: Kind, what: str) -> None:
    """Refuse options that would be ignored.

    Args:
        options: the command line's.
        kind: of the inputs, as `kind_of` tells it; and `what` they are, for the message.

    Raises:
        VideoError: an option that is not for this kind has another value than by default.
    """
    for names, kinds, meant in _FITTING:
        for name in names.split():
            if kind not in kinds and getattr(options, name) != default(name):
                why = "" if kind == "image" else f", which is for {meant}"
                raise VideoError(f"{what}: leave out --{name.replace('_', '-')}{why}")


def has_files_alone(options: argparse.Namespace) -> bool:
    """Whether the outputs asked for are one file, folder or pipe at most, and nothing live."""
    is_live = options.preview or options.serve or options.virtual_cam
    streams = [output for output in options.output if output != "-" and is_stream(output)]
    return not (is_live or len(options.output) > 1 or streams)


def is_whole(options: argparse.Namespace) -> bool:
    """Whether standard input is read like a file: it has an output, and nothing live."""
    return bool(options.output) and not options.realtime and has_files_alone(options)
