"""Our generators against DeblurGAN's and NAFNet-style ones: the time of one frame, in one run.

Every network goes through the same exporter and the same rewrites into ONNX Runtime, with random
weights; the rounds are interleaved, so that all meet the same machine. Prints the median time and
its spread, and the median over the rounds of each network's time against DeblurGAN's.

    python -m bench.generators
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from bench.rivals import DeblurGanGenerator, NafStyleGenerator
from export import write
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import ModelError
from streamdeblur.spec import ModelSpec
from train import cost
from train.generator import FAST, PAPER, build

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "paper": lambda: build(PAPER),
    "fast": lambda: build(FAST),
    "deblurgan-1": lambda: DeblurGanGenerator(1),
    "deblurgan-2": lambda: DeblurGanGenerator(2),
    "nafnet-32": lambda: NafStyleGenerator(32, (1, 1, 1, 28)),  # about the cost of `paper`
    "naf-16": lambda: NafStyleGenerator(16, (1, 1, 1, 3)),  # about the cost of `fast`
}
BASE = "deblurgan-1"
"""The network that the paper compares its own with."""
PARAMETERS = {"paper": 3_133_582, "deblurgan-1": 6_067_459, "deblurgan-2": 11_378_179}
"""As published; anything else would be another network under their name."""


def main() -> int:
    """Export, measure on each device, print; the exit status."""
    options = _parser().parse_args()
    unknown = set(options.networks) - set(NETWORKS)
    if unknown or BASE not in options.networks:
        print(f"--networks takes {BASE} and any of {', '.join(NETWORKS)}", file=sys.stderr)
        return 2
    width, height = options.size
    print(
        f"{width}x{height}, {options.rounds} rounds, onnxruntime {onnxruntime.__version__}, "
        f"torch {torch.__version__}, {os.cpu_count()} cores, {platform.machine()}"
    )
    results = []
    with tempfile.TemporaryDirectory() as folder:
        facts = {name: _export(name, Path(folder)) for name in options.networks}
        for device in ("cpu", "cuda"):
            try:
                loaded = {
                    name: Deblurrer.load(
                        Path(folder) / f"{name}.onnx", device=device, threads=options.threads
                    )
                    for name in options.networks
                }
            except ModelError as error:
                print(f"not measured on {device}: {error}")
                continue
            times = _measure(loaded, width, height, options.rounds)
            provider = loaded[BASE].provider
            Console(width=110).print(_table(provider, facts, times, width * height))
            results.append({"provider": provider, "milliseconds": times})
    if options.json:
        shown = {"size": [width, height], "networks": facts, "results": results}
        options.json.write_text(json.dumps(shown, indent=1) + "\n")
    return 0


def _export(name: str, folder: Path) -> dict[str, float]:
    """Write the network's file; its parameters, and its multiply-adds a pixel."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    parameters = sum(weight.numel() for weight in network.parameters())
    if parameters != PARAMETERS.get(name, parameters):
        raise AssertionError(f"{name} has {parameters:,} parameters, not {PARAMETERS[name]:,}")
    _, multiply_adds = cost.total(cost.layers(network, 256, 256))
    spec = ModelSpec(name=name, multiple_of=network.multiple_of)
    (folder / f"{name}.onnx").write_bytes(write.to_onnx(network, spec))
    return {"parameters": parameters, "multiply_adds_per_pixel": multiply_adds / 256**2}


def _measure(
    networks: dict[str, Deblurrer], width: int, height: int, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds of one frame in each round, after one for warm-up, in turns."""
    frame = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for index in range(rounds + 1):
        for name, network in networks.items():
            began = time.perf_counter()
            network(frame)
            if index:
                times[name].append(1e3 * (time.perf_counter() - began))
    return times


def _table(
    provider: str, facts: dict[str, dict[str, float]], times: dict[str, list[float]], pixels: int
) -> Table:
    shown = Table("network", title=provider)
    for column in ("parameters", "MiB fp32", "GMACs", "median ms", "spread", f"x {BASE}"):
        shown.add_column(column, justify="right")
    for name, rounds in times.items():
        ratios = [mine / base for mine, base in zip(rounds, times[BASE], strict=True)]
        parameters = facts[name]["parameters"]
        shown.add_row(
            name,
            f"{parameters:,}",
            f"{parameters * 4 / 2**20:.2f}",
            f"{facts[name]['multiply_adds_per_pixel'] * pixels / 1e9:.2f}",
            f"{median(rounds):.1f}",
            f"{min(rounds):.1f} to {max(rounds):.1f}",
            f"{median(ratios):.3f}",
        )
    return shown


def _size(text: str) -> tuple[int, int]:
    """Width and height from `WxH`."""
    width, height = map(int, text.split("x"))
    return width, height


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", type=_size, default=(1280, 720), metavar="WxH")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument("--threads", type=int, help="of the processor (default: all)")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
