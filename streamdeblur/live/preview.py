"""A window that shows sharp frames as they come, and hands on what a person asks for."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from streamdeblur.errors import VideoError
from streamdeblur.frames import ClosedInTheEnd, Frame

_WINDOW = Path(__file__).with_name("window.py")  # which says why it is a program of its own
_READY = b"ready\n"


class PreviewSink(ClosedInTheEnd):
    """Shows each frame that it is given until the person quits. A context manager.

    Args:
        title: of the window.
        compare: begin with the frame as it came at the left of the mouse, the sharp one at its
            right; a key changes that.
        pixel_aspect: width of a pixel over its height.

    Raises:
        VideoError: there is no display, or no OpenCV that has windows.
    """

    def __init__(self, title: str, *, compare: bool = False, pixel_aspect: float = 1.0) -> None:
        self.commands: deque[str] = deque()
        """What the person asked for and the window cannot do: stronger, weaker, model, snapshot,
        record. To be taken from the left."""
        self.notes: deque[str] = deque()
        """Lines to show for a moment: to be put in at the right."""
        self.text: list[str] = []
        """Lines to show all the time, unless the person puts them out."""
        self._pixel_aspect = pixel_aspect
        self._wants, self._paused = 1 + compare, False
        self._shown: Frame | None = None
        self._pictures_shown = 0
        # To a file, since a full pipe would stop the window: Qt is talkative.
        with tempfile.TemporaryFile() as complaints:
            self._window = subprocess.Popen(
                [sys.executable, "-P", str(_WINDOW), title, *(["--split"] if compare else [])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
            assert self._window.stdout is not None
            if self._window.stdout.readline() != _READY:
                self.close()
                complaints.seek(0)
                raise VideoError(self._why(complaints.read().decode(errors="replace")))

    @property
    def closed(self) -> bool:
        """Whether there is no window any more: the person has quit, or `close` was called."""
        return self._window.poll() is not None

    def write(self, frame: Frame) -> None:
        """Show a frame, unless the person has paused or closed the window."""
        if self._paused:
            self.idle()
        else:
            self._show(frame)

    def idle(self) -> None:
        """Keep the window alive while no frame comes: to be called some twenty times a second."""
        if self._shown is not None and self._wants > self._pictures_shown:
            self._show(self._shown)
        else:
            self._tell([])

    def close(self) -> None:
        """Close the window."""
        for pipe in (self._window.stdin, self._window.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # the window went before it had taken the last picture
                continue
        try:
            self._window.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._window.kill()
            self._window.wait()

    def _show(self, frame: Frame) -> None:
        assert frame.sharp is not None
        pictures = [frame.image, frame.sharp] if self._wants == 2 else [frame.sharp]
        self._shown, self._pictures_shown = frame, len(pictures)
        self._tell([np.ascontiguousarray(picture) for picture in pictures])

    def _tell(self, pictures: list[Any]) -> None:
        """Send the window a message and take its answer; the window's docstring has the format."""
        message: dict[str, Any] = {"pictures": len(pictures), "text": self.text}
        if pictures:
            message["height"], message["width"] = pictures[0].shape[:2]
            message["aspect"] = self._pixel_aspect
        if self.notes:
            message["note"] = self.notes.popleft()
        assert self._window.stdin is not None
        assert self._window.stdout is not None
        try:
            self._window.stdin.write(json.dumps(message).encode() + b"\n")
            for picture in pictures:
                self._window.stdin.write(picture.data)
            self._window.stdin.flush()
            answer = json.loads(self._window.stdout.readline() or b"{}")
        except (OSError, ValueError):  # ValueError: half an answer, or a pipe that is closed
            answer = {}
        if not answer:  # it is gone, or about to
            self._window.wait()
            return
        self._wants, self._paused = answer["wants"], answer["paused"]
        self.commands.extend(answer["commands"])

    def _why(self, complaints: str) -> str:
        if "not implemented" in complaints or "No module named 'cv2'" in complaints:
            return (
                "cannot open a window: this OpenCV has none; pip uninstall opencv-python-headless,"
                " pip install --force-reinstall opencv-python, or deblur a file"
            )
        if "display" in complaints or self._window.returncode < 0:
            return (
                "cannot open a window: there is no display to show it on; run this on a desktop,"
                " watch in a browser with --serve 8000, record with --no-preview -o FILE, or deblur"
                " a file"
            )
        reason = (complaints.strip().splitlines() or ["OpenCV gave no reason"])[-1]
        return f"cannot open a window: {reason}; repair OpenCV, or deblur a file"
