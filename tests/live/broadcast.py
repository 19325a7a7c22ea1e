"""A station for the tests: sends MPEG-TS over TCP or HTTP at its own pace, and breaks as told."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import cache

import av
import numpy as np

RATE = 25
SAMPLES = 48_000  # of sound, a second


class Broadcast:
    """Listens on a port of its own; each listener gets the same pictures, from the first on.

    Args:
        size: width and height in pixels.
        then: width and height from the 60th picture on, over the same connection.
        speed: 0.5 sends half as many pictures a second as their timestamps say.
        http: answer like a web server.
        frozen_after: pictures after which the first listener is sent nothing more, over an open
            connection.
        blank_after: pictures after which the first listener is sent nothing but sound.
        sound: FFmpeg's name of what a beep is coded in, which is heard while a white flash is
            seen: in the first fifth of each second.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (64, 48),
        then: tuple[int, int] | None = None,
        speed: float = 1.0,
        http: bool = False,
        frozen_after: int | None = None,
        blank_after: int | None = None,
        sound: str | None = None,
    ) -> None:
        self.size, self.then, self.speed, self.http, self.sound = size, then, speed, http, sound
        self.frozen_after, self.blank_after = frozen_after, blank_after
        self.listeners = 0
        with socket.create_server(("127.0.0.1", 0)) as door:
            self.port: int = door.getsockname()[1]
        self.on()

    @property
    def url(self) -> str:
        return f"{'http' if self.http else 'tcp'}://127.0.0.1:{self.port}"

    def on(self) -> None:
        """Begin to send."""
        self.returned = time.monotonic()
        self._door = socket.create_server(("127.0.0.1", self.port))
        self._door.settimeout(0.05)
        self._off = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(self._off,))
        self._thread.start()

    def off(self) -> None:
        """Break all connections, and answer no more."""
        self._off.set()
        self._thread.join()
        self._door.close()

    def __enter__(self) -> Broadcast:
        return self

    def __exit__(self, *_: object) -> None:
        self.off()

    def _serve(self, off: threading.Event) -> None:
        sending = []
        while not off.is_set():
            with suppress(TimeoutError):
                line, _ = self._door.accept()
                self.listeners += 1
                sending.append(
                    threading.Thread(target=self._send, args=(line, self.listeners, off))
                )
                sending[-1].start()
        for thread in sending:
            thread.join()

    def _send(self, line: socket.socket, listener: int, off: threading.Event) -> None:
        with line, suppress(OSError):
            self._play(line, listener, off)

    def _play(self, line: socket.socket, listener: int, off: threading.Event) -> None:
        if self.http:
            line.recv(4096)
            line.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        began = time.monotonic()
        pieces = transport_stream(self.size, sound=self.sound)
        if self.then:
            pieces = pieces[:60] + transport_stream(self.then)
        for number, chunk in enumerate(pieces):
            if number == self.frozen_after and listener == 1:
                off.wait()
                return
            is_blank = self.blank_after and number >= self.blank_after and listener == 1
            line.sendall(without_track(chunk, 0) if is_blank else chunk)
            left = began + number / RATE / self.speed - time.monotonic()
            if off.wait(max(0.0, left)):
                return


@cache
def transport_stream(
    size: tuple[int, int], seconds: int = 40, sound: str | None = None
) -> tuple[bytes, ...]:
    """MPEG-TS of a moving bar, one piece for each picture, a key frame every fifth.

    With sound, of flashes and beeps.
    """
    return tuple(_pieces(size, seconds * RATE, sound))


def _pieces(size: tuple[int, int], count: int, sound: str | None) -> Iterator[bytes]:
    width, height = size
    buffer = io.BytesIO()
    options = {"tune": "zerolatency", "preset": "ultrafast", "g": "5"}
    with av.open(buffer, "w", format="mpegts", container_options={"flush_packets": "1"}) as output:
        stream = output.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if sound:
            voice = output.add_stream(sound, rate=SAMPLES, layout="mono")
        for number in range(count):
            image = np.full((height, width, 3), 60, np.uint8)
            image[:, number % width] = 200
            if sound:
                is_flash = number % RATE < RATE // 5
                image[:] = 255 if is_flash else 60
                output.mux(voice.encode(_beep(number, is_flash)))
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(picture))
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()


def without_track(content: bytes, number: int) -> bytes:
    """MPEG-TS that announces a track of which no packet comes."""
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    return b"".join(p for p in packets if (p[1] & 0x1F) << 8 | p[2] != 0x100 + number)


def _beep(number: int, is_loud: bool) -> av.AudioFrame:
    """The sound beside a picture: 1 kHz, or silence."""
    count = SAMPLES // RATE
    wave = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(count) / SAMPLES) * is_loud
    beep = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
    beep.sample_rate, beep.time_base = SAMPLES, Fraction(1, SAMPLES)
    beep.pts = number * count
    return beep
