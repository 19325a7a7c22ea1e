"""What a viewer sees of a restored video that its single frames don't show."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

PROTOCOL = (
    "flicker: mean squared answer of the temporal filter (1, -2, 1)/4, in levels squared; "
    "temporal error: mean |change from frame to frame - the sharp clip's|, in levels"
)


class Clip:
    """The temporal figures of a clip, fed frame by frame beside its sharp twin."""

    def __init__(self) -> None:
        self._recent: deque[NDArray[np.int16]] = deque(maxlen=3)
        self._recent_sharp: deque[NDArray[np.int16]] = deque(maxlen=2)
        self._energies: list[float] = []
        self._errors: list[float] = []

    def add(self, frame: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> None:
        """The next frame and its sharp twin, both (H, W, 3)."""
        self._recent.append(frame.astype(np.int16))
        self._recent_sharp.append(sharp.astype(np.int16))
        if len(self._recent) > 1:
            change = self._recent[-1] - self._recent[-2]
            wanted = self._recent_sharp[-1] - self._recent_sharp[-2]
            self._errors.append(float(np.abs(change - wanted).mean()))
        if len(self._recent) > 2:
            before, middle, after = self._recent
            fluctuation = (before - 2 * middle + after) / np.float32(4)
            self._energies.append(float(np.square(fluctuation).mean()))

    def cut(self) -> None:
        """The next frame begins another scene."""
        self._recent.clear()
        self._recent_sharp.clear()

    @property
    def flicker(self) -> float:
        """Temporal high-frequency energy, in levels squared.

        The mean over pixels, channels and times of the squared answer of (1, -2, 1)/4: nothing for
        what stands still or changes evenly, all of what alternates from frame to frame (its gain
        is 0 at rest and 1 at half the frame rate). Sharp moving edges have much of it, so a clip
        is judged by the ratio to its sharp twin's.
        """
        return float(np.mean(self._energies))

    @property
    def temporal_error(self) -> float:
        """Mean |(out[t+1] - out[t]) - (sharp[t+1] - sharp[t])| in levels; 0 for the sharp clip.

        What is wrong in the same way in every frame does not count; what comes and goes does.
        """
        return float(np.mean(self._errors))
