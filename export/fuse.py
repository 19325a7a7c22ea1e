"""Exact rewrites: the same function of the picture in fewer, faster operations.

Every function here works on a deep copy and leaves what it was given as it was. Exact means equal
but for the order in which floats are added. The figures are of ONNX Runtime on a processor with
16 floats a vector.
"""

from __future__ import annotations

import copy
import operator
from typing import Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from train.generator import Network
from train.paper import SeparableConv

HALF_RANGE = 127.5
"""Levels between the middle grey and white: a network's 1.0."""
FuseSeparable = Literal["auto", "never", "always"]
M = TypeVar("M", bound=nn.Module)


def optimise(network: Network, *, fuse_separable: FuseSeparable = "auto") -> fx.GraphModule:
    """All rewrites that pay, in order; the result has the contract of `in_levels`.

    `auto` keeps separable pairs: on processors, the only place measured, the dense form of 256
    channels takes 7 times as long. Tensor cores may prefer it: then ask for `always`.
    """
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    copied = dense_separable(copied) if fuse_separable == "always" else fold_bias(copied)
    traced = without_dropout(fx.symbolic_trace(copied))
    return in_levels(widen_head(strided_door(traced)))


def fold_bias(network: M) -> M:
    """Move depthwise biases into the pointwise ones: nothing non-linear stands between the two.

    Ours have none; checkpoints made elsewhere may.
    """
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, SeparableConv) and module.depthwise.bias is not None:
            module.pointwise.bias = nn.Parameter(_pair_bias(module), requires_grad=False)
            module.depthwise.bias = None
    return network


