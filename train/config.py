"""The settings of a training run. The dataclass is the command line."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePath
from typing import Any, Literal, get_args, get_origin, get_type_hints

_FROM_ZERO_UP = (
    *("epochs", "minutes", "threads", "warmup", "seed", "clip", "extent", "lr_finetune"),
    *("pixel", "fft", "psnr", "adversarial", "perceptual"),
)
"""Settings of any size, but not below 0."""


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
    blur_folder: str = option(
        "blur", "name of the blurred folders, of --val and --report too: blur or blur_gamma"
    )
    share_high_rate: float = option(0.35, "share of samples averaged from high-rate frames")
    share_pairs: float = option(0.2, "share of samples cut from pairs")
    teacher: Path | None = option(
        None, "a checkpoint to learn from beside the truth: what it makes of eight mirrored views"
    )
    teacher_share: float = option(
        0.7, "its part of what is learnt, where it takes a decibel off the error"
    )
    # What to judge by
    val: tuple[Path, ...] = option((), "folders with blur/ and sharp/ that choose the checkpoint")
    report: tuple[Path, ...] = option((), "the same, only reported, never used to choose")
    # The network
    arch: Literal["fast", "paper"] = option("fast", "architecture")
    dropout: float = option(0.0, "probability inside the blocks of `paper`")
    identity: bool = option(True, "begin at the blurred picture: zero last layer, and ICNR")
    start_from: Path | None = option(None, "a checkpoint whose weights to begin with")
    # The schedule
    steps: int = option(200_000, "optimizer steps of the whole run")
    epochs: int = option(0, "in place of steps: so many crops for each of the pairs")
    minutes: float = option(0.0, "in place of steps: time for the whole run, over interruptions")
    batch: int = option(8, "crops a step, of each process")
    crops: tuple[int, ...] = option(
        (192,),
        "sides of the training crops, in px, for equal parts of the pixel phase; batches "
        "shrink as crops grow",
    )
    optimizer: Literal["muon", "adamw", "adam"] = option("muon", "optimizer")
    beta1: float = option(0.9, "Adam's decay of the gradient's mean")
    beta2: float = option(0.99, "Adam's decay of the gradient's square")
    lr: float = option(5e-4, "peak learning rate")
    warmup: int = option(500, "steps of linear warm-up, of the pixel phase")
    decay: float = option(0.3, "share of a phase over which its rate falls to 0, at the end")
    decay_shape: Literal["cosine", "linear"] = option("cosine", "along half a cosine, or a line")
    clip: float = option(0.2, "largest norm of the gradient; 0: no limit")
    ema: float = option(0.9997, "decay of the averaged weights, which are validated and exported")
    # What it makes small
    pixel: float = option(1.0, "weight of the Charbonnier distance")
    fft: float = option(1.0, "weight of the L1 distance of the orthonormal Fourier spectra")
    psnr: float = option(0.1, "weight of the mean logarithm of the pictures' squared errors")
    # The adversarial phase
    finetune: float = option(0.0, "share of the run, at its end, with the two losses below")
    adversarial: float = option(0.005, "weight of the relativistic average loss")
    perceptual: float = option(0.1, "weight of the VGG-19 loss, L_per")
    perceptual_channels: Literal["mean", "sum"] = option("mean", "L_per over VGG-19's channels")
    vgg: Path | None = option(None, "VGG-19 as .pth or .npz; default: fetched from torchvision")
    lr_finetune: float = option(
        1e-4, "peak learning rate of both networks in that phase; 0: that of --lr"
    )
    # Samples
    extent: float = option(48.0, "longest synthetic blur trajectory, in pixels")
    reduced: bool = option(
        True, "large photographs a second time, at half to three quarters of their size"
    )
    draws: int = option(2, "crops drawn for each that is used: the one with the most detail is")
    augment: bool = option(True, "mirror and turn the crops; add noise and JPEG")
    reuse: int = option(4, "times that a sample is used, mirrored and turned in other ways")
    # The machine
    device: str = option("auto", "cpu, cuda, or auto")
    amp: bool = option(True, "bfloat16 where it is safe and the machine has it")
    compile: bool = option(False, "torch.compile the generator")
    threads: int = option(0, "processor threads; 0: torch's default")
    seed: int = option(0, "of everything random; a step's samples depend on it and the step alone")
    out: Path = option(Path("runs/fast"), "folder for checkpoints, curve and TensorBoard")
    resume: bool = option(False, "go on from last.pt in the out folder, exactly")
    shard_mb: float = option(0.0, "split checkpoints into files below so many MB; 0: one file")
    log_every: int = option(200, "steps between lines of the log")
    val_every: int = option(2000, "steps between validations, each followed by a checkpoint")
    tensorboard: bool = option(True, "write scalars and pictures for TensorBoard")

    def __post_init__(self) -> None:
        if not self.crops or any(crop < 16 or crop % 16 for crop in self.crops):
            raise ValueError(f"--crops must be multiples of 16, got {self.crops}")
        for name in ("steps", "batch", "draws", "reuse", "val_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{_flag(name)} must be at least 1")
        for name in _FROM_ZERO_UP:
            if not getattr(self, name) >= 0:  # nan is neither
                raise ValueError(f"{_flag(name)} must be 0 or more")
        if not self.lr > 0:
            raise ValueError("--lr must be more than 0")
        for name in ("share_high_rate", "share_pairs", "ema", "finetune"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{_flag(name)} is a share, from 0 to 1")
        for name in ("teacher_share", "decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{_flag(name)} is a share, above 0 and up to 1")
        if self.finetune < 1 and not (self.pixel or self.fft or self.psnr):
            raise ValueError("--pixel, --fft and --psnr are all 0: there is nothing to learn by")
        if self.finetune and self.crops[-1] < 32:
            raise ValueError("--finetune needs last --crops of 32 or more, for the discriminator")
        if self.epochs and self.minutes:
            raise ValueError("--epochs and --minutes exclude each other")
        if self.epochs and not self.pairs:
            raise ValueError("--epochs counts pairs: give --pairs, or --steps")
        if self.shard_mb and not self.shard_mb >= 1:
            raise ValueError("--shard-mb must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """As strings and numbers, for a checkpoint."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def without_folders(settings: dict[str, Any]) -> dict[str, Any]:
    """Plain settings, with paths cut to their last name: what can be published."""
    return {name: _without_folders(value) for name, value in settings.items()}


