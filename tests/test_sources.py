from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, is_full_range
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource, open_source
from streamdeblur.video import decoding, headers, opening
from tests.conftest import ClipMaker
from tests.footage import deblur, packets

MS = Fraction(1, 1000)
VFR = [0, 40, 70, 140, 150, 310, 350, 600]


def read(source: FileSource) -> list[Frame]:
    with source:
        return list(source)


def test_every_frame_comes_with_its_own_time(make_clip: ClipMaker) -> None:
    path = make_clip("vfr.mkv", pts=VFR, time_base=MS)
    source = open_source(str(path))
    assert isinstance(source, FileSource)
    assert not source.live
    frames = read(source)
    assert [frame.pts for frame in frames] == VFR
    assert [frame.picture.pts for frame in frames] == VFR
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8
    assert (source.frames_read, source.decode_errors) == (len(VFR), 0)


def test_a_source_is_named_as_python_does(make_clip: ClipMaker) -> None:
    with open_source(make_clip("clip.mp4")) as source:
        assert isinstance(source, FileSource)
    with pytest.raises(VideoError, match="can't open camera 99"):
        open_source(99)


def test_timestamps_that_do_not_begin_at_zero_stay(make_clip: ClipMaker) -> None:
    times = [5005 + 1001 * index for index in range(9)]
    path = make_clip("late.mov", pts=times, time_base=Fraction(1, 30_000))
    with av.open(str(path)) as container:
        inside = [frame.pts for frame in container.decode(video=0)]
    assert [frame.pts for frame in read(FileSource(path))] == inside
    assert inside[0] is not None
    assert inside[0] > 0


def test_info_tells_what_a_sink_needs(make_clip: ClipMaker) -> None:
    path = make_clip(
        "clip.mp4",
        size=(64, 32),
        pix_fmt="yuv420p10le",
        colorspace=9,
        color_range=1,
        color_primaries=9,
        color_trc=16,
        pixel_aspect=Fraction(4, 3),
        rotation=90,
        audio=True,
    )
    with FileSource(path) as source:
        info = source.info
    assert (info.width, info.height, info.frame_count) == (64, 32, 12)
    assert (info.rate, info.duration) == (25, Fraction(12, 25))
    assert (info.codec, info.pix_fmt) == ("h264", "yuv420p10le")
    assert (info.colorspace, info.color_range) == (9, 1)
    assert (info.color_primaries, info.color_trc) == (9, 16)
    assert (info.sample_aspect_ratio, info.rotation) == (Fraction(4, 3), 90)
    assert info.display_matrix is not None
    assert info.display_matrix[:2] == (0, -65536)


def test_tags_that_only_the_container_has_are_seen(make_clip: ClipMaker) -> None:
    options = {"deadline": "realtime", "cpu-used": "8"}
    path = make_clip(
        "clip.webm", codec="libvpx-vp9", options=options, colorspace=9, color_primaries=9,
        color_trc=16,
    )  # fmt: skip
    with FileSource(path) as source:
        first = source.info
        assert source._first is not None
        picture = source._first.picture
        picture.color_primaries = picture.color_trc = 2
        info = headers.video_info(
            source.container, source._file.stream, picture, None, None, chroma_location=None
        )
    assert (first.color_primaries, first.color_trc) == (9, 16)
    assert (info.color_primaries, info.color_trc) == (9, 16)


def test_full_range_is_seen_in_either_spelling(make_clip: ClipMaker) -> None:
    path = make_clip("full.mp4", pix_fmt="yuvj420p", color_range=2)
    assert all(is_full_range(frame.picture) for frame in read(FileSource(path)))


