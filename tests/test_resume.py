"""Runs that are interrupted and go on: what comes out is what an uninterrupted run makes."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdeblur import sinks
from streamdeblur.cli import main
from streamdeblur.errors import VideoError
from streamdeblur.resume import Journal, work_folder
from streamdeblur.video import segments
from streamdeblur.video.segments import decoding_times
from tests.conftest import ClipMaker
from tests.tiny_onnx import identity

ROOT = Path(__file__).parent.parent
MS = Fraction(1, 1000)
FRAMES = 24
UNEVEN = [index * 40 + 7 * (index % 3) + 900 * (index > 9) for index in range(FRAMES)]

Capture = pytest.CaptureFixture[str]
Interrupt = Callable[[int, BaseException], None]


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT", 5)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Interrupt]:
    """`interrupt(n, error)` raises an error, once, when the n-th frame is to be written."""

    def arrange(number: int, error: BaseException) -> None:
        write, pending = sinks.FileSink.write, [error]

        def interrupted(sink: sinks.FileSink, frame: object) -> None:
            if sink.frames_written == number - 1 and pending:
                raise pending.pop()
            write(sink, frame)  # type: ignore[arg-type]

        monkeypatch.setattr(sinks.FileSink, "write", interrupted)

    return arrange


def lines(capture: Capture) -> list[str]:
    output, errors = capture.readouterr()
    assert output == ""
    return [line.removeprefix("streamdeblur: ") for line in errors.splitlines()]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def times(path: Path) -> list[int | None]:
    with av.open(str(path)) as container:
        return [picture.pts for picture in container.decode(video=0)]


def packets(path: Path) -> list[tuple[object, ...]]:
    with av.open(str(path)) as container:
        return [
            (p.stream_index, p.pts, p.dts, p.duration, p.is_keyframe, bytes(p))
            for p in container.demux()
        ]


@pytest.mark.parametrize(
    ("name", "codec", "at"),
    [
        ("clip.mp4", "libx264", 17),
        ("clip.mkv", "libx264", 1),
        ("clip.mov", "prores_ks", 24),
        ("clip.ts", "libx264", 6),
        ("clip.avi", "libx264", 11),
        ("clip.mkv", "ffv1", 8),
        ("clip.webm", "libvpx-vp9", 13),
    ],
)
def test_an_interrupted_run_goes_on_and_makes_the_very_same_file(
    make_clip: ClipMaker, model: str, interrupt: Interrupt, name: str, codec: str, at: int
) -> None:
    timing: dict[str, Any] = {"pts": UNEVEN, "time_base": MS}
    if name.endswith("avi"):  # which has no times of its own
        timing = {"pts": range(FRAMES), "options": {"bf": "0"}}
    pix_fmt = {"prores_ks": "yuv422p10le"}.get(codec, "yuv420p")
    plain = name.endswith(("avi", "webm"))
    clip = make_clip(name, codec=codec, pix_fmt=pix_fmt, audio=not plain, **timing)
    whole, output = clip.with_name(f"whole.{name}"), clip.with_name(f"out.{name}")
    command = [str(clip), "-m", model, "--resume", "--quiet", "-o"]
    assert main([*command, str(whole)]) == 0
    before = names(clip.parent)
    interrupt(at, KeyboardInterrupt())
    assert main([*command, str(output)]) == 130
    assert names(clip.parent) == {*before, f"{output.name}.part"}
    assert main([*command, str(output)]) == 0
    assert names(clip.parent) == {*before, output.name}
    assert packets(output) == packets(whole)
    assert times(output) == times(clip)


def test_what_is_kept_and_what_is_left_to_do_is_said(
    make_clip: ClipMaker, model: str, interrupt: Interrupt, capfd: Capture
) -> None:
    clip = make_clip(pts=range(FRAMES))
    output = clip.with_name("clip.deblurred.mp4")
    interrupt(13, KeyboardInterrupt())
    assert main([str(clip), "-m", model, "--resume"]) == 130
    assert lines(capfd)[-1] == (
        f"stopped by Ctrl-C; 10 frames are kept in {work_folder(output)}: the same command goes on"
        " with them"
    )
    assert main([str(clip), "-m", model, "--resume"]) == 0
    said = lines(capfd)
    assert "going on after frame 10; those before are only decoded again" in said
    assert said[-1].startswith(f"{output}: 14 frames in ")
    assert main([str(clip), "-m", model, "--resume"]) == 0
    nothing = f"{output} is there already, of the same input and settings: nothing to do"
    assert lines(capfd)[-1] == nothing


@pytest.mark.parametrize("flags", [["--strength", "0.5"], ["--model", "other"]])
def test_a_result_of_other_settings_is_not_taken_for_done(
    make_clip: ClipMaker, model: str, tmp_path: Path, flags: list[str], capfd: Capture
) -> None:
    clip = make_clip(pts=range(3))
    output, other = clip.with_name("clip.deblurred.mp4"), tmp_path / "other.onnx"
    other.write_bytes(identity())
    flags = [flag.replace("other", str(other)) for flag in flags]
    assert main([str(clip), "-m", model, "--resume"]) == 0
    before = output.read_bytes()
    assert main([str(clip), "-m", model, "--resume", *flags]) == 1
    assert f"{output} exists, but is not known to be of this input" in lines(capfd)[-1]
    assert output.read_bytes() == before
    assert main([str(clip), "-m", model, "--resume", *flags, "--overwrite"]) == 0
    assert output.read_bytes() != before
    assert main([str(clip), "-m", model, "--resume", *flags]) == 0
    assert "nothing to do" in lines(capfd)[-1]


def test_what_changed_starts_anew_and_is_said(
    make_clip: ClipMaker, model: str, interrupt: Interrupt, tmp_path: Path, capfd: Capture
) -> None:
    clip, other = make_clip(pts=range(FRAMES)), tmp_path / "other.onnx"
    other.write_bytes(identity())
    changes = [
        (["-m", model, "--strength", "0.5"], "strength"),
        (["-m", str(other), "--strength", "0.5"], "model"),
        (["-m", str(other), "--strength", "0.5", "--crf", "30"], "encoding, crf"),
    ]
    interrupt(13, KeyboardInterrupt())
    assert main([str(clip), "-m", model, "--resume"]) == 130
    for arguments, words in changes:
        lines(capfd)
        interrupt(13, KeyboardInterrupt())
        assert main([str(clip), "--resume", *arguments]) == 130
        assert f"starting anew, since this changed: {words}" in lines(capfd)
    interrupt(13, KeyboardInterrupt())
    os.utime(clip, ns=(0, 0))
    assert main([str(clip), "--resume", *arguments]) == 130
    assert "starting anew, since this changed: input" in lines(capfd)
    assert main([str(clip), "--resume", *arguments]) == 0
    assert times(clip.with_name("clip.deblurred.mp4")) == times(clip)


def test_a_failure_keeps_the_work_as_well(
    make_clip: ClipMaker, model: str, interrupt: Interrupt, capfd: Capture
) -> None:
    clip = make_clip(pts=range(FRAMES))
    interrupt(9, VideoError("the disk is full"))
    assert main([str(clip), "-m", model, "--resume"]) == 1
    folder = work_folder(clip.with_name("clip.deblurred.mp4"))
    assert lines(capfd)[-1] == (
        f"error: the disk is full; 5 frames are kept in {folder} for another try with --resume"
    )
    assert main([str(clip), "-m", model]) == 0  # whoever does without it now is told
    assert f"{folder} holds unfinished work, which --resume would go on with" in lines(capfd)


def test_work_that_cannot_be_understood_is_done_again(
    make_clip: ClipMaker, model: str, interrupt: Interrupt
) -> None:
    clip = make_clip(pts=range(FRAMES))
    output = clip.with_name("clip.deblurred.mp4")
    for damaged in ("", "{}", "[1]", '{"format": 1, "identity": {}, "nosuch": 2}'):
        interrupt(13, KeyboardInterrupt())
        assert main([str(clip), "-m", model, "--resume"]) == 130
        (work_folder(output) / "journal.json").write_text(damaged)
        assert main([str(clip), "-m", model, "--resume"]) == 0
        assert times(output) == times(clip)
        output.unlink()
    interrupt(13, KeyboardInterrupt())
    assert main([str(clip), "-m", model, "--resume"]) == 130
    os.truncate(work_folder(output) / "packets", 100)  # as a power cut could, had we not waited
    assert main([str(clip), "-m", model, "--resume"]) == 0
    assert times(output) == times(clip)


@pytest.mark.parametrize("call", ["publish", "flush_folder"])
def test_a_run_killed_before_or_after_it_names_its_output_is_gone_on_with_or_complete(
    make_clip: ClipMaker, model: str, monkeypatch: pytest.MonkeyPatch, call: str, capfd: Capture
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    clip = make_clip(pts=range(FRAMES))
    output = clip.with_name("clip.deblurred.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(sinks, call, killed)
        assert main([str(clip), "-m", model, "--resume"]) == 130
    assert output.exists() == (call == "flush_folder")
    assert work_folder(output).exists()
    lines(capfd)
    assert main([str(clip), "-m", model, "--resume"]) == 0
    assert ("is there already" in lines(capfd)[-1]) == (call == "flush_folder")
    assert times(output) == times(clip)
    assert not work_folder(output).exists()


def test_what_is_left_of_the_work_for_a_complete_output_is_removed_unless_it_is_other_work(
    make_clip: ClipMaker, model: str, monkeypatch: pytest.MonkeyPatch, interrupt: Interrupt
) -> None:
    clip = make_clip(pts=range(FRAMES))
    output = clip.with_name("clip.deblurred.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", lambda journal: journal.close())
        assert main([str(clip), "-m", model, "--resume"]) == 0
    content, work = output.read_bytes(), shutil.copytree(work_folder(output), clip.parent / "work")
    for gone in ([], ["packets"], ["packets", "journal.json"]):  # in the order of removal
        shutil.copytree(work, work_folder(output), dirs_exist_ok=True)
        for name in gone:
            (work_folder(output) / name).unlink()
        assert main([str(clip), "-m", model, "--resume"]) == 0
        assert not work_folder(output).exists()
    other = [str(clip), "-m", model, "--resume", "--strength", "0.5", "--overwrite"]
    interrupt(13, KeyboardInterrupt())
    assert main(other) == 130
    assert main([str(clip), "-m", model, "--resume"]) == 0  # of these settings it is complete
    assert (work_folder(output) / "packets").exists()
    assert output.read_bytes() == content


def test_what_lacks_pictures_is_not_taken_for_done(
    make_clip: ClipMaker, model: str, capfd: Capture
) -> None:
    checked = {"level": "3", "slicecrc": "1"}
    clip = make_clip("clip.mkv", codec="ffv1", pts=range(FRAMES), options=checked)
    content = bytearray(clip.read_bytes())
    packet = packets(clip)[10][-1]
    assert isinstance(packet, bytes)
    middle = content.index(packet) + len(packet) // 2
    content[middle : middle + 100] = bytes(100)
    clip.write_bytes(content)
    assert main([str(clip), "-m", model, "--resume"]) == 1
    assert "is damaged" in lines(capfd)[-1]
    assert main([str(clip), "-m", model, "--resume"]) == 1
    assert "exists, but is not known to be of this input" in lines(capfd)[-1]


def test_a_run_stopped_while_it_puts_all_together_has_nothing_left_to_do_but_that(
    make_clip: ClipMaker, model: str, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    def stopped(sink: sinks.FileSink) -> None:
        raise KeyboardInterrupt

    clip = make_clip(pts=range(FRAMES), audio=True)
    with monkeypatch.context() as patch:
        patch.setattr(sinks.FileSink, "_give_name", stopped)
        assert main([str(clip), "-m", model, "--resume"]) == 130
    assert f"{FRAMES} frames are kept" in lines(capfd)[-1]
    assert main([str(clip), "-m", model, "--resume"]) == 0
    assert lines(capfd)[-1].startswith(f"{clip.with_name('clip.deblurred.mp4')}: 0 frames in ")
    assert times(clip.with_name("clip.deblurred.mp4")) == times(clip)


def test_an_output_that_other_work_would_replace_is_refused(
    make_clip: ClipMaker, model: str, interrupt: Interrupt, capfd: Capture
) -> None:
    clip = make_clip(pts=range(FRAMES))
    output = clip.with_name("clip.deblurred.mp4")
    interrupt(13, KeyboardInterrupt())
    assert main([str(clip), "-m", model, "--resume"]) == 130
    output.write_text("precious")
    assert main([str(clip), "-m", model, "--resume"]) == 1
    assert f"{output} exists, but is not known to be of this input" in lines(capfd)[-1]
    assert output.read_text() == "precious"
    assert main([str(clip), "-m", model, "--resume", "--overwrite"]) == 0
    assert times(output) == times(clip)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_two_runs_do_not_share_the_work(tmp_path: Path) -> None:
    first = Journal(tmp_path / "out.mp4", {})
    with pytest.raises(VideoError, match="another run is at work"):
        Journal(tmp_path / "out.mp4", {})
    first.close()
    Journal(tmp_path / "out.mp4", {}).remove()
    assert names(tmp_path) == set()


def test_the_part_that_a_killed_run_has_left_is_told_from_a_recordings(
    make_clip: ClipMaker, model: str, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    clip = make_clip("clip.mkv", pts=range(FRAMES))
    output, recording = clip.with_name("out.mkv"), clip.with_name("out.part.mkv")
    command = [str(clip), "-o", str(output), "-m", model, "--resume"]
    recording.write_text("a recording")
    with monkeypatch.context() as patch:
        patch.setattr(sinks.FileSink, "_discard", lambda sink: sink._journal.close())
        patch.setattr(sinks.FileSink, "_give_name", lambda sink: sink._growing.close() or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(command)
    assert main(command) == 0
    assert not work_folder(output).exists()
    assert times(output) == times(clip)
    assert recording.read_text() == "a recording"
    assert not any("kept as" in line for line in lines(capfd))


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(0, 3)), min_size=1, max_size=60))
def test_packets_are_decoded_in_order_and_before_they_are_shown(
    frames: list[tuple[int, int]],
) -> None:
    shown = [sum(step for step, _ in frames[: index + 1]) for index in range(len(frames))]
    # Each is coded up to three places before its turn, as encoders do with what others refer to.
    order = sorted(range(len(shown)), key=lambda index: (index - frames[index][1], -index))
    pts = [shown[index] for index in order]
    dts = decoding_times(pts)
    assert all(early < late for early, late in itertools.pairwise(dts))
    assert all(decoded <= seen for decoded, seen in zip(dts, pts, strict=True))
    if pts == shown:
        assert dts == pts


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 256 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root may mount")
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("flags", [[], ["--resume"]])
def test_a_full_disk_is_told_and_leaves_no_part(
    make_clip: ClipMaker, model: str, small_disk: Path, flags: list[str], capfd: Capture
) -> None:
    clip = make_clip("clip.mkv", codec="ffv1", size=(160, 120), pts=range(FRAMES))
    output = small_disk / "out.mkv"
    assert main([str(clip), "-o", str(output), "-m", model, *flags]) == 1
    assert os.strerror(errno.ENOSPC) in lines(capfd)[-1]
    assert names(small_disk) == ({"out.mkv.part"} if flags else set())
    if flags:  # and goes on when there is room
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
        assert main([str(clip), "-o", str(output), "-m", model, *flags]) == 0
        assert times(output) == times(clip)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="asks ffmpeg")
def test_kills_at_any_moment_do_no_harm() -> None:
    flags = ["--kills", "12", "--codecs", "libx264", "ffv1", "--frames", "230"]
    done = subprocess.run(
        [sys.executable, "bench/kill_test.py", *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was wrong" in done.stdout
    assert "kills            12" in done.stdout


def test_termination_by_a_signal_keeps_the_work(
    make_clip: ClipMaker, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(pts=range(FRAMES))
    write = sinks.FileSink.write

    def terminated(sink: sinks.FileSink, frame: object) -> None:
        write(sink, frame)  # type: ignore[arg-type]
        if sink.frames_written == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(sinks.FileSink, "write", terminated)
        with pytest.raises(SystemExit):
            main([str(clip), "-m", model, "--resume"])
    assert work_folder(clip.with_name("clip.deblurred.mp4")).exists()
    assert main([str(clip), "-m", model, "--resume"]) == 0
    assert times(clip.with_name("clip.deblurred.mp4")) == times(clip)


def test_a_folder_that_is_someone_elses_stays(
    make_clip: ClipMaker, model: str, capfd: Capture
) -> None:
    clip = make_clip(pts=range(3))
    output = clip.with_name("clip.deblurred.mp4")
    output.write_bytes(b"done")
    notes = work_folder(output) / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    assert main([str(clip), "-m", model, "--resume"]) == 1
    assert f"{output} exists" in lines(capfd)[-1]
    assert notes.read_text() == "mine"


def test_numbers_of_frames_go_on_where_they_stopped(
    make_clip: ClipMaker, model: str, interrupt: Interrupt
) -> None:
    """In a container that counts frames, whose rate is the mean of an uneven one."""
    pts = [10 * index for index in range(110)] + [1100 + 100 * index for index in range(20)]
    clip = make_clip("in.mkv", pts=pts, time_base=Fraction(1, 1000))
    whole, output = clip.with_name("whole.avi"), clip.with_name("out.avi")
    assert main([str(clip), "-m", model, "-o", str(whole), "--resume"]) == 0
    interrupt(105, KeyboardInterrupt())
    assert main([str(clip), "-m", model, "-o", str(output), "--resume"]) == 130
    assert main([str(clip), "-m", model, "-o", str(output), "--resume"]) == 0
    assert times(output) == times(whole)
    assert len(set(times(output))) == 130
