"""Recordings and restreams of a live picture, in the eyes of those who play them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, VideoInfo, rgb_view
from streamdeblur.live.feeds import LiveSource
from streamdeblur.live.recording import Recording
from streamdeblur.live.restream import Restream, descriptor_for_video, is_stream
from streamdeblur.live.virtualcam import VirtualCamera
from streamdeblur.sources import FileSource, open_source
from tests.footage import levels
from tests.ports import free_port

CAMERA = "lavfi:color=gray:size=64x48:rate=50"


@pytest.fixture
def camera() -> Iterator[LiveSource]:
    with open_source(CAMERA) as source:
        assert isinstance(source, LiveSource)
        yield source


def sharpened(source: LiveSource, count: int) -> Iterator[Frame]:
    """Frames whose correction makes them lighter by 40."""
    for frame in islice(source, count):
        frame.sharp = frame.image + np.uint8(40)
        yield frame


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mov", "clip.webm", "clip.ts"])
def test_a_recording_becomes_what_was_asked_for(
    camera: LiveSource, tmp_path: Path, name: str
) -> None:
    with Recording(tmp_path / name, camera.info) as recording:
        for frame in sharpened(camera, 12):
            recording.write(frame)
        assert recording.part.name == "clip.part.mkv"
        assert recording.part.exists()
    assert os.listdir(tmp_path) == [name]
    assert len(found := levels(tmp_path / name)) == 12
    assert np.allclose(found, 128 + 40, atol=3)
    with av.open(str(tmp_path / name)) as clip:
        rate = clip.streams.video[0].average_rate
        assert rate is not None
        assert float(rate) == pytest.approx(50, rel=0.05)


@pytest.mark.parametrize(
    ("codec", "name"),
    [("av1", "clip.mp4"), ("av1", "clip.webm"), ("hevc", "clip.mov"), ("vp9", "clip.mp4")],
)
def test_a_recording_may_have_another_codec(
    camera: LiveSource, tmp_path: Path, codec: str, name: str
) -> None:
    with Recording(tmp_path / name, camera.info, codec=codec) as recording:
        for frame in sharpened(camera, 5):
            recording.write(frame)
    assert os.listdir(tmp_path) == [name]
    with FileSource(tmp_path / name) as source:
        assert source.info.codec == codec
    assert len(levels(tmp_path / name)) == 5


@pytest.mark.parametrize(
    ("layout", "codec", "expected"),
    [
        ("bgr0", None, "yuv420p"),  # screens
        ("yuvj422p", None, "yuvj420p"),  # most webcams
        ("yuv422p10le", None, "yuv420p"),
        ("gray", None, "yuvj420p"),
        ("yuv422p10le", "hevc", "yuv420p10le"),
        ("yuv422p", "vp9", "yuv422p"),
    ],
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.m3u8"])
def test_every_player_shows_it_whatever_the_camera_gives(
    tmp_path: Path, layout: str, codec: str | None, expected: str, name: str
) -> None:
    green = (32, 192, 64)
    if (codec, name) == ("vp9", "clip.m3u8"):
        pytest.skip("a playlist cannot hold it")
    feed = "lavfi:color=0x{:02x}{:02x}{:02x}:size=64x48:rate=10,".format(*green)
    with open_source(f"{feed}format={layout}") as source:
        assert isinstance(source, LiveSource)
        kind = Restream if name.endswith("m3u8") else Recording
        with kind(str(tmp_path / name), source.info, codec=codec) as sink:
            for frame in sharpened(source, 12):
                frame.sharp = frame.image
                sink.write(frame)
    notice = f"the picture becomes {expected.replace('j', '')}"
    told = [line for line in sink.notices if line.endswith("so that every player shows it")]
    assert any(line.startswith(notice) for line in told) == ("420" in expected)
    written = next(tmp_path.glob("*.ts"), tmp_path / name)  # of a playlist its first part
    with FileSource(written) as film:
        assert film.info.pix_fmt == expected
        picture = next(iter(film)).image[24, 32]
    assert np.allclose(picture, np.mean(picture) if layout == "gray" else green, atol=6)


def test_frames_of_another_clock_last_until_the_next(tmp_path: Path) -> None:
    with open_source("lavfi:testsrc2=rate=4:size=64x48:duration=1,settb=1/90000") as source:
        assert isinstance(source, LiveSource)
        with Recording(tmp_path / "clip.mkv", source.info) as recording:
            for frame in sharpened(source, 4):
                recording.write(frame)
    with av.open(str(tmp_path / "clip.mkv")) as container:
        *_, last = (packet for packet in container.demux(video=0) if packet.size)
        assert last.duration is not None
        assert float(last.duration * last.time_base) == pytest.approx(0.25, abs=0.01)


def test_an_error_does_not_cost_the_recording(camera: LiveSource, tmp_path: Path) -> None:
    def record_and_fail() -> None:
        with Recording(tmp_path / "clip.mp4", camera.info) as recording:
            for frame in sharpened(camera, 5):
                recording.write(frame)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record_and_fail()
    assert len(levels(tmp_path / "clip.mp4")) == 5


def test_a_recording_of_nothing_leaves_nothing(camera: LiveSource, tmp_path: Path) -> None:
    with Recording(tmp_path / "clip.mp4", camera.info):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_what_a_killed_recording_has_left_is_kept(
    camera: LiveSource, tmp_path: Path, name: str
) -> None:
    for content in (b"first", b"second"):
        (tmp_path / "clip.part.mkv").write_bytes(content)
        with Recording(tmp_path / name, camera.info, overwrite=True) as recording:
            recording.write(next(sharpened(camera, 1)))
        assert "an interrupted run has left is kept as" in recording.notices[0]
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.interrupted*")}
    assert kept == {"clip.interrupted.mkv": b"first", "clip.interrupted1.mkv": b"second"}
    assert len(levels(tmp_path / name)) == 1


def test_a_recording_replaces_no_file_unasked(camera: LiveSource, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"dear")
    with pytest.raises(VideoError, match="--overwrite"):
        Recording(tmp_path / "clip.mp4", camera.info)
    with Recording(tmp_path / "clip.mp4", camera.info, overwrite=True) as recording:
        recording.write(next(sharpened(camera, 1)))
    assert len(levels(tmp_path / "clip.mp4")) == 1


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_file_that_came_meanwhile_stays_and_so_does_the_recording(
    camera: LiveSource, tmp_path: Path, name: str
) -> None:
    recording = Recording(tmp_path / name, camera.info)
    recording.write(next(sharpened(camera, 1)))
    (tmp_path / name).write_bytes(b"dear")
    with pytest.raises(VideoError, match=r"recording is in .*part\.mkv: a file has come there"):
        recording.__exit__(None, None, None)
    assert (tmp_path / name).read_bytes() == b"dear"
    assert sorted(os.listdir(tmp_path)) == sorted([name, "clip.part.mkv"])
    assert len(levels(tmp_path / "clip.part.mkv")) == 1


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("clip.xyz", {}, r"no video container ends in “\.xyz”"),
        ("no/clip.mp4", {}, "no folder"),
        ("clip.avi", {}, "avi has a constant frame rate, .* use .mp4 or .mkv"),
        ("clip.mp4", {"codec": "nosuch"}, "no video encoder nosuch"),
        ("clip.webm", {"codec": "h264"}, "webm files can't hold h264"),
        ("clip.mov", {"codec": "av1"}, "mov files can't hold av1"),
    ],
)
def test_what_cannot_be_recorded_is_refused_at_once(
    camera: LiveSource, tmp_path: Path, name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(VideoError, match=words):
        Recording(tmp_path / name, camera.info, **options)
    assert os.listdir(tmp_path) == []


def test_the_recording_stays_if_it_cannot_be_repacked(
    camera: LiveSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("streamdeblur.live.recording.repacked", fail)
    recording = Recording(tmp_path / "clip.mp4", camera.info)
    for frame in sharpened(camera, 5):
        recording.write(frame)
    with pytest.raises(VideoError, match=r"the recording is in .*clip\.part\.mkv: No space"):
        recording.__exit__(None, None, None)
    assert os.listdir(tmp_path) == ["clip.part.mkv"]
    assert len(levels(tmp_path / "clip.part.mkv")) == 5


def test_frames_of_another_size_are_fitted_in(camera: LiveSource, tmp_path: Path) -> None:
    with Recording(tmp_path / "clip.mkv", camera.info) as recording:
        first = next(sharpened(camera, 1))
        recording.write(first)
        wide = np.full((48, 128, 3), 200, np.uint8)
        picture = av.VideoFrame.from_ndarray(wide, format="rgb24")
        recording.write(Frame(picture, wide, first.pts + 20_000, wide))
    with av.open(str(tmp_path / "clip.mkv")) as clip:
        _, second = (frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0))
    assert second.shape == (48, 64, 3)
    assert abs(float(second[24].mean()) - 200) < 4  # the middle
    assert second[:10].mean() < 4  # black above, and below
    assert second[-10:].mean() < 4


@pytest.mark.parametrize(("colorspace", "heights"), [(9, (48, 96)), (2, (720, 480))])
def test_a_stream_that_changes_its_size_keeps_its_colours(
    tmp_path: Path, colorspace: int, heights: tuple[int, int]
) -> None:
    """Also where it says nothing of them, so that they are guessed by its lines."""
    frames = []
    for number, height in enumerate(heights):
        picture = av.VideoFrame(height * 4 // 3, height, "yuv420p")
        for plane, value in zip(picture.planes, (120, 80, 150), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        picture.colorspace, picture.color_range = colorspace, 1
        picture.pts, picture.time_base = 40_000 * number, Fraction(1, 1_000_000)
        frames.append(Frame(picture, rgb_view(picture), picture.pts, rgb_view(picture)))
    info = VideoInfo(
        width=heights[0] * 4 // 3,
        height=heights[0],
        time_base=Fraction(1, 1_000_000),
        rate=Fraction(25),
        codec="h264",
        pix_fmt="yuv420p",
        colorspace=colorspace,
        color_range=1,
    )
    with Recording(tmp_path / "clip.mkv", info, crf=0) as recording:
        for frame in frames:
            recording.write(frame)
    with FileSource(tmp_path / "clip.mkv") as source:
        seen = [frame.image[heights[0] // 2, heights[0] // 2].astype(int) for frame in source]
    for given, pixel in zip(frames, seen, strict=True):
        assert np.abs(given.image[0, 0] - pixel).max() <= 3


RECORD_FOREVER = """
import sys
from streamdeblur.live.recording import Recording
from streamdeblur.sources import FileSource, open_source

