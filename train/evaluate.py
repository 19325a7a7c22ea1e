"""The command `python -m train.evaluate`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Evaluate as the flags say; the exit status."""
    options = _parser().parse_args(argv)
    # After parsing, so that --help and mistyped flags answer at once.
    from rich.console import Console

    from streamdeblur.errors import ModelError
    from train.checkpoint import refuse_output
    from train.evaluation.datasets import open_data
    from train.evaluation.judging import check, evaluate
    from train.evaluation.lpips_distance import open_lpips
    from train.evaluation.report import show, to_json
    from train.evaluation.restorer import open_restorer

    console = Console()
    if not console.is_terminal:
        console.width = 160  # a file has no edge at 80
    try:
        if options.json:
            refuse_output(options.json)
        perceptual = open_lpips() if options.lpips else None
        restorers = [open_restorer(model, options.device, options.views) for model in options.model]
        sets = [
            open_data(folder, blur_folder=options.blur_folder, perceptual=perceptual)
            for folder in options.data
        ]
        asked = {"video": options.video, "identity": options.identity}
        for data in sets:
            check(data, **asked)
        for restorer in restorers:
            lines = f"{restorer.name}: {restorer.runs_on}", *restorer.notices
            console.print(*lines, sep="\n", markup=False)
        reports = []
        for data in sets:
            reports.append(evaluate(data, restorers, **asked, console=console))
            show(data, restorers, reports[-1], console)
        if options.json:
            plain = [to_json(*each, restorers) for each in zip(sets, reports, strict=True)]
            options.json.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n")
    except (ModelError, OSError, ValueError) as error:
        print(f"evaluate: error: {' '.join(str(error).split())[:400]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluate",
        description="Judge networks on pictures whose sharp twins are known, beside the blurred "
        "pictures themselves, and print the protocol with the figures.",
        epilog="Example: python -m train.evaluate --data PAIRS --model runs/mine/best.pt",
    )
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="folders with blur/ and sharp/, GoPro as it unpacks, or Köhler's data set",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        required=True,
        metavar="FILE",
        help="checkpoints, ONNX files, or names of bundled models",
    )
    parser.add_argument(
        "--blur-folder",
        default="blur",
        metavar="NAME",
        help="of the blurred pictures: blur or blur_gamma (default: %(default)s)",
    )
    parser.add_argument("--video", action="store_true", help="pictures are consecutive frames")
    parser.add_argument(
        "--identity", action="store_true", help="feed the sharp pictures as well: are they harmed?"
    )
    parser.add_argument(
        "--views", type=int, choices=(1, 2, 4), default=1, help="restore so many, take the mean"
    )
    parser.add_argument("--lpips", action="store_true", help="LPIPS too; needs its package")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
