"""The scripts that damage files and measure fidelity, at their smallest; and what the page says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_tests_that_the_page_names_exist() -> None:
    page = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", page)
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"


def run(module: str, *flags: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits what it forked")
def test_damage_never_crashes_hangs_or_leaves_anything_over() -> None:
    clips = sorted(map(str, (ROOT / "samples").glob("*.mp4")))
    printed = run("bench.fuzz", "--trials", "150", "--seed", "7", *clips)
    assert "findings: 0," in printed


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="asks ffprobe")
def test_fidelity_is_measured_by_others() -> None:
    printed = run("bench.fidelity", "--only", "4:4:4, subtitles")
    assert "frames ✓, times ✓, samples ✓, layout ✓, colours ✓" in printed
    assert "sound ✓, subtitles ✓, attachments ✓, chapters ✓, tags ✓, plays ✓" in printed
