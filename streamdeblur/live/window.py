"""The preview's window, a program of its own: `python window.py TITLE`, messages on stdin.

It shares no process with the rest for two reasons. PyAV's wheels bring a libxcb on which OpenCV's
windows hang for good (https://github.com/opencv/opencv/issues/29195), and without a display
OpenCV's Qt does not raise but ends the process.

When a window is possible the program says so with the line `ready`. Then each message gets one
answer; both are a line of JSON. A message is

    {"pictures": 2, "height": 480, "width": 640, "aspect": 1.0, "text": ["30.0 frames/s"],
     "note": "saved"}

and after it as many pictures as it says, as RGB rows: none, the sharp one, or the original and the
sharp one. `aspect` is the width of a pixel over its height. Without pictures the last ones stay.
`text` is the overlay, `note` a line of its own that is shown for a while. The answer comes when the
window has been drawn:

    {"commands": ["stronger"], "wants": 2, "paused": false}

`commands` are what the person asked for since the last answer (see `KEYS`), `wants` how many
pictures the next message should have. What concerns nothing but the window it does by itself:
overlay, pause, full screen, help, and the split, with which it begins if `--split` follows the
title. The program ends when the person quits or stdin ends.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

READY = b"ready\n"
KEYS = {
    # What is pressed: the command, and what the help says.
    "q": ("quit", "quit (also Esc)"),
    "c": ("compare", "before | after, split where the mouse is"),
    "+": ("stronger", "stronger (also =)"),
    "-": ("weaker", "weaker"),
    "m": ("model", "next model"),
    "s": ("snapshot", "save this picture"),
    "r": ("record", "begin or end a recording"),
    "p": ("pause", "pause the picture (also space)"),
    "f": ("fullscreen", "full screen"),
    "o": ("overlay", "figures on or off"),
    "h": ("help", "these keys on or off"),
}
_ALSO = {"=": "+", " ": "p", "\x1b": "q", "?": "h"}
_NOTE_SECONDS = 3.0
_LARGEST = (1600, 900)  # width and height at which a window opens

Picture = NDArray[np.uint8]


@dataclass
class Window:
    """What the person sees and has asked for."""

    title: str
    split: bool = False
    overlay: bool = True
    help: bool = False
    paused: bool = False
    fullscreen: bool = False
    mouse: int | None = None
    """Column of the picture that the mouse is at; None before it was in the window."""
    pictures: list[Picture] = field(default_factory=list)
    """BGR: the sharp one last."""
    text: list[str] = field(default_factory=list)
    note: str = ""
    note_until: float = 0.0
    commands: list[str] = field(default_factory=list)
    is_stale: bool = False
    """What is on the screen is not what should be."""

    def take(self, message: dict[str, Any], stream: BinaryIO) -> None:
        """Read the pictures that belong to a message, and keep what it says."""
        shape = message.get("height", 0), message.get("width", 0), 3
        size = shape[0] * shape[1] * 3
        pictures = [
            _squared(np.frombuffer(stream.read(size), np.uint8).reshape(shape), message["aspect"])
            for _ in range(message["pictures"])
        ]
        if pictures:
            if not self.pictures or pictures[-1].shape != self.pictures[-1].shape:
                height, width, _ = pictures[-1].shape
                scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
                cv2.resizeWindow(self.title, round(width * scale), round(height * scale))
            self.is_stale = True
            self.pictures = pictures
        text = message.get("text", self.text)
        self.is_stale |= text != self.text
        self.text = text
        if note := message.get("note"):
            self.note, self.note_until = note, time.monotonic() + _NOTE_SECONDS
            self.is_stale = True

    def draw(self) -> None:
        """Show the pictures with all that lies on them."""
        if not (self.pictures and self.is_stale):
            return
        self.is_stale = False
        picture = self.pictures[-1].copy()
        height, width, _ = picture.shape
        if self.split and len(self.pictures) == 2:
            column = width // 2 if self.mouse is None else min(max(self.mouse, 0), width)
            picture[:, :column] = self.pictures[0][:, :column]
            cv2.line(picture, (column, 0), (column, height), (255, 255, 255), 1)
        lines = list(self.text) if self.overlay else []
        if self.help:
            lines += [f"{key}  {words}" for key, (_, words) in KEYS.items()]
        if self.note and time.monotonic() < self.note_until:
            lines.append(self.note)
        if self.paused:
            lines.append("paused")
        _write(picture, lines)
        cv2.imshow(self.title, picture)

    def obey(self, key: int) -> None:
        """Do what a key stands for, or pass it on; what is no character stands for nothing."""
        if key & 0xFF00:  # the arrow to the left is 0xFF51 with X11, which ends like a Q
            return
        pressed = chr(key & 0xFF).lower()
        command = KEYS.get(_ALSO.get(pressed, pressed), ("", ""))[0]
        self.is_stale = True
        if command == "compare":
            self.split = not self.split
        elif command == "pause":
            self.paused = not self.paused
        elif command == "overlay":
            self.overlay = not self.overlay
        elif command == "help":
            self.help = not self.help
        elif command == "fullscreen":
            self.fullscreen = not self.fullscreen
            mode = cv2.WINDOW_FULLSCREEN if self.fullscreen else cv2.WINDOW_NORMAL
            cv2.setWindowProperty(self.title, cv2.WND_PROP_FULLSCREEN, mode)
        elif command:
            self.commands.append(command)

    def answer(self) -> dict[str, Any]:
        """What the other side must know; the commands are handed over."""
        commands, self.commands = self.commands, []
        return {"commands": commands, "wants": 1 + self.split, "paused": self.paused}

    def on_mouse(self, event: int, x: int, y: int, flags: int, data: object) -> None:
        """Note where the mouse is; called by OpenCV."""
        self.is_stale |= self.split and x != self.mouse
        self.mouse = x


def show(title: str, messages: BinaryIO, answers: BinaryIO, *, split: bool = False) -> None:
    """Show what the messages bring until they end or the person quits or closes the window."""
    # Free to be resized, and without the toolbar that Qt would add.
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    window = Window(title, split=split)
    cv2.setMouseCallback(title, window.on_mouse)
    answers.write(READY)
    answers.flush()
    while line := messages.readline():
        window.take(json.loads(line), messages)
        window.draw()
        while (key := cv2.waitKeyEx(1)) != -1:
            window.obey(key)
        if "quit" in window.commands or (window.pictures and not _visible(title)):
            return
        answers.write(json.dumps(window.answer()).encode() + b"\n")
        answers.flush()


def _squared(picture: Picture, aspect: float) -> Picture:
    """An RGB picture as BGR with square pixels: stretched, so that none of its own are lost."""
    height, width, _ = picture.shape
    size = (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))
    if size != (width, height):
        picture = cv2.resize(picture, size)  # type: ignore[assignment]  # it keeps uint8
    return cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)  # type: ignore[return-value]  # so does this


def _write(picture: NDArray[Any], lines: list[str]) -> None:
    """Write lines at the top left, white on darkened ground, in a size that suits the picture."""
    scale = max(0.4, picture.shape[0] / 1100)
    step, margin = round(32 * scale), round(8 * scale)
    font, style = cv2.FONT_HERSHEY_SIMPLEX, cv2.LINE_AA
    for number, line in enumerate(lines):
        (width, _), _ = cv2.getTextSize(line, font, scale, 1)
        picture[number * step : (number + 1) * step, : width + 2 * margin] //= 3
        where = (margin, (number + 1) * step - margin)
        cv2.putText(picture, line, where, font, scale, (255, 255, 255), 1, style)


def _visible(title: str) -> bool:
    try:
        return cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) > 0
    except cv2.error:  # what some backends answer for a window that is gone
        return False


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that sends the pictures
    show(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer, split="--split" in sys.argv[2:])
