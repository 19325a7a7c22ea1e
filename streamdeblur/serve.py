"""A page that shows sharp frames as they come, to browsers here or elsewhere.

Viewers are coroutines in one thread, which the pipeline lends. `write` leaves a frame and goes
on; whoever is ready for a picture takes the newest, so a slow viewer sees fewer and slows nobody.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import ipaddress
import json
import re
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame
from streamdeblur.guard import HEADER_BYTES, Guard, Refusal, Request, read_request
from streamdeblur.pictures import before_and_after, blended, jpeg, planes, png
from streamdeblur.pipeline import event_loop

T = TypeVar("T")

MOST_CONNECTIONS = 64
SECONDS_UNTIL_STALLED = 5.0
"""A viewer who takes none of a picture for so long is let go."""
_WEBRTC_PIXELS = 2560  # of the longer side, both halves together: what two cores can code
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
    """From the camera to this program's output, in milliseconds; None if it is not known."""
    dropped: int = 0
    """Frames that came while the network was busy with others."""


class ServeSink:
    """Shows each frame that it is given in a page, to several viewers at once. A context manager.

    Args:
        host: the address or name of this computer to be reached at. Unless it is a loopback
            address, viewers need the token that `url` holds.
        port: 0 is any that is free.
        strength: how much of the correction is shown, 0 to 1; the page can change it.

    Raises:
        VideoError: the address is not this computer's, or the port cannot be used.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, strength: float = 1.0) -> None:
        self.statistics = Statistics()
        """What the page shows of the run; set anew as it changes."""
        self.notices: tuple[str, ...] = ()
        """What a person should know, one line each."""
        self._newest = _Newest(strength)
        self._listening = _listen(host, port)
        address = self._listening.getsockname()
        is_private = ipaddress.ip_address(address[0]).is_loopback
        token = None if is_private else secrets.token_urlsafe(16)
        self._guard = Guard(address[0], token)
        self.url = _url(*address[:2], token)
        """Where the page is."""
        self._arrived: deque[Frame] = deque(maxlen=1)
        self._viewers: set[asyncio.Task[None]] = set()
        try:
            from streamdeblur.webrtc import Peers
        except ImportError:
            self._peers = None
            self.notices = (
                "video goes to the page as MJPEG; for WebRTC, which needs a tenth of the network:"
                " pip install 'streamdeblur[serve]'",
            )
        else:
            self._peers = Peers(self._next_planes, address[0])
        self._thread = ExitStack()
        self._loop = self._thread.enter_context(event_loop())
        self._server = self._in_loop(
            asyncio.start_server(self._welcome, sock=self._listening, limit=HEADER_BYTES)
        )

    closed = False
    """Whether nothing is shown any more."""

    @property
    def strength(self) -> float:
        """How much of the correction is shown, 0 to 1, as set by the last viewer who did."""
        return self._newest.strength

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

    def __enter__(self) -> ServeSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _in_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _finish(self) -> None:
        self._server.close()
        for viewer in self._viewers:
            viewer.cancel()
        await asyncio.gather(*self._viewers, return_exceptions=True)
        if self._peers:
            await self._peers.close()

    def _take(self) -> None:
        while self._arrived:
            self._newest.put(self._arrived.pop())

    async def _next_planes(self, after: int) -> tuple[int, Any]:
        return await self._newest.coded(_as_planes, after)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        viewer = asyncio.current_task()
        assert viewer is not None
        self._viewers.add(viewer)
        try:
            with suppress(EOFError, ConnectionError, TimeoutError, asyncio.CancelledError):
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
            status, kind, body = refusal.status, "text/plain; charset=utf-8", f"{refusal}\n".encode()
        writer.write(_head(status, kind, f"Content-Length: {len(body)}") + body)
        await _sent(writer)
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
            "strength": self.strength,
            "frames": self._newest.frames,
            "webrtc": self._peers is not None and not self._peers.is_full,
        }
        return "application/json", json.dumps(state).encode()

    async def _snapshot(self, _: Request) -> tuple[str, bytes]:
        if not self._newest.number:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "there is no picture yet")
        return "image/png", (await self._newest.coded(_as_png, 0))[1]

    async def _set_strength(self, request: Request) -> tuple[str, bytes]:
        strength = _json_field(request, "strength", (int, float))
        if not 0 <= strength <= 1:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the strength is not between 0 and 1")
        self._newest.strengthen(float(strength))
        return await self._state(request)

    async def _connect(self, request: Request) -> tuple[str, bytes]:
        offer = _json_field(request, "sdp", str)
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
        finally:
            for task in (showing, leaving):
                task.cancel()
            await asyncio.gather(showing, leaving, return_exceptions=True)

    async def _send_pictures(self, writer: asyncio.StreamWriter) -> None:
        kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"
        writer.write(_head(HTTPStatus.OK, kind) + b"--" + _BOUNDARY + b"\r\n")
        number = 0
        while True:
            number, picture = await self._newest.coded(_as_jpeg, number)
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
            # Ended by the boundary at once, since browsers show a picture only when it has come.
            writer.write(head + picture + b"\r\n--" + _BOUNDARY + b"\r\n")
            await _sent(writer)


class _Newest:
    """The newest frame, coded once for all who want it in the same way. Lives in the loop."""

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.frames = 0
        """How many there were."""
        self.number = 0
        """Of what there is to be seen: goes up with each frame and each change of strength."""
        self._frame: Frame | None = None
        self._changed = asyncio.Event()
        self._coding: dict[Callable[..., Any], tuple[int, asyncio.Future[Any]]] = {}

    def put(self, frame: Frame) -> None:
        self._frame = frame
        self.frames += 1
        self._renew()

    def strengthen(self, strength: float) -> None:
        self.strength = strength
        if self._frame:  # one that stands still is seen with it as well
            self._renew()

    def _renew(self) -> None:
        self.number += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def coded(self, coder: Callable[[Frame, float], T], after: int) -> tuple[int, T]:
        """Wait for a number above `after`; it, and what `coder` makes of the frame."""
        while self.number <= after:
            await self._changed.wait()
        number, coding = self._coding.get(coder, (0, None))
        if coding is None or (number < self.number and (number <= after or coding.done())):
            number, frame = self.number, self._frame
            assert frame is not None
            coding = asyncio.ensure_future(asyncio.to_thread(coder, frame, self.strength))
            self._coding[coder] = (number, coding)
        return number, await asyncio.shield(coding)  # the others who wait are not to be cancelled


def _as_jpeg(frame: Frame, strength: float) -> bytes:
    return jpeg(before_and_after(frame, strength))


def _as_png(frame: Frame, strength: float) -> bytes:
    return png(blended(frame, strength))


def _as_planes(frame: Frame, strength: float) -> Any:
    return planes(before_and_after(frame, strength), _WEBRTC_PIXELS)


def _json_field(request: Request, name: str, kind: type | tuple[type, ...]) -> Any:
    # A page elsewhere cannot send this type without asking first, which is refused.
    if request.headers.get_content_type() != "application/json":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the request is not JSON")
    try:
        value = json.loads(request.body)[name]
    except (ValueError, LookupError, TypeError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the request has no {name}")
    return value


async def _sent(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(SECONDS_UNTIL_STALLED):
        await writer.drain()


def _content_policy(page: bytes) -> str:
    """Nothing but what stands in the page, and what its server sends."""

    def allowed(tag: bytes) -> str:
        texts = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in texts]
        return " ".join(f"'sha256-{value}'" for value in hashes)

    return (
        f"default-src 'none'; script-src {allowed(b'script')}; style-src {allowed(b'style')};"
        " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'; require-trusted-types-for 'script'"
    )


_GUARDING = (
    f"Content-Security-Policy: {_content_policy(_PAGE)}",
    "Cross-Origin-Resource-Policy: same-origin",
    "X-Content-Type-Options: nosniff",
    "Referrer-Policy: no-referrer",  # the URL holds the token
    "Cache-Control: no-store",
    "Connection: close",
)


def _head(status: HTTPStatus, kind: str, *more: str) -> bytes:
    lines = (f"HTTP/1.1 {status.value} {status.phrase}", f"Content-Type: {kind}", *more, *_GUARDING)
    return "\r\n".join([*lines, "", ""]).encode()


def _listen(host: str, port: int) -> socket.socket:
    where = f"cannot serve on {_joined(host, port)}"
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (socket.gaierror, UnicodeError) as error:
        raise VideoError(f"{where}: no address is known for {host}; use one like 127.0.0.1") from (
            error
        )
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: "the port is in use; choose another, or 0 for any that is free",
            errno.EADDRNOTAVAIL: "this computer does not have that address; 0.0.0.0 is all it has",
            errno.EACCES: "the system keeps that port to itself; choose one from 1024 up",
        }
        reason = reasons.get(error.errno or 0, f"{error.strerror}; choose another address or port")
        raise VideoError(f"{where}: {reason}") from error


def _url(host: str, port: int, token: str | None) -> str:
    if ipaddress.ip_address(host).is_unspecified:
        host = _address_towards_others(host)
    return f"http://{_joined(host, port)}/" + (f"?token={token}" if token else "")


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address_towards_others(host: str) -> str:
    """This computer's address in its network, without sending anything."""
    is_ipv6 = ":" in host
    family, elsewhere = (
        (socket.AF_INET6, "2001:db8::1") if is_ipv6 else (socket.AF_INET, "192.0.2.1")
    )
    with socket.socket(family, socket.SOCK_DGRAM) as towards:
        try:
            towards.connect((elsewhere, 9))  # chooses a way; addresses kept for documentation
        except OSError:
            return "::1" if is_ipv6 else "127.0.0.1"
        return str(towards.getsockname()[0])
