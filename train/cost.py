"""What a network's layers cost, by the paper's equations 2 to 4.

A standard convolution of D_K x D_K from M to N channels has D_K^2 M N weights (equation 2), a
depthwise separable one D_K^2 M + M N (equation 3); the ratio is 1/N + 1/D_K^2 (equation 4, as in
MobileNets, arXiv 1704.04861). Times the places where it is applied, these are multiply-adds.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from train.paper import SeparableConv

Convolution = nn.Conv2d | nn.ConvTranspose2d


@dataclass(slots=True)
class Layer:
    """A convolution, or a separable pair, and how often it is applied."""

    name: str
    kind: str
    kernel: int
    """D_K: its side, in pixels; of a pair, the depthwise one's."""
    inputs: int
    """M, in channels."""
    outputs: int
    """N, in channels."""
    parameters: int
    """Weights and biases."""
    weights: int
    """Without biases: what is multiplied at each place."""
    places: int = 0
    """Where it is applied, over all its uses; a transposed convolution, at its input's pixels."""

    @property
    def standard(self) -> int:
        """Equation 2: the weights of a standard convolution of this size."""
        return self.kernel**2 * self.inputs * self.outputs

    @property
    def separable(self) -> int:
        """Equation 3: the weights of a depthwise and a pointwise convolution in its place."""
        return self.kernel**2 * self.inputs + self.inputs * self.outputs

    @property
    def ratio(self) -> float:
        """Equation 4: `separable` to `standard`, 1/N + 1/D_K^2."""
        return 1 / self.outputs + 1 / self.kernel**2

    @property
    def multiply_adds(self) -> int:
        """For the picture that the layers were counted on."""
        return self.weights * self.places


def layers(network: nn.Module, height: int = 256, width: int = 256) -> list[Layer]:
    """The convolutions of `network`, in the order of its modules, on one picture of that size.

    Nothing is computed: the shapes alone pass through a copy without weights. The size should be
    a multiple of the network's `multiple_of`.
    """
    network = copy.deepcopy(network).to("meta").eval()
    found = []
    inside: set[nn.Module] = set()
    for name, module in network.named_modules():
        if isinstance(module, SeparableConv) or (_is_convolution(module) and module not in inside):
            inside.update(module.modules())
            found.append(_watched(name, module))
    with torch.no_grad():
        network(torch.empty(1, 3, height, width, device="meta"))
    return found


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, Convolution)


def _watched(name: str, module: nn.Module) -> Layer:
    """The layer that `module` is; its places are counted whenever it runs."""
    parts = [part for part in module.modules() if isinstance(part, Convolution)]
    first, last = parts[0], parts[-1]
    layer = Layer(
        name=name,
        kind=_kind(first) if first is last else "separable",
        kernel=first.kernel_size[0],
        inputs=first.in_channels,
        outputs=last.out_channels,
        parameters=sum(weight.numel() for weight in module.parameters()),
        weights=sum(part.weight.numel() for part in parts),
    )

    def count(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        pixels = inputs[0] if isinstance(first, nn.ConvTranspose2d) else output
        layer.places += pixels.shape[2] * pixels.shape[3]

    module.register_forward_hook(count)
    return layer


def _kind(module: Convolution) -> str:
    if isinstance(module, nn.ConvTranspose2d):
        return "transposed"
    if module.groups == 1:
        return "standard"
    return "depthwise" if module.groups == module.in_channels else "grouped"


def table(found: list[Layer], title: str) -> Table:
    """The layers with their sums; equations 3 and 4 of a standard one say what it could be."""
    shown = Table("layer", "kind", title=title)
    for column in ("D_K", "M", "N", "eq. 2", "eq. 3", "eq. 4", "parameters", "mult-adds, M"):
        shown.add_column(column, justify="right", no_wrap=True)
    for layer in found:
        alone = layer.kind in ("standard", "separable")
        equations = f"{layer.standard:,}", f"{layer.separable:,}", f"{layer.ratio:.4f}"
        shown.add_row(
            layer.name,
            layer.kind,
            *(str(number) for number in (layer.kernel, layer.inputs, layer.outputs)),
            *(equations if alone else ("-",) * 3),
            f"{layer.parameters:,}",
            f"{layer.multiply_adds / 1e6:,.2f}",
        )
    shown.add_section()
    parameters, multiply_adds = total(found)
    sums = f"{parameters:,}", f"{multiply_adds / 1e6:,.1f}"
    shown.add_row("all", *[""] * 7, *sums, style="bold")
    return shown


def brief(network: nn.Module) -> str:
    """Size and cost in a line."""
    side = 256
    parameters, multiply_adds = total(layers(network, side, side))
    return (
        f"{parameters:,} parameters, {parameters * 4 / 2**20:.2f} MiB in fp32, "
        f"{multiply_adds / side**2:,.0f} multiply-adds a pixel"
    )


def total(found: list[Layer]) -> tuple[int, int]:
    """Parameters and multiply-adds of all layers together."""
    return sum(each.parameters for each in found), sum(each.multiply_adds for each in found)
