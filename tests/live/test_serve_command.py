"""`--serve`: the command line, and the command as a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from streamdeblur.arguments import parse
from streamdeblur.cli import main
from streamdeblur.errors import VideoError
from streamdeblur.live import assembly
from tests.conftest import ClipMaker
from tests.live.visitors import CYAN, GREY, RED, decoded, is_color
from tests.patience import eventually


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("8000", ("127.0.0.1", 8000)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:8000", ("::1", 8000)),
        ("camera.lan:0", ("camera.lan", 0)),
    ],
)
def test_where_to_serve(text: str, place: tuple[str, int]) -> None:
    assert parse(["0", "--serve", text]).serve == place


@pytest.mark.parametrize("text", ["65536", "", "localhost", ":8000", "::1:8000", "host:80x", "-1"])
def test_what_is_no_place_to_serve(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(["0", f"--serve={text}"])
    assert "[HOST:]PORT" in capsys.readouterr().err


def test_a_file_is_not_served_but_as_it_plays(
    make_clip: ClipMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(make_clip()), "--serve", "0"]) == 1
    assert "--realtime plays it live" in capsys.readouterr().err


def test_the_pages_own_divider_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(["0", "--serve", "0", "--compare"])
    assert "leave out --compare" in capsys.readouterr().err
    assert parse(["0", "--serve", "0", "--compare", "-o", "both.mp4"]).compare


@contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command as a process of its own, and the port of its page."""
    process = subprocess.Popen(
        [sys.executable, "-m", "streamdeblur", *arguments, "--serve", "0", "--quiet"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        words = process.stderr.readline().split()
        assert words[:3] == ["streamdeblur:", "watch", "at"], words
        yield process, urlsplit(words[3]).port or 0
    finally:
        process.kill()
        process.communicate()


def asked(port: int, path: str = "/state", fields: object = None) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    if fields is None:
        connection.request("GET", path)
    else:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(fields), headers)
    return connection.getresponse().read()


def test_the_command_serves_a_live_source_until_ctrl_c(model: str, tmp_path: Path) -> None:
    camera = "lavfi:color=red:size=64x48:rate=25"
    recording = tmp_path / "recorded.mkv"
    options = ["--model", model, "--keep-model", "-o", str(recording)]
    with served(camera, *options) as (process, port):

        def state() -> dict[str, Any]:
            return dict(json.loads(asked(port)))

        def pixel() -> NDArray[np.uint8]:
            return decoded("png", asked(port, "/snapshot.png"))[20, 20]

        eventually(lambda: bool(state()["rate"]), "no frame is shown")
        found = state()
        assert (found["model"], found["provider"]) == ("tiny", "CPUExecutionProvider")
        assert found["delay_ms"] > 0
        eventually(lambda: is_color(pixel(), CYAN), "the network's work is not seen")
        asked(port, "/strength", {"strength": 0.5})
        assert state()["strength"] == 0.5
        eventually(lambda: is_color(pixel(), GREY), "strength is not applied once")
        asked(port, "/strength", {"strength": 0})
        eventually(lambda: is_color(pixel(), RED), "strength is not applied")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
    with av.open(str(recording)) as clip:
        *_, last = clip.decode(video=0)
    assert is_color(last.to_ndarray(format="rgb24")[20, 20], RED)


def test_with_a_page_there_is_no_window_unless_it_is_asked_for(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise VideoError("there is no window")

    monkeypatch.setattr(assembly, "PreviewSink", refuse)
    options = ["lavfi:color=red:size=64x48:duration=0.2", "--model", model, "--serve", "0"]
    assert main(options) == 0
    assert "no window" not in capsys.readouterr().err
    assert main([*options, "--preview"]) == 0
    assert "no window" in capsys.readouterr().err


def test_a_file_is_served_as_it_plays(model: str, make_clip: ClipMaker) -> None:
    clip = make_clip(pts=range(2500))
    with served(str(clip), "--realtime", "--model", model) as (_, port):
        eventually(lambda: json.loads(asked(port))["frames"] > 2, "no frame is shown")
