"""Work that survives an interruption: packets in a file that grows, and a journal of them.

When a segment of the picture is complete and on the disk, the journal says so (`segments.py` makes
them). What is lost is the segment that was being encoded.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from av.packet import Packet, PacketSideData, packet_sidedata_type_from_literal

from streamdeblur.video.ffmpeg import translated
from streamdeblur.video.outputs import part_name
from streamdeblur.video.parts import lock

_FORMAT = 2
_FILES = ("packets", "journal.new", "journal.json")
_ENDS = 1 << 20  # bytes at either end of the input that are looked at
_HEAD = struct.Struct("<qQ")  # of a packet: pts, and bytes that follow
_FACTS = struct.Struct("<q?B")  # duration, whether it is a key frame, number of side data
_SIDE = struct.Struct("<BI")  # of side data: kind, and bytes that follow

T = TypeVar("T")


def work_folder(output: Path) -> Path:
    """Where the work for an output is kept until it is complete."""
    return output.with_name(f"{output.name}.part")


def gathered(output: Path) -> Path:
    """Where an output grows whose work is kept: in the folder of that."""
    return part_name(work_folder(output) / output.name)


def identity_of_input(path: Path) -> dict[str, Any]:
    """What tells a file from others of its name: size, time of change, and a hash of its ends."""
    found = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_ENDS))
        file.seek(max(0, found.st_size - _ENDS))
        digest.update(file.read(_ENDS))
    return {"size": found.st_size, "changed": found.st_mtime_ns, "ends": digest.hexdigest()}


@dataclass(slots=True)
class _State:
    """What the journal holds."""

    identity: dict[str, Any]
    """Of everything that the result depends on."""
    frames: int = 0
    """Frames in closed segments."""
    bytes: int = 0
    """Length of the packets of those."""


class Journal:
    """The folder of an output that is not complete, and the account of what is in it.

    Args:
        output: that the work is for.
        identity: of everything that the result depends on, as JSON can hold it. What is found of
            work with another is thrown away; `changes` says why.

    Raises:
        VideoError: another run is at it, or the folder cannot be written.
    """

    def __init__(self, output: Path, identity: Mapping[str, Any]) -> None:
        self._output, self.folder = output, work_folder(output)
        self.changes: list[str] = []
        """What differs from the work that was found; empty if it is continued or there is none."""
        with translated(f"can't keep work in {self.folder}"):
            self.folder.mkdir(exist_ok=True)
            self._packets = (self.folder / "packets").open("a+b")
            try:
                lock(self._packets)
                self._state = self._continued(json.loads(json.dumps(identity)))
                self._packets.truncate(self._state.bytes)  # of what was not complete
                gathered(output).unlink(missing_ok=True)
                self._save()
            except BaseException:
                self._packets.close()
                raise

    def _continued(self, identity: dict[str, Any]) -> _State:
        """The work that was found, if it is the same; else none yet."""
        found = _read(self.folder)
        if found is None or found.bytes > os.fstat(self._packets.fileno()).st_size:
            return _State(identity)
        self.changes = _differing(found.identity, identity)
        return _State(identity) if self.changes else found

    @property
    def frames(self) -> int:
        """Frames that are done."""
        return self._state.frames

    def add(self, packets: list[Packet[Any]]) -> None:
        """Take packets of the segment that is being encoded."""
        with translated(f"can't keep work in {self.folder}"):
            for packet in packets:
                self._packets.write(_packed(packet))

    def close_segment(self, frames: int) -> None:
        """Make sure that what was added since, so many frames, is on the disk, and note it."""
        with translated(f"can't keep work in {self.folder}"):
            _flush(self._packets)
            self._state.frames += frames
            self._state.bytes = os.fstat(self._packets.fileno()).st_size
            self._save()

    def times(self) -> list[int]:
        """When each packet is shown, in ticks, in the order of decoding."""
        return [pts for pts, _ in self._records(lambda file, size: file.seek(size, os.SEEK_CUR))]

    def packets(self) -> Iterator[Packet[Any]]:
        """Every packet, in the order of decoding, without a time for that."""
        for pts, packet in self._records(lambda file, size: _unpacked(file.read(size))):
            packet.pts = pts
            yield packet

    def _records(self, read: Callable[[BinaryIO, int], T]) -> Iterator[tuple[int, T]]:
        """For each packet when it is shown, and what `read` makes of it."""
        with (self.folder / "packets").open("rb") as file:
            while head := file.read(_HEAD.size):
                pts, size = _HEAD.unpack(head)
                yield pts, read(file, size)

    def close(self) -> None:
        """Let go of the folder, which stays. Harmless when repeated."""
        self._packets.close()

    def remove(self) -> None:
        """Throw the folder away: the output is complete."""
        self.close()
        _clear(self._output)

    def _save(self) -> None:
        """Write the journal whole or not at all, also if the power fails."""
        new = self.folder / "journal.new"
        with new.open("w", encoding="utf-8") as file:
            fields = {name: getattr(self._state, name) for name in _State.__slots__}
            json.dump({"format": _FORMAT, **fields}, file, indent=1)
            _flush(file)
        os.replace(new, self.folder / "journal.json")
        flush_folder(self.folder)


def clear_finished(output: Path, made_of: Mapping[str, Any]) -> None:
    """Remove the work for an output that is complete, if a run was killed before it did that.

    Args:
        output: that is complete.
        made_of: what is the same in the identity of its work; that of other work stays.
    """
    state = _read(work_folder(output))  # the last of the work that is removed
    if state is None or made_of.items() <= state.identity.items():
        _clear(output)


def _clear(output: Path) -> None:
    """Remove our own files, which may be some of them, and the folder unless it holds others."""
    folder = work_folder(output)
    with suppress(OSError):
        for name in (gathered(output).name, *_FILES):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def flush_folder(folder: Path) -> None:
    """Make sure that names in a folder are on the disk, where the system can."""
    with suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _packed(packet: Packet[Any]) -> bytes:
    """A packet as bytes: its time, its length, its other facts, side data, data."""
    sides = [
        (packet_sidedata_type_from_literal(side.data_type), bytes(side))  # type: ignore[arg-type]
        for side in packet.iter_sidedata()
        if side.data_type != "quality_stats"  # which no container keeps
    ]
    assert packet.pts is not None
    body = [_FACTS.pack(packet.duration or 0, packet.is_keyframe, len(sides))]
    for kind, content in sides:
        body += [_SIDE.pack(kind, len(content)), content]
    body.append(bytes(packet))
    return b"".join([_HEAD.pack(packet.pts, sum(map(len, body))), *body])


def _unpacked(body: bytes) -> Packet[Any]:
    duration, is_key, sides = _FACTS.unpack_from(body)
    start, side_data = _FACTS.size, []
    for _ in range(sides):
        kind, size = _SIDE.unpack_from(body, start)
        start += _SIDE.size
        side: Any = PacketSideData(kind, size)  # type: ignore[call-arg]
        side.update(body[start : start + size])
        side_data.append(side)
        start += size
    packet: Packet[Any] = Packet(body[start:])
    packet.duration, packet.is_keyframe = duration, is_key
    for side in side_data:
        packet.set_sidedata(side)
    return packet


def _read(folder: Path) -> _State | None:
    """The journal of a folder; None if there is none that can be understood."""
    try:
        content = json.loads((folder / "journal.json").read_text(encoding="utf-8"))
        if content.pop("format") != _FORMAT:
            return None
        return _State(**content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two identities, by the names of settings or of what holds them."""
    names = []
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if key == "settings" and isinstance(before, dict) and isinstance(after, dict):
            names += [name for name in {**before, **after} if before.get(name) != after.get(name)]
        else:
            names.append(key)
    return names
