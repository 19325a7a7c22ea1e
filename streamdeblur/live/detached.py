"""Sinks that hold up nobody: each takes its frames in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from streamdeblur.errors import VideoError
from streamdeblur.frames import ClosedInTheEnd, Frame, FrameSink
from streamdeblur.live.delays import Delays
from streamdeblur.threads import Handover, begun

_TICK = 0.02  # seconds: a window that is pressed two keys in this time hears one


class LiveSink(FrameSink, Protocol):
    """A sink that is a context manager, which finishes what it has written."""

    @property
    def closed(self) -> bool:
        """Whether those who watched have left, so that the run should end."""

    def __enter__(self) -> FrameSink: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Detached(ClosedInTheEnd):
    """A sink in a thread of its own, so that none holds up another. A context manager.

    Args:
        sink: an open sink, from now on used by that thread alone, which closes it in the end.
        depth: frames that may wait for it; when there are more, the oldest is dropped.
        idle: called whenever no frame came for a moment.
        patience: seconds that it is given to close; if it hangs, it is left behind then.
    """

    def __init__(
        self,
        sink: LiveSink,
        *,
        depth: int = 1,
        idle: Callable[[], None] | None = None,
        patience: float = 5.0,
    ) -> None:
        self.sink = sink
        self.dropped = 0
        """Frames that came while the sink was busy with others."""
        self.delays = Delays()
        """From each frame's capture until the sink had taken it."""
        self._idle, self._patience = idle, patience
        self._handover = Handover[Frame](depth, self._drop)
        self._error: BaseException | None = None
        self._busy_since: float | None = None
        self._thread = begun(self._work)

    @property
    def busy_for(self) -> float:
        """Seconds for which the sink has been at one frame; 0 if it waits for one."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def is_done(self) -> bool:
        """Whether the sink is closed, or failed."""
        return not self._thread.is_alive()

    def write(self, frame: Frame) -> None:
        """Hand over a frame; never waits.

        Raises:
            Exception: what the sink raised meanwhile.
        """
        self._complain()
        if not self._handover.ended:
            self._handover.put(frame)

    def finish(self) -> None:
        """Let the sink take what waits for it and close, without waiting until it has."""
        self._handover.end()

    def close(self) -> None:
        """Finish, and wait for the end of it.

        Raises:
            Exception: what the sink raised; VideoError if it hangs.
        """
        self.finish()
        self._thread.join(self._patience)
        self._complain()
        if self._thread.is_alive():
            raise VideoError(f"an output hangs and was left behind after {self._patience:g} s")

    def _drop(self) -> None:
        self.dropped += 1

    def _complain(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        try:
            with self.sink as sink:
                for frame in self._handover.ticking(_TICK):
                    if frame is not None:
                        self._busy_since = time.monotonic()
                        sink.write(frame)
                        self._busy_since = None
                        if frame.captured is not None:
                            self.delays.add(time.monotonic() - frame.captured)
                    elif self._idle is not None:
                        self._idle()
        except BaseException as error:  # whatever it is, it belongs to the one who writes
            self._error = error
        self._handover.end()
