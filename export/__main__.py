"""The command `python -m export`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from export import OPSET

if TYPE_CHECKING:
    from export.write import Written

_TWINS = ("fp16", "int8")
_SIZES = {
    "480p": (640, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "2160p": (3840, 2160),
}


def main(argv: list[str] | None = None) -> int:
    """Export as the flags say; the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    int8 = options.twins or options.precision == "int8"
    if int8 and not options.gate:
        parser.error("int8 needs --gate PAIRS: what it costs must be measured")
    if options.twins and options.output.suffix != ".onnx":
        example = f"{options.output.name}.onnx"
        parser.error(f"--twins are found by their names: end that of -o in .onnx, as in {example}")
    if options.calibrate and not int8:
        parser.error("--calibrate is of --int8 and --twins")
    if options.shapes and not options.tensorrt:
        parser.error("--shapes are those of --tensorrt")
    # After parsing, so that --help and mistyped flags answer at once.
    from streamdeblur.errors import StreamDeblurError

    try:
        for line in _done(options):
            print(line, flush=True)
    except (StreamDeblurError, OSError, ValueError) as error:
        line = " ".join(str(error).split())  # torch's reasons take many
        print(f"export: error: {line[:400]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _done(options: argparse.Namespace) -> Iterator[str]:
    """Do all that was asked for; yields what a person should know."""
    from export import engines

    model: Path = options.output
    if options.tensorrt:
        engines.require_tensorrt()
    if options.tensorrt and engines.is_model(options.checkpoint):
        model = options.checkpoint
    else:
        yield from _exported(options)
    if options.tensorrt:
        for folder in engines.build(model, options.shapes or [_SIZES["720p"]], say=print):
            yield f"wrote {folder}"
    yield f"next: streamdeblur clip.mp4 --model {model}"


def _exported(options: argparse.Namespace) -> Iterator[str]:
    """Write the files."""
    from export import quantise, write
    from export.gate import Gate
    from train import checkpoint, cost

    outputs = _outputs(options)
    for output in outputs.values():
        checkpoint.refuse_output(output)
        checkpoint.refuse_source(output, options.checkpoint, "the checkpoint itself")
    saved, network = write.load(options.checkpoint)
    frames = quantise.calibration_frames(options.calibrate) if "int8" in outputs else ()
    gate = Gate(options.gate, write.restorer_of(network)) if options.gate else None
    name = options.name or network.config.architecture
    heading = [f"{name}: {cost.brief(network)}", f"trained for {saved.step:,} steps"]
    for precision, output in outputs.items():
        twin = _twin(output, precision)
        spec = write.describe(network, saved, name=name, precision=precision, twin=twin)
        written = write.export(
            network,
            spec,
            output,
            fuse_separable=options.fuse_separable,
            opset=options.opset,
            gate=gate,
            frames=frames,
        )
        yield "\n".join([*heading, _told(output, written)])
        heading = []
    for precision in _TWINS:
        path = _beside(options.output, precision)
        if "fp32" in outputs and precision not in outputs and path.exists():
            yield f"{path.name} beside it is of an earlier export: --twins makes it again"


def _outputs(options: argparse.Namespace) -> dict[str, Path]:
    """By precision, the files asked for."""
    output: Path = options.output
    if options.twins:
        return {"fp32": output} | {name: _beside(output, name) for name in _TWINS}
    return {options.precision: output}


def _beside(output: Path, precision: str) -> Path:
    """Where `--precision` of streamdeblur looks for a file's twin."""
    return output.with_suffix(f".{precision}.onnx")


def _twin(output: Path, precision: str) -> str | None:
    """Name of the fp32 file that belongs to NAME.int8.onnx, and the like."""
    ending = f".{precision}.onnx"
    if precision != "fp32" and output.name.endswith(ending):
        return output.name.removesuffix(ending) + ".onnx"
    return None


def _told(output: Path, written: Written) -> str:
    """What a person should know of a file that was written."""
    parity = written.parity
    lines = [
        f"{written.spec.precision}, {output.stat().st_size / 2**20:.1f} MiB; "
        f"against torch on {parity.frames} pictures: at most {parity.largest} grey levels apart, "
        f"{parity.share:.3%} of samples differ"
    ]
    if written.in_float:
        lines.append(f"in float, for what they would cost: {', '.join(written.in_float)}")
    if written.verdict:
        (lower,) = set(written.spec.gate["gain"]) - {"fp32"}
        lines.append(f"in {lower}: {written.verdict}")
    return "\n".join([*lines, f"wrote {output}"])


def _sizes(text: str) -> list[tuple[int, int]]:
    found = []
    for name in text.split(","):
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", name, re.ASCII)
        if match is None and name not in _SIZES:
            raise argparse.ArgumentTypeError(
                f"{name!r} is neither of {', '.join(_SIZES)} nor of the form 1280x720"
            )
        found.append((int(match[1]), int(match[2])) if match else _SIZES[name])
    return found


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
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="a file of `python -m train`: best.pt; with --tensorrt also an ONNX file of ours or a "
        "bundled model's name, of which engines are built and nothing is exported",
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
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--half",
        action="store_const",
        const="fp16",
        dest="precision",
        default="fp32",
        help="compute in fp16, for GPUs: half the size, still uint8 outside, and a second output "
        "that says when fp16 was not enough; processors are slower with it",
    )
    which.add_argument(
        "--int8",
        action="store_const",
        const="int8",
        dest="precision",
        help="compute in int8, for processors; needs --gate",
    )
    which.add_argument(
        "--twins",
        action="store_true",
        help="write FILE, and beside it the same in fp16 and int8, as --precision of streamdeblur "
        "looks for them: NAME.fp16.onnx and NAME.int8.onnx; needs --gate",
    )
    parser.add_argument(
        "--gate",
        type=Path,
        metavar="PAIRS",
        help="folder with blur/ and sharp/ to measure precisions below fp32 on: one that gives up "
        "more than a tenth of the gain over the blurred pictures is refused (int8), or not chosen "
        "unless asked for (fp16, and the bf16 that OpenVINO makes of fp32)",
    )
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FOLDER|VIDEO",
        help="pictures that int8's ranges are measured on (default: the clips of samples/)",
    )
    parser.add_argument(
        "--tensorrt",
        action="store_true",
        help="build TensorRT's engines ahead of time, into the cache of streamdeblur: for this GPU "
        "and these versions alone; takes minutes for each size",
    )
    parser.add_argument(
        "--shapes",
        type=_sizes,
        metavar="LIST",
        help=f"sizes of the pictures for --tensorrt: {', '.join(_SIZES)} or WxH, with commas "
        "between (default: 720p)",
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
