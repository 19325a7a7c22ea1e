"""Which options go with which inputs: none is ignored in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pyvips

from streamdeblur.arguments import parse
from streamdeblur.cli import main
from streamdeblur.errors import VideoError
from streamdeblur.kinds import refuse_unfit
from streamdeblur.sources import open_source
from tests.clips import write_clip

CAMERA = ["--camera-size", "640x480"], ["--camera-rate", "30"], ["--camera-format", "mjpeg"]
LIVE = *CAMERA, ["--rtsp-transport", "udp"], ["--retry", "3"]
STEPS = ["--max-latency", "9"], ["--keep-model"]
READING = ["--deinterlace", "on"], ["--decoder", "auto"], ["--start", "0"], ["--duration", "1"]
FORMAT = ["--input-format", "rawvideo"], ["--input-option", "framerate=30"]
WRITING = ["--crf", "0"], ["--codec", "ffv1"], ["--preset", "slow"], ["--encoder-option", "g=1"]
FILES = ["--format", "nut"], ["--skip-sharp"]
RESULTS = ["--report", "r.html"], ["--resume"], ["--views", "2"]
SOUND = ["--no-sound"]

UNFIT = {
    ("p.png",): ("p.png is an image", [*LIVE, *STEPS, SOUND, *READING, *FORMAT, *WRITING, *FILES]),
    ("c.mkv",): ("c.mkv is a file", [*LIVE, *STEPS, SOUND, ["--recursive"]]),
    ("-", "-o", "out.mkv"): ("standard input is a file", [*LIVE, *STEPS]),
    ("p.png", "c.mkv"): ("these are files", [*LIVE, *STEPS, ["--realtime"]]),
    ("c.mkv", "--realtime"): ("c.mkv is played live", [*LIVE, *FILES, *RESULTS]),
    ("-",): ("standard input is live", [*LIVE, *READING, *FILES, *RESULTS]),
    ("camera:x",): (
        "camera x is live",
        [["--realtime"], SOUND, ["--rtsp-transport", "udp"], *READING, *FORMAT, *FILES, *RESULTS],
    ),
    ("rtsp://bob:sesame@10.0.0.7/x",): (
        "rtsp://10.0.0.7/x is live",
        [["--recursive"], *CAMERA, *READING, *FORMAT, *FILES, *RESULTS],
    ),
}


@pytest.mark.parametrize(("inputs", "wanted"), UNFIT.items(), ids=lambda each: each[0])
def test_what_would_be_ignored_is_refused_before_anything_is_opened(
    inputs: tuple[str, ...],
    wanted: tuple[str, list[list[str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    what, unfit = wanted
    for flags in unfit:
        assert main([*inputs, *flags]) == 1
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"streamdeblur: error: {what}: leave out {flags[0]}")
    assert list(tmp_path.iterdir()) == []


def test_what_an_option_is_for_is_said() -> None:
    for flags, meant in (
        (["--retry", "3"], "cameras and streams"),
        (["--camera-size", "64x48"], "cameras and screens"),
        (["--keep-model"], "what is live"),
        (SOUND, "streams"),
    ):
        with pytest.raises(VideoError, match=f"out {flags[0]}, which is for {meant}$"):
            refuse_unfit(parse(["c.mkv", *flags]), "file", "c.mkv is a file")


def test_what_fits_is_not_refused() -> None:
    for flags in (*LIVE, *STEPS, *WRITING):
        kind = "stream" if flags[0] == "--rtsp-transport" else "camera"
        refuse_unfit(parse(["0", *flags]), kind, "it is live")  # type: ignore[arg-type]
    for flags in (*FORMAT, SOUND):
        refuse_unfit(parse(["-", *flags]), "pipe", "it is live")
    for flags in (*READING, *FORMAT, *WRITING, *STEPS):
        refuse_unfit(parse(["c.mkv", "--realtime", *flags]), "played", "it is played")
    for flags in (*READING, *FORMAT, *WRITING, *FILES, *RESULTS):
        refuse_unfit(parse(["c.mkv", *flags]), "file", "it is a file")
    for flags in (*RESULTS, ["--compare"], ["--strength", "0.5"]):
        refuse_unfit(parse(["p.png", *flags]), "image", "it is an image")


def test_a_folder_of_images_and_videos_takes_what_is_for_videos(
    tmp_path: Path, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    write_clip(folder / "c.mkv", codec="ffv1")
    samples = np.full((12, 16, 3), 40, np.uint8)
    pyvips.Image.new_from_array(samples).write_to_file(str(folder / "p.png"))
    assert main([str(folder), "-m", model, "--codec", "ffv1", "--start", "0"]) == 0
    assert "2 of 2 files done" in capfd.readouterr().err


def test_a_library_is_refused_a_format_for_what_is_live() -> None:
    with pytest.raises(VideoError, match="leave out --input-format and --input-option"):
        open_source("lavfi:testsrc2", form="rawvideo")
    with pytest.raises(VideoError, match="leave out --input-format and --input-option"):
        open_source("lavfi:testsrc2", form_options={"framerate": "30"})
