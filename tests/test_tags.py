"""What TIFF files tell of their pictures. libexif, through libvips, judges what was written."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st

from streamdeblur import tags
from streamdeblur.images import ImageOutput, corrected_samples, notices_of, read_image

Entry = tuple[int, int, int, bytes | list["Entry"]]
"""Tag, kind, count, and its value or the directory that it refers to."""
SUFFIXES = (".jpg", ".png", ".webp", ".avif", ".tif")


def directory(entries: list[Entry], order: str, start: int) -> bytes:
    body, rest = struct.pack(f"{order}H", len(entries)), b""
    end = start + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        place = struct.pack(f"{order}I", end + len(rest))
        if isinstance(value, list):
            rest += directory(value, order, end + len(rest))
            value = place
        elif len(value) > 4:
            rest += value + bytes(len(value) % 2)
            value = place
        body += struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")
    return body + bytes(4) + rest


def described(order: str, samples: bytes = b"") -> bytes:
    """A TIFF file of 8x6 gray pixels, or a block of EXIF without any."""

    def longs(*numbers: int) -> bytes:
        return struct.pack(f"{order}{len(numbers)}I", *numbers)

    picture: list[Entry] = []
    if samples:
        picture = [(256, 4, 1, longs(8)), (257, 4, 1, longs(6))]
        picture += [(258, 3, 1, struct.pack(f"{order}H", 8)), (259, 3, 1, longs(0x10001))]
        picture += [(262, 3, 1, longs(0x10001)), (273, 4, 1, longs(8)), (279, 4, 1, longs(48))]
    exif: list[Entry] = [
        (33434, 5, 1, longs(1, 250)),
        (36867, 2, 20, b"2026:01:02 03:04:05\0"),
        (40965, 4, 1, [(1, 2, 4, b"R98\0")]),
    ]
    place: list[Entry] = [(1, 2, 2, b"N\0"), (2, 5, 3, longs(47, 1, 30, 1, 15, 2))]
    told: list[Entry] = [
        (315, 2, 4, b"Zoe\0"),
        (33432, 2, 14, b"Zoe Doe, 2026\0"),
        (34665, 4, 1, exif),
        (34853, 4, 1, place),
        (65000, 3, 1, b"\x01\x02"),
    ]
    start = 8 + len(samples)
    head = struct.pack(f"{order}2sHI", {"<": b"II", ">": b"MM"}[order], 42, start)
    return head + samples + directory(picture + told, order, start)


TOLD = {
    "ifd0-Artist": "Zoe",
    "ifd0-Copyright": "Zoe Doe, 2026 ",
    "ifd2-ExposureTime": "1/250",
    "ifd2-DateTimeOriginal": "2026:01:02 03:04:05",
    "ifd3-GPSLatitude": "47/1 30/1 15/2",
    "ifd4-InteroperabilityIndex": "R98",
}

SIZE = len(described("<"))


def judged(path: Path) -> dict[str, str]:
    """What libexif finds in a file, to which a TIFF file is a block of EXIF."""
    image = pyvips.Image.new_from_buffer(path.read_bytes(), "")
    if path.suffix == ".tif":
        block = b"Exif\0\0" + path.read_bytes()
        image.set_type(pyvips.GValue.blob_type, "exif-data", block)
        image = pyvips.Image.new_from_buffer(image.write_to_buffer(".jpg"), "")
    found = [name for name in TOLD if image.get_typeof(f"exif-{name}")]
    return {name: image.get(f"exif-{name}").split(" (")[0] for name in found}


def rewritten(path: Path, output: Path) -> list[str]:
    image = read_image(path)
    ImageOutput(output, path).write(image, corrected_samples(image, 255 - image.view))
    return notices_of(image, output)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_tiff_tells_is_carried(suffix: str, order: str, tmp_path: Path) -> None:
    path, output = tmp_path / "in.tif", tmp_path / f"out{suffix}"
    path.write_bytes(described(order, samples=bytes(range(48))))
    notices = rewritten(path, output)
    assert notices == [f"the TIFF tags 65000 of {path} can't be kept in {suffix}"]
    assert judged(output) == TOLD
    if suffix == ".tif":
        written = pyvips.Image.new_from_buffer(output.read_bytes(), "", fail_on="truncated")
        assert np.array_equal(written.numpy().ravel(), 255 - np.arange(48))


@pytest.mark.parametrize("suffix", SUFFIXES[:-1])
def test_a_tiff_made_of_another_image_is_told_the_same(suffix: str, tmp_path: Path) -> None:
    path, output = tmp_path / f"in{suffix}", tmp_path / "out.tif"
    image = pyvips.Image.black(8, 6)
    image.set_type(pyvips.GValue.blob_type, "exif-data", b"Exif\0\0" + described(">"))
    path.write_bytes(image.write_to_buffer(suffix))
    assert rewritten(path, output) == []
    assert judged(output) == TOLD


def test_what_only_tiff_can_hold_is_named() -> None:
    place = np.array([1.0, 2.0, 3.0])
    data = tags.alone({33550: (12, place), 315: (2, np.frombuffer(b"Z\0", np.uint8))})
    assert tags.lost(data, in_exif=False) == []
    assert tags.lost(data, in_exif=True) == [33550]


def test_big_tiffs_are_read() -> None:
    data = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + struct.pack("<Q", 2)
    data += struct.pack("<HHQ8s", 315, 2, 8, b"Zoe Doe\0") + struct.pack("<HHQQ", 34853, 18, 1, 64)
    data = data.ljust(64) + struct.pack("<QHHQ8s", 1, 1, 2, 2, b"N\0")
    told = tags.told(tags.alone(tags.told(data)))
    assert isinstance(told[315], tuple)
    assert bytes(told[315][1]) == b"Zoe Doe\0"
    assert isinstance(told[34853], dict)
    assert list(told[34853]) == [1]


@given(
    st.dictionaries(st.integers(0, SIZE - 1), st.integers(0, 255), max_size=12),
    st.integers(0, SIZE),
)
def test_damage_does_no_harm(changes: dict[int, int], length: int) -> None:
    data = bytearray(described("<"))
    for place, value in changes.items():
        data[place] = value
    told = tags.told(bytes(data[:length]))
    assert {} not in told.values()
    assert len(tags.alone(told)) < 20 * SIZE