with open_source("lavfi:testsrc2=size=64x48:rate=50") as source:
    with Recording(sys.argv[1], source.info) as recording:
        for frame in source:
            recording.write(frame)
            print(recording.frames_written, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_recording_is_playable_up_to_the_last_second(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RECORD_FOREVER, str(tmp_path / "clip.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 100:
            pass
        process.send_signal(signal.SIGKILL)
    assert os.listdir(tmp_path) == ["clip.part.mkv"]
    assert len(levels(tmp_path / "clip.part.mkv")) >= 100 - 50


def test_what_is_sent_rather_than_recorded() -> None:
    streams = ["-", "rtsp://host/x", "udp://host:1", "list.m3u8", "LIST.M3U8"]
    assert all(map(is_stream, streams))
    assert not any(map(is_stream, ["clip.mp4", "rtsp.mkv", "C:\\clip.mp4"]))


def test_udp_is_sent_for_anyone_to_join(camera: LiveSource) -> None:
    url = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    enough = threading.Event()

    def send() -> None:
        for frame in sharpened(camera, 400):
            sink.write(frame)
            if enough.is_set():
                return

    with Restream(url, camera.info) as sink:
        sending = threading.Thread(target=send)
        sending.start()
        with open_source(url) as received:
            frames = list(islice(received, 5))
        enough.set()
        sending.join()
    assert all(abs(float(frame.image.mean()) - 168) < 4 for frame in frames)


def test_each_datagram_holds_whole_packets(camera: LiveSource) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        url = f"udp://127.0.0.1:{receiver.getsockname()[1]}?ttl=1"
        with Restream(url, camera.info, encoder_options={"qp": "0"}) as sink:
            for frame in sharpened(camera, 3):
                frame.sharp = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
                sink.write(frame)
        datagrams = [receiver.recv(65536) for _ in range(4)]
    assert {len(datagram) % 188 for datagram in datagrams} == {0}
    assert {datagram[:1] for datagram in datagrams} == {b"G"}  # the byte that begins each packet


def test_a_playlist_without_a_frame_leaves_nothing(camera: LiveSource, tmp_path: Path) -> None:
    """As where another output could not be had."""
    with Restream(str(tmp_path / "live.m3u8"), camera.info):
        pass
    assert os.listdir(tmp_path) == []


def test_an_hls_playlist_has_segments_beside_it(camera: LiveSource, tmp_path: Path) -> None:
    playlist = tmp_path / "live.m3u8"
    with Restream(str(playlist), camera.info) as sink:
        for frame in sharpened(camera, 150):
            sink.write(frame)
    assert sorted(os.listdir(tmp_path)) == ["live.m3u8", "live0.ts", "live1.ts"]
    assert len(levels(playlist)) == 150
    with pytest.raises(VideoError, match="--overwrite"):
        Restream(str(playlist), camera.info)


def test_who_joins_waits_no_longer_where_frames_are_few(camera: LiveSource, tmp_path: Path) -> None:
    """Of a source of 50 frames a second, of which a slow network gives two."""
    playlist = tmp_path / "live.m3u8"
    with Restream(str(playlist), camera.info) as sink:
        for number, frame in enumerate(sharpened(camera, 12)):
            frame.pts = frame.picture.pts = number * 500_000
            sink.write(frame)
    assert "#EXT-X-TARGETDURATION:2" in playlist.read_text().splitlines()


def test_a_playlist_on_a_server_is_no_file(camera: LiveSource) -> None:
    with pytest.raises(VideoError) as caught:
        Restream("http://bob:hunter2@127.0.0.1:9/x.m3u8", camera.info)
    assert "can't send to http://127.0.0.1:9/x.m3u8" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs FFmpeg's program")
@pytest.mark.parametrize("scheme", ["rtsp", "rtmp"])
def test_a_server_receives_picture_and_sound(tmp_path: Path, scheme: str) -> None:
    received, port = tmp_path / "received.mkv", free_port()
    listen = ["-rtsp_flags", "listen"] if scheme == "rtsp" else ["-listen", "1"]
    url = f"{scheme}://127.0.0.1:{port}/live/stream"
    server = subprocess.Popen(
        ["ffmpeg", "-loglevel", "error", *listen, "-i", url, "-c", "copy", str(received)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with open_source(f"{CAMERA}[out0];sine=1000[out1]") as source:
            assert isinstance(source, LiveSource)
            sink = _once_it_answers(lambda: Restream(url, source.info, sound=source.sound))
            with sink:
                for frame in sharpened(source, 100):
                    sink.write(frame)
        server.wait(20)
    finally:
        server.kill()
        server.wait()
    assert len(found := levels(received)) > 50
    assert abs(found[-1] - 168) < 4
    with av.open(str(received)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        heard = [np.abs(frame.to_ndarray()).max() for frame in container.decode(audio=0)]
    assert len(heard) > 40
    assert max(heard) > 0.05


def _once_it_answers(connect: Any) -> Any:
    deadline = time.monotonic() + 20
    while True:
        try:
            return connect()
        except VideoError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_where_nobody_listens_is_told_without_secrets(camera: LiveSource) -> None:
    for url in ("rtsp://bob:sesame@127.0.0.1:9/x", "rtmp://127.0.0.1:9/app/sesame"):
        with pytest.raises(VideoError, match=r"can't send to .*does the other side listen") as told:
            Restream(url, camera.info)
        assert "sesame" not in str(told.value)
    with pytest.raises(VideoError, match="use one of rtsp"):
        Restream("gopher://host/x", camera.info)


def test_a_reader_of_standard_output_that_leaves_ends_it(camera: LiveSource) -> None:
    read, write = os.pipe()
    with Restream("-", camera.info, descriptor=write) as sink:
        frames = sharpened(camera, 1000)
        sink.write(next(frames))
        os.close(read)
        for frame in frames:
            sink.write(frame)
            if sink.closed:
                break
        assert sink.closed
        sink.write(frame)  # harmless
    os.close(write)


def test_video_is_not_written_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: True)
    with pytest.raises(VideoError, match="pipe it on"):
        descriptor_for_video()


class FakeCamera:
    """pyvirtualcam's, as far as it is used."""

    def __init__(self, *, width: int, height: int, fps: float) -> None:
        if (width, height) == (2, 2):
            raise RuntimeError("no device\nfound")
        self.device, self.size, self.sent, self.is_open = "/dev/video9", (width, height), [], True
        assert fps == 50
        FakeCamera.last = self

    def send(self, image: np.ndarray) -> None:
        assert image.shape == (self.size[1], self.size[0], 3)
        assert image.flags.c_contiguous
        self.sent.append(image)

    def close(self) -> None:
        self.is_open = False


def test_the_virtual_camera_is_given_the_sharp_picture(
    camera: LiveSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("pyvirtualcam")
    module.Camera = FakeCamera  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyvirtualcam", module)
    with VirtualCamera(camera.info) as sink:
        assert sink.device == "/dev/video9"
        for frame in sharpened(camera, 2):
            sink.write(frame)
        other = np.zeros((480, 640, 3), np.uint8)
        sink.write(Frame(frame.picture, other, 0, other))  # another size
    last: Any = FakeCamera.last
    assert [abs(float(image.mean()) - 168) < 2 for image in last.sent] == [True, True, False]
    assert not last.is_open
    tiny: Any = SimpleNamespace(width=2, height=2, rate=50)
    with pytest.raises(VideoError, match="there is no virtual camera: no device found; on Linux"):
        VirtualCamera(tiny)


def test_without_pyvirtualcam_the_extra_is_named(
    camera: LiveSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(VideoError, match=r"pip install 'streamdeblur\[virtual-cam\]'"):
        VirtualCamera(camera.info)
