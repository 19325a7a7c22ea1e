from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("rich")
from torch import nn

from bench.rivals import DeblurGanGenerator, NafStyleGenerator
from train import cost
from train.architecture import FAST, PAPER
from train.generator import build
from train.summary import main


def test_the_generators_cost_what_is_published():
    parameters, multiply_adds = cost.total(cost.layers(build(PAPER)))
    assert parameters == 3_133_582
    assert multiply_adds / 1e9 == pytest.approx(18.4, abs=0.01)
    _, multiply_adds = cost.total(cost.layers(build(PAPER), 720, 1280))
    assert multiply_adds / 1e9 == pytest.approx(258.8, abs=0.05)
    parameters, _ = cost.total(cost.layers(build(FAST)))
    assert parameters == 2_357_520


@pytest.mark.parametrize(
    ("network", "parameters", "gmacs"),
    [
        (lambda: DeblurGanGenerator(1), 6_067_459, 27.8),
        (lambda: DeblurGanGenerator(2), 11_378_179, 49.6),
        (lambda: NafStyleGenerator(32, (1, 1, 1, 28)), 17_111_907, 16.0),
    ],
)
def test_the_rivals_cost_what_is_published(network, parameters, gmacs):
    with torch.device("meta"):
        made = network()
    assert sum(weight.numel() for weight in made.parameters()) == parameters
    _, multiply_adds = cost.total(cost.layers(made))
    assert multiply_adds / 1e9 == pytest.approx(gmacs, abs=0.06)


@pytest.mark.parametrize("network", [DeblurGanGenerator(1), NafStyleGenerator(4, (1, 1))])
def test_the_rivals_keep_the_size(network):
    assert network(torch.zeros(1, 3, 16, 24)).shape == (1, 3, 16, 24)


def test_equations_2_to_4():
    layers = cost.layers(build(PAPER))
    pair = next(layer for layer in layers if layer.kind == "separable")
    assert (pair.kernel, pair.inputs, pair.outputs) == (3, 256, 256)
    assert pair.standard == 9 * 256 * 256
    assert pair.separable == 9 * 256 + 256 * 256 == pair.weights
    assert pair.ratio == pytest.approx(1 / 256 + 1 / 9)
    assert pair.ratio == pytest.approx(pair.separable / pair.standard)
    assert pair.multiply_adds == pair.separable * 64 * 64
    plain = next(layer for layer in layers if layer.name == "stem.0")
    assert plain.kind == "standard"
    assert plain.standard == plain.weights == 49 * 3 * 64


def test_places_are_counted_where_a_layer_works():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ConvTranspose2d(8, 3, 3, stride=2, padding=1, output_padding=1),
    )
    layers = cost.layers(network, 32, 48)
    assert [layer.kind for layer in layers] == ["standard", "depthwise", "transposed"]
    assert [layer.places for layer in layers] == [16 * 24] * 3
    assert layers[1].weights == 9 * 8


def test_the_summary_is_printed(capsys):
    assert main(["--arch", "paper"]) == 0
    shown = capsys.readouterr().out
    assert "3,133,582" in shown
    assert "separable" in shown
    assert "11.95 MiB" in shown
    assert main(["--arch", "fast", "--size", "100x96"]) == 1
    assert "multiples of 16" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "summary", "tables"])
def test_help_answers_without_torch(command):
    code = (
        f"import sys; from train.{command} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m train.{command}" in done.stdout
