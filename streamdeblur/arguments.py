"""The command line: its options, their help, and what their values may be."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

_EXAMPLES = """\
examples:
  streamdeblur holiday.mp4             writes holiday.deblurred.mp4 beside it
  streamdeblur holiday.mp4 -o sharp.mkv --crf 12
  streamdeblur holiday.mp4 --start 1:30 --duration 10 --compare
                                       ten seconds, before and after together
  streamdeblur holiday.mp4 --model my.onnx --device cuda
  streamdeblur 0                       shows the first camera deblurred; q quits
  streamdeblur 0 --serve 8000          shows it in a browser on this computer

exit codes:
  0 done, 1 failed (one line says why), 2 wrong usage, 130 stopped by Ctrl-C
"""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, by default the process's own.

    Raises:
        SystemExit: it is wrong (2), or only asked for help (0).
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.input is None and options.question is None:
        parser.error("name a video file or a camera; --help says more")
    if options.serve and options.compare:
        parser.error("the page has a divider between before and after: leave out --compare")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamdeblur",
        usage="streamdeblur INPUT [-o OUTPUT] [OPTIONS]",
        description="Remove motion blur from a video file, or from a camera while you watch.\n"
        "Sound, subtitles, timing, rotation and colours stay as they are.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # so that a new option never changes what an old command means
    )
    add = parser.add_argument
    add(
        "input",
        metavar="INPUT",
        nargs="?",
        help="a video file, or a camera: its number (0) or device",
    )
    add("-o", "--output", type=Path, metavar="OUTPUT", help="default: INPUT.deblurred.EXT")
    add("-f", "--overwrite", action="store_true", help="replace OUTPUT if it exists")
    question: dict[str, Any] = {"action": "store_const", "dest": "question"}
    add("--version", **question, const="version", help="show the program's version and exit")

    add = parser.add_argument_group("network").add_argument
    add(
        "-m",
        "--model",
        metavar="NAME|FILE",
        default="fast",
        help="a bundled model or an ONNX file (default: %(default)s)",
    )
    add("--list-models", **question, const="models", help="show the bundled models and exit")
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto takes an NVIDIA GPU if it works, else the processor (default: %(default)s)",
    )
    add("--gpu", type=_whole(0), default=0, metavar="N", help="which GPU (default: %(default)s)")
    add("--threads", type=_whole(1), metavar="N", help="for the network; default: one a core")

    add = parser.add_argument_group("picture").add_argument
    add(
        "--strength",
        type=_strength,
        default=1.0,
        metavar="0..1",
        help="how much of the correction is applied (default: %(default)s)",
    )
    add("--compare", action="store_true", help="show before and after side by side")
    add(
        "--serve",
        type=_place,
        metavar="[HOST:]PORT",
        help="show a camera in a web page, on 127.0.0.1 or HOST, instead of a window",
    )
    add("--start", type=_moment, metavar="T", help="skip to T: seconds or [HH:]MM:SS[.fff]")
    add("--duration", type=_duration, metavar="T", help="stop after T, written in the same way")

    add = parser.add_argument_group("encoding of the output").add_argument
    add("--codec", metavar="NAME", help="h264, hevc, av1, vp9, prores, ffv1 or an FFmpeg encoder; "
        "default: as the input")  # fmt: skip
    add("--crf", type=_whole(0), metavar="N", help="quality: lower is better and larger")
    add("--preset", metavar="NAME", help="the encoder's speed, for example veryfast or slow")
    add(
        "--encoder-option",
        type=_pair,
        action="append",
        default=[],
        metavar="K=V",
        help="any other option of the encoder; may be repeated",
    )

    talk = parser.add_argument_group("messages").add_mutually_exclusive_group()
    talk.add_argument("--quiet", action="store_true", help="say nothing but errors")
    talk.add_argument("--verbose", action="store_true", help="say more of what is done")
    return parser


def _moment(text: str) -> Fraction:
    """Seconds, exactly: `90`, `1.5`, `1:30` or `1:02:03.25`."""
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither seconds nor [HH:]MM:SS[.fff]")
    hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
    if (match[1] and minutes >= 60) or (match[2] and seconds >= 60):
        raise argparse.ArgumentTypeError(f"{text!r} has 60 or more minutes or seconds")
    return hours * 3600 + minutes * 60 + seconds


def _duration(text: str) -> Fraction:
    if not (seconds := _moment(text)):
        raise argparse.ArgumentTypeError("must be more than 0")
    return seconds


def _strength(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} up")
        return int(text)

    return parse


def _place(text: str) -> tuple[str, int]:
    """An address to listen on and a port: `8000`, `0.0.0.0:8000`, `[::1]:8000`."""
    match = re.fullmatch(r"(?:([^:\[\]]+|\[[^\[\]]+\]):)?(\d{1,5})", text, re.ASCII)
    if match is None or int(match[2]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not [HOST:]PORT, with a port up to 65535")
    return (match[1] or "127.0.0.1").strip("[]"), int(match[2])


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return key, value
