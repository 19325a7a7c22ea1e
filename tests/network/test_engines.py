"""TensorRT's engines: their keys, and how they come into use. TensorRT itself is a fake."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamdeblur.errors import ModelError
from streamdeblur.network import devices, engines, nvidia
from streamdeblur.network.engines import Engines, engine_folder, is_built, meanwhile_setting
from streamdeblur.network.session import Setting
from tests.tiny_onnx import identity, invert, model

SETTING = Setting(devices.find("tensorrt"), "fp16")
SHAPE = (1, 48, 64, 3)
GPU = nvidia.Gpu("NVIDIA Test", "9.0", "13.2", 80 << 30, 70 << 30)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREAMDEBLUR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(nvidia, "gpu", lambda index: GPU)
    monkeypatch.setattr(engines, "load_tensorrt", lambda: "10.13.3")
    (tmp_path / "net.onnx").write_bytes(identity())
    return tmp_path / "net.onnx"


class FakeBound:
    """An engine's session, which leaves a file, as TensorRT does."""

    dtype = np.uint8

    def __init__(self, folder: Path) -> None:
        (folder / "graph.engine").write_bytes(b"engine")

    def __call__(self, tensor: Any) -> list[Any]:
        return [tensor]


def test_whatever_had_a_part_in_an_engine_is_in_its_key(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key() -> Path:
        return engine_folder(path, SHAPE, SETTING, "10.13.3")

    keys = {
        key(),
        engine_folder(path, (1, 48, 65, 3), SETTING, "10.13.3"),
        engine_folder(path, SHAPE, replace(SETTING, precision="fp32"), "10.13.3"),
        engine_folder(path, SHAPE, SETTING, "10.14.0"),
    }
    assert key() == key()
    for other in (replace(GPU, name="Other"), replace(GPU, capability="8.9"),
                  replace(GPU, cuda="13.3")):  # fmt: skip
        monkeypatch.setattr(nvidia, "gpu", lambda index, gpu=other: gpu)
        keys.add(key())
    monkeypatch.setattr(nvidia, "gpu", lambda index: replace(GPU, free=5))  # no part of it
    assert key() in keys
    monkeypatch.setattr(engines.ort, "__version__", "9.9")
    keys.add(key())
    path.write_bytes(invert())
    keys.add(key())
    assert len(keys) == 9
    assert {folder.parent for folder in keys} == {path.parent / "cache" / "tensorrt"}


def test_an_engine_is_built_once_and_appears_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Path] = []

    def opens(path: Path, shape: Any, setting: Any, folder: Path) -> FakeBound:
        built.append(folder)
        assert not is_built(engine_folder(path, shape, setting, "10.13.3"))
        return FakeBound(folder)

    monkeypatch.setattr(engines, "open_engine", opens)
    folder = engines.build(path, SHAPE, SETTING)
    assert engines.build(path, SHAPE, SETTING) == folder
    assert len(built) == 1
    assert is_built(folder)
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["gpu"] == ["NVIDIA Test", "9.0", "13.2"]
    assert facts["shape"] == [1, 48, 64, 3]
    assert [each.name for each in folder.parent.iterdir()] == [folder.name]


def test_a_build_that_fails_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise ModelError("no")

    monkeypatch.setattr(engines, "open_engine", fails)
    with pytest.raises(ModelError, match="no"):
        engines.build(path, SHAPE, SETTING)
    assert list((path.parent / "cache" / "tensorrt").iterdir()) == []


def running(
    path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], waits: int = 2
) -> Engines:
    """CUDA gives 1, TensorRT 2; an engine takes so many calls to be built."""

    def built(*_: Any) -> Iterator[None]:
        yield from [None] * waits

    def opens(*_: Any) -> Callable[[Any], list[Any]]:
        return lambda tensor: [2]

    monkeypatch.setattr(engines, "_built_elsewhere", built)
    monkeypatch.setattr(engines, "open_engine", opens)
    monkeypatch.setattr(engines, "promised", lambda call: iter((None, call())))
    return Engines(path, SETTING, lambda tensor: [1], said.append)


def test_cuda_works_until_the_engine_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    run = running(path, monkeypatch, said)
    tensor = np.zeros(SHAPE, np.uint8)
    answers = [run(tensor)[0] for _ in range(10)]
    assert answers == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    assert run.is_ready
    assert not run.is_busy
    assert "1x48x64x3" in said[0]
    assert "CUDA does the work" in said[0]
    assert said[1:] == ["from here on, 1x48x64x3 runs on TensorRT"]


def test_pictures_of_many_sizes_need_no_engines(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    run = running(path, monkeypatch, said)
    for height in range(2, 20):
        assert run(np.zeros((1, height, 8, 3), np.uint8)) == [1]
    assert said == []


def test_an_engine_that_cannot_be_built_leaves_the_work_to_cuda_and_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    run = running(path, monkeypatch, said)

    def fails(*_: Any) -> Iterator[None]:
        yield None
        raise ModelError("TensorRT could not build the engine: out of memory")

    monkeypatch.setattr(engines, "_built_elsewhere", fails)
    for _ in range(8):
        assert run(np.zeros(SHAPE, np.uint8)) == [1]
    assert said[1:] == [
        "1x48x64x3 stays on CUDA: TensorRT could not build the engine: out of memory"
    ]


def test_the_other_process_builds_and_tells_why_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Really started; here it has no TensorRT."""
    monkeypatch.undo()
    building = engines._built_elsewhere(Path, path, SHAPE, SETTING)
    with pytest.raises(ModelError, match=r"could not build.*(tensorrt|libnvinfer)"):
        for _ in building:
            pass


def test_tensorrt_that_is_missing_is_named() -> None:
    if engines._library((engines._LIBRARIES[0],)) is not None:
        pytest.skip("it is here")
    with pytest.raises(ModelError, match=r"nvinfer.*10.* not found; .*pip install 'tensorrt<11'"):
        engines.load_tensorrt()


def test_meanwhile_cuda_computes_in_what_it_has() -> None:
    for wished, got in (("fp16", "fp16"), ("fp32", "fp32"), ("bf16", "fp32"), ("int8", "fp32")):
        setting = meanwhile_setting(replace(SETTING, precision=wished))
        assert (setting.device.name, setting.precision) == ("cuda", got)


def test_sizes_without_names_cannot_be_fixed(path: Path) -> None:
    assert engines._free_names(path) == ["batch", "height", "width", ""]
    path.write_bytes(model("Identity", 1, (1, 3, "h", "w"), names=("input", "output")))
    assert engines._free_names(path) == ["", "", "h", "w"]