def _without_folders(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    return PurePath(value).name if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


HARMLESS = {"resume", "out", "device", "threads", "shard_mb", "log_every", "tensorboard"}
"""Settings that change nothing of what is learnt."""

RECIPES: dict[str, dict[str, Any]] = {
    # What wins on the validation pairs: train/README.md has what was tried.
    "best": {},
    # The paper's: relativistic adversarial and perceptual loss from the first step, Adam, batches
    # of one crop of 256, 1e-4 for 150 of 500 epochs and then linear to 0. No warm-up, averaging,
    # clipping, augmentation, mixed precision or special start is mentioned, so there is none.
    "paper": {
        "arch": "paper",
        "dropout": 0.5,
        "identity": False,
        "epochs": 500,
        "batch": 1,
        "crops": (256,),
        "optimizer": "adam",
        "beta1": 0.5,
        "beta2": 0.999,
        "warmup": 0,
        "decay": 0.7,
        "decay_shape": "linear",
        "clip": 0.0,
        "ema": 0.0,
        "pixel": 0.0,
        "fft": 0.0,
        "psnr": 0.0,
        "finetune": 1.0,
        "adversarial": 1.0,
        "perceptual": 100.0,
        "lr": 1e-4,
        "lr_finetune": 0.0,
        "share_pairs": 1.0,
        "val_every": 20_000,
        "reduced": False,
        "draws": 1,
        "augment": False,
        "reuse": 1,
        "amp": False,
        "out": Path("runs/paper"),
    },
}
"""Settings by name; flags given beside `--recipe` win."""


def parse_config(argv: list[str] | None = None) -> TrainConfig:
    """Build the settings from flags named after the fields of `TrainConfig`."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--recipe", choices=RECIPES, default="best", help="settings to begin from")
    chosen, rest = chooser.parse_known_args(argv)
    parser = argparse.ArgumentParser(
        prog="python -m train",
        parents=[chooser],
        description=TrainConfig.__doc__,
        epilog="A first run: python -m train --photos PHOTOS --val PAIRS --out runs/first",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,  # --recip would be taken, and the recipe not
    )
    types = get_type_hints(TrainConfig)
    for item in fields(TrainConfig):
        parser.add_argument(
            _flag(item.name),
            default=item.default,
            help=item.metadata["help"],
            **_argument(types[item.name]),
        )
    parser.set_defaults(**RECIPES[chosen.recipe])
    given = vars(parser.parse_args(rest))
    del given["recipe"]
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
        element = get_args(kind)[0]
        return {"type": element, "nargs": "+", "metavar": "DIR" if element is Path else "PX"}
    if kind == Path | None:
        return {"type": Path, "metavar": "FILE"}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    return {"type": kind, "metavar": kind.__name__.upper()}
