"""What this computer's cameras are called, and what FFmpeg's input devices call them."""

from __future__ import annotations

import sys
from pathlib import Path

from av.device import enumerate_input_devices
from av.error import FFmpegError


def camera_format() -> str:
    """FFmpeg's input device for cameras on this system."""
    return {"win32": "dshow", "darwin": "avfoundation"}.get(sys.platform, "v4l2")


def camera_name(device: str, kind: str) -> str:
    """What FFmpeg's input device wants to hear for a camera's number or name."""
    if kind == "v4l2":
        return f"/dev/video{device}" if device.isdigit() else device
    if kind == "dshow":
        names = _camera_names(kind)
        number = int(device) if device.isdigit() else len(names)
        return f"video={names[number] if number < len(names) else device}"
    return device


def list_cameras() -> list[tuple[str, str]]:
    """Each camera of this computer: its number, by which it is opened, and its name."""
    kind = camera_format()
    names = _camera_names(kind)
    if kind != "v4l2":
        return [(str(number), name) for number, name in enumerate(names)]
    return [(name.removeprefix("/dev/video"), f"{_model(name)} ({name})") for name in names]


def _model(device: str) -> str:
    """What the kernel calls the camera behind a device such as `/dev/video0`."""
    try:
        path = Path("/sys/class/video4linux", Path(device).name, "name")
        return path.read_text(errors="replace").strip()
    except OSError:
        return "unnamed"


def _camera_names(kind: str) -> list[str]:
    """The cameras of this computer, as far as the system tells."""
    if kind == "v4l2":
        return sorted(str(path) for path in Path("/dev").glob("video*"))
    try:
        devices = enumerate_input_devices(kind)
    except (FFmpegError, OSError, ValueError, RuntimeError):
        return []
    return [device.description for device in devices if "video" in device.media_types]


def cameras_found(kind: str) -> str:
    """Advice for someone whose camera could not be opened."""
    names = _camera_names(kind)
    if not names:
        return "no camera was found: is it plugged in and not blocked by privacy settings?"
    return f"cameras found: {', '.join(names)}"
