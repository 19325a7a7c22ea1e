"""The benchmark of generators exports all kinds, measures them in turns, and says so."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
import onnxruntime

from bench import ceiling, generators
from bench.rivals import DeblurGanGenerator, NafStyleGenerator
from export import write
from export.verify import reference
from streamdeblur.errors import ModelError
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
def test_generators_are_timed_in_several_ways(tmp_path, capsys, monkeypatch):
    path = tmp_path / "figures.json"
    flags = ["--networks", "fast", "deblurgan-1", "--ways", "cpu:fp32", "cpu:int8", "torch:eager"]
    flags += ["--size", "64x48", "--rounds", "2", "--threads", "1", "--json", str(path)]
    monkeypatch.setattr("sys.argv", ["generators", *flags])
    assert generators.main() == 0
    assert "6,067,459" in capsys.readouterr().out
    figures = json.loads(path.read_text())
    assert len(figures["rows"]) == 6
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in figures["seconds"].values())
    for row in figures["rows"]:
        alike, plain = row["x deblurgan-1 alike"], row["x deblurgan-1 cpu:fp32"]
        assert (alike == 1) == (row["network"] == "deblurgan-1")
        assert (plain == alike) or row["way"] != "cpu:fp32"


@pytest.mark.slow
def test_the_ceiling_is_set_beside_the_networks(tmp_path, monkeypatch):
    path = tmp_path / "figures.json"
    flags = ["--networks", "fast", "--size", "64x48", "--rounds", "1", "--matrix", "64"]
    monkeypatch.setattr("sys.argv", ["ceiling", *flags, "--threads", "1", "--json", str(path)])
    assert ceiling.main() == 0
    *limits, fast = json.loads(path.read_text())["rows"]
    assert [row["what"] for row in limits][-1] == "memory copy"
    assert fast["bound by"] in ("operations", "memory")
    assert fast["share"] > 0


def test_a_way_that_cannot_be_had_is_named(capsys, monkeypatch):
    monkeypatch.setattr(generators, "_case", lambda *_: missing())
    monkeypatch.setattr(generators, "_Files", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["generators", "--networks", "deblurgan-1"])
    assert generators.main() == 1
    assert "not measured: cpu:fp32: no such thing" in capsys.readouterr().out


def missing():
    raise ModelError("no such thing")


def test_networks_are_those_that_are_known_under_their_names():
    for name, parameters in generators.PARAMETERS.items():
        made = generators.NETWORKS[name]()
        assert sum(weight.numel() for weight in made.parameters()) == parameters


def test_the_base_cannot_be_left_out(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["generators", "--networks", "fast"])
    assert generators.main() == 2
    assert "deblurgan-1" in capsys.readouterr().out
