"""One opening of a live source: its pictures until it ends, breaks or falls silent."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any

import av
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.error import EOFError as EndOfStream
from av.error import ExitError, FFmpegError
from av.packet import Packet

from streamdeblur.errors import VideoError
from streamdeblur.frames import VideoInfo
from streamdeblur.live.addresses import Address
from streamdeblur.live.catching_up import caught_up
from streamdeblur.video.clocks import Pace, moment_of
from streamdeblur.video.containers import NO_TIMES
from streamdeblur.video.ffmpeg import close_reader, described, explained, reason
from streamdeblur.video.headers import (
    begins_late,
    chroma_location,
    picture_stream,
    sound_stream,
    video_info,
)

_OPENING = 10.0  # seconds in which the first picture, and each other, must come
_HEARD = 4096  # packets of sound that wait for the next picture, at the most


class Connection:
    """One opening of a source: pictures until it breaks.

    Raises:
        VideoError: it cannot be opened, or gives no picture.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self.failure = ""
        """Why the pictures ended, in a few words; empty if the stream just came to its end."""
        self.heard: deque[Packet[Any]] = deque(maxlen=_HEARD)
        """Packets of the sound that have come: to be taken from the left."""
        self.unheard = ""
        """Why there is no sound though some was announced; empty if it is not so."""
        with explained(f"can't open {address.shown}", address.advice, hide=address.hide):
            self._container = av.open(
                address.url,
                format=address.format,
                options=dict(address.options),
                timeout=(_OPENING, address.patience),
                metadata_errors="replace",
            )
        try:
            self._stream = picture_stream(self._container, address.shown)
            self._location = chroma_location(described(self._container), self._stream)
            context = self._stream.codec_context
            context.flags |= Flags.low_delay
            context.copy_opaque = True
            context.thread_type = "SLICE"  # threads of whole frames would each keep one back
            self._has_end = address.ends or self._container.duration is not None
            self._is_paced = address.paced or self._has_end
            # Of MJPEG by HTTP, FFmpeg would take every 25 frames for a second.
            self._has_times = self._has_end or not self._container.format.flags & NO_TIMES
            self.sound = self._sound() if self._has_times else None
            """The track that `heard` is of, if there is one that can be had."""
            self._pictures = self._decoded()
            self._first = next(self._pictures, None)
            if self._first is None:
                why = self.failure or "it ended"
                raise VideoError(
                    f"{address.shown} gives no picture: {why}; is it in use or covered?"
                )
        except BaseException:
            self._container.close()
            raise

    def described(self) -> VideoInfo:
        """What the first picture and its container say; to be asked before the iteration.

        And only once in a while: PyAV ties a picture that was asked for its side data, and with it
        all memory of the decoder, into a cycle that waits for the garbage collector.
        """
        assert self._first is not None
        picture, _ = self._first
        return video_info(
            self._container, self._stream, picture, None, None, chroma_location=self._location
        )

    @property
    def is_complete(self) -> bool:
        """Whether a recording, not a live stream, has come to its end, which is no loss.

        Raises:
            VideoError: it broke off before; played again, it would begin anew.
        """
        if self._has_end and self.failure:
            raise VideoError(f"{self._address.shown} broke off: {self.failure}; try it again")
        return self._has_end

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, float]]:
        """Yield pictures, each with the moment its data came, in monotonic seconds; then close."""
        pace = Pace() if self._is_paced else None
        try:
            while self._first is not None:
                picture, captured = self._first
                if pace is not None:
                    captured = pace.wait_for(moment_of(picture, captured))
                yield picture, captured
                self._first = next(self._pictures, None)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the source. Harmless when repeated."""
        self._first = None
        self._pictures.close()
        close_reader(self._container, self._stream)

    def _sound(self) -> AudioStream | None:
        stream = sound_stream(self._container, self._stream)
        announced = self._container.streams.audio
        if stream is None and announced:
            late, unknown = "none had come when the picture began", "no decoder knows it"
            self.unheard = late if any(map(begins_late, announced)) else unknown
        return stream

    def _packets(self) -> Iterator[Packet[Any]]:
        """What is to be decoded of that which comes."""
        if self._is_paced or not self._has_times:
            return self._came()
        return caught_up(self._came(), self._stream.index)

    def _came(self) -> Iterator[Packet[Any]]:
        # All tracks are read: where sound alone goes on, somebody must notice it.
        for packet in self._container.demux():
            packet.opaque = time.monotonic()
            if self.sound is not None and packet.stream.index == self.sound.index:
                self.heard.append(packet)
            yield packet

    def _decoded(self) -> Generator[tuple[av.VideoFrame, float], None, None]:
        latest, came_last = time.monotonic(), math.inf
        try:
            for packet in self._packets():
                pictures: list[av.VideoFrame] = []
                if packet.stream.index == self._stream.index:
                    came_last = time.monotonic()
                    with suppress(FFmpegError):  # streams are joined in the middle, or damaged
                        pictures = self._stream.decode(packet)
                for picture in pictures:
                    came = picture.opaque
                    if not self._has_times:
                        picture.pts = None
                    yield picture, came if isinstance(came, float) else time.monotonic()
                    latest = came_last = time.monotonic()
                now = time.monotonic()
                if now - came_last > self._address.patience:  # and only the sound goes on
                    self.failure = f"no picture came for {self._address.patience:g} s"
                    return
                if now - latest > _OPENING:
                    self.failure = f"nothing to decode came for {_OPENING:g} s"
                    return
        except (EndOfStream, IndexError):  # PyAV's second one: a track had appeared late
            return
        except ExitError:  # PyAV's way to end a read that takes too long
            self.failure = f"nothing came for {self._address.patience:g} s"
        except (FFmpegError, OSError) as error:
            self.failure = self._address.hide(reason(error))
