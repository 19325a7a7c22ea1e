"""Image files: their samples, and all else that they hold. FFmpeg judges what libvips wrote."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray

from streamdeblur import images, metadata
from streamdeblur.cli import main
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import VideoError
from streamdeblur.images import ImageOutput, corrected_samples, read_image
from streamdeblur.video.parts import publish
from tests.tiny_onnx import identity

EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # turned by 90
Samples = NDArray[Any]


def noise(bands: int, dtype: type = np.uint8, size: tuple[int, int] = (37, 50)) -> Samples:
    most = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, most, (*size, bands), dtype, endpoint=True)


def slopes(bands: int = 3, dtype: type = np.uint8) -> Samples:
    """What lossy formats keep well, but for a corner in the middle."""
    rows, columns = np.mgrid[0:64, 0:96]
    planes = [(rows * 2 + columns + 20 * band) % 256 for band in range(bands)]
    scale = 257 if dtype is np.uint16 else 1
    return (np.stack(planes, axis=2) * scale).astype(dtype)


def encoded(samples: Samples, suffix: str, **options: Any) -> bytes:
    wide = samples.dtype == np.uint16
    kinds = ("grey16", "rgb16") if wide else ("b-w", "srgb")
    image = pyvips.Image.new_from_array(samples, interpretation=kinds[samples.shape[2] > 2])
    return bytes(image.write_to_buffer(suffix, keep="none", **options))


def by_ffmpeg(path: Path, layout: str) -> Samples:
    with av.open(str(path)) as file:
        (picture,) = file.decode(video=0)
        return picture.to_ndarray(format=layout)


def vips(path: Path) -> pyvips.Image:
    return pyvips.Image.new_from_buffer(path.read_bytes(), "")


def rewritten(path: Path, sharp: Callable[[Samples], Samples], output: Path) -> Samples:
    """Write an image with another view; gives the samples that were wanted."""
    image = read_image(path)
    samples = corrected_samples(image, sharp(image.view))
    ImageOutput(output, path).write(image, samples)
    return samples


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("bands", "dtype", "layout"),
    [
        (1, np.uint8, "gray"),
        (3, np.uint8, "rgb24"),
        (4, np.uint8, "rgba"),
        (1, np.uint16, "gray16le"),
        (3, np.uint16, "rgb48le"),
        (4, np.uint16, "rgba64le"),
    ],
)
def test_lossless_samples_keep_depth_transparency_and_what_is_left_alone(
    suffix: str, bands: int, dtype: type, layout: str, tmp_path: Path
) -> None:
    path, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    before = noise(bands, dtype)
    path.write_bytes(encoded(before, suffix))

    def lighter_at_the_left(view: Samples) -> Samples:
        sharp = view.copy()
        sharp[:, :20] = np.minimum(view[:, :20].astype(int) + 9, 255)
        return sharp

    wanted = rewritten(path, lighter_at_the_left, output)
    assert wanted.dtype == dtype
    after = by_ffmpeg(output, layout).reshape(before.shape)
    assert np.array_equal(after, wanted)
    assert np.array_equal(after[:, 20:], before[:, 20:])  # to the last bit
    step, most = (257, 65535) if dtype is np.uint16 else (1, 255)
    colours = 3 if bands > 2 else 1
    assert np.array_equal(after[..., colours:], before[..., colours:])
    moved = after[:, :20, :colours].astype(int) - before[:, :20, :colours]
    inside = before[:, :20, :colours].astype(int) + 10 * step <= most
    assert set(np.unique(moved[inside])) == {9 * step}
    assert moved.min() >= 0


def test_an_image_that_is_left_alone_is_the_same_file(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".webp", ".tif", ".avif"):
        path, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
        path.write_bytes(encoded(slopes(), suffix))
        rewritten(path, lambda view: view, output)
        assert output.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_lossy_formats_come_back_close(suffix: str, tmp_path: Path) -> None:
    path, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    path.write_bytes(encoded(slopes(), suffix, Q=90))
    wanted = rewritten(path, lambda view: np.where(view < 250, view + 3, view), output)
    after = by_ffmpeg(output, "rgb24").astype(int)
    assert 10 * np.log10(255**2 / np.mean((after - wanted) ** 2.0)) > 36
    assert abs((after - wanted).mean()) < 0.5


def test_lossless_webp_stays_lossless_with_its_transparency(tmp_path: Path) -> None:
    path, output = tmp_path / "in.webp", tmp_path / "out.webp"
    samples = noise(4)
    samples[:, :, 3] |= 1  # WebP may change colours that nobody sees
    path.write_bytes(encoded(samples, ".webp", lossless=True))
    wanted = rewritten(path, lambda view: view ^ 1, output)
    assert np.array_equal(vips(output).numpy(), wanted)


def jpeg_with(samples: Samples, *segments: tuple[int, bytes], **options: Any) -> bytes:
    data = encoded(samples, ".jpg", **options)
    blocks = [struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body for kind, body in segments]
    end = 4 + int.from_bytes(data[4:6])  # of JFIF's own
    return data[:end] + b"".join(blocks) + data[end:]


def test_a_jpeg_keeps_every_segment_byte_for_byte(tmp_path: Path) -> None:
    path, output = tmp_path / "in.jpg", tmp_path / "out.jpg"
    profile = pyvips.Operation.call("profile_load", "srgb")
    kept = [
        (0xE1, EXIF),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"),
        (0xE2, b"ICC_PROFILE\0\x01\x01" + profile),
        (0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\0"),
        (0xEC, b"unheard of"),
        (0xFE, "süß".encode("latin-1")),
    ]
    path.write_bytes(jpeg_with(slopes(), *kept, (0xE2, b"MPF\0II*\0")))
    before = path.read_bytes()
    rewritten(path, lambda view: 255 - view, output)
    after = output.read_bytes()

    def told(data: bytes) -> list[tuple[int, bytes]]:
        found = [(kind, segment[4:]) for kind, segment in metadata._segments(data)]
        return [(kind, body) for kind, body in found if kind in (0xFE, *range(0xE1, 0xF0))]

    assert told(after) == kept  # and no index of pictures that are not there
    assert metadata.further_pictures(before)
    assert not metadata.further_pictures(after)
    image = vips(output)
    assert image.get("orientation") == 6
    assert image.get("icc-profile-data") == profile
    assert (image.width, image.height) == (96, 64)  # as stored: viewers turn it
    assert np.abs(image.numpy().astype(int) - (255 - vips(path).numpy())).mean() < 2


@pytest.mark.parametrize(("mode", "told"), [("off", "4:4:4"), ("on", "4:2:0")])
def test_a_jpeg_keeps_its_chroma(mode: str, told: str, tmp_path: Path) -> None:
    path, output = tmp_path / "in.jpeg", tmp_path / "out.jpeg"
    path.write_bytes(encoded(slopes(), ".jpg", subsample_mode=mode))
    rewritten(path, lambda view: 255 - view, output)
    assert vips(output).get("jpeg-chroma-subsample") == told


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_png_keeps_every_chunk_byte_for_byte(tmp_path: Path) -> None:
    path, output = tmp_path / "in.png", tmp_path / "out.png"
    data = encoded(noise(3, np.uint16), ".png", bitdepth=16)
    (density,) = (whole for kind, whole in metadata._chunks(data) if kind == b"pHYs")
    before = [
        chunk(b"gAMA", struct.pack(">I", 45455)),
        chunk(b"eXIf", EXIF[6:]),
        chunk(b"iTXt", "Titel\0\0\0\0\0süß".encode()),
        chunk(b"tEXt", "Author\0Zoë".encode("latin-1")),
        chunk(b"prVt", b"unheard of"),
    ]
    after = [chunk(b"tIME", struct.pack(">HBBBBB", 2026, 1, 2, 3, 4, 5))]
    head, end = 8 + 25, len(data) - 12
    path.write_bytes(data[:head] + b"".join(before) + data[head:end] + b"".join(after) + data[end:])
    wanted = rewritten(path, lambda view: 255 - view, output)
    chunks = list(metadata._chunks(output.read_bytes()))
    kinds = [kind for kind, _ in chunks]
    assert [whole for kind, whole in chunks if kind not in metadata._PNG_OWN] == [
        *before,
        density,
        *after,
    ]
    assert kinds.index(b"IDAT") > kinds.index(b"prVt")
    assert kinds.index(b"tIME") > kinds.index(b"IDAT")
    assert np.array_equal(by_ffmpeg(output, "rgb48le"), wanted)


@pytest.mark.parametrize("suffix", [".webp", ".tif", ".avif"])
def test_other_formats_keep_profile_and_description(suffix: str, tmp_path: Path) -> None:
    path, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    image = pyvips.Image.new_from_array(slopes(), interpretation="srgb")
    image = image.copy(xres=11.811, yres=11.811)
    profile = pyvips.Operation.call("profile_load", "srgb")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    image.set_type(pyvips.GValue.blob_type, "xmp-data", b"<x:xmpmeta/>")
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Model", "Camera (Camera, ASCII, 7 c, 7 b)")
    path.write_bytes(image.write_to_buffer(suffix))
    rewritten(path, lambda view: 255 - view, output)
    before, after = vips(path), vips(output)
    for name in ("icc-profile-data", "xmp-data", "exif-ifd0-Model"):
        if before.get_typeof(name):
            assert after.get(name) == before.get(name)
    assert after.get("icc-profile-data") == profile
    if suffix != ".webp" and suffix != ".avif":
        assert after.xres == pytest.approx(11.811, abs=1e-3)


def test_an_avif_of_10_bits_keeps_them(tmp_path: Path) -> None:
    path, output = tmp_path / "in.avif", tmp_path / "out.avif"
    path.write_bytes(encoded(slopes(3, np.uint16), ".avif", bitdepth=10, lossless=True))
    rewritten(path, lambda view: np.minimum(view, 200), output)
    assert vips(path).get("bits-per-sample") == vips(output).get("bits-per-sample") == 10
    with av.open(str(output)) as file:
        assert "10" in file.streams.video[0].codec_context.pix_fmt


def avif_by_ffmpeg(path: Path, primaries: int, transfer: int, matrix: int) -> None:
    with av.open(str(path), "w", format="avif") as file:
        stream = file.add_stream("libsvtav1", rate=1, options={"preset": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc = primaries, transfer
        context.colorspace, context.color_range = matrix, 1
        picture = av.VideoFrame.from_ndarray(slopes(), "rgb24").reformat(format="yuv420p10le")
        picture.pts = 0
        file.mux([*stream.encode(picture), *stream.encode(None)])


def test_an_avif_whose_colours_would_change_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.avif"
    for tags in ((9, 16, 9), (9, 18, 9), (12, 13, 6)):
        avif_by_ffmpeg(path, *tags)
        with pytest.raises(VideoError, match="wide or HDR colours"):
            read_image(path)
    for tags in ((1, 13, 6), (1, 1, 1), (2, 2, 2)):
        avif_by_ffmpeg(path, *tags)
        assert read_image(path).samples.shape == (64, 96, 3)


def test_the_colours_of_an_avif_are_those_of_its_main_picture() -> None:
    def box(kind: bytes, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return struct.pack(">I4s", len(content) + 8, kind) + content

    def colr(*numbers: int) -> bytes:
        return box(b"colr", b"nclx", struct.pack(">3HB", *numbers, 0x80))

    properties = box(b"ipco", box(b"ispe", bytes(12)), colr(9, 16, 9), colr(1, 13, 6))
    for item, wanted in ((1, (9, 16)), (2, (1, 13)), (3, (2, 2)), (4, (2, 2))):
        for wide in (False, True):
            words, index = (">I", ">H") if wide else (">H", ">B")
            table = [(1, [1, 2]), (2, [1, 3]), (3, [1, 0])]
            rows = b"".join(
                struct.pack(words, number)
                + bytes([len(indices)])
                + b"".join(struct.pack(index, each) for each in indices)
                for number, indices in table
            )
            version = bytes([wide, 0, 0, wide])
            belongs = box(b"ipma", version, struct.pack(">I", len(table)), rows)
            pitm = box(b"pitm", version, struct.pack(words, item))
            meta = box(b"meta", bytes(4), pitm, box(b"iprp", properties, belongs))
            data = box(b"ftyp", b"avif", bytes(4)) + meta
            assert metadata.named_colours(data) == wanted
            for length in range(len(data)):
                metadata.named_colours(data[:length])


def test_names_that_libvips_would_take_for_options_and_one_pixel(tmp_path: Path) -> None:
    path, output = tmp_path / "a[Q=1],ü.png", tmp_path / "b[strip].PNG"
    path.write_bytes(encoded(noise(3, size=(1, 1)), ".png"))
    wanted = rewritten(path, lambda view: view ^ 255, output)
    assert np.array_equal(by_ffmpeg(output, "rgb24"), wanted)


def test_depth_and_transparency_are_not_lost_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(encoded(noise(4, np.uint16), ".png", bitdepth=16))
    with pytest.raises(VideoError, match=r"no transparency; use \.png"):
        rewritten(path, lambda view: view, tmp_path / "out.jpg")
    assert not (tmp_path / "out.jpg").exists()


UNFIT: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "CMYK": (
        "in.jpg",
        lambda: (
            pyvips.Image.black(8, 8, bands=4).copy(interpretation="cmyk").write_to_buffer(".jpg")
        ),
        "only gray and RGB",
    ),
    "floats": ("in.tif", lambda: (pyvips.Image.black(8, 8) + 0.5).write_to_buffer(".tif"), "float"),
    "pages": (
        "in.tif",
        lambda: pyvips.Image.black(8, 16).write_to_buffer(".tif", page_height=8),
        "2 pages",
    ),
    "frames": (
        "in.png",
        lambda: (whole := encoded(noise(3), ".png"))[:33] + chunk(b"acTL", b"\0" * 8) + whole[33:],
        "animated",
    ),
    "a sequence": ("in.avif", lambda: b"\0\0\0\x2cftypavis\0\0\0\0avisavif", "animated"),
    "a bomb": (
        "in.png",
        lambda: bytes(pyvips.Image.black(20_000, 20_000).write_to_buffer(".png")),
        "more than 134217728",
    ),
    "text": ("in.png", lambda: b"This is no image.\n" * 50, "is it a whole JPEG, PNG"),
    "half a file": ("in.png", lambda: encoded(noise(3), ".png")[:3000], "is it a whole JPEG, PNG"),
    "half a JPEG": ("in.jpg", lambda: encoded(noise(3), ".jpg")[:1500], "is it a whole JPEG, PNG"),
    "an SVG": ("in.png", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "in.png"),
    "nothing": ("in.jpg", lambda: b"", "is it a whole JPEG, PNG"),
}


@pytest.mark.parametrize(("name", "content", "words"), UNFIT.values(), ids=UNFIT.keys())
def test_what_would_not_come_back_whole_is_refused(
    name: str, content: Callable[[], bytes], words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content())
    with pytest.raises(VideoError, match=words):
        read_image(tmp_path / name)


def test_the_command_deblurs_an_image(
    model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "photo.png"
    before = noise(3, np.uint16)
    path.write_bytes(encoded(before, ".png", bitdepth=16))
    assert main([str(path), "-m", model]) == 0
    output = tmp_path / "photo.deblurred.png"
    view = ((before.astype(int) + 128) // 257).astype(int)
    wanted = np.clip(before + 257 * (255 - 2 * view), 0, 65535)
    assert np.array_equal(by_ffmpeg(output, "rgb48le"), wanted)
    assert capfd.readouterr().err.splitlines()[-1] == f"streamdeblur: {output}: done"

    assert main([str(path), "-m", model]) == 1
    assert "exists; pass --overwrite" in capfd.readouterr().err
    half = ["--strength", "0.5", "--compare", "-o", str(tmp_path / "both.png")]
    assert main([str(path), "-m", model, *half]) == 0
    both = by_ffmpeg(tmp_path / "both.png", "rgb48le")
    assert np.array_equal(both[:, :50], before)
    assert np.abs(both[:, 50:].astype(int) - 32768).max() <= 257
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "both.png", "invert.onnx", "photo.deblurred.png", "photo.png",
    ]  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
def test_compare_shows_the_original_at_the_left_however_it_is_turned(
    orientation: int, model: str, tmp_path: Path
) -> None:
    path, output = tmp_path / "photo.tif", tmp_path / "both.tif"
    image = pyvips.Image.new_from_array(noise(3), interpretation="srgb").copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    path.write_bytes(image.write_to_buffer(".tif"))
    assert main([str(path), "-m", model, "--compare", "--quiet", "-o", str(output)]) == 0
    before, both = (vips(each).autorot().numpy() for each in (path, output))
    assert np.array_equal(both[:, : before.shape[1]], before)
    assert np.array_equal(both[:, before.shape[1] :], 255 - before)


def test_resume_takes_an_image_of_the_same_settings_alone_for_done(
    model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(noise(3), ".png"))
    assert main([str(path), "-m", model, "--resume"]) == 0
    capfd.readouterr()
    assert main([str(path), "-m", model, "--resume"]) == 0
    assert "nothing to do" in capfd.readouterr().err
    assert main([str(path), "-m", model, "--resume", "--strength", "0.5"]) == 1
    assert "is not known to be of this input with these settings" in capfd.readouterr().err


def test_a_run_killed_when_it_has_named_an_image_is_complete(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def killed(*names: Any) -> None:
        publish(*names)
        raise KeyboardInterrupt

    path = tmp_path / "photo.png"
    path.write_bytes(encoded(noise(3), ".png"))
    with monkeypatch.context() as patch:
        patch.setattr(images, "publish", killed)
        assert main([str(path), "-m", model, "--resume"]) == 130
    capfd.readouterr()
    assert main([str(path), "-m", model, "--resume"]) == 0
    assert "nothing to do" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch.jpg"], "No such file"),
        (["photo.png", "--start", "3"], "leave out --start"),
        (["photo.png", "-o", "photo.gif"], "images end in"),
        (["photo.png", "-fo", "photo.png"], "replace the input"),
        (["photo.png", "-o", "no/such.png"], "no folder"),
        (["photo.png", "-o", "rtsp://10.0.0.7/x"], "one file as its output"),
    ],
)
def test_mistakes_get_one_line_and_change_nothing(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.png").write_bytes(encoded(noise(3), ".png"))
    Path("same.onnx").write_bytes(identity())
    before = sorted(Path().iterdir())
    assert main([*arguments, "-m", "same.onnx"]) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert words in line
    assert sorted(Path().iterdir()) == before


def test_options_for_videos_are_refused_whatever_their_value(
    tmp_path: Path, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(encoded(noise(3), ".png"))
    for flags in (["--crf", "0"], ["--start", "0"], ["--format", "nut"], ["--skip-sharp"]):
        assert main([str(path), "-m", model, *flags]) == 1
        assert f"is an image: leave out {flags[0]}" in capfd.readouterr().err


def test_one_image_loads_one_network_and_not_in_a_thread(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[object] = []
    load = Deblurrer.load

    def noted(*arguments: Any, **options: Any) -> Deblurrer:
        threads.append(threading.current_thread())
        return load(*arguments, **options)

    monkeypatch.setattr(Deblurrer, "load", noted)
    path = tmp_path / "p.png"
    path.write_bytes(encoded(noise(3), ".png"))
    assert main([str(path), "-m", model, "--report", str(tmp_path / "r.html")]) == 0
    assert threads == [threading.main_thread()]
