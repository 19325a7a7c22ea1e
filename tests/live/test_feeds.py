"""Live sources as they misbehave: they break off, freeze, crawl, change, and come back."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamdeblur.correction import planes
from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame
from streamdeblur.live import connection, feeds
from streamdeblur.live.addresses import Address, live_address
from streamdeblur.live.feeds import LiveSource, RealtimeSource
from streamdeblur.live.sound import SoundTrack
from streamdeblur.sources import FileSource, open_source
from tests.conftest import ClipMaker
from tests.live.broadcast import Broadcast, without_track
from tests.ports import free_port

SECOND = 1_000_000  # in ticks


def live(name: str, *, retry: float = 30.0, patience: float | None = None) -> LiveSource:
    address = live_address(name)
    assert address is not None
    if patience is not None:
        address = replace(address, patience=patience)
    return LiveSource(address, retry=retry)


def pts_of(frames: list[Frame]) -> list[int]:
    return [frame.pts for frame in frames]


def test_frames_come_in_microseconds_and_at_their_own_pace() -> None:
    with live("lavfi:testsrc2=size=64x48:rate=25") as source:
        assert source.live
        assert source.info.time_base == Fraction(1, SECOND)
        assert (source.info.width, source.info.height) == (64, 48)
        began = time.monotonic()
        frames = list(islice(source, 11))
        assert time.monotonic() - began >= 0.39
    assert pts_of(frames) == [number * 40_000 for number in range(11)]
    assert frames[3].picture.time_base == Fraction(1, SECOND)
    moments = [frame.captured for frame in frames]
    assert None not in moments
    steps = np.diff(np.array(moments, float))
    assert np.allclose(steps, 0.04, atol=0.001)  # when they were due, however late they were read


def test_a_camera_that_does_otherwise_than_asked_is_told_of() -> None:
    """As V4L2's drivers do; this one is played by a filter."""
    asked = {"video_size": "1280x720", "framerate": "30"}
    camera = Address(
        kind="camera", shown="camera 0", url="testsrc2=64x48:10", format="lavfi", options=asked
    )
    with LiveSource(camera) as source:
        advice = "another --camera-format, such as mjpeg, may have it"
        assert list(source.messages) == [
            f"camera 0 gives 64x48, not 1280x720: {advice}",
            f"camera 0 gives 10 frames a second, not 30: {advice}",
        ]
    obeyed = replace(camera, options={"video_size": "64x48", "framerate": "9.99"})
    with LiveSource(obeyed) as source:
        assert not source.messages


def test_a_closed_source_ends() -> None:
    source = live("lavfi:testsrc2=size=64x48:rate=25")
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []
    source.close()


def test_a_source_closed_by_another_thread_ends_soon() -> None:
    source = live("lavfi:testsrc2=size=64x48:rate=25")
    reading = threading.Thread(target=lambda: list(source))
    reading.start()
    time.sleep(0.2)
    source.close()
    reading.join(5)
    assert not reading.is_alive()


def test_what_has_an_end_ends() -> None:
    with live("lavfi:testsrc2=size=64x48:rate=50:duration=0.2") as source:
        assert len(list(source)) == 10
        assert not source.messages


def test_a_file_can_be_played_at_its_own_pace(make_clip: ClipMaker) -> None:
    with open_source(str(make_clip()), realtime=True) as source:
        assert isinstance(source, RealtimeSource)
        began = time.monotonic()
        frames = list(source)
        assert time.monotonic() - began >= 11 / 25
    assert pts_of(frames) == [frames[0].pts + 512 * number for number in range(12)]
    assert all(frame.captured for frame in frames)


def test_a_file_is_played_upright(make_clip: ClipMaker) -> None:
    """As telephones film, whose pictures lie on their side."""
    path = make_clip(rotation=90, pts=range(3))
    with FileSource(path) as stored:
        luma = [planes(frame.picture)[0] for frame in stored]
    with open_source(path, realtime=True) as source:
        info, frames = source.info, list(source)
    assert (info.width, info.height, info.rotation, info.display_matrix) == (48, 64, 0, None)
    assert len(frames) == 3
    for frame, lying in zip(frames, luma, strict=True):
        assert np.array_equal(planes(frame.picture)[0], np.rot90(lying))


