"""What a person writes for a live picture, and what of it is ever shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdeblur.errors import VideoError
from streamdeblur.live.addresses import live_address, shown, without_secrets
from streamdeblur.sources import open_source

linux = pytest.mark.skipif(sys.platform != "linux", reason="devices are called otherwise")


@pytest.mark.parametrize("name", ["clip.mp4", "/tmp/clip.mp4", "C:\\clip.mp4", "a:b.mp4", "rtsp"])
def test_what_is_not_live_may_be_a_file(name: str) -> None:
    assert live_address(name) is None


def test_a_file_that_is_called_like_a_camera_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert live_address("7") is not None
    Path("7").touch()
    assert live_address("7") is None


@linux
def test_a_camera_is_asked_for_what_is_wished() -> None:
    address = live_address("0", size="1280x720", rate="30", pixel_format="mjpeg")
    assert address is not None
    assert (address.url, address.format, address.shown) == ("/dev/video0", "v4l2", "camera 0")
    wishes = {"video_size": "1280x720", "framerate": "30", "input_format": "mjpeg"}
    assert address.options == wishes


@linux
def test_a_screen_is_that_of_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":3")
    address = live_address("screen:", size="640x480")
    assert address is not None
    assert (address.url, address.format) == (":3", "x11grab")
    assert (live_address("screen::4+10,20") or address).url == ":4+10,20"
    monkeypatch.delenv("DISPLAY")
    with pytest.raises(VideoError, match="name one, for example screen::0"):
        live_address("screen:")


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_the_transport_reaches_rtsp(transport: str) -> None:
    address = live_address("rtsp://camera/live", transport=transport)  # type: ignore[arg-type]
    assert address is not None
    assert address.options["rtsp_transport"] == transport


def test_no_playlist_may_reach_for_files() -> None:
    for name in ("http://host/list.m3u8", "rtsp://host/x", "udp://host:1"):
        address = live_address(name)
        assert address is not None
        assert "file" not in address.options["protocol_whitelist"].split(",")


def test_an_unknown_scheme_is_refused_with_those_known() -> None:
    with pytest.raises(VideoError, match=r"can't open gopher://host/x: use one of rtsp, .*file"):
        live_address("gopher://bob:secret@host/x")


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("rtsp://bob:secret@host:554/live", "rtsp://host:554/live"),
        ("rtsp://bob:s@cr@t@host/live", "rtsp://host/live"),
        ("rtsp://bob:se/cr?et@host/live", "rtsp://host/live"),
        ("rtsp://bob:se/cret@host:554/live", "rtsp://host:554/live"),
        ("rtsp://bo/b:secret@[::1]:554/live", "rtsp://[::1]:554/live"),
        ("http://host/a.cgi?user=me@x.org&pwd=secret", "http://host/a.cgi?***"),
        ("srt://host:9000?streamid=publish:me@x&passphrase=secret", "srt://host:9000?***"),
        ("https://host/@channel/live.m3u8", "https://host/@channel/live.m3u8"),
        ("http://host/x.m3u8?token=abc&user=bob", "http://host/x.m3u8?***"),
        ("rtmp://host/app/streamkey", "rtmp://host/app/***"),
        ("udp://239.0.0.1:1234?pkt_size=1316", "udp://239.0.0.1:1234?***"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, text: str) -> None:
    assert shown(url) == text


secret = st.text("abcXYZ0189%$!_~./?", min_size=4, max_size=12).map(lambda text: "Q7" + text)


@given(user=secret, password=secret, token=secret, before=st.text(), after=st.text())
def test_no_message_repeats_a_secret(
    user: str, password: str, token: str, before: str, after: str
) -> None:
    url = f"rtsp://{user}:{password}@camera/live?token={token}"
    for said in (url, f"{user}:{password}", password, f"token={token}", f"tcp://x?token={token}"):
        hidden = without_secrets(f"{before} {said} {after}", url)
        for part in (f"{user}:{password}", password, token):
            assert part not in hidden.replace(before, "").replace(after, "")


@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtmp", "tcp"])
def test_the_error_for_a_stream_that_is_not_there_hides_its_password(scheme: str) -> None:
    with pytest.raises(VideoError, match="Connection refused") as caught:
        open_source(f"{scheme}://bob:sesame@127.0.0.1:9/app/opensesame?pw=sesame2")
    assert "sesame" not in str(caught.value).replace("/app/opensesame", "")
    assert "bob" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_live_has_no_start() -> None:
    with pytest.raises(VideoError, match=r"rtsp://host/x has no start or duration"):
        open_source("rtsp://bob:secret@host/x", start=1)  # type: ignore[arg-type]
