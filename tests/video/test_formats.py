"""Every depth, layout, range and scan through the whole road: what comes out is what went in."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamdeblur.cli import main
from streamdeblur.correction import corrected, planes
from streamdeblur.errors import VideoError
from streamdeblur.frames import is_full_range
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource
from tests.clips import write_clip
from tests.conftest import ClipMaker
from tests.footage import in_planes
from tests.tiny_onnx import identity

# What FFV1 codes, but bgr0, which is RGB without a name for its fourth byte,
# and floating point.
FFV1 = {item.name for item in av.Codec("ffv1", "w").video_formats or []} - {"bgr0"}
CODED = sorted(name for name in FFV1 if not name.endswith(("f16le", "f32le")))
PACKED = [
    *("nv12", "nv16", "nv21", "nv24", "p010le", "p012le", "p016le", "p210le", "p410le", "p416le"),
    *("yuyv422", "uyvy422", "yvyu422", "y210le", "y212le", "v30xle", "xv36le", "ayuv64le"),
    *("rgb24", "bgr24", "rgba", "bgra", "argb", "0rgb", "rgb48le", "bgr48le", "x2rgb10le"),
    *("yuv420p10be", "gbrp12be", "gray", "gray16be", "ya8", "ya16le", "yuvj422p"),
]
layouts = st.sampled_from(
    [*((name, "ffv1", "mkv") for name in CODED), *((name, "rawvideo", "nut") for name in PACKED)]
)


def write(source: FileSource, output: Path, **options: Any) -> FileSink:
    """Write what a network that changes nothing would give."""
    with source, FileSink(output, source.info, copy_from=source, **options) as sink:
        for frame in source:
            frame.sharp = frame.image.copy()
            sink.write(frame)
    return sink


def pictures(path: Path) -> list[av.VideoFrame]:
    with FileSource(path, deinterlace="off") as source:
        return [frame.picture for frame in source]


@settings(max_examples=25, deadline=None)
@given(
    layouts,
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([(1, 1, 1), (9, 9, 16), (9, 9, 18), (6, 6, 6), (2, 2, 2)]),
)
def test_no_sample_of_any_layout_changes(
    layout: tuple[str, str, str],
    width: int,
    height: int,
    color_range: int,
    tags: tuple[int, int, int],
) -> None:
    pix_fmt, codec, kind = layout
    rgb = av.VideoFormat(pix_fmt).is_rgb
    matrix, primaries, transfer = (0 if rgb else tags[0], *tags[1:])
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / f"in.{kind}", Path(folder) / "out.mkv"
        write_clip(
            path,
            codec=codec,
            pix_fmt=pix_fmt,
            size=(8 * width, 8 * height),
            pts=[0, 40, 95],
            time_base=Fraction(1, 1000),
            colorspace=matrix,
            color_range=color_range,
            color_primaries=primaries,
            color_trc=transfer,
        )
        sink = write(FileSource(path), output, codec="ffv1")
        assert not any("loses" in notice for notice in sink.notices)
        before, after = pictures(path), pictures(output)
    assume(before[0].format.name == pix_fmt)  # not every layout has a name in a container
    assert [picture.pts for picture in after] == [0, 40, 95]
    for old, new in zip(before, after, strict=True):
        assert all(
            np.array_equal(*pair) for pair in zip(in_planes(old), in_planes(new), strict=True)
        )
        if not rgb:
            assert is_full_range(new) == is_full_range(old)
            assert new.colorspace == old.colorspace
        for tag in ("color_primaries", "color_trc"):
            assert getattr(new, tag) == getattr(old, tag), tag


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name", "encoder", "after"),
    [
        ("ffv1", "yuva444p10le", "clip.mkv", "ffv1", "yuva444p10le"),
        ("prores_ks", "yuva444p10le", "clip.mov", "prores_ks", "yuva444p12le"),  # as it decodes
        ("libvpx-vp9", "yuva420p", "clip.webm", "libvpx-vp9", "yuva420p"),
        ("qtrle", "argb", "clip.mov", "prores_ks", "yuva444p12le"),
        ("rawvideo", "bgra", "clip.avi", "ffv1", "bgra"),
    ],
)
def test_transparency_is_carried(
    make_clip: ClipMaker, codec: str, pix_fmt: str, name: str, encoder: str, after: str
) -> None:
    path = make_clip(name, codec=codec, pix_fmt=pix_fmt, pts=range(3))
    output = path.with_name(f"out.{name}")
    assert write(FileSource(path), output).encoder == encoder
    for old, new in zip(pictures(path), pictures(output), strict=True):
        assert new.format.name == after
        (seen, depth), (wanted, old_depth) = (
            (in_planes(picture)[-1].astype(float), picture.format.components[0].bits)
            for picture in (new, old)
        )
        difference = seen / (2**depth - 1) - wanted / (2**old_depth - 1)
        # VP9 codes transparency with loss, as it does the picture.
        assert np.abs(difference).mean() < (0.05 if encoder == "libvpx-vp9" else 0.001)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "cost"),
    [("ffv1", "bgra", "colour"), ("ffv1", "yuva444p", "colour"), ("ffv1", "yuva420p", None)],
)
def test_transparency_of_any_layout_goes_into_webm(
    make_clip: ClipMaker, codec: str, pix_fmt: str, cost: str | None
) -> None:
    path = make_clip("in.mkv", codec=codec, pix_fmt=pix_fmt, pts=range(3))
    output = path.with_name("out.webm")
    told = " ".join(write(FileSource(path), output).notices)
    assert ("becomes yuva420p and loses resolution of colour: " in told) == (cost is not None)
    for old, new in zip(pictures(path), pictures(output), strict=True):
        assert new.format.name == "yuva420p"
        wanted, seen = (in_planes(picture)[-1].astype(float) for picture in (old, new))
        assert np.abs(seen - wanted).mean() < 13


def test_transparency_that_cannot_be_carried_is_refused_or_told(make_clip: ClipMaker) -> None:
    path = make_clip("in.mkv", codec="ffv1", pix_fmt="yuva420p", pts=range(3))
    with FileSource(path) as source:
        with pytest.raises(VideoError, match=r"has transparency, which mpegts files can't keep"):
            FileSink(path.with_name("out.ts"), source.info)
        for codec in ("h264", "hevc", "vp9"):
            sink = FileSink(path.with_name("out.mp4"), source.info, codec=codec)
            assert "loses transparency" in sink.notices[0]


def interlaced(path: Path, **options: Any) -> Path:
    flags = {"flags": "+ildct+ilme"}
    return write_clip(path, options=flags, field_order=2, pts=[0, 1, 5, 6, 9, 20], **options)


@pytest.mark.parametrize("which", ["auto", "on"])
def test_interlaced_frames_become_progressive_at_the_same_times(tmp_path: Path, which: str) -> None:
    path, output = interlaced(tmp_path / "in.mp4", pix_fmt="yuv422p10le"), tmp_path / "out.mp4"
    before = pictures(path)
    assert all(picture.interlaced_frame for picture in before)
    source = FileSource(path, deinterlace=which)  # type: ignore[arg-type]
    write(source, output)
    assert source.frames_deinterlaced == 6
    after = pictures(output)
    assert [picture.pts for picture in after] == [picture.pts for picture in before]
    assert not any(picture.interlaced_frame for picture in after)
    assert {picture.format.name for picture in after} == {"yuv422p10le"}


def test_a_part_of_interlaced_video_ends_as_it_would_in_the_whole(tmp_path: Path) -> None:
    """The filter looks at the frame after, which is not counted."""
    path = interlaced(tmp_path / "in.mp4")
    with FileSource(path) as source:
        whole = [frame.image for frame in source]
    with FileSource(path, duration=Fraction(6, 25)) as source:
        part = [frame.image for frame in source]
        assert source.frames_deinterlaced == len(part) == 3
    assert np.array_equal(part[-1], whole[2])


def test_deinterlacing_removes_the_comb(tmp_path: Path) -> None:
    """A bar that moves by eight pixels between fields; progressive frames have no such teeth."""
    path = tmp_path / "bar.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25, width=96, height=64)
        stream.pix_fmt = "gray"
        for index in range(6):
            picture = av.VideoFrame(96, 64, "gray")
            plane = planes(picture)[0]
            plane[...] = 30
            for field in (0, 1):
                left = 16 * index + 8 * field
                plane[field::2, left : left + 8] = 220
            picture.pts = index
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))

    def comb(which: str) -> float:
        with FileSource(path, deinterlace=which) as source:  # type: ignore[arg-type]
            luma = [planes(frame.picture)[0].astype(float) for frame in source][2:4]
        return float(np.mean([np.abs(np.diff(plane, axis=0)).mean() for plane in luma]))

    assert comb("on") < 0.3 * comb("off")
    assert comb("auto") == comb("off")  # nothing says that it is interlaced


def test_what_is_done_with_interlaced_video_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, model = interlaced(tmp_path / "in.mp4"), tmp_path / "identity.onnx"
    model.write_bytes(identity())
    progressive = write_clip(tmp_path / "plain.mp4", pts=range(3))
    said = {}
    for name, flags in (("auto", []), ("off", ["--deinterlace", "off"])):
        assert main([str(path), "-m", str(model), "-f", *flags]) == 0
        said[name] = capfd.readouterr().err
    assert "the video is interlaced: its frames become progressive" in said["auto"]
    assert "the video is interlaced and stays so" in said["off"]
    with FileSource(tmp_path / "in.deblurred.mp4", deinterlace="off") as source:
        assert source.is_interlaced
    assert main([str(progressive), "-m", str(model)]) == 0
    assert "interlaced" not in capfd.readouterr().err


DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="asks ffprobe")
@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
@pytest.mark.parametrize("codec", ["hevc", "av1"])  # for H.264, see test_sinks
def test_ffprobe_sees_the_same_hdr(make_clip: ClipMaker, codec: str, transfer: int) -> None:
    path = make_clip(
        "hdr.mkv",
        codec="libx265",
        pix_fmt="yuv420p10le",
        options={"x265-params": f"log-level=none:master-display={DISPLAY}:max-cll=1000,400"},
        colorspace=9,
        color_range=1,
        color_primaries=9,
        color_trc=transfer,
        pts=range(3),
    )
    output = path.with_name("out.mkv")
    sink = write(FileSource(path), output, codec=codec)
    assert not any("HDR" in notice for notice in sink.notices)
    assert hdr(output) == hdr(path)


def hdr(path: Path) -> Any:
    """Tags and side data of the first frame, by FFmpeg's own tool, with fractions as numbers."""
    tags = "color_range,color_space,color_transfer,color_primaries,pix_fmt"
    entries = f"stream={tags}:frame=:frame_side_data"
    command = ["ffprobe", "-v", "error", "-read_intervals", "%+#1", "-select_streams", "v"]
    done = subprocess.run(
        [*command, "-show_entries", entries, "-show_frames", "-of", "json", str(path)],
        capture_output=True,
        check=True,
    )
    report = json.loads(done.stdout)
    side_data = {
        item["side_data_type"]: {
            key: round(float(Fraction(value)), 4) if "/" in str(value) else value
            for key, value in item.items()
        }
        for item in report["frames"][0]["side_data_list"]
        if item["side_data_type"] in ("Mastering display metadata", "Content light level metadata")
    }
    assert len(side_data) == 2
    return report["streams"], side_data


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "name", "after"),
    [
        ("yuv422p", "libx264", "clip.mp4", "yuv422p"),
        ("yuv444p10le", "libx264", "clip.mp4", "yuv444p10le"),
        ("yuv444p12le", "libx265", "clip.mp4", "yuv444p12le"),
        ("yuv422p", "libvpx-vp9", "clip.webm", "yuv422p"),
        ("gbrp", "libx265", "clip.mkv", "gbrp"),
    ],
)
def test_chroma_stays_where_the_codec_can(
    make_clip: ClipMaker, pix_fmt: str, codec: str, name: str, after: str
) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    path = make_clip(name, codec=codec, pix_fmt=pix_fmt, pts=range(3), options=options)
    sink = write(FileSource(path), path.with_name(f"out.{name}"))
    assert sink.notices == ()
    assert pictures(path.with_name(f"out.{name}"))[0].format.name == after


