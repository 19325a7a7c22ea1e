"""Time codes, by which editors find each frame, for a part of what was recorded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from fractions import Fraction

_FORM = re.compile(r"(\d+):(\d\d):(\d\d)([:;.,])(\d+)")
_CLOSE = Fraction(1, 100)  # of a frame, by which times in whole ticks may be early


def frames_in(seconds: Fraction, rate: Fraction) -> int:
    """How many frames begin before a moment, in seconds after the first."""
    return math.ceil(seconds * rate - _CLOSE)


def set_on(tags: Iterable[dict[str, str]], frames: int, rate: Fraction) -> None:
    """Set the time codes in tags on by so many frames."""
    for each in tags:
        for key in each:
            if key.lower() == "timecode":
                each[key] = advanced(each[key], frames, rate)


def advanced(timecode: str, frames: int, rate: Fraction) -> str:
    """A time code so many frames later (SMPTE ST 12-1); the same text if it is none.

    One with a semicolon leaves out two numbers, at 60 frames a second four, at the beginning of
    each minute but every tenth: so it keeps up with the clock at 29.97 frames a second.
    """
    found = _FORM.fullmatch(timecode)
    if found is None:
        return timecode
    hours, minutes, seconds, number = (int(found[index]) for index in (1, 2, 3, 5))
    minutes += 60 * hours
    a_second = round(rate)
    dropped = 0 if found[4] == ":" else a_second // 30 * 2
    count = (60 * minutes + seconds) * a_second + number - dropped * (minutes - minutes // 10)
    ten_minutes = 600 * a_second - 9 * dropped
    tens, rest = divmod((count + frames) % (144 * ten_minutes), ten_minutes)
    minutes = 10 * tens + max(0, (rest - dropped) // (60 * a_second - dropped))
    count = tens * ten_minutes + rest + dropped * (minutes - minutes // 10)
    seconds, number = divmod(count, a_second)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{clock}{found[4]}{number:02}"
