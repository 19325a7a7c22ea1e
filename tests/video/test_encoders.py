"""Which encoder writes, in which layout, with which settings."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from streamdeblur.errors import VideoError
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource
from streamdeblur.video.outputs import default_output
from tests.conftest import ClipMaker
from tests.footage import INFO, deblur, pictures, refused, samples


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


def test_a_codec_that_few_players_open_is_told_with_another(make_clip: ClipMaker) -> None:
    """As for a GIF, which may be transparent."""
    path = make_clip("in.mov", codec="qtrle", pix_fmt="argb")
    notices = {kind: deblur(path, path.with_name(f"out.{kind}")).notices for kind in ("mkv", "mp4")}
    assert "the video becomes FFV1 (it was qtrle)" in notices["mkv"]
    assert "the video becomes FFV1 (it was qtrle), which few players open: with --codec h264" in (
        " ".join(notices["mp4"])
    )


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        *(("libvpx-vp9", "out.mov"), ("libsvtav1", "out.mov"), ("rawvideo", "out.mov")),
        *(("ffv1", "out.mpg"), ("ffv1", "out.vob")),
    ],
)
def test_a_container_that_takes_what_it_cannot_hold_is_not_given_it(
    make_clip: ClipMaker, codec: str, name: str
) -> None:
    path = make_clip("in.mkv", codec=codec, pts=range(3))
    sink = deblur(path, path.with_name(name))
    assert any(line.startswith("the video becomes H.264") for line in sink.notices)
    assert len(pictures(path.with_name(name))) == 3
    assert "files can't hold" in refused(path.with_name(name), codec=codec, overwrite=True)


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


def test_hdr_tags_pass_from_av1_to_other_codecs(make_clip: ClipMaker) -> None:
    """It counts in parts of 65536, which are no whole numbers of other codecs' steps."""
    display = "G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000,0.0001)"
    parameters = f"mastering-display={display}:content-light=1000,400"
    path = make_clip(
        "hdr.mkv",
        codec="libsvtav1",
        pix_fmt="yuv420p10le",
        options={"preset": "12", "svtav1-params": parameters},
        color_primaries=9,
        color_trc=16,
        pts=range(3),
    )
    with FileSource(path) as source:
        before = source.info.mastering_display
    assert before is not None
    for codec in ("libx265", "libx264", "libsvtav1"):
        sink = deblur(path, path.with_name("out.mkv"), codec=codec, overwrite=True)
        assert not any("HDR" in notice for notice in sink.notices)
        with FileSource(path.with_name("out.mkv")) as source:
            after = source.info.mastering_display
        assert after is not None
        for old, new in zip(before, after, strict=True):
            assert abs(old - new) <= Fraction(1, 20_000)


def test_encoder_options_reach_the_encoder(clip: Path) -> None:
    small, large = clip.with_name("small.mp4"), clip.with_name("large.mp4")
    deblur(clip, small, crf=40, preset="fast", encoder_options={"g": "3"})
    deblur(clip, large, crf=10)
    assert small.stat().st_size < large.stat().st_size
    assert sum(picture.key_frame for picture in pictures(small)) >= 4


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


def test_a_picture_too_narrow_for_x265_becomes_h264(make_clip: ClipMaker) -> None:
    path = make_clip("thin.mkv", size=(48, 64), codec="ffv1")
    info = replace(FileSource(path).info, codec="hevc")
    with FileSource(path) as source, FileSink(path.with_name("out.mp4"), info) as sink:
        assert sink.notices[0] == "the video becomes H.264 (it was hevc)"
        for frame in source:
            sink.write(frame)
    message = refused(path.with_name("x.mp4"), info, codec="hevc")
    assert "libx265 can't code 48x64 pixels" in message


@pytest.mark.parametrize("name", ["out.avi", "out.y4m"])
def test_frames_without_a_rate_get_numbers_of_their_own(make_clip: ClipMaker, name: str) -> None:
    """A pause makes the mean rate less than the usual one: two frames would have one number."""
    pts = [index * 33 + (500 if index > 20 else 0) for index in range(60)]
    path = make_clip("in.mp4", pts=pts, time_base=Fraction(1, 1000))
    sink = deblur(path, path.with_name(name))
    assert any("has a constant frame rate" in line for line in sink.notices)
    assert len(pictures(path.with_name(name))) == 60


def test_pictures_that_are_not_encoded_take_no_options(tmp_path: Path) -> None:
    path = tmp_path / "out.y4m"
    assert "not encoded: leave out --crf" in refused(path, crf=3)
    assert "not encoded: leave out --preset" in refused(path, preset="slow")
    assert "leave out --encoder-option" in refused(path, encoder_options={"g": "1"})


@pytest.mark.parametrize("layout", ["yuv420p10le", "yuv444p12le", "gray10le", "gray16le"])
def test_y4m_keeps_every_bit(make_clip: ClipMaker, layout: str) -> None:
    path = make_clip("in.mkv", codec="ffv1", pix_fmt=layout, pts=range(2))
    deblur(path, path.with_name("out.y4m"))
    for before, after in zip(samples(path), samples(path.with_name("out.y4m")), strict=True):
        assert all(map(np.array_equal, before, after))


def test_why_a_container_takes_no_header_is_told(make_clip: ClipMaker) -> None:
    with FileSource(make_clip("in.mkv")) as source:
        output = source.path.with_name("out.mxf")
        sink = FileSink(output, replace(source.info, rate=Fraction(10)))
        with pytest.raises(VideoError, match=r"can't write .*Unsupported frame rate 10/1"), sink:
            sink.write(next(iter(source)))
    assert list(output.parent.glob("*.mxf")) == []


@pytest.mark.parametrize("name", ["out.mkv", "out.avi", "out.nut"])
def test_raw_pictures_are_read_again_as_they_were(make_clip: ClipMaker, name: str) -> None:
    path = make_clip("in.mkv", codec="ffv1", pts=range(2))
    deblur(path, path.with_name(name), codec="rawvideo")
    old, new = samples(path), samples(path.with_name(name))
    for before, after in zip(old, new, strict=True):
        assert all(map(np.array_equal, before, after))


@pytest.mark.parametrize(
    ("name", "layout"),
    [("out.mov", "yuv420p"), ("out.mkv", "yuv420p10le"), ("out.avi", "gbrp")],
)
def test_raw_pictures_that_could_not_be_read_again_are_refused(
    tmp_path: Path, name: str, layout: str
) -> None:
    message = refused(tmp_path / name, replace(INFO, pix_fmt=layout), codec="rawvideo")
    assert f"can't hold raw {layout}: use .nut or --codec ffv1" in message
