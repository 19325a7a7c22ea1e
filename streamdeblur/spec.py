"""What a model file says of itself: the only place that knows the ONNX metadata keys.

`export` writes these facts, the runtime reads them; standard library only, so both can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from streamdeblur.errors import ModelError

FORMAT_VERSION = 1
INPUT_NAME = "frames"
"""The graph's input: uint8 RGB, shape [batch, height, width, 3]."""
OUTPUT_NAME = "sharp"
"""The graph's output: the same type and shape as the input."""
FINITE_NAME = "finite"
"""A second output that fp16 graphs have: bool [batch], whether all was finite before the cast."""
_PREFIX = "streamdeblur."


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Facts of a generator that travel inside its ONNX file."""

    name: str
    """As shown to people, for example `fast`."""
    precision: str = "fp32"
    """Of the arithmetic inside the graph: fp32, fp16 or int8."""
    accepted: list[str] = field(default_factory=list)
    """Precisions below fp32 that may be chosen for this file without being asked for: their loss
    was measured and accepted when it was exported. Of an fp32 file, `bf16` can be one."""
    gate: dict[str, Any] = field(default_factory=dict)
    """What that loss was: `pairs`, how many `pictures`, the mean `gain` over the blurred ones in
    dB for each precision, and the `limit`, the share of it that could be given up."""
    twin: str | None = None
    """Name of the file beside this one that holds the same network in fp32."""
    multiple_of: int = 1
    """The graph pads to a multiple of this, in pixels, by itself; tiles start on one."""
    receptive_field: int | None = None
    """Side of the square of input pixels that one output pixel sees; None if it sees them all."""
    generator: dict[str, Any] = field(default_factory=dict)
    """Configuration of the generator, as `train.generator.GeneratorConfig` writes it."""
    training: dict[str, Any] = field(default_factory=dict)
    """Provenance: recipe, steps, data. No dates, so that an export can be reproduced."""
    format_version: int = FORMAT_VERSION

    def to_metadata(self) -> dict[str, str]:
        """As ONNX `metadata_props`, which hold strings only."""
        return {_PREFIX + key: json.dumps(value) for key, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, props: Mapping[str, str]) -> ModelSpec | None:
        """Read back what `to_metadata` wrote; None if the file is not one of ours.

        Keys that this version does not know are ignored.

        Raises:
            ModelError: the facts are damaged, or written by a newer version.
        """
        known = {item.name for item in fields(cls)}
        try:
            values = {
                key.removeprefix(_PREFIX): json.loads(text)
                for key, text in props.items()
                if key.startswith(_PREFIX) and key.removeprefix(_PREFIX) in known
            }
        except json.JSONDecodeError as error:
            raise ModelError(f"the model's streamdeblur metadata is damaged: {error}") from error
        if "name" not in values:
            return None
        version = values.get("format_version", 0)
        if not isinstance(version, int):
            raise ModelError(f"the model's format version is {version!r}, not a number")
        if version > FORMAT_VERSION:
            raise ModelError(
                f"the model has format {version}, newer than this program reads "
                f"({FORMAT_VERSION}): upgrade streamdeblur"
            )
        return cls(**values)
