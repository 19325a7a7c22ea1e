from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from streamdeblur.frames import rgb_view
from streamdeblur.video.upright import upright

TURN, MIRROR = 1 << 16, -(1 << 16)


def matrix(a: int, b: int, c: int, d: int) -> tuple[int, ...]:
    return (a, b, 0, c, d, 0, 0, 0, 1 << 30)


def corners(picture: av.VideoFrame) -> list[int]:
    """The light of the four corners, row by row."""
    image = rgb_view(picture)[..., 0].astype(int)
    rows, columns = image.shape[0] // 4, image.shape[1] // 4
    return [int(image[y, x]) for y in (rows, -rows) for x in (columns, -columns)]


def picture(layout: str = "gray") -> av.VideoFrame:
    """Its corners have the light 0, 80, 160 and 240, row by row."""
    image = np.repeat(np.repeat(np.uint8([[0, 80], [160, 240]]), 24, axis=0), 32, axis=1)
    made = av.VideoFrame.from_ndarray(image, format="gray").reformat(format=layout)
    made.pts, made.time_base = 7, Fraction(1, 25)
    return made


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ((TURN, 0, 0, TURN), [0, 80, 160, 240]),
        ((0, TURN, MIRROR, 0), [160, 0, 240, 80]),  # clockwise
        ((0, MIRROR, TURN, 0), [80, 240, 0, 160]),
        ((MIRROR, 0, 0, MIRROR), [240, 160, 80, 0]),
        ((MIRROR, 0, 0, TURN), [80, 0, 240, 160]),
        ((TURN, 0, 0, MIRROR), [160, 240, 0, 80]),
        ((0, TURN, TURN, 0), [0, 160, 80, 240]),
        ((0, MIRROR, MIRROR, 0), [240, 80, 160, 0]),
        ((TURN, TURN, MIRROR, TURN), [0, 80, 160, 240]),  # by 45 degrees: left alone
    ],
)
def test_a_picture_is_turned_and_mirrored(numbers: tuple[int, ...], found: list[int]) -> None:
    turned = upright(picture(), matrix(*numbers))
    assert corners(turned) == found
    assert (turned.pts, turned.time_base) == (7, Fraction(1, 25))


@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p10le", "nv12", "yuyv422", "bgr0"])
def test_a_turned_picture_keeps_its_layout(layout: str) -> None:
    turned = upright(picture(layout), matrix(0, TURN, MIRROR, 0))
    assert (turned.width, turned.height, turned.format.name) == (48, 64, layout)
    assert np.allclose(corners(turned), [160, 0, 240, 80], atol=2)
