"""One video file from input to output: what is done, and what a person is told of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path

from streamdeblur.errors import VideoError
from streamdeblur.pipeline import Network, Progress, run
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource

Display = AbstractContextManager[Callable[[Progress], None]]
"""Gives, as a `with` block, a function that shows how far the work is."""


def deblur_file(
    source: FileSource,
    output: Path,
    options: argparse.Namespace,
    *,
    load: Callable[[], Network],
    say: Callable[[str], None],
    display: Callable[[int | None], Display],
) -> None:
    """Deblur a file into another.

    Args:
        source: the open input; closing it is left to the caller.
        output: the file to write.
        options: the command line's.
        load: makes the network; called when the output is known to be possible.
        say: told each line that a person should know.
        display: shows the progress, given the number of frames that are expected.

    Raises:
        StreamDeblurError: it could not be done, or the input is damaged and the output, which is
            kept, lacks what was.
    """
    sink = FileSink(  # refuses what it can before the network is loaded, and writes nothing yet
        output,
        source.info,
        copy_from=source,
        codec=options.codec,
        crf=options.crf,
        preset=options.preset,
        encoder_options=dict(options.encoder_option),
        overwrite=options.overwrite,
        strength=options.strength,
        compare=options.compare,
    )
    network = load()
    with sink:
        for notice in sink.notices:
            say(notice)
        if options.verbose:
            say(_described(source))
            say(f"encoder {sink.encoder}")
        with display(_expected_frames(source)) as show:
            progress = run(source, network, sink, on_progress=show)
    say(f"{output}: {_summary(progress)}")
    if options.verbose:
        say(", ".join(f"{stage} {busy:.1f} s" for stage, busy in progress.busy.items()))
    if source.decode_errors:
        raise VideoError(
            f"{source.path} is damaged (decoding errors: {source.decode_errors}): frames are"
            f" missing or spoilt in {output}; try another copy of it"
        )
    if missing := _missing_seconds(source, progress):
        say(
            f"the picture of {source.path} ends {missing:.1f} s before the file should;"
            " if it was cut off, get another copy"
        )


def _expected_frames(source: FileSource) -> int | None:
    """A good guess: headers can be wrong, and parts of a file are not counted in them."""
    info = source.info
    if info.frame_count is None and info.duration is not None:
        return round(info.duration * info.rate)
    return info.frame_count


def _missing_seconds(source: FileSource, progress: Progress) -> float:
    """How much earlier than announced the picture ended; 0 if it is within reason.

    Some containers hide that they were cut off. It is no proof of damage: the duration may be the
    sound's, which is often a little longer.
    """
    info = source.info
    if info.duration is None:
        return 0.0
    missing = info.duration - (progress.pts * info.time_base + 1 / info.rate)
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
