"""A clip written back: frames, times, tracks and tags as they were."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from streamdeblur.frames import Frame
from streamdeblur.pipeline import run
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource, open_source
from streamdeblur.video.outputs import default_output
from tests.clips import with_last_held
from tests.conftest import ClipMaker
from tests.footage import deblur, packets, pictures, samples

MS = Fraction(1, 1000)
VFR = [0, 40, 70, 140, 150, 310, 350, 600]
OUT_OF_ORDER = {"bf": "3", "x264-params": "b-adapt=0"}
CHAPTERS = [
    {"id": 1, "start": 0, "end": 200, "time_base": MS, "metadata": {"title": "one"}},
    {"id": 2, "start": 200, "end": 480, "time_base": MS, "metadata": {"title": "two"}},
]


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


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.mp4", {}),
        ("out.mp4", {"encoder_options": OUT_OF_ORDER}),
        ("out.mp4", {"compare": True}),
        ("out.mkv", {"encoder_options": OUT_OF_ORDER}),
        ("out.mkv", {"codec": "ffv1"}),
        ("out.webm", {}),
    ],
)
def test_the_last_picture_is_held_as_long(
    make_clip: ClipMaker, name: str, options: dict[str, Any]
) -> None:
    path = make_clip("in.mp4", time_base=MS, pts=range(0, 320, 40), options={"bf": "0"})
    held = with_last_held(path, 5)
    output = path.with_name(name)
    deblur(held, output, **options)
    assert seconds(output) == pytest.approx(seconds(held)) == pytest.approx(5.28)
    part = {"start": Fraction("0.1"), "duration": Fraction(2), "overwrite": True}
    deblur(held, output, **options, **part)
    assert seconds(output) == pytest.approx(2, abs=0.05)


def test_a_pause_before_the_end_is_not_taken_for_the_last_picture(make_clip: ClipMaker) -> None:
    """MP4 with frames out of order gives each the duration of another."""
    pts = [0, 40, 80, 120, 5120, 5160, 5200, 5240]
    path = make_clip("in.mp4", time_base=MS, pts=pts, options=OUT_OF_ORDER)
    assert max(picture.duration * picture.time_base for picture in pictures(path)[4:]) > 4
    deblur(path, path.with_name("out.mkv"))
    assert 5.2 < seconds(path.with_name("out.mkv")) < 6


def seconds(path: Path) -> float:
    with av.open(str(path)) as container:
        assert container.duration is not None
        return container.duration / av.time_base


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


def test_a_cover_stays_a_cover_in_matroska(clip: Path, make_clip: ClipMaker) -> None:
    """From MP4, and from Matroska, which calls it by a name."""
    path = make_clip("covered.mp4", cover=True)
    for output in (clip.with_name("out.mkv"), clip.with_name("again.mkv")):
        assert not any("left out" in line for line in deblur(path, output).notices)
        with av.open(str(path)) as old, av.open(str(output)) as new:
            cover = next(s for s in new.streams if s.disposition & Disposition.attached_pic)
            assert len(new.streams.video) == 2
            before, after = (
                next(bytes(p) for p in each.demux(each.streams.video[1])) for each in (old, new)
            )
            assert after == before
            assert cover.metadata["filename"] == "cover.jpg"
        path = output


@pytest.mark.parametrize(
    ("name", "kind"), [("in.avi", "avi"), ("in.mp4", "mp4"), ("in.mp4", "mkv")]
)
def test_texts_in_no_known_encoding_stay_as_they_are(
    make_clip: ClipMaker, name: str, kind: str
) -> None:
    """Those of the file, and of a track of sound, which must not be left out for them."""
    has_sound = name != "in.avi"
    path = make_clip(name, metadata={"title": "cafe au lait"}, audio=has_sound)
    content = path.read_bytes().replace(b"cafe", b"caf\xe9").replace(b"Sound", b"S\xf6und")
    path.write_bytes(content)
    output = path.with_name(f"out.{kind}")
    deblur(path, output)
    assert b"caf\xe9 au lait" in output.read_bytes()
    assert (b"S\xf6undHandler" in output.read_bytes()) == has_sound


@pytest.mark.parametrize("name", ["out.mov", "out.mkv", "out.webm", "out.ts", "out.avi", "out.mpg"])
def test_rotation_that_is_lost_is_said(make_clip: ClipMaker, name: str) -> None:
    def said(path: Path) -> bool:
        notices = deblur(path, path.with_name(name), overwrite=True).notices
        return any("can't keep the rotation: use .mp4, .mov or .mkv" in line for line in notices)

    turned = make_clip("turned.mp4", rotation=90)
    assert said(turned) == (pictures(turned.with_name(name))[0].rotation != 90)
    assert not said(make_clip("upright.mp4"))


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


def test_what_a_transport_stream_has_no_name_for_is_left_out_and_said(make_clip: ClipMaker) -> None:
    """It would take the bytes, and nobody who reads it would know them for sound or subtitles."""
    for name, codec, options in (
        ("in.mxf", "mpeg2video", {"audio": True}),  # of samples that are not encoded
        ("in.mkv", "libx264", {"audio": True, "subtitles": True}),
    ):
        path = make_clip(name, codec=codec, pts=range(12), **options)
        output = path.with_name("out.ts")
        notices = " ".join(deblur(path, output, overwrite=True).notices)
        with av.open(str(path)) as before, av.open(str(output)) as after:
            kept = [stream.type for stream in after.streams]
            assert "data" not in kept
            lost = {stream.type for stream in before.streams} - set(kept)
        assert notices.count("is left out: mpegts files can't hold it") == len(lost) == 1
        assert f"({lost.pop()}, " in notices


@pytest.mark.parametrize(
    ("name", "codec", "layout", "start"),
    [
        ("in.mov", "pcm_alaw", "mono", Fraction(1, 5)),
        ("in.mov", "pcm_mulaw", "4.0", None),
        ("in.avi", "adpcm_ms", "stereo", None),
        ("in.avi", "adpcm_ima_wav", "mono", None),
    ],
)
@pytest.mark.parametrize("kind", ["mkv", "mp4", "avi"])
def test_sound_of_cameras_keeps_its_samples(
    make_clip: ClipMaker, name: str, codec: str, layout: str, start: Fraction | None, kind: str
) -> None:
    """Where packets of it are not taken, or get a clock that is guessed."""
    if (name, kind) == ("in.mov", "avi"):
        pytest.skip("is copied")
    path = make_clip(name, audio=codec, audio_layout=layout, pts=range(12))
    output = path.with_name(f"out.{kind}")
    sink = deblur(path, output, start=start)
    assert sink.notices[0] == f"track 1 (audio, {codec}) becomes PCM, its samples as they are"
    heard = []
    for clip in (path, output):
        with av.open(str(clip)) as container:
            frames = list(container.decode(audio=0))
            heard.append(np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]))
            begin = frames[0].time
    before, after = heard
    assert begin is not None
    assert 0 <= begin < 0.1
    assert len(after) > 48_000 // 4
    assert np.array_equal(after, before[-len(after) :])
    assert np.abs(after).max() > 0


def test_flv_gets_no_sound_of_a_rate_that_it_does_not_know(make_clip: ClipMaker) -> None:
    path = make_clip("in.mov", audio="pcm_mulaw")
    (notice,) = deblur(path, path.with_name("out.flv")).notices
    assert notice == "track 1 (audio, pcm_mulaw) is left out: flv files can't hold it"


def test_an_mxf_keeps_its_sound(make_clip: ClipMaker) -> None:
    path = make_clip("in.mxf", codec="mpeg2video", pts=range(12), audio=True)
    output = path.with_name("out.mxf")
    assert deblur(path, output).notices == ("the video becomes H.264 (it was mpeg2video)",)
    assert packets(output, "audio") == packets(path, "audio")


def test_a_second_video_is_copied_and_said_so(make_clip: ClipMaker) -> None:
    """As of a car's cameras: front and rear."""
    path = make_clip("front.mkv")
    both = path.with_name("both.mkv")
    with av.open(str(path)) as one, av.open(str(both), "w") as two:
        copies = [two.add_stream_from_template(one.streams.video[0]) for _ in range(2)]
        for packet in list(one.demux()):
            for copy in copies if packet.size else []:
                packet.stream = copy
                two.mux(packet)
    output = path.with_name("out.mkv")
    notices = deblur(both, output, invert=True).notices
    assert notices == ("track 1 (video, h264) is copied as it is: one video is deblurred",)
    with av.open(str(both)) as old, av.open(str(output)) as new:
        before, after = ([bytes(p) for p in each.demux(video=1) if p.size] for each in (old, new))
    assert after == before


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
