"""What most tests begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clips import write_clip
from tests.tiny_onnx import invert

ClipMaker = Callable[..., Path]


@pytest.fixture
def make_clip(tmp_path: Path) -> ClipMaker:
    """`make_clip("name.mp4", ...)` writes a clip (see `write_clip`) and gives its path."""

    def make(name: str = "clip.mp4", **options: Any) -> Path:
        return write_clip(tmp_path / name, **options)

    return make


@pytest.fixture
def clip(make_clip: ClipMaker) -> Path:
    """Twelve frames of H.264 in an MP4."""
    return make_clip()


@pytest.fixture
def model(tmp_path: Path) -> str:
    """The name of a model's file, which gives negatives: 255 - x."""
    (tmp_path / "invert.onnx").write_bytes(invert())
    return str(tmp_path / "invert.onnx")
