"""What image files hold beside their samples; that of JPEG and PNG is carried over byte for byte.

Libraries read it and write it anew: texts change their encoding, makers' notes their place, and
what is not known is lost. So the blocks themselves are copied.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
# What belongs to the samples and is the encoder's to write; bKGD and hIST depend on the palette,
# animation on frames, and iDOT (Apple's) on where the compressed data lie.
_PNG_OWN = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"bKGD", b"hIST", b"sBIT"}
_PNG_OWN |= {b"acTL", b"fcTL", b"fdAT", b"iDOT"}

_UNNAMED = 2, 2
_SOS, _COM, _APP0, _APP14, _APP15 = 0xDA, 0xFE, 0xE0, 0xEE, 0xEF


def carried(source: bytes, target: bytes) -> bytes:
    """The file `target` with the metadata of `source`: both JPEG or both PNG, else unchanged.

    `target` should have none of its own.
    """
    if source[:2] == target[:2] == b"\xff\xd8":
        return _jpeg_carried(source, target)
    if source[:8] == target[:8] == _PNG_HEAD:
        return _png_carried(source, target)
    return target


def can_carry(data: bytes) -> bool:
    """Whether `carried` knows the format of a file."""
    return data[:2] == b"\xff\xd8" or data[:8] == _PNG_HEAD


def further_pictures(data: bytes) -> bool:
    """Whether a JPEG file holds more than one picture (CIPA DC-007): depth, gain maps, previews."""
    is_jpeg = data[:2] == b"\xff\xd8"
    return is_jpeg and any(_is_index(segment) for _, segment in _segments(data))


def is_animated(data: bytes) -> bool:
    """Whether a file is a PNG image with further frames, or a sequence of AVIF images."""
    is_png = data[:8] == _PNG_HEAD and any(kind == b"acTL" for kind, _ in _chunks(data))
    return is_png or data[4:12] == b"ftypavis"


def is_lossless_webp(data: bytes) -> bool:
    """Whether a file is a WebP image whose samples are coded without loss."""
    start = 12 if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else len(data)
    while start + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, start)
        if kind == b"VP8L":
            return True
        start += 8 + length + length % 2
    return False


def named_colours(data: bytes) -> tuple[int, int]:
    """Primaries and transfer function that an AVIF file names for its main picture.

    By the numbers of ITU-T H.273, where 2 is for what is not named (ISO/IEC 23008-12, 6.5.5).
    """
    if data[4:8] != b"ftyp":
        return _UNNAMED
    with suppress(struct.error, KeyError, IndexError):
        inside = dict(_boxes(dict(_boxes(data))[b"meta"][4:]))
        version, main = inside[b"pitm"][0], inside[b"pitm"][4:]
        (item,) = struct.unpack_from(">I" if version else ">H", main)
        parts = dict(_boxes(inside[b"iprp"]))
        properties = [(b"", b""), *_boxes(parts[b"ipco"])]  # they are counted from 1
        for index in _properties_of(item, parts[b"ipma"]):
            kind, body = properties[index]
            if kind == b"colr" and body[:4] == b"nclx":
                primaries, transfer = struct.unpack_from(">HH", body, 4)
                return primaries, transfer
    return _UNNAMED


def _properties_of(item: int, table: bytes) -> Iterator[int]:
    """The numbers of what belongs to an item by an `ipma` box; 0 is nothing."""
    head, is_wide = ">IB" if table[0] else ">HB", table[3] & 1
    (items,) = struct.unpack_from(">I", table, 4)
    at = 8
    for _ in range(items):
        number, count = struct.unpack_from(head, table, at)
        at += struct.calcsize(head)
        for _ in range(count):
            (index,) = struct.unpack_from(">H" if is_wide else ">B", table, at)
            at += 2 if is_wide else 1
            if number == item:
                yield index & (0x7FFF if is_wide else 0x7F)  # the rest says whether it is essential


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box (ISO/IEC 14496-12, 4.2)."""
    start = 0
    while start + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, start + 8), 16
        end = start + size if size else len(data)
        if end < start + head:
            return
        yield kind, data[start + head : end]
        start = end


def _jpeg_carried(source: bytes, target: bytes) -> bytes:
    kept = [segment for marker, segment in _segments(source) if _is_kept(marker, segment)]
    has_jfif = any(segment[1] == _APP0 for segment in kept)
    rest = 2
    for marker, segment in _segments(target):
        if marker == _APP0 and not has_jfif:
            kept.insert(0, segment)
        if _APP0 <= marker < _APP14 or marker in (_APP15, _COM):
            rest += len(segment)  # they come first
        else:
            break
    return b"".join([target[:2], *kept, target[rest:]])


def _is_kept(marker: int, segment: bytes) -> bool:
    """APP14 tells how the samples are coded; an index of further pictures would be wrong."""
    is_app = _APP0 <= marker <= _APP15 and marker != _APP14
    return (is_app or marker == _COM) and not _is_index(segment)


def _is_index(segment: bytes) -> bool:
    return segment[1:2] == b"\xe2" and segment[4:8] == b"MPF\0"


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and whole of each segment in front of a JPEG's samples."""
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF:
        marker = data[start + 1]
        if marker == 0xFF:  # padding
            start += 1
            continue
        if marker == _SOS:
            return
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        yield marker, data[start:end]
        start = end


def _png_carried(source: bytes, target: bytes) -> bytes:
    before: list[bytes] = []
    after: list[bytes] = []
    seen = False
    for kind, chunk in _chunks(source):
        seen = seen or kind == b"IDAT"
        if kind not in _PNG_OWN:
            (after if seen else before).append(chunk)
    parts = [_PNG_HEAD]
    for kind, chunk in _chunks(target):
        if kind == b"IEND":
            parts += after
        if kind in _PNG_OWN:
            parts.append(chunk)
        if kind == b"IHDR":
            parts += before
    return b"".join(parts)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and whole of each chunk of a PNG; damaged ones are left out."""
    start = len(_PNG_HEAD)
    while start + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end <= len(data) and zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(
            data[end - 4 : end]
        ):
            yield kind, data[start:end]
        start = end