def test_chroma_that_a_codec_lacks_is_told_before_the_work(make_clip: ClipMaker) -> None:
    path = make_clip("in.mkv", codec="ffv1", pix_fmt="yuv444p", pts=range(3))
    with FileSource(path) as source:
        sink = FileSink(path.with_name("out.mp4"), source.info, codec="av1")
    assert sink.notices[0] == (
        "the picture becomes yuv420p and loses resolution of colour: libsvtav1 can't code yuv444p"
    )


@settings(max_examples=10, deadline=None)
@given(layouts, st.sampled_from([0.5, 1.0]))
def test_a_change_is_written_to_the_bit(layout: tuple[str, str, str], strength: float) -> None:
    pix_fmt, codec, kind = layout
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / f"in.{kind}", Path(folder) / "out.mkv"
        write_clip(path, codec=codec, pix_fmt=pix_fmt, size=(20, 12), pts=range(2))
        wanted = []
        with (
            FileSource(path) as source,
            FileSink(output, source.info, codec="ffv1", strength=strength) as sink,
        ):
            for frame in source:
                frame.sharp = 255 - frame.image
                wanted.append(in_planes(corrected(frame, strength)))
                sink.write(frame)
        for new, old in zip(pictures(output), wanted, strict=True):
            pairs = zip(in_planes(new), old, strict=True)
            assert all(np.array_equal(*pair) for pair in pairs)
