"""The part of an output that is there already: one run's alone, and never in place of a file."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path
from typing import BinaryIO

_BUSY = "another run is at work on it; wait for that, or end it"


def held(part: Path) -> BinaryIO:
    """Create a part, which is this run's alone until the file is closed.

    Raises:
        OSError: another run is at work on it, or it cannot be created.
    """
    try:
        file = part.open("xb")
    except FileExistsError as error:
        raise FileExistsError(error.errno, _BUSY) from None
    lock(file)
    return file


def lock(file: BinaryIO) -> None:
    """Keep other runs away until `file` is closed, however this one ends.

    Raises:
        BlockingIOError: another run is at work on it.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where what is open cannot be renamed
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(error.errno, _BUSY) from None
    except OSError:
        return  # some file systems of a network have no locks


def set_aside(part: Path) -> list[str]:
    """Keep what a run that was killed has left under another name; a line that says so.

    Raises:
        OSError: that run is at work still, or the part cannot be renamed.
    """
    if not part.exists():
        return []
    with part.open("r+b") as left:
        lock(left)
    stem = part.stem.removesuffix(".part")
    numbers = itertools.count()
    names = (part.with_name(f"{stem}.interrupted{n or ''}{part.suffix}") for n in numbers)
    kept = next(name for name in names if not name.exists())
    part.rename(kept)
    return [f"what an interrupted run has left is kept as {kept}"]


def publish(part: Path, path: Path, overwrite: bool) -> None:
    """Give a part that is complete its name, in place of a file there only if `overwrite`.

    Raises:
        OSError: there is a file, or the part cannot be renamed.
    """
    if not overwrite:
        try:
            os.link(part, path)  # unlike a new name, a second one never replaces a file
        except OSError as error:
            if path.exists():
                taken = "a file has come there meanwhile"
                raise FileExistsError(errno.EEXIST, taken) from error
            # Not every file system has links.
        else:
            part.unlink()
            return
    part.replace(path)
