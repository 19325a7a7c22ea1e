"""What earlier runs have completed, so that it need not be done again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import onnxruntime

from streamdeblur.command import Command
from streamdeblur.digests import digest_of, digest_of_facts
from streamdeblur.errors import VideoError
from streamdeblur.resume import clear_finished, identity_of_input, work_folder
from streamdeblur.versions import installed

# What of the command line changes nothing of the output, or is known more exactly.
_NO_MATTER = {
    *("inputs", "model", "output", "overwrite", "question", "quiet", "recursive", "report"),
    *("resume", "verbose"),
}
NAME = ".streamdeblur.jsonl"
"""Of the file in each folder of results: a line of JSON for each that is complete."""


class Ledger:
    """Knows which results are complete, and what they were made of.

    Args:
        settings: all but the input that a result depends on, as JSON can hold it.
        say: told if nothing can be taken down.
    """

    def __init__(self, settings: Mapping[str, Any], say: Callable[[str], None]) -> None:
        self._settings, self._say = settings, say
        self._folders: dict[Path, dict[str, Any]] = {}
        self._is_broken = False

    def is_done(self, path: Path, output: Path, *, overwrite: bool) -> bool:
        """Whether `output` is there, made of the input `path` and these settings.

        Raises:
            VideoError: it may be made of others, and is not to be replaced.
            OSError: there is no input.
        """
        if self.has(path, output):
            if work_folder(output).exists():  # a run was killed before it removed that
                clear_finished(output, {"input": identity_of_input(path), **self._settings})
            return True
        if output.exists() and not overwrite:
            raise VideoError(
                f"{output} exists, but is not known to be of this input with these settings, or"
                " lacks what was damaged: --overwrite makes it anew"
            )
        return False

    def has(self, path: Path, output: Path) -> bool:
        """Whether `output` is as it was written, of the input `path` and these settings."""
        folder = output.parent
        if folder not in self._folders:
            self._folders[folder] = _read(folder / NAME)
        try:
            return self._folders[folder].get(output.name) == self._line(path, output, output)
        except OSError:
            return False  # there is no output, or no input

    def note(self, path: Path, output: Path, part: Path) -> None:
        """Take down that `part` is complete and about to be `output`.

        Before that has its name: afterwards, a run could be killed in between, and nobody would
        know the result. Where it cannot be written, that is said once.
        """
        if self._is_broken:
            return
        ledger = output.parent / NAME
        try:
            with ledger.open("a", encoding="utf-8") as file:
                # On a line of its own, even after one that a power cut left in the middle.
                file.write("\n" + json.dumps(self._line(path, output, part)))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self._is_broken = True
            self._say(
                f"can't write {ledger}: {error.strerror}; --resume will not know what is done"
            )

    def _line(self, path: Path, output: Path, content: Path) -> dict[str, Any]:
        """What is taken down of an output, whose content may have another name still."""
        found = content.stat()
        return {
            "output": output.name,
            "size": found.st_size,
            "changed": found.st_mtime_ns,
            "made_of": digest_of_facts([identity_of_input(path), self._settings]),
        }


def once(path: Path, output: Path, command: Command, work: Callable[[], None]) -> None:
    """Make `output` of `path`, which `work` does; with --resume not again.

    Raises:
        StreamDeblurError: it could not be done.
    """
    if command.options.resume:
        ledger = command.ledger = Ledger(settings_identity(command), command.say)
        if ledger.is_done(path, output, overwrite=command.options.overwrite):
            command.say(f"{output} is there already, of the same input and settings: nothing to do")
            return
    work()


def settings_identity(command: Command) -> dict[str, Any]:
    """All but the input that an output depends on, for files of any kind."""
    network, options = command.network(), vars(command.options)
    settings = {key: text for key, text in options.items() if key not in _NO_MATTER}
    return {
        "model": digest_of(network.path),
        "device": [network.provider, network.precision],
        "settings": {key: str(text) for key, text in settings.items()},
        "version": [installed("streamdeblur"), av.__version__, onnxruntime.__version__],
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
