"""No GPU is needed: what is not there is found out for real, what is there is played."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamdeblur.cli import main
from streamdeblur.correction import planar_copy, planes
from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, VideoInfo
from streamdeblur.network.nvidia import has_driver
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource, open_source
from streamdeblur.video import decoding, encoders, hardware, picture
from streamdeblur.video.encoder_settings import Wishes
from streamdeblur.video.encoders import Encoding, choose_encoding
from streamdeblur.video.headers import picture_stream
from streamdeblur.video.opening import open_container
from tests.clips import noisy_picture
from tests.conftest import ClipMaker

no_gpu = pytest.mark.skipif(has_driver(), reason="there is an NVIDIA driver")
has_cuda_built_in = pytest.mark.skipif(
    "cuda" not in hardware.decoders(), reason="this FFmpeg cannot decode by CUDA"
)
PACKED = {"yuv420p": "nv12", "yuv420p10le": "p010le"}


@pytest.fixture
def clip(make_clip: ClipMaker) -> Path:
    return make_clip()


def info(pix_fmt: str = "yuv420p", codec: str = "h264") -> VideoInfo:
    return VideoInfo(
        width=64,
        height=48,
        time_base=Fraction(1, 25),
        rate=Fraction(25),
        codec=codec,
        pix_fmt=pix_fmt,
    )


def chosen(codec: str, pix_fmt: str = "yuv420p", **options: Any) -> Encoding:
    return choose_encoding(
        info(pix_fmt, options.pop("of", "h264")),
        (64, 48),
        "matroska",
        Wishes(codec=codec, **options),
    )


class Played:
    """Stands in for an accelerator whose device is there."""

    def create(self, codec: object) -> None:
        """Begin to work."""


class Packed:
    """A file, its stream or its decoder, whose pictures come as from hardware: chroma packed."""

    def __init__(self, wrapped: Any, *, shift: int = 0, most: int = 1000) -> None:
        self._wrapped, self._shift, self._most = wrapped, shift, most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    @property
    def codec_context(self) -> Packed:
        return Packed(self._wrapped.codec_context, shift=self._shift, most=self._most)

    def demux(self, stream: Packed) -> Iterator[av.Packet[Any]]:
        yield from itertools.islice(self._wrapped.demux(stream._wrapped), self._most)

    def decode(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        pictures = []
        for decoded in self._wrapped.decode(packet):
            packed = decoded.reformat(format=PACKED[decoded.format.name])
            samples = np.frombuffer(packed.planes[0], np.uint8)  # type: ignore[call-overload]
            samples[0] += self._shift
            pictures.append(packed)
        return pictures


def packed_stream(container: Any, name: Path | str) -> Any:
    if not isinstance(container, Packed):
        return picture_stream(container, name)
    stream = picture_stream(container._wrapped, name)
    return Packed(stream, shift=container._shift, most=container._most)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which CUDA decodes."""
    played = Played()
    for module in (hardware, decoding):
        monkeypatch.setattr(module, "accelerator", lambda device, gpu: played)
        monkeypatch.setattr(module, "picture_stream", packed_stream)
    monkeypatch.setattr(hardware, "decoders", lambda: ["cuda"])

    def opened(path: Path, accelerator: object, *others: Any) -> Any:
        container = open_container(path, None, *others)
        return Packed(container) if accelerator is played else container

    monkeypatch.setattr(decoding, "open_container", opened)


def test_every_decoder_and_encoder_of_the_machine_is_tried() -> None:
    found = dict(hardware.probes())
    assert found.keys() >= {f"decoder {name}" for name in hardware.decoders()}
    assert found.keys() >= {f"encoder {name}" for name in hardware.encoders("h264")}


