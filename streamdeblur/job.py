"""One video file from input to output: what is done, and what a person is told of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from streamdeblur.account import Account
from streamdeblur.command import Command
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.display import file_display
from streamdeblur.errors import StreamDeblurError, VideoError
from streamdeblur.ledger import settings_identity
from streamdeblur.live.restream import descriptor_for_video
from streamdeblur.pipeline import Network, Progress, run
from streamdeblur.resume import Journal, identity_of_input, work_folder
from streamdeblur.sinks import FileSink
from streamdeblur.skipping import SkipSharp
from streamdeblur.sources import FileSource
from streamdeblur.video.containers import PIPED


def deblur_file(
    source: FileSource, output: Path, command: Command, account: Account | None = None
) -> None:
    """Deblur a file into another.

    Args:
        source: the open input; closing it is left to the caller.
        output: the file to write.
        command: that it is done for; its network is needed when the output is known to be possible.
        account: is told what a report needs.

    Raises:
        StreamDeblurError: it could not be done, or the input is damaged and the output, which is
            kept, lacks what was.
    """
    options, say = command.options, command.say
    refuse_pipes(source, output, options)
    sink = _sink(source, output, options)
    network = command.network()
    skipping = SkipSharp(network) if options.skip_sharp else None
    sharpener: Network = skipping or network
    was_interlaced = source.deinterlaces
    notices = (*source.notices, *_notices(source, options), *sink.notices)
    if account:
        account.seconds_a_tick = float(source.info.time_base)
        account.turns = source.info.rotation // 90
        account.notices += notices
        sharpener = account.watching(sharpener)
    with _kept(source, sink, command), sink:
        for notice in notices:
            say(notice)
        if options.verbose:
            say(_described(source))
            say(f"encoder {sink.encoder}")
        display = file_display(_expected_frames(source, sink.frames_kept), say)
        with command.display(display) as show:
            progress = run(source, sharpener, sink, on_progress=show)
    say(f"{sink.path}: {_summary(progress)}")
    if skipping:
        say(skipping.summary)
    oddities = source.damage.oddities
    if source.frames_deinterlaced and not was_interlaced:
        oddities.append(f"{source.frames_deinterlaced} frames were interlaced: now progressive")
    for oddity in oddities:
        say(oddity)
    missing = _missing_seconds(source, progress)
    if account:
        account.notices += oddities
        account.damage += source.damage.losses
        if missing:
            account.damage.append(f"the picture ends {missing:.1f} s before the file should")
        account.facts |= _facts(source, sink, network, progress, skipping)
    if options.verbose:
        say(", ".join(f"{stage} {busy:.1f} s" for stage, busy in progress.busy.items()))
    if missing:
        say(
            f"the picture of {source.path} ends {missing:.1f} s before the file should;"
            " if it was cut off, get another copy"
        )
    _refuse_damage(source, sink.path)


def refuse_pipes(source: FileSource, output: Path, options: argparse.Namespace) -> None:
    """Raise VideoError if --resume is asked of what goes through a pipe."""
    if options.resume and (source.is_pipe or str(output) == "-"):
        raise VideoError("what goes through a pipe can't be resumed: leave out --resume")


def _refuse_damage(source: FileSource, output: Path) -> None:
    """Raise VideoError if pictures are missing or spoilt in the output, which is kept."""
    if source.decode_errors:
        advice = "try another copy of it" if source.decoder == "software" else "leave out --decoder"
        raise VideoError(
            f"{source.path} is damaged ({', '.join(source.damage.losses)}): frames are missing or"
            f" spoilt in {output}; {advice}"
        )


def _sink(source: FileSource, output: Path, options: argparse.Namespace) -> FileSink:
    """What writes the output: refuses what it can, and writes nothing yet."""
    is_pipe = str(output) == "-"
    return FileSink(
        output,
        source.info,
        copy_from=source,
        codec=options.codec,
        crf=options.crf,
        preset=options.preset,
        encoder_options=dict(options.encoder_option),
        form=options.format or (_piped_format(source) if is_pipe else None),
        descriptor=descriptor_for_video() if is_pipe else 1,
        overwrite=options.overwrite,
        repeatable=options.resume,
        strength=options.strength,
        compare=options.compare,
    )


def _facts(
    source: FileSource,
    sink: FileSink,
    network: Deblurrer,
    progress: Progress,
    skipping: SkipSharp | None,
) -> dict[str, str]:
    """What a report says of the work."""
    facts = {
        "input": _described(source),
        "network": network.running,
        "encoder": sink.encoder,
        "work": _summary(progress),
    }
    if sink.frames_kept:
        kept = f"{sink.frames_kept} frames are of an earlier run, and are not in this account"
        facts["resumed"] = kept
    if skipping:
        facts["skipped"] = skipping.summary
    return facts


def _piped_format(source: FileSource) -> str:
    """The input's own container, if that can be written into a pipe."""
    names = source.container.format.name.split(",")
    return next((name for name in names if name in PIPED), "matroska")


