"""Who and what the page's server lets in."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from streamdeblur.live import serve
from streamdeblur.live.serve import ServeSink
from tests.live.visitors import RED, Network, Viewer, ask, flat, frame, raw
from tests.patience import eventually

PATHS = ["/", "/state", "/video.mjpeg", "/snapshot.png", "/strength", "/offer", "/nosuch"]


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
