"""What TIFF files tell of their pictures by tags (TIFF 6.0, section 2; EXIF 2.32, 4.6).

libvips keeps it in no TIFF file. A block of EXIF is a TIFF file without a picture, so that what one
tells can be carried into the other as well.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

Tags: TypeAlias = dict[int, Union[tuple[int, NDArray[Any]], "Tags"]]
"""For each tag its kind and numbers, or the tags that it refers to."""

_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
_REFERRING: dict[int, Any] = {_EXIF: {_INTEROPERABILITY: {}}, _GPS: {}}
# Of documents, cameras, authors and colours. What is not known is not kept: it could refer to
# places in the file, which change.
_COMMON = {269, 270, 271, 272, 301, 305, 306, 315, 318, 319, 33432, *range(40091, 40096)}
_COMMON |= _REFERRING.keys()
# Pages, hosts, ratings, places on maps (GeoTIFF, GDAL): what libexif, and so libvips, keeps not.
_NOT_IN_EXIF = {285, 316, 18246, 18249, 33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113}
# What belongs to the samples and is the encoder's to write, or what libvips does keep.
_OWN = {254, 255, 266, 274, 296, 297, 317, 320, 338, 339, 347, *range(256, 260), *range(262, 265)}
_OWN |= {*range(273, 285), *range(322, 326), *range(512, 533), 700, 33723, 34377, 34675}
# By the kind of a tag: NumPy's type, and how many such numbers one value has.
_KINDS = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4"}
_KINDS |= {10: "i4", 11: "f4", 12: "f8", 13: "u4", 16: "u8", 18: "u8"}
_PAIRS = {5, 10}
_LONG = 4
_PLACES = {4, 13, 16, 18}
_BIG = {16, 18}  # which only BigTIFF has


def told(data: bytes) -> Tags:
    """The tags of a TIFF file or block of EXIF that can be carried; damaged ones are left out."""
    found = _all(data)
    return {tag: found[tag] for tag in found if tag in _COMMON | _NOT_IN_EXIF}


def lost(data: bytes, *, in_exif: bool) -> list[int]:
    """The tags of a TIFF file or block of EXIF that cannot be carried into another.

    Args:
        data: the file or block.
        in_exif: whether they are carried into a block of EXIF, by libvips, or a TIFF file.
    """
    kept = _COMMON if in_exif else _COMMON | _NOT_IN_EXIF
    return sorted(_all(data).keys() - kept - _OWN)


def alone(tags: Tags) -> bytes:
    """A TIFF file of nothing but tags, as blocks of EXIF are."""
    return struct.pack("<2sHI", b"II", 42, 8) + _written(tags, {}, "<", 8)


def added(tags: Tags, data: bytes) -> bytes:
    """The TIFF file `data`, of one picture, with these tags besides those that it has."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    places = range(start + 2, start + 2 + 12 * count, 12)
    there = {struct.unpack_from(f"{order}H", data, at)[0]: data[at : at + 12] for at in places}
    new = {tag: value for tag, value in tags.items() if tag not in there}
    data += b"\0" * (len(data) % 2)
    head = data[:4] + struct.pack(f"{order}I", len(data))
    return head + data[8:] + _written(new, there, order, len(data))


def _all(data: bytes) -> Tags:
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    with suppress(struct.error):
        if order and data[2:4] in (b"*\0", b"\0*"):
            (start,) = struct.unpack_from(f"{order}I", data, 4)
            return _read(data, order, "HI", start, _REFERRING)
        if order and data[2:4] in (b"+\0", b"\0+"):  # BigTIFF
            (start,) = struct.unpack_from(f"{order}Q", data, 8)
            return _read(data, order, "QQ", start, _REFERRING)
    return {}


def _read(data: bytes, order: str, words: str, start: int, referring: dict[int, Any]) -> Tags:
    """The directory at `start`; `words` are the types of its length, and of what is in it."""
    found: Tags = {}
    left = len(data)  # which no honest directory tells twice
    head, size = f"{order}HH{words[1]}", struct.calcsize(words[1])
    with suppress(struct.error, OverflowError):
        (count,) = struct.unpack_from(order + words[0], data, start)
        start += struct.calcsize(words[0])
        for at in range(start, start + count * (4 + 2 * size), 4 + 2 * size):
            tag, kind, values = struct.unpack_from(head, data, at)
            numbers = values * (2 if kind in _PAIRS else 1)
            kind_of_number = np.dtype(order + _KINDS.get(kind, "u1"))
            length = numbers * kind_of_number.itemsize
            place = at + 4 + size
            if length > size:
                (place,) = struct.unpack_from(order + words[1], data, place)
            left -= length
            if left < 0:
                break
            if kind not in _KINDS or not numbers or place + length > len(data):
                continue
            value = np.frombuffer(data, kind_of_number, numbers, place)
            if tag not in referring and kind not in _BIG:
                found[tag] = kind, value
            elif (
                tag in referring
                and kind in _PLACES
                and (inside := _read(data, order, words, int(value[0]), referring[tag]))
            ):
                found[tag] = inside  # and not an empty directory, which is none
    return found


def _written(tags: Tags, there: dict[int, bytes], order: str, start: int) -> bytes:
    """A directory for the place `start`, with all that it refers to behind it.

    Args:
        tags: of which it is made.
        there: entries that it has as well, as they are.
        order: of the bytes in a number, as `struct` has it.
        start: where in the file it will be.
    """
    entries, rest = dict(there), b""
    end = start + 2 + 12 * (len(tags) + len(there)) + 4
    for tag, value in tags.items():
        if isinstance(value, dict):
            kind, count = _LONG, 1
            content = struct.pack(f"{order}I", end + len(rest))
            rest += _written(value, {}, order, end + len(rest))
        else:
            kind, numbers = value
            count = len(numbers) // (2 if kind in _PAIRS else 1)
            content = numbers.astype(order + _KINDS[kind]).tobytes()
            if len(content) > 4:
                place = end + len(rest)
                rest += content + b"\0" * (len(content) % 2)
                content = struct.pack(f"{order}I", place)
        entries[tag] = struct.pack(f"{order}HHI", tag, kind, count) + content.ljust(4, b"\0")
    body = b"".join(entries[tag] for tag in sorted(entries))
    return struct.pack(f"{order}H", len(entries)) + body + bytes(4) + rest
