"""Standard input and output as files: every frame comes through, and nothing but video goes out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamdeblur.cli import main
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource
from tests.conftest import ClipMaker
from tests.patience import eventually
from tests.tiny_onnx import identity, invert

ROOT = Path(__file__).parent.parent
MS = Fraction(1, 1000)
UNEVEN = [0, 40, 70, 140, 150, 310, 350, 600]


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "identity.onnx").write_bytes(identity())
    return str(tmp_path / "identity.onnx")


def piped(*arguments: str, given: bytes = b"", ends: int = 0) -> tuple[bytes, str]:
    """What the command writes to stdout and stderr."""
    command = [sys.executable, "-m", "streamdeblur", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, cwd=ROOT)
    assert done.returncode == ends, done.stderr.decode()
    return done.stdout, done.stderr.decode()


def times(content: bytes, folder: Path) -> list[int | None]:
    (folder / "result").write_bytes(content)
    with av.open(str(folder / "result")) as container:
        return [picture.pts for picture in container.decode(video=0)]


def sound(path: Path) -> list[tuple[int | None, bytes]]:
    with av.open(str(path)) as container:
        return [(p.pts, bytes(p)) for p in container.demux(audio=0) if p.size]


@pytest.mark.parametrize(("name", "form"), [("in.mkv", None), ("in.mkv", "nut"), ("in.ts", None)])
def test_every_frame_and_the_sound_go_from_pipe_to_pipe(
    make_clip: ClipMaker, model: str, tmp_path: Path, name: str, form: str | None
) -> None:
    """In the input's own container by default, with all times as they were."""
    clip = make_clip(name, pts=UNEVEN, time_base=MS, audio=True)
    flags = ["--format", form] if form else []
    content, said = piped("-", "-o", "-", "-m", model, *flags, given=clip.read_bytes())
    with av.open(str(clip)) as container:
        wanted = [picture.pts for picture in container.decode(video=0)]
        kind = container.format.name
    assert len(times(content, tmp_path)) == len(UNEVEN)
    if form is None:
        assert times(content, tmp_path) == wanted
        assert sound(tmp_path / "result") == sound(clip)
        with av.open(str(tmp_path / "result")) as container:
            assert container.format.name == kind
    assert "standard output: 8 frames in " in said
    assert "streamdeblur" in said
    assert "error" not in said


def test_a_file_goes_into_a_pipe_and_a_pipe_into_a_file(
    make_clip: ClipMaker, model: str, tmp_path: Path
) -> None:
    clip = make_clip("in.mp4", pts=UNEVEN, time_base=MS, audio=True)
    content, _ = piped(str(clip), "-o", "-", "-m", model)  # an MP4 goes as Matroska
    assert times(content, tmp_path) == UNEVEN
    output = tmp_path / "out.mkv"
    piped("-", "-o", str(output), "-m", model, given=content)
    assert times(output.read_bytes(), tmp_path) == UNEVEN
    assert [data for _, data in sound(output)] == [data for _, data in sound(clip)][1:]
    part, _ = piped("-", "-o", "-", "-m", model, "--start", "0.1", given=content)
    assert times(part, tmp_path) == [time - 100 for time in UNEVEN[3:]]


