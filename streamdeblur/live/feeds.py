"""Live sources: they come at their own pace, and come back after they were lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import replace

import av
from av.codec.context import Flags
from av.error import EOFError as EndOfStream
from av.error import ExitError, FFmpegError

from streamdeblur.errors import VideoError
from streamdeblur.frames import ClosedInTheEnd, Frame, FrameSource, VideoInfo, rgb_view
from streamdeblur.live.addresses import Address
from streamdeblur.threads import watched
from streamdeblur.video.clocks import Clock, Pace, moment_of
from streamdeblur.video.ffmpeg import close_reader, explained, reason
from streamdeblur.video.headers import MICROSECOND, chroma_location, picture_stream, video_info

DEFAULT_RETRY = 30.0
"""Seconds for which a lost source is looked for."""
_OPENING = 10.0  # seconds in which the first picture, and each other, must come
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 1.0  # seconds between attempts to come back
_STABLE = 1.0  # seconds after which a connection has proved itself
_GRACE = 1.0  # seconds that FFmpeg has to notice by itself that nothing comes
_NAP = 0.1  # seconds in which a closed source is noticed


class LiveSource(ClosedInTheEnd):
    """The frames of a camera, screen or stream as they come; pts in microseconds since the first.

    When the stream ends, breaks or gives nothing for a while it is opened again, at once and then
    with growing pauses of 1 s at most. Time goes on meanwhile: pts have a gap as long as the
    outage. Frames may change their size; `info` is that of the first.

    Args:
        address: as `live_address` makes it.
        retry: seconds for which a lost source is looked for; 0 for a single attempt.

    Raises:
        VideoError: it cannot be opened; while iterating, it did not come back in time.
    """

    live = may_hang = True

    def __init__(self, address: Address, *, retry: float = DEFAULT_RETRY) -> None:
        self._address, self._retry = address, retry
        self.messages: deque[str] = deque()
        """What happened to the source, one line each: to be taken from the left."""
        self.away = ""
        """Words for it while the source is lost; empty while it is there."""
        self.shown = address.shown
        """Its name for messages."""
        self.connections = 1
        """How often the source was opened with success."""
        self._connection = _Connection(address)
        self._closed = False
        self._frames = self._all_frames()
        self.info = replace(self._connection.described(), time_base=MICROSECOND)

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the source is closed. A second iteration continues the first."""
        while True:
            try:
                frame = next(self._frames, None)
            except ValueError:  # "already executing": another thread is closing it just now
                if not self._closed:
                    raise
                return
            if frame is None:
                return
            yield frame

    def close(self) -> None:
        """Let go of the source; the iteration ends, in whatever thread it runs, as soon as it can.

        Harmless when repeated.
        """
        self._closed = True
        with suppress(ValueError):  # it is running in another thread, which then closes
            self._frames.close()
            self._connection.close()

    def _all_frames(self) -> Generator[Frame, None, None]:
        clock, wait = Clock(), 0.0
        try:
            while not self._closed:
                opened = time.monotonic()
                for picture, captured in self._pictures():
                    picture.pts = clock.tick(picture, captured)
                    picture.time_base = MICROSECOND
                    picture.duration = 0  # the next frame ends it, whenever that comes
                    yield Frame(picture, rgb_view(picture), picture.pts, captured=captured)
                if self._closed or self._connection.is_complete:
                    return
                is_stable = time.monotonic() - opened > _STABLE
                wait = self._come_back(0.0 if is_stable else _longer(wait))
                clock.restart()
        finally:
            self._closed = True

    def _pictures(self) -> Iterator[tuple[av.VideoFrame, float]]:
        """The connection's pictures, until it breaks or hangs or the source is closed."""
        patience = self._address.patience + _GRACE
        with closing(watched(self._connection, patience)) as pictures, suppress(TimeoutError):
            for item in pictures:
                if self._closed:
                    return
                if item is not None:
                    yield item
            return
        self._connection.failure = f"nothing came for {patience:g} s"  # not even an error

    def _come_back(self, wait: float) -> float:
        """Open the source again after a pause of `wait` seconds, or of what it has grown to."""
        shown, failure = self._address.shown, self._connection.failure or "it ended"
        lost = time.monotonic()
        self.away = f"lost: {failure}"
        self.messages.append(f"{shown} was lost ({failure}): trying to get it back")
        while not self._closed:
            self._sleep(wait)
            try:
                self._connection = _Connection(self._address)
            except VideoError as error:
                failure = str(error)
            else:
                self.connections += 1
                self.away = ""
                self.messages.append(f"{shown} is back after {time.monotonic() - lost:.1f} s")
                return wait
            if time.monotonic() - lost >= self._retry:
                raise VideoError(
                    f"{shown} was lost and did not come back within {self._retry:g} s: {failure}"
                )
            wait = _longer(wait)
        return wait

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._closed and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _NAP))


class RealtimeSource(ClosedInTheEnd):
    """A file played at its own pace, as if it were a camera; closing it closes the file.

    Args:
        source: the file.
        name: what people call it.
        messages: what they should know of it, one line each.
    """

    live = may_hang = True

    def __init__(self, source: FrameSource, name: str, *messages: str) -> None:
        self._source = source
        self.shown = name
        """Its name for messages."""
        self.info = source.info
        self.messages = deque(messages)
        """To be taken from the left; there will be no more, since a file is not lost."""
        self.away = ""

    def __iter__(self) -> Iterator[Frame]:
        """Yield each frame when it is due."""
        pace = Pace(leaps=False)
        for frame in self._source:
            frame.captured = pace.wait_for(frame.pts * self.info.time_base)
            yield frame

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()


class _Connection:
    """One opening of a source: pictures until it breaks.

    Raises:
        VideoError: it cannot be opened, or gives no picture.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self.failure = ""
        """Why the pictures ended, in a few words; empty if the stream just came to its end."""
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
            self._location = chroma_location(self._container, self._stream)
            context = self._stream.codec_context
            context.flags |= Flags.low_delay
            context.copy_opaque = True
            context.thread_type = "SLICE"  # threads of whole frames would each keep one back
            self._has_end = address.ends or self._container.duration is not None
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
        pace = Pace() if self._address.paced or self._has_end else None
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

    def _decoded(self) -> Generator[tuple[av.VideoFrame, float], None, None]:
        latest = time.monotonic()
        try:
            # All tracks are read: where sound alone goes on, somebody must notice it.
            for packet in self._container.demux():
                pictures: list[av.VideoFrame] = []
                if packet.stream.index == self._stream.index:
                    packet.opaque = time.monotonic()
                    with suppress(FFmpegError):  # streams are joined in the middle, or damaged
                        pictures = self._stream.decode(packet)
                for picture in pictures:
                    came = picture.opaque
                    yield picture, came if isinstance(came, float) else time.monotonic()
                    latest = time.monotonic()
                if time.monotonic() - latest > _OPENING:
                    self.failure = f"nothing to decode came for {_OPENING:g} s"
                    return
        except (EndOfStream, IndexError):  # PyAV's second one: a track had appeared late
            return
        except ExitError:  # PyAV's way to end a read that takes too long
            self.failure = f"nothing came for {self._address.patience:g} s"
        except (FFmpegError, OSError) as error:
            self.failure = self._address.hide(reason(error))


def _longer(wait: float) -> float:
    return min(max(2 * wait, _FIRST_WAIT), _LONGEST_WAIT)
