"""The command `python -m train.summary`."""

from __future__ import annotations

import argparse
import sys

from streamdeblur.values import size


def main(argv: list[str] | None = None) -> int:
    """Print what the flags ask for; the exit status."""
    options = _parser().parse_args(argv)
    # After parsing, so that --help and mistyped flags answer at once.
    import torch
    from rich.console import Console

    from train import cost
    from train.architecture import ARCHITECTURES
    from train.generator import build

    with torch.device("meta"):  # shapes without weights
        network = build(ARCHITECTURES[options.arch])
    width, height = map(int, options.size.split("x"))
    if width % network.multiple_of or height % network.multiple_of:
        print(
            f"summary: error: --size {options.size}: {options.arch} works on multiples of "
            f"{network.multiple_of} pixels",
            file=sys.stderr,
        )
        return 1
    found = cost.layers(network, height, width)
    console = Console()
    if not console.is_terminal:
        console.width = 120  # a file has no edge at 80
    console.print(cost.table(found, f"{options.arch}, at {width}x{height}"))
    console.print(cost.brief(network), highlight=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.summary",
        description="A network's layers: parameters and multiply-adds, and by the paper's "
        "equations 2 to 4 what they cost as standard and as separable convolutions.",
    )
    parser.add_argument("--arch", choices=("fast", "paper"), default="paper", help="architecture")
    parser.add_argument(
        "--size",
        type=size,
        default="256x256",
        metavar="WxH",
        help="of the picture, in pixels (default: 256x256)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
