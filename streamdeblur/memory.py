"""How much memory this process has, and how much it may still take."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

# Names of the limit, of what is used, and of the cache in it that goes when it is needed.
_CGROUP_2 = ("memory.max", "memory.current", "inactive_file")
_CGROUP_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def resident_bytes() -> int:
    """Memory of the machine that this process holds now, without what it has freed."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # not every C library can give back
            ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


def available_bytes() -> int:
    """What this process may still take: of the machine, of its container, and by `ulimit -v`."""
    rooms = [int(psutil.virtual_memory().available), *_room_in_groups(), *_room_in_addresses()]
    return max(0, min(rooms))


def _room_in_groups(root: Path = Path("/")) -> Iterator[int]:
    """What Linux' control groups leave: the one that the process is in, and all around it."""
    with suppress(OSError):  # other systems have none
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                top, names = root / "sys/fs/cgroup", _CGROUP_2
            elif "memory" in controllers.split(","):
                top, names = root / "sys/fs/cgroup/memory", _CGROUP_1
            else:
                continue
            inner = top / path.lstrip("/")  # inside a container that folder may not be there
            for folder in dict.fromkeys((inner, *inner.parents)):
                if folder.is_relative_to(top):
                    yield from _room_in_group(folder, *names)


def _room_in_group(folder: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    with suppress(OSError, ValueError):  # no such file; "max": no limit
        most = int((folder / limit).read_text())
        used = int((folder / usage).read_text())
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            used -= int(value) if name == cache else 0
        yield most - used


def _room_in_addresses() -> Iterator[int]:
    """What `ulimit -v` leaves."""
    if sys.platform != "win32":
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            yield most - int(psutil.Process().memory_info().vms)
