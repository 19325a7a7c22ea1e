"""The page's server, asked as browsers, players and strangers would, over real connections."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from streamdeblur.arguments import parse
from streamdeblur.cli import main
from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame
from streamdeblur.live import assembly, serve
from streamdeblur.live.serve import ServeSink, Statistics
from tests.conftest import ClipMaker
from tests.tiny_onnx import invert

RED, CYAN, GREY = (255, 0, 0), (0, 255, 255), (128, 128, 128)
PATHS = ["/", "/state", "/video.mjpeg", "/snapshot.png", "/strength", "/offer", "/nosuch"]


class Network:
    """What applies the strength, elsewhere."""

    strength = 1.0


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def sink(network: Network) -> Iterator[ServeSink]:
    with ServeSink(network) as sink:
        yield sink


@pytest.fixture
def open_sink() -> Iterator[ServeSink]:
    """One that other computers could reach."""
    with ServeSink(Network(), "0.0.0.0") as sink:
        yield sink


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


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_the_page_brings_all_it_needs_and_may_do_nothing_else(sink: ServeSink) -> None:
    status, page, answer = ask(sink, "/")
    assert status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert b"src=" not in page  # no script, picture or frame from elsewhere
    assert page.count(b"http") == page.count(b"http://www.w3.org/2000/svg")  # a name, not fetched


@pytest.mark.parametrize("path", PATHS)
def test_reached_from_elsewhere_nothing_is_told_without_the_token(
    open_sink: ServeSink, path: str
) -> None:
    assert "?token=" in open_sink.url
    wrong = f"{path}?token={'x' * 22}"
    for asked in (path, wrong, f"{path}?token=", f"{path}?token=%ff%00"):
        status, text, _ = ask(open_sink, asked, token=False)
        assert (status, b"token" in text) == (403, True)


def test_the_token_opens(open_sink: ServeSink) -> None:
    assert ask(open_sink)[0] == 200


def test_tokens_are_long_and_never_the_same() -> None:
    with ServeSink(Network(), "0.0.0.0") as one, ServeSink(Network(), "0.0.0.0") as other:
        tokens = [urlsplit(sink.url).query.removeprefix("token=") for sink in (one, other)]
    assert tokens[0] != tokens[1]
    assert min(map(len, tokens)) >= 22  # 128 bits


def test_on_this_computer_alone_there_is_no_token(sink: ServeSink) -> None:
    assert sink.url == f"http://127.0.0.1:{urlsplit(sink.url).port}/"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:9999", 200),  # a forwarded port
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:80", 403),
        ("192.168.1.2", 403),
        ("[", 403),
    ],
)
def test_only_its_own_names_lead_to_a_private_server(
    sink: ServeSink, host: str, status: int
) -> None:
    assert ask(sink, headers={"Host": host})[0] == status


def test_without_a_host_nothing_is_answered(sink: ServeSink) -> None:
    assert raw(sink, b"GET /state HTTP/1.1\r\n\r\n") == 403


@pytest.mark.parametrize(
    ("host", "status"), [("10.1.2.3:80", 200), ("localhost", 200), ("evil.example", 403)]
)
def test_a_public_server_takes_addresses_but_no_names(
    open_sink: ServeSink, host: str, status: int
) -> None:
    assert ask(open_sink, headers={"Host": host})[0] == status


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_other_origins_are_refused(sink: ServeSink, path: str, headers: dict[str, str]) -> None:
    assert ask(sink, path, headers=headers)[0] == 403


def test_its_own_page_and_a_link_to_it_are_let_in(sink: ServeSink) -> None:
    own = {"Origin": sink.url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert ask(sink, headers=own)[0] == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    assert ask(sink, "/", headers=link)[0] == 200
    assert ask(sink, "/snapshot.png", headers=link)[0] == 403


HOST = b"Host: 127.0.0.1\r\n"
POST = b"POST /offer HTTP/1.1\r\n" + HOST


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /%s HTTP/1.1\r\n" % (b"x" * 2048) + HOST + b"\r\n", 414),
        (b"GET /" + b"x" * 1_000_000, 414),
        (b"GET /state HTTP/1.1\r\n" + HOST + b"A: " + b"x" * 1_000_000, 431),
        (b"GET /state HTTP/1.1\r\n" + HOST + b"A: 0123456789\r\n" * 1100 + b"\r\n", 431),
        (b"GET /state HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 101 + b"\r\n", 431),
        (POST + b"Content-Length: 65537\r\n\r\n", 413),
        (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000, 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", 411),
        (POST + b"Content-Length: -1\r\n\r\n", 411),
        (b"GET /?" + b"a=b&" * 40 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\xfc\x03\x03\n", 400),  # a browser that speaks TLS
        (b"hello\r\n\r\n", 400),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)  # fmt: skip
def test_what_is_too_long_or_no_http_is_refused(
    sink: ServeSink, request_: bytes, status: int
) -> None:
    assert raw(sink, request_) == status
    assert ask(sink)[0] == 200  # and does no harm


def test_a_request_that_does_not_come_is_not_waited_for(
    sink: ServeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamdeblur.live.guard._SECONDS_TO_ASK", 0.1)
    assert raw(sink, b"GET /state HTTP/1.1\r\nHost:") == 408


def test_there_is_a_limit_to_connections(sink: ServeSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "MOST_CONNECTIONS", 2)
    sink.write(frame(flat(RED)))
    viewers = [Viewer(sink), Viewer(sink)]
    for viewer in viewers:
        viewer.picture()
    assert ask(sink)[0] == 503
    viewers[0].leave()
    eventually(lambda: ask(sink)[0] == 200, "a place becomes free")
    viewers[1].leave()


def test_names_and_methods_that_do_not_exist(sink: ServeSink) -> None:
    assert ask(sink, "/nosuch")[0] == 404
    assert ask(sink, "/../page.html")[0] == 404
    assert ask(sink, "/strength")[0] == 405
    assert ask(sink, "/state", method="DELETE")[0] == 405


def test_the_state_tells_of_the_run(sink: ServeSink) -> None:
    sink.statistics = Statistics(
        model="tiny", provider="CPUExecutionProvider", rate=24.5, delay_ms=40.0, dropped=3
    )
    assert json.loads(ask(sink)[1]) == {
        "model": "tiny",
        "provider": "CPUExecutionProvider",
        "rate": 24.5,
        "delay_ms": 40.0,
        "dropped": 3,
        "strength": 1.0,
        "frames": 0,
        "webrtc": sink.notices == (),
    }


def test_mjpeg_shows_before_above_after(sink: ServeSink) -> None:
    sink.write(frame(flat(RED, (47, 63)), flat(CYAN, (47, 63))))  # odd sides are made even
    viewer = Viewer(sink)
    picture = viewer.picture()
    assert picture.shape == (96, 64, 3)
    assert is_color(picture[20, 20], RED)
    assert is_color(picture[60, 20], CYAN)
    viewer.leave()


def test_strength_is_the_networks_both_ways(sink: ServeSink, network: Network) -> None:
    status, state = post(sink, "/strength", {"strength": 0.5})
    assert (status, json.loads(state)["strength"], network.strength) == (200, 0.5, 0.5)
    network.strength = 0.25  # by a key in the window, say
    assert json.loads(ask(sink)[1])["strength"] == 0.25


@pytest.mark.parametrize(
    "fields", [{"strength": value} for value in (2, -0.1, math.nan, "1", None)] + [{}]
)
def test_a_strength_that_is_none_is_refused(
    sink: ServeSink, network: Network, fields: object
) -> None:
    assert post(sink, "/strength", fields)[0] == 400
    assert network.strength == 1


def test_a_form_of_another_page_is_refused(sink: ServeSink) -> None:
    body = b'{"strength": 0}'
    answer = ask(
        sink, "/strength", method="POST", body=body, headers={"Content-Type": "text/plain"}
    )
    assert answer[0] == 415


def test_a_snapshot_is_the_frame_after_to_the_pixel(sink: ServeSink) -> None:
    assert ask(sink, "/snapshot.png")[0] == 503  # nothing to be seen yet
    sharp = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    sink.write(frame(flat(RED), sharp))
    status, data, _ = ask(sink, "/snapshot.png")
    assert status == 200
    np.testing.assert_array_equal(decoded("png", data), sharp)


def test_many_viewers_come_and_go_and_leave_nothing_behind(sink: ServeSink) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0

    sink.write(frame(flat(RED)))
    before = open_files()
    for _ in range(5):
        viewers = [Viewer(sink) for _ in range(8)]
        for viewer in viewers:
            assert is_color(viewer.picture()[20, 20], RED)
        for viewer in viewers:
            viewer.leave()
    # Though no frame comes that would show that they are gone.
    eventually(lambda: open_files() <= before, f"{open_files()} open files, {before} before")


def test_a_viewer_who_stalls_slows_neither_the_run_nor_others_and_is_let_go(
    sink: ServeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    stalled, other = Viewer(sink), Viewer(sink)
    began = time.monotonic()
    for _ in range(100):
        sink.write(frame(noise))
    assert time.monotonic() - began < 4  # less than one wait for the stalled one
    monkeypatch.setattr(serve, "SECONDS_UNTIL_STALLED", 0.3)
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.02):
            sink.write(frame(noise))

    running = threading.Thread(target=run)
    running.start()
    try:
        for _ in range(5):
            other.picture()
        other.leave()
        eventually(lambda: not sink._viewers, "the stalled viewer stays")
    finally:
        stop.set()
        running.join()
    assert stalled.left_bytes() < 4_000_000  # what lay in the network's buffers
    stalled.leave()


def test_a_slow_viewer_sees_the_newest_and_not_all(sink: ServeSink) -> None:
    noise = np.random.default_rng(0).integers(0, 200, (240, 320, 3), np.uint8)
    sink.write(frame(noise))
    viewer = Viewer(sink)
    viewer.picture()
    for _ in range(100):
        sink.write(frame(noise))
        time.sleep(0.01)
    sink.write(frame(flat(CYAN, (240, 320))))
    seen = 1
    while not is_color(viewer.picture()[20, 20], CYAN):
        seen += 1
    assert seen < 60
    viewer.leave()


def test_closing_parts_from_viewers_and_ends_the_thread() -> None:
    threads = threading.active_count()
    sink = ServeSink(Network())
    sink.write(frame(flat(RED)))
    viewer = Viewer(sink)
    viewer.picture()
    assert not sink.closed
    sink.close()
    sink.close()
    assert sink.closed
    assert threading.active_count() <= threads
    with pytest.raises((EOFError, ConnectionError)):
        viewer.picture()
    viewer.leave()
    sink.write(frame(flat(RED)))  # harmless
    with pytest.raises(ConnectionError):
        ask(sink)


def test_addresses_that_cannot_be_served_on_are_explained(sink: ServeSink) -> None:
    taken = urlsplit(sink.url).port or 0
    with pytest.raises(VideoError, match=f"cannot serve on 127.0.0.1:{taken}: .*in use; choose"):
        ServeSink(Network(), port=taken)
    with pytest.raises(VideoError, match=r"203\.0\.113\.9:8000: this computer does not have that"):
        ServeSink(Network(), "203.0.113.9", 8000)
    with pytest.raises(VideoError, match=r"no address is known for nosuch\.invalid; use"):
        ServeSink(Network(), "nosuch.invalid", 8000)


def test_without_aiortc_there_is_mjpeg_and_a_word_about_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "streamdeblur.live.webrtc", None)
    with ServeSink(Network()) as sink:
        assert "pip install 'streamdeblur[serve]'" in sink.notices[0]
        assert json.loads(ask(sink)[1])["webrtc"] is False
        assert post(sink, "/offer", {"sdp": "v=0"})[0] == 503


def offered() -> str:
    """What a browser would say that wants to watch."""
    aiortc = pytest.importorskip("aiortc")

    async def offer() -> str:
        connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        connection.addTransceiver("video", direction="recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        sdp: str = connection.localDescription.sdp
        await connection.close()
        return sdp

    return asyncio.run(offer())


def test_webrtc_uses_the_servers_own_address_and_a_codec_of_every_browser(
    sink: ServeSink,
) -> None:
    hidden = "a=candidate:1 1 udp 1 0a-b.local 5000 typ host\r\n"
    status, answer = post(sink, "/offer", {"sdp": offered() + hidden})
    assert status == 200
    lines = json.loads(answer)["sdp"].splitlines()
    candidates = [line.split() for line in lines if line.startswith("a=candidate:")]
    assert {words[4] for words in candidates} == {"127.0.0.1"}
    assert {words[7] for words in candidates} == {"host"}
    codecs = {line.split()[1].split("/")[0] for line in lines if line.startswith("a=rtpmap:")}
    assert codecs == {"VP8", "rtx"}


def test_webrtc_offers_are_limited_and_forgotten_when_nobody_comes(
    sink: ServeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiortc")
    monkeypatch.setattr("streamdeblur.live.webrtc.MOST_PEERS", 2)
    monkeypatch.setattr("streamdeblur.live.webrtc._SECONDS_TO_CONNECT", 2.0)
    offer = {"sdp": offered()}
    assert [post(sink, "/offer", offer)[0] for _ in range(3)] == [200, 200, 503]
    assert json.loads(ask(sink)[1])["webrtc"] is False  # so that the page asks for MJPEG
    eventually(lambda: json.loads(ask(sink)[1])["webrtc"] is True, "offers are never forgotten")


@pytest.mark.parametrize("sdp", ["", "v=0", "hello", "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"])
def test_webrtc_offers_that_are_none_are_refused(sink: ServeSink, sdp: str) -> None:
    pytest.importorskip("aiortc")
    assert post(sink, "/offer", {"sdp": sdp})[0] == 400
    assert json.loads(ask(sink)[1])["webrtc"] is True


def test_webrtc_may_use_the_network_for_a_sharp_picture() -> None:
    pytest.importorskip("aiortc")
    from aiortc.codecs.vpx import Vp8Encoder

    import streamdeblur.live.webrtc  # noqa: F401

    encoder = Vp8Encoder()
    assert encoder.target_bitrate == 4_000_000
    encoder.target_bitrate = 15_000_000
    assert encoder.target_bitrate == 15_000_000


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("8000", ("127.0.0.1", 8000)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:8000", ("::1", 8000)),
        ("camera.lan:0", ("camera.lan", 0)),
    ],
)
def test_where_to_serve(text: str, place: tuple[str, int]) -> None:
    assert parse(["0", "--serve", text]).serve == place


@pytest.mark.parametrize("text", ["65536", "", "localhost", ":8000", "::1:8000", "host:80x", "-1"])
def test_what_is_no_place_to_serve(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(["0", f"--serve={text}"])
    assert "[HOST:]PORT" in capsys.readouterr().err


def test_a_file_is_not_served_but_as_it_plays(
    make_clip: ClipMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(make_clip()), "--serve", "0"]) == 1
    assert "--realtime plays it live" in capsys.readouterr().err


def test_the_pages_own_divider_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(["0", "--serve", "0", "--compare"])
    assert "leave out --compare" in capsys.readouterr().err
    assert parse(["0", "--serve", "0", "--compare", "-o", "both.mp4"]).compare


@contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command as a process of its own, and the port of its page."""
    process = subprocess.Popen(
        [sys.executable, "-m", "streamdeblur", *arguments, "--serve", "0", "--quiet"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        words = process.stderr.readline().split()
        assert words[:3] == ["streamdeblur:", "watch", "at"], words
        yield process, urlsplit(words[3]).port or 0
    finally:
        process.kill()
        process.communicate()


def asked(port: int, path: str = "/state", fields: object = None) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    if fields is None:
        connection.request("GET", path)
    else:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(fields), headers)
    return connection.getresponse().read()


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "invert.onnx"
    path.write_bytes(invert())
    return str(path)


def test_the_command_serves_a_live_source_until_ctrl_c(model: str, tmp_path: Path) -> None:
    camera = "lavfi:color=red:size=64x48:rate=25"
    recording = tmp_path / "recorded.mkv"
    options = ["--model", model, "--keep-model", "-o", str(recording)]
    with served(camera, *options) as (process, port):

        def state() -> dict[str, Any]:
            return dict(json.loads(asked(port)))

        def pixel() -> NDArray[np.uint8]:
            return decoded("png", asked(port, "/snapshot.png"))[20, 20]

        eventually(lambda: bool(state()["rate"]), "no frame is shown")
        found = state()
        assert (found["model"], found["provider"]) == ("tiny", "CPUExecutionProvider")
        assert found["delay_ms"] > 0
        eventually(lambda: is_color(pixel(), CYAN), "the network's work is not seen")
        asked(port, "/strength", {"strength": 0.5})
        assert state()["strength"] == 0.5
        eventually(lambda: is_color(pixel(), GREY), "strength is not applied once")
        asked(port, "/strength", {"strength": 0})
        eventually(lambda: is_color(pixel(), RED), "strength is not applied")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
    with av.open(str(recording)) as clip:
        *_, last = clip.decode(video=0)
    assert is_color(last.to_ndarray(format="rgb24")[20, 20], RED)


def test_with_a_page_there_is_no_window_unless_it_is_asked_for(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise VideoError("there is no window")

    monkeypatch.setattr(assembly, "PreviewSink", refuse)
    options = ["lavfi:color=red:size=64x48:duration=0.2", "--model", model, "--serve", "0"]
    assert main(options) == 0
    assert "no window" not in capsys.readouterr().err
    assert main([*options, "--preview"]) == 0
    assert "no window" in capsys.readouterr().err


def test_a_file_is_served_as_it_plays(model: str, make_clip: ClipMaker) -> None:
    clip = make_clip(pts=range(2500))
    with served(str(clip), "--realtime", "--model", model) as (_, port):
        eventually(lambda: json.loads(asked(port))["frames"] > 2, "no frame is shown")