@no_gpu
@has_cuda_built_in
def test_a_missing_driver_is_named(clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(VideoError, match=r"cuda can't decode .*clip.mp4: it fails: .*libcuda"):
        FileSource(clip, decoder="cuda")
    with pytest.raises(VideoError, match=r"h264_nvenc: it fails: .*libcuda.*--codec h264 encodes"):
        chosen("nvenc")
    assert main([str(clip), "--codec", "h264_nvenc"]) == 1
    said = capfd.readouterr().err
    assert "h264_nvenc can't encode clip.deblurred.mp4" in said
    assert "is its GPU here? --codec gpu" in said
    assert not clip.with_name("clip.deblurred.mp4").exists()


@no_gpu
def test_auto_goes_on_with_software_and_says_so(
    clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([str(clip), "--decoder", "auto", "--codec", "gpu"]) == 0
    said = capfd.readouterr().err
    assert "clip.mp4 is decoded on the processor" in said
    assert "encoded on the processor" in said
    with av.open(str(clip.with_name("clip.deblurred.mp4"))) as container:
        assert len(list(container.decode(video=0))) == 12


def test_a_decoder_that_does_not_exist_is_refused_with_those_that_do(clip: Path) -> None:
    with pytest.raises(VideoError, match=r"no decoder nvdec: this FFmpeg has software"):
        FileSource(clip, decoder="nvdec")


def test_files_without_a_picture_are_named(tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    with av.open(str(song), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate = 8000
        output.mux(stream.encode(sound))
    with pytest.raises(VideoError, match=r"song\.wav has no video stream"):
        FileSource(song, decoder="auto")


def test_live_sources_have_no_decoder_to_choose() -> None:
    with pytest.raises(VideoError, match="leave out --decoder"):
        open_source("lavfi:testsrc2=rate=30", decoder="auto")


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("pix_fmt", PACKED)
@pytest.mark.parametrize("decoder", ["cuda", "auto"])
def test_hardware_gives_the_same_frames_as_software(
    make_clip: ClipMaker, pix_fmt: str, decoder: str
) -> None:
    path = make_clip("in.mkv", codec="ffv1", pix_fmt=pix_fmt, colorspace=1, color_range=1)
    with FileSource(path) as ours, FileSource(path, decoder=decoder) as theirs:
        assert theirs.info == ours.info
        for one, other in zip(ours, theirs, strict=True):
            assert one.pts == other.pts
            assert one.picture.format.name == other.picture.format.name
            assert np.array_equal(one.image, other.image)
            for plane, same in zip(planes(one.picture), planes(other.picture), strict=True):
                assert np.array_equal(plane, same)
        assert (ours.frames_read, ours.decode_errors) == (12, 0)
        assert (theirs.frames_read, theirs.decode_errors) == (12, 0)
    assert (ours.decoder, theirs.decoder) == ("software", "cuda")
    assert theirs.notices == ((f"{path} is decoded by cuda",) if decoder == "auto" else ())


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("fault", [{"shift": 1}, {"most": 3}])
def test_hardware_that_decodes_otherwise_is_not_trusted(clip: Path, fault: dict[str, int]) -> None:
    def opened(accel: object) -> Any:
        container = open_container(clip)
        return Packed(container, **fault) if accel else container

    failure = hardware.decoder_failure(opened, "cuda", 0)
    assert re.fullmatch(r"picture \d comes out otherwise than from FFmpeg's own decoder", failure)
    with pytest.raises(VideoError, match=r"cuda can't decode it.mp4: picture"):
        hardware.choose_decoder("cuda", opened, "it.mp4", 0)
    device, notices = hardware.choose_decoder("auto", opened, "it.mp4", 0)
    assert device is None
    assert notices == [f"it.mp4 is decoded on the processor: cuda: {failure}"]


@pytest.mark.parametrize("family", ["h264", "hevc", "av1"])
@pytest.mark.parametrize("live", [False, True])
def test_settings_are_known_to_the_encoders(family: str, live: bool) -> None:
    for name in hardware.encoders(family):
        options = av.CodecContext.create(name, "w").supported_options
        known = {option.name: option for option in (*options.generic, *options.private)}
        for key, value in hardware.encoder_options(name, None, live=live).items():
            assert key in known, (name, key)
            choices = [choice.name for choice in known[key].choices]
            assert not choices or value.lstrip("+") in choices or value.isdigit(), (name, key)


@pytest.mark.parametrize(
    ("encoder", "level"),
    [
        ("h264_nvenc", {"cq": "23"}),
        ("hevc_qsv", {"global_quality": "23"}),
        ("h264_amf", {"qp_i": "23", "qp_p": "23"}),
        ("hevc_videotoolbox", {"global_quality": str(118 * 54)}),
    ],
)
def test_quality_is_asked_for_in_the_words_of_each_maker(
    encoder: str, level: dict[str, str]
) -> None:
    assert hardware.encoder_options(encoder, 23, live=False).items() >= level.items()


@pytest.mark.parametrize(
    ("codec", "of", "pix_fmt", "encoder", "layout"),
    [
        ("gpu", "h264", "yuv420p", "h264_nvenc", "yuv420p"),
        ("nvenc", "hevc", "yuv420p10le", "hevc_nvenc", "p010le"),
        ("qsv", "hevc", "yuv420p10le", "hevc_qsv", "p010le"),
        ("amf", "av1", "yuv420p", "av1_amf", "yuv420p"),
        ("gpu", "mjpeg", "yuv420p", "h264_nvenc", "yuv420p"),
    ],
)
def test_hardware_that_works_encodes_the_family_of_the_input(
    monkeypatch: pytest.MonkeyPatch, codec: str, of: str, pix_fmt: str, encoder: str, layout: str
) -> None:
    if encoder not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {encoder}")
    monkeypatch.setattr(encoders, "encoder_failure", lambda *_: "")
    encoding = chosen(codec, pix_fmt, of=of, crf=20)
    assert (encoding.encoder, encoding.pix_fmt) == (encoder, layout)
    assert encoding.options.items() >= hardware.encoder_options(encoder, 20, live=False).items()
    assert "crf" not in encoding.options
    becomes = ["the video becomes H.264 (it was mjpeg)"] if of == "mjpeg" else []
    assert list(encoding.notices) == [*becomes, f"encoded by {encoder}"]


def test_hardware_that_loses_depth_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    if "h264_qsv" not in av.codecs_available:
        pytest.skip("this FFmpeg has no h264_qsv")
    monkeypatch.setattr(encoders, "encoder_failure", lambda *_: "")
    with pytest.raises(VideoError, match=r"h264_qsv: it loses depth \(10 to 8 bits\)"):
        chosen("qsv", "yuv420p10le")
    monkeypatch.setattr(encoders, "encoders", lambda family: ["h264_qsv"])
    encoding = chosen("gpu", "yuv420p10le")
    assert encoding.encoder == "libx264"
    assert "encoded on the processor: h264_qsv: it loses depth" in encoding.notices[0]


@pytest.mark.parametrize(("maker", "layout"), [("amf", "yuv420p"), ("qsv", "nv12")])
def test_hardware_records_a_webcam_as_the_processor_would(
    monkeypatch: pytest.MonkeyPatch, maker: str, layout: str
) -> None:
    """Which would not keep the finer colour of a live picture either."""
    if f"h264_{maker}" not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no h264_{maker}")
    monkeypatch.setattr(encoders, "encoder_failure", lambda *_: "")
    encoding = chosen(maker, "yuvj422p", of="mjpeg", live=True)
    assert (encoding.encoder, encoding.pix_fmt) == (f"h264_{maker}", layout)
    cost = "loses resolution of colour, so that every player shows it"
    assert encoding.notices[-1] == f"the picture becomes {layout} and {cost}"


def test_a_family_without_hardware_stays_on_the_processor() -> None:
    encoding = chosen("gpu", of="ffv1")
    assert encoding.encoder == "ffv1"
    assert "no hardware encoder for ffv1" in encoding.notices[0]


@pytest.mark.parametrize(("pix_fmt", "layout"), PACKED.items())
def test_packing_for_an_encoder_changes_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pix_fmt: str, layout: str
) -> None:
    packing = Encoding(encoder="libx264", pix_fmt=layout, options={})
    monkeypatch.setattr(picture, "choose_encoding", lambda *_, **__: packing)
    monkeypatch.setattr(picture.PictureTrack, "open", lambda self, original=None: None)
    frame = Frame(noisy_picture(0, (64, 48), pix_fmt), None, 0)
    sink = FileSink(tmp_path / "out.mkv", info(pix_fmt))
    finished = sink.prepare(frame).finished
    assert finished is not None
    assert finished.format.name == layout
    for plane, same in zip(planes(frame.picture), planes(planar_copy(finished)), strict=True):
        assert np.array_equal(plane, same)


@pytest.mark.parametrize(
    ("family", "codec", "name"), [("vp9", "libvpx-vp9", "in.webm"), ("h264", "mjpeg", "in.avi")]
)
def test_a_family_that_hardware_is_not_asked_for_is_named(
    make_clip: ClipMaker, family: str, codec: str, name: str
) -> None:
    layout = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = make_clip(name, codec=codec, pix_fmt=layout, pts=range(3))
    with (
        FileSource(path) as source,
        FileSink(path.with_name("out.mkv"), source.info, codec="gpu") as sink,
    ):
        assert "encoded on the processor: " in " ".join(sink.notices)
        for frame in source:
            sink.write(frame)
    with pytest.raises(VideoError, match=f"{family}_qsv: .*--codec {family} encodes on the proc"):
        FileSink(path.with_name("other.mkv"), source.info, codec="qsv")