def _notices(source: FileSource, options: argparse.Namespace) -> list[str]:
    """What is done to the input's own nature."""
    if source.deinterlaces:
        return [
            "the video is interlaced: its frames become progressive, at the same times;"
            " --deinterlace off leaves them as they are"
        ]
    if not source.is_interlaced:
        return []
    if options.deinterlace == "off":
        return ["the video is interlaced and stays so: the network may take its combs for detail"]
    return ["the video says that it is interlaced, but its frames do not: they stay as they are"]


@contextmanager
def _kept(source: FileSource, sink: FileSink, command: Command) -> Iterator[None]:
    """Keep the work of the block if it is interrupted, and go on with what was kept before."""
    folder, say = work_folder(sink.path), command.say
    if not command.options.resume:
        if folder.exists():
            say(f"{folder} holds unfinished work, which --resume would go on with")
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt("what was sent stands" if sink.is_pipe else "") from None
        return

    def note(part: Path) -> None:
        if not source.decode_errors:  # what lacks pictures is not done
            command.note(source.path, sink.path, part)

    journal = Journal(sink.path, _identity(source, sink, command))
    sink.keep_work(journal, note)
    source.skip(journal.frames)
    if journal.changes:
        say(f"starting anew, since this changed: {', '.join(journal.changes)}")
    elif journal.frames:
        say(f"going on after frame {journal.frames}; those before are only decoded again")
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{journal.frames} frames are kept in {folder}: the same command goes on with them"
        ) from None
    except StreamDeblurError as error:
        advice = f"{journal.frames} frames are kept in {folder} for another try with --resume"
        raise type(error)(f"{error}; {advice}") from error


def _identity(source: FileSource, sink: FileSink, command: Command) -> dict[str, Any]:
    """All that the output depends on: with the same, each run makes the same file."""
    return {
        "input": identity_of_input(source.path),
        "encoding": sink.encoding_identity(),
        **settings_identity(command),
    }


def _expected_frames(source: FileSource, kept: int) -> int | None:
    """A good guess: headers can be wrong, and parts of a file are not counted in them."""
    info = source.info
    expected = info.frame_count
    if expected is None and info.duration is not None:
        expected = round(info.duration * info.rate)
    return None if expected is None else max(0, expected - kept)


def _missing_seconds(source: FileSource, progress: Progress) -> float:
    """How much earlier than announced the picture ended; 0 if it is within reason.

    Some containers hide that they were cut off. It is no proof of damage: the duration may be the
    sound's, which is often a little longer.
    """
    info = source.info
    if info.duration is None or not progress.written:
        return 0.0
    shown = max(progress.duration * info.time_base, 1 / info.rate)
    missing = info.duration - (progress.pts * info.time_base + shown)
    return float(missing) if missing > max(Fraction(1), info.duration / 20) else 0.0


def _described(source: FileSource) -> str:
    info = source.info
    return (
        f"{source.path}: {info.width}x{info.height} {info.codec} {info.pix_fmt},"
        f" {float(info.rate):.4g} frames/s"
    )


def _summary(progress: Progress) -> str:
    return (
        f"{progress.written} frames in {progress.seconds:.1f} s"
        f" ({progress.rate:.1f} frames/s, slowest stage: {progress.slowest})"
    )
