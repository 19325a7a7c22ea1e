"""Live sources: they come at their own pace, and come back after they were lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from fractions import Fraction

import av

from streamdeblur.errors import VideoError
from streamdeblur.frames import ClosedInTheEnd, Frame, FrameSource, rgb_view
from streamdeblur.live.addresses import Address
from streamdeblur.live.connection import Connection
from streamdeblur.live.sound import PlayedSound, Sound, SoundFormat
from streamdeblur.threads import watched
from streamdeblur.video.clocks import Clock, Pace
from streamdeblur.video.headers import MICROSECOND
from streamdeblur.video.upright import upright, upright_info

DEFAULT_RETRY = 30.0
"""Seconds for which a lost source is looked for."""
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 1.0  # seconds between attempts to come back
_STABLE = 1.0  # seconds after which a connection has proved itself
_GRACE = 1.0  # seconds that FFmpeg has to notice by itself that nothing comes
_NAP = 0.1  # seconds in which a closed source is noticed


class LiveSource(ClosedInTheEnd):
    """The frames of a camera, screen or stream as they come; pts in microseconds since the first.

    When the stream ends, breaks or gives nothing for a while it is opened again, at once and then
    with growing pauses of 1 s at most. Time goes on meanwhile: pts have a gap as long as the
    outage. Frames are upright, and may change their size; `info` is that of the first. Who may be
    slower than the source takes `latest(source)`, as `run` does by itself: here nothing is dropped
    until it is a second late, and then what comes before the newest key frame.

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
        self._connection = Connection(address)
        self.sound = Sound(stream) if (stream := self._connection.sound) else None
        """What is heard beside the frames; None where there is nothing."""
        self._is_heard = True
        self._closed = False
        self._frames = self._all_frames()
        stored = self._connection.described()
        self._matrix = stored.display_matrix
        self.info = replace(upright_info(stored), time_base=MICROSECOND)
        if why := self._connection.unheard:
            self.messages.append(f"the sound of {self.shown} is left out: {why}")
        if address.kind == "camera":
            self.messages.extend(self._unmet_wishes())

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

    def _unmet_wishes(self) -> Iterator[str]:
        """What a camera does otherwise than asked: its driver takes what is nearest, in silence."""
        size, rate = (self._address.options.get(name) for name in ("video_size", "framerate"))
        given, given_rate = f"{self.info.width}x{self.info.height}", self.info.rate
        advice = "another --camera-format, such as mjpeg, may have it"
        if size and size != given:
            yield f"{self.shown} gives {given}, not {size}: {advice}"
        if rate and abs(given_rate - Fraction(rate)) > 1:  # 29.97 is 30
            yield f"{self.shown} gives {float(given_rate):g} frames a second, not {rate}: {advice}"

    def _all_frames(self) -> Generator[Frame, None, None]:
        clock, wait = Clock(), 0.0
        try:
            while not self._closed:
                opened = time.monotonic()
                for stored, captured in self._pictures():
                    picture = upright(stored, self._matrix)
                    picture.pts = clock.tick(picture, captured)
                    picture.time_base = MICROSECOND
                    picture.duration = 0  # the next frame ends it, whenever that comes
                    self._listen(clock.offset, picture.pts)
                    yield Frame(picture, rgb_view(picture), picture.pts, captured=captured)
                if self._closed or self._connection.is_complete:
                    return
                is_stable = time.monotonic() - opened > _STABLE
                wait = self._come_back(0.0 if is_stable else _longer(wait))
                clock.restart()
        finally:
            self._closed = True

    def _listen(self, offset: Fraction, now: int) -> None:
        """Hand on the sound that has come, on the clock of the frames."""
        heard = self._connection.heard
        while heard:
            packet = heard.popleft()
            if self.sound is not None and self._is_heard:
                self.sound.hear(packet, offset, now * MICROSECOND)

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
                self._connection = Connection(self._address)
            except VideoError as error:
                failure = str(error)
            else:
                self.connections += 1
                self.away = ""
                self.messages.append(f"{shown} is back after {time.monotonic() - lost:.1f} s")
                self._compare_sound()
                return wait
            if time.monotonic() - lost >= self._retry:
                raise VideoError(
                    f"{shown} was lost and did not come back within {self._retry:g} s: {failure}"
                )
            wait = _longer(wait)
        return wait

    def _compare_sound(self) -> None:
        """Who writes the sound cannot go on with another format."""
        stream = self._connection.sound
        is_same = self.sound is not None and stream and SoundFormat.of(stream) == self.sound.format
        self._is_heard = bool(is_same)
        if self.sound is not None and not is_same:
            self.messages.append(f"{self.shown} has no sound now, or not as before: it is left out")

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._closed and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _NAP))


class RealtimeSource(ClosedInTheEnd):
    """A file played upright at its own pace, as if it were a camera; closing it closes the file.

    Args:
        source: the file.
        name: what people call it.
        messages: what they should know of it, one line each.
        heard: its sound, if it has some; closed with the file.
    """

    live = may_hang = True

    def __init__(
        self, source: FrameSource, name: str, *messages: str, heard: PlayedSound | None = None
    ) -> None:
        self._source, self._heard = source, heard
        self.sound = heard.sound if heard else None
        """What is heard beside the frames; None where there is nothing."""
        self.shown = name
        """Its name for messages."""
        self.info = upright_info(source.info)
        self.messages = deque(messages)
        """To be taken from the left; there will be no more, since a file is not lost."""
        self.away = ""

    def __iter__(self) -> Iterator[Frame]:
        """Yield each frame when it is due."""
        pace = Pace(leaps=False)
        for frame in self._source:
            picture = upright(frame.picture, self._source.info.display_matrix)
            due = pace.wait_for(moment := frame.pts * self.info.time_base)
            if self._heard:
                self._heard.read_on(moment)
            yield Frame(picture, None, frame.pts, captured=due)

    def close(self) -> None:
        """Let go of the file."""
        if self._heard:
            self._heard.close()
        self._source.close()


def _longer(wait: float) -> float:
    return min(max(2 * wait, _FIRST_WAIT), _LONGEST_WAIT)
