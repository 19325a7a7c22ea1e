"""A window that shows sharp frames as they come."""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, Image

_WINDOW = Path(__file__).with_name("window.py")  # which says why it is a program of its own
_READY = b"ready\n"


class PreviewSink:
    """Shows each frame that it is given until the person quits. A context manager.

    Args:
        title: of the window.
        strength: how much of the correction is shown, 0 to 1.
        compare: show the frame as it came on the left, the sharp one on the right.

    Raises:
        VideoError: there is no display, or no OpenCV that has windows.
    """

    def __init__(self, title: str, *, strength: float = 1.0, compare: bool = False) -> None:
        self._strength = strength
        self._compare = compare
        # To a file, since a full pipe would stop the window: Qt is talkative.
        with tempfile.TemporaryFile() as complaints:
            self._window = subprocess.Popen(
                [sys.executable, "-P", str(_WINDOW), title],
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
        """Show `frame.sharp`, or nothing if the window is closed."""
        picture = self._composed(frame)
        assert self._window.stdin is not None
        try:
            self._window.stdin.write(struct.pack("<II", *picture.shape[:2]))
            self._window.stdin.write(picture.data)
            self._window.stdin.flush()
        except (BrokenPipeError, OSError):  # OSError is what Windows raises
            self._window.wait()

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

    def __enter__(self) -> PreviewSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _composed(self, frame: Frame) -> Image:
        assert frame.sharp is not None
        picture = frame.sharp
        if self._strength < 1:
            correction = (frame.sharp.astype(np.float32) - frame.image) * self._strength
            picture = np.rint(frame.image + correction).astype(np.uint8)
        if self._compare:
            picture = np.hstack([frame.image, picture])
        return np.ascontiguousarray(picture)

    def _why(self, complaints: str) -> str:
        if "not implemented" in complaints or "No module named 'cv2'" in complaints:
            return (
                "cannot open a window: this OpenCV has none; pip uninstall opencv-python-headless,"
                " pip install --force-reinstall opencv-python, or deblur a file"
            )
        if "display" in complaints or self._window.returncode < 0:
            return (
                "cannot open a window: there is no display to show it on; run this on a desktop,"
                " or deblur a file"
            )
        reason = (complaints.strip().splitlines() or ["OpenCV gave no reason"])[-1]
        return f"cannot open a window: {reason}; repair OpenCV, or deblur a file"
