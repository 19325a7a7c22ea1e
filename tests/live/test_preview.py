"""The camera's way from device to window, on a virtual display and with a simulated camera."""

from __future__ import annotations

import os
import re
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

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from streamdeblur.errors import VideoError
from streamdeblur.live.preview import PreviewSink
from streamdeblur.sources import open_source
from tests.live.broadcast import Broadcast
from tests.patience import eventually
from tests.tiny_onnx import invert

CAMERA = "lavfi:color=red:size=160x120:rate=25"
ROW = 100  # of the screen, below what is written on the picture
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

    def begin(*options: str, camera: str = CAMERA) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "streamdeblur",
                camera,
                "-m",
                str(model),
                "--keep-model",
                *options,
            ],
            env=display.environment,
            cwd=tmp_path,
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
    eventually(lambda: not has_window(display))  # else the next test would find it


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
    pytest.fail(f"the window does not show {color} but {display.screen()[ROW, x]}")


def shows(display: Display, x: int, color: tuple[int, int, int]) -> bool:
    """Whether the window, in the upper left corner of the screen, has `color` at column `x`."""
    return bool(np.abs(display.screen()[ROW, x].astype(int) - color).max() <= 3)


def has_window(display: Display) -> bool:
    try:
        display.xdotool("search", "--name", "streamdeblur")
    except subprocess.CalledProcessError:
        return False
    return True


def press(display: Display, *keys: str) -> None:
    """Press keys in the window, one after the other."""
    focus = ["search", "--sync", "--onlyvisible", "--name", "streamdeblur", "windowfocus", "--sync"]
    for attempt in range(20):
        try:
            display.xdotool(*focus)
            break
        except subprocess.CalledProcessError:  # it is just being mapped
            assert attempt < 19
            time.sleep(0.2)
    for key in keys:
        display.xdotool("key", key, "sleep", "0.2")


def written(display: Display) -> bool:
    """Whether something is written at the top of the window, on darkened ground."""
    return bool(display.screen()[:20, :20].max(axis=2).min() < 150)


def test_the_camera_is_shown_deblurred_until_q_is_pressed(start: Start, display: Display) -> None:
    process = start()
    wait_for_window(display, 32, CYAN)
    press(display, "q")
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (0, "")
    running, summary = errors.splitlines()
    assert running == "streamdeblur: model tiny, fp32, on CPUExecutionProvider"
    assert re.search(r"frames in .* delay \d+ ms \(95 %: \d+ ms\), \d+ dropped$", summary)


def test_the_split_follows_the_mouse(start: Start, display: Display) -> None:
    process = start("--strength", "0.5", "--compare", "--quiet")
    wait_for_window(display, 120, GREY)
    assert shows(display, 40, RED)  # in the middle until the mouse moves
    display.xdotool("mousemove", "20", "60", "mousemove", "30", "60")
    eventually(lambda: shows(display, 40, GREY))
    assert shows(display, 20, RED)
    press(display, "c")
    eventually(lambda: shows(display, 20, GREY))
    process.send_signal(signal.SIGINT)  # Ctrl-C, the other normal end
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


@pytest.mark.parametrize("camera", ["size=80x120,setsar=2", "size=160x60,setsar=1/2"])
def test_pixels_that_are_not_square_are_shown_as_wide_as_they_are(
    start: Start, display: Display, camera: str
) -> None:
    """As of PAL cameras: the window is 160x120 all the same."""
    start("--compare", camera=f"lavfi:color=red:rate=25:{camera}")
    wait_for_window(display, 120, CYAN)
    assert shows(display, 40, RED)


def test_strength_goes_down_and_up(start: Start, display: Display) -> None:
    start()
    wait_for_window(display, 32, CYAN)
    press(display, *["minus"] * 5)
    eventually(lambda: shows(display, 32, GREY))
    press(display, *["plus"] * 5)
    eventually(lambda: shows(display, 32, CYAN))


