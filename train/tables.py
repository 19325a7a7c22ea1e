"""The command `python -m train.tables`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Print the paper's tables beside what the flags give; the exit status."""
    options = _parser().parse_args(argv)
    # After parsing, so that --help and mistyped flags answer at once.
    from rich.console import Console

    from streamdeblur.errors import ModelError
    from train.evaluation import koehler
    from train.evaluation.datasets import open_data
    from train.evaluation.judging import evaluate
    from train.evaluation.published import CITATION, tables
    from train.evaluation.restorer import open_restorer

    console = Console()
    if not console.is_terminal:
        console.width = 140  # a file has no edge at 80
    try:
        restorer = open_restorer(options.model, options.device)
        sets = [
            open_data(folder, blur_folder=options.blur_folder) if folder else None
            for folder in (options.gopro, options.koehler)
        ]
        for flag, data in zip(("--gopro", "--koehler"), sets, strict=True):
            if data and (flag == "--koehler") != data.protocol.endswith(koehler.PROTOCOL):
                raise ValueError(f"{flag} {data.folder} holds the other data set")
        reports = [evaluate(data, [restorer], console=console) if data else None for data in sets]
    except (ModelError, OSError, ValueError) as error:
        print(f"tables: error: {' '.join(str(error).split())[:400]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    lines = f"{restorer.name}: {restorer.runs_on}", *restorer.notices, CITATION
    protocols = (f"{data.folder}: {data.protocol}" for data in sets if data)
    console.print(*lines, *protocols, sep="\n", markup=False)
    console.print(*tables(restorer, *reports), sep="\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.tables",
        description="The paper's tables 1 to 3 (quality on GoPro, quality on Köhler, time and "
        "size), with a column for one of our networks, measured here and now.",
    )
    parser.add_argument(
        "--model", default="fast", help="checkpoint, ONNX file or bundled model (default: fast)"
    )
    parser.add_argument("--gopro", type=Path, metavar="DIR", help="GoPro's test set, as it unpacks")
    parser.add_argument("--koehler", type=Path, metavar="DIR", help="Köhler's data set")
    parser.add_argument(
        "--blur-folder",
        default="blur",
        metavar="NAME",
        help="of GoPro's blurred pictures: blur or blur_gamma (default: %(default)s)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return parser


if __name__ == "__main__":
    sys.exit(main())
