"""Live runs as a person meets them: the command, its outputs, its ends; and threads that hang."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamdeblur.cli import main
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import ModelError, VideoError
from streamdeblur.frames import Frame
from streamdeblur.live import outputs
from streamdeblur.live import run as run_of_live
from streamdeblur.live.detached import Detached
from streamdeblur.live.feeds import LiveSource
from streamdeblur.live.recording import Recording
from streamdeblur.live.rhythm import AdaptiveNetwork, Choice
from streamdeblur.live.run import Live
from streamdeblur.pipeline import Progress
from streamdeblur.sources import open_source
from streamdeblur.threads import promised
from tests.conftest import ClipMaker
from tests.footage import levels
from tests.live.broadcast import Broadcast
from tests.patience import eventually
from tests.tiny_onnx import invert

Capture = pytest.CaptureFixture[str]
CAMERA = "lavfi:color=gray:size=64x48:rate=25"
SHORT = CAMERA + ":duration=1"
SUMMARY = r"(\d+) frames in [\d.]+ s \(.* frames/s\), delay \d+ ms \(95 %: \d+ ms\), (\d+) dropped"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A network that inverts, and no window."""
    model = tmp_path / "invert.onnx"
    model.write_bytes(invert())
    return ["--model", str(model), "--keep-model", "--no-preview"]


def test_several_outputs_get_every_frame(options: list[str], capfd: Capture) -> None:
    outputs = ["-o", "a.mp4", "-o", "b.mkv", "-o", "c.m3u8"]
    assert main([SHORT, *options, *outputs]) == 0
    counts = {name: len(levels(name)) for name in ("a.mp4", "b.mkv", "c.m3u8")}
    output, errors = capfd.readouterr()
    assert output == ""
    match = re.search(SUMMARY, errors)
    assert match, errors
    assert int(match[1]) + int(match[2]) == 25
    assert set(counts.values()) == {int(match[1])}
    assert all(abs(level - 127) < 4 for level in levels("a.mp4"))


@pytest.mark.parametrize("wish", [[], ["--no-sound"]])
def test_a_stream_is_recorded_and_sent_with_its_sound(
    options: list[str], wish: list[str], capfd: Capture
) -> None:
    source = f"{SHORT}[out0];sine=1000:duration=1[out1]"
    assert main([source, *options, "-o", "a.mkv", "-o", "b.m3u8", *wish]) == 0
    told = capfd.readouterr().err
    assert ("streamdeblur: the sound becomes AAC (it was pcm_s16le)" in told) == (not wish)
    for name in ("a.mkv", "b.m3u8"):
        with av.open(name) as container:
            assert len(container.streams.audio) == (0 if wish else 1)
            times = [frame.time for frame in container.decode(audio=0)] if not wish else [1.0]
            assert max(times) > 0.8


def test_strength_and_compare_hold_for_recordings(options: list[str]) -> None:
    source = "lavfi:color=black:size=64x48:rate=25:duration=0.4"
    assert main([source, *options, "-o", "a.mkv", "--compare", "--strength", "0.5", "--quiet"]) == 0
    with av.open("a.mkv") as clip:
        image = next(clip.decode(video=0)).to_ndarray(format="rgb24")
    assert image.shape == (48, 128, 3)
    assert image[:, :60].max() < 5
    assert np.abs(image[:, 68:].astype(int) - 128).max() < 5


