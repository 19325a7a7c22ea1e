"""Image files from input to output: one is read and one written while another is deblurred."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import chain
from typing import Any

import numpy as np

from streamdeblur.command import Command
from streamdeblur.errors import StreamDeblurError
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
from streamdeblur.threads import prefetch

FAILURES = (StreamDeblurError, OSError, MemoryError)
"""What can keep one file from being done, and says nothing of the others."""

Sharp = tuple[StillImage, ImageOutput, Any]


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
    options = command.options
    progress = Progress(busy=dict.fromkeys(("decode", "deblur", "write"), 0.0))

    def timed(stage: str, began: float) -> None:
        progress.busy[stage] += time.perf_counter() - began

    def opened() -> Iterator[tuple[Task, Any]]:
        for task in tasks:
            began = time.perf_counter()
            try:
                output = ImageOutput(task.output, task.path, overwrite=options.overwrite)
                item: Any = (read_image(task.path), output)
            except FAILURES as error:
                item = error
            timed("decode", began)
            yield task, item

    def deblurred(items: Iterable[tuple[Task, Any]]) -> Iterator[tuple[Task, Any]]:
        for task, item in items:
            if network is None or isinstance(item, Exception):
                yield task, item
                continue
            began = time.perf_counter()
            try:
                image, output = item
                view = image.view
                item = (image, output, network(view) if options.strength else view)
            except FAILURES as error:
                item = error
            timed("deblur", began)
            yield task, item

    def written(item: Sharp) -> None:
        image, output, sharp = item
        samples = corrected_samples(image, sharp, options.strength)
        if options.compare:
            axis, sense = image.rightwards
            samples = np.concatenate([image.samples, samples][::sense], axis)
        notices = notices_of(image, output.path)
        for notice in notices:
            command.say(notice)
        output.write(image, samples, lambda part: command.note(image.path, output.path, part))
        if command.report:
            account = command.report.account(image.path, output.path, is_image=True)
            account.turns = image.turns
            account.add(image.view, sharp, 0.0)
            account.notices += notices
            assert network is not None
            account.facts |= {"input": image.described, "network": network.running}
            command.report.settle()

    with ExitStack() as stack:
        read = stack.enter_context(closing(prefetch(opened(), 1)))
        early = list(_up_to_the_first_image(read))
        is_needed = early and not isinstance(early[-1][1], Exception)
        network = command.network() if is_needed else None
        sharp = stack.enter_context(closing(prefetch(deblurred(chain(early, read)), 1)))
        for task, item in sharp:
            problem, began = item, time.perf_counter()
            if not isinstance(item, Exception):
                try:
                    written(item)
                    problem = None
                except FAILURES as error:
                    problem = error
            timed("write", began)
            progress.read = progress.written = progress.written + 1
            show(progress)
            yield task, problem


def _up_to_the_first_image(read: Iterator[tuple[Task, Any]]) -> Iterator[tuple[Task, Any]]:
    """Those that could not be read, and one that could."""
    for task, item in read:
        yield task, item
        if not isinstance(item, Exception):
            return
