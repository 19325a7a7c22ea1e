"""What may import what, who may print, and who may start threads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamdeblur

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "streamdeblur": {"streamdeblur"},
    "train": {"train", "streamdeblur", "torch", "skimage"},
    "export": {"export", "train", "streamdeblur", "torch", "onnx", "onnxscript", "skimage"},
}
GUARDED = set().union(*ALLOWED.values())
CONCURRENCY = {"threading", "_thread", "concurrent", "multiprocessing", "asyncio", "queue"}
# Viewers of the page wait for their networks as coroutines, in a thread that `threads` lends;
# pictures are coded in the executor of its loop, and end with it.
COROUTINES = {"guard.py", "newest.py", "serve.py", "webrtc.py"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Top-level names that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package: str) -> None:
    assert sources(package)
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported(path)
        if name in GUARDED - ALLOWED[package]
    ]
    assert wrong == []


def test_only_one_file_has_threads() -> None:
    found = {path.name: CONCURRENCY & set(imported(path)) for path in sources("streamdeblur")}
    assert found.pop("threads.py") == {"threading", "concurrent", "asyncio"}
    found = {name: modules for name, modules in found.items() if modules}
    assert found == {name: {"asyncio"} for name in COROUTINES}


def test_only_the_command_prints() -> None:
    printing = {
        path.name
        for path in sources("streamdeblur")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "input")
    }
    assert printing == {"cli.py"}


def test_only_the_window_imports_opencv() -> None:
    found = {path.name for path in sources("streamdeblur") if "cv2" in imported(path)}
    assert found == {"window.py"}  # it runs in a process of its own, and says why


def test_the_public_names_are_sorted_and_there() -> None:
    assert streamdeblur.__all__ == sorted(streamdeblur.__all__)
    for name in streamdeblur.__all__:
        assert getattr(streamdeblur, name).__doc__, name
    with pytest.raises(AttributeError, match="nosuch"):
        streamdeblur.nosuch  # noqa: B018


@pytest.mark.parametrize(
    "script",
    [
        "import streamdeblur",
        "from streamdeblur.cli import main; main(['--help'])",
        "from streamdeblur.cli import main; main(['clip.mp4', '--strength', '7'])",
        "from streamdeblur.cli import main; main(['--version'])",
    ],
    ids=["import", "help", "usage error", "version"],
)
def test_light_things_import_nothing_heavy(script: str) -> None:
    report = (
        "import atexit, sys\n"
        "heavy = {'av', 'cv2', 'numpy', 'onnxruntime', 'rich'}\n"
        "atexit.register(lambda: print('heavy:', *sorted(heavy & set(sys.modules))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", report + script], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "heavy:", done.stdout + done.stderr