def test_a_file_can_be_recorded_as_it_plays(options: list[str], make_clip: ClipMaker) -> None:
    clip = make_clip("clip.mp4")
    assert main([str(clip), *options, "--realtime", "-o", "played.mp4", "--quiet"]) == 0
    assert 10 <= len(levels("played.mp4")) <= 12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([SHORT, "--no-preview"], "nothing would show the frames"),
        ([SHORT], "there is no display to show it on; .*--no-preview -o FILE"),
        ([SHORT, "-o", "old.mp4"], "--overwrite"),
        ([SHORT, "-o", "gopher://x/y"], "can't send to gopher://x/y"),
        ([SHORT, "-o", "a.mp4", "-o", "a.mkv"], "two recordings would grow as a.part.mkv"),
        ([SHORT, "-o", "a.mkv", "--format", "nut"], "leave out --format, which is for files"),
        ([SHORT, "-o", "a.mkv", "--resume"], "leave out --resume, which is for files"),
        ([SHORT, "-o", "a.mkv", "--deinterlace", "on"], "leave out --deinterlace"),
        (["clip.mp4", "-o", "udp://127.0.0.1:9"], "--realtime plays it live"),
        (["clip.mp4", "--virtual-cam"], "--realtime plays it live"),
        (["clip.mp4", "-o", "a.mp4", "-o", "b.mp4"], "--realtime plays it live"),
        (["lavfi:"], "needs a filter"),
        (["lavfi:nosuch"], "can't open lavfi:nosuch"),
    ],
)
def test_what_cannot_be_gets_one_line(
    arguments: list[str], words: str, options: list[str], make_clip: ClipMaker, capfd: Capture
) -> None:
    make_clip("clip.mp4")
    Path("old.mp4").write_bytes(b"dear")
    before = sorted(os.listdir())
    assert main([*arguments, *options[:2], "--quiet"]) == 1
    output, errors = capfd.readouterr()
    assert output == ""
    assert errors.startswith("streamdeblur: error: ")
    assert errors.count("\n") == 1
    assert re.search(words, errors)
    assert sorted(os.listdir()) == before
    assert Path("old.mp4").read_bytes() == b"dear"


def test_without_a_display_another_output_will_do(options: list[str], capfd: Capture) -> None:
    assert main([SHORT, *options[:-1], "-o", "a.mkv"]) == 0
    assert "there is no display" in capfd.readouterr().err
    assert levels("a.mkv")


