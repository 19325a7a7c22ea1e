"""The benchmark runs and prints its ratio; what it measures is nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.tiny_onnx import identity

ROOT = Path(__file__).parent.parent


def test_end_to_end_prints_the_ratio(tmp_path: Path) -> None:
    model, figures = tmp_path / "identity.onnx", tmp_path / "figures.json"
    model.write_bytes(identity())
    flags = ["--model", str(model), "--sizes", "64x48", "--frames", "4", "--rounds", "2"]
    done = subprocess.run(
        [sys.executable, "bench/end_to_end.py", *flags, "--json", str(figures)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "64x48: model alone" in done.stdout
    assert "ratio" in done.stdout
    rounds = json.loads(figures.read_text())["sizes"]["64x48"]
    assert len(rounds) == 2
    assert all(each["end_to_end_fps"] > 0 for each in rounds)


def test_live_soak_prints_delay_drops_and_growth() -> None:
    flags = ["--minutes", "0.05", "--size", "64x48", "--record"]
    printed = _run("bench/live_soak.py", *flags)
    for figure in ("dropped (", "delay: median", "above it:", "growth from the first", "MB"):
        assert figure in printed


def test_reconnect_prints_how_soon_it_is_back() -> None:
    printed = _run("bench/reconnect.py", "--times", "1")
    assert "back after" in printed
    assert "threads:" in printed


def _run(script: str, *flags: str) -> str:
    done = subprocess.run(
        [sys.executable, script, *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
