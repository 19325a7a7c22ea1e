"""Damage for video files, as disks, downloads and attackers do it: each kind a function.

A mutation takes a generator of random numbers, a clip and the other clips, and gives new bytes.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from av.error import FFmpegError

# What breaks arithmetic: ends of ranges, signs, and sizes of pictures that nobody can afford.
_LIES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x4000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
_BOX_HEADS = {
    # Boxes with boxes inside, and how many bytes come before those.
    **dict.fromkeys(b"moov trak mdia minf dinf stbl edts udta ilst mvex moof traf".split(), 8),
    **{b"meta": 12, b"stsd": 16, b"mp4a": 36},
    **dict.fromkeys(b"avc1 hvc1 hev1 av01 vp09 mp4v apch".split(), 86),
}
_EBML_PARENTS = {
    # Segment, Tracks, TrackEntry, Video, Audio, Cluster, Cues, Info, SeekHead, Chapters, Tags...
    0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0xE1, 0x1F43B675, 0x1C53BB6B, 0x1549A966, 0x114D9B74,
    0x1043A770, 0x1254C367, 0x45B9, 0xB6, 0x7373, 0xBB, 0xB7, 0x4DBB, 0x1941A469, 0x61A7,
}  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """A sound file to be damaged."""

    name: str
    data: bytes
    packets: tuple[tuple[int, int], ...]
    """Begin and end of each packet in `data`, where the demuxer tells."""

    @classmethod
    def read(cls, path: Path) -> Clip:
        """Read a file and find its packets."""
        data = path.read_bytes()
        places = []
        try:
            with av.open(str(path)) as container:
                for packet in container.demux():
                    if packet.size and packet.pos is not None and packet.pos >= 0:
                        places.append((packet.pos, min(packet.pos + packet.size, len(data))))
        except FFmpegError:
            pass
        return cls(path.name, data, tuple(places))


Mutation = Callable[[random.Random, Clip, Sequence[Clip]], bytes]


def mutated(rng: random.Random, clip: Clip, others: Sequence[Clip]) -> tuple[list[str], bytes]:
    """Damage a clip in one way, or in a few at once; the names of the ways, and the result."""
    names = [rng.choice(list(MUTATIONS)) for _ in range(rng.choice((1, 1, 1, 2, 4)))]
    data = clip.data
    for name in names:
        data = MUTATIONS[name](rng, Clip(clip.name, data, clip.packets), others)
    return names, data


def _bits(rng: random.Random, clip: Clip, _: Sequence[Clip]) -> bytes:
    data = bytearray(clip.data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        data[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _run(rng: random.Random, clip: Clip, _: Sequence[Clip]) -> bytes:
    begin, end = _span(rng, clip.data, 64)
    return clip.data[:begin] + rng.randbytes(end - begin) + clip.data[end:]


def _zeros(rng: random.Random, clip: Clip, _: Sequence[Clip]) -> bytes:
    begin, end = _span(rng, clip.data, len(clip.data) // 4)
    return clip.data[:begin] + bytes([rng.choice((0, 255))]) * (end - begin) + clip.data[end:]


def _cut_off(rng: random.Random, clip: Clip, _: Sequence[Clip]) -> bytes:
    place = _place(rng, clip.data)
    return clip.data[place:] if rng.random() < 0.1 else clip.data[:place]


def _deleted(rng: random.Random, clip: Clip, _: Sequence[Clip]) -> bytes:
    begin, end = _span(rng, clip.data, len(clip.data) // 8)
    return clip.data[:begin] + clip.data[end:]


def _doubled(rng: random.Random, clip: Clip, _: Sequence[Clip]) -> bytes:
    begin, end = _span(rng, clip.data, len(clip.data) // 4)
    return clip.data[:end] + clip.data[begin:end] * rng.choice((1, 1, 3)) + clip.data[end:]


def _swapped(rng: random.Random, clip: Clip, _: Sequence[Clip]) -> bytes:
    block = rng.choice((16, 188, 512, 4096))  # 188: of a transport stream
    blocks = [clip.data[i : i + block] for i in range(0, len(clip.data), block)]
    for _ in range(rng.choice((1, 4))):
        one, other = (rng.randrange(len(blocks)) for _ in range(2))
        blocks[one], blocks[other] = blocks[other], blocks[one]
    return b"".join(blocks)


def _foreign(rng: random.Random, clip: Clip, others: Sequence[Clip]) -> bytes:
    other = rng.choice(others).data
    begin, end = _span(rng, other, len(other) // 2)
    place = _place(rng, clip.data)
    return clip.data[:place] + other[begin:end] + clip.data[place:]


def _joined(rng: random.Random, clip: Clip, others: Sequence[Clip]) -> bytes:
    kind = clip.name.rpartition(".")[2]
    alike = [other for other in others if other.name.endswith(kind)]
    return clip.data + rng.choice(alike if rng.random() < 0.7 else others).data


def _lied(rng: random.Random, clip: Clip, _: Sequence[Clip]) -> bytes:
    """An integer anywhere, mostly in the header, becomes one that breaks arithmetic."""
    data, size = bytearray(clip.data), rng.choice((1, 2, 4, 8))
    for _ in range(rng.choice((1, 1, 4))):
        place = _place(rng, data)
        data[place : place + size] = _lie(rng, size)
    return bytes(data[: len(clip.data)])


def _misdescribed(rng: random.Random, clip: Clip, others: Sequence[Clip]) -> bytes:
    """A size, count, duration or dimension that the container's structure holds becomes a lie."""
    fields = _fields(clip.data)
    if not fields:
        return _lied(rng, clip, others)
    data = bytearray(clip.data)
    for _ in range(rng.choice((1, 1, 3))):
        begin, size = rng.choice(fields)
        data[begin : begin + size] = _lie(rng, size)
    return bytes(data)


