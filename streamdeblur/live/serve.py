"""A page that shows sharp frames as they come, to browsers here or elsewhere.

Viewers are coroutines in one thread (`threads.event_loop`). `write` leaves a frame and goes
on; whoever is ready for a picture takes the newest, so a slow viewer sees fewer and slows nobody.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from streamdeblur.frames import ClosedInTheEnd, Frame
from streamdeblur.live.guard import (
    HEADER_BYTES,
    Guard,
    Refusal,
    Request,
    guarding_headers,
    read_request,
)
from streamdeblur.live.listening import listen, page_url
from streamdeblur.live.newest import Newest
from streamdeblur.stills import as_jpeg, as_png
from streamdeblur.threads import event_loop

MOST_CONNECTIONS = 64
SECONDS_UNTIL_STALLED = 5.0
"""A viewer who does not take a piece of what is sent in this time is let go."""
_PIECE_BYTES = 64 * 1024
_SEND_BUFFER_BYTES = 128 * 1024  # what lies in the kernel is late: a picture or two, no more
_PAGE = Path(__file__).with_name("page.html").read_bytes()
_BOUNDARY = b"next-picture"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What the page tells about the run."""

    model: str = ""
    provider: str = ""
    """What ONNX Runtime runs it on."""
    rate: float = 0.0
    """Frames per second."""
    delay_ms: float | None = None
    """From capture to this program's output, in the median of late; None if it is not known."""
    dropped: int = 0
    """Frames that came while the network was busy with others."""


class Adjustable(Protocol):
    """What sharpens, and applies its strength to the frames from the next one on."""

    strength: float
    """How much of the correction is applied, 0 to 1; set from any thread."""