@pytest.mark.parametrize("http", [False, True], ids=["tcp", "http"])
def test_a_stream_that_breaks_off_is_found_again(http: bool) -> None:
    with Broadcast(http=http) as station, live(station.url) as source:
        frames = iter(source)
        before = list(islice(frames, 5))
        station.off()
        returns = threading.Timer(0.6, station.on)
        returns.start()
        while source.connections == 1:
            frame = next(frames)
        returns.join()
        gap = frame.pts - before[-1].pts
        assert 0.5 * SECOND < gap < 10 * SECOND  # time goes on while it is away
        assert frame.captured is not None
        assert before[-1].captured is not None
        assert gap == pytest.approx((frame.captured - before[-1].captured) * SECOND, abs=SECOND / 2)
        after = [frame, *islice(frames, 3)]
        assert pts_of(after) == sorted(set(pts_of(after)))
        lost, back = source.messages
    assert f"{station.url} was lost" in lost
    assert f"{station.url} is back after" in back


def test_a_stream_that_stays_away_is_given_up() -> None:
    with Broadcast() as station, live(station.url, retry=0.5) as source:
        frames = iter(source)
        next(frames)
        station.off()
        with pytest.raises(VideoError, match=r"did not come back within 0\.5 s: .*refused"):
            list(frames)
        station.on()


def test_a_stream_that_freezes_counts_as_lost() -> None:
    with Broadcast(frozen_after=40) as station, live(station.url, patience=0.5) as source:
        frames = iter(source)
        while source.connections == 1:
            next(frames)
        assert "nothing came for 0.5 s" in source.messages[0]


def test_a_stream_whose_sound_alone_goes_on_counts_as_lost() -> None:
    with (
        Broadcast(blank_after=40, sound="mp2") as station,
        live(station.url, patience=0.5) as source,
    ):
        frames = iter(source)
        while source.connections == 1:
            next(frames)
        assert "no picture came for 0.5 s" in source.messages[0]


def test_a_driver_that_hangs_counts_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = av.open

    def open_without_limit(*args: Any, timeout: object, **options: Any) -> Any:
        return opened(*args, **options)  # reads as a camera's driver does: for ever

    monkeypatch.setattr(feeds, "_GRACE", 0.1)
    monkeypatch.setattr(av, "open", open_without_limit)
    with Broadcast(frozen_after=40) as station, live(station.url, patience=0.5) as source:
        frames = iter(source)
        while source.connections == 1:
            next(frames)
        assert "nothing came for 0.6 s" in source.messages[0]


def test_a_crawling_stream_is_neither_lost_nor_hurried() -> None:
    with Broadcast(speed=0.5) as station, live(station.url) as source:
        frames = iter(source)
        list(islice(frames, 20))  # until what came while it was opened is read
        moments = [frame.captured for frame in islice(frames, 10)]
        assert not source.messages
    steps = np.diff(np.array(moments, float))
    assert np.mean(steps) > 0.06  # 80 ms each; a burst would come in no time


def test_a_stream_that_is_read_too_slowly_is_not_followed_ever_later() -> None:
    with Broadcast() as station, live(station.url) as source:
        began, frames = time.monotonic(), iter(source)
        shown = []
        while time.monotonic() - began < 6:
            shown.append(next(frames))
            time.sleep(0.1)  # at 10 frames a second, 25 come
        spent = time.monotonic() - began
        assert not source.messages
    assert spent - shown[-1].pts / SECOND < 2.5  # 3.6 s if each was taken
    assert len(shown) > 20
    assert all(bar(frame) == frame.pts // 40_000 % 64 for frame in shown)  # and none is spoilt


def bar(frame: Frame) -> int:
    """The column of the moving bar."""
    return int(frame.image.mean(axis=(0, 2)).argmax())


def test_a_stream_may_come_back_in_another_size() -> None:
    with Broadcast() as station, live(station.url) as source:
        frames = iter(source)
        assert next(frames).image.shape == (48, 64, 3)
        station.off()
        station.size = (96, 80)
        station.on()
        while source.connections == 1:
            frame = next(frames)
        assert frame.image.shape == (80, 96, 3)
        assert (source.info.width, source.info.height) == (64, 48)


def test_a_stream_may_change_its_size_as_it_goes() -> None:
    with Broadcast(then=(96, 80)) as station, live(station.url) as source:
        frames = list(islice(source, 70))
        assert not source.messages
    shapes = [frame.image.shape for frame in frames]
    assert (shapes[0], shapes[-1]) == ((48, 64, 3), (80, 96, 3))
    assert pts_of(frames) == sorted(set(pts_of(frames)))


def test_closing_ends_the_search_for_a_lost_stream() -> None:
    with Broadcast() as station:
        source = live(station.url)
        frames = iter(source)
        next(frames)
        station.off()
        searching = threading.Thread(target=lambda: list(frames))
        searching.start()
        while not source.messages:
            time.sleep(0.01)
        source.close()
        searching.join(5)
        assert not searching.is_alive()
        station.on()


def test_a_port_without_a_stream_is_refused() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as door:
        threading.Thread(target=lambda: door.accept()[0].close()).start()
        with pytest.raises(VideoError, match=r"can't open tcp://127.0.0.1:\d+"):
            live(f"tcp://127.0.0.1:{door.getsockname()[1]}")


def test_one_who_answers_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_OPENING", 0.3)
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as door,
        pytest.raises(VideoError, match="no answer in time"),
    ):
        live(f"tcp://127.0.0.1:{door.getsockname()[1]}")


