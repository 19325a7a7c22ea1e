"""Any video that can be written comes back: every frame, moment, sample and tag of it.

The network changes nothing and the encoders lose nothing, so whatever differs is our doing.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st

from streamdeblur.correction import chroma_grid, planar_copy, planes
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource
from tests.clips import write_clip

MS = Fraction(1, 1000)


@dataclass(frozen=True)
class Road:
    """A container and a codec that loses nothing as it is set here."""

    kind: str
    codec: str
    layouts: tuple[str, ...]
    options: dict[str, str]
    time_bases: tuple[Fraction, ...]
    keeps_aspect: bool = True


_SUBSAMPLED = "yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"
_FFV1 = (*_SUBSAMPLED, "yuv410p", "yuv411p", "yuv440p", "yuv420p12le", "yuv444p16le",
         "gray", "gray10le", "gray16le", "bgr0", "gbrp10le", "gbrp12le", "yuva420p")  # fmt: skip
_TICKS = tuple(Fraction(1, n) for n in (600, 12_800, 24_000, 30_000, 90_000))
_X264 = {"x264-params": "qp=0", "preset": "ultrafast"}
_VP9 = {"lossless": "1", "crf": "0", "deadline": "realtime", "cpu-used": "8"}
ROADS = (
    Road("mkv", "ffv1", _FFV1, {}, (MS,), keeps_aspect=False),
    Road("mov", "ffv1", _FFV1[:6], {}, _TICKS),
    Road("mp4", "libx264", (*_SUBSAMPLED, "gray"), _X264, _TICKS),
    Road("mov", "libx264", _SUBSAMPLED, _X264, _TICKS),
    Road("mkv", "libx264", _SUBSAMPLED, _X264, (MS,)),
    Road("ts", "libx264", _SUBSAMPLED[:1], _X264, (Fraction(1, 90_000),)),
    Road("webm", "libvpx-vp9", _SUBSAMPLED, _VP9, (MS,), keeps_aspect=False),
    Road("mp4", "libvpx-vp9", _SUBSAMPLED[:3], _VP9, _TICKS),
)


@st.composite
def clips(draw: st.DrawFn) -> tuple[Road, dict[str, Any]]:
    """A road and a clip that it can hold."""
    road = draw(st.sampled_from(ROADS))
    layout = av.VideoFormat(draw(st.sampled_from(road.layouts)))
    step = (1, 1)
    if road.codec == "libx264":  # odd sizes are for codecs that have them
        step = (2, 2) if layout.name == "gray" else chroma_grid(layout)  # gray is decoded as 4:2:0
    width, height = (each * draw(st.integers(1, 40)) for each in step)
    steps = draw(st.lists(st.integers(1, 4000), min_size=1, max_size=8))
    base = draw(st.sampled_from(road.time_bases))
    if road.kind == "ts":
        steps = [step + 100 for step in steps]  # its own clock takes smaller ones for disorder
    pts = np.cumsum([draw(st.integers(0, 2000)), *steps]).tolist()
    matrix = 2 if layout.is_rgb else draw(st.sampled_from((1, 2, 5, 6, 9)))
    return road, {
        "size": (width, height),
        "codec": road.codec,
        "pix_fmt": layout.name,
        "options": road.options,
        "pts": pts,
        "time_base": base,
        "colorspace": matrix,
        "color_range": 0 if layout.is_rgb else draw(st.sampled_from((1, 2))),
        "color_primaries": draw(st.sampled_from((1, 2, 9))),
        "color_trc": draw(st.sampled_from((1, 2, 14, 16, 18))),
        "rotation": 0 if road.kind == "ts" else draw(st.sampled_from((0, 90, 180, -90))),
        "pixel_aspect": draw(st.sampled_from((None, Fraction(4, 3))))
        if road.keeps_aspect
        else None,
        "audio": road.kind in ("mp4", "mov") and draw(st.booleans()),
    }


@given(clips(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_goes_in_comes_out(clip: tuple[Road, dict[str, Any]], untouched: bool) -> None:
    road, facts = clip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"in.{road.kind}"
        try:
            write_clip(path, **facts)
        except (FFmpegError, ValueError) as error:
            note(f"FFmpeg can't write it: {error}")
            assume(False)
        output = path.with_stem("out")
        with (
            FileSource(path) as source,
            FileSink(
                output,
                source.info,
                copy_from=source,
                codec=road.codec,
                encoder_options=road.options,
                strength=0.0 if untouched else 1.0,
            ) as sink,
        ):
            for frame in source:
                frame.sharp = 255 - frame.image if untouched else frame.image.copy()
                sink.write(frame)
        before, after = seen(path), seen(output)
        assert [moment for moment, _ in after] == [moment for moment, _ in before]
        for (_, old), (_, new) in zip(before, after, strict=True):
            assert all(np.array_equal(*pair) for pair in zip(old, new, strict=True))
        assert tags(output) == tags(path)
        assert heard(output) == heard(path)


def seen(path: Path) -> list[tuple[Fraction, list[Any]]]:
    """When each picture of a file is shown, in seconds, and its samples."""
    with av.open(str(path)) as container:
        return [
            (picture.pts * picture.time_base, [p.copy() for p in planes(planar_copy(picture))])
            for picture in container.decode(video=0)
        ]


def tags(path: Path) -> dict[str, Any]:
    """What a file says of its picture beside the samples."""
    names = "colorspace", "color_range", "color_primaries", "color_trc"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        picture = next(container.decode(video=0))
        kept = names[2:] if picture.format.is_rgb else names  # RGB that was untagged gets its tags
        return {
            **{name: int(getattr(picture, name)) for name in kept},
            "size": (picture.width, picture.height),
            "layout": planar_copy(picture).format.name,
            "rotation": picture.rotation % 360,
            "pixel aspect": stream.sample_aspect_ratio or 1,
        }


def heard(path: Path) -> list[tuple[bytes, Any]]:
    """The packets of the sound, and when each is due."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        packets = container.demux(audio=0)
        return [(bytes(p), p.pts * p.time_base) for p in packets if p.size and p.pts is not None]