class ServeSink(ClosedInTheEnd):
    """Shows each frame that it is given in a page, to several viewers at once. A context manager.

        network = AdaptiveNetwork([Choice(Deblurrer.load())])
        with open_source("0") as source, ServeSink(network) as page:
            print(page.url)
            run(source, network, page)

    Args:
        network: an `AdaptiveNetwork`, whose strength the page shows and sets.
        host: the address or name of this computer to be reached at. Unless it is a loopback
            address, viewers need the token that `url` holds.
        port: 0 is any that is free.
        pixel_aspect: width of a pixel over its height.

    Raises:
        VideoError: the address is not this computer's, or the port cannot be used.
    """

    def __init__(
        self,
        network: Adjustable,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        pixel_aspect: float = 1.0,
    ) -> None:
        self.statistics = Statistics()
        """What the page shows of the run; set anew as it changes."""
        self.notices: tuple[str, ...] = ()
        """What a person should know, one line each."""
        self._network, self._newest = network, Newest()
        self._pixel_aspect = pixel_aspect
        listening = listen(host, port)
        address, bound_port = listening.getsockname()[:2]
        is_private = ipaddress.ip_address(address).is_loopback
        token = None if is_private else secrets.token_urlsafe(16)
        self._guard = Guard(address, host, token)
        self.url = page_url(address, bound_port, token)
        """Where the page is."""
        self.closed = False
        """Whether nothing is shown any more."""
        self._arrived: deque[Frame] = deque(maxlen=1)
        self._viewers: set[asyncio.Task[None]] = set()
        try:
            from streamdeblur.live.webrtc import Peers
        except ImportError:
            self._peers = None
            self.notices = (
                "video goes to the page as MJPEG; for WebRTC, which needs less of the network:"
                " pip install 'streamdeblur[serve]'",
            )
        else:
            self._peers = Peers(self._newest, address)
        self._thread = ExitStack()
        self._loop = self._thread.enter_context(event_loop())
        self._server = self._in_loop(
            asyncio.start_server(self._welcome, sock=listening, limit=HEADER_BYTES)
        )

    def write(self, frame: Frame) -> None:
        """Show `frame`, or nothing if the sink is closed. Never waits for a viewer."""
        if not self.closed:
            self._arrived.append(frame)
            self._loop.call_soon_threadsafe(self._take)

    def close(self) -> None:
        """Part from the viewers. Harmless when repeated."""
        if not self.closed:
            self.closed = True
            self._in_loop(self._finish())
            self._thread.close()

    def _in_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _finish(self) -> None:
        self._server.close()
        for viewer in self._viewers:
            viewer.cancel()
        await asyncio.gather(*self._viewers, return_exceptions=True)
        if self._peers:
            with suppress(TimeoutError):  # what ends does not wait for long
                await asyncio.wait_for(self._peers.close(), 3)

    def _take(self) -> None:
        while self._arrived:
            self._newest.put(self._arrived.pop())

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        viewer = asyncio.current_task()
        assert viewer is not None
        self._viewers.add(viewer)
        try:
            with suppress(EOFError, OSError, asyncio.CancelledError):  # they went, or had to
                await self._attend(reader, writer)
        finally:
            writer.transport.abort()  # what is still unsent now is wanted by nobody
            self._viewers.discard(viewer)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        try:
            if len(self._viewers) > MOST_CONNECTIONS:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "there are too many viewers")
            request = await read_request(reader)
            self._guard.check(request)
            if (request.method, request.path) == ("GET", "/video.mjpeg"):
                await self._show(reader, writer)
                return
            status, kind, body = HTTPStatus.OK, *await self._answer(request)
        except Refusal as refusal:
            status, kind = refusal.status, "text/plain; charset=utf-8"
            body = f"{refusal}\n".encode()
        await _send(writer, _head(status, kind, f"Content-Length: {len(body)}") + body)
        writer.write_eof()
        # The rest of a refused request is read: else it would reset the connection, and with it
        # the answer.
        async with asyncio.timeout(1):
            while await reader.read(HEADER_BYTES):
                pass

    async def _answer(self, request: Request) -> tuple[str, bytes]:
        """The type and body of what is asked for."""
        answers: dict[str, dict[str, Callable[[Request], Awaitable[tuple[str, bytes]]]]] = {
            "/": {"GET": self._page},
            "/state": {"GET": self._state},
            "/snapshot.png": {"GET": self._snapshot},
            "/strength": {"POST": self._set_strength},
            "/offer": {"POST": self._connect},
        }
        if request.path not in answers:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is nothing of this name")
        if request.method not in answers[request.path]:
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "this cannot be done with it")
        return await answers[request.path][request.method](request)

    async def _page(self, _: Request) -> tuple[str, bytes]:
        return "text/html; charset=utf-8", _PAGE

    async def _state(self, _: Request) -> tuple[str, bytes]:
        state = {
            **asdict(self.statistics),
            "strength": self._network.strength,
            "frames": self._newest.number,
            "pixel_aspect": self._pixel_aspect,
            "webrtc": self._peers is not None and not self._peers.is_full,
        }
        return "application/json", json.dumps(state).encode()

    async def _snapshot(self, _: Request) -> tuple[str, bytes]:
        if not self._newest.number:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "there is no picture yet")
        return "image/png", (await self._newest.coded(as_png, 0))[1]

    async def _set_strength(self, request: Request) -> tuple[str, bytes]:
        strength = request.field("strength", (int, float))
        if not 0 <= strength <= 1:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the strength is not between 0 and 1")
        self._network.strength = float(strength)
        return await self._state(request)

    async def _connect(self, request: Request) -> tuple[str, bytes]:
        offer = request.field("sdp", str)
        if self._peers is None or self._peers.is_full:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "WebRTC is not to be had; use MJPEG")
        try:
            answer = await self._peers.answer(offer)
        except ValueError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from error
        return "application/json", json.dumps({"type": "answer", "sdp": answer}).encode()

    async def _show(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send pictures until the viewer goes."""
        showing = asyncio.create_task(self._send_pictures(writer))
        leaving = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait((showing, leaving), return_when=asyncio.FIRST_COMPLETED)
            if showing.done():
                showing.result()  # ends only with an error, which is told above
        finally:
            for task in (showing, leaving):
                task.cancel()
            await asyncio.gather(showing, leaving, return_exceptions=True)

    async def _send_pictures(self, writer: asyncio.StreamWriter) -> None:
        kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"
        await _send(writer, _head(HTTPStatus.OK, kind) + b"--" + _BOUNDARY + b"\r\n")
        number = 0
        while True:
            number, picture = await self._newest.coded(as_jpeg, number)
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
            # Ended by the boundary at once, since browsers show a picture only when it has come.
            await _send(writer, head + picture + b"\r\n--" + _BOUNDARY + b"\r\n")


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    for begin in range(0, len(data), _PIECE_BYTES):
        writer.write(data[begin : begin + _PIECE_BYTES])
        async with asyncio.timeout(SECONDS_UNTIL_STALLED):
            await writer.drain()


_GUARDING = guarding_headers(_PAGE)


def _head(status: HTTPStatus, kind: str, *more: str) -> bytes:
    lines = (f"HTTP/1.1 {status.value} {status.phrase}", f"Content-Type: {kind}", *more, *_GUARDING)
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()
