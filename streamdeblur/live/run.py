"""A live run: one source, a network that adapts, any number of outputs, and a person who asks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain, count
from pathlib import Path

from streamdeblur.errors import StreamDeblurError
from streamdeblur.frames import Frame
from streamdeblur.live.delays import Delays
from streamdeblur.live.detached import Detached, LiveSink
from streamdeblur.live.feeds import LiveSource, RealtimeSource
from streamdeblur.live.outputs import Outputs
from streamdeblur.live.preview import PreviewSink
from streamdeblur.live.recording import Recording
from streamdeblur.live.rhythm import AdaptiveNetwork, Choice
from streamdeblur.live.serve import ServeSink, Statistics
from streamdeblur.pipeline import Progress, run
from streamdeblur.stills import Snapshot
from streamdeblur.threads import promised

_STEP = 0.1  # of strength, for one key press


class Live:
    """Sends what a live source gives through a network to several outputs, until it is told to end.

    Each output has a thread of its own. A context manager: leaving it finishes the outputs.

    Args:
        source: an open live source; closing it is left to the caller.
        network: what sharpens, and holds the strength.
        say: told each line that a person should know.
        record: begins a recording of that name, when one is asked for.
        models: names of the models to choose from, the one in use first.
        load: the choices that a model's name stands for.
    """

    def __init__(
        self,
        source: LiveSource | RealtimeSource,
        network: AdaptiveNetwork,
        *,
        say: Callable[[str], None],
        record: Callable[[Path], Recording],
        models: list[str],
        load: Callable[[str], list[Choice]],
    ) -> None:
        self._source, self._network = source, network
        self._say, self._record, self._load = say, record, load
        self._models = deque(models)
        self._loading: Iterator[list[Choice] | None] = iter(())
        self._is_loading = False
        self._known: dict[str, list[Choice]] = {}
        self._outputs = Outputs(lambda line: self._note(line, aloud=True))
        self._named: set[Path] = set()
        self._recording: Detached | None = None
        self._preview: PreviewSink | None = None
        self.page: ServeSink | None = None
        """Where the frames are served, if they are."""
        self._last: Frame | None = None
        self._times = deque[float](maxlen=60)
        self._progress = Progress()
        self._is_over = False

    def show(self, preview: PreviewSink) -> None:
        """Show the frames in a window, and do what is asked for there."""
        self._preview = preview
        self._outputs.show(preview)

    def serve(self, page: ServeSink) -> None:
        """Show the frames in a page."""
        self.page = page
        self.add(page)

    def add(self, sink: LiveSink, *, newest: bool = False) -> None:
        """Give the frames to a sink; to one that cannot keep up, the newest alone if asked."""
        output = self._outputs.add(sink, newest=newest)
        if isinstance(sink, Recording):
            self._recording = output

    def run(self, on_progress: Callable[[Progress], None] = lambda progress: None) -> Progress:
        """Go on until the source ends, a sink is closed, or `quit` is asked for.

        Raises:
            VideoError: the source was lost for good, or the last output failed.
            ModelError: the network failed.
        """

        def proceed(progress: Progress) -> None:
            self._progress = progress
            self._attend(progress)
            on_progress(progress)

        return run(
            self._source, self._network, self, on_progress=proceed, stopped=lambda: self._is_over
        )

    def write(self, frame: Frame) -> None:
        """Hand a sharp frame to every output. Called by `run`."""
        self._last = frame
        self._times.append(time.monotonic())
        self._outputs.write(frame)

    def obey(self, command: str) -> None:
        """Do what a person asks for: stronger, weaker, model, snapshot, record or quit."""
        if command in ("stronger", "weaker"):
            step = _STEP if command == "stronger" else -_STEP
            self._network.strength = round(min(max(self._network.strength + step, 0.0), 1.0), 2)
            self._note(f"strength {self._network.strength:g}")
        elif command == "model":
            self._next_model()
        elif command == "snapshot" and self._last is not None:
            snapshot = Detached(Snapshot(path := self._dated(".png")))
            snapshot.write(self._last)
            self._outputs.finish(snapshot, f"picture saved as {path}")
        elif command == "record":
            self._toggle_recording()
        elif command == "quit":
            self._is_over = True

    @property
    def delays(self) -> Delays:
        """Of the first output: the window or the page, if there is one."""
        return self._outputs.delays

    @property
    def lost(self) -> int:
        """Frames that recordings and the like have lost because they could not keep up."""
        return self._outputs.lost

    @property
    def failed(self) -> bool:
        """Whether an output was given up or could not be finished while others went on."""
        return self._outputs.failed

    @property
    def rate(self) -> float:
        """Frames per second, of late."""
        if len(self._times) < 2 or self._times[-1] == self._times[0]:
            return 0.0
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])

    def summary(self) -> str:
        """How the run went, in one line."""
        progress = self._progress
        lost = f", {self.lost} not recorded or sent" if self.lost else ""
        return (
            f"{progress.written} frames in {progress.seconds:.1f} s ({progress.rate:.1f} frames/s),"
            f" delay {self.delays}, {progress.dropped} dropped{lost}"
        )

    def figures(self, progress: Progress) -> str:
        """How the run goes, in one line of ASCII."""
        delay, late = (round(self.delays.recent(share)) for share in (0.5, 0.95))
        return (
            f"{self.rate:.1f} frames/s, delay {delay} ms (95 %: {late}), {progress.dropped} dropped"
        )

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self._outputs.close()

    def _attend(self, progress: Progress) -> None:
        """What is to be done between frames."""
        for messages in (self._source.messages, self._network.messages):
            while messages:
                self._note(messages.popleft(), aloud=True)
        self._take_loaded()
        self._outputs.attend()
        if self._recording is not None and self._recording.is_done:  # it has failed
            self._recording = None
        if self._preview is not None:
            away = [self._source.away] if self._source.away else []
            self._preview.text = [self.figures(progress), self._running(), *away]
            while self._preview.commands:
                self._try(self._preview.commands.popleft())
        if self.page is not None:
            self.page.statistics = self._statistics(progress)
        self._is_over |= self._outputs.closed

    def _take_loaded(self) -> None:
        """Change to a model that was asked for, as soon as it is there."""
        try:
            choices = next(self._loading, None)
        except StreamDeblurError as error:
            self._is_loading = False
            self._note(str(error), aloud=True)
            return
        if choices:
            self._is_loading = False
            self._known[self._models[0]] = choices
            self._network.use(choices)
            self._note(f"model {choices[0].name}", aloud=True)

    def _try(self, command: str) -> None:
        """Obey; what cannot be done is said, and ends nothing."""
        try:
            self.obey(command)
        except StreamDeblurError as error:
            self._note(str(error), aloud=True)

    def _running(self) -> str:
        choice = self._network.choice
        parts = [f"{choice.name}, {choice.network.precision}, {choice.network.provider}"]
        if self._network.strength < 1:
            parts.append(f"strength {self._network.strength:g}")
        if self._recording is not None:
            parts.append("REC")
        return ", ".join(parts)

    def _statistics(self, progress: Progress) -> Statistics:
        choice = self._network.choice
        return Statistics(
            model=choice.name,
            provider=choice.network.provider,
            rate=self.rate,
            delay_ms=self.delays.recent(0.5) if self.delays.count else None,
            dropped=progress.dropped,
        )

    def _next_model(self) -> None:
        if len(self._models) < 2:
            self._note(f"there is no model but {self._models[0]}")
            return
        if self._is_loading:
            self._note(f"{self._models[0]} is still being loaded")
            return
        self._models.rotate(-1)
        name = self._models[0]
        self._note(f"loading {name}")
        self._is_loading = True
        known = self._known.get(name)
        self._loading = promised(lambda: known or self._load(name))

    def _toggle_recording(self) -> None:
        if self._recording is not None:
            recording, self._recording = self._recording, None
            self._outputs.remove(recording, f"recorded {_path(recording)}")
            return
        self.add(self._record(path := self._dated(".mkv")))
        self._note(f"recording {path}", aloud=True)

    def _dated(self, suffix: str) -> Path:
        """A name in the current folder that no file has, nor will have."""
        stem = datetime.now().strftime("streamdeblur-%Y%m%d-%H%M%S")
        numbered = (Path(f"{stem}-{number}{suffix}") for number in count(2))
        names = chain([Path(stem + suffix)], numbered)
        path = next(name for name in names if name not in self._named and not name.exists())
        self._named.add(path)
        return path

    def _note(self, line: str, *, aloud: bool = False) -> None:
        if self._preview is not None:
            self._preview.notes.append(line)
        if aloud:
            self._say(line)


def _path(output: Detached) -> Path:
    assert isinstance(output.sink, Recording)
    return output.sink.path
