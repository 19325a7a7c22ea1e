"""The outputs of a live run: how they are begun, watched and ended, each in its own time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from streamdeblur.errors import StreamDeblurError
from streamdeblur.frames import Frame
from streamdeblur.live.delays import Delays
from streamdeblur.live.detached import Detached, LiveSink
from streamdeblur.live.preview import PreviewSink
from streamdeblur.live.recording import Recording
from streamdeblur.live.serve import ServeSink

_REPACKING = 3600.0  # seconds in which a long recording must have become what was asked for
_STALL = 10.0  # seconds of one frame after which an output is said to hang
_WAITING = 8  # frames that a slow output may be behind before it loses some


class Outputs:
    """Any number of sinks that get the same frames; `close` finishes them.

    Args:
        say: told each line that a person should know.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._all: list[Detached] = []
        self._finishing: list[tuple[Detached, str]] = []
        self._lost_before = 0
        self._stalled: set[Detached] = set()
        self.failed = False
        """Whether one of them was given up, or could not be finished, while others went on."""

    def show(self, preview: PreviewSink) -> None:
        """Give the frames to a window, before all others."""
        self._all.insert(0, Detached(preview, idle=preview.idle))

    def add(self, sink: LiveSink, *, newest: bool = False) -> Detached:
        """Give the frames to a sink; to one that cannot keep up, the newest alone if asked."""
        depth = 1 if newest else _WAITING
        patience = _REPACKING if isinstance(sink, Recording) else 5.0
        self._all.append(Detached(sink, depth=depth, patience=patience))
        return self._all[-1]

    def remove(self, output: Detached, done: str) -> None:
        """Give an output no more frames, and let it end."""
        self._all.remove(output)
        self.finish(output, done)

    def finish(self, output: Detached, done: str) -> None:
        """Let an output end in its own time; `done` is what is said then."""
        output.finish()
        self._finishing.append((output, done))

    def write(self, frame: Frame) -> None:
        """Hand a frame to each output; one that has failed is given up, and said.

        Raises:
            Exception: what the last of them has failed with.
        """
        for output in list(self._all):
            try:
                output.write(frame)
            except (StreamDeblurError, OSError) as error:
                if len(self._all) == 1:
                    raise
                self._give_up(output, error)

    def attend(self) -> None:
        """Say what has become of those that ended, and which ones hang."""
        for finished in [each for each in self._finishing if each[0].is_done]:
            self._finishing.remove(finished)
            try:
                self._settle(*finished)
            except (StreamDeblurError, OSError) as error:
                self.failed = True
                self._say(str(error))
        self._tell_of_stalls()

    @property
    def closed(self) -> bool:
        """Whether those who watched one of them have left."""
        return any(output.sink.closed for output in self._all)

    @property
    def delays(self) -> Delays:
        """Of the first output: the window or the page, if there is one."""
        return self._all[0].delays

    @property
    def lost(self) -> int:
        """Frames that recordings and the like have lost because they could not keep up."""
        outputs = [*self._all, *(output for output, _ in self._finishing)]
        return self._lost_before + sum(map(_lost, outputs))

    def close(self) -> None:
        """Finish all of them, and wait for the end of it.

        Raises:
            Exception: what one of them has failed with.
        """
        with ExitStack() as stack:  # each is closed, whatever happens to the others
            finishing, self._finishing = self._finishing, []
            for output, done in finishing:
                stack.callback(self._settle, output, done)
            for output in reversed(self._all):
                stack.callback(output.close)
                output.finish()

    def _settle(self, output: Detached, done: str) -> None:
        """Close an output that has been told to finish, and say that it is done."""
        self._lost_before += _lost(output)
        output.close()
        self._say(done)

    def _give_up(self, output: Detached, error: Exception) -> None:
        self.failed = True
        self._lost_before += _lost(output)
        self._all.remove(output)
        self._say(f"{error}; the other outputs go on")

    def _tell_of_stalls(self) -> None:
        """Say once of each output that it hangs: a receiver may take nothing, and not go away."""
        stalled = {output for output in self._all if output.busy_for > _STALL}
        for output in stalled - self._stalled:
            name = getattr(output.sink, "shown", None) or getattr(output.sink, "path", "an output")
            self._say(f"{name} takes nothing: frames for it are lost meanwhile")
        self._stalled = stalled


def _lost(output: Detached) -> int:
    """Frames that an output has missed; who only watches misses nothing."""
    return 0 if isinstance(output.sink, (PreviewSink, ServeSink)) else output.dropped
