"""For what happens elsewhere, in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(
    holds: Callable[[], object], what: str | Callable[[], str] = "", *, seconds: float = 40
) -> None:
    """Wait until `holds`; fail, with `what` is wrong, if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.05)
