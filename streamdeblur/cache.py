"""The folder for what can be made again: engines, and how fast this machine is."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

VARIABLE = "STREAMDEBLUR_CACHE"
"""Of the environment: where the folder is to be instead."""


def cache_folder() -> Path:
    """Where it is; it need not exist yet."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "streamdeblur"


def cache_size() -> int:
    """Bytes in it."""
    total = 0
    for path in cache_folder().rglob("*"):
        with suppress(OSError):  # another process may have taken it away
            total += path.stat().st_size if path.is_file() else 0
    return total
