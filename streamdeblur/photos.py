"""Image files from input to output: one is read and one written while another is deblurred."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from streamdeblur.command import Command
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import StreamDeblurError
from streamdeblur.frames import Image
from streamdeblur.images import (
    ImageOutput,
    StillImage,
    corrected_samples,
    notices_of,
    read_image,
)
from streamdeblur.inputs import Task
from streamdeblur.ledger import once
from streamdeblur.pipeline import Progress
from streamdeblur.report import Report
from streamdeblur.threads import prefetch

FAILURES = (StreamDeblurError, OSError, MemoryError)
"""What can keep one file from being done, and says nothing of the others."""

T = TypeVar("T")


def deblur_image(task: Task, command: Command) -> None:
    """Deblur the only image file there is, with --resume not again.

    Raises:
        StreamDeblurError: it could not be done.
    """

    def work() -> None:
        for _, problem in deblur_images([task], command):
            if problem is not None:
                raise problem
            command.say(f"{task.output}: done")

    once(task.path, task.output, command, work)


def deblur_images(
    tasks: Iterable[Task],
    command: Command,
    show: Callable[[Progress], None] = lambda progress: None,
) -> Iterator[tuple[Task, Exception | None]]:
    """Deblur image files in turn; gives each with what kept it from being done, if anything did.

    Args:
        tasks: the files and where they go.
        command: that they are done for; its network is needed when the first has been read.
        show: told how far the work is.

    Raises:
        ModelError: there is no network to do it with.
    """
    stages = _Stages(command)
    with ExitStack() as stack:
        read = stack.enter_context(closing(prefetch(stages.opened(tasks), 1)))
        early = list(_up_to_the_first_image(read))
        if early and not isinstance(early[-1][1], Exception):
            stages.network = command.network()
        sharp = stack.enter_context(closing(prefetch(stages.deblurred(chain(early, read)), 1)))
        for task, item in sharp:
            problem = stages.written(item)
            show(stages.progress)
            yield task, problem


class _Stages:
    """What is done to images, one stage after the other; each passes on what the one before gave.

    That is an exception once a file has failed.
    """

    def __init__(self, command: Command) -> None:
        self.progress = Progress(busy=dict.fromkeys(("decode", "deblur", "write"), 0.0))
        self.network: Deblurrer | None = None
        """To be set before anything is deblurred."""
        self._command, self._options = command, command.options

    def opened(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """Each image and where it goes."""
        for task in tasks:
            yield task, self._tried("decode", partial(self._open, task))

    def deblurred(self, items: Iterable[tuple[Task, Any]]) -> Iterator[tuple[Task, Any]]:
        """The same, and with each what the network made of it."""
        for task, item in items:
            if isinstance(item, Exception):
                yield task, item
            else:
                yield task, self._tried("deblur", partial(self._deblur, *item))

    def written(self, item: Any) -> Exception | None:
        """Write an image; what kept it from being done, if anything did."""
        problem: Exception | None = item
        if not isinstance(item, Exception):
            problem = self._tried("write", partial(self._write, *item))
        self.progress.read = self.progress.written = self.progress.written + 1
        return problem

    def _tried(self, stage: str, work: Callable[[], T]) -> T | Exception:
        """What comes of work that can fail for one file; its time is the stage's."""
        began = time.perf_counter()
        try:
            return work()
        except FAILURES as error:
            return error
        finally:
            self.progress.busy[stage] += time.perf_counter() - began

    def _open(self, task: Task) -> tuple[StillImage, ImageOutput]:
        output = ImageOutput(task.output, task.path, overwrite=self._options.overwrite)
        return read_image(task.path), output

    def _deblur(
        self, image: StillImage, output: ImageOutput
    ) -> tuple[StillImage, ImageOutput, Image]:
        assert self.network is not None
        view = image.view
        return image, output, self.network(view) if self._options.strength else view

    def _write(self, image: StillImage, output: ImageOutput, sharp: Image) -> None:
        samples = corrected_samples(image, sharp, self._options.strength)
        if self._options.compare:
            axis, sense = image.rightwards
            samples = np.concatenate([image.samples, samples][::sense], axis)
        notices = notices_of(image, output.path)
        for notice in notices:
            self._command.say(notice)
        output.write(image, samples, partial(self._command.note, image.path, output.path))
        if self._command.report:
            self._account(self._command.report, image, output.path, sharp, notices)

    def _account(
        self, report: Report, image: StillImage, output: Path, sharp: Image, notices: list[str]
    ) -> None:
        """Tell the report of an image that was written."""
        assert self.network is not None
        account = report.account(image.path, output, is_image=True)
        account.turns = image.turns
        account.add(image.view, sharp, 0.0)
        account.notices += notices
        account.facts |= {"input": image.described, "network": self.network.running}
        report.settle()


def _up_to_the_first_image(read: Iterator[tuple[Task, Any]]) -> Iterator[tuple[Task, Any]]:
    """Those that could not be read, and one that could."""
    for task, item in read:
        yield task, item
        if not isinstance(item, Exception):
            return
