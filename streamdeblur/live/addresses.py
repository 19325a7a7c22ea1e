"""What a person writes for a live picture, in FFmpeg's terms, and what of it may be shown.

0, /dev/video0, camera:NAME    a camera
screen:, screen::1             a screen; on X11 with the display's name
rtsp://, rtmp://, http(s)://, udp://, tcp://, srt://    a stream of the network, HLS included
-                              standard input, at its own pace
lavfi:testsrc2=rate=30         what an FFmpeg filter makes, for trials
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from streamdeblur.errors import VideoError
from streamdeblur.live.cameras import camera_format, camera_name, cameras_found

Kind = Literal["camera", "screen", "stream", "pipe", "filter"]
Transport = Literal["tcp", "udp"]

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "srt", "rtp")
# Never `file`: a playlist from the network must not reach into this computer.
_PROTOCOLS = "http,https,httpproxy,tls,tcp,udp,udplite,rtp,srtp,rtmp,rtmps,rtmpt,srt,crypto,data"
_HIDDEN = "***"
# Deciding what a stream is made of may take FFmpeg 5 s, which a picture need not wait for. (With
# `nobuffer` it would also throw away what it has read by then, the first key frame among it.)
_QUICK = {"analyzeduration": "500000"}
_HOUR = 3600.0
_SECOND = 1_000_000  # in the microseconds of FFmpeg's options


_ADVICE: dict[Kind, str] = {
    "screen": "is there such a screen, and may it be recorded?",
    "stream": "is the address right, and does the other side send?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a live picture comes from."""

    kind: Kind
    shown: str
    """Its name for messages: no user, no password, no parameters."""
    url: str = field(repr=False)
    """What FFmpeg opens."""
    format: str | None = None
    """FFmpeg's input format; None where it finds out by itself."""
    options: Mapping[str, str] = field(default_factory=dict)
    """FFmpeg's options for opening it."""
    paced: bool = False
    """It can come faster than it was filmed, and is held back to its own pace."""
    ends: bool = False
    """Its end is meant, and no loss."""
    patience: float = 2.0
    """Seconds without data after which it counts as dropped."""

    @property
    def advice(self) -> str:
        """What a person can do if it cannot be opened; for a camera the system is asked."""
        if self.kind == "camera":
            return cameras_found(camera_format())
        return _ADVICE.get(self.kind, "")

    def hide(self, text: str) -> str:
        """`text` without the secrets of this address, or what looks like those of another."""
        return without_secrets(text, self.url)


def live_address(
    name: str,
    *,
    size: str | None = None,
    rate: str | None = None,
    pixel_format: str | None = None,
    transport: Transport = "tcp",
) -> Address | None:
    """Understand the name of a live picture; None if it is none and may be a file.

    Args:
        name: as at the top of this file. A number that is the name of a file means the file.
        size: of a camera's or screen's picture, such as `1280x720`; by default its own choice.
        rate: of a camera or screen, in frames a second.
        pixel_format: of a camera: a layout such as `yuyv422`, or a codec such as `mjpeg`.
        transport: what RTSP sends its pictures by.

    Raises:
        VideoError: the name is not complete, or its scheme unknown.
    """
    kind, colon, rest = name.partition(":")
    wishes = {"video_size": size, "framerate": rate}
    if is_camera(name):
        return _camera(rest if kind == "camera" else name, wishes, pixel_format)
    if colon and kind == "screen":
        return _screen(rest, wishes)
    if colon and kind == "lavfi":
        if not rest:
            raise VideoError("lavfi: needs a filter, for example lavfi:testsrc2=rate=30")
        return Address(kind="filter", shown=name, url=rest, format="lavfi", paced=True, ends=True)
    if name == "-":
        return Address(
            kind="pipe",
            shown="standard input",
            url="pipe:0",
            paced=True,
            ends=True,
            patience=_HOUR,
        )
    if rest.startswith("//"):
        return _stream(name, kind.lower(), transport)
    return None


def is_camera(name: str) -> bool:
    """Whether a name is that of a camera: a number, a device, or `camera:NAME`."""
    is_number = name.isascii() and name.isdigit() and not Path(name).exists()
    return is_number or name.startswith(("/dev/video", "camera:"))


