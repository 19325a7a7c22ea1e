"""Our generators against DeblurGAN's and NAFNet-style ones: the time of one frame, in one run.

Every network goes through the same exporter, the same rewrites and, for int8, the same
quantisation, with random weights but for `fast`, and runs in every way that can be had here: by
provider and precision in ONNX Runtime, and in torch, eager and compiled. All take turns. Prints
the median time and its spread, and against DeblurGAN's generator the median over the rounds of the
ratio in the same way, and of that to DeblurGAN in plain fp32 on the processor.

    python -m bench.generators
    python -m bench.generators --networks paper deblurgan-1 --ways cpu:fp32 cpu:int8 --size 640x360
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import harness
from bench.rivals import DeblurGanGenerator, NafStyleGenerator
from export import write
from export.quantise import Quantiser, calibration_frames
from export.verify import Frames
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import ModelError
from streamdeblur.spec import ModelSpec
from streamdeblur.values import whole
from train import cost
from train.architecture import PAPER
from train.generator import build

WEIGHTS = Path(__file__).parent.parent / "weights"
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "paper": lambda: build(PAPER),
    "fast": lambda: write.load(WEIGHTS / "fast.pt")[1],
    "deblurgan-1": lambda: DeblurGanGenerator(1),
    "deblurgan-2": lambda: DeblurGanGenerator(2),
    "nafnet-32": lambda: NafStyleGenerator(32, (1, 1, 1, 28)),  # about the cost of `paper`
    "naf-16": lambda: NafStyleGenerator(16, (1, 1, 1, 3)),  # about the cost of `fast`
} | {
    path.stem: lambda path=path: write.load(path)[1]  # type: ignore[misc]
    for path in WEIGHTS.glob("quality.pt")
}
WAYS = (
    "cpu:fp32",
    "cpu:int8",
    "openvino:fp32",
    "openvino:bf16",
    "cuda:fp32",
    "cuda:fp16",
    "tensorrt:fp16",
    "torch:eager",
    "torch:compiled",
)
BASE, PLAIN = "deblurgan-1", "cpu:fp32"
"""The network that the paper compares its own with, and the way that everyone has."""
PARAMETERS = {"paper": 3_133_582, "deblurgan-1": 6_067_459, "deblurgan-2": 11_378_179}
"""As published; anything else would be another network under their name."""


def main() -> int:
    """Export, measure in turns, print; the exit status."""
    options = _parser().parse_args()
    if BASE not in options.networks or PLAIN not in options.ways:
        print(f"--networks must have {BASE}, and --ways {PLAIN}: all else is compared with them")
        return 2
    facts = harness.say_machine()
    width, height = options.size
    if options.threads:
        torch.set_num_threads(options.threads)
    cases: dict[tuple[str, str], Callable[[Frames], object]] = {}
    costs, missing = {}, dict[str, str]()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            network = _made(name)
            costs[name] = _cost(network, width * height)
            files = _Files(network, name, Path(folder))
            for way in options.ways:
                try:
                    cases[name, way] = _case(files, way, options.threads)
                except ModelError as error:
                    missing.setdefault(way, str(error))
        for way, reason in missing.items():
            print(f"not measured: {way}: {reason}")
        if (BASE, PLAIN) not in cases:
            return 1
        frame = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
        times = harness.take_turns(
            {" ".join(case): lambda run=run: run(frame) for case, run in cases.items()},  # type: ignore[misc]
            options.rounds,
            clock=options.clock,
        )
    rows = [_row(name, way, times, costs[name]) for name, way in cases]
    title = (
        f"{width}x{height}, {options.threads or facts['cores']} threads, ms of {options.clock} time"
    )
    harness.show(title, COLUMNS, rows)
    harness.write(options.json, facts, title=title, rows=rows, seconds=times)
    return 0


def _made(name: str) -> Any:
    """The network, if it is the one that is known under that name."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval().requires_grad_(False)
    parameters = sum(weight.numel() for weight in network.parameters())
    if parameters != PARAMETERS.get(name, parameters):
        raise AssertionError(f"{name} has {parameters:,} parameters, not {PARAMETERS[name]:,}")
    return network