def _reordered(rng: random.Random, clip: Clip, others: Sequence[Clip]) -> bytes:
    """Packets change places, are emptied, doubled, or become those of another file."""
    spans = [span for span in clip.packets if span[1] <= len(clip.data)]
    if not spans:
        return _swapped(rng, clip, others)
    data = bytearray(clip.data)
    for _ in range(rng.choice((1, 3, 8))):
        begin, end = rng.choice(spans)
        other = rng.choice(others)
        giver = rng.choice([(other.data, span) for span in other.packets] or [(clip.data, (0, 1))])
        given = rng.choice(
            (
                bytes(data[slice(*rng.choice(spans))]),
                giver[0][slice(*giver[1])],
                bytes(end - begin),
                rng.randbytes(end - begin),
            )
        )[: end - begin]
        data[begin : begin + len(given)] = given
    return bytes(data)


MUTATIONS: dict[str, Mutation] = {
    "bits flipped": _bits,
    "a run of noise": _run,
    "a region emptied": _zeros,
    "cut off": _cut_off,
    "a block deleted": _deleted,
    "a block doubled": _doubled,
    "blocks swapped": _swapped,
    "a foreign block": _foreign,
    "another file behind": _joined,
    "a number changed": _lied,
    "a header that lies": _misdescribed,
    "packets reordered": _reordered,
}


def _place(rng: random.Random, data: bytes | bytearray) -> int:
    """Anywhere, but every other time in the first kilobyte, where headers are."""
    return rng.randrange(min(len(data), 1024) if rng.random() < 0.5 else len(data))


def _span(rng: random.Random, data: bytes, longest: int) -> tuple[int, int]:
    begin = _place(rng, data)
    return begin, min(len(data), begin + rng.randint(1, max(1, longest)))


def _lie(rng: random.Random, size: int) -> bytes:
    number = rng.choice((*_LIES, rng.getrandbits(8 * size))) % 256**size
    return number.to_bytes(size, rng.choice(("big", "little")))


def _fields(data: bytes) -> list[tuple[int, int]]:
    """Begin and length of the numbers in a container's headers, as far as we know its kind."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return list(_box_fields(data, 0, len(data)))
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return list(_ebml_fields(data, 0, len(data)))
    if data[:4] == b"RIFF":
        return list(_riff_fields(data, 0, len(data)))
    return []


def _box_fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Of ISO base media files: each box's size, and what small boxes say in words of 32 bits."""
    while begin + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, begin)
        if size < 8 or begin + size > end:
            return
        yield begin, 4
        if head := _BOX_HEADS.get(name):
            yield from ((place, 2) for place in range(begin + 8, begin + head, 2))
            yield from _box_fields(data, begin + head, begin + size)
        elif size <= 512:
            yield from ((place, 4) for place in range(begin + 8, begin + size - 3, 4))
        begin += size


def _ebml_fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Of Matroska: each element's length, and the short contents."""
    while begin + 2 <= end and data[begin]:
        name_length = 9 - data[begin].bit_length()
        name = int.from_bytes(data[begin : begin + name_length])
        place = begin + name_length
        if place >= end or not data[place]:
            return
        length = 9 - data[place].bit_length()
        size = int.from_bytes(data[place : place + length]) & (1 << 7 * length) - 1
        yield place, length
        begin = place + length
        size = min(size, end - begin)  # an unknown size means: to the end
        if name in _EBML_PARENTS:
            yield from _ebml_fields(data, begin, begin + size)
        elif 0 < size <= 8:
            yield begin, size
        begin += size


def _riff_fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Of AVI: each chunk's size, and the words of 32 bits in short chunks."""
    while begin + 8 <= end:
        name, size = struct.unpack_from("<4sI", data, begin)
        yield begin + 4, 4
        if name in (b"RIFF", b"LIST"):
            yield from _riff_fields(data, begin + 12, min(end, begin + 8 + size))
        elif size <= 512:
            yield from ((place, 4) for place in range(begin + 8, min(end, begin + 8 + size) - 3, 4))
        begin += 8 + size + size % 2
