"""What the command line asks for, with what all of its work shares: the network and a report."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a mistake is told before ONNX Runtime is loaded
    from streamdeblur.deblurrer import Deblurrer
    from streamdeblur.display import Display
    from streamdeblur.ledger import Ledger
    from streamdeblur.report import Report


@dataclass
class Command:
    """A run of the command."""

    options: argparse.Namespace
    """The command line's."""
    say: Callable[[str], None]
    """Told each line that a person should know."""
    report: Report | None = None
    """Gets an account of each file; None where none was asked for."""
    ledger: Ledger | None = None
    """Takes down what is complete, with --resume."""
    networks: list[Deblurrer] = field(default_factory=list)
    """Those that were loaded: first that which was asked for, then what stands in for it."""

    def network(self) -> Deblurrer:
        """The network asked for, loaded when it is first needed: a line says what really runs.

        Raises:
            ModelError: it cannot be had.
        """
        if not self.networks:
            network = self.load(self.options.model)
            for line in (*network.notices, network.running):
                self.say(line)
        return self.networks[0]

    def load(self, model: str) -> Deblurrer:
        """A network of a model's name, to run as the options say.

        Raises:
            ModelError: it cannot be had.
        """
        from streamdeblur.deblurrer import Deblurrer

        options = self.options
        network = Deblurrer.load(
            model,
            device=options.device,
            precision=options.precision,
            threads=options.threads,
            gpu=options.gpu,
            tile=options.tile,
            views=options.views,
            say=self.say,
        )
        self.networks.append(network)
        return network

    def note(self, path: Path, output: Path, part: Path) -> None:
        """Take down that `part`, made of `path`, is complete and about to be `output`."""
        if self.ledger:
            self.ledger.note(path, output, part)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Write the report, if one was asked for, when the block ends.

        Raises:
            VideoError: it cannot be written.
        """
        if self.options.report is None:
            yield
            return
        from streamdeblur.report import Report

        with Report(Path(self.options.report), self.options) as self.report:
            yield

    def reading(self) -> dict[str, Any]:
        """How files are read, by the names that sources have for it."""
        names = ("start", "duration", "deinterlace", "decoder", "gpu")
        wishes = {name: getattr(self.options, name) for name in names}
        form, form_options = self.options.input_format, dict(self.options.input_option)
        return {**wishes, "form": form, "form_options": form_options}

    def display(self, usual: Display) -> Display:
        """What shows how far the work is: the usual, or nothing where that is asked for."""
        return nullcontext(lambda progress: None) if self.options.quiet else usual
