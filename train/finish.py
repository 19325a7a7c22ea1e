"""The command `python -m train.finish`: from a run's weights to those that are published.

What it does has no gradient: weights are mixed with those that the run began with, the correction
is made smaller, and small corrections are taken back (`GeneratorConfig.coring`). Each makes a
network less bold with what is nearly sharp.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamdeblur.values import up_to

if TYPE_CHECKING:
    from train.checkpoint import Checkpoint


def finish(
    saved: Checkpoint,
    earlier: Checkpoint | None = None,
    *,
    share: float = 0.0,
    scale: float = 1.0,
    coring: float = 0.0,
) -> Checkpoint:
    """A run's checkpoint for use, as if the run had been one with the earlier ones.

    Args:
        saved: of the run.
        earlier: of what it began with: its steps, hours and curve come before the run's.
        share: of the earlier weights in the mixture, from 0 to 1.
        scale: what the last layer is multiplied by.
        coring: as in `GeneratorConfig`, in grey levels; only `fast` has it.

    Raises:
        ValueError: the two are different networks, or there is nothing to mix with or to core.
    """
    from train.architecture import GeneratorConfig
    from train.checkpoint import Checkpoint
    from train.config import without_folders

    shape = replace(GeneratorConfig.from_dict(saved.generator_config), coring=coring)
    if coring and shape.architecture != "fast":
        raise ValueError(f"{shape.architecture} has no coring")
    weights, curve, steps, hours = saved.ema, list(saved.curve), 0, 0.0
    if earlier:
        before = GeneratorConfig.from_dict(earlier.generator_config)
        if replace(before, dropout=shape.dropout, coring=coring) != shape:
            raise ValueError(f"the run's network is {shape}, and the earlier one {before}")
        steps, hours = earlier.step, earlier.seconds / 3600
        curve = earlier.curve + [_moved(entry, steps, hours) for entry in curve]
        weights = {name: weight.lerp(earlier.ema[name], share) for name, weight in weights.items()}
    elif share:
        raise ValueError("--share is of the weights of --earlier: name them")
    last = "exit." if shape.architecture == "fast" else "head."
    return Checkpoint(
        step=steps + saved.step,
        seconds=hours * 3600 + saved.seconds,
        generator_config=shape.to_dict(),
        train_config=without_folders(saved.train_config),
        ema={n: w * scale if n.startswith(last) else w for n, w in weights.items()},
        curve=curve,
    )


def _moved(entry: dict[str, Any], steps: int, hours: float) -> dict[str, Any]:
    """The same point of a curve, so much later."""
    return entry | {"step": entry["step"] + steps, "hours": round(entry["hours"] + hours, 3)}


def main(argv: Sequence[str] | None = None) -> int:
    """Finish as the flags say; the exit status."""
    options = _parser().parse_args(argv)
    # After parsing, so that --help and mistyped flags answer at once.
    from train import checkpoint, metrics
    from train.architecture import GeneratorConfig
    from train.generator import build

    try:
        checkpoint.refuse_output(options.out)
        checkpoint.refuse_source(options.out, options.run, "the run itself: it could not go on")
        judged = {"val": options.val, "report": options.report}
        pairs = {title: metrics.load_pairs(folders) for title, folders in judged.items() if folders}
        made = finish(
            checkpoint.load_network(options.run)[0],
            checkpoint.load_network(options.earlier)[0] if options.earlier else None,
            share=options.share,
            scale=options.scale,
            coring=options.coring,
        )
        network = build(GeneratorConfig.from_dict(made.generator_config)).eval()
        network.load_state_dict(made.ema)
        entry: dict[str, Any] = {"step": made.step, "hours": round(made.seconds / 3600, 3)}
        entry |= {"mixed": options.share, "correction": options.scale, "coring": options.coring}
        for title, each in pairs.items():
            scores = metrics.evaluate(network, each)
            entry |= metrics.entry(title, scores)
            worst = min(scores, key=lambda score: score.gain)
            gain = metrics.mean_gain(scores)
            print(
                f"{title}: {gain:+.3f} dB in the mean, the worst {worst.gain:+.3f} ({worst.name})"
            )
        made.curve.append(entry)
        checkpoint.save(made, options.out)
        curve = options.out.with_name(f"{options.out.stem}-curve.json")
        curve.write_text(json.dumps(made.curve, indent=1) + "\n")
    except (OSError, ValueError) as error:
        print(f"train.finish: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"wrote {options.out} and {curve}\nnext: python -m export {options.out} -o model.onnx")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.finish",
        description="Make a run's averaged weights ready for use: mixed with those that it began "
        "with, with a smaller correction, and with coring; and judge the result.",
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="its checkpoint: last.pt or best.pt")
    add("--earlier", type=Path, metavar="FILE",
        help="what the run began with: its steps, hours and curve come first")  # fmt: skip
    add("--share", type=up_to(1), default=0.0,
        help="of the earlier weights (default: %(default)g)")  # fmt: skip
    add("--scale", type=up_to(1), default=1.0,
        help="what the last layer is multiplied by (default: %(default)g)")  # fmt: skip
    add("--coring", type=up_to(255), default=0.0, metavar="LEVELS",
        help="take back corrections below so many grey levels (default: %(default)g)")  # fmt: skip
    add("--val", type=Path, nargs="+", default=[], metavar="PAIRS", help="what chose it")
    add("--report", type=Path, nargs="+", default=[], metavar="PAIRS", help="what did not")
    add("-o", "--out", type=Path, required=True, metavar="FILE", help="the checkpoint to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