def test_a_source_that_is_lost_for_good_keeps_the_recording(
    options: list[str], capfd: Capture
) -> None:
    with Broadcast() as station:
        threading.Timer(3, station.off).start()
        assert main([station.url, *options, "-o", "a.mp4", "--retry", "0.5"]) == 1
        station.on()
    lines = capfd.readouterr().err.splitlines()
    assert "was lost" in lines[-2]
    assert re.match(r"streamdeblur: error: tcp://\S+ was lost and did not come back", lines[-1])
    assert len(levels("a.mp4")) > 10


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(options: list[str]) -> Iterator[Start]:
    """Starts the command as a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "streamdeblur", *arguments, *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_ctrl_c_is_the_normal_end_and_finishes_the_file(
    start: Start, number: signal.Signals, status: int
) -> None:
    process = start(CAMERA, "-o", "a.mp4")
    part = Path("a.part.mkv")
    eventually(lambda: part.exists() and part.stat().st_size > 2000)
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (status, b""), errors
    assert levels("a.mp4")
    assert not part.exists()


def test_ctrl_c_ends_even_while_the_source_is_away(start: Start) -> None:
    with Broadcast() as station:
        process = start(station.url, "-o", "a.mp4")
        part = Path("a.part.mkv")
        eventually(lambda: part.exists() and part.stat().st_size > 2000)
        station.off()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        station.on()
    assert process.returncode == 0, errors
    assert levels("a.mp4")


def test_standard_output_holds_nothing_but_video(start: Start) -> None:
    process = start(SHORT, "-o", "-", "--verbose")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"frames in" in errors
    assert len(output) % 188 == 0
    assert {output[index] for index in range(0, len(output), 188)} == {0x47}  # MPEG-TS packets
    Path("out.ts").write_bytes(output)
    assert levels("out.ts")


def test_a_pipe_is_a_source_too(start: Start, options: list[str]) -> None:
    producer = [sys.executable, "-m", "streamdeblur", SHORT, *options, "-o", "-"]
    consumer = [sys.executable, "-m", "streamdeblur", "-", *options[:2], "-o", "a.mkv"]
    with subprocess.Popen(producer, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        done = subprocess.run(consumer, stdin=first.stdout, capture_output=True, text=True)
        assert first.stdout is not None
        assert first.stderr is not None
        first.stderr.read()
    assert done.returncode == 0, done.stderr
    assert levels("a.mkv")


def test_the_example_of_the_readme_runs() -> None:
    readme = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    example = readme.split("```python\n")[1].split("```")[0]
    shown: list[np.ndarray] = []
    names = {"image": np.zeros((48, 64, 3), np.uint8), "show": shown.append}
    exec(example.replace("rtsp://10.0.0.7/stream", f"{CAMERA}:duration=0.2"), names)
    assert 1 <= len(shown) <= 5
    assert {image.shape for image in shown} == {(48, 64, 3)}


def test_the_cameras_are_listed(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    from streamdeblur.live import cameras

    if cameras.camera_format() != "v4l2":
        pytest.skip("devices are called otherwise")
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([Path("/dev/video42")]))
    assert main(["--list-cameras"]) == 0
    assert capfd.readouterr().out == "42   unnamed (/dev/video42)\n"
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([]))
    assert main(["--list-cameras"]) == 0
    output, errors = capfd.readouterr()
    assert output == ""
    assert "no camera was found" in errors


def test_a_model_that_cannot_be_loaded_ends_nothing(options: list[str]) -> None:
    network = Deblurrer.load(options[1], device="cpu")

    def fail(name: str) -> list[Choice]:
        raise ModelError(f"{name} is damaged")

    said: list[str] = []
    with open_source(CAMERA) as source:
        assert isinstance(source, LiveSource)
        live = Live(
            source,
            AdaptiveNetwork([Choice(network)]),
            say=said.append,
            record=lambda path: Recording(path, source.info),
            models=["this", "other"],
            load=fail,
        )
        with live:
            live.add(Sink())
            live.obey("model")
            live.run(lambda progress: live.obey("quit") if said else None)
    assert said == ["other is damaged"]


@pytest.fixture
def watched(options: list[str]) -> Iterator[tuple[Live, list[str]]]:
    """A live run that is shown nowhere, and what is said of it."""
    network = Deblurrer.load(options[1], device="cpu")
    said: list[str] = []
    with open_source(CAMERA) as source:
        assert isinstance(source, LiveSource)
        yield (
            Live(
                source,
                AdaptiveNetwork([Choice(network)]),
                say=said.append,
                record=lambda path: Recording(path, source.info),
                models=["this", "other"],
                load=lambda _: [Choice(network)],
            ),
            said,
        )


def test_pictures_and_recordings_are_told_when_they_are_there(
    watched: tuple[Live, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, said = watched
    monkeypatch.setattr(run_of_live, "datetime", Noon)
    Path("streamdeblur-noon-3.png").mkdir()  # where the third one is to go
    commands = {2: "snapshot", 3: "snapshot", 4: "record", 6: "record", 7: "record"}
    commands |= {9: "snapshot", 15: "quit"}
    with live:
        live.add(Sink())
        live.run(giving(commands, live))
    names = ("streamdeblur-noon.png", "streamdeblur-noon-2.png", "streamdeblur-noon-4.png")
    done = {f"picture saved as {name}" for name in names} | {"recorded streamdeblur-noon.mkv"}
    assert done <= set(said)
    assert "recording streamdeblur-noon-2.mkv" in said
    assert sorted(path.name for path in Path().glob("*.mkv")) == [
        "streamdeblur-noon-2.mkv",
        "streamdeblur-noon.mkv",
    ]


def giving(commands: dict[int, str], live: Live) -> Callable[[Progress], None]:
    """Gives each command once, after so many frames: the count is told again while none comes."""

    def give(progress: Progress) -> None:
        if command := commands.pop(progress.written, None):
            live.obey(command)

    return give


class Noon:
    """A clock that stands."""

    @classmethod
    def now(cls) -> Noon:
        return cls()

    def strftime(self, form: str) -> str:
        return "streamdeblur-noon"


def test_frames_that_a_recording_has_lost_are_told(
    watched: tuple[Live, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "_STALL", 0.3)
    live, said = watched
    gate = threading.Event()
    with live:
        live.add(Sink(gate=gate))
        live.run(lambda progress: live.obey("quit") if progress.written == 25 else None)
        gate.set()
    assert said == ["an output takes nothing: frames for it are lost meanwhile"]
    assert 10 <= live.lost <= 16
    assert f"{live.lost} not recorded or sent" in live.summary()


def test_an_output_that_fails_ends_no_other(watched: tuple[Live, list[str]]) -> None:
    live, said = watched
    sink = Sink()
    with live:
        for output in (Sink(fails=True), sink):
            live.add(output)
        live.run(lambda progress: live.obey("quit") if len(sink.taken) > 5 else None)
    assert said == ["the disk is full; the other outputs go on"]
    assert live.failed


def test_a_picture_that_cannot_be_saved_is_told_and_ends_nothing(
    watched: tuple[Live, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, said = watched
    monkeypatch.setattr(run_of_live, "Snapshot", lambda path: Sink(fails=True))

    give = giving({2: "snapshot"}, live)

    def ask(progress: Progress) -> None:
        give(progress)
        if said:
            live.obey("quit")

    with live:
        live.add(Sink())
        live.run(ask)
    assert said == ["the disk is full"]
    assert live.failed


def test_the_last_output_that_fails_ends_the_run(watched: tuple[Live, list[str]]) -> None:
    live, said = watched
    with live:
        for _ in range(2):
            live.add(Sink(fails=True))
        with pytest.raises(VideoError, match="the disk is full"):
            live.run()
    assert len(said) == 1


def test_a_recording_that_failed_is_over(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    def fail(*_: object) -> None:
        raise VideoError("can't write a.part.mkv: No space left on device")

    monkeypatch.setattr(Recording, "write", fail)
    assert main([SHORT, *options, "-o", "a.mp4", "-o", "b.m3u8"]) == 1
    assert "No space left on device; the other outputs go on" in capfd.readouterr().err
    assert len(levels("b.m3u8")) > 10


def test_a_model_is_loaded_once_and_one_at_a_time(watched: tuple[Live, list[str]]) -> None:
    live, said = watched
    loads: list[str] = []
    gate = threading.Event()
    choices = live._load("")

    def load(name: str) -> list[Choice]:
        loads.append(name)
        gate.wait(20)
        return choices

    live._load = load

    give = giving({1: "model", 2: "model", 3: "model"}, live)

    def ask(progress: Progress) -> None:
        give(progress)
        if progress.written == 3:
            gate.set()
        if len(said) in (1, 2, 3) and progress.written > 4 and not live._is_loading:
            live.obey("model")
        if len(said) == 4:
            live.obey("quit")

    with live:
        live.add(Sink())
        live.run(ask)
    assert loads == ["other", "this"]


class Sink:
    """Takes frames, as slowly or badly as it is told."""

    closed = False

    def __init__(self, *, gate: threading.Event | None = None, fails: bool = False) -> None:
        self.taken: list[int] = []
        self.left = False
        self._gate, self._fails = gate, fails

    def write(self, frame: Frame) -> None:
        if self._gate is not None:
            self._gate.wait(20)
        if self._fails:
            raise VideoError("the disk is full")
        self.taken.append(frame.pts)

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self.left = True


def frame(pts: int, captured: float | None = None) -> Frame:
    image = np.zeros((2, 2, 3), np.uint8)
    return Frame(av.VideoFrame(2, 2, "rgb24"), image, pts, image, captured)


def test_a_detached_sink_never_holds_up_who_writes() -> None:
    gate = threading.Event()
    sink = Sink(gate=gate)
    with Detached(sink, depth=2) as detached:
        for pts in range(10):
            detached.write(frame(pts, time.monotonic()))
            time.sleep(0.01)
        gate.set()
    assert sink.taken == [0, 8, 9]  # the one in hand, and the newest
    assert detached.dropped == 7
    assert detached.delays.count == 3
    assert sink.left


def test_the_error_of_a_detached_sink_reaches_who_writes() -> None:
    detached = Detached(Sink(fails=True))

    def write_on() -> None:
        for pts in range(1000):
            detached.write(frame(pts))
            time.sleep(0.01)

    with pytest.raises(VideoError, match="the disk is full"):
        write_on()
    detached.close()  # said once is enough
    assert detached.sink.left  # type: ignore[attr-defined]


def test_a_sink_that_hangs_is_left_behind() -> None:
    gate = threading.Event()
    detached = Detached(Sink(gate=gate), patience=0.1)
    detached.write(frame(0))
    with pytest.raises(VideoError, match="hangs"):
        detached.close()
    gate.set()


def test_an_idle_sink_is_told() -> None:
    told = threading.Event()
    with Detached(Sink(), idle=told.set):
        assert told.wait(10)


def test_a_promise_is_kept_without_waiting() -> None:
    gate = threading.Event()

    def answer() -> int:
        gate.wait(10)
        return 42

    with closing(promised(answer)) as waiting:
        assert next(waiting) is None
        gate.set()
        found: Any = None
        while found is None:
            found = next(waiting)
        assert found == 42
