"""Removes motion blur from video files and live cameras.

    with open_source("in.mp4") as source:
        deblurrer = Deblurrer.load()
        with FileSink("out.mp4", source.info, copy_from=source) as sink:
            run(source, deblurrer, sink)

The public names below are imported when they are first used: `import streamdeblur` is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamdeblur.errors import ModelError, StreamDeblurError, VideoError

if TYPE_CHECKING:
    from streamdeblur.deblurrer import Deblurrer
    from streamdeblur.frames import Frame, VideoInfo
    from streamdeblur.live.feeds import LiveSource, RealtimeSource
    from streamdeblur.live.preview import PreviewSink
    from streamdeblur.live.recording import Recording
    from streamdeblur.live.restream import Restream
    from streamdeblur.live.rhythm import AdaptiveNetwork, Choice
    from streamdeblur.live.serve import ServeSink, Statistics
    from streamdeblur.network.catalogue import bundled_models
    from streamdeblur.pipeline import Progress, run
    from streamdeblur.sinks import FileSink
    from streamdeblur.sources import FileSource, open_source
    from streamdeblur.spec import ModelSpec
    from streamdeblur.threads import latest, prefetch
    from streamdeblur.video.outputs import default_output

__all__ = [
    "AdaptiveNetwork",
    "Choice",
    "Deblurrer",
    "FileSink",
    "FileSource",
    "Frame",
    "LiveSource",
    "ModelError",
    "ModelSpec",
    "PreviewSink",
    "Progress",
    "RealtimeSource",
    "Recording",
    "Restream",
    "ServeSink",
    "Statistics",
    "StreamDeblurError",
    "VideoError",
    "VideoInfo",
    "bundled_models",
    "default_output",
    "latest",
    "open_source",
    "prefetch",
    "run",
]

_HOMES = {
    "deblurrer": ("Deblurrer",),
    "frames": ("Frame", "VideoInfo"),
    "live.feeds": ("LiveSource", "RealtimeSource"),
    "live.preview": ("PreviewSink",),
    "live.recording": ("Recording",),
    "live.restream": ("Restream",),
    "live.rhythm": ("AdaptiveNetwork", "Choice"),
    "live.serve": ("ServeSink", "Statistics"),
    "network.catalogue": ("bundled_models",),
    "pipeline": ("Progress", "run"),
    "sinks": ("FileSink",),
    "sources": ("FileSource", "open_source"),
    "spec": ("ModelSpec",),
    "threads": ("latest", "prefetch"),
    "video.outputs": ("default_output",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"streamdeblur.{home}"), name)
    raise AttributeError(f"module 'streamdeblur' has no attribute {name!r}")
