"""Sending a live picture on: over the network, as HLS, or to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import av
from av.error import FFmpegError
from av.video.frame import PictureType

from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, VideoInfo
from streamdeblur.live.addresses import SCHEMES, shown, without_secrets
from streamdeblur.live.sound import PROMPT, Sound, SoundTrack
from streamdeblur.video.encoder_settings import Wishes
from streamdeblur.video.ffmpeg import explained, translated
from streamdeblur.video.outputs import refuse_paths
from streamdeblur.video.picture import PictureTrack

_FORMATS = {"rtsp": "rtsp", "rtsps": "rtsp", "rtmp": "flv", "rtmps": "flv", "rtp": "rtp_mpegts"}
_CONTAINER: dict[str, dict[str, str]] = {
    "rtsp": {"rtsp_transport": "tcp"},
    "flv": {"flvflags": "no_duration_filesize"},  # which it would go back for at the end
    "hls": {"hls_time": "2", "hls_list_size": "6", "hls_flags": "delete_segments"},
    "mpegts": {"flush_packets": "1", "muxdelay": "0"},
}
_KEY_FRAMES = 2  # seconds between them: so long may one who joins have to wait
_DATAGRAM = 7 * 188  # bytes: as many packets of a transport stream as fit into a frame of Ethernet
_USUAL_QUALITY = 23.0  # x264's own: what is sent on must fit the line


def is_stream(target: str) -> bool:
    """Whether an output is to be sent rather than recorded: a URL, `.m3u8`, `-`."""
    return target == "-" or "://" in target or target.lower().endswith(".m3u8")


class Restream:
    """Sends live frames as H.264, and the sound beside them: to `rtsp://`, `rtmp://`, `udp://` and
    the like, to an HLS playlist `NAME.m3u8` with its segments beside it, or, as MPEG-TS, to
    standard output (`-`).

    Frames of another size than the first's are fitted into it.

    Args:
        target: where to.
        info: of the source.
        sound: of the source, if it has one that is to be sent.
        codec: encoder or codec family; by default H.264.
        crf: quality in the encoder's own measure, less is better.
        preset: speed in the encoder's own words.
        encoder_options: more options for the encoder.
        overwrite: replace an existing playlist.
        compare: the original at the left of the result.
        descriptor: where standard output is, if not at 1.

    Raises:
        VideoError: nobody answers there, or it cannot be written, here or later.
    """

    def __init__(
        self,
        target: str,
        info: VideoInfo,
        *,
        sound: Sound | None = None,
        codec: str | None = None,
        crf: float | None = None,
        preset: str | None = None,
        encoder_options: Mapping[str, str] | None = None,
        overwrite: bool = False,
        compare: bool = False,
        descriptor: int = 1,
    ) -> None:
        self._target = target
        self.closed = False
        """Whether the program that read standard output is gone."""
        self.shown = shown(target) if "://" in target else target
        """Its name for messages."""
        kind = _format(target)
        if kind == "hls":
            refuse_paths(Path(target), Path(target), None, overwrite)
        url = f"pipe:{descriptor}" if target == "-" else _with_whole_packets(target)
        self._info = replace(info, codec="h264")
        # At the most: where the network gives fewer frames than the source, `write` asks for them.
        options = {"g": str(max(1, round(_KEY_FRAMES * info.rate))), **(encoder_options or {})}
        self._asks_for_keys = "g" not in (encoder_options or {})
        self._next_key: int | None = None
        with self._explained():
            self._output = av.open(
                url, "w", format=kind, container_options={**PROMPT, **_CONTAINER.get(kind, {})}
            )
        self._picture = PictureTrack(
            self._output,
            self._info,
            self.shown,
            Wishes(
                codec=codec,
                crf=_USUAL_QUALITY if crf is None and codec is None else crf,
                preset=preset,
                options=options,
                live=True,
            ),
            kind="flv" if kind == "flv" else "mpegts",
            compare=compare,
        )
        self._picture.open()
        self._sound = SoundTrack(sound, self._output, kind)
        if kind != "hls" or "://" in target:  # a playlist here begins with its first frame
            with self._explained():
                self._output.start_encoding()
        self.notices = (*self._picture.notices, *self._sound.notices)
        """What differs from what was asked for, one line each."""

    def write(self, frame: Frame) -> None:
        """Encode and send a frame.

        Raises:
            VideoError: the other side is gone.
        """
        if self.closed:
            return
        with translated(f"can't send to {self.shown}"):
            try:
                picture = self._picture.finished(frame)
                is_due = self._next_key is None or frame.pts >= self._next_key
                if self._asks_for_keys and is_due:
                    picture.pict_type = PictureType.I
                    self._next_key = frame.pts + round(_KEY_FRAMES / self._info.time_base)
                self._output.mux(self._picture.encode(picture))
                self._output.mux(self._sound.until(frame.pts * self._info.time_base))
            except BrokenPipeError:
                if self._target != "-":
                    raise
                self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None or self.closed:  # nothing more can be sent
            with suppress(FFmpegError, OSError, ValueError):
                self._output.close()
            return
        with translated(f"can't finish {self.shown}"):
            self._output.mux(self._picture.flush())
            self._output.close()

    def _explained(self) -> AbstractContextManager[None]:
        return explained(
            f"can't send to {self.shown}",
            "is the address right, and does the other side listen?",
            hide=lambda text: without_secrets(text, self._target),
        )


def descriptor_for_video() -> int:
    """Keep standard output for the video alone: whatever else is printed there goes to stderr.

    Returns:
        The descriptor that leads to what was standard output.

    Raises:
        VideoError: it is a terminal, which would show noise.
    """
    if os.isatty(1):
        raise VideoError("won't write video on the terminal: pipe it on, or name a file with -o")
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept


def _with_whole_packets(target: str) -> str:
    """A URL by which each datagram holds whole packets, as receivers expect.

    FFmpeg would fill datagrams: one that was lost would spoil a packet of the next, too.
    """
    if not target.lower().startswith("udp://") or "pkt_size=" in target:
        return target
    return f"{target}{'&' if '?' in target else '?'}pkt_size={_DATAGRAM}"


def _format(target: str) -> str:
    """FFmpeg's output format for a target."""
    scheme, separator, _ = target.partition("://")
    if not separator:
        return "hls" if target.lower().endswith(".m3u8") else "mpegts"
    if scheme.lower() not in SCHEMES:
        raise VideoError(f"can't send to {shown(target)}: use one of {', '.join(SCHEMES)}")
    return _FORMATS.get(scheme.lower(), "mpegts")
