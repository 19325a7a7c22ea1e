"""Many files in turn: one that fails stops no other, and what is done need not be done again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from streamdeblur.command import Command
from streamdeblur.display import file_display
from streamdeblur.errors import VideoError
from streamdeblur.inputs import Task
from streamdeblur.job import deblur_file
from streamdeblur.ledger import Ledger, settings_identity
from streamdeblur.photos import FAILURES, deblur_images
from streamdeblur.sources import FileSource

_NAMED = 5  # files that are named of those that an interruption left undone


class Batch:
    """Deblurs files in turn.

    Args:
        tasks: what is to be done.
        command: that it is done for.
    """

    def __init__(self, tasks: Sequence[Task], command: Command) -> None:
        self._tasks, self._command = tasks, command
        self.done: list[Task] = []
        self.skipped: set[Task] = set()
        """Those that an earlier run has done."""
        self.failed: dict[Task, str] = {}
        """And why."""

    def run(self) -> None:
        """Do all that can be done.

        Raises:
            ModelError: there is no network to do it with.
            KeyboardInterrupt: it was stopped; says what is done and what is not.
        """
        self.failed = {task: task.problem for task in self._tasks if task.problem}
        open_tasks = [task for task in self._tasks if not task.problem]
        if not open_tasks:
            return
        self._command.network()  # without it none can be done
        if self._command.options.resume:
            self._command.ledger = Ledger(settings_identity(self._command), self._command.say)
        open_tasks = [task for task in open_tasks if self._is_left(task)]
        try:
            for task, problem in self._results(open_tasks):
                if problem is not None:
                    self.failed[task] = _reason(problem)
                else:
                    self.done.append(task)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt("; ".join(filter(None, [self._left(), str(stop)]))) from None
        finally:
            if report := self._command.report:
                for task, why in self.failed.items():
                    report.blame(task.path, task.output, why)

    @property
    def summary(self) -> str:
        """How it ended, in numbers."""
        skipped = f", {len(self.skipped)} done before" if self.skipped else ""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{len(self.done)} of {len(self._tasks)} files done{skipped}{failed}"

    def _results(self, tasks: list[Task]) -> Iterator[tuple[Task, Exception | None]]:
        for are_images, group in groupby(tasks, lambda task: task.is_image):
            some = list(group)
            if are_images:
                display = file_display(len(some), self._command.say)
                with self._command.display(display) as show:
                    yield from deblur_images(some, self._command, show)
            else:
                yield from ((task, self._video(task)) for task in some)

    def _is_left(self, task: Task) -> bool:
        """Whether a task is to be done, and can be; its folder is made."""
        ledger, overwrite = self._command.ledger, self._command.options.overwrite
        try:
            if ledger and ledger.is_done(task.path, task.output, overwrite=overwrite):
                self.skipped.add(task)
                return False
            task.output.parent.mkdir(parents=True, exist_ok=True)
        except (VideoError, OSError) as error:
            self.failed[task] = _reason(error)
        return task not in self.failed

    def _video(self, task: Task) -> Exception | None:
        report = self._command.report
        account = report.account(task.path, task.output) if report else None
        try:
            with FileSource(task.path, **self._command.reading()) as source:
                deblur_file(source, task.output, self._command, account)
        except FAILURES as error:
            return error
        finally:
            if report:
                report.settle()
        return None

    def _left(self) -> str:
        """What an interruption left undone."""
        ended = {*self.done, *self.skipped, *self.failed}
        left = [str(task.path) for task in self._tasks if task not in ended]
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        return f"{self.summary}; not done: {', '.join(left[:_NAMED])}{more}"


def _reason(problem: Exception) -> str:
    if isinstance(problem, MemoryError):
        return "there is not enough memory for it"
    if isinstance(problem, OSError) and problem.filename is not None:
        return f"{problem.filename}: {problem.strerror}"
    return " ".join(str(problem).split())
