"""Files that are broken or odd: what can be kept is kept, and all else is counted and told."""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdeblur.cli import main
from streamdeblur.correction import planes
from streamdeblur.errors import VideoError
from streamdeblur.sources import FileSource
from streamdeblur.video.damage import SliceChecksums
from streamdeblur.video.fitting import scaled
from streamdeblur.video.tracks import TrackCopier
from tests.clips import with_last_held, write_clip
from tests.conftest import ClipMaker
from tests.tiny_onnx import identity

MS = Fraction(1, 1000)
Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run(input, output)` gives the exit code and the lines that are said."""
    model = tmp_path / "identity.onnx"
    model.write_bytes(identity())

    def command(path: Path, output: Path, *flags: str) -> tuple[int, list[str]]:
        code = main([str(path), "-o", str(output), "-m", str(model), "-f", *flags])
        said, errors = capfd.readouterr()
        assert said == ""
        return code, [line.removeprefix("streamdeblur: ") for line in errors.splitlines()]

    return command


def times(path: Path, kind: str = "video") -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return sorted(
            packet.pts * packet.time_base
            for packet in container.demux(stream)
            if packet.size and packet.pts is not None and packet.time_base
        )


@pytest.mark.parametrize("where", [10, 0.3, 0.9, -2])
def test_a_wrong_checksum_of_ffv1_is_counted(make_clip: ClipMaker, run: Run, where: float) -> None:
    clip = make_clip(
        "in.mkv", codec="ffv1", pts=range(9), options={"level": "3", "slicecrc": "1", "slices": "4"}
    )
    with FileSource(clip) as source:
        assert len(list(source)) == 9
        assert source.damage.total == 0
    with av.open(str(clip)) as container:
        packet = bytes(list(container.demux(video=0))[4])
    content = bytearray(clip.read_bytes())
    place = int(where * len(packet)) if isinstance(where, float) else where % len(packet)
    content[content.index(packet) + place] ^= 0x10
    clip.write_bytes(content)
    code, said = run(clip, clip.with_name("out.mkv"))
    assert code == 1
    assert "is damaged (1 spoilt frame)" in said[-1]
    assert len(times(clip.with_name("out.mkv"))) == 9


@given(st.binary(min_size=8, max_size=300))
def test_packets_that_are_no_slices_harm_nobody(packet: bytes) -> None:
    checksums = SliceChecksums()
    checksums.look_at(packet)
    assert checksums.wrong == 0  # nothing says that there are checksums at all


def test_without_checksums_nothing_is_counted(make_clip: ClipMaker) -> None:
    clip = make_clip("in.mkv", codec="ffv1", options={"level": "3", "slicecrc": "0"})
    with FileSource(clip) as source:
        assert len(list(source)) == 12
        assert source.damage.total == 0


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    """Two recordings, as after `cat a.ts b.ts`: both clocks begin anew in the middle."""
    parts = [
        write_clip(
            tmp_path / f"{start}.ts",
            pts=[90_000 * start + index * 3600 for index in range(30)],
            time_base=Fraction(1, 90_000),
            audio=True,
            audio_start=Fraction(start),
            options={"bf": "0"},
        )
        for start in (9, 0)
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def assert_in_step(part: Path, picture: list[Fraction], sound: list[Fraction]) -> None:
    """The sound of the second half is all there and as it was in `part`, seen from the picture."""
    alone = times(part, "audio")
    before, middle = next(pair for pair in pairwise(sound) if pair[1] - pair[0] > Fraction(1, 10))
    assert abs((middle - picture[-30]) - (alone[0] - times(part)[0])) < Fraction(1, 20)
    assert len([time for time in sound if time > before]) == len(alone)


def test_joined_recordings_go_on_in_step_with_their_sound(joined: Path, run: Run) -> None:
    output = joined.with_name("out.mkv")
    code, said = run(joined, output)
    assert code == 0, said
    assert "1 leap back of the clock: what follows is set behind it" in said
    picture = times(output)
    assert len(picture) == 60
    steps = np.diff([float(time) for time in picture])
    assert np.allclose(steps, 0.04, atol=0.002)
    assert_in_step(joined.with_name("0.ts"), picture, times(output, "audio"))


@pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")
def test_a_part_of_joined_recordings_keeps_their_sound(joined: Path, run: Run) -> None:
    """By its own clock, the second one's comes long before the part, and Matroska knows no past."""
    pipe, output = joined.with_name("pipe"), joined.with_name("out.mkv")
    os.mkfifo(pipe)  # in which nobody can seek
    writer = threading.Thread(target=pipe.write_bytes, args=[joined.read_bytes()])
    writer.start()
    code, said = run(pipe, output, "--start", "0.2")
    writer.join()
    assert code == 0, said
    assert len(times(output)) == 55
    assert_in_step(joined.with_name("0.ts"), times(output), times(output, "audio"))


def test_a_leap_at_the_end_of_a_part_is_not_told(joined: Path) -> None:
    with FileSource(joined, duration=Fraction("1.21")) as source:
        assert len(list(source)) == 30
        assert source.damage.oddities == ["1 packet marked as damaged in transport"]
    with FileSource(joined, duration=Fraction("1.25")) as source:
        assert len(list(source)) == 31
        assert source.damage.jumps == 1


@contextmanager
def sound_copier(source: FileSource, output: Path) -> Iterator[TrackCopier]:
    with av.open(str(output), "w", format="matroska") as container:
        copier = TrackCopier(source, container)
        copier.add_tracks(lambda: None)
        container.start_encoding()
        copier.start()
        yield copier
        copier.close()


def test_sound_that_leaps_first_waits_for_the_picture(joined: Path) -> None:
    """Half a second of sound beside more picture is read up to the leap long before it."""
    output = joined.with_name("out.mka")
    with FileSource(joined) as source, sound_copier(source, output) as copier:
        copier.advance(Fraction(10))
        picture = [frame.pts * source.info.time_base for frame in source]
        copier.advance()
    assert_in_step(joined.with_name("0.ts"), picture, times(output, "audio"))


def test_sound_that_leaps_alone_does_not_wait_for_long(joined: Path) -> None:
    output = joined.with_name("out.mka")
    with FileSource(joined) as source, sound_copier(source, output) as copier:
        copier.advance(Fraction(20))  # where the picture has not leapt
    assert float(np.diff([float(time) for time in times(output, "audio")]).max()) < 0.03
    assert len(times(output, "audio")) == 2 * len(times(joined.with_name("0.ts"), "audio"))


def test_a_size_that_changes_in_the_middle_is_fitted_and_told(tmp_path: Path, run: Run) -> None:
    base = Fraction(1, 90_000)
    first = write_clip(tmp_path / "a.ts", pts=[9000 + 3600 * i for i in range(8)], time_base=base)
    second = write_clip(
        tmp_path / "b.ts", pts=[90_000 + 3600 * i for i in range(8)], time_base=base, size=(96, 48)
    )
    joined, output = tmp_path / "joined.ts", tmp_path / "out.mkv"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    code, said = run(joined, output)
    assert code == 0, said
    with av.open(str(output)) as container:
        sizes = [(picture.width, picture.height) for picture in container.decode(video=0)]
    assert len(sizes) >= 15
    assert set(sizes) == {(64, 48)}
    assert any("of another size than the first, fitted into it" in line for line in said)


def test_a_layout_that_changes_in_the_middle_is_converted(tmp_path: Path, run: Run) -> None:
    base = Fraction(1, 90_000)
    clips = [
        write_clip(
            tmp_path / f"{layout}.ts",
            pts=[start + 3600 * i for i in range(8)],
            time_base=base,
            pix_fmt=layout,
        )
        for layout, start in (("yuv420p", 9000), ("yuv422p10le", 90_000))
    ]
    joined, output = tmp_path / "joined.ts", tmp_path / "out.mkv"
    joined.write_bytes(b"".join(clip.read_bytes() for clip in clips))
    code, said = run(joined, output)
    assert code == 0, said
    with av.open(str(output)) as container:
        layouts = [picture.format.name for picture in container.decode(video=0)]
    assert len(layouts) >= 15
    assert set(layouts) == {"yuv420p"}


def test_a_track_without_a_packet_is_no_obstacle(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, width=64, height=48)
        sound = output.add_stream("aac", rate=48_000)
        sound.layout = "mono"
        for index in range(5):
            picture = av.VideoFrame(64, 48, "yuv420p")
            picture.pts = index
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    for kind in ("mkv", "mp4"):
        code, said = run(path, tmp_path / f"out.{kind}")
        assert code == 0, said
        assert len(times(tmp_path / f"out.{kind}")) == 5


def test_a_header_that_lies_about_its_duration_is_no_damage(make_clip: ClipMaker, run: Run) -> None:
    clip = make_clip("in.mkv", pts=range(50))
    content = bytearray(clip.read_bytes())
    place = content.index(b"\x44\x89\x88") + 3  # Matroska's Duration, a double in milliseconds
    assert struct.unpack_from(">d", content, place)[0] == 2000
    struct.pack_into(">d", content, place, 18_000)
    clip.write_bytes(content)
    code, said = run(clip, clip.with_name("out.mkv"))
    assert code == 0, said
    assert "ends 16.0 s before the file should" in said[-1]
    assert len(times(clip.with_name("out.mkv"))) == 50


def test_a_last_picture_that_is_held_is_no_early_end(make_clip: ClipMaker, run: Run) -> None:
    held = with_last_held(make_clip("in.mp4", options={"bf": "0"}), 5)
    code, said = run(held, held.with_name("out.mkv"))
    assert code == 0, said
    assert "before the file should" not in "".join(said)


def test_the_last_frames_that_were_cut_off_are_missed(make_clip: ClipMaker, run: Run) -> None:
    """Less than a second of it, behind an index that still counts them."""
    clip = make_clip("in.mov", codec="prores_ks", pix_fmt="yuv422p10le", pts=range(20))
    whole = clip.read_bytes()
    place = whole.index(b"mdat") - 4
    size = int.from_bytes(whole[place : place + 4], "big")
    moov = whole[place + size :]
    # The index first, as for the web; its offsets of chunks move by its own length.
    chunk = moov.index(b"stco") + 12
    (offset,) = struct.unpack_from(">I", moov, chunk)
    moved = bytearray(moov)
    struct.pack_into(">I", moved, chunk, offset + len(moov))
    clip.write_bytes((whole[:place] + bytes(moved) + whole[place:])[: -size // 4])
    with FileSource(clip) as source:
        frames = len(list(source))
        assert 10 < frames < 20
        assert source.damage.total >= 20 - frames - 1
    code, said = run(clip, clip.with_name("out.mov"))
    assert code == 1
    assert "is damaged (" in said[-1]


def test_a_bare_stream_without_times_gets_some(tmp_path: Path, run: Run) -> None:
    write_clip(tmp_path / "in.h264", pts=range(12))
    code, said = run(tmp_path / "in.h264", tmp_path / "out.mp4")
    assert code == 0, said
    steps = np.diff([float(time) for time in times(tmp_path / "out.mp4")])
    assert len(steps) == 11
    assert (steps > 0).all()


def test_a_bare_stream_without_times_is_cut_by_its_rate(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.h264", pts=range(12))
    with FileSource(path) as source:
        whole = [frame.image for frame in source]
    with FileSource(path, start=Fraction("0.12"), duration=Fraction("0.2")) as source:
        frames = list(source)
        assert [frame.pts * source.info.time_base * 25 for frame in frames] == [0, 1, 2, 3, 4]
        assert source.damage.mended_times == 5
    for frame, image in zip(frames, whole[3:8], strict=True):
        assert np.array_equal(frame.image, image)
    with pytest.raises(VideoError, match="has no picture at 2 s: choose an earlier start"):
        FileSource(path, start=Fraction(2))


@pytest.mark.parametrize(("flags", "frames"), [([], 50), (["--duration", "1.6"], 40)])
def test_a_part_goes_on_through_joined_recordings(
    joined: Path, run: Run, flags: list[str], frames: int
) -> None:
    """The second one's clock shows times before the start again, and later those before the end."""
    joined.write_bytes(2 * joined.with_name("0.ts").read_bytes())
    output = joined.with_name("out.mkv")
    code, said = run(joined, output, "--start", "0.4", *flags)
    assert code == 0, said
    picture, sound = times(output), times(output, "audio")
    assert len(picture) == frames
    assert float(picture[-1] - picture[0]) == pytest.approx((frames - 1) * 0.04, abs=0.05)
    assert max(sound) < picture[-1] + Fraction(1, 5)


def test_a_part_is_found_though_a_seek_lands_in_the_next_recording(
    tmp_path: Path, run: Run
) -> None:
    """Its clock ends before the part begins."""
    parts = [
        write_clip(
            tmp_path / f"{seconds}.ts",
            size=size,
            pts=range(0, 90_000 * seconds, 18_000),
            time_base=Fraction(1, 90_000),
            options={"bf": "0", "g": "5"},
            audio=True,
            audio_seconds=Fraction(seconds),
        )
        for seconds, size in [(12, (64, 48)), (8, (320, 240))]
    ]
    joined, output = tmp_path / "joined.ts", tmp_path / "out.mkv"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    code, said = run(joined, output, "--start", "11.4", "--duration", "0.6")
    assert code == 0, said
    assert len(times(output)) == 3
    assert len(times(output, "audio")) > 20


@pytest.mark.parametrize(("colorspace", "color_range"), [(1, 1), (1, 2), (9, 1), (6, 1), (2, 0)])
def test_fitting_changes_no_colour(colorspace: int, color_range: int) -> None:
    picture = av.VideoFrame(64, 48, "yuv420p")
    for plane, value in zip(picture.planes, (180, 90, 170), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    picture.colorspace, picture.color_range = colorspace, color_range
    fitted = scaled(picture, 48, 48)
    assert (fitted.colorspace, fitted.color_range) == (colorspace, color_range)
    found = [(plane[plane.shape[0] // 2, 10], plane[0, 10]) for plane in planes(fitted)]
    black = 0 if color_range == 2 else 16
    assert found == [(180, black), (90, 128), (170, 128)]


@pytest.mark.parametrize(
    ("flags", "spoilt"),
    [
        (["--duration", "0.24"], 1),
        (["--duration", "0.08"], 0),
        (["--start", "0.24"], 0),
        (["--start", "0.08", "--duration", "0.2"], 1),
    ],
)
def test_checksums_count_within_the_part(
    make_clip: ClipMaker, run: Run, flags: list[str], spoilt: int
) -> None:
    """The fifth of twelve frames is spoilt, at 0.16 s."""
    clip = make_clip("in.mkv", codec="ffv1", options={"level": "3", "slicecrc": "1"})
    with av.open(str(clip)) as container:
        packet = bytes(list(container.demux(video=0))[4])
    content = bytearray(clip.read_bytes())
    content[content.index(packet) + len(packet) - 30] ^= 0x10
    clip.write_bytes(content)
    code, said = run(clip, clip.with_name("out.mkv"), *flags)
    assert code == spoilt
    assert ("1 spoilt frame" in said[-1]) == bool(spoilt)