def _cost(network: nn.Module, pixels: int) -> dict[str, float]:
    parameters, multiply_adds = cost.total(cost.layers(network, 256, 256))
    return {"parameters": parameters, "GMACs": multiply_adds / 256**2 * pixels / 1e9}


class _Files:
    """A network, and its files by precision, written when they are asked for."""

    def __init__(self, network: Any, name: str, folder: Path) -> None:
        self.network = network
        self._spec = ModelSpec(name=name, multiple_of=network.multiple_of)
        self._fp32 = folder / f"{name}.onnx"
        self._fp32.write_bytes(write.to_onnx(network, self._spec))

    def in_precision(self, precision: str) -> Path:
        """The file that `--precision` needs; the plain one for what is computed from it."""
        if precision not in ("fp16", "int8"):
            return self._fp32
        path = self._fp32.with_suffix(f".{precision}.onnx")
        spec = ModelSpec(
            name=self._spec.name, precision=precision, multiple_of=self._spec.multiple_of
        )
        if precision == "fp16":
            path.write_bytes(write.to_onnx(self.network, spec))
        else:
            frames = [each[:, :180, :320] for each in calibration_frames(None, 4)]
            quantiser = Quantiser(self._fp32.read_bytes(), frames)
            path.write_bytes(write.labelled(quantiser.quantised(quantiser.candidates), spec))
        return path


def _case(files: _Files, way: str, threads: int | None) -> Callable[[Frames], object]:
    """What runs a frame (1, H, W, 3) in that way.

    Raises:
        ModelError: it cannot be had here.
    """
    device, precision = way.split(":")
    if device != "torch":
        path = files.in_precision(precision)
        return Deblurrer.load(path, device=device, precision=precision, threads=threads, tile="off")
    run: Any = InTorch(files.network)
    if precision == "compiled":
        run = torch.compile(run)
    return lambda frame: run(torch.from_numpy(frame))


class InTorch(nn.Module):
    """Bytes to bytes, as one would write it in torch around a network in fp32."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) to the same."""
        _, height, width, _ = frames.shape
        multiple = self.network.multiple_of
        pictures = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
        pictures = F.pad(pictures, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        sharp = self.network(pictures)[:, :, :height, :width]
        return ((sharp + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


COLUMNS = {
    "network": "",
    "way": "",
    "parameters": ",.0f",
    "GMACs": ".1f",
    **harness.TIME,
    f"x {BASE} alike": ".3f",
    f"x {BASE} {PLAIN}": ".3f",
}


def _row(name: str, way: str, times: harness.Times, costs: dict[str, float]) -> dict[str, Any]:
    case, alike = f"{name} {way}", f"{BASE} {way}"
    return {
        "network": name,
        "way": way,
        **costs,
        **harness.in_milliseconds(times[case]),
        f"x {BASE} alike": harness.ratio(times, case, alike) if alike in times else None,
        f"x {BASE} {PLAIN}": harness.ratio(times, case, f"{BASE} {PLAIN}"),
    }


def _parser() -> argparse.ArgumentParser:
    parser = harness.parser("bench.generators", __doc__, rounds=7)
    parser.add_argument("--size", type=harness.size, default=(1280, 720), metavar="WxH")
    parser.add_argument("--threads", type=whole(1), help="of the processor (default: all)")
    names = list(NETWORKS)
    parser.add_argument("--networks", nargs="+", default=names, choices=names, metavar="NAME")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, metavar="WAY",
        help=f"any of {', '.join(WAYS)}; default: all that can be had here")  # fmt: skip
    return parser


if __name__ == "__main__":
    harness.command(main)
