"""What earlier runs of a batch have completed, so that it need not be done again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamdeblur.errors import VideoError
from streamdeblur.resume import identity_of_input

NAME = ".streamdeblur.jsonl"
"""Of the file in each folder of results: a line of JSON for each that is complete."""


class Ledger:
    """Knows which results are complete, and what they were made of.

    Args:
        settings: all but the input that a result depends on, as JSON can hold it.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._folders: dict[Path, dict[str, Any]] = {}

    def has(self, path: Path, output: Path) -> bool:
        """Whether `output` is as it was written, of the input `path` and these settings."""
        folder = output.parent
        if folder not in self._folders:
            self._folders[folder] = _read(folder / NAME)
        try:
            return self._folders[folder].get(output.name) == self._line(path, output)
        except OSError:
            return False  # there is no output, or no input

    def note(self, path: Path, output: Path) -> None:
        """Take down that `output` is complete.

        Raises:
            VideoError: that cannot be written.
        """
        ledger = output.parent / NAME
        try:
            with ledger.open("a", encoding="utf-8") as file:
                # On a line of its own, even after one that a power cut left in the middle.
                file.write("\n" + json.dumps(self._line(path, output)))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise VideoError(f"can't write {ledger}: {error.strerror}") from error

    def _line(self, path: Path, output: Path) -> dict[str, Any]:
        made_of = json.dumps([identity_of_input(path), self._settings], sort_keys=True)
        found = output.stat()
        return {
            "output": output.name,
            "size": found.st_size,
            "changed": found.st_mtime_ns,
            "made_of": hashlib.sha256(made_of.encode()).hexdigest(),
        }


def _read(path: Path) -> dict[str, Any]:
    """The last line for each output; what a power cut left in the middle is none."""
    lines: dict[str, Any] = {}
    with suppress(OSError):
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError, KeyError):
                line = json.loads(text)
                lines[line["output"]] = line
    return lines
