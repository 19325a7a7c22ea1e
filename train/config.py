"""The settings of a training run. The dataclass is the command line."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints


def option(default: Any, text: str) -> Any:
    """A setting with its `--help` text."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Train a deblurring network from sharp photographs, high-rate frames and real pairs.

    Training images never leave memory; samples are made on the device that trains.
    """

    # What to learn from
    photos: tuple[Path, ...] = option((), "folders of sharp photographs, blurred synthetically")
    high_rate: tuple[Path, ...] = option((), "folders of consecutive frames at 120 fps or more")
    pairs: tuple[Path, ...] = option((), "GoPro folders, or folders with blur/ and sharp/")
    blur_folder: str = option("blur", "name of the blurred folder in pairs: blur or blur_gamma")
    share_high_rate: float = option(0.15, "share of samples averaged from high-rate frames")
    share_pairs: float = option(0.25, "share of samples cut from pairs")
    # What to judge by
    val: tuple[Path, ...] = option((), "folders with blur/ and sharp/ that choose the checkpoint")
    report: tuple[Path, ...] = option((), "the same, only reported, never used to choose")
    # The network and its schedule
    arch: Literal["fast", "paper"] = option("fast", "architecture")
    steps: int = option(200_000, "optimizer steps of the whole run")
    batch: int = option(8, "crops a step, of each process")
    crop: int = option(192, "side of the training crops, in pixels; a multiple of 16")
    optimizer: Literal["adamw", "adam"] = option("adamw", "optimizer")
    lr: float = option(5e-4, "peak learning rate")
    warmup: int = option(500, "steps of linear warm-up")
    decay: int = option(20_000, "last steps, over which the rate falls to 0 along a half cosine")
    clip: float = option(0.1, "largest norm of the gradient")
    fft: float = option(1.0, "weight of the L1 distance of the orthonormal Fourier spectra")
    psnr: float = option(0.0, "weight of the mean logarithm of the pictures' squared errors")
    ema: float = option(0.999, "decay of the averaged weights, which are validated and exported")
    # Synthetic blur
    extent: float = option(48.0, "longest blur trajectory, in pixels")
    reuse: int = option(4, "times that a synthetic sample is used, with other flips and noise")
    # The machine
    device: str = option("auto", "cpu, cuda, or auto")
    amp: bool = option(True, "compute in bfloat16 where it is safe")
    threads: int = option(0, "processor threads; 0: torch's default")
    seed: int = option(0, "of everything random; a step's samples depend on it and the step alone")
    out: Path = option(Path("runs/fast"), "folder for checkpoints and the curve")
    resume: bool = option(False, "go on from last.pt in the out folder, exactly")
    log_every: int = option(200, "steps between lines of the log")
    val_every: int = option(2000, "steps between validations, each followed by a checkpoint")

    def __post_init__(self) -> None:
        if self.crop % 16:
            raise ValueError(f"--crop must be a multiple of 16, got {self.crop}")
        if self.batch < 1 or self.reuse < 1:
            raise ValueError("--batch and --reuse must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """As strings and numbers, for a checkpoint."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def parse_config(argv: list[str] | None = None) -> TrainConfig:
    """Build the settings from flags named after the fields of `TrainConfig`."""
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description=TrainConfig.__doc__,
        epilog="A first run: python -m train --photos PHOTOS --val PAIRS --out runs/first",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    types = get_type_hints(TrainConfig)
    for item in fields(TrainConfig):
        parser.add_argument(
            "--" + item.name.replace("_", "-"),
            default=item.default,
            help=item.metadata["help"],
            **_argument(types[item.name]),
        )
    given = vars(parser.parse_args(argv))
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    try:
        return TrainConfig(**values)
    except ValueError as error:
        parser.error(str(error))


def _argument(kind: Any) -> dict[str, Any]:
    """What argparse needs for a field of type `kind`."""
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(kind) is tuple:
        return {"type": get_args(kind)[0], "nargs": "+", "metavar": "DIR"}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    return {"type": kind, "metavar": kind.__name__.upper()}
