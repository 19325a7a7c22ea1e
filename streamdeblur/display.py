"""How a run shows how far it is: drawn anew on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from streamdeblur.pipeline import Progress

if TYPE_CHECKING:
    from streamdeblur.live.run import Live

Display = AbstractContextManager[Callable[[Progress], None]]
"""Gives, as a `with` block, a function that shows how far the work is."""
_SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def file_display(
    total: int | None, say: Callable[[str], None]
) -> Iterator[Callable[[Progress], None]]:
    """A function that shows how far the work on a file of `total` frames is, if they are known."""
    if not sys.stderr.isatty():
        yield _now_and_then(lambda state: say(_line(state, total)))
        return
    from rich import progress as rich
    from rich.console import Console

    with rich.Progress(
        rich.TextColumn("frame"),
        rich.MofNCompleteColumn(),
        rich.BarColumn(),
        rich.TextColumn("{task.fields[rate]:.1f} frames/s"),
        rich.TimeRemainingColumn(),
        rich.TextColumn("slowest: {task.fields[slowest]}"),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("", total=total, rate=0.0, slowest="")

        def draw(state: Progress) -> None:
            bar.update(task, completed=state.written, rate=state.rate, slowest=state.slowest)

        yield draw


@contextmanager
def live_display(live: Live, say: Callable[[str], None]) -> Iterator[Callable[[Progress], None]]:
    """A function that shows how a live run goes: on a terminal in one line, drawn anew."""
    if not sys.stderr.isatty():
        yield _now_and_then(lambda state: say(live.figures(state)))
        return
    from rich.console import Console

    with Console(stderr=True).status("waiting for frames") as status:
        yield lambda state: status.update(live.figures(state))


def _now_and_then(tell: Callable[[Progress], None]) -> Callable[[Progress], None]:
    last = time.monotonic()

    def tell_if_due(state: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            tell(state)

    return tell_if_due


def _line(state: Progress, total: int | None) -> str:
    of_all, left = "", ""
    if total:
        of_all, seconds = f"/{total}", max(total - state.written, 0) / state.rate
        left = f", {seconds:.0f} s left"
    return (
        f"frame {state.written}{of_all}, {state.rate:.1f} frames/s{left},"
        f" slowest stage: {state.slowest}"
    )