def test_hls_is_played_at_its_own_pace(tmp_path: Path) -> None:
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from streamdeblur.live.restream import Restream

    with (
        live("lavfi:testsrc2=size=64x48:rate=25:duration=1") as made,
        Restream(str(tmp_path / "list.m3u8"), made.info) as sink,
    ):
        for frame in made:
            sink.write(frame)

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/list.m3u8"
        with live(url) as source:
            began = time.monotonic()
            assert len(list(source)) == 25  # and then it ends: it is a recording
            assert time.monotonic() - began >= 0.9
    finally:
        server.shutdown()
        server.server_close()


RTSP_SERVER = """
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(service="{port}")
factory = GstRtspServer.RTSPMediaFactory(shared=True)
factory.set_launch(
    "( videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=25/1 "
    "! x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 config-interval=1 "
    "audiotestsrc is-live=true ! audio/x-raw,rate=8000 ! mulawenc ! rtppcmupay name=pay1 )"
)
auth = GstRtspServer.RTSPAuth()
token = GstRtspServer.RTSPToken()
token.set_string("media.factory.role", "user")
auth.add_basic(GstRtspServer.RTSPAuth.make_basic("bob", "sesame"), token)
server.set_auth(auth)
permissions = factory.add_role_from_structure(
    Gst.Structure.new_from_string(
        "user, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    )
)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


def rtsp_server(port: int) -> subprocess.Popen[str]:
    command = ["/usr/bin/python3", "-c", RTSP_SERVER.format(port=port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    if server.stdout.readline() != "ready\n":
        server.communicate()
        pytest.skip("needs gst-rtsp-server with its Python bindings and x264enc")
    return server


@pytest.fixture
def rtsp_port() -> int:
    if not shutil.which("/usr/bin/python3"):
        pytest.skip("needs the system's Python")
    return free_port()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_an_rtsp_camera_is_read_and_found_again(rtsp_port: int, transport: str) -> None:
    server = rtsp_server(rtsp_port)
    try:
        url = f"rtsp://bob:sesame@127.0.0.1:{rtsp_port}/live"
        with pytest.raises(VideoError, match="401") as caught:
            open_source(url.replace("sesame", "opensesame"))
        assert "sesame" not in str(caught.value)
        with open_source(url, transport=transport) as source:  # type: ignore[arg-type]
            assert isinstance(source, LiveSource)
            frames = iter(source)
            assert len(list(islice(frames, 10))) == 10
            assert source.sound is not None
            assert source.sound.format.codec == "pcm_mulaw"
            heard = SoundTrack(source.sound, av.open("none.mkv", "w", format="null"), "mov")
            server.kill()
            server.communicate()
            server = rtsp_server(rtsp_port)
            returned = time.monotonic()
            while source.connections == 1:
                next(frames)
            next(frames)
            assert time.monotonic() - returned < 10  # 3 s on a machine that has time for it
            list(islice(frames, 10))
            assert heard.waiting[-1].pts == pytest.approx(next(frames).pts, abs=SECOND)
            assert "sesame" not in " ".join(source.messages)
    finally:
        server.kill()
        server.communicate()


def test_sound_without_a_picture_is_not_waited_for(
    make_clip: ClipMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_OPENING", 1.5)
    clip = make_clip("in.ts", size=(64, 48), audio=True)
    content = without_track(clip.read_bytes(), 0)  # MPEG-TS that only promises a picture
    ended = threading.Event()

    def send(door: socket.socket) -> None:
        line, _ = door.accept()
        with line, suppress(OSError):
            while not ended.wait(0.1):
                line.sendall(content)

    with socket.create_server(("127.0.0.1", 0)) as door:
        sending = threading.Thread(target=send, args=[door])
        sending.start()
        began = time.monotonic()
        with pytest.raises(VideoError, match=r"gives no picture|can't open|has no picture"):
            open_source(f"tcp://127.0.0.1:{door.getsockname()[1]}", retry=0)
        assert time.monotonic() - began < 15
        ended.set()
        sending.join()
