"""Many inputs: which files are meant, where results go, and what a failure stops (itself)."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
import pyvips

from streamdeblur import batch as module
from streamdeblur import photos
from streamdeblur.cli import main
from streamdeblur.errors import VideoError
from streamdeblur.inputs import are_several, tasks_of
from streamdeblur.ledger import NAME
from tests.clips import write_clip
from tests.conftest import ClipMaker

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def photo(name: str, shade: int = 40) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.full((12, 16, 3), shade, np.uint8)
    path.write_bytes(pyvips.Image.new_from_array(samples).write_to_buffer(path.suffix))
    return path


def shade(path: Path | str) -> int:
    return int(pyvips.Image.new_from_buffer(Path(path).read_bytes(), "").avg())


def planned(*names: str, folder: str | None = None, recursive: bool = False) -> dict[str, str]:
    tasks = tasks_of(names, Path(folder) if folder else None, recursive)
    here = Path.cwd()
    return {
        task.path.as_posix(): task.problem
        or (here / task.output).relative_to(here.parent).as_posix().removeprefix("place/")
        for task in tasks
    }


def test_pictures_that_cannot_be_written_back_are_named(
    place: Path, model: str, capfd: Capture
) -> None:
    photo("in/a.png")
    touch("in/b.HEIC", "in/c.txt", "in/a.dng")  # the camera's own file is beside its image
    problem = ".heic pictures can't be written back: convert it to .png or .tif first"
    assert planned("in") == {"in/a.png": "in/a.deblurred.png", "in/b.HEIC": problem}
    assert main(["in/b.HEIC"]) == 1
    assert capfd.readouterr().err == f"streamdeblur: error: can't deblur in/b.HEIC: {problem}\n"
    assert main(["in/a.dng"]) == 1
    assert ".dng pictures can't be written back" in capfd.readouterr().err
    assert main(["in", "-m", model]) == 1
    assert f"error: in/b.HEIC: {problem}" in capfd.readouterr().err
    assert Path("in/a.deblurred.png").exists()


def test_files_and_folders_and_patterns(place: Path) -> None:
    touch("a.mp4", "b.JPG", "c.txt", "sub/d.png", "sub/.hidden.png", "sub/e.mkv", "sub/sub/f.webp")
    touch("a.deblurred.mp4", "sub/e.part.mkv", "[1].png", "sub/g.deblurred.png", ".git/h.png")
    touch("a.interrupted.mp4", "sub/e.interrupted12.mkv")
    assert planned("b.JPG", "a.mp4") == {"b.JPG": "b.deblurred.JPG", "a.mp4": "a.deblurred.mp4"}
    assert planned("sub") == {
        "sub/d.png": "sub/d.deblurred.png",
        "sub/e.mkv": "sub/e.deblurred.mkv",
    }
    assert planned("*.mp4", "[1].png") == {
        "a.mp4": "a.deblurred.mp4",
        "[1].png": "[1].deblurred.png",
    }
    assert list(planned(".", recursive=True)) == [
        "[1].png", "a.mp4", "b.JPG", "sub/d.png", "sub/e.mkv", "sub/sub/f.webp",
    ]  # fmt: skip
    assert list(planned("**/*.p*g", "sub")) == ["[1].png", "sub/d.png", "sub/e.mkv"]
    assert planned("a.deblurred.mp4") == {"a.deblurred.mp4": "a.deblurred.deblurred.mp4"}


def test_results_in_a_folder_keep_their_subfolders(place: Path) -> None:
    touch("in/a.mp4", "in/x/b.png", "in/out/old.png")
    assert planned("in", folder="in/out", recursive=True) == {
        "in/a.mp4": "in/out/a.mp4",
        "in/x/b.png": "in/out/x/b.png",
    }
    assert planned("in/a.mp4", "in/x", folder="out") == {
        "in/a.mp4": "out/a.mp4",
        "in/x/b.png": "out/b.png",
    }


def test_numbered_frames_go_into_a_folder_of_their_own(place: Path) -> None:
    touch(*(f"shot/frame{number}.png" for number in (8, 9, 10, 11)))
    tasks = planned("shot")
    assert list(tasks) == [f"shot/frame{number}.png" for number in (8, 9, 10, 11)]
    assert tasks["shot/frame10.png"] == "shot.deblurred/frame10.png"
    os.chdir("shot")
    assert [Path(name).name for name in planned(".")][1] == "frame9.png"
    os.chdir("..")
    touch("shot/frame13.png")  # a gap: photographs, not frames
    assert planned("shot")["shot/frame8.png"] == "shot/frame8.deblurred.png"


def test_no_two_results_have_one_name_and_none_that_of_an_input(place: Path) -> None:
    touch("x/a.png", "y/a.png", "y/A.PNG", "b.png", "b.deblurred.png")
    tasks = planned("x/a.png", "y/a.png", "x/../x/a.png", folder="out")
    assert tasks["x/a.png"] == "out/a.png"
    assert "its result would have the name of x/a.png's" in tasks["y/a.png"]
    assert len(tasks) == 2
    assert "name of x/a.png's" in planned("x/a.png", "y/A.PNG", folder="out")["y/A.PNG"]
    if not Path("B.PNG").exists():  # where names that differ in case alone are different files
        touch("B.PNG")
        assert "the name of b.png's" in planned("b.png", "B.PNG")["B.PNG"]
    touch("c.part.png", "c.png")  # where the other's result grows
    assert "would have the name" in planned("c.part.png", "c.png", folder="out")["c.png"]
    touch("d.png", "d.deblurred.part.png")
    assert "would replace" in planned("d.png", "d.deblurred.part.png")["d.png"]
    tasks = planned("b.png", "b.deblurred.png")
    assert "would replace the input b.deblurred.png" in tasks["b.png"]
    assert tasks["b.deblurred.png"] == "b.deblurred.deblurred.png"


def test_what_cannot_be_meant(place: Path) -> None:
    touch("empty/readme.txt", "a.png")
    with pytest.raises(VideoError, match="no video or image; --recursive"):
        planned("empty")
    assert planned("a.png", "nosuch*.png")["nosuch*.png"] == "no file has such a name"
    assert (
        planned("a.png", "rtsp://10.0.0.7/live")["rtsp:/10.0.0.7/live"] == "is live: give it alone"
    )
    assert not are_several(["a.png"])
    assert not are_several(["udp://0.0.0.0:5000?x=[1]"])
    assert are_several(["*.png"])
    assert are_several(["empty"])


def test_one_that_fails_stops_no_other(
    place: Path, model: str, make_clip: ClipMaker, capfd: Capture
) -> None:
    photo("a.png", 40), photo("c.jpg", 90)
    Path("b.png").write_bytes(b"This is no image.")
    Path("x.mp4").write_text("This is no video.\n" * 50)
    write_clip(place / "y.mkv", codec="ffv1", pix_fmt="gray")
    (place / "c.deblurred.jpg").write_bytes(b"mine")
    assert main([".", "-m", model]) == 1
    said = capfd.readouterr().err.splitlines()
    assert said.count("streamdeblur: model tiny, fp32, on CPUExecutionProvider") == 1
    assert said[-4] == "streamdeblur: 2 of 5 files done, 3 failed"
    assert all(line.startswith("streamdeblur: error: ") for line in said[-3:])
    for line, words in zip(
        said[-3:], ("b.png: can't read", "c.jpg: c.deb", "x.mp4: "), strict=True
    ):
        assert words in line
    assert shade("a.deblurred.png") == 215
    assert (place / "c.deblurred.jpg").read_bytes() == b"mine"
    with av.open("y.deblurred.mkv") as clip:
        assert sum(1 for _ in clip.decode(video=0)) == 12
    assert sorted(path.name for path in place.iterdir()) == [
        "a.deblurred.png", "a.png", "b.png", "c.deblurred.jpg", "c.jpg", "x.mp4",
        "y.deblurred.mkv", "y.mkv",
    ]  # fmt: skip


def test_results_go_into_a_folder_that_is_made(place: Path, model: str, capfd: Capture) -> None:
    photo("in/a.png"), photo("in/deep/b.tif")
    assert main(["in", "-o", "out", "--recursive", "-m", model, "--quiet"]) == 0
    assert capfd.readouterr().err == ""
    assert shade("out/a.png") == shade("out/deep/b.tif") == 215


def test_a_sequence_of_frames(place: Path, model: str, capfd: Capture) -> None:
    for number in range(1, 12):
        photo(f"shot/{number}.png", number)
    assert main(["shot", "-m", model]) == 0
    assert "11 of 11 files done" in capfd.readouterr().err
    assert [shade(f"shot.deblurred/{number}.png") for number in range(1, 12)] == [
        255 - number for number in range(1, 12)
    ]


def test_an_output_folder_that_cannot_be(place: Path, model: str, capfd: Capture) -> None:
    photo("a.png"), photo("b.png"), touch("out")
    assert main(["a.png", "b.png", "-o", "out", "-m", model]) == 1
    assert "0 of 2 files done, 2 failed" in capfd.readouterr().err
    assert main(["a.png", "b.png", "-o", "1.png", "-o", "2.png", "-m", model]) == 1
    assert "-o FOLDER" in capfd.readouterr().err


def test_quiet_names_only_what_failed(place: Path, model: str, capfd: Capture) -> None:
    photo("a.png")
    assert main(["a.png", "b.png", "--quiet", "-m", model]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("streamdeblur: error: b.png: can't read b.png: No such file")


def test_no_network_is_said_once(place: Path, capfd: Capture) -> None:
    photo("a.png"), photo("b.png")
    assert main(["a.png", "b.png", "-m", "nosuch"]) == 1
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert len(list(place.iterdir())) == 2


@pytest.mark.parametrize("kind", ["png", "mkv"])
def test_ctrl_c_says_what_is_done_and_what_is_not(
    kind: str, place: Path, model: str, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdefghi":
        if kind == "png":
            photo(f"{name}.png")
        else:
            write_clip(place / f"{name}.mkv", codec="ffv1", pix_fmt="gray", size=(16, 16))
    home, name = (photos.ImageOutput, "write") if kind == "png" else (module, "deblur_file")
    real, calls = getattr(home, name), []

    def interrupted(*arguments: object, **named: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(home, name, interrupted)
    assert main([".", "-m", model]) == 130
    last = capfd.readouterr().err.splitlines()[-1]
    names = ", ".join(f"{letter}.{kind}" for letter in "cdefg")
    assert last == (
        f"streamdeblur: stopped by Ctrl-C; 2 of 9 files done; not done: {names} and 2 more"
    )
    assert len(list(place.iterdir())) == 9 + 2


def test_resume_skips_what_is_done_of_the_same_input_and_settings(
    place: Path, model: str, capfd: Capture
) -> None:
    def run(*options: str) -> list[str]:
        main([".", "-m", model, "--resume", *options])
        return capfd.readouterr().err.splitlines()[1:]

    photo("a.png", 40), photo("c.png", 60)
    write_clip(place / "v.mkv", codec="ffv1", pix_fmt="gray", size=(16, 16))
    Path("b.png").write_bytes(b"This is no image.")
    assert "3 of 4 files done, 1 failed" in run()[-2]
    times = {path: path.stat().st_mtime_ns for path in place.glob("*.deblurred.*")}

    photo("b.png", 50), photo("d.png", 70)
    with open(".streamdeblur.jsonl", "a") as ledger:
        ledger.write('\n{"output": "a.deb')  # a power cut
    assert run()[-1] == "streamdeblur: 2 of 5 files done, 3 done before"
    assert run() == ["streamdeblur: 0 of 5 files done, 5 done before"]
    assert {path: path.stat().st_mtime_ns for path in times} == times

    photo("a.png", 41)
    said = run()
    assert said[0] == "streamdeblur: 0 of 5 files done, 4 done before, 1 failed"
    assert "a.deblurred.png exists, but is not known to be of this input" in said[1]
    assert "1 of 5 files done, 4 done before" in run("--overwrite")[-1]
    assert shade("a.deblurred.png") == 255 - 41
    assert "0 of 5 files done, 5 failed" in run("--strength", "0.5")[0]

    Path("c.deblurred.png").unlink()
    photo("d.deblurred.png")
    said = run()
    assert "1 of 5 files done, 3 done before, 1 failed" in said[-2]
    assert "d.deblurred.png exists" in said[-1]


def test_names_of_live_sources_are_no_patterns() -> None:
    for name in ("camera:HD Webcam [1]", "lavfi:testsrc2,geq=lum=X*Y", "rtsp://host/a?b=*"):
        assert not are_several([name])


def test_a_ledger_that_cannot_be_written_ends_nothing(
    place: Path, model: str, capfd: Capture
) -> None:
    Path(NAME).mkdir()
    for name in ("a.png", "b.png"):
        photo(name)
    assert main(["a.png", "b.png", "-m", model, "--resume"]) == 0
    errors = capfd.readouterr().err
    assert errors.count("can't write .streamdeblur.jsonl: ") == 1
    assert "2 of 2 files done" in errors
