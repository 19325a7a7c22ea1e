"""Benchmarks run, at their smallest, and print what they are there for, whatever it is here."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pyvips

from bench import harness
from tests.conftest import ClipMaker
from tests.tiny_onnx import identity

ROOT = Path(__file__).parent.parent


def test_end_to_end_prints_the_ratio_and_what_ffmpeg_alone_needs(tmp_path: Path) -> None:
    model, figures = tmp_path / "identity.onnx", tmp_path / "figures.json"
    model.write_bytes(identity())
    flags = ["--model", str(model), "--sizes", "64x48", "--frames", "4", "--rounds", "2"]
    printed = _run("bench.end_to_end", *flags, "--json", str(figures))
    assert "tiny fp32 on CPUExecutionProvider" in printed
    assert "onnxruntime" in printed.splitlines()[1]  # versions
    written = json.loads(figures.read_text())
    (row,) = written["sizes"]
    assert row["size"] == "64x48"
    assert row["from"] <= row["ratio"] <= row["to"]
    assert row["end to end"] > 0
    assert (row["ffmpeg alone"] is not None) == bool(shutil.which("ffmpeg"))
    assert written["machine"]["cores"] >= 1


def test_the_road_prints_stages_and_rates(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    flags = ["--sizes", "64x48", "--frames", "4", "--rounds", "1", "--json", str(figures)]
    printed = _run("bench.road", *flags)
    assert "libx264 veryfast" in printed
    written = json.loads(figures.read_text())
    (costs,), (rates,) = written["costs"], written["rates"]
    assert costs["correct"] > costs["floor of correct"] > 0
    assert all(rates[f"{sink}, 2 helpers"] > 0 for sink in ("nowhere", "corrected", "file"))


def test_live_soak_prints_delay_drops_and_growth() -> None:
    flags = ["--minutes", "0.05", "--size", "64x48", "--record"]
    printed = _run("bench.live_soak", *flags)
    for figure in ("dropped (", "delay: median", "above it:", "growth from the first", "MB"):
        assert figure in printed


@pytest.mark.slow
def test_memory_stays_flat_over_many_frames(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    printed = _run("bench.memory", "--frames", "10000", "--json", str(figures))
    assert "second half:" in printed
    written = json.loads(figures.read_text())
    assert written["curve"][-1][0] == 10_000
    assert abs(written["slope"]) < 3  # MB in 10,000 frames: a leak of one 64x48 picture is 46


def test_reconnect_prints_how_soon_it_is_back() -> None:
    printed = _run("bench.reconnect", "--times", "1")
    assert "back after" in printed
    assert "threads:" in printed


def test_gpu_check_does_what_it_can_without_a_gpu_and_says_what_it_could_not(
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnx")
    figures = tmp_path / "figures.json"
    flags = ["--device", "cpu", "--sizes", "64x48", "--rounds", "2", "--side", "64"]
    printed = _run("bench.gpu_check", *flags, "--json", str(figures))
    assert "not on CUDA but on cpu" in printed
    written = json.loads(figures.read_text())
    results = {row["check"]: row["result"] for row in written["checks"]}
    assert results["provider"] == results["binding equals run()"] == "yes"
    assert results["TensorRT"] == results["overflow in fp16"] == "not done"
    assert "NO" not in results.values()
    assert {row["precision"] for row in written["speeds"]} >= {"fp32"}
    assert all(row["frames/s"] > 0 and row["floor"] > 0 for row in written["speeds"])


def _run(module: str, *flags: str) -> str:
    done = _ended(module, *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _ended(module: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_training_prints_its_shares_of_the_machines_limits(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    figures = tmp_path / "figures.json"
    flags = ["--arch", "fast", "--crop", "32", "--batch", "1", "--rounds", "1", "--steps", "1"]
    _run("bench.training", *flags, "--device", "cpu", "--json", str(figures))
    measured = json.loads(figures.read_text())["figures"]
    assert measured["crops/s, whole step"] > 0
    assert 0 < measured["share of it"] < 1
    assert 0 < measured["share of that"] < 1


def test_traffic_counts_what_kernels_read_and_write_and_no_views() -> None:
    torch = pytest.importorskip("torch")
    from bench.training import Traffic

    left, right = torch.ones(2, 10, requires_grad=True)
    with Traffic() as traffic:
        (left + right).view(2, 5)
    assert traffic.bytes == 3 * 40


def test_scaling_prints_sizes_threads_and_precisions(tmp_path: Path) -> None:
    model, figures = tmp_path / "identity.onnx", tmp_path / "figures.json"
    model.write_bytes(identity())
    flags = ["--model", str(model), "--rounds", "2", "--sizes", "16x8", "32x8", "--size", "32x8"]
    _run("bench.scaling", *flags, "--json", str(figures))
    rows = json.loads(figures.read_text())["rows"]
    assert {row["size"] for row in rows} == {"16x8", "32x8"}
    assert 1 in {row["threads"] for row in rows}
    assert all(row["of fp32's time"] == 1 for row in rows)  # there is no other precision


@pytest.mark.parametrize(
    ("module", "flags", "said"),
    [
        ("bench.scaling", ["--model", "typo"], "no model typo: "),
        ("bench.memory", ["--model", "typo"], "no model typo: "),
        ("bench.end_to_end", ["--clip", "no.mp4"], "No such file or directory: 'no.mp4'"),
        ("bench.skipping", ["--truth", "no", "--blurred", "docs"], "No such file or directory"),
        ("bench.live_soak", ["--json", "no/figures.json"], "there is no folder no"),
    ],
)
def test_mistakes_are_one_line_before_the_work(module: str, flags: list[str], said: str) -> None:
    _assert_refused(module, flags, said)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model", "typo"], "no model typo: "),
        (["--size", "9999"], "no picture has 10079 pixels each way"),
        (["--photos", "bench"], "no pictures in bench"),
    ],
)
def test_mistakes_about_pictures_are_one_line(flags: list[str], said: str) -> None:
    pytest.importorskip("torch")
    _assert_refused("bench.lengths", flags, said)


def _assert_refused(module: str, flags: list[str], said: str) -> None:
    done = _ended(module, *flags)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{module.removeprefix('bench.')}: error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ["12", "x", "0x48", "64x48x2", "63x48"])
def test_sizes_that_no_clip_has_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        harness.clip_size(text)
    assert harness.clip_size("64x48") == "64x48"


def test_skipping_refuses_pictures_that_do_not_match(tmp_path: Path) -> None:
    for name, width in (("sharp", 8), ("blur", 9)):
        (tmp_path / name).mkdir()
        pyvips.Image.black(width, 8, bands=3).write_to_file(str(tmp_path / name / "1.png"))
    flags = ["--truth", str(tmp_path / "sharp"), "--blurred", str(tmp_path / "blur")]
    _assert_refused("bench.skipping", flags, "differ in number or size")


def test_processor_time_can_be_counted() -> None:
    times = harness.take_turns({"sleep": lambda: time.sleep(0.05)}, rounds=1, clock="processor")
    assert times["sleep"][0] < 0.04


def test_cases_take_turns() -> None:
    called: list[str] = []
    cases = {name: lambda name=name: called.append(name) for name in "ab"}  # type: ignore[misc]
    times = harness.take_turns(cases, rounds=2, calls=2, warm_up=1)
    assert called == list("aabb") * 3
    assert {name: len(rounds) for name, rounds in times.items()} == {"a": 2, "b": 2}


def test_the_ratio_is_that_of_neighbours() -> None:
    times = {"a": [1.0, 30.0, 2.0], "b": [2.0, 60.0, 1.0]}  # the machine was slow in round two
    assert harness.ratio(times, "a", "b") == 0.5


def test_tables_show_what_is_missing_as_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    harness.show("title", {"case": "", "ms": ".1f"}, [{"case": "a", "ms": 1.25}, {"case": "b"}])
    printed = capsys.readouterr().out
    assert "1.2" in printed
    assert "-" in printed.splitlines()[-2]


def test_skipping_prints_what_it_saves_and_costs(tmp_path: Path, make_clip: ClipMaker) -> None:
    model = tmp_path / "identity.onnx"
    model.write_bytes(identity())
    clip = make_clip("clip.mkv", codec="ffv1", pts=range(30))
    printed = _run("bench.skipping", str(clip), "--model", str(model))
    assert "spared %" in printed
    assert "inf" in printed  # an identity network: nothing is apart
