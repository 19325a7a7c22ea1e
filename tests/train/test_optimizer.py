import copy
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
from train.architecture import GeneratorConfig
from train.config import TrainConfig
from train.generator import build
from train.muon import Muon, orthogonal
from train.optimizer import Optimizer
from train.precision import has_bfloat16, mixed

SHAPES = {
    "fast": GeneratorConfig(widths=(8, 8), blocks=(1, 1, 1)),
    "paper": GeneratorConfig(architecture="paper", widths=(16, 16, 16), blocks=(1,)),
}


def network(arch):
    torch.manual_seed(0)
    return build(SHAPES[arch]).to(memory_format=torch.channels_last)


def with_gradients(net):
    torch.manual_seed(1)
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    return net


@pytest.mark.parametrize("kind", ["muon", "adamw", "adam"])
@pytest.mark.parametrize("arch", ["fast", "paper"])
def test_every_weight_moves(kind, arch):
    net = with_gradients(network(arch))
    before = copy.deepcopy(net.state_dict())
    Optimizer(TrainConfig(optimizer=kind), net).step(1e-3)
    for name, weight in net.state_dict().items():
        assert not torch.equal(weight, before[name]), name


def test_muons_updates_are_orthogonal():
    net = with_gradients(network("fast"))
    kernel = net.bottom[0].first.weight
    before = kernel.detach().clone()
    Optimizer(TrainConfig(optimizer="muon"), net).step(1.0)
    singular = torch.linalg.svdvals((kernel.detach() - before).flatten(1))
    assert singular.max() / singular.min() < 2.5  # five Newton-Schulz steps are a rough inverse


def test_muon_is_torchs_but_for_bfloat16():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.zeros(6, 40)) for _ in range(2))
    settings = {"lr": 0.1, "momentum": 0.95, "nesterov": True, "weight_decay": 0.0}
    muon = Muon([ours], lr=0.1)
    other = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **settings)
    for _ in range(4):
        ours.grad = torch.randn(6, 40)
        theirs.grad = ours.grad.clone()
        muon.step()
        other.step()
    assert (ours - theirs).norm() < 0.03 * theirs.norm()


def test_muon_has_the_dense_layers_within_and_moves_them_twice_as_far():
    net = with_gradients(network("fast"))
    before = copy.deepcopy(net)
    optimizer = Optimizer(TrainConfig(optimizer="muon"), net)
    (adams,), (muons,) = ([len(g["params"]) for g in o.param_groups] for o in optimizer._optimizers)
    kernels = [p for p in net.parameters() if p.ndim == 4]
    assert muons == len(kernels) - 2
    assert adams == len(list(net.parameters())) - muons
    optimizer.step(1e-3)
    moved = [
        (p - q).square().mean().sqrt()
        for p, q in zip(net.parameters(), before.parameters(), strict=True)
        if p.ndim == 4
    ]
    assert [moved[0].item(), moved[-1].item()] == pytest.approx([1e-3, 1e-3], rel=1e-3)
    assert all(size.item() == pytest.approx(2 * 0.2e-3, rel=0.25) for size in moved[1:-1])


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_restored_optimizer_goes_on_alike(kind):
    config = TrainConfig(optimizer=kind)
    first = with_gradients(network("fast"))
    one = Optimizer(config, first)
    one.step(1e-3)
    second = with_gradients(network("fast"))
    second.load_state_dict(first.state_dict())
    other = Optimizer(config, second)
    other.restore(copy.deepcopy(one.state()))
    for optimizer in (one, other):
        optimizer.step(1e-3)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_state_of_another_kind_is_refused():
    config = TrainConfig(optimizer="adamw")
    adamw = Optimizer(config, network("fast"))
    muon = Optimizer(replace(config, optimizer="muon"), network("fast"))
    with pytest.raises(ValueError, match="--optimizer"):
        muon.restore(adamw.state())


@pytest.mark.parametrize("shape", [(3, 6, 40), (2, 40, 6), (1, 5, 5)])
def test_orthogonal_keeps_the_directions_and_evens_out_their_sizes(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    core = left.mT @ orthogonal(matrices) @ right.mT
    sizes = torch.diagonal(core, dim1=-2, dim2=-1)
    assert 0.6 < sizes.min() <= sizes.max() < 1.3
    assert (core - torch.diag_embed(sizes)).abs().max() < 1e-4


def test_orthogonal_is_muons_iteration():
    torch.manual_seed(0)
    matrices = torch.randn(2, 6, 40)
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True)
    for _ in range(5):  # as https://kellerjordan.github.io/posts/muon writes it
        gram = x @ x.mT
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    assert torch.allclose(orthogonal(matrices), x, atol=1e-4)


def test_bfloat16_is_used_only_where_it_is_wanted_and_there():
    device = torch.device("cpu")
    product = {}
    for wanted in (True, False):
        with mixed(device, wanted):
            product[wanted] = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    assert product[False] == torch.float32
    assert (product[True] == torch.bfloat16) == has_bfloat16(device)
