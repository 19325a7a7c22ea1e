from __future__ import annotations

import av
import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import numpy_helper, parser
from PIL import Image

from export import quantise
from export.gate import Verdict
from export.quantise import Quantiser, calibration_frames, restorer
from streamdeblur.errors import ModelError, VideoError

# What the exporter writes, at toy size: a wide door, two layers, an attention's MLP, a residual.
MODEL = """
<ir_version: 8, opset_import: ["" : 18]>
tiny (uint8[n, h, w, 3] frames) => (uint8[n, h, w, 3] sharp)
<float middle = {127.5}, float low = {0.0}, float high = {255.5}>
{
  planes = Transpose<perm = [0, 3, 1, 2]>(frames)
  levels = Cast<to = 1>(planes)
  centred = Sub(levels, middle)
  wide = Conv<kernel_shape = [5, 5], pads = [2, 2, 2, 2]>(centred, door__weight, door__bias)
  entered = LeakyRelu<alpha = 0.2>(wide)
  one = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(entered, first__weight, first__bias)
  bent = LeakyRelu<alpha = 0.2>(one)
  two = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(bent, second__weight, second__bias)
  sum = Add(entered, two)
  pooled = GlobalAveragePool(sum)
  asked = Conv<kernel_shape = [1, 1]>(pooled, mlp__weight, mlp__bias)
  scale = Sigmoid(asked)
  attended = Mul(sum, scale)
  correction = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(attended, last__weight, last__bias)
  total = Add(levels, correction)
  clipped = Clip(total, low, high)
  bytes = Cast<to = 2>(clipped)
  sharp = Transpose<perm = [0, 2, 3, 1]>(bytes)
}
"""
SHAPES = {
    "door": (8, 3, 5, 5),
    "first": (8, 8, 3, 3),
    "second": (8, 8, 3, 3),
    "mlp": (8, 8, 1, 1),
    "last": (3, 8, 3, 3),
}


@pytest.fixture(scope="module")
def model():
    random = np.random.default_rng(0)
    made = parser.parse_model(MODEL)
    for name, shape in SHAPES.items():
        weight = random.normal(scale=0.15, size=shape)
        for part, values in (("weight", weight), ("bias", random.normal(size=shape[0]))):
            tensor = numpy_helper.from_array(values.astype(np.float32), f"{name}.{part}")
            made.graph.initializer.append(tensor)
    for number, node in enumerate(made.graph.node):
        node.name = f"node_{number}_{node.op_type}"
        names = [name.replace("__", ".") for name in node.input]  # the parser takes no dots
        node.input[:] = names
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


@pytest.fixture(scope="module")
def frames():
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (1, 24, 32, 3), dtype=np.uint8) for _ in range(4)]


@pytest.fixture(scope="module")
def quantiser(model, frames):
    return Quantiser(model, frames)


def test_the_door_the_mlp_and_the_last_layer_are_no_candidates(quantiser):
    assert [quantiser.weight(name) for name in quantiser.candidates] == ["first", "second"]


def test_int8_is_close_at_any_size_and_of_the_fast_kinds(model, quantiser):
    quantised = quantiser.quantised(quantiser.candidates)
    onnx.checker.check_model(quantised, full_check=True)
    constants = {each.name: numpy_helper.to_array(each) for each in quantised.graph.initializer}
    zeros = [constants[n.input[2]] for n in quantised.graph.node if n.op_type == "QuantizeLinear"]
    assert zeros
    assert all(zero.dtype == np.uint8 for zero in zeros)
    weights = [
        name for name, value in constants.items() if value.dtype == np.int8 and value.ndim == 4
    ]
    assert len(weights) == 2
    assert all(np.abs(constants[name].astype(int)).max() <= 64 for name in weights)  # 7 bits
    scales = [value for name, value in constants.items() if "weight_scale" in name]
    assert {scale.shape for scale in scales} == {(8,)}  # one for each output channel
    exact, fast = restorer(model), restorer(quantised.SerializeToString())
    random = np.random.default_rng(2)
    for height, width in ((1, 1), (7, 5), (24, 32)):
        picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        difference = exact(picture).astype(int) - fast(picture)
        assert np.abs(difference).max() <= 12
    assert np.abs(exact(picture).astype(int) - picture).max() > 20  # the model does something


def test_more_layers_in_int8_do_more_harm(quantiser):
    alone = [quantiser.error([name]) for name in quantiser.candidates]
    assert 0 < max(alone) <= quantiser.error(quantiser.candidates) * 1.5


def verdict(share):
    return Verdict("pairs", 1, 1.0, 1.0 - share)


def test_the_worst_layers_go_back_to_float_until_enough_is_kept(model, frames):
    shares = iter([0.2, 0.03])
    quantised, found, in_float = quantise.quantise(model, frames, lambda _: verdict(next(shares)))
    assert found.share == pytest.approx(0.03)
    assert len(in_float) == 1
    kinds = [node.op_type for node in quantised.graph.node]
    assert "QuantizeLinear" in kinds


class Layers:
    """Six, of which `a` changes the frames most and `f` least."""

    candidates = tuple("abcdef")

    def __init__(self, *_):
        pass

    def error(self, names):
        return -ord(names[0])

    def quantised(self, names):
        return onnx.ModelProto(doc_string="".join(names))

    def weight(self, name):
        return name


@pytest.mark.parametrize(
    ("costs", "kept"),
    [({"b": 0.2}, "b"), ({"a": 0.05, "c": 0.2}, "ac"), ({"a": 0.004, "b": 0.004, "c": 0.2}, "c")],
)
def test_layers_that_were_not_what_cost_return_to_int8(monkeypatch, costs, kept):
    def judge(model):
        in_int8 = onnx.load_from_string(model).doc_string
        return verdict(sum(cost for name, cost in costs.items() if name in in_int8))

    monkeypatch.setattr(quantise, "Quantiser", Layers)
    monkeypatch.setattr(quantise, "restorer", lambda model: model)
    quantised, found, in_float = quantise.quantise(b"", [], judge)
    assert "".join(in_float) == kept
    assert quantised.doc_string == "".join(sorted(set("abcdef").difference(kept)))
    assert found.share == pytest.approx(sum(c for name, c in costs.items() if name not in kept))


def test_too_much_loss_is_refused(model, frames):
    with pytest.raises(ModelError, match=r"loses too much, with 1 layers in float: .*20\.0%"):
        quantise.quantise(model, frames, lambda _: verdict(0.2))


def test_calibration_takes_pictures_videos_and_our_samples(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(5):
        Image.new("RGB", (8 + number, 6)).save(pictures / f"{number}.png")
    assert [each.shape for each in calibration_frames(pictures, 2)] == [(1, 6, 8, 3), (1, 6, 11, 3)]
    clip = tmp_path / "clip.mkv"
    with av.open(str(clip), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 8, "yuv420p"
        for _ in range(6):
            picture = np.zeros((8, 16, 3), np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())
    assert [each.shape for each in calibration_frames(clip, 3)] == [(1, 8, 16, 3)] * 3
    ours = calibration_frames(None, 4)
    assert len(ours) == 4
    assert all(each.ndim == 4 and each.dtype == np.uint8 for each in ours)


def test_what_is_no_picture_and_no_video_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no pictures in"):
        calibration_frames(tmp_path)
    notes = tmp_path / "notes.txt"
    notes.write_text("nothing")
    with pytest.raises(VideoError, match=r"notes\.txt"):
        calibration_frames(notes)
