"""With which options an encoder works: visually lossless, as the source was, as the user said."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from streamdeblur.frames import VideoInfo
from streamdeblur.video.hardware import encoder_options, maker_of
from streamdeblur.video.headers import PROGRESSIVE
from streamdeblur.video.layouts import traits

# SVT-AV1 prints a banner that only this variable silences (1: errors only).
os.environ.setdefault("SVT_LOG", "1")

_DEFAULTS: dict[str, dict[str, str]] = {
    # Visually lossless, since the footage is encoded a second time: each about 6 points of
    # quantiser finer than the encoder's default, at a speed that leaves the cores to the network;
    # on all devices the same, so that results are comparable. At 1280x720 each takes at most 55 ms
    # of one core for a frame (ProRes 105), so that 120 frames a second need seven of them.
    "libx264": {"crf": "17", "preset": "veryfast"},
    "libx265": {"crf": "20", "preset": "veryfast"},
    "libsvtav1": {"crf": "22", "preset": "9"},
    # "Good" at its quickest takes six times as long, for a tenth to a fifth less space.
    "libvpx-vp9": {"crf": "20", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
    "prores_ks": {"vendor": "apl0"},  # editors expect Apple's mark
    # Every frame a key frame with a checksum, as archives ask.
    "ffv1": {"level": "3", "g": "1", "slicecrc": "1"},
}
_LIVE: dict[str, dict[str, str]] = {
    # Each frame comes out when it has gone in, at whatever speed that takes.
    "libx264": {"tune": "zerolatency"},
    "libx265": {"tune": "zerolatency"},
    "libsvtav1": {"preset": "10", "svtav1-params": "pred-struct=1:lookahead=0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
}
_PRORES_PROFILES = {
    "Proxy": "proxy",
    "LT": "lt",
    "Standard": "standard",
    "HQ": "hq",
    "4444": "4444",
    "4444XQ": "4444xq",
    "XQ": "4444xq",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is asked of the encoding; by default what suits the input."""

    codec: str | None = None
    """Encoder or codec family; or `gpu` or one of MAKERS for a hardware encoder of the input's."""
    crf: float | None = None
    """Quality in the encoder's own measure, less is better."""
    preset: str | None = None
    """Speed in the encoder's own words."""
    options: Mapping[str, str] | None = None
    """More options for the encoder, which win over all others."""
    live: bool = False
    """No frame may wait in the encoder."""
    repeatable: bool = False
    """The same pictures must give the same bytes each time."""


def options_for(info: VideoInfo, encoder: str, wishes: Wishes) -> dict[str, str]:
    """The options of an encoder for a video like `info`."""
    crf, live = wishes.crf, wishes.live
    on_gpu = maker_of(encoder) is not None
    usual = encoder_options(encoder, crf, live=live) if on_gpu else _DEFAULTS.get(encoder, {})
    options = {**usual, **_from_source(info, encoder)}
    if live:
        options |= _LIVE.get(encoder, {})
    if crf is not None and not on_gpu:
        options["crf"] = f"{crf:g}"
    if wishes.repeatable and encoder == "libx264" and _has_avx512():
        # With AVX-512 its macroblock tree is not: of 150 encodings of the same five frames 18 came
        # out otherwise, and none with AVX2.
        options["x264-params"] = ":".join(filter(None, [options.get("x264-params"), "asm=avx2"]))
    if wishes.preset is not None:
        options["preset"] = wishes.preset
    for key, value in (wishes.options or {}).items():
        joined = key.endswith("-params") and key in options
        options[key] = f"{options[key]}:{value}" if joined else value
    return options


def _has_avx512() -> bool:
    try:
        return "avx512" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False


def _from_source(info: VideoInfo, encoder: str) -> dict[str, str]:
    """Options that carry over what PyAV has no attribute for."""
    options: dict[str, str] = {}
    if info.chroma_location and traits(info.pix_fmt).columns > 1:
        options["chroma_sample_location"] = info.chroma_location
    if info.field_order > PROGRESSIVE and encoder in ("libx264", "prores_ks"):
        options["flags"] = "+ildct+ilme"
    if encoder == "prores_ks" and info.profile in _PRORES_PROFILES and info.codec == "prores":
        options["profile"] = _PRORES_PROFILES[info.profile]
    parameters = _hdr_parameters(info, encoder)
    if encoder == "libx265":
        parameters.insert(0, "log-level=error")  # x265 prints by itself
    if parameters:
        options[_PARAMETERS[encoder]] = ":".join(parameters)
    return options


_PARAMETERS = {
    "libx264": "x264-params",
    "libx265": "x265-params",
    "libsvtav1": "svtav1-params",
}


def _hdr_parameters(info: VideoInfo, encoder: str) -> list[str]:
    """Static HDR metadata (SMPTE ST 2086, CTA-861.3) in the words of each encoder."""
    if encoder not in _PARAMETERS:
        return []
    parameters = []
    display, light = {
        "libx264": ("mastering-display", "cll"),
        "libx265": ("master-display", "max-cll"),
        "libsvtav1": ("mastering-display", "content-light"),
    }[encoder]
    if info.mastering_display:
        # x264 and x265 count whole steps of 1/50000 and 1/10000 cd/m², SVT-AV1 in units.
        step, light_step = (None, None) if encoder == "libsvtav1" else (50_000, 10_000)
        *points, least, most = info.mastering_display
        red, green, blue, white = (
            f"({_number(x, step)},{_number(y, step)})"
            for x, y in zip(points[::2], points[1::2], strict=True)
        )
        levels = f"({_number(most, light_step)},{_number(least, light_step)})"
        parameters.append(f"{display}=G{green}B{blue}R{red}WP{white}L{levels}")
    if info.content_light:
        parameters.append("{}={},{}".format(light, *info.content_light))
    return parameters


def _number(value: Fraction, steps: int | None) -> str:
    """A number in steps of which so many make a unit; in units if that is None."""
    return f"{float(value):.6g}" if steps is None else str(round(value * steps))
