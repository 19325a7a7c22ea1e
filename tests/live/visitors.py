"""Who asks the page's server, over real connections: browsers, players and strangers."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

import av
import numpy as np
from numpy.typing import NDArray

from streamdeblur.frames import Frame
from streamdeblur.live.serve import ServeSink

RED, CYAN, GREY = (255, 0, 0), (0, 255, 255), (128, 128, 128)


class Network:
    """What applies the strength, elsewhere."""

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength


def frame(image: NDArray[np.uint8], sharp: NDArray[np.uint8] | None = None) -> Frame:
    return Frame(av.VideoFrame(2, 2, "rgb24"), image, 0, image if sharp is None else sharp)


def flat(color: tuple[int, int, int], size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    return np.full((*size, 3), color, np.uint8)


def ask(
    sink: ServeSink,
    path: str = "/state",
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    token: bool = True,
) -> tuple[int, bytes, HTTPResponse]:
    """The status, body and headers of the answer to one request."""
    connection = HTTPConnection("127.0.0.1", urlsplit(sink.url).port or 0, timeout=20)
    query = urlsplit(sink.url).query if token else ""
    connection.request(method, f"{path}?{query}" if query else path, body, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer


def post(sink: ServeSink, path: str, fields: object) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json"}
    return ask(sink, path, method="POST", headers=headers, body=json.dumps(fields).encode())[:2]


def raw(sink: ServeSink, request: bytes) -> int:
    """The status of the answer to what no HTTP library would send."""
    with socket.create_connection(("127.0.0.1", urlsplit(sink.url).port or 0), 20) as connection:
        connection.sendall(request)
        return int(connection.makefile("rb").readline().split()[1])


class Viewer:
    """Someone who watches the MJPEG stream."""

    def __init__(self, sink: ServeSink) -> None:
        self._connection = socket.socket()
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self._connection.settimeout(20)
        self._connection.connect(("127.0.0.1", urlsplit(sink.url).port))
        self._connection.sendall(b"GET /video.mjpeg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        self._stream = self._connection.makefile("rb")

    def picture(self) -> NDArray[np.uint8]:
        """The next: before above after, (2 * H, W, 3)."""
        length = None
        while (line := self._stream.readline()) != b"\r\n" or length is None:
            if not line:
                raise EOFError
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return decoded("mjpeg", self._stream.read(length))

    def left_bytes(self) -> int:
        """How much comes until the server has parted."""
        count = 0
        with suppress(ConnectionError):
            while some := self._connection.recv(65536):
                count += len(some)
        return count

    def leave(self) -> None:
        self._stream.close()
        self._connection.close()


def decoded(codec: str, data: bytes) -> NDArray[np.uint8]:
    (picture,) = av.CodecContext.create(codec, "r").decode(av.Packet(data))
    assert isinstance(picture, av.VideoFrame)
    return picture.to_ndarray(format="rgb24")


def is_color(pixel: NDArray[np.uint8], color: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - color).max() <= 8)
