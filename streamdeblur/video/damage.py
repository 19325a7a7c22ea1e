"""What is wrong with a file's picture, as it turns out while it is read."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

_FFV1_FOOTER = 8  # bytes: length of the slice (3), status (1), checksum (4)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(slots=True)
class Damage:
    """What could not be decoded, what was concealed, and what is not there."""

    packets: int = 0
    """Packets that could not be read or decoded."""
    frames: int = 0
    """Frames that came out spoilt, concealed as far as the decoder could."""
    missing: int = 0
    """Frames that the header counts and the file does not have."""
    ends_early: int = 0
    """1 if the picture ends more than a second before the header's end of it."""
    marked: int = 0
    """Packets that were marked as damaged in transport: it need not be seen."""
    mended_times: int = 0
    """Frames without a time, or with one that did not come after the last."""
    jumps: int = 0
    """How often the clock went back by more than a second."""
    resized: int = 0
    """Frames of another size than the first."""
    late_tracks: int = 0
    """Tracks that the file did not announce, and that cannot be copied therefore."""

    @property
    def total(self) -> int:
        """How much was lost or spoilt."""
        return self.packets + self.frames + self.missing + self.ends_early

    @property
    def losses(self) -> list[str]:
        """What was lost or spoilt, in words."""
        counted = [
            _counted(self.packets, "undecodable packet"),
            _counted(self.frames, "spoilt frame"),
            _counted(self.missing, "missing frame"),
            "an end that came too early" * self.ends_early,
        ]
        return [words for words in counted if words]

    @property
    def oddities(self) -> list[str]:
        """What was put right, or does not concern the picture, one line each."""
        found = [
            (_counted(self.marked, "packet"), "marked as damaged in transport"),
            (_counted(self.mended_times, "frame"), "had no time, or none after the last: mended"),
            (_counted(self.jumps, "leap"), "back of the clock: what follows is set behind it"),
            (_counted(self.resized, "frame"), "of another size than the first, fitted into it"),
            (_counted(self.late_tracks, "track"), "turned up too late to be copied"),
        ]
        return [f"{count} {words}" for count, words in found if count]


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}" if number else ""


class SliceChecksums:
    """Finds damage in FFV1, whose decoder conceals it and tells nobody but its log.

    Each slice ends in a CRC-32 over itself, most significant bit first (RFC 9043, 4.8): then that
    of the whole slice is 0. Whether a stream has them stands deep in its header; they are taken
    to be there once all those of a packet are right, by chance in one of four thousand millions.
    """

    def __init__(self) -> None:
        self._has_some, self._wrong = False, 0

    @property
    def wrong(self) -> int:
        """Packets with a slice whose checksum is wrong."""
        return self._wrong if self._has_some else 0

    def look_at(self, packet: bytes) -> None:
        """Check the slices of a packet, from the last to the first."""
        end = len(packet)
        while end:
            size = int.from_bytes(packet[end - 8 : end - 5], "big") + _FFV1_FOOTER
            if size > end or _crc(packet[end - size : end]):
                self._wrong += 1
                return
            end -= size
        self._has_some = True


def _crc(data: bytes) -> int:
    """The CRC with polynomial 0x04C11DB7, register 0, no inversion, and its bits reversed."""
    return zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
