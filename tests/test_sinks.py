from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from streamdeblur.correction import planar_copy, planes
from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, VideoInfo
from streamdeblur.pipeline import run
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource, open_source
from streamdeblur.video.fields import Deinterlace
from streamdeblur.video.outputs import default_output
from tests.conftest import ClipMaker

MS = Fraction(1, 1000)
VFR = [0, 40, 70, 140, 150, 310, 350, 600]
CHAPTERS = [
    {"id": 1, "start": 0, "end": 200, "time_base": MS, "metadata": {"title": "one"}},
    {"id": 2, "start": 200, "end": 480, "time_base": MS, "metadata": {"title": "two"}},
]
INFO = VideoInfo(
    width=64,
    height=48,
    time_base=Fraction(1, 25),
    rate=Fraction(25),
    codec="h264",
    pix_fmt="yuv420p",
)


def deblur(
    source: Path,
    output: Path,
    *,
    start: Fraction | None = None,
    duration: Fraction | None = None,
    deinterlace: Deinterlace = "auto",
    invert: bool = False,
    **options: Any,
) -> FileSink:
    """Write `source` to `output` as a network that changes nothing, or everything, would."""
    with (
        FileSource(source, start=start, duration=duration, deinterlace=deinterlace) as frames,
        FileSink(output, frames.info, copy_from=frames, **options) as sink,
    ):
        for frame in frames:
            frame.sharp = 255 - frame.image if invert else frame.image.copy()
            sink.write(frame)
    assert sink.frames_written == frames.frames_read
    return sink


