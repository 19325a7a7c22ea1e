"""The `streamdeblur` command: flags in, exit code out. Only it prints; `display` draws.

What is heavy is imported after parsing, so that `--help` and usage errors answer at once.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from streamdeblur.arguments import parse
from streamdeblur.errors import ReaderLeft, StreamDeblurError, VideoError
from streamdeblur.signals import interrupt_once, orderly_termination
from streamdeblur.versions import installed

if TYPE_CHECKING:
    from streamdeblur.command import Command
    from streamdeblur.live.feeds import LiveSource, RealtimeSource
    from streamdeblur.sources import FileSource

# Control characters, halves of characters, and what turns the direction of writing.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
_SIGPIPE = 128 + 13  # how shells tell of it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the process's own; return its exit code."""
    _have_stderr()
    try:
        with orderly_termination():
            code = _run(parse(argv))
            if sys.stdout is not None:  # as with >&-
                sys.stdout.flush()
            return code
    except ReaderLeft:  # as `head` does, when it has enough
        return _SIGPIPE
    except BrokenPipeError:  # the same, of text
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the rest, which Python writes at its end
        return _SIGPIPE
    except StreamDeblurError as error:
        _say_error(str(error))
        return 1
    except MemoryError:
        _say_error("there is not enough memory; --tile 512 takes less of it, a smaller part less")
        return 1
    except OSError as error:
        if error.filename is None:  # ours to fix
            raise
        _say_error(f"{error.filename}: {error.strerror}; choose another name or place")
        return 1
    except KeyboardInterrupt as stop:  # some say what was kept
        _say(f"stopped by Ctrl-C; {str(stop) or 'nothing was written'}")
        return 130


def _run(options: argparse.Namespace) -> int:
    if options.question:
        return _examine(options) if options.question == "doctor" else _answer(options.question)
    from streamdeblur.command import Command
    from streamdeblur.kinds import kind_of, refuse_unfit

    kind, what = kind_of(options)
    refuse_unfit(options, kind, what)
    command = Command(options, (lambda line: None) if options.quiet else _say)
    if kind == "files":
        code = _deblur_several(command)
    elif kind == "image":
        code = _deblur_image(command)
    else:
        code = _deblur_video(command)
    for network in command.networks:
        if network.rescued:
            command.say(
                f"{network.rescued} frames overflowed in {network.precision} and were done again"
                " in fp32"
            )
    return code


def _answer(question: Literal["version", "models", "cameras"]) -> int:
    """What is asked for goes to stdout, and nothing else ever does."""
    if question == "models":
        from streamdeblur.network.catalogue import DEFAULT_MODEL, bundled_models

        for model in bundled_models():
            default = "  (default)" if model.name == DEFAULT_MODEL else ""
            precisions = ", ".join(model.precisions)
            print(f"{model.name:<12} {model.size / 1e6:6.1f} MB  {precisions}{default}")
        return 0
    if question == "cameras":
        from streamdeblur.live.cameras import list_cameras

        for number, camera in (found := list_cameras()):
            print(f"{number:<4} {camera}")
        if not found:
            _say("no camera was found: is it plugged in and not blocked by privacy settings?")
        return 0
    version = installed("streamdeblur") or "of unknown version: it is not installed"
    print(f"streamdeblur {version}")
    return 0


def _examine(options: argparse.Namespace) -> int:
    """Say what works here; a table on a terminal, else plain lines."""
    from streamdeblur import doctor

    marks = {True: "yes", False: "no", None: ""}
    rows = ((each.subject, marks[each.works], each.text) for each in doctor.findings())
    _show(("", "works", ""), rows)
    if options.benchmark:
        timings = doctor.benchmark(options.model, options.gpu)
        if timings:
            _show(*doctor.table(timings))
    return 0


def _show(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    if not sys.stdout.isatty():
        for row in ([head] if any(head[:1]) else []) + list(rows):
            print("  ".join(f"{cell:<20}" for cell in row).rstrip())
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*head, show_header=bool(head[0]))
    for row in rows:
        table.add_row(*map(escape, row))  # [cuda] is no style
    Console().print(table)


def _deblur_video(command: Command) -> int:
    from streamdeblur.kinds import is_whole
    from streamdeblur.sources import FileSource, open_source

    options = command.options
    with open_source(
        options.inputs[0],
        **command.reading(),
        realtime=options.realtime,
        whole=is_whole(options),
        retry=options.retry,
        size=options.camera_size,
        rate=options.camera_rate,
        pixel_format=options.camera_format,
        transport=options.rtsp_transport,
    ) as source:
        if isinstance(source, FileSource):
            return _deblur_file(source, command)
        return _go_live(source, command)


def _deblur_file(source: FileSource, command: Command) -> int:
    from streamdeblur.job import deblur_file, refuse_pipes
    from streamdeblur.ledger import once

    output = _output(source.path, command.options)
    refuse_pipes(source, output, command.options)  # before the ledger reads from one

    def work() -> None:
        account = command.report.account(source.path, output) if command.report else None
        deblur_file(source, output, command, account)

    with command.reporting():
        once(source.path, output, command, work)
    return 0


def _deblur_image(command: Command) -> int:
    from streamdeblur.inputs import Task
    from streamdeblur.photos import deblur_image

    path = Path(command.options.inputs[0])
    with command.reporting():
        deblur_image(Task(path, _output(path, command.options)), command)
    return 0


def _deblur_several(command: Command) -> int:
    from streamdeblur.batch import Batch
    from streamdeblur.inputs import is_file_name, tasks_of
    from streamdeblur.kinds import has_files_alone

    options = command.options
    folder = Path(options.output[0]) if options.output else None
    is_file = folder is not None and is_file_name(folder) and not folder.is_dir()
    if not has_files_alone(options) or "-" in options.output or is_file:
        raise VideoError("several files have a folder as their output: -o FOLDER")
    with command.reporting():
        batch = Batch(tasks_of(options.inputs, folder, options.recursive), command)
        batch.run()
    command.say(batch.summary)
    for task, why in batch.failed.items():
        _say_error(f"{task.path}: {why}")
    return 1 if batch.failed else 0


def _output(path: Path, options: argparse.Namespace) -> Path:
    """Where the result of one file goes."""
    from streamdeblur.kinds import has_files_alone
    from streamdeblur.video.outputs import default_output

    if not has_files_alone(options):
        raise VideoError(f"{path} has one file as its output; --realtime plays it live")
    if not options.output:
        return default_output(path)
    output = Path(options.output[0])  # or "-"
    return output / path.name if output.is_dir() else output


def _go_live(source: LiveSource | RealtimeSource, command: Command) -> int:
    from streamdeblur.display import live_display
    from streamdeblur.live.assembly import assembled

    options, deblurrer = command.options, command.network()
    with assembled(source, deblurrer, options, command.load, command.say) as live:
        if live.page is not None:  # said even if quiet: who else knows the token?
            _say(f"watch at {live.page.url} (Ctrl-C ends it)")
        interrupt_once()
        with command.display(live_display(live, _say)) as draw, suppress(KeyboardInterrupt):
            live.run(draw)  # Ctrl-C is the normal end
    command.say(live.summary())
    return 1 if live.failed else 0


def _have_stderr() -> None:
    """Where it is closed, messages go nowhere, and not to whatever is opened next."""
    if sys.stderr is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _say_error(message: str) -> None:
    _say(f"error: {message}")


def _say(*lines: str) -> None:
    for line in lines:  # names and tags can hold ends of lines, and what terminals obey
        print(f"streamdeblur: {_OBEYED.sub('?', ' '.join(line.splitlines()))}", file=sys.stderr)