@pytest.mark.parametrize("name", ["long.mkv", "long.ts", "long.mp4"])
def test_start_finds_the_very_frames(make_clip: ClipMaker, name: str) -> None:
    times = range(0, 300_000, 3000)
    path = make_clip(name, pts=times, time_base=Fraction(1, 90_000), options={"g": "40"})
    whole = {frame.picture.pts: frame.image for frame in read(FileSource(path))}
    with FileSource(path, start=Fraction(2), duration=Fraction("0.2")) as source:
        frames = list(source)
        assert len(frames) == 6
        for frame in frames:
            assert np.array_equal(frame.image, whole[frame.picture.pts])
        assert source.decode_errors == 0


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_start_and_duration_cut_to_the_tick(make_clip: ClipMaker, codec: str) -> None:
    path = make_clip("long.mkv", codec=codec, pts=range(0, 4000, 40), time_base=MS)
    source = FileSource(path, start=Fraction("1.01"), duration=Fraction("0.5"))
    frames = read(source)
    assert [frame.picture.pts for frame in frames] == list(range(1040, 1510, 40))
    assert [frame.pts for frame in frames] == list(range(30, 500, 40))
    assert source.shift == Fraction("1.01")
    assert source.info.frame_count is None
    assert source.info.duration == Fraction("0.5")


def test_duration_alone_keeps_the_clock(make_clip: ClipMaker) -> None:
    path = make_clip("vfr.mkv", pts=VFR, time_base=MS)
    assert [f.pts for f in read(FileSource(path, duration=Fraction("0.2")))] == VFR[:5]


def test_a_part_may_begin_where_the_clock_shows_zero(make_clip: ClipMaker) -> None:
    # That of a transport stream comes round every 26 hours: here, with the fourth frame.
    base, first = Fraction(1, 90_000), 2**33 - 3 * 3600
    path = make_clip("in.ts", pts=range(first, first + 12 * 3600, 3600), time_base=base)
    with FileSource(path, start=Fraction("0.12"), duration=Fraction("0.2")) as source:
        assert [frame.pts for frame in source] == [0, 3600, 7200, 10_800, 14_400]


def test_a_start_beyond_the_end_is_refused(make_clip: ClipMaker) -> None:
    path = make_clip()
    with pytest.raises(VideoError, match=r"clip\.mp4 has no picture at 99 s: choose an earlier"):
        FileSource(path, start=Fraction(99))


def test_a_second_iteration_continues_the_first(make_clip: ClipMaker) -> None:
    with FileSource(make_clip("vfr.mkv", pts=VFR, time_base=MS)) as source:
        assert [next(iter(source)).pts for _ in range(3)] == VFR[:3]
        assert [frame.pts for frame in source] == VFR[3:]
        assert list(source) == []


def test_the_output_of_a_closed_source_ends(make_clip: ClipMaker) -> None:
    source = FileSource(make_clip())
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


