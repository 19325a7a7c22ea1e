"""The newest frame, for many viewers who are ready at different moments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from streamdeblur.frames import Frame

T = TypeVar("T")


class Newest:
    """The newest frame, coded once for all who want it in the same way. Lives in an event loop."""

    def __init__(self) -> None:
        self.number = 0
        """Of the newest frame, counted from 1; 0 before there is one."""
        self._frame: Frame | None = None
        self._changed = asyncio.Event()
        self._coding: dict[Callable[..., Any], tuple[int, asyncio.Future[Any]]] = {}

    def put(self, frame: Frame) -> None:
        """Let `frame` be the newest."""
        self._frame = frame
        self.number += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def coded(self, coder: Callable[[Frame], T], after: int) -> tuple[int, T]:
        """Wait until there is a frame newer than number `after`.

        Returns:
            Its number, and what `coder` makes of it, in another thread.
        """
        while self.number <= after:
            await self._changed.wait()
        number, coding = self._coding.get(coder, (0, None))
        # One that is still being made is good enough, if it is new to who asks.
        if coding is None or number <= after or (number < self.number and coding.done()):
            number, frame = self.number, self._frame
            assert frame is not None
            coding = asyncio.ensure_future(asyncio.to_thread(coder, frame))
            self._coding[coder] = (number, coding)
        return number, await asyncio.shield(coding)  # the others who wait are not to be cancelled
