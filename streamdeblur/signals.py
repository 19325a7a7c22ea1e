"""How the command ends when it is told to: in order, and at once where it hangs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def orderly_termination() -> Iterator[None]:
    """Let SIGTERM and a closed terminal unwind the stack: partial output goes, threads end."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before: dict[int, Any] = {}
    try:
        with suppress(ValueError):  # not the main thread: signals are someone else's business
            for name in (*names, "SIGINT"):
                number = getattr(signal, name)
                before[number] = signal.getsignal(number)
                if name in names and before[number] is not signal.SIG_IGN:  # nohup's wish
                    signal.signal(number, _terminate)
        yield
    finally:
        with suppress(ValueError):
            for number, handler in before.items():
                signal.signal(number, handler)


def interrupt_once() -> None:
    """From now on Ctrl-C interrupts once; a second one ends the process as it stands.

    If a camera's driver hangs, the second must end what the first could not.
    """
    signal.signal(signal.SIGINT, _interrupt)


def _terminate(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _interrupt(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt
