"""The preview's window, a program of its own: `python window.py TITLE`, pictures on stdin.

It shares no process with the rest for two reasons. PyAV's wheels bring a libxcb on which OpenCV's
windows hang for good (https://github.com/opencv/opencv/issues/29195), and without a display
OpenCV's Qt does not raise but ends the process.

A picture is its height and width, 4 bytes each, lowest first, then RGB rows. When a window is
possible the program says so with one line on stdout; it ends when the person quits or stdin does.
"""

from __future__ import annotations

import signal
import struct
import sys
from typing import BinaryIO

import cv2
import numpy as np

HEADER = struct.Struct("<II")
READY = b"ready\n"
_QUIT_KEYS = {ord("q"), ord("Q"), 27}  # 27 is Esc


def show(title: str, pictures: BinaryIO, answers: BinaryIO) -> None:
    """Show pictures until they end or the person quits: by q, by Esc, by closing the window."""
    # Free to be resized, and without the toolbar that Qt would add.
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    answers.write(READY)
    answers.flush()
    shape = None
    while header := pictures.read(HEADER.size):
        height, width = HEADER.unpack(header)
        picture = np.frombuffer(pictures.read(height * width * 3), np.uint8)
        picture = picture.reshape(height, width, 3)
        if picture.shape != shape:
            shape = picture.shape
            cv2.resizeWindow(title, width, height)
        cv2.imshow(title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if cv2.waitKey(1) & 0xFF in _QUIT_KEYS or not _visible(title):
            return


def _visible(title: str) -> bool:
    try:
        return cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) > 0
    except cv2.error:  # what some backends answer for a window that is gone
        return False


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that sends the pictures
    show(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)
