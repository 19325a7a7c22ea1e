"""What the values of options may be: each function reads one, or says what is wrong with it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import Literal


def size(text: str) -> str:
    """Width and height of a picture, in pixels: `1280x720`."""
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 1280x720")
    return text


def rate(text: str) -> str:
    """Frames a second: `30`, `29.97` or `30000/1001`."""
    if not re.fullmatch(r"\d+(\.\d+|/\d+)?", text, re.ASCII) or not float(text.partition("/")[0]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of frames such as 30")
    return text


def seconds(text: str) -> float:
    """Seconds from 0 up."""
    with suppress(ValueError):
        if float(text) >= 0:  # which is false for what is no number
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 up")


def moment(text: str) -> Fraction:
    """Seconds, exactly: `90`, `1.5`, `1:30` or `1:02:03.25`."""
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither seconds nor [HH:]MM:SS[.fff]")
    hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
    if (match[1] and minutes >= 60) or (match[2] and seconds >= 60):
        raise argparse.ArgumentTypeError(f"{text!r} has 60 or more minutes or seconds")
    return hours * 3600 + minutes * 60 + seconds


def duration(text: str) -> Fraction:
    """Seconds as for `moment`, more than none."""
    if not (seconds := moment(text)):
        raise argparse.ArgumentTypeError("must be more than 0")
    return seconds


def up_to(most: int) -> Callable[[str], float]:
    """What reads numbers from 0 to `most`."""

    def number(text: str) -> float:
        with suppress(ValueError):
            if 0 <= float(text) <= most:
                return float(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and {most}")

    return number


def whole(least: int) -> Callable[[str], int]:
    """What reads whole numbers from `least` up."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} up")
        return int(text)

    return parse


def tile(text: str) -> int | Literal["auto", "off"]:
    """Side of a tile in pixels, or a word."""
    if text == "auto":
        return "auto"
    if text == "off":
        return "off"
    with suppress(argparse.ArgumentTypeError):
        return whole(1)(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not auto, off or a number of pixels")


def place(text: str) -> tuple[str, int]:
    """An address to listen on and a port: `8000`, `0.0.0.0:8000`, `[::1]:8000`."""
    match = re.fullmatch(r"(?:([^:\[\]]+|\[[^\[\]]+\]):)?(\d{1,5})", text, re.ASCII)
    if match is None or int(match[2]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not [HOST:]PORT, with a port up to 65535")
    return (match[1] or "127.0.0.1").strip("[]"), int(match[2])


def pair(text: str) -> tuple[str, str]:
    """A name and a value: `NAME=VALUE`."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return key, value