def test_missing_times_are_filled_in_and_always_increase(
    make_clip: ClipMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FileSource(make_clip("clip.mkv", pts=range(0, 400, 40), time_base=MS))
    decoded = source._pictures

    def broken():
        for picture, pts in zip(decoded, (None, 80, 80, 60, None, 400), strict=False):
            picture.pts = pts
            picture.dts = None
            yield picture

    monkeypatch.setattr(source, "_pictures", broken())
    assert [frame.pts for frame in read(source)] == [0, 40, 80, 81, 82, 122, 400]


def test_damage_is_counted_and_stepped_over(make_clip: ClipMaker) -> None:
    path = make_clip("clip.mp4", options={"g": "4"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6000] = bytes(6000)  # whole packets: of spoilt frames alone, decoders
    path.write_bytes(data)  # with several threads may tell too late
    source = FileSource(path)
    frames = read(source)
    assert source.damage.packets >= 1
    assert len(frames) >= 8


def test_a_track_that_appears_late_is_no_error(
    make_clip: ClipMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late:
        """What PyAV does at the end of a file with more tracks than its header told of."""

        def __init__(self, path: Path, *hardware: Any) -> None:
            self._container = opening.open_container(path, *hardware)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def demux(self, *streams: Any) -> Iterator[Any]:
            yield from self._container.demux(*streams)
            raise IndexError("list index out of range")

    path = make_clip(audio=True)
    monkeypatch.setattr(decoding, "open_container", Late)
    with (
        FileSource(path) as source,
        FileSink(path.with_stem("o"), source.info, copy_from=source) as sink,
    ):
        for frame in source:
            sink.write(frame)
    assert (source.frames_read, source.decode_errors) == (12, 0)


def slow(make_clip: ClipMaker, name: str, **sound: Any) -> Path:
    """Half a minute of a transport stream."""
    return make_clip(name, size=(32, 32), pts=range(0, 750, 25), **sound)


def test_sound_that_begins_late_is_found(make_clip: ClipMaker) -> None:
    path = slow(make_clip, "late.ts", audio=True, audio_start=Fraction(25))
    output = path.with_name("out.ts")
    assert deblur(path, output).notices == ()
    assert packets(output, "audio") == packets(path, "audio")


def test_tracks_that_the_beginning_does_not_tell_of_are_not_lost_in_silence(
    make_clip: ClipMaker,
) -> None:
    mute = slow(make_clip, "mute.ts").read_bytes()
    sound = slow(make_clip, "sound.ts", audio=True).read_bytes()
    path = make_clip("joined.ts")
    path.write_bytes(mute + sound)  # at whose end FFmpeg looks, for the duration
    sink = deblur(path, path.with_name("out.ts"))
    assert "track 1 (audio, aac) is left out: it begins so late" in " ".join(sink.notices)
    path.write_bytes(mute + sound + 20 * mute)
    with FileSource(path) as source:
        read(source)
    assert "1 track turned up too late to be copied" in source.damage.oddities
    assert not source.decode_errors


def test_a_file_of_no_known_rate_in_which_nothing_can_be_decoded(make_clip: ClipMaker) -> None:
    path = make_clip("clip.ts", codec="mpeg2video", pts=range(3))
    data = path.read_bytes()
    packets = [data[begin : begin + 188] for begin in range(0, len(data), 188)]
    for first in range(0, len(packets), 7):
        emptied = [packet[:8] + bytes(180) for packet in packets[first + 3 :]]
        path.write_bytes(b"".join([*packets[: first + 3], *emptied]))
        with suppress(VideoError):
            FileSource(path).close()


def test_a_file_cut_short_counts_as_an_error(make_clip: ClipMaker) -> None:
    path = make_clip("clip.avi", codec="mpeg4", pts=range(100))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    source = FileSource(path)
    assert len(read(source)) < 100
    assert source.decode_errors >= 1


def refused(name: str) -> str:
    with pytest.raises(VideoError) as caught:
        open_source(name)
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    return message


def test_bad_files_are_refused_in_one_line_with_their_name(tmp_path: Path) -> None:
    assert "no such file" in refused(str(tmp_path / "missing.mp4"))
    assert "is a folder" in refused(str(tmp_path))
    (tmp_path / "empty.mp4").touch()
    assert "is empty" in refused(str(tmp_path / "empty.mp4"))
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    assert "Invalid data" in refused(str(tmp_path / "text.mp4"))
    sorted_before = sorted(path.name for path in tmp_path.iterdir())
    assert sorted_before == ["empty.mp4", "text.mp4"]


def test_a_file_with_sound_only_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48_000)
        stream.layout = "mono"
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        sound.sample_rate = 48_000
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    assert "no video stream" in refused(str(path))


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="may read everything")
def test_a_file_without_permission_is_refused(make_clip: ClipMaker) -> None:
    path = make_clip()
    path.chmod(0)
    assert "Permission denied" in refused(str(path))


def test_ffmpeg_stays_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    refused(str(tmp_path / "text.mp4"))
    assert capfd.readouterr() == ("", "")
    assert av.logging.get_level() is None


def test_a_file_named_by_a_number_is_a_file(
    make_clip: ClipMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip()
    path.rename(path.with_name("7"))
    monkeypatch.chdir(path.parent)
    with open_source("7") as source:
        assert isinstance(source, FileSource)


def test_a_name_with_a_colon_is_a_file(
    make_clip: ClipMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform == "win32":
        pytest.skip("no colons in names")
    path = make_clip("http:clip.mp4")
    monkeypatch.chdir(path.parent)
    assert len(read(FileSource("http:clip.mp4"))) == 12


@pytest.mark.skipif(sys.platform != "linux", reason="devices have names of their own elsewhere")
@pytest.mark.parametrize("name", ["97", "/dev/video97"])
def test_an_absent_camera_is_refused_with_those_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no camera was found" in refused(name) or "cameras found: /dev/video" in refused(name)
    found = [Path("/dev/video1"), Path("/dev/video0")]
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(found))
    assert "cameras found: /dev/video0, /dev/video1" in refused(name)


def test_a_camera_has_no_start() -> None:
    with pytest.raises(VideoError, match="camera 0 has no start"):
        open_source("0", start=Fraction(1))
