"""How long live frames take from capture to display."""

from __future__ import annotations

from collections import Counter, deque

_RECENT = 60  # frames


class Delays:
    """From a frame's capture to its display, in whole milliseconds. Never grows with time."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self.count = 0
        """Frames measured."""

    def add(self, seconds: float) -> None:
        """Note one frame's delay."""
        self._counts[min(round(seconds * 1000), 60_000)] += 1
        self._recent.append(seconds * 1000)
        self.count += 1

    def percentile(self, share: float) -> int:
        """The delay in ms that `share` (0 to 1) of all frames did not exceed; 0 without frames."""
        left = share * self.count
        for delay in sorted(counts := dict(self._counts)):
            left -= counts[delay]
            if left <= 0:
                return delay
        return 0

    def recent(self, share: float) -> float:
        """The same for the last 60 frames."""
        found = sorted(self._recent)
        return found[min(int(share * len(found)), len(found) - 1)] if found else 0.0

    def __str__(self) -> str:
        return f"{self.percentile(0.5)} ms (95 %: {self.percentile(0.95)} ms)"
