from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from torch import nn

from train.architecture import ARCHITECTURES, PAPER, GeneratorConfig
from train.fast import _trust
from train.generator import build
from train.paper import AttentiveSeparableBlock

TINY_FAST = GeneratorConfig(architecture="fast", widths=(4, 4, 4), blocks=(1, 1, 1, 1, 1))
TINY_PAPER = GeneratorConfig(architecture="paper", widths=(4, 4, 16), blocks=(1,), dropout=0.5)
TINY = {"fast": TINY_FAST, "paper": TINY_PAPER}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def restless(config):
    """A network that does something: fresh ones are the identity."""
    network = build(config).eval()
    nn.init.normal_((network.exit if config.architecture == "fast" else network.head).weight)
    return network


def test_paper_has_the_parameters_that_make_its_11_9_mib():
    assert sum(weight.numel() for weight in build(PAPER).parameters()) == 3_133_582


@torch.no_grad()
def test_paper_has_the_stages_of_its_table():
    """The layer table of the paper, at 16x24: channels, height, width after each stage."""
    network = build(PAPER).eval()
    shapes = {}
    stages = {
        "stem": network.stem,
        "down 1": network.down[1],
        "down 2": network.down[3],
        "trunk": network.trunk,
        "shuffle 1": network.up[2],
        "up 1": network.up[4],
        "shuffle 2": network.up[7],
        "up 2": network.up[9],
        "head": network.head,
    }
    for name, module in stages.items():
        module.register_forward_hook(
            lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])})
        )
    network(torch.zeros(1, 3, 16, 24))
    assert shapes == {
        "stem": (64, 16, 24),
        "down 1": (128, 8, 12),
        "down 2": (256, 4, 6),
        "trunk": (256, 4, 6),
        "shuffle 1": (64, 8, 12),
        "up 1": (128, 8, 12),
        "shuffle 2": (32, 16, 24),
        "up 2": (64, 16, 24),
        "head": (3, 16, 24),
    }
    assert len(network.trunk) == 9


def test_paper_has_bias_everywhere_but_in_depthwise_convolutions_and_no_normalisation():
    network = build(PAPER)
    for conv in (module for module in network.modules() if isinstance(module, nn.Conv2d)):
        assert (conv.bias is None) == (conv.groups > 1)
    assert not any("Norm" in type(module).__name__ for module in network.modules())


@torch.no_grad()
def test_a_block_of_paper_is_its_definition():
    """Channel, then spatial attention, three separable convolutions, and x itself added."""
    block = AttentiveSeparableBlock(16, 0.5).eval()
    x = torch.randn(2, 16, 6, 8)
    channel, spatial = block.attention
    (down, up), conv = (channel.mlp[0], channel.mlp[2]), spatial.conv

    def mlp(pooled):
        inner = F.leaky_relu(pooled @ down.weight[:, :, 0, 0].T + down.bias, 0.2)
        return inner @ up.weight[:, :, 0, 0].T + up.bias

    scale = torch.sigmoid(mlp(x.mean(dim=(2, 3))) + mlp(x.amax(dim=(2, 3))))
    y = x * scale[:, :, None, None]
    summary = torch.stack([y.mean(dim=1), y.amax(dim=1)], dim=1)
    y = y * torch.sigmoid(F.conv2d(summary, conv.weight, conv.bias, padding=3))
    for pair in (block.body[0], block.body[3], block.body[5]):
        y = F.conv2d(y, pair.depthwise.weight, padding=1, groups=16)
        y = F.leaky_relu(F.conv2d(y, pair.pointwise.weight, pair.pointwise.bias), 0.2)
    torch.testing.assert_close(block(x), x + y)


@torch.no_grad()
def test_a_shuffle_begins_as_nearest_neighbour():
    network = build(TINY_FAST)
    doubled = F.pixel_shuffle(network.ups[0](torch.randn(1, 4, 3, 5)), 2)
    torch.testing.assert_close(doubled, F.interpolate(doubled[..., ::2, ::2], scale_factor=2))


