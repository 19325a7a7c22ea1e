"""A live run put together as the command line asks: the network, and all that shows its work."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import VideoError
from streamdeblur.live.feeds import LiveSource, RealtimeSource
from streamdeblur.live.preview import PreviewSink
from streamdeblur.live.recording import Recording, growing_name
from streamdeblur.live.restream import Restream, descriptor_for_video, is_stream
from streamdeblur.live.rhythm import AdaptiveNetwork, Choice, choices_of
from streamdeblur.live.run import Live
from streamdeblur.live.serve import ServeSink
from streamdeblur.live.virtualcam import VirtualCamera
from streamdeblur.network.catalogue import bundled_names

_FAST = "fast"  # the bundled model that stands in for a slower one


@contextmanager
def assembled(
    source: LiveSource | RealtimeSource,
    deblurrer: Deblurrer,
    options: argparse.Namespace,
    load: Callable[[str], Deblurrer],
    say: Callable[[str], None],
) -> Iterator[Live]:
    """A live run, ready to go; its outputs are finished when the block is left.

    Args:
        source: an open live source.
        deblurrer: the network asked for.
        options: the command line's.
        load: makes a network of a model's name.
        say: told each line that a person should know.

    Raises:
        VideoError: an output cannot be had, or there is none.
    """

    def choices(network: Deblurrer) -> list[Choice]:
        if options.keep_model:
            return [Choice(network)]
        return choices_of(network, None if network.spec.name == _FAST else load(_FAST))

    def record(path: Path) -> Recording:
        return Recording(path, source.info, sound=sound, **_encoding(options))

    sound = None if options.no_sound else source.sound
    has_window = not options.serve if options.preview is None else options.preview
    if not (has_window or options.serve or options.output or options.virtual_cam):
        raise VideoError(
            "nothing would show the frames: leave out --no-preview, or pass --serve 8000"
        )
    _refuse_rivals(options.output)
    descriptor = descriptor_for_video() if "-" in options.output else 1
    network = AdaptiveNetwork(
        choices(deblurrer),
        strength=options.strength,
        max_latency=options.max_latency and options.max_latency / 1000,
    )
    with Live(
        source,
        network,
        say=say,
        record=record,
        models=list(dict.fromkeys([options.model, *bundled_names()])),
        load=lambda name: choices(load(name)),
    ) as live:
        if has_window:
            _show(live, source, options, say)
        if options.serve:
            page = ServeSink(network, *options.serve, pixel_aspect=source.info.pixel_aspect)
            for notice in page.notices:
                say(notice)
            live.serve(page)
        for output in options.output:
            sink: Restream | Recording
            if is_stream(output):
                sink = Restream(
                    output, source.info, sound=sound, descriptor=descriptor, **_encoding(options)
                )
            else:
                sink = record(Path(output))
            for notice in sink.notices:
                say(notice)
            live.add(sink)
        if options.virtual_cam:
            camera = VirtualCamera(source.info)
            say(f"other programs see the camera {camera.device}")
            live.add(camera, newest=True)
        yield live


def _show(
    live: Live,
    source: LiveSource | RealtimeSource,
    options: argparse.Namespace,
    say: Callable[[str], None],
) -> None:
    """Open the window; where there is none, another output will do."""
    try:
        title, aspect = f"streamdeblur: {source.shown}", source.info.pixel_aspect
        live.show(PreviewSink(title, compare=options.compare, pixel_aspect=aspect))
    except VideoError as error:
        if not (options.serve or options.output or options.virtual_cam):
            raise
        say(str(error))


def _refuse_rivals(outputs: list[str]) -> None:
    """Recordings grow under a name of their own, which does not have their extension."""
    paths = [Path(output) for output in outputs if not is_stream(output)]
    growing = [growing_name(path) for path in paths]
    for path, name in zip(paths, growing, strict=True):
        if growing.count(name) > 1:
            raise VideoError(f"two recordings would grow as {name}: give {path} another name")


def _encoding(options: argparse.Namespace) -> dict[str, Any]:
    """What is asked of encoders, by the names that the sinks have for it."""
    names = ("codec", "crf", "preset", "overwrite", "compare")
    wishes = {name: getattr(options, name) for name in names}
    return {**wishes, "encoder_options": dict(options.encoder_option)}