def pictures(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def samples(path: Path) -> list[list[NDArray[Any]]]:
    return [[plane.copy() for plane in planes(planar_copy(p))] for p in pictures(path)]


def packets(path: Path, kind: str) -> list[tuple[bytes, Fraction | None]]:
    """Content and time, in seconds, of the packets of the first track of a kind."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [
            (bytes(packet), None if packet.pts is None else packet.pts * stream.time_base)
            for packet in container.demux(stream)
            if packet.size
        ]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def clip(make_clip: ClipMaker) -> Path:
    return make_clip()


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le", "yuv444p10le"])
def test_an_identity_changes_no_sample_and_no_time(make_clip: ClipMaker, pix_fmt: str) -> None:
    path = make_clip(
        "in.mkv",
        size=(65, 49),
        codec="ffv1",
        pix_fmt=pix_fmt,
        pts=VFR,
        time_base=MS,
        colorspace=1,
        color_range=1,
        color_primaries=1,
        color_trc=1,
        rotation=90,
    )
    output = path.with_name("out.mkv")
    sink = deblur(path, output)
    assert (sink.encoder, sink.notices) == ("ffv1", ())
    before, after = pictures(path), pictures(output)
    assert [picture.pts for picture in after] == VFR
    for tag in ("colorspace", "color_range", "color_primaries", "color_trc", "rotation"):
        assert {getattr(picture, tag) for picture in after} == {getattr(before[0], tag)}, tag
    assert after[0].format.name == pix_fmt
    assert (after[0].width, after[0].height, after[0].rotation) == (65, 49, 90)
    for old, new in zip(samples(path), samples(output), strict=True):
        assert all(np.array_equal(*pair) for pair in zip(old, new, strict=True))


def test_a_change_is_written(make_clip: ClipMaker) -> None:
    path = make_clip("in.mkv", codec="ffv1", pix_fmt="bgr0")
    deblur(path, path.with_name("out.mkv"), invert=True)
    deblur(path, path.with_name("none.mkv"), invert=True, strength=0.0)
    old, new = samples(path), samples(path.with_name("out.mkv"))
    assert all(np.array_equal(255 - a[0], b[0]) for a, b in zip(old, new, strict=True))
    same = samples(path.with_name("none.mkv"))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(old, same, strict=True))


@pytest.mark.parametrize(
    ("name", "time_base", "pts"),
    [
        ("clip.mp4", Fraction(1, 30_000), [1001 * index for index in range(20)]),
        ("clip.mp4", Fraction(1, 90_000), [0, 3003, 6007, 12_012, 12_013, 30_000]),
        ("clip.mov", Fraction(1, 600), [120, 140, 165, 180, 205, 230]),
        ("clip.mkv", MS, [500, 540, 570, 640, 650]),
        ("clip.webm", MS, VFR),
        ("clip.ts", Fraction(1, 90_000), [9000 + 3600 * index for index in range(20)]),
        ("clip.avi", Fraction(1, 25), list(range(12))),
    ],
)
def test_times_stay_to_the_tick_for_picture_and_sound(
    make_clip: ClipMaker, name: str, time_base: Fraction, pts: list[int]
) -> None:
    webm = name.endswith("webm")
    codec = "libvpx-vp9" if webm else "libx264"
    plain = webm or name.endswith("avi")  # which hold no AAC, or give it no times
    audio = {} if plain else {"audio": True, "audio_start": Fraction(1, 10)}
    options = {"bf": "0"} if name.endswith("avi") else None  # AVI has no times to reorder by
    path = make_clip(name, time_base=time_base, pts=pts, codec=codec, options=options, **audio)
    output = default_output(path)
    deblur(path, output)
    before, after = pictures(path), pictures(output)
    assert [p.pts for p in after] == [p.pts for p in before]
    assert [p.time_base for p in after] == [p.time_base for p in before]
    if audio:
        assert packets(output, "audio") == packets(path, "audio")


def test_tracks_tags_and_chapters_are_copied(make_clip: ClipMaker) -> None:
    path = make_clip(
        "in.mkv",
        time_base=MS,
        pts=VFR,
        audio=True,
        subtitles=True,
        attachment=True,
        language="fre",
        metadata={"title": "Holiday", "creation_time": "2024-05-06T07:08:09.000000Z"},
        chapters=CHAPTERS,
    )
    output = path.with_name("out.mkv")
    assert deblur(path, output).notices == ()
    assert packets(output, "audio") == packets(path, "audio")
    assert packets(output, "subtitles") == packets(path, "subtitles")
    with av.open(str(path)) as old, av.open(str(output)) as new:
        assert [s.type for s in new.streams] == [s.type for s in old.streams]
        assert [s.language for s in new.streams] == [s.language for s in old.streams]
        assert new.streams.attachments[0].data == b"hello"
        assert new.streams.attachments[0].name == "notes.txt"
        assert new.chapters() == old.chapters()
        own = {"ENCODER"}
        assert {**new.metadata, "ENCODER": 0} == {**old.metadata, "ENCODER": 0}, own


def test_an_mp4_keeps_rotation_cover_place_and_chapters(make_clip: ClipMaker) -> None:
    tags = {"title": "Holiday", "location": "+48.8+002.3/"}
    path = make_clip(rotation=180, cover=True, chapters=CHAPTERS, metadata=tags)
    output = default_output(path)
    deblur(path, output)
    with av.open(str(path)) as old, av.open(str(output)) as new:
        covers = [s for s in new.streams if s.disposition & Disposition.attached_pic]
        assert len(covers) == 1
        assert new.metadata["title"] == "Holiday"
        assert new.metadata["location"] == old.metadata["location"]
        assert [c["metadata"] for c in new.chapters()] == [c["metadata"] for c in old.chapters()]
    assert abs(FileSource(output).info.rotation) == 180


def test_unusual_tags_stay_in_an_mp4(make_clip: ClipMaker) -> None:
    path = make_clip("in.mkv", metadata={"firmware": "H19", "title": "Holiday"})
    deblur(path, path.with_name("out.mp4"))
    with av.open(str(path.with_name("out.mp4"))) as container:
        tags = {key.lower(): text for key, text in container.metadata.items()}
    assert (tags["firmware"], tags["title"]) == ("H19", "Holiday")


def test_what_a_container_cannot_hold_is_said_first(make_clip: ClipMaker) -> None:
    path = make_clip("in.mkv", audio=True, subtitles=True, attachment=True)
    output = path.with_name("out.mp4")
    with FileSource(path) as source:
        notices = FileSink(output, source.info, copy_from=source).notices
    assert not output.exists()
    assert len(notices) == 2
    assert "subtitle" in notices[0]
    assert "notes.txt" in notices[1]
    assert all("left out: mp4 files can't hold it" in notice for notice in notices)
    deblur(path, output)
    assert len(packets(output, "audio")) == len(packets(path, "audio"))


def test_a_change_of_container_moves_nothing(make_clip: ClipMaker) -> None:
    path = make_clip("in.mp4", time_base=MS, pts=VFR, audio=True)
    deblur(path, path.with_name("out.mkv"))
    assert [p.pts for p in pictures(path.with_name("out.mkv"))] == VFR
    heard = [item for item in packets(path, "audio") if item[1] is not None and item[1] >= 0]
    assert len(heard) == len(packets(path, "audio")) - 1  # the first primes the decoder
    copied = packets(path.with_name("out.mkv"), "audio")
    assert [data for data, _ in copied] == [data for data, _ in heard]
    for (_, new), (_, old) in zip(copied, heard, strict=True):
        assert new is not None
        assert old is not None
        assert abs(new - old) <= MS / 2


def test_interlacing_and_the_place_of_chroma_are_kept(make_clip: ClipMaker) -> None:
    options = {"flags": "+ildct+ilme", "chroma_sample_location": "topleft"}
    path = make_clip("in.mp4", options=options, field_order=2)
    deblur(path, default_output(path), deinterlace="off")
    for name in (path, default_output(path)):
        with FileSource(name, deinterlace="off") as source:
            assert source.info.chroma_location == "topleft"
            assert source.info.field_order > 1


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_frames_before_zero_are_moved_and_not_hidden(make_clip: ClipMaker, name: str) -> None:
    # The clock of a transport stream comes round every 26 hours: here, with the fourth frame.
    base, first = Fraction(1, 90_000), 2**33 - 3 * 3600
    times = range(first, first + 12 * 3600, 3600)
    path = make_clip("in.ts", pts=times, time_base=base, audio=True, audio_start=first * base)
    deblur(path, path.with_name(name))
    before, after = pictures(path), pictures(path.with_name(name))
    assert [p.pts for p in before] == list(range(-3 * 3600, 9 * 3600, 3600))
    assert [p.pts * p.time_base for p in after] == [Fraction(index, 25) for index in range(12)]
    old, new = (
        [time for _, time in packets(each, "audio")] for each in (path, path.with_name(name))
    )
    for time, moved in zip(old[-9:], new[-9:], strict=True):
        assert abs(moved - time - 3 * 3600 * base) <= MS


def test_sound_stays_in_step_with_a_part(make_clip: ClipMaker) -> None:
    path = make_clip("in.mp4", pts=range(20), audio=True, chapters=CHAPTERS)
    output = path.with_name("out.mp4")
    deblur(path, output, start=Fraction("0.2"), duration=Fraction("0.2"))
    shift = Fraction("0.2")
    picture = [p.pts * p.time_base for p in pictures(output)]
    assert picture == [Fraction(index, 25) for index in range(5)]
    whole = [(data, time - shift) for data, time in packets(path, "audio") if time is not None]
    assert packets(output, "audio") == [item for item in whole if 0 <= item[1] < shift]
    with av.open(str(output)) as container:
        spans = [(c["start"] * c["time_base"], c["end"] * c["time_base"])
                 for c in container.chapters()]  # fmt: skip
    assert spans == [(0, Fraction("0.2"))]


@pytest.mark.parametrize(
    ("codec", "name", "encoder"),
    [
        ("libx264", "clip.mp4", "libx264"),
        ("libx265", "clip.mp4", "libx265"),
        ("libsvtav1", "clip.mkv", "libsvtav1"),
        ("libvpx-vp9", "clip.webm", "libvpx-vp9"),
        ("prores_ks", "clip.mov", "prores_ks"),
        ("ffv1", "clip.mkv", "ffv1"),
        ("mjpeg", "clip.avi", "libx264"),
    ],
)
def test_the_codec_family_stays(
    make_clip: ClipMaker,
    codec: str,
    name: str,
    encoder: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pix_fmt = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else None
    path = make_clip(name, codec=codec, pix_fmt=pix_fmt, pts=range(3), options=quiet)
    capfd.readouterr()
    sink = deblur(path, default_output(path))
    assert sink.encoder == encoder
    assert len(sink.notices) == (codec == "mjpeg")
    assert len(pictures(default_output(path))) == 3
    assert capfd.readouterr() == ("", "")


def test_a_codec_that_the_container_lacks_is_replaced_with_a_notice(clip: Path) -> None:
    sink = deblur(clip, clip.with_name("out.webm"))
    assert sink.encoder == "libvpx-vp9"
    assert sink.notices[0] == "the video becomes VP9 (it was h264)"


def test_a_container_of_none_of_our_codecs_is_refused_first(clip: Path) -> None:
    message = refused(clip.with_name("out.ogv"))
    assert "ogv files can't hold video that this program encodes: use .mkv" in message


def test_an_odd_size_becomes_full_chroma_in_h264(make_clip: ClipMaker) -> None:
    path = make_clip("odd.mkv", size=(65, 49), codec="ffv1")
    sink = deblur(path, path.with_name("out.mp4"), codec="h264")
    after = pictures(path.with_name("out.mp4"))[0]
    assert (after.width, after.height, after.format.name) == (65, 49, "yuv444p")
    assert sink.notices[0] == (
        "the picture becomes yuv444p: libx264 can't code yuv420p at 65x49, an odd size"
    )


def test_depth_that_an_encoder_lacks_is_told(make_clip: ClipMaker) -> None:
    path = make_clip("deep.mkv", codec="ffv1", pix_fmt="yuv422p12le")
    sink = deblur(path, path.with_name("out.mp4"), codec="h264")
    assert pictures(path.with_name("out.mp4"))[0].format.name == "yuv422p10le"
    assert any("loses depth (12 to 10 bits)" in line for line in sink.notices)


def test_rgb_becomes_tagged_yuv_of_the_same_colours(make_clip: ClipMaker) -> None:
    path = make_clip("rgb.mkv", codec="ffv1", pix_fmt="bgr0")
    sink = deblur(path, path.with_name("out.mp4"), codec="libx264", crf=0)
    after = pictures(path.with_name("out.mp4"))
    assert sink.encoder == "libx264"
    assert (after[0].format.name, after[0].colorspace, after[0].color_range) == ("yuv444p", 6, 1)
    for old, new in zip(pictures(path), after, strict=True):
        difference = old.to_ndarray(format="rgb24").astype(int) - new.to_ndarray(format="rgb24")
        assert abs(difference.mean()) < 1


def test_hdr_tags_reach_the_encoder(make_clip: ClipMaker) -> None:
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    parameters = f"log-level=none:master-display={display}:max-cll=1000,400"
    path = make_clip(
        "hdr.mp4",
        codec="libx265",
        pix_fmt="yuv420p10le",
        options={"x265-params": parameters},
        colorspace=9,
        color_range=1,
        color_primaries=9,
        color_trc=16,
        pts=range(3),
    )
    before = FileSource(path).info
    assert before.content_light == (1000, 400)
    assert before.mastering_display is not None
    for codec in ("libx265", "libx264"):
        deblur(path, path.with_name("out.mp4"), codec=codec, overwrite=True)
        after = FileSource(path.with_name("out.mp4")).info
        assert after.mastering_display == before.mastering_display
        assert after.content_light == before.content_light
        assert after.color_trc == 16


def test_compare_puts_the_original_at_the_left(make_clip: ClipMaker) -> None:
    path = make_clip("in.mkv", codec="ffv1", pix_fmt="yuv422p10le", pts=range(3))
    deblur(path, path.with_name("out.mkv"), invert=True, compare=True)
    old, new = samples(path), samples(path.with_name("out.mkv"))
    assert new[0][0].shape == (48, 128)
    for before, after in zip(old, new, strict=True):
        for plane, both in zip(before, after, strict=True):
            assert np.array_equal(both[:, : plane.shape[1]], plane)
            assert not np.array_equal(both[:, plane.shape[1] :], plane)


def test_a_camera_is_recorded(tmp_path: Path) -> None:
    with (
        open_source("lavfi:testsrc2=size=64x48:rate=25") as camera,
        FileSink(tmp_path / "cam.mp4", camera.info) as sink,
    ):
        for frame in itertools.islice(camera, 5):
            sink.write(frame)
    times = [p.pts * p.time_base for p in pictures(tmp_path / "cam.mp4")]
    assert times == [Fraction(index, 25) for index in range(5)]


def test_encoder_options_reach_the_encoder(clip: Path) -> None:
    small, large = clip.with_name("small.mp4"), clip.with_name("large.mp4")
    deblur(clip, small, crf=40, preset="fast", encoder_options={"g": "3"})
    deblur(clip, large, crf=10)
    assert small.stat().st_size < large.stat().st_size
    assert sum(picture.key_frame for picture in pictures(small)) >= 4


def test_default_output_is_beside_the_input() -> None:
    assert default_output(Path("a/clip.mp4")) == Path("a/clip.deblurred.mp4")
    assert default_output(Path("a.b/my.clip.MOV")) == Path("a.b/my.clip.deblurred.MOV")


def refused(path: Path, info: VideoInfo = INFO, **options: Any) -> str:
    before = names(path.parent) if path.parent.exists() else []
    with pytest.raises(VideoError) as caught:
        FileSink(path, info, **options)
    assert (names(path.parent) if path.parent.exists() else []) == before
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_outputs_that_cannot_be_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    assert "there is no folder" in refused(tmp_path / "none" / "out.mp4")
    (tmp_path / "out.mp4").write_text("precious")
    message = refused(tmp_path / "out.mp4")
    assert message == f"{tmp_path / 'out.mp4'} exists; pass --overwrite to replace it"
    assert "is a folder" in refused(tmp_path)
    for name in ("out.xyz", "out", "out.png", "out.m3u8"):
        assert name in refused(tmp_path / name)
    assert "can't hold video" in refused(tmp_path / "out.wav")
    assert (tmp_path / "out.mp4").read_text() == "precious"


def test_unknown_encoders_and_options_are_refused_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    assert "no video encoder libx624; did you mean" in refused(path, codec="libx624")
    assert "libx264" in refused(path, codec="libx624")
    assert "aac encodes audio" in refused(path, codec="aac")
    assert "mp4 files can't hold vp8" in refused(path, codec="vp8")
    assert "libx264 has no option crff" in refused(path, encoder_options={"crff": "3"})
    assert "prores_ks has no option crf" in refused(
        tmp_path / "out.mov", codec="prores", crf=3, info=INFO
    )
    assert "libx264 can't encode out.mp4" in refused(path, preset="warp")


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_input_is_never_the_output(clip: Path, overwrite: bool) -> None:
    content = clip.read_bytes()
    aliases = [clip]
    if sys.platform != "win32":
        aliases += [clip.with_name("link.mp4"), clip.with_name("hard.mp4")]
        aliases[1].symlink_to(clip)
        aliases[2].hardlink_to(clip)
    for alias in aliases:
        message = refused(alias, copy_from=clip, overwrite=overwrite)
        assert "would replace the input" in message
    part = clip.rename(clip.with_name("new.part.mp4"))
    assert "would replace the input" in refused(clip.with_name("new.mp4"), copy_from=part)
    assert part.read_bytes() == content


def test_the_output_appears_whole_or_not_at_all(clip: Path) -> None:
    output = default_output(clip)
    before = names(clip.parent)

    seen: list[str] = []

    def interrupted(error: BaseException) -> None:
        with FileSource(clip) as source, FileSink(output, source.info, copy_from=source) as sink:
            for frame in itertools.islice(source, 3):
                sink.write(frame)
            seen.extend(names(clip.parent))
            raise error

    for error in (KeyboardInterrupt(), VideoError("the model broke")):
        with pytest.raises(type(error)):
            interrupted(error)
        assert names(clip.parent) == before
    assert "clip.deblurred.part.mp4" in seen
    assert output.name not in seen
    deblur(clip, output)
    assert names(clip.parent) == sorted([*before, output.name])


def test_a_part_left_by_a_crash_is_replaced_and_a_failure_keeps_the_old_output(clip: Path) -> None:
    output = default_output(clip)
    output.write_text("old")
    clip.with_name("clip.deblurred.part.mp4").write_text("left by a crash")
    with (
        pytest.raises(VideoError, match="no frame was written"),
        FileSource(clip) as source,
        FileSink(output, source.info, copy_from=source, overwrite=True),
    ):
        pass
    assert output.read_text() == "old"
    deblur(clip, output, overwrite=True)
    assert len(pictures(output)) == 12
    assert names(clip.parent) == ["clip.deblurred.mp4", "clip.mp4"]


def test_helpers_change_nothing_of_the_output(clip: Path) -> None:
    class Inverter:
        def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
            for frame in frames:
                frame.sharp = 255 - frame.image
                yield frame

    outputs = []
    for helpers in (1, 3):
        outputs.append(clip.with_name(f"{helpers}.mkv"))
        with (
            FileSource(clip) as source,
            FileSink(outputs[-1], source.info, copy_from=source, codec="ffv1") as sink,
        ):
            run(source, Inverter(), sink, helpers=helpers)
    assert packets(outputs[0], "video") == packets(outputs[1], "video")


def test_a_prepared_frame_can_go_to_another_sink_too(clip: Path) -> None:
    whole, half = clip.with_name("whole.mkv"), clip.with_name("half.mkv")
    with (
        FileSource(clip) as source,
        FileSink(whole, source.info, codec="ffv1") as first,
        FileSink(half, source.info, codec="ffv1", strength=0) as second,
    ):
        for frame in source:
            frame.sharp = 255 - frame.image
            first.write(first.prepare(frame))
            second.write(frame)
    for plain, kept in zip(samples(clip), samples(half), strict=True):
        assert all(np.array_equal(*both) for both in zip(plain, kept, strict=True))
    assert not np.array_equal(samples(whole)[0][0], samples(half)[0][0])


def test_a_frame_of_another_size_is_fitted_in(clip: Path, make_clip: ClipMaker) -> None:
    """In its own layout, in the middle of black, original and result alike."""
    other = make_clip("other.mkv", size=(32, 48), codec="ffv1", pix_fmt="yuv420p10le")
    with (
        FileSource(make_clip("in.mkv", codec="ffv1", pix_fmt="yuv420p10le")) as source,
        FileSource(other) as wrong,
        FileSink(clip.with_name("out.mkv"), source.info) as sink,
    ):
        sink.write(next(iter(source)))
        frame = next(iter(wrong))
        frame.pts = 40
        sink.write(frame)
    first, second = samples(clip.with_name("out.mkv"))
    assert first[0].shape == second[0].shape == (48, 64)
    assert np.array_equal(second[0][:, 16:48], samples(other)[0][0])
    assert (second[0][:, :16] == 64).all()


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="asks ffprobe")
def test_ffprobe_sees_the_same_clip(make_clip: ClipMaker) -> None:
    path = make_clip(
        "in.mp4",
        time_base=Fraction(1, 30_000),
        pts=[1001 * index for index in range(20)],
        audio=True,
        colorspace=1,
        color_range=2,
        color_primaries=1,
        color_trc=1,
        rotation=90,
        pixel_aspect=Fraction(4, 3),
    )
    deblur(path, default_output(path))

    def facts(path: Path) -> Any:
        entries = (
            "stream=codec_type,codec_name,width,height,pix_fmt,color_range,color_space,"
            "color_primaries,color_transfer,sample_aspect_ratio,time_base,start_pts,nb_frames:"
            "stream_side_data=rotation:packet=pts,flags"
        )
        command = ["ffprobe", "-v", "error", "-show_entries", entries, "-of", "json", str(path)]
        report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        times = sorted(packet["pts"] for packet in report["packets"])
        return report["streams"], times

    assert facts(default_output(path)) == facts(path)


def test_a_picture_too_narrow_for_x265_becomes_h264(make_clip: ClipMaker) -> None:
    path = make_clip("thin.mkv", size=(48, 64), codec="ffv1")
    info = replace(FileSource(path).info, codec="hevc")
    with FileSource(path) as source, FileSink(path.with_name("out.mp4"), info) as sink:
        assert sink.notices[0] == "the video becomes H.264 (it was hevc)"
        for frame in source:
            sink.write(frame)
    message = refused(path.with_name("x.mp4"), info, codec="hevc")
    assert "libx265 can't code 48x64 pixels" in message
