"""The networks: `paper`, after Li, Kong, Xue and Wang, and `fast`, ours, for processors.

Both take and give RGB in [-1, 1], shape (N, 3, H, W), H and W multiples of `multiple_of`.
"""

from __future__ import annotations

from train.architecture import GeneratorConfig
from train.fast import FastGenerator
from train.paper import PaperGenerator

Network = PaperGenerator | FastGenerator


def build(config: GeneratorConfig) -> Network:
    """The network that `config` describes, with fresh weights.

    Raises:
        ValueError: the widths and blocks do not fit the architecture.
    """
    if config.architecture == "paper":
        return PaperGenerator(config)
    return FastGenerator(config)