def shown(url: str) -> str:
    """A URL without user, password, parameters, and the stream key that ends those of RTMP."""
    scheme, _, rest = url.partition("://")
    _, rest = _without_user(rest)
    rest, question, _ = rest.partition("?")
    host, slash, path = rest.partition("/")
    if scheme.lower().startswith("rtmp") and "/" in path:
        path = path.rpartition("/")[0] + "/" + _HIDDEN
    return f"{scheme}://{host}{slash}{path}{question and '?' + _HIDDEN}"


def _without_user(rest: str) -> tuple[str, str]:
    """User and password of what follows `://`, and the remainder.

    People do not escape what is special in a password, a slash for example. Where it can be read
    in two ways, more is taken for the password.
    """
    before, _, _ = rest.partition("?")
    authority, _, path = before.partition("/")
    is_host = re.fullmatch(r"(\[[^]]*\]|[^:@]*)(:\d+)?", authority) is not None
    if not is_host and "@" not in before:  # the password holds the question mark
        user, _, remainder = rest.rpartition("@")
        return user, remainder
    tail = path if is_host else before
    if "@" in authority or ":" in tail.rpartition("@")[0]:
        user = before.rpartition("@")[0]
        return user, rest[len(user) + 1 :]
    return "", rest


def without_secrets(text: str, url: str) -> str:
    """`text` with `url` and all that is secret in it hidden, whatever form it takes there."""
    if "://" in url:
        text = text.replace(url, shown(url))
        for secret in sorted(_secrets(url), key=len, reverse=True):
            text = text.replace(secret, _HIDDEN)
    text = re.sub(r"://[^/\s]*@", f"://{_HIDDEN}@", text)
    return re.sub(r"(://[^\s?]*\?)[^\s'\"”]+", rf"\g<1>{_HIDDEN}", text)


def _secrets(url: str) -> set[str]:
    """Each part of a URL that nobody should read, as written and decoded."""
    rest = url.partition("://")[2]
    widest = rest.rpartition("@")
    found: set[str] = set()
    for user, remainder in (_without_user(rest), (widest[0], widest[2])):
        query = remainder.partition("?")[2]
        values = {value for _, value in parse_qsl(query)}
        found |= {user, user.partition(":")[2], query, *values}
        if url.lower().startswith("rtmp"):
            found.add(remainder.partition("?")[0].rpartition("/")[2])
    found |= {unquote(part) for part in found}
    return {part for part in found if len(part) > 1}


def _camera(device: str, wishes: Mapping[str, str | None], pixel_format: str | None) -> Address:
    kind = camera_format()
    layout = {"v4l2": "input_format", "dshow": "vcodec"}.get(kind, "pixel_format")
    if kind == "dshow" and pixel_format not in ("mjpeg", "h264"):
        layout = "pixel_format"
    return Address(
        kind="camera",
        shown=f"camera {device}",
        url=camera_name(device, kind),
        format=kind,
        options=_given({**wishes, layout: pixel_format}),
    )


def _screen(name: str, wishes: Mapping[str, str | None]) -> Address:
    if sys.platform == "win32":
        kind, url = "gdigrab", name or "desktop"
    elif sys.platform == "darwin":
        kind, url = "avfoundation", f"Capture screen {name or 0}"
    else:
        kind, url = "x11grab", name or os.environ.get("DISPLAY", "")
        if not url:
            raise VideoError("screen: finds no display; name one, for example screen::0")
    return Address(
        kind="screen",
        shown=f"screen {name}".rstrip(),
        url=url,
        format=kind,
        options=_given(wishes),
    )


def _stream(name: str, scheme: str, transport: Transport) -> Address:
    if scheme not in SCHEMES:
        raise VideoError(f"can't open {shown(name)}: use one of {', '.join(SCHEMES)}, or a file")
    options, patience = {"protocol_whitelist": _PROTOCOLS, **_QUICK}, 2.0
    paced = False
    if scheme in ("rtsp", "rtsps"):
        options |= {"rtsp_transport": transport, "allowed_media_types": "video+audio"}
        options["timeout"] = str(2 * _SECOND)  # also that of connecting
    elif scheme in ("http", "https"):
        options["timeout"], patience = str(5 * _SECOND), 5.0
        if urlsplit(name).path.lower().endswith((".m3u8", ".m3u")):
            paced, patience = True, 15.0  # HLS comes in pieces of many seconds
    elif scheme == "udp":
        options["overrun_nonfatal"] = "1"  # late once is no reason to stop
    return Address(
        kind="stream",
        shown=shown(name),
        url=name,
        options=options,
        paced=paced,
        patience=patience,
    )


def _given(options: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in options.items() if value is not None}