def dense_separable(network: M) -> M:
    """Collapse each separable pair into one dense 3x3 convolution, which it is a factoring of."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, pair in parent.named_children():
            if isinstance(pair, SeparableConv):
                depthwise, pointwise = pair.depthwise, pair.pointwise
                setattr(
                    parent,
                    name,
                    # (out, in, 1, 1) * (1, in, 3, 3): depthwise weights are (in, 1, 3, 3)
                    _conv(
                        pointwise.weight * depthwise.weight.transpose(0, 1),
                        _pair_bias(pair),
                        padding=_padding(depthwise),
                    ),
                )
    return network


def without_dropout(traced: fx.GraphModule) -> fx.GraphModule:
    """Remove what does nothing outside training."""
    traced = copy.deepcopy(traced)
    for node in traced.graph.nodes:
        if isinstance(_module(traced, node), nn.Dropout):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    return _finish(traced)


def strided_door(traced: fx.GraphModule) -> fx.GraphModule:
    """PixelUnshuffle(r) and a k x k convolution -> one convolution of rk x rk at stride r.

    The multiplications are the same and take the same time, without moving the picture about
    first: torch would export that as a transposition in six dimensions, 3 ms at 640x480.
    """
    traced = copy.deepcopy(traced)
    for node in traced.graph.nodes:
        users = list(node.users)
        conv = _plain_conv(traced, users[0]) if len(users) == 1 else None
        if node.target is not F.pixel_unshuffle or conv is None:
            continue
        source, r = node.args
        out, channels, k, _ = conv.weight.shape
        # A channel is (c, row in cell, column in cell): rows go with rows, columns with columns.
        cells = conv.weight.reshape(out, channels // r**2, r, r, k, k)
        weight = cells.permute(0, 1, 4, 2, 5, 3).reshape(out, channels // r**2, r * k, r * k)
        strided = _conv(weight, conv.bias, stride=r, padding=r * _padding(conv))
        _replace(traced, users[0], strided)
        users[0].args = (source,)
        traced.graph.erase_node(node)
    return _finish(traced)


def widen_head(traced: fx.GraphModule, *, r: int = 4) -> fx.GraphModule:
    """A convolution to 3 channels -> one to 3 r² channels at stride r, and PixelShuffle(r).

    Three channels would fill 3 lanes of a vector's 16. A kernel as large as what all r x r places
    of a cell see together, k + r - 1, fills them: for the 7x7 of 64 channels twice the
    multiplications in 28 % of the time at r = 4, in 34 % at r = 2. It needs no SpaceToDepth, as
    a 5x5 over the cells would. The picture's sides must be multiples of r.
    """
    traced = copy.deepcopy(traced)
    for node in traced.graph.nodes:
        conv = _plain_conv(traced, node)
        if conv is None or conv.out_channels != 3:
            continue
        _, channels, k, _ = conv.weight.shape
        weight = conv.weight.new_zeros(3, r, r, channels, k + r - 1, k + r - 1)
        for row in range(r):
            for column in range(r):
                weight[:, row, column, :, row : row + k, column : column + k] = conv.weight
        bias = None if conv.bias is None else conv.bias.repeat_interleave(r * r)
        wide = _conv(weight.flatten(0, 2), bias, stride=r, padding=_padding(conv))
        _replace(traced, node, wide)
        with traced.graph.inserting_after(node):
            shuffle = traced.graph.call_function(F.pixel_shuffle, (node, r))
        node.replace_all_uses_with(
            shuffle, delete_user_cb=lambda user, new=shuffle: user is not new
        )
    return _finish(traced)


def in_levels(traced: fx.GraphModule) -> fx.GraphModule:
    """From `x + residual(x)`, clamped to [-1, 1] or not, to the residual alone, in grey levels.

    The result takes levels less 127.5, so that the zeros of a convolution's padding stay middle
    grey, and gives what to add to the levels for truncation to round them (half a level more than
    the correction). The scales disappear into the first and, if it is linear, the last weights.

    Raises:
        ValueError: the network does not end as above.
    """
    traced = copy.deepcopy(traced)
    nodes = traced.graph.nodes
    blurred = next(node for node in nodes if node.op == "placeholder")
    output = next(node for node in nodes if node.op == "output")
    clamp = output.args[0]
    clamped = clamp.target is torch.clamp and clamp.args[1:] == (-1.0, 1.0)
    total = clamp.args[0] if clamped else clamp
    if total.target is not operator.add or total.args[0] is not blurred:
        raise ValueError("the network does not add its input to its residual")
    residual = total.args[1]
    output.args = (residual,)
    traced.graph.eliminate_dead_code()
    for first in blurred.users:
        cast(nn.Conv2d, _module(traced, first)).weight.div_(HALF_RANGE)
    last = residual.args[0] if residual.target is F.pixel_shuffle else residual
    conv = _module(traced, last)
    if isinstance(conv, nn.Conv2d) and conv.bias is not None:
        conv.weight.mul_(HALF_RANGE)
        conv.bias.mul_(HALF_RANGE).add_(0.5)
    else:
        with traced.graph.inserting_before(output):
            scaled = traced.graph.call_function(operator.mul, (residual, HALF_RANGE))
            output.args = (traced.graph.call_function(operator.add, (scaled, 0.5)),)
    return _finish(traced)


def with_unbounded(traced: fx.GraphModule) -> fx.GraphModule:
    """Give (correction, unbounded): also the last numbers that an overflow leaves its mark on.

    They are the correction itself, unless that comes out of tanh, which makes 1 of infinity.
    """
    traced = copy.deepcopy(traced)
    nodes = traced.graph.nodes
    output = next(node for node in nodes if node.op == "output")
    bounded = [
        node
        for node in nodes
        if node.target is torch.tanh or isinstance(_module(traced, node), nn.Tanh)
    ]
    unbounded = bounded[-1].args[0] if bounded else output.args[0]
    output.args = ((output.args[0], unbounded),)
    return _finish(traced)


def count_shuffles(traced: fx.GraphModule) -> int:
    """How many PixelShuffles it has."""
    return sum(
        node.target is F.pixel_shuffle or isinstance(_module(traced, node), nn.PixelShuffle)
        for node in traced.graph.nodes
    )


def _pair_bias(pair: SeparableConv) -> Tensor:
    """Of both convolutions together."""
    bias = cast(Tensor, pair.pointwise.bias).detach()
    if pair.depthwise.bias is None:
        return bias
    return bias + pair.pointwise.weight.detach()[:, :, 0, 0] @ pair.depthwise.bias.detach()


def _conv(weight: Tensor, bias: Tensor | None, *, stride: int = 1, padding: int) -> nn.Conv2d:
    """A convolution with these weights, shape (out, in, k, k)."""
    out, channels, k, _ = weight.shape
    conv = nn.Conv2d(channels, out, k, stride, padding, bias=False)
    conv.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return conv


def _padding(conv: nn.Conv2d) -> int:
    """Of every side, in pixels."""
    size = conv.padding[0]
    if not isinstance(size, int) or conv.padding != (size, size):
        raise ValueError(f"padding {conv.padding!r} is not one number for all sides")
    return size


def _plain_conv(traced: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    """The convolution that `node` calls, if its stride and dilation are 1 and its group is one."""
    conv = _module(traced, node)
    if isinstance(conv, nn.Conv2d) and conv.stride == conv.dilation == (1, 1) and conv.groups == 1:
        return conv
    return None


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that `node` calls, if it calls one."""
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _replace(traced: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    """Let `node` call `module` in the place of its own."""
    parent, _, name = str(node.target).rpartition(".")
    setattr(traced.get_submodule(parent), name, module)


def _finish(traced: fx.GraphModule) -> fx.GraphModule:
    traced.graph.lint()
    traced.recompile()
    return traced
