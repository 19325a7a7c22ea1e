"""The command `python -m export`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from export import OPSET


def main(argv: list[str] | None = None) -> int:
    """Export as the flags say; the exit status."""
    options = _parser().parse_args(argv)
    # After parsing, so that --help and mistyped flags answer at once.
    from export import write
    from streamdeblur.errors import ModelError
    from train import cost

    try:
        _check_output(options.output, options.checkpoint)
        saved, network = write.load(options.checkpoint)
        spec = write.describe(
            network,
            saved,
            name=options.name or network.config.architecture,
            precision="fp16" if options.half else "fp32",
        )
        parity = write.export(
            network,
            spec,
            options.output,
            fuse_separable=options.fuse_separable,
            opset=options.opset,
        )
    except (ModelError, OSError) as error:
        line = " ".join(str(error).split())  # torch's reasons take many
        print(f"export: error: {line[:400]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(
        f"{spec.name}: {cost.brief(network)}\n"
        f"{spec.precision}, trained for {saved.step:,} steps, "
        f"{options.output.stat().st_size / 2**20:.1f} MiB\n"
        f"against torch on {parity.frames} pictures: at most {parity.largest} grey levels apart, "
        f"{parity.share:.3%} of samples differ\n"
        f"wrote {options.output}\nnext: streamdeblur clip.mp4 --model {options.output}"
    )
    return 0


def _check_output(output: Path, checkpoint: Path) -> None:
    """Before the work, not after it."""
    if not output.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {output.parent} to write {output.name} in")
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a folder; -o takes a file, model.onnx for example")
    if output.exists() and checkpoint.exists() and output.samefile(checkpoint):
        raise FileExistsError(f"{output} is the checkpoint itself; pass another -o")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description=(
            "Write a checkpoint's network as one ONNX file that takes and gives uint8 RGB frames "
            "of any size. The file is compared with torch first, and not written if it differs."
        ),
        epilog="Example: python -m export runs/fast/best.pt -o model.onnx",
    )
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a file of `python -m train`: best.pt"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("model.onnx"),
        metavar="FILE",
        help="where to write (default: %(default)s); an existing file is replaced",
    )
    parser.add_argument(
        "--name", metavar="S", help="as shown to people (default: the architecture's name)"
    )
    parser.add_argument(
        "--half",
        action="store_true",
        help="compute in fp16, for GPUs: half the size, still uint8 outside; "
        "processors are slower with it",
    )
    parser.add_argument(
        "--fuse-separable",
        choices=("auto", "never", "always"),
        default="auto",
        help="collapse each separable pair into one dense 3x3 convolution: the same function, "
        "slower on processors, perhaps faster on tensor cores; auto: as pays on a processor, "
        "which is never (default: %(default)s)",
    )
    parser.add_argument(
        "--opset",
        type=int,
        choices=range(18, 24),
        default=OPSET,
        metavar="N",
        help="version of the ONNX operators, 18 to 23 (default: %(default)s, which most runtimes "
        "read)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
