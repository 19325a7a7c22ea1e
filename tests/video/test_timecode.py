"""Time codes of a part."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from streamdeblur.video.timecode import advanced
from tests.conftest import ClipMaker
from tests.footage import deblur, pictures


def counted(a_second: int, dropped: int) -> list[str]:
    """The time codes of two hours, by the rule as it is written."""
    return [
        f"{hour:02}:{minute:02}:{second:02};{number:02}"
        for hour in range(2)
        for minute in range(60)
        for second in range(60)
        for number in range(a_second)
        if number >= dropped or second or minute % 10 == 0
    ]


@pytest.mark.parametrize(("a_second", "dropped"), [(30, 2), (60, 4)])
def test_numbers_are_dropped_as_the_standard_says(a_second: int, dropped: int) -> None:
    codes = counted(a_second, dropped)
    rate = Fraction(1000 * a_second, 1001)
    for frames in range(0, len(codes) - 1800, 1787):
        assert advanced(codes[0], frames, rate) == codes[frames]
        assert advanced(codes[1800], frames, rate) == codes[frames + 1800]


def test_a_day_has_an_end() -> None:
    assert advanced("23:59:59:24", 1, Fraction(25)) == "00:00:00:00"
    assert advanced("23:59:59;29", 2, Fraction(30_000, 1001)) == "00:00:00;01"
    assert advanced("unknown", 1, Fraction(25)) == "unknown"


@pytest.mark.parametrize("name", ["in.mov", "in.mp4", "in.mxf"])
def test_the_time_code_of_a_part_is_that_of_its_first_frame(
    make_clip: ClipMaker, name: str
) -> None:
    tags = {"timecode": "00:59:59:00"}
    path = make_clip(name, pts=range(40), codec="mpeg2video", metadata=tags)
    whole, part = path.with_name("whole.mov"), path.with_name("part.mov")
    deblur(path, whole, codec="libx264")
    assert (len(pictures(whole)), timecode(whole)) == (40, "00:59:59:00")
    deblur(path, part, codec="libx264", start=Fraction("1.01"))
    assert (len(pictures(part)), timecode(part)) == (40 - 26, "01:00:00:01")


def timecode(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.streams.video[0].metadata["timecode"]
