"""The camera's way from device to window, on a virtual display and with a simulated camera."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from streamdeblur.errors import VideoError
from streamdeblur.preview import PreviewSink
from tests.tiny_onnx import invert

# The whole command; only the device behind the camera's number is another.
COMMAND = """
import sys
from streamdeblur import sources
from streamdeblur.cli import main

sources.open_source = lambda name, **_: sources.CameraSource(
    "color=red:size=64x48:rate=25,realtime", format="lavfi"
)
sys.exit(main(sys.argv[1:]))
"""
RED, CYAN, GREY = (255, 0, 0), (0, 255, 255), (128, 128, 128)


@dataclass
class Display:
    """A virtual X display that keeps its screen in a file."""

    name: str
    framebuffer: Path

    def screen(self) -> NDArray[np.uint8]:
        """RGB, (H, W, 3), from the X window dump that Xvfb keeps up to date."""
        data = self.framebuffer.read_bytes()
        header = struct.unpack(">25I", data[:100])
        begin, height, stride = header[0] + 12 * header[19], header[5], header[12]
        pixels = np.frombuffer(data, np.uint8, height * stride, begin)
        return pixels.reshape(height, stride // 4, 4)[:, :, 2::-1]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DISPLAY": self.name}

    def xdotool(self, *command: str) -> None:
        arguments = ["xdotool", *command]
        subprocess.run(arguments, env=self.environment, check=True, capture_output=True)


@pytest.fixture(scope="module")
def display(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Display]:
    if not (shutil.which("Xvfb") and shutil.which("xdotool")):
        pytest.skip("needs Xvfb and xdotool")
    folder = tmp_path_factory.mktemp("screen")
    read, write = os.pipe()
    # By default the server starts afresh when its last window goes.
    arguments = ["-noreset", "-displayfd", str(write), "-screen", "0", "320x200x24"]
    server = subprocess.Popen(
        ["Xvfb", *arguments, "-fbdir", str(folder)], pass_fds=[write], stderr=subprocess.DEVNULL
    )
    os.close(write)
    try:
        with os.fdopen(read) as numbers:
            number = numbers.readline().strip()
        if not number:
            pytest.skip("Xvfb cannot start here")
        display = Display(f":{number}", folder / "Xvfb_screen0")
        trial = "from streamdeblur import PreviewSink; PreviewSink('trial').close()"
        done = subprocess.run(
            [sys.executable, "-c", trial], env=display.environment, capture_output=True, text=True
        )
        if "OpenCV has none" in done.stderr:
            pytest.skip("this OpenCV has no windows (opencv-python-headless)")
        yield display
    finally:
        server.terminate()
        server.wait()


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(display: Display, tmp_path: Path) -> Iterator[Start]:
    """Starts the command on the display, with a network that inverts."""
    model = tmp_path / "invert.onnx"
    model.write_bytes(invert())
    started: list[subprocess.Popen[str]] = []

    def begin(*options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "0", "--model", str(model), *options],
            env=display.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_for_window(display: Display, x: int, color: tuple[int, int, int]) -> None:
    """Wait until the window has `color` at column `x`.

    Without a window manager Qt misses now and then that its window has been mapped, and never
    paints it; mapping it once more is another chance.
    """
    for _ in range(30):
        for _ in range(15):
            if shows(display, x, color):
                return
            time.sleep(0.05)
        with suppress(subprocess.CalledProcessError):  # there is no window yet
            display.xdotool(
                "search", "--name", "streamdeblur", "windowunmap", "--sync", "windowmap"
            )
    pytest.fail(f"the window does not show {color} but {display.screen()[24, x]}")


def shows(display: Display, x: int, color: tuple[int, int, int]) -> bool:
    """Whether the window, in the upper left corner of the screen, has `color` at column `x`."""
    return bool(np.abs(display.screen()[24, x].astype(int) - color).max() <= 3)


def test_the_camera_is_shown_deblurred_until_q_is_pressed(start: Start, display: Display) -> None:
    process = start()
    wait_for_window(display, 32, CYAN)
    display.xdotool("search", "--sync", "--name", "streamdeblur", "windowfocus", "key", "q")
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (0, "")
    running, summary = errors.splitlines()
    assert running == "streamdeblur: model tiny, fp32, on CPUExecutionProvider"
    assert "slowest stage" in summary


def test_strength_and_compare_hold_for_the_window(start: Start, display: Display) -> None:
    process = start("--strength", "0.5", "--compare", "--quiet")
    wait_for_window(display, 96, GREY)
    assert shows(display, 32, RED)
    process.send_signal(signal.SIGINT)  # Ctrl-C, the other normal end
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


def test_a_window_that_goes_away_ends_the_command(start: Start, display: Display) -> None:
    process = start()
    wait_for_window(display, 32, CYAN)
    display.xdotool("search", "--sync", "--name", "streamdeblur", "windowkill")
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_without_a_display_the_alternatives_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform != "linux":
        pytest.skip("there is always a display")
    with pytest.raises(VideoError, match=r"cannot open a window: .*, or deblur a file") as caught:
        PreviewSink("preview")
    assert "\n" not in str(caught.value)
