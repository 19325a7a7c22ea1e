from __future__ import annotations

import copy
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from torch import fx, nn

from export import fuse
from export.graph import ExportGraph
from train.architecture import GeneratorConfig
from train.generator import build
from train.layers import SLOPE
from train.paper import SeparableConv

TINY_FAST = GeneratorConfig(architecture="fast", widths=(8, 12), blocks=(1, 1, 1))
TINY_PAPER = GeneratorConfig(architecture="paper", widths=(8, 8, 16), blocks=(1,), dropout=0.5)
SHAPES = [TINY_FAST, replace(TINY_FAST, coring=2.0), TINY_PAPER]
CLOSE = {"rtol": 0, "atol": 1e-5}
"""Exact but for the order of additions, at values of about 1."""


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def restless(config):
    """A network with fresh weights that does something: fresh ones are the identity."""
    network = build(config).eval()
    last = network.exit if config.architecture == "fast" else network.head
    nn.init.normal_(last.weight, std=0.05)
    nn.init.normal_(last.bias, std=0.05)
    return network


def pictures(channels=3, height=32, width=48):
    return torch.rand(2, channels, height, width) * 2 - 1


def biased_pair():
    pair = SeparableConv(6)
    pair.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=True)
    return nn.Sequential(pair, nn.LeakyReLU(SLOPE), SeparableConv(6))


@torch.no_grad()
@pytest.mark.parametrize("rewrite", [fuse.fold_bias, fuse.dense_separable])
def test_separable_rewrites_are_exact_and_leave_the_original(rewrite):
    network = biased_pair()
    before = copy.deepcopy(network.state_dict())
    x = pictures(6)
    torch.testing.assert_close(rewrite(network)(x), network(x), **CLOSE)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_fold_bias_leaves_no_depthwise_bias():
    folded = fuse.fold_bias(biased_pair())
    assert all(pair.depthwise.bias is None for pair in (folded[0], folded[2]))


def test_dense_separable_leaves_no_groups():
    dense = fuse.dense_separable(biased_pair())
    assert [conv.kernel_size for conv in dense if isinstance(conv, nn.Conv2d)] == [(3, 3)] * 2
    assert all(conv.groups == 1 for conv in dense.modules() if isinstance(conv, nn.Conv2d))


@torch.no_grad()
def test_dropout_disappears():
    network = restless(TINY_PAPER)
    traced = fuse.without_dropout(fx.symbolic_trace(network))
    assert "drop" not in traced.code
    x = pictures()
    torch.testing.assert_close(traced.train()(x), network(x), **CLOSE)


@torch.no_grad()
def test_strided_door_replaces_the_shuffle_also_at_the_border():
    network = restless(TINY_FAST)
    traced = fuse.strided_door(fx.symbolic_trace(network))
    assert "pixel_unshuffle" not in traced.code
    assert traced.entry.kernel_size == (12, 12)
    x = pictures()
    torch.testing.assert_close(traced(x), network(x), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("r", [2, 4])
def test_widened_head_is_the_same_also_at_the_border(r):
    network = restless(TINY_PAPER)
    traced = fuse.widen_head(fx.symbolic_trace(network), r=r)
    assert traced.head.out_channels == 3 * r * r
    x = pictures()
    torch.testing.assert_close(traced(x), network(x), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("separable", ["never", "always"])
@pytest.mark.parametrize("config", SHAPES, ids=["fast", "cored", "paper"])
def test_all_rewrites_together_give_the_correction_in_levels(config, separable):
    network = restless(config)
    before = copy.deepcopy(network.state_dict())
    x = pictures()
    correct = fuse.optimise(network, fuse_separable=separable)
    sharp = ((x + 1) * 127.5 + correct(x * 127.5) - 0.5).clamp(0, 255)
    expected = ((network(x).clamp(-1, 1)) + 1) * 127.5
    torch.testing.assert_close(sharp, expected, rtol=0, atol=1e-3)  # in levels
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_leaky_relu_stays_before_pixel_shuffle_where_it_fuses_into_its_convolution():
    correct = fuse.optimise(restless(TINY_PAPER))
    kinds = [
        type(correct.get_submodule(node.target)).__name__
        for node in correct.graph.nodes
        if node.op == "call_module"
    ]
    before = [kinds[i - 2 : i] for i, kind in enumerate(kinds) if kind == "PixelShuffle"]
    assert before == [["Conv2d", "LeakyReLU"]] * 2


def test_a_network_without_a_global_residual_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))
    with pytest.raises(ValueError, match="does not add its input"):
        fuse.in_levels(fx.symbolic_trace(network))


def loud(config):
    """A network whose numbers grow with the contrast of the picture, beyond what fp16 holds.

    Coring squares the corrections, so a hundredth is enough there.
    """
    network = restless(config)
    first = network.entry if config.architecture == "fast" else network.stem[0]
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if name.endswith("bias"):
                weights.zero_()
        first.weight.mul_(1e3 if config.coring else 1e5)
    return network


@torch.no_grad()
@pytest.mark.parametrize("config", SHAPES, ids=["fast", "cored", "paper"])
def test_a_picture_that_overflows_fp16_raises_its_own_flag_alone(config):
    frames = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    frames[1] = 128  # half a level from the network's zero
    for network, expected in ((restless(config), [True, True]), (loud(config), [False, True])):
        correct = fuse.with_unbounded(fuse.optimise(network)).half()
        sharp, finite = ExportGraph(correct, network.multiple_of, watched=True)(frames)
        assert sharp.shape == frames.shape
        assert finite.tolist() == expected


def test_an_overflow_is_seen_before_tanh_hides_it():
    class Bounded(nn.Module):
        def forward(self, x):
            return torch.tanh(x * 1000) * 127.5 + 0.5

    x = torch.full((1, 3, 2, 2), 100.0, dtype=torch.float16)
    correction, unbounded = fuse.with_unbounded(fx.symbolic_trace(Bounded()))(x)
    assert correction.isfinite().all()
    assert unbounded.isinf().all()
