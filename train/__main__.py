"""The command `python -m train`."""

from __future__ import annotations

import signal
import sys

from train.config import parse_config


def main(argv: list[str] | None = None) -> int:
    """Train as the flags say; the exit status."""
    config = parse_config(argv)
    # A job scheduler's SIGTERM ends a run as Ctrl-C does: the state is saved first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # After parsing, so that --help and mistyped flags answer at once.
    from rich.console import Console

    from train.loop import train

    try:
        path = train(config, Console())
    except (FileNotFoundError, ValueError) as error:
        print(f"train: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"wrote {path}\nnext: python -m export {path} -o model.onnx")
    return 0


if __name__ == "__main__":
    sys.exit(main())
