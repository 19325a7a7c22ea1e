"""A camera for other programs, such as video calls, that shows the sharp picture."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, VideoInfo
from streamdeblur.video.fitting import boxed


class VirtualCamera:
    """Shows frames to other programs as a camera of this computer, through pyvirtualcam.

    Raises:
        VideoError: pyvirtualcam is not installed, or the system has no virtual camera.
    """

    closed = False

    def __init__(self, info: VideoInfo) -> None:
        try:
            import pyvirtualcam
        except ImportError as error:
            raise VideoError(
                "a virtual camera needs pyvirtualcam: pip install 'streamdeblur[virtual-cam]'"
            ) from error
        self._width, self._height = info.width, info.height
        try:
            self._camera: Any = pyvirtualcam.Camera(
                width=info.width, height=info.height, fps=float(info.rate)
            )
        except RuntimeError as error:
            why = " ".join(str(error).split()).rstrip(".")
            raise VideoError(
                f"there is no virtual camera: {why}; on Linux, modprobe v4l2loopback; on Windows"
                " and macOS, install OBS"
            ) from error
        self.device = str(self._camera.device)
        """What other programs find it by."""

    def write(self, frame: Frame) -> None:
        """Show `frame.sharp`."""
        assert frame.sharp is not None
        picture = boxed(frame.sharp, self._width, self._height)
        self._camera.send(np.ascontiguousarray(picture))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._camera.close()
