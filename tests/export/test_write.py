from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import onnxruntime as ort
from PIL import Image
from torch import nn

from export import verify, write
from export.__main__ import main
from streamdeblur.errors import ModelError
from streamdeblur.spec import ModelSpec
from train.architecture import GeneratorConfig
from train.checkpoint import Checkpoint, save
from train.generator import build

CONFIGS = {
    "fast": GeneratorConfig(architecture="fast", widths=(8, 12), blocks=(1, 1, 1)),
    "paper": GeneratorConfig(architecture="paper", widths=(8, 8, 16), blocks=(1,), dropout=0.5),
}
RECIPE = {"arch": "fast", "photos": ["/data/photos-a0"], "lr": 5e-4, "out": "/runs/fast"}
CURVE = [{"step": 7, "hours": 0.5, "val_gain": 0.25, "val": [{"name": "gopro_00"}]}]


def restless(architecture, *, sign=1):
    """A network with fresh weights that does something: fresh ones are the identity."""
    torch.manual_seed(0)
    network = build(CONFIGS[architecture]).eval()
    last = network.exit if architecture == "fast" else network.head
    nn.init.normal_(last.weight, std=0.05)
    with torch.no_grad():
        last.weight.mul_(sign)
    return network


def checkpoint_of(network, path):
    weights = network.state_dict()
    saved = Checkpoint(
        step=7,
        seconds=1800.0,
        generator_config=network.config.to_dict(),
        train_config=RECIPE,
        generator=weights,
        ema=weights,
        curve=CURVE,
    )
    save(saved, path)
    return path


SLOW = pytest.mark.slow  # torch's exporter takes 3 to 6 seconds a network, however small


@pytest.fixture(
    scope="module",
    params=["fast", pytest.param("paper", marks=SLOW), pytest.param("fast-half", marks=SLOW)],
)
def exported(request, tmp_path_factory):
    """(path of the file, its network): written by the command."""
    architecture, _, half = request.param.partition("-")
    network = restless(architecture)
    folder = tmp_path_factory.mktemp(request.param)
    checkpoint = checkpoint_of(network, folder / "last.pt")
    path = folder / "model.onnx"
    flags = ["--half"] if half else []
    assert main([str(checkpoint), "-o", str(path), "--name", "trial", *flags]) == 0
    assert sorted(item.name for item in folder.iterdir()) == ["last.pt", "model.onnx"]
    return path, network, "fp16" if half else "fp32"


def session(path):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_any_size_comes_back_as_torch_would_have_it(exported):
    path, network, precision = exported
    running = session(path)
    rng = np.random.default_rng(1)
    for batch, height, width in [(1, 1, 1), (3, 1, 7), (1, 16, 16), (1, 31, 33), (2, 5, 70)]:
        frames = rng.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
        (sharp,) = running.run(["sharp"], {"frames": frames})
        expected = verify.reference(network, frames)
        assert sharp.dtype == np.uint8
        assert sharp.shape == frames.shape
        difference = np.abs(sharp.astype(int) - expected)
        assert difference.max() <= verify.TOLERANCE[precision]
        assert np.abs(expected.astype(int) - frames).max() > 3  # the network is no identity


def test_ports_are_the_contract(exported):
    path, _, precision = exported
    running = session(path)
    (frames,), (sharp, *others) = running.get_inputs(), running.get_outputs()
    assert (frames.name, sharp.name) == ("frames", "sharp")
    assert frames.type == sharp.type == "tensor(uint8)"
    assert frames.shape == sharp.shape == ["batch", "height", "width", 3]
    told = [(each.name, each.type, each.shape) for each in others]
    assert told == ([("finite", "tensor(bool)", ["batch"])] if precision == "fp16" else [])


def test_facts_are_read_back_without_the_onnx_package(exported):
    path, network, precision = exported
    meta = session(path).get_modelmeta()
    spec = ModelSpec.from_metadata(meta.custom_metadata_map)
    assert spec == ModelSpec(
        name="trial",
        precision=precision,
        multiple_of=network.multiple_of,
        receptive_field=network.receptive_field,
        generator=network.config.to_dict(),
        training={
            "steps": 7,
            "hours": 0.5,
            "recipe": {"arch": "fast", "photos": ["photos-a0"], "lr": 5e-4},
            "figures": {"step": 7, "hours": 0.5, "val_gain": 0.25},
        },
    )
    assert meta.producer_name == "streamdeblur"


def test_the_graph_holds_nothing_but_the_network(exported):
    path, network, _ = exported
    model = onnx.load(path, load_external_data=False)
    assert model.producer_version
    nodes = model.graph.node
    assert not any(node.doc_string or node.metadata_props for node in nodes)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    kinds = [node.op_type for node in nodes]
    assert kinds.count("DepthToSpace") == (2 if network.config.architecture == "fast" else 3)
    assert not {"Dropout", "SpaceToDepth", "Pad", "Round"} & set(kinds)
    # Pictures are turned from NHWC and back; anything else would be a shuffle gone astray.
    assert kinds.count("Transpose") == 2


@SLOW
def test_separable_pairs_become_dense_on_demand():
    network = restless("paper")
    spec = ModelSpec(name="dense")
    model = write.to_onnx(network, spec, fuse_separable="always", opset=20)
    loaded = onnx.load_from_string(model)
    groups = {
        item.i for node in loaded.graph.node for item in node.attribute if item.name == "group"
    }
    assert groups == {1}
    assert loaded.opset_import[0].version == 20
    assert verify.verify(verify.in_onnxruntime(model), network, tolerance=1).largest <= 1


