"""Large pictures in tiles: the same picture, in less memory, and on after a failure."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdeblur import memory
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import ModelError
from streamdeblur.network import tiling
from streamdeblur.network.tiling import Images, RunFailed, Tiling, cut
from streamdeblur.spec import ModelSpec
from tests.clips import write_clip
from tests.tiny_onnx import foreign, identity

REACH = 3
SPEC = ModelSpec(name="toy", receptive_field=2 * REACH + 1, multiple_of=4)


def noise(height: int, width: int, count: int = 1) -> Images:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def blur(images: Images) -> Images:
    """Each pixel sees a square of 2 * REACH + 1, and where it lies on a grid of 4."""
    _, height, width, _ = images.shape
    sides = [(0, 0), (REACH, REACH + -height % 4), (REACH, REACH + -width % 4), (0, 0)]
    padded = np.pad(images.astype(np.int64), sides, mode="edge")
    total = np.zeros(images.shape, np.int64)
    for down in range(2 * REACH + 1):
        for across in range(2 * REACH + 1):
            weight = (down * 31 + across * 17) % 23
            total += weight * padded[:, down : down + height, across : across + width]
    places = np.arange(height)[:, None] % 4 * 4 + np.arange(width) % 4
    return ((total + places[None, :, :, None]) % 256).astype(np.uint8)


@given(
    size=st.integers(1, 5000),
    count=st.integers(1, 70),
    overlap=st.integers(0, 600),
    multiple=st.sampled_from([1, 4, 16, 32]),
)
def test_windows_cover_the_side_with_their_overlap(
    size: int, count: int, overlap: int, multiple: int
) -> None:
    cuts = cut(size, count, overlap, multiple)
    starts = cuts.starts
    assert len(starts) <= count
    assert starts[0] == 0
    assert starts[-1] + cuts.length == size
    assert all(start % multiple == 0 for start in starts)
    assert all(b + overlap <= a + cuts.length for a, b in pairwise(starts))
    assert len(set(starts)) == len(starts)


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 60), width=st.integers(1, 60), tile=st.integers(3, 40))
def test_tiles_give_what_the_whole_gives(height: int, width: int, tile: int) -> None:
    images = noise(height, width)
    tiles = []

    def run(piece: Images) -> Images:
        tiles.append(piece.shape)
        return blur(piece)

    assert np.array_equal(Tiling(SPEC, tile=tile)(images, run), blur(images))
    assert len(set(tiles)) == 1  # one size, for which the runtime prepares once


def test_the_tiles_are_as_large_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "available_bytes", lambda: 4_000_000)
    said: list[str] = []
    sizes: list[int] = []

    def run(piece: Images) -> Images:
        sizes.append(piece.shape[0] * piece.shape[1] * piece.shape[2])
        return piece

    limited = Tiling(SPEC, need=100.0, say=said.append)
    images = noise(300, 400)
    for _ in range(3):
        assert np.array_equal(limited(images, run), images)
    assert 5_000 < max(sizes) <= 10_000
    assert len(said) == 1
    assert "400x300 is done in" in said[0]
    assert np.array_equal(limited(noise(60, 60, 3), run), noise(60, 60, 3))
    assert sizes[-1] == 3_600  # one by one, since the three are too much together
    limited(noise(30, 50, 3), run)
    assert sizes[-1] == 4_500  # what fits is neither cut nor taken apart
    assert len(said) == 1


def test_what_is_too_much_is_halved_and_the_same_picture_goes_on() -> None:
    said: list[str] = []

    def run(piece: Images) -> Images:
        if piece.shape[1] * piece.shape[2] > 40_000:
            raise RunFailed("cannot allocate 77 bytes")
        return blur(piece)

    images = noise(300, 400)
    small = Tiling(SPEC, say=said.append)
    for _ in range(2):
        assert np.array_equal(small(images, run), blur(images))
    failures = [line for line in said if "too much at once: cannot allocate 77 bytes" in line]
    assert len(failures) == 2  # 120,000 and 60,000 pixels, and never again
    assert len(said) == 4


@pytest.mark.parametrize(
    ("tile", "words"), [("auto", "lost"), ("off", "--tile auto"), (64, "lost")]
)
def test_what_fails_on_little_as_well_is_an_error(tile: tiling.Tile, words: str) -> None:
    def run(piece: Images) -> Images:
        raise RunFailed("the device is lost")

    with pytest.raises(ModelError, match=words):
        Tiling(SPEC, tile=tile)(noise(300, 400), run)


def test_other_errors_pass() -> None:
    calls = []

    def run(piece: Images) -> Images:
        calls.append(piece.shape)
        raise ModelError("NaN")

    with pytest.raises(ModelError, match="NaN"):
        Tiling(SPEC)(noise(300, 400), run)
    assert len(calls) == 1


def test_seams_of_a_network_that_sees_everything_are_faded() -> None:
    def run(piece: Images) -> Images:  # a picture's brightness depends on all of it
        return np.broadcast_to(np.uint8(piece.mean()), piece.shape).copy()

    spec = ModelSpec(name="toy", receptive_field=None)
    images = np.zeros((1, 64, 1000, 3), np.uint8)
    images[:, :, 500:] = 200
    sharp = Tiling(spec, tile=300)(images, run)[0, 32, :, 0].astype(int)
    assert sharp[0] < 20
    assert sharp[-1] > 180
    assert np.abs(np.diff(sharp)).max() <= 4


@pytest.mark.parametrize("size", [(700, 900), (901, 1283)])
def test_the_bundled_network_in_tiles_and_whole(size: tuple[int, int]) -> None:
    whole, tiled = (
        Deblurrer.load("fast", tile=tile) for tile in ("off", 64 if size[0] < 800 else 400)
    )
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3), np.uint8)
    image = coarse.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    before, after = whole(image).astype(int), tiled(image).astype(int)
    assert np.abs(before - image).max() > 8  # the network does something
    assert np.abs(before - after).max() <= 1


def test_models_made_elsewhere_are_cut_too(tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(foreign())
    image = noise(201, 315)[0]
    assert np.array_equal(Deblurrer.load(tmp_path / "other.onnx", tile=50)(image), image)


def test_the_bundled_networks_need_is_measured() -> None:
    deblurrer = Deblurrer.load("fast")
    need = deblurrer._tiling._need
    assert need is not None
    assert 64 < need < 1500


def write_group(
    folder: Path, most: str, used: int, cache: int, names: tuple[str, str, str]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{most}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cache}\nfile 9\n")


def test_limits_of_control_groups_are_found(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    groups = tmp_path / "proc/self/cgroup"
    top = tmp_path / "sys/fs/cgroup"

    groups.write_text("0::/app/run\n")
    write_group(top / "app/run", "max", 100, 10, memory._CGROUP_2)
    write_group(top / "app", "1000", 300, 50, memory._CGROUP_2)
    assert list(memory._room_in_groups(tmp_path)) == [750]

    groups.write_text("5:cpu,cpuacct:/x\n4:memory:/gone\n")
    write_group(top / "memory", "2000", 600, 100, memory._CGROUP_1)
    assert list(memory._room_in_groups(tmp_path)) == [1500]
    assert list(memory._room_in_groups(tmp_path / "elsewhere")) == []


def test_available_memory_is_that_of_the_machine_or_less() -> None:
    assert memory.resident_bytes() > 0
    assert 0 <= memory.available_bytes() < 2**50


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit addresses")
def test_the_shells_limit_is_seen() -> None:
    script = (
        "import resource, psutil\n"
        "from streamdeblur.memory import available_bytes\n"
        "most = psutil.Process().memory_info().vms + 50_000_000\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "print(available_bytes())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert 40_000_000 < int(done.stdout) < 60_000_000, done.stderr


def peak_of(clip: Path, model: str, *options: str, limit: int = 0) -> tuple[int, int, str]:
    """Exit code, most addresses in use in bytes, and what was said, within a limit of addresses."""
    script = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({limit or -1}, {limit or -1}))\n"
        "from streamdeblur.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print(next(line.split()[1] for line in lines if line.startswith('VmPeak')))\n"
        "sys.exit(code)\n"
    )
    arguments = [str(clip), "-fo", str(clip.with_name("out.mp4")), "-m", model, *options]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=600
    )
    assert done.stdout, done.stderr
    return done.returncode, 1024 * int(done.stdout), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit addresses")
def test_a_4k_clip_runs_within_a_limit_that_the_whole_picture_does_not_fit(tmp_path: Path) -> None:
    clip = write_clip(
        tmp_path / "clip.mp4", size=(3840, 2160), pts=range(2), options={"preset": "ultrafast"}
    )
    (tmp_path / "same.onnx").write_bytes(identity())
    code, without_network, _ = peak_of(clip, str(tmp_path / "same.onnx"))
    assert code == 0
    code, whole, _ = peak_of(clip, "fast", "--tile", "off")
    assert code == 0
    limit = (without_network + whole) // 2
    code, _, said = peak_of(clip, "fast", "--tile", "off", limit=limit)
    assert (code, "error: " in said) == (1, True)
    code, most, said = peak_of(clip, "fast", limit=limit)
    assert code == 0, said
    assert "3840x2160 is done in" in said
    assert most <= limit
    with av.open(str(tmp_path / "out.mp4")) as output:
        assert sum(1 for _ in output.decode(video=0)) == 2
