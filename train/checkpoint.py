"""Checkpoints: written whole or not at all, and enough to go on exactly or to export."""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train.architecture import GeneratorConfig
from train.generator import Network, build

FORMAT_VERSION = 1


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """The state of a run after `step` optimizer steps. Plain data and tensors only."""

    step: int
    seconds: float
    """Spent in those steps, over all interruptions."""
    spent: float = 0.0
    """The same with validations and checkpoints."""
    generator_config: dict[str, Any]
    train_config: dict[str, Any]
    ema: dict[str, Tensor]
    """The running average of the weights: what is validated and exported."""
    generator: dict[str, Tensor] = field(default_factory=dict)
    """The weights being trained; empty in a checkpoint that is for use, a fifth of the size."""
    optimizer: dict[str, Any] = field(default_factory=dict)
    """Its moments; empty likewise."""
    adversary: dict[str, Any] = field(default_factory=dict)
    """The discriminator and its moments, in runs that have one."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    """One entry a validation: step, hours, and the figures of each picture set."""
    format_version: int = FORMAT_VERSION


def save(checkpoint: Checkpoint, path: Path, *, shard_mb: float = 0.0) -> None:
    """Write `path` in one move: a crash leaves the old file or the new one.

    With `shard_mb`, in place of `path`: parts below so many MB (10^6 bytes), and `path`.json that
    names them. It is replaced in one move too, when all parts are there.
    """
    memory = io.BytesIO()
    torch.save({name: getattr(checkpoint, name) for name in Checkpoint.__slots__}, memory)
    content = memory.getbuffer()
    earlier, parts = set(_parts(path)), []
    if shard_mb:
        parts = _write_parts(content, path, int(shard_mb * 1e6))
        names = [part.name for part in parts]
        write_whole(_manifest(path), json.dumps({"parts": names}, indent=1).encode())
        path.unlink(missing_ok=True)
    else:
        write_whole(path, content)
        _manifest(path).unlink(missing_ok=True)
    for part in earlier.difference(parts):
        part.unlink(missing_ok=True)


def exists(path: Path) -> bool:
    """Whether there is a checkpoint at `path`, whole or in parts."""
    return path.exists() or _manifest(path).exists()


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the processor; nothing in the file is executed.

    Raises:
        ValueError: the file is not a checkpoint of ours.
        OSError: there is no such file, one of its parts is missing, or it cannot be read.
    """
    try:
        source = io.BytesIO(b"".join(part.read_bytes() for part in _parts(path) or [path]))
        values = torch.load(source, map_location="cpu", weights_only=True)
        if values["format_version"] <= FORMAT_VERSION:
            return Checkpoint(**values)
    except OSError:  # it is missing, or not to be read
        raise
    except Exception as error:  # torch raises whatever its unpickler meets
        raise ValueError(f"{path} is not a checkpoint of `python -m train`") from error
    raise ValueError(f"{path} was written by a newer version of streamdeblur: update this one")


def _manifest(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _parts(path: Path) -> list[Path]:
    """The parts of a checkpoint, in order; none if it is one file, or not there."""
    manifest = _manifest(path)
    if path.exists() or not manifest.exists():
        return []
    return [path.with_name(name) for name in json.loads(manifest.read_text())["parts"]]


def _write_parts(content: memoryview, path: Path, size: int) -> list[Path]:
    """Write the parts beside those of an earlier save."""
    digest = hashlib.sha256(content).hexdigest()[:12]  # so that old and new ones never mix
    parts = []
    for number, begin in enumerate(range(0, len(content), size)):
        parts.append(path.with_name(f"{path.name}.{digest}.{number:03d}"))
        write_whole(parts[-1], content[begin : begin + size])
    return parts


def refuse_output(output: Path) -> None:
    """Refuse a file that cannot be written, before the work and not after it.

    Raises:
        OSError: there is no folder for it, or it is one.
    """
    if not output.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {output.parent} to write {output.name} in")
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a folder: name a file in it")


def refuse_source(output: Path, source: Path, what: str) -> None:
    """Refuse an output that would replace what it is made of.

    Raises:
        FileExistsError: it would; the message calls the source `what`.
    """
    is_source = output.resolve() == source.resolve()  # which may lie in parts, under no such name
    if is_source or (output.exists() and source.exists() and output.samefile(source)):
        raise FileExistsError(f"{output} is {what}; pass another -o")


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write `path` in one move: it holds all of the content, or what it held before.

    Raises:
        OSError: it cannot be written, on a full disk for example; the old file is as it was.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:  # which names no file where the disk is full
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def load_network(path: Path) -> tuple[Checkpoint, Network]:
    """A checkpoint and its network, with the averaged weights, in evaluation mode.

    Raises:
        ValueError: the file is not a checkpoint of ours, or its weights fit no network.
        OSError: as `load`.
    """
    saved = load(path)
    try:
        network = build(GeneratorConfig.from_dict(saved.generator_config))
        network.load_state_dict(saved.ema)
    except (RuntimeError, TypeError, KeyError) as error:  # torch's words on weights and shapes
        words = " ".join(str(error).split())[:300]
        raise ValueError(f"the weights in {path} do not fit its network: {words}") from error
    return saved, network.eval()