@SLOW
def test_exporting_again_gives_the_same_bytes(tmp_path):
    checkpoint = checkpoint_of(restless("fast"), tmp_path / "last.pt")
    written = []
    for seed in ("1", "2"):  # of Python's hashes, which order its sets
        path = tmp_path / f"{seed}.onnx"
        subprocess.run(
            [sys.executable, "-m", "export", checkpoint, "-o", path],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_a_file_that_differs_is_refused(exported):
    path, network, _ = exported
    other = restless(network.config.architecture, sign=-1)
    with pytest.raises(ModelError, match=r"differs from torch by \d+ grey levels at \d+x\d+"):
        verify.verify(verify.in_onnxruntime(path.read_bytes()), other, tolerance=1)


def test_a_refused_file_leaves_the_old_one(tmp_path, monkeypatch, capsys):
    checkpoint = checkpoint_of(restless("fast"), tmp_path / "last.pt")
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    monkeypatch.setattr(write, "_to_onnx", lambda *_, **__: identity_graph())
    assert main([str(checkpoint), "-o", str(path)]) == 1
    assert "differs from torch" in one_line(capsys)
    assert path.read_bytes() == b"old"
    assert not list(tmp_path.glob("*.part"))


def test_damaged_weights_are_refused(tmp_path, monkeypatch, capsys):
    network = restless("fast")
    nn.init.constant_(network.exit.bias, float("nan"))
    checkpoint = checkpoint_of(network, tmp_path / "last.pt")
    monkeypatch.setattr(write, "_to_onnx", lambda *_, **__: identity_graph())
    assert main([str(checkpoint), "-o", str(tmp_path / "model.onnx")]) == 1
    assert "not finite" in one_line(capsys)
    assert not (tmp_path / "model.onnx").exists()


def identity_graph():
    """A file of one node, right for no network that does anything."""
    shape = ["batch", "height", "width", 3]
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, shape)
        for name in ("frames", "sharp")
    ]
    node = onnx.helper.make_node("Identity", ["frames"], ["sharp"])
    graph = onnx.helper.make_graph([node], "identity", ports[:1], ports[1:])
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def one_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("export: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pictures, and what a tiny network makes of them, but for a little noise."""
    network, random = restless("fast"), np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pairs")
    for kind in ("blur", "sharp"):
        (folder / kind).mkdir()
    for name, frames in zip("ab", verify.proving_frames(), strict=False):
        frames = np.repeat(np.repeat(frames, 48, axis=1), 64, axis=2)
        noise = random.normal(scale=2, size=frames.shape)
        sharp = (verify.reference(network, frames) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(frames[0]).save(folder / "blur" / f"{name}.png")
        Image.fromarray(sharp[0]).save(folder / "sharp" / f"{name}.png")
    return folder


def refuse(*_, **__):
    raise ModelError("not here")


@SLOW
def test_twins_lie_beside_the_file_and_say_what_they_cost(pairs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(write.Deblurrer, "load", refuse)  # as if there were no OpenVINO
    asked = []
    monkeypatch.setattr(
        write, "reference", lambda *with_: asked.append(1) or verify.reference(*with_)
    )
    checkpoint = checkpoint_of(restless("fast"), tmp_path / "last.pt")
    flags = ["--twins", "--gate", str(pairs), "--calibrate", str(pairs / "blur")]
    assert main([str(checkpoint), "-o", str(tmp_path / "tiny.onnx"), *flags]) == 0
    printed = capsys.readouterr().out
    assert printed.count("10% allowed") == 3
    assert len(asked) == 2 * 2  # for both pairs: once in fp32, and once in bf16
    names = ["tiny.onnx", "tiny.fp16.onnx", "tiny.int8.onnx"]
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", *names}
    frames = next(verify.proving_frames())
    for name, precision in zip(names, ("fp32", "fp16", "int8"), strict=True):
        running = session(tmp_path / name)
        spec = ModelSpec.from_metadata(running.get_modelmeta().custom_metadata_map)
        measured = "bf16" if precision == "fp32" else precision
        twin = None if precision == "fp32" else "tiny.onnx"
        assert (spec.precision, spec.twin) == (precision, twin)
        assert spec.accepted == [measured]
        assert set(spec.gate["gain"]) == {"fp32", measured}
        assert running.run(["sharp"], {"frames": frames})[0].shape == frames.shape
    assert main([str(checkpoint), "-o", str(tmp_path / "tiny.onnx")]) == 0  # of other weights, say
    printed = capsys.readouterr().out
    assert "tiny.int8.onnx beside it is of an earlier export: --twins makes it again" in printed


@SLOW
def test_a_network_too_large_for_fp16_is_refused_in_it(tmp_path, capsys):
    network = restless("fast")
    with torch.no_grad():
        network.entry.weight.mul_(1e6)
        network.exit.weight.div_(1e6)
    checkpoint = checkpoint_of(network, tmp_path / "last.pt")
    assert main([str(checkpoint), "-o", str(tmp_path / "model.onnx"), "--half"]) == 1
    assert "too large for fp16" in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists()
