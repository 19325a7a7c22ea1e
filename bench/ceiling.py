"""How near the networks come to what the machine can do, in one run.

Times a matrix product and a copy of memory, by the libraries that have made an art of both, and
the networks, in turns. No convolution can be quicker than its multiply-adds at the speed of the
product, nor than the reading and writing of its activations at that of the copy: the larger of the
two is the floor of a network, and its share of the measured time is what this is there for. A share
above 1 means that these convolutions use the machine better than the product of that library does.

    python -m bench.ceiling
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench import harness
from bench.generators import NETWORKS
from export import write
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.spec import ModelSpec
from streamdeblur.values import whole
from train import cost


def main() -> int:
    """Measure in turns, print; the exit status."""
    parser = harness.parser("bench.ceiling", __doc__, rounds=5)
    parser.add_argument("--size", type=harness.size, default=(640, 480), metavar="WxH")
    parser.add_argument("--threads", type=whole(1), help="of the processor (default: all)")
    parser.add_argument("--matrix", type=int, default=2048, metavar="N", help="side of the product")
    parser.add_argument("--networks", nargs="+", default=["fast", "paper", "deblurgan-1"],
        choices=list(NETWORKS), metavar="NAME")  # fmt: skip
    options = parser.parse_args()
    facts = harness.say_machine()
    threads = options.threads or facts["cores"]
    torch.set_num_threads(threads)
    width, height = options.size
    frame = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    cases: dict[str, Callable[[], object]] = {**_products(options.matrix), "memory copy": _copy()}
    work = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            torch.manual_seed(0)
            network: Any = NETWORKS[name]().eval()
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(write.to_onnx(network, ModelSpec(name=name)))
            deblurrer = Deblurrer.load(path, device="cpu", precision="fp32", threads=threads)
            cases[name] = partial(deblurrer, frame)
            work[name] = work_of(network, height, width)
        times = harness.take_turns(cases, options.rounds, clock=options.clock)
    seconds = {name: median(each) for name, each in times.items()}
    flops = max(2 * options.matrix**3 / seconds[name] for name in ("sgemm, numpy", "sgemm, torch"))
    speed = 2 * _COPIED / seconds["memory copy"]
    rows = [_limit(name, times[name], options.matrix) for name in cases if name not in work]
    rows += [_network(name, times[name], *work[name], flops, speed) for name in work]
    title = f"{width}x{height}, fp32, {threads} threads, ms of {options.clock} time"
    harness.show(title, COLUMNS, rows)
    harness.write(options.json, facts, title=title, rows=rows, seconds=times)
    return 0


_COPIED = 256 << 20  # bytes: more than caches hold
COLUMNS = {
    "what": "",
    **harness.TIME,
    "GFLOP/s": ".0f",
    "GB/s": ".1f",
    "floor, ms": ".1f",
    "bound by": "",
    "share": ".2f",
}


def _products(side: int) -> dict[str, Callable[[], object]]:
    left, right = (np.random.default_rng(n).random((side, side), np.float32) for n in (0, 1))
    tensors = torch.from_numpy(left), torch.from_numpy(right)
    halves = [each.bfloat16() for each in tensors]
    return {
        "sgemm, numpy": lambda: left @ right,
        "sgemm, torch": lambda: tensors[0] @ tensors[1],
        "bf16 product, torch": lambda: halves[0] @ halves[1],
    }


def _copy() -> Callable[[], object]:
    source = torch.zeros(_COPIED, dtype=torch.uint8)
    return partial(torch.empty_like(source).copy_, source)


def _limit(name: str, seconds: list[float], side: int) -> dict[str, Any]:
    row: dict[str, Any] = {"what": name, "bound by": "", **harness.in_milliseconds(seconds)}
    if name == "memory copy":
        return row | {"GB/s": 2 * _COPIED / median(seconds) / 1e9}
    return row | {"GFLOP/s": 2 * side**3 / median(seconds) / 1e9}


def _network(
    name: str, seconds: list[float], operations: float, moved: float, flops: float, speed: float
) -> dict[str, Any]:
    """A network's row: its floor, and how much of its time that is."""
    floor = max(operations / flops, moved / speed)
    return {
        "what": name,
        **harness.in_milliseconds(seconds),
        "GFLOP/s": operations / median(seconds) / 1e9,
        "GB/s": moved / median(seconds) / 1e9,
        "floor, ms": 1e3 * floor,
        "bound by": "operations" if operations / flops >= moved / speed else "memory",
        "share": floor / median(seconds),
    }


def work_of(network: nn.Module, height: int, width: int) -> tuple[float, float]:
    """Operations of a picture, two a multiply-add, and bytes in and out of its convolutions."""
    side = 256
    numbers = 0

    def count(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal numbers
        numbers += inputs[0].numel() + output.numel()

    shell = copy.deepcopy(network).to("meta")
    for module in shell.modules():
        if isinstance(module, cost.Convolution):
            module.register_forward_hook(count)
    with torch.no_grad():
        shell(torch.empty(1, 3, side, side, device="meta"))
    _, multiply_adds = cost.total(cost.layers(network, side, side))
    share = height * width / side**2
    return 2 * multiply_adds * share, 4 * numbers * share


if __name__ == "__main__":
    harness.command(main)
