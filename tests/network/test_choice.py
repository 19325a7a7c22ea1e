"""Which file, device and precision are taken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import ModelError
from streamdeblur.network import catalogue, devices, speeds
from streamdeblur.network.catalogue import ModelFiles, find
from streamdeblur.network.choice import precision_on, settings_for
from streamdeblur.spec import ModelSpec
from tests.tiny_onnx import FLOAT16, foreign, invert, model, overflowing


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STREAMDEBLUR_CACHE", str(tmp_path / "cache"))


def written(folder: Path, precision: str, accepted: tuple[str, ...] = ()) -> Path:
    name = "net.onnx" if precision == "fp32" else f"net.{precision}.onnx"
    spec = ModelSpec(name="net", precision=precision, accepted=list(accepted))
    (folder / name).write_bytes(model("BitwiseNot", metadata=spec.to_metadata()))
    return folder / name


def chosen(files: ModelFiles, **wishes: str) -> list[tuple[str, str]]:
    return [(each.device.name, each.precision) for each in settings_for(files, **wishes)]


def test_files_of_other_precisions_are_found_beside_the_one_given(tmp_path: Path) -> None:
    plain, half = written(tmp_path, "fp32"), written(tmp_path, "fp16", ("fp16",))
    assert find(plain).paths == {"fp32": plain, "fp16": half}
    assert find(half).paths == {"fp16": half, "fp32": plain}
    assert find(half).own == "fp16"
    assert find(plain).path("bf16") == plain
    assert find(plain).accepts("fp16")
    assert not find(plain).accepts("int8")
    with pytest.raises(ModelError, match=r"no net\.int8\.onnx lies beside it; .*--int8"):
        find(plain).spec("int8")


def test_the_twin_that_the_metadata_name_is_looked_for_beside_the_file_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "inside").mkdir()
    written(tmp_path, "fp32")
    spec = ModelSpec(name="half", precision="fp16", twin="../net.onnx")
    path = tmp_path / "inside" / "half.onnx"
    path.write_bytes(model("BitwiseNot", metadata=spec.to_metadata()))
    assert find(path).path("fp32") is None
    twin = written(tmp_path / "inside", "fp32")
    assert find(path).path("fp32") == twin


def test_a_model_made_elsewhere_has_the_precision_of_its_input(tmp_path: Path) -> None:
    path = tmp_path / "naf.onnx"
    path.write_bytes(foreign(element=FLOAT16))
    assert find(path).own == "fp16"
    assert not find(path).knows("fp16")
    assert chosen(find(path), device="cpu") == [("cpu", "fp16")]


def test_lower_precisions_are_bundled_with_their_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written(tmp_path, "fp32")
    written(tmp_path, "int8")
    monkeypatch.setattr(catalogue, "_MODELS", tmp_path)
    assert catalogue.bundled_names() == ["net"]
    (bundled,) = catalogue.bundled_models()
    assert bundled.precisions == ("fp32", "int8")


def test_a_lower_precision_is_taken_by_itself_only_if_its_loss_was_accepted(
    tmp_path: Path,
) -> None:
    files = find(written(tmp_path, "fp32"))
    cuda = devices.find("cuda")
    written(tmp_path, "fp16")
    assert precision_on(cuda, "auto", find(files.given)) == "fp32"
    assert precision_on(cuda, "fp16", find(files.given)) == "fp16"  # asked for
    written(tmp_path, "fp16", ("fp16",))
    assert precision_on(cuda, "auto", find(files.given)) == "fp16"
    with pytest.raises(ModelError, match="cuda does not compute in int8 here, but in fp16, fp32"):
        precision_on(cuda, "int8", files)


def test_auto_refuses_a_precision_that_nothing_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "present", lambda: [CPU])
    monkeypatch.setattr(devices, "register_plugins", lambda: [])
    monkeypatch.setattr(devices, "_registered", set[str]())
    monkeypatch.setattr(devices.ort, "get_available_providers", lambda: [CPU.provider])
    files = find(written(tmp_path, "fp32"))
    with pytest.raises(ModelError, match=r"cpu does not compute in bf16.*openvino does: pip"):
        settings_for(files, precision="bf16")
    devices._registered.add("onnxruntime_ep_openvino")  # which serves nothing here
    with pytest.raises(ModelError, match=r"cpu does not compute in bf16 here, but in [a-z0-9, ]*$"):
        settings_for(files, precision="bf16")
    with pytest.raises(ModelError, match=r"no net\.int8\.onnx lies beside it"):
        settings_for(files, precision="int8")


CPU = devices.find("cpu")


def test_auto_takes_openvino_for_bf16_that_was_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = devices.find("openvino")
    monkeypatch.setattr(devices, "present", lambda: [openvino, CPU])
    monkeypatch.setattr(devices, "offered", lambda device: device.precisions)
    assert chosen(find(written(tmp_path, "fp32"))) == [("cpu", "fp32")]
    files = find(written(tmp_path, "fp32", ("bf16",)))
    assert chosen(files) == [("openvino", "bf16"), ("cpu", "fp32")]
    assert chosen(files, device="openvino") == [("openvino", "bf16")]
    assert chosen(files, device="openvino", precision="fp32") == [("openvino", "fp32")]


def test_what_was_measured_to_be_quickest_is_taken_while_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "fp32")
    written(tmp_path, "int8", ("int8",))
    written(tmp_path, "fp16")
    monkeypatch.setattr(devices, "present", lambda: [CPU])
    assert chosen(find(path)) == [("cpu", "fp32")]
    times = {("cpu", "fp32"): 0.3, ("cpu", "fp16"): 0.1, ("cpu", "int8"): 0.2}
    speeds.remember(find(path), times)
    assert chosen(find(path)) == [("cpu", "int8"), ("cpu", "fp32")]  # fp16 was not accepted
    assert chosen(find(path), precision="fp16") == [("cpu", "fp16")]
    assert chosen(find(path.with_name("net.fp16.onnx"))) == [("cpu", "fp16")]  # so it was chosen
    written(tmp_path, "int8")  # another file: nothing is known of it, nor is it accepted
    assert chosen(find(path)) == [("cpu", "fp32")]


def test_what_is_remembered_can_be_damaged(tmp_path: Path) -> None:
    files = find(written(tmp_path, "fp32"))
    path = speeds.remember(files, {("cpu", "fp32"): 0.1})
    for content in ("", "[]", json.dumps({"other": {}}), "\xff"):
        path.write_text(content, encoding="latin-1")
        assert speeds.recalled(files) == []
    assert [each.name for each in path.parent.iterdir()] == ["speeds.json"]


def test_frames_that_overflow_in_fp16_are_done_again_in_fp32(tmp_path: Path) -> None:
    written(tmp_path, "fp32")  # which inverts
    spec = ModelSpec(name="net", precision="fp16", receptive_field=1, twin="net.onnx")
    half = tmp_path / "net.fp16.onnx"
    half.write_bytes(overflowing(spec.to_metadata()))
    said: list[str] = []
    deblurrer = Deblurrer.load(half, device="cpu", say=said.append)
    assert deblurrer.rescued == 0  # the trial pictures, which are black, count for nothing
    images = np.random.default_rng(0).integers(1, 256, (3, 8, 8, 3), np.uint8)
    images[1, 3, 3, 1] = 0
    sharp = deblurrer(images)
    assert np.array_equal(sharp[[0, 2]], images[[0, 2]])
    assert np.array_equal(sharp[1], 255 - images[1])
    assert deblurrer.rescued == 1
    assert said == ["fp16 overflowed: such frames are done again in fp32"]


def test_frames_that_overflow_are_an_error_where_there_is_no_fp32(tmp_path: Path) -> None:
    spec = ModelSpec(name="net", precision="fp16", receptive_field=1)
    half = tmp_path / "net.fp16.onnx"
    half.write_bytes(overflowing(spec.to_metadata()))
    with pytest.raises(ModelError, match=r"NaN or infinity.*no net\.onnx lies beside it"):
        Deblurrer.load(half, device="cpu")


def test_the_multiple_that_a_model_needs_is_found_by_trying(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "net.onnx"
    for block in (1, 2, 8, 64):
        path.write_bytes(blocks(onnx, block))
        deblurrer = Deblurrer.load(path, device="cpu")
        assert deblurrer.spec.multiple_of == block
        image = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
        assert np.array_equal(deblurrer(image), image)
    path.write_bytes(blocks(onnx, 3))
    with pytest.raises(ModelError, match="runs on no usual size"):
        Deblurrer.load(path, device="cpu")


def blocks(onnx: object, size: int) -> bytes:
    """Float pictures as they are, if their sides are multiples of `size`."""
    from onnx import TensorProto, helper

    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"])
        for name in ("input", "output")
    ]
    nodes = [
        helper.make_node("SpaceToDepth", ["input"], ["deep"], blocksize=size),
        helper.make_node("DepthToSpace", ["deep"], ["output"], blocksize=size),
    ]
    graph = helper.make_graph(nodes, "blocks", ends[:1], ends[1:])
    opset = helper.make_opsetid("", 18)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


def test_whole_models_are_inverted(tmp_path: Path) -> None:
    """The tiny models above do what the tests think."""
    path = tmp_path / "net.onnx"
    path.write_bytes(invert())
    image = np.zeros((4, 4, 3), np.uint8)
    assert (Deblurrer.load(path, device="cpu")(image) == 255).all()