@torch.no_grad()
@pytest.mark.parametrize("config", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_training_starts_at_the_identity(config):
    network = build(config).eval()
    blurred = torch.rand(1, 3, 48, 32) * 2 - 1
    assert torch.equal(network(blurred), blurred)


@torch.no_grad()
@pytest.mark.parametrize("config", TINY.values(), ids=TINY)
def test_sides_must_be_multiples_and_any_multiple_will_do(config):
    network = restless(config)
    multiple = network.multiple_of
    for height, width in [(1, 1), (1, 2), (3, 2)]:
        blurred = torch.rand(1, 3, height * multiple, width * multiple)
        assert network(blurred).shape == blurred.shape
    with pytest.raises(RuntimeError):
        network(torch.rand(1, 3, multiple, multiple // 2 * 3))


@pytest.mark.parametrize(
    "config",
    [
        TINY_FAST,
        GeneratorConfig(architecture="fast", widths=(4, 4), blocks=(1, 2, 1)),
        GeneratorConfig(architecture="fast", widths=(4, 4, 4), blocks=(0, 2, 1, 1, 0)),
        replace(TINY_FAST, coring=2.0),
    ],
    ids=["three scales", "two scales", "uneven", "coring"],
)
def test_fast_sees_as_far_as_it_says(config):
    """By the gradient of each place of one coarsest cell, which between them see the farthest."""
    network = restless(config).double()
    positive(network)
    cell, said = network.multiple_of, network.receptive_field
    side = cell * (2 * (said // cell // 2 + 2) + 1)
    first = side // 2 // cell * cell
    farthest = 0
    for place in range(cell):
        blurred = torch.rand(1, 3, side, side, dtype=torch.double, requires_grad=True)
        row = first + place
        network(blurred)[0, :, row, row].sum().backward()
        rows, columns = torch.nonzero(blurred.grad[0].sum(0), as_tuple=True)
        for seen in (rows, columns):
            assert seen.min() > 0
            assert seen.max() < side - 1
            farthest = max(farthest, row - int(seen.min()), int(seen.max()) - row)
    assert said == 2 * farthest + 1


def positive(network):
    """No weight that could cancel another: every path from input to output then shows."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.abs_().mul_(0.5).add_(1e-2)


@torch.no_grad()
def test_coring_takes_back_small_corrections_and_keeps_large_ones():
    network = restless(TINY_FAST)
    blurred = torch.rand(1, 3, 64, 64) * 2 - 1
    change = network(blurred) - blurred
    for levels, kept in ((0.2, 0.01), (2.0, 0.5), (40.0, 0.9975)):
        network.config = replace(TINY_FAST, coring=0.0)
        network.exit.weight.mul_(levels / (127.5 * change.square().mean().sqrt()))
        change = network(blurred) - blurred
        network.config = replace(TINY_FAST, coring=2.0)
        share = (network(blurred) - blurred).norm() / change.norm()
        assert share.item() == pytest.approx(kept, abs=0.12)


def test_what_is_kept_of_an_even_correction_is_the_same_at_the_border():
    kept = _trust(torch.full((1, 48, 4, 5), 3 / 127.5), 2.0)
    torch.testing.assert_close(kept, torch.full((1, 1, 4, 5), 9 / (9 + 4)))


@torch.no_grad()
@pytest.mark.parametrize("coring", [0.0, 2.0])
def test_fast_restores_a_tile_as_it_restores_the_whole(coring):
    """No global pooling: away from the tile's border, by half the field, nothing changes."""
    network = restless(replace(TINY_FAST, coring=coring)).double()
    cell = network.multiple_of
    border = -(-(network.receptive_field // 2) // cell) * cell
    whole = torch.rand(1, 3, 3 * cell + 2 * border, 4 * cell + 2 * border, dtype=torch.double)
    tile = whole[..., cell : 2 * cell + 2 * border, 2 * cell : 3 * cell + 2 * border]
    inside = network(tile)[..., border:-border, border:-border]
    same = network(whole)[..., cell + border : 2 * cell + border, 2 * cell + border :]
    torch.testing.assert_close(inside, same[..., :cell], rtol=0, atol=1e-12)


def test_paper_says_that_it_sees_everything():
    assert build(TINY_PAPER).receptive_field is None


@pytest.mark.parametrize("config", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_configuration_survives_a_checkpoint(config):
    assert GeneratorConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    "config",
    [
        GeneratorConfig(architecture="paper", widths=(8, 8), blocks=(1,)),
        GeneratorConfig(architecture="fast", widths=(8, 8), blocks=(1, 1)),
        GeneratorConfig(architecture="fast", widths=(8,), blocks=(1,)),
    ],
)
def test_widths_and_blocks_must_fit(config):
    with pytest.raises(ValueError, match="takes"):
        build(config)
