"""Which networks there are, and how large: what checkpoints and exported models say of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    """Which network, and how large. Stored in checkpoints and in exported models."""

    architecture: Literal["paper", "fast"] = "fast"
    widths: tuple[int, ...] = (48, 96, 144)
    """Channels at each resolution, finest first."""
    blocks: tuple[int, ...] = (1, 2, 4, 1, 1)
    """Residual blocks: on the way down, at the bottom, and on the way up.

    `paper` has blocks at the bottom alone.
    """
    dropout: float = 0.0
    """Probability, inside the blocks of `paper`, during training only."""
    coring: float = 0.0
    """Of `fast`: grey levels below which a correction is mostly taken back; no weights."""

    def to_dict(self) -> dict[str, Any]:
        """As plain lists and numbers."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GeneratorConfig:
        """Inverse of `to_dict`."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)


PAPER = GeneratorConfig(architecture="paper", widths=(64, 128, 256), blocks=(9,), dropout=0.5)
FAST = GeneratorConfig()
ARCHITECTURES = {"paper": PAPER, "fast": FAST}
