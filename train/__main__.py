"""The command `python -m train`."""

from __future__ import annotations

import sys

from train.config import parse_config


def main(argv: list[str] | None = None) -> int:
    """Train as the flags say; the exit status."""
    config = parse_config(argv)
    # After parsing, so that --help and mistyped flags answer at once.
    import torch
    from rich.console import Console

    from train.loop import train

    console = Console()
    try:
        path = train(config, console)
    except (OSError, ValueError) as error:  # a missing folder, a full disk, unusable data
        print(f"train: error: {error}", file=sys.stderr)
        return 1
    except (MemoryError, torch.OutOfMemoryError) as error:
        words = "fewer pictures, less --batch or smaller --crops need less"
        print(f"train: error: out of memory: {words} ({error})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    # By the console, which is quiet in all but the first of several processes.
    console.print(f"wrote {path}\nnext: python -m export {path} -o model.onnx", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
