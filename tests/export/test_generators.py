"""The benchmark of generators exports all kinds, measures them in turns, and says so."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
import onnxruntime

from bench import generators
from bench.rivals import DeblurGanGenerator, NafStyleGenerator
from export import write
from export.verify import reference
from streamdeblur.spec import INPUT_NAME, ModelSpec


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [DeblurGanGenerator(1), NafStyleGenerator(4, (1, 1))], ids=["deblurgan", "naf"]
)
def test_the_exporter_keeps_the_rivals_functions(network):
    torch.manual_seed(0)
    spec = ModelSpec(name="rival", multiple_of=network.multiple_of)
    model = write.to_onnx(network.eval(), spec)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    frames = np.random.default_rng(0).integers(0, 256, (1, 30, 41, 3), np.uint8)
    (written,) = session.run(None, {INPUT_NAME: frames})
    expected = reference(network, frames)
    assert np.abs(written.astype(int) - expected).max() <= 1
    assert np.abs(expected.astype(int) - frames).mean() > 0.5  # random weights do something


@pytest.mark.slow
def test_all_generators_are_timed(tmp_path, capsys, monkeypatch):
    path = tmp_path / "figures.json"
    flags = ["--size", "64x48", "--rounds", "2", "--json", str(path)]
    monkeypatch.setattr("sys.argv", ["generators", *flags])
    assert generators.main() == 0
    shown = capsys.readouterr().out
    assert "11,378,179" in shown
    figures = json.loads(path.read_text())
    assert figures["networks"]["paper"]["parameters"] == 3_133_582
    times = figures["results"][0]["milliseconds"]
    assert set(times) == set(generators.NETWORKS)
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in times.values())


def test_the_base_cannot_be_left_out(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["generators", "--networks", "fast"])
    assert generators.main() == 2
    assert "deblurgan-1" in capsys.readouterr().err
