"""The command as a person meets it: its lines, its exit codes, and what it leaves on the disk."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdeblur import display, doctor, sinks
from streamdeblur.arguments import parse
from streamdeblur.cli import main
from streamdeblur.network import catalogue, speeds
from streamdeblur.spec import ModelSpec
from streamdeblur.values import moment
from tests.clips import write_clip
from tests.conftest import ClipMaker
from tests.tiny_onnx import foreign, identity, language_model, overflowing

Capture = pytest.CaptureFixture[str]


def save(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def lines(capture: Capture) -> list[str]:
    """What was said on stderr, natively too; on stdout there must be nothing."""
    output, errors = capture.readouterr()
    assert output == ""
    return errors.splitlines()


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as clip:
        return [frame.to_ndarray() for frame in clip.decode(video=0)]


def test_a_file_is_deblurred_beside_the_input(
    make_clip: ClipMaker, model: str, capfd: Capture
) -> None:
    clip = make_clip("clip.mkv", codec="ffv1", pix_fmt="gray")
    assert main([str(clip), "--model", model]) == 0
    output = clip.with_name("clip.deblurred.mkv")
    for before, after in zip(pictures(clip), pictures(output), strict=True):
        assert np.abs(after.astype(int) - (255 - before)).max() <= 1
    running, summary = lines(capfd)
    assert running == "streamdeblur: model tiny, fp32, on CPUExecutionProvider"
    assert summary.startswith(f"streamdeblur: {output}: 12 frames in ")
    assert "frames/s, slowest stage: " in summary


def test_quiet_says_nothing(make_clip: ClipMaker, model: str, capfd: Capture) -> None:
    assert main([str(make_clip()), "-m", model, "--quiet"]) == 0
    assert lines(capfd) == []


def test_verbose_says_more(make_clip: ClipMaker, model: str, capfd: Capture) -> None:
    assert main([str(make_clip()), "-m", model, "--verbose"]) == 0
    said = "\n".join(lines(capfd))
    for words in ("64x48 h264 yuv420p, 25 frames/s", "encoder libx264", "decode 0."):
        assert words in said


def test_notices_come_before_the_work(make_clip: ClipMaker, tmp_path: Path, capfd: Capture) -> None:
    clip = make_clip("clip.mkv", codec="mpeg4", attachment=True)
    model = save(tmp_path / "other.onnx", foreign())
    assert main([str(clip), "-m", model, "-o", str(tmp_path / "out.mp4")]) == 0
    said = lines(capfd)
    assert "other was made elsewhere" in said[0]
    assert "model other, fp32" in said[1]
    assert any("libx264" in line or "attachment" in line for line in said[2:-1]), said
    assert "12 frames in" in said[-1]


def test_the_options_reach_their_places(make_clip: ClipMaker, model: str, tmp_path: Path) -> None:
    clip, output = make_clip(pts=range(50)), tmp_path / "part.mkv"
    options = ["--start", "0:01", "--duration", "0.4", "--compare", "--strength", "0", "--quiet"]
    encoding = ["--codec", "ffv1", "--encoder-option", "slices=4", "--threads", "1"]
    assert main([str(clip), "-o", str(output), "-m", model, *options, *encoding]) == 0
    with av.open(str(output)) as written:
        assert written.streams.video[0].codec_context.name == "ffv1"
        assert written.streams.video[0].width == 2 * 64
    left_and_right = [np.hsplit(picture[:48], 2) for picture in pictures(output)]
    assert len(left_and_right) == 10
    for left, right in left_and_right:
        assert np.array_equal(left, right)


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48_000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 48_000
        output.mux([*stream.encode(silence), *stream.encode(None)])


# What a person can get wrong: how, and the words of the line that says so.
BAD = {
    "a missing file": (["nosuch.mp4"], "no such file"),
    "a missing file with a strange name": (["a\nb.mp4"], "a b.mp4"),
    "a name that cannot be": (["x" * 5000], "too long"),
    "a folder": (["folder"], "folder"),
    "a text file named .mp4": (["text.mp4"], "text.mp4"),
    "a file with sound only": (["sound.m4a"], "no video"),
    "an empty file": (["empty.mp4"], "empty"),
    "a camera that is not there": (["97"], "camera"),
    "a moment after the end": (["clip.mp4", "--start", "1:00"], "start"),
    "a model that is not ONNX": (["clip.mp4", "-m", "text.mp4"], "is it an ONNX model"),
    "a model of something else": (["clip.mp4", "-m", "language.onnx"], "python -m export"),
    "a model that is not there": (["clip.mp4", "-m", "nosuch"], "no model nosuch"),
    "a model's name that cannot be": (["clip.mp4", "-m", "x" * 5000], "no model"),
    "an output folder that is not there": (["clip.mp4", "-o", "no/out.mp4"], "no folder"),
    "an output that is the input": (["clip.mp4", "-fo", "clip.mp4"], "replace the input"),
    "an output that exists": (["clip.mp4", "-o", "old.mp4"], "--overwrite"),
    "an output of no known kind": (["clip.mp4", "-o", "out.xyz"], ".mp4"),
    "a codec that does not exist": (["clip.mp4", "--codec", "h26v"], "h26v"),
    "an encoder option that does not exist": (
        ["clip.mp4", "--encoder-option", "nosuch=1"],
        "nosuch",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_bad_input_gets_one_line_and_changes_nothing(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4")
    write_sound(tmp_path / "sound.m4a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.mp4").write_text("This is no video.\n" * 50)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "old.mp4").write_text("precious")
    save(tmp_path / "language.onnx", language_model())
    default = ["-m", save(tmp_path / "identity.onnx", identity())] * ("-m" not in arguments)
    capfd.readouterr()
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert main([*arguments, *default]) == 1
    errors = [line for line in lines(capfd) if not line.startswith("streamdeblur: model tiny")]
    assert len(errors) == 1, errors
    assert errors[0].startswith("streamdeblur: error: ")
    assert words in errors[0]
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_damage_in_the_middle_is_told_and_the_rest_kept(
    make_clip: ClipMaker, model: str, capfd: Capture
) -> None:
    clip = make_clip(
        "clip.mkv", codec="ffv1", pts=range(20), options={"level": "3", "slicecrc": "1"}
    )
    with av.open(str(clip)) as container:
        packet = list(container.demux(video=0))[10]
    content = bytearray(clip.read_bytes())
    middle = content.index(bytes(packet)) + packet.size // 2
    content[middle : middle + 100] = bytes(100)
    clip.write_bytes(content)
    assert main([str(clip), "-m", model]) == 1
    said = lines(capfd)
    assert "frames in" in said[-2]
    assert said[-1].startswith(f"streamdeblur: error: {clip} is damaged (1 undecodable packet)")
    assert len(pictures(clip.with_name("clip.deblurred.mkv"))) >= 15


def test_a_file_that_was_cut_off_is_told(make_clip: ClipMaker, model: str, capfd: Capture) -> None:
    clip = make_clip("clip.mkv", codec="ffv1", pts=range(100))
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    assert main([str(clip), "-m", model]) in (0, 1)
    said = lines(capfd)[-1]
    assert "cut off" in said or "is damaged" in said


@pytest.fixture
def interrupted_by(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sends this process a signal while the fourth frame is written."""
    ends = ("SIGINT", "SIGTERM", "SIGHUP")
    before = {n: signal.getsignal(n) for name in ends if (n := getattr(signal, name, None))}

    def arrange(number: int) -> None:
        write = sinks.FileSink.write

        def interrupted(sink: sinks.FileSink, frame: object) -> None:
            write(sink, frame)  # type: ignore[arg-type]
            if sink.frames_written == 4:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(sinks.FileSink, "write", interrupted)

    # What runs in the background starts with some of them ignored.
    for number in before:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)
    yield arrange
    for number, handler in before.items():
        signal.signal(number, handler)