def test_raw_pictures_pass_bit_by_bit(make_clip: ClipMaker, model: str, tmp_path: Path) -> None:
    """A network that changes nothing, and no codec: what comes out is what went in."""
    rng = np.random.default_rng(0)
    given = rng.integers(0, 256, 5 * 64 * 48 * 3 // 2, np.uint8).tobytes()
    layout = ["video_size=64x48", "pixel_format=nv12", "framerate=25"]
    flags = [word for text in layout for word in ("--input-option", text)]
    content, said = piped(
        *("-", "-o", "-", "-m", model, "--input-format", "rawvideo", *flags), given=given
    )
    assert content == given
    y4m, _ = piped(
        *("-", "-o", "-", "-m", model, "--input-format", "rawvideo", "--format", "yuv4mpegpipe"),
        *flags,
        given=given,
    )
    assert y4m.startswith(b"YUV4MPEG2 W64 H48 F25:1")
    again, _ = piped("-", "-o", "-", "-m", model, given=y4m)
    assert again == y4m
    audible = make_clip("audible.mp4", audio=True, pts=range(3))
    content, said = piped(str(audible), "-o", "-", "-m", model, "--format", "rawvideo")
    assert len(content) == 3 * 64 * 48 * 3 // 2
    assert "audio, aac) is left out" in said


@pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")
def test_a_reader_that_leaves_ends_it_quietly(make_clip: ClipMaker, model: str) -> None:
    clip = make_clip("in.mkv", pts=range(300), codec="ffv1")
    command = [sys.executable, "-m", "streamdeblur", str(clip), "-o", "-", "-m", model]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(1000)
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 141
    assert said.splitlines() == ["streamdeblur: model tiny, fp32, on CPUExecutionProvider"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")
def test_a_named_pipe_is_read_once(make_clip: ClipMaker, model: str, tmp_path: Path) -> None:
    clip = make_clip("in.mkv", pts=UNEVEN, time_base=MS, audio=True)
    pipe, output = tmp_path / "pipe", tmp_path / "out.mkv"
    os.mkfifo(pipe)
    with subprocess.Popen(f"cat '{clip}' > '{pipe}'", shell=True):
        assert main([str(pipe), "-o", str(output), "-m", model]) == 0
    assert times(output.read_bytes(), tmp_path) == UNEVEN
    assert sound(output) == sound(clip)


@pytest.fixture
def _heeded_ctrl_c() -> Iterator[None]:
    """What runs in the background, and what that starts, begins with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heeded_ctrl_c")
@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_pipe_that_falls_silent_is_left_when_told_to(
    number: int, code: int, make_clip: ClipMaker, model: str, tmp_path: Path
) -> None:
    content = make_clip("in.mkv", pts=range(30), codec="ffv1").read_bytes()
    command = [sys.executable, "-m", "streamdeblur", "-", "-o", str(tmp_path / "out.mkv")]
    with subprocess.Popen(
        [*command, "-m", model], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(content[: len(content) // 2])
        process.stdin.flush()
        eventually((tmp_path / "out.part.mkv").exists)
        time.sleep(0.3)  # until it waits for more
        process.send_signal(number)
        try:
            assert process.wait(timeout=20) == code
        finally:
            process.kill()
        said = process.stderr.read().decode().splitlines()
    assert said[1:] == ["streamdeblur: stopped by Ctrl-C; nothing was written"] * (code == 130)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.usefixtures("_heeded_ctrl_c")
@pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")
def test_a_pipe_that_is_silent_from_the_first_is_left_when_told_to(
    model: str, tmp_path: Path
) -> None:
    pipe, output = tmp_path / "pipe.mkv", tmp_path / "out.mkv"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "streamdeblur", str(pipe), "-o", str(output), "-m", model]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT) as process:
        writer = os.open(pipe, os.O_WRONLY)  # waits until it is read
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=20) == 130
        finally:
            process.kill()
            os.close(writer)
        assert process.stderr is not None
        said = process.stderr.read().decode().splitlines()
    assert said == ["streamdeblur: stopped by Ctrl-C; nothing was written"]
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["in.mp4", "-o", "-", "--format", "avi"], "avi can't be written to a pipe"),
        (["in.mp4", "-o", "-", "--format", "nosuch"], "there is no format nosuch"),
        (["in.mp4", "-o", "-", "--resume"], "can't be resumed"),
        (["in.mp4", "in.mp4", "-o", "-"], "a folder as their output"),
        (["in.mp4", "in.mp4", "-o", "both.mp4"], "a folder as their output"),
        (["in.mp4", "-o", "-", "--format", "yuv4mpegpipe", "--codec", "h264"], "leave out --codec"),
    ],
)
def test_what_no_pipe_can_do_is_refused(
    arguments: list[str], words: str, make_clip: ClipMaker, model: str
) -> None:
    clip = make_clip("in.mp4")
    arguments = [str(clip.parent / word) if "." in word else word for word in arguments]
    content, said = piped(*arguments, "-m", model, ends=1)
    assert content == b""
    assert words in said.splitlines()[-1]


def test_the_network_is_really_asked(make_clip: ClipMaker, tmp_path: Path) -> None:
    (tmp_path / "invert.onnx").write_bytes(invert())
    given = bytes(range(48)) * 4
    size = ["--input-option", "video_size=16x12", "--input-option", "pixel_format=gray"]
    flags = ["--input-format", "rawvideo", *size, "-m", str(tmp_path / "invert.onnx")]
    content, _ = piped("-", "-o", "-", *flags, given=given)
    assert content == bytes(255 - value for value in given)


def test_standard_input_replaces_an_output_if_it_may(
    make_clip: ClipMaker, model: str, tmp_path: Path
) -> None:
    content, output = make_clip("in.mkv").read_bytes(), tmp_path / "out.mkv"
    output.write_bytes(b"old")
    _, said = piped("-", "-o", str(output), "-m", model, given=content, ends=1)
    assert f"{output} exists; pass --overwrite" in said
    piped("-", "-o", str(output), "-m", model, "--overwrite", given=content)
    assert len(times(output.read_bytes(), tmp_path)) == 12


def test_raw_pictures_in_a_file_are_read_as_told(model: str, tmp_path: Path) -> None:
    given = np.random.default_rng(0).integers(0, 256, 5 * 64 * 48 * 3 // 2, np.uint8).tobytes()
    (tmp_path / "in.yuv").write_bytes(given)
    told = ["--input-format", "rawvideo", "--input-option", "video_size=64x48"]
    content, _ = piped(
        *(str(tmp_path / "in.yuv"), "-o", "-", "-m", model, "--format", "rawvideo"), *told
    )
    assert content == given


@pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")
def test_sound_that_is_not_wanted_does_not_pile_up(make_clip: ClipMaker, tmp_path: Path) -> None:
    """Of a pipe whose output holds none."""
    clip = make_clip("in.mkv", pts=range(0, 2000, 40), time_base=MS, audio=True)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[clip.read_bytes()])
    writer.start()
    with (
        FileSource(tmp_path / "pipe") as source,
        FileSink(tmp_path / "out.y4m", source.info, copy_from=source) as sink,
    ):
        for frame in source:
            frame.sharp = frame.image
            sink.write(frame)
        assert source.other_packet() is None
    writer.join()


@pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")
def test_the_report_of_a_named_pipe_does_not_wait_for_it_again(
    make_clip: ClipMaker, model: str, tmp_path: Path
) -> None:
    clip, output = make_clip("in.mkv"), tmp_path / "out.mkv"
    os.mkfifo(tmp_path / "pipe.mkv")
    writer = threading.Thread(target=(tmp_path / "pipe.mkv").write_bytes, args=[clip.read_bytes()])
    writer.start()
    report = tmp_path / "r.html"
    piped(str(tmp_path / "pipe.mkv"), "-o", str(output), "-m", model, "--report", str(report))
    writer.join()
    assert "12 frames" in report.read_text(encoding="utf-8")


def test_a_list_whose_reader_leaves_ends_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "streamdeblur", "--list-models"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