def test_the_figures_and_the_help_come_and_go(start: Start, display: Display) -> None:
    start()
    wait_for_window(display, 32, CYAN)
    assert written(display)
    press(display, "o")
    eventually(lambda: not written(display))
    press(display, "h")
    eventually(lambda: written(display))


def test_a_pause_holds_the_picture_and_still_compares(start: Start, display: Display) -> None:
    start()
    wait_for_window(display, 120, CYAN)
    press(display, "p", "minus", "minus", "minus", "minus", "minus")
    time.sleep(0.5)
    assert shows(display, 120, CYAN)  # whatever becomes of the frames that follow
    press(display, "c")
    eventually(lambda: shows(display, 40, RED))  # the original of the same picture
    press(display, "p", "c")
    eventually(lambda: shows(display, 120, GREY))


@pytest.mark.skipif(not shutil.which("openbox"), reason="needs openbox: a window manager does it")
def test_full_screen_comes_and_goes(start: Start, display: Display) -> None:
    def width() -> int:
        """Pixels of the picture in a row of the screen."""
        return int((np.abs(display.screen()[190].astype(int) - CYAN).max(axis=1) <= 3).sum())

    manager = subprocess.Popen(["openbox"], env=display.environment, stderr=subprocess.DEVNULL)
    try:
        start()
        eventually(
            lambda: (np.abs(display.screen().astype(int) - CYAN).max(axis=2) <= 3).sum() > 99
        )
        press(display, "f")
        eventually(lambda: width() > 200)  # the window is 160 pixels wide
        press(display, "f")
        eventually(lambda: width() < 200)
    finally:
        manager.terminate()
        manager.wait()


def test_a_picture_and_a_recording_are_saved(
    start: Start, display: Display, tmp_path: Path
) -> None:
    process = start()
    wait_for_window(display, 32, CYAN)
    press(display, "s", "r")
    eventually(lambda: list(tmp_path.glob("streamdeblur-*.part.mkv")))
    time.sleep(0.5)
    press(display, "r")
    eventually(lambda: not list(tmp_path.glob("streamdeblur-*.part.mkv")))
    press(display, "q")
    _, errors = process.communicate(timeout=20)
    (picture,), (recording,) = tmp_path.glob("*.png"), tmp_path.glob("streamdeblur-*.mkv")
    for path in (picture, recording):
        assert path.name in errors
        with av.open(str(path)) as saved:
            image = next(saved.decode(video=0)).to_ndarray(format="rgb24")
        assert np.abs(image.astype(int) - CYAN).max() <= 4


def test_the_next_model_is_taken(start: Start, display: Display) -> None:
    start()
    wait_for_window(display, 32, CYAN)
    press(display, "m")
    eventually(lambda: shows(display, 32, RED))  # the bundled network leaves a plain colour alone


def test_a_window_that_goes_away_ends_the_command(start: Start, display: Display) -> None:
    process = start()
    wait_for_window(display, 32, CYAN)
    display.xdotool("search", "--sync", "--name", "streamdeblur", "windowkill")
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_screen_is_a_source(start: Start, display: Display) -> None:
    start()
    wait_for_window(display, 32, CYAN)
    with open_source(f"screen:{display.name}", size="160x120", rate="10") as source:
        image = next(iter(source)).image
    assert image.shape == (120, 160, 3)
    assert np.abs(image[ROW, 32].astype(int) - CYAN).max() <= 3


def test_a_window_lives_while_no_frame_comes(start: Start, display: Display) -> None:
    """The preview answers keys while the source is away."""
    with Broadcast(size=(160, 120)) as station:
        process = start(camera=station.url)
        wait_for_window(display, 100, (195, 195, 195))
        station.off()
        time.sleep(0.5)
        press(display, "q")
        process.communicate(timeout=20)
        assert process.returncode == 0
        station.on()


def test_without_a_display_the_alternatives_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform != "linux":
        pytest.skip("there is always a display")
    with pytest.raises(VideoError, match=r"cannot open a window: .*, or deblur a file") as caught:
        PreviewSink("preview")
    assert "\n" not in str(caught.value)