def test_ctrl_c_leaves_nothing_behind(
    make_clip: ClipMaker,
    model: str,
    interrupted_by: Callable[[int], None],
    tmp_path: Path,
    capfd: Capture,
) -> None:
    clip = make_clip()
    before = set(tmp_path.iterdir())
    interrupted_by(signal.SIGINT)
    assert main([str(clip), "-m", model]) == 130
    assert lines(capfd)[-1] == "streamdeblur: stopped by Ctrl-C; nothing was written"
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_termination_leaves_nothing_behind(
    name: str,
    make_clip: ClipMaker,
    model: str,
    interrupted_by: Callable[[int], None],
    tmp_path: Path,
) -> None:
    number = getattr(signal, name)
    handler = signal.getsignal(number)
    clip = make_clip()
    before = set(tmp_path.iterdir())
    interrupted_by(number)
    with pytest.raises(SystemExit) as ended:
        main([str(clip), "-m", model])
    assert ended.value.code == 128 + number
    assert set(tmp_path.iterdir()) == before
    assert signal.getsignal(number) == handler


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_nohup_outlives_the_terminal(
    make_clip: ClipMaker, model: str, interrupted_by: Callable[[int], None]
) -> None:
    clip = make_clip()
    interrupted_by(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup starts a program
    assert main([str(clip), "-m", model]) == 0


def test_a_bug_shows_its_traceback(
    make_clip: ClipMaker, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(sink: object, frame: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sinks.FileSink, "write", broken)
    with pytest.raises(ZeroDivisionError):
        main([str(make_clip()), "-m", model])


def test_without_a_terminal_progress_is_a_few_lines(
    make_clip: ClipMaker, model: str, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    clip = make_clip("clip.mp4")
    monkeypatch.setattr(display, "_SECONDS_BETWEEN_LINES", 0)
    assert main([str(clip), "-m", model]) == 0
    said = [line for line in lines(capfd) if line.startswith("streamdeblur: frame ")]
    assert len(said) == 12
    assert said[2].startswith("streamdeblur: frame 3/12, ")
    assert "s left, slowest stage: " in said[2]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_progress_is_a_bar(make_clip: ClipMaker, model: str) -> None:
    import pty

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "streamdeblur", str(make_clip()), "-m", model]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, env=environment)
    os.close(follower)
    shown = ""
    with os.fdopen(leader, "rb", buffering=0) as screen, suppress(OSError):  # at its end Linux
        while part := screen.read(4096):  # raises EIO
            shown += part.decode()
    output, _ = process.communicate()
    assert (process.returncode, output) == (0, b"")
    assert "12/12" in shown
    assert "slowest:" in shown


def test_models_are_listed_on_stdout(
    model: str, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setattr(catalogue, "_MODELS", Path(model).parent)
    monkeypatch.setattr(catalogue, "DEFAULT_MODEL", "invert")
    assert main(["--list-models"]) == 0
    assert capfd.readouterr() == ("invert          0.0 MB  fp32  (default)\n", "")


def test_the_version_is_on_stdout(capfd: Capture) -> None:
    assert main(["--version"]) == 0
    output, errors = capfd.readouterr()
    assert output.startswith("streamdeblur")
    assert errors == ""


def test_help_goes_to_stdout_and_names_every_exit_code(
    monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setenv("COLUMNS", "82")
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    output, errors = capfd.readouterr()
    assert errors == ""
    for meaning in ("0 done", "1 failed", "2 wrong usage", "130 stopped by Ctrl-C"):
        assert meaning in output
    assert f"(default: {catalogue.DEFAULT_MODEL})" in output
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--nosuch"],
        ["clip.mp4", "--quiet", "--verbose"],
        ["clip.mp4", "--precision", "fp8"],
        ["clip.mp4", "--strength", "1.5"],
        ["clip.mp4", "--strength", "nan"],
        ["clip.mp4", "--threads", "0"],
        ["clip.mp4", "--gpu", "-1"],
        ["clip.mp4", "--crf", "best"],
        ["clip.mp4", "--start", "1:75"],
        ["clip.mp4", "--duration", "0"],
        ["clip.mp4", "--encoder-option", "novalue"],
        ["clip.mp4", "--over"],  # no abbreviations
    ],
)
def test_wrong_usage_is_2(arguments: list[str], capfd: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    usage, error = lines(capfd)
    assert usage.startswith("usage: streamdeblur INPUT")
    assert error.startswith("streamdeblur: error: ")


whole = st.integers(0, 200)
below_60 = st.integers(0, 59)
decimals = st.text("0123456789", max_size=6)


def start(text: str) -> Fraction:
    moment = parse(["clip.mp4", f"--start={text}"]).start
    assert isinstance(moment, Fraction)
    return moment


@settings(deadline=None)  # a busy machine is no failure
@given(hours=whole, minutes=below_60, seconds=below_60, fraction=decimals)
def test_times_are_read_exactly(hours: int, minutes: int, seconds: int, fraction: str) -> None:
    tail = f"{seconds:02}" + (f".{fraction}" if fraction else "")
    exact = seconds + Fraction(int(fraction or 0), 10 ** len(fraction))
    assert start(tail) == exact
    assert start(f"{hours}:{tail}") == hours * 60 + exact
    assert start(f"{hours}:{minutes:02}:{tail}") == hours * 3600 + minutes * 60 + exact


@settings(deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_a_time_or_a_usage_error(text: str) -> None:
    try:
        assert moment(text) >= 0
    except argparse.ArgumentTypeError as error:
        assert repr(text) in str(error)  # noqa: PT017


def test_the_doctor_tries_every_device_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setenv("STREAMDEBLUR_CACHE", str(tmp_path))
    assert main(["--doctor"]) == 0
    output, errors = capfd.readouterr()
    assert errors == ""
    lines = output.splitlines()
    (cpu,) = [line.split() for line in lines if line.startswith("--device cpu")]
    assert cpu[2:5] == ["yes", "CPUExecutionProvider,", "in"]
    for subject in ("Python", "FFmpeg", "ONNX Runtime", "encoders", "window", "model fast"):
        assert any(line.startswith(subject) for line in lines), subject
    assert any("pip install" in line for line in lines)
    assert str(tmp_path) in lines[-1]


def test_a_benchmark_is_remembered_for_auto(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setenv("STREAMDEBLUR_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "findings", lambda: iter(()))
    assert main(["--doctor", "--benchmark", "-m", model]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["device", "precision", "640x480,", "ms", "1280x720,", "ms"]
    (cpu,) = [line.split() for line in lines if line.split()[:2] == ["cpu", "fp32"]]
    assert (cpu[3], cpu[5]) == ("(1.00)", "(1.00)")
    assert ("cpu", "fp32") in speeds.recalled(catalogue.find(model))


def test_frames_done_again_in_fp32_are_counted_at_the_end(
    make_clip: ClipMaker, tmp_path: Path, capfd: Capture
) -> None:
    spec = ModelSpec(name="net", precision="fp16", receptive_field=1, twin="net.onnx")
    (tmp_path / "net.onnx").write_bytes(identity())
    (tmp_path / "net.fp16.onnx").write_bytes(overflowing(spec.to_metadata()))
    assert main([str(make_clip()), "-m", str(tmp_path / "net.fp16.onnx"), "--device", "cpu"]) == 0
    said = capfd.readouterr().err.splitlines()
    assert said[-1] == "streamdeblur: 12 frames overflowed in fp16 and were done again in fp32"


def test_closed_standard_error_is_no_obstacle(
    make_clip: ClipMaker, model: str, tmp_path: Path
) -> None:
    clip = make_clip(pts=range(3))
    command = [sys.executable, "-m", "streamdeblur", str(clip), "-m", model]
    script = 'exec "$@" 2>&-'
    done = subprocess.run(["sh", "-c", script, "sh", *command], stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, b"")
    assert len(pictures(clip.with_name("clip.deblurred.mp4"))) == 3
