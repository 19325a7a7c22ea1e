"""Files and models from strangers: what they may not reach, and what they may not cost."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from streamdeblur.cli import main
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import ModelError, VideoError
from streamdeblur.sources import open_source
from streamdeblur.video.headers import MAX_PIXELS
from tests.clips import write_clip
from tests.conftest import ClipMaker
from tests.tiny_onnx import external_weight, identity, model

Capture = pytest.CaptureFixture[str]

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.48,\n{}\n#EXT-X-ENDLIST\n"
MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n"
CONCAT = "ffconcat version 1.0\nfile '{}'\n"
DASH = (
    '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011">'
    '<Period><AdaptationSet><Representation id="1"><BaseURL>{}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>"
)
# `{}` is the address of another file; each by the name under which it comes.
LISTS = {
    "list.m3u8": HLS,
    "master.m3u8": MASTER,
    "list.ffconcat": CONCAT,
    "holiday.mkv": CONCAT,
}
STRANGE = {
    "holiday.mp4": HLS,
    "list.mpd": DASH,
    "list.asx": '<asx version="3.0"><entry><ref href="{}"/></entry></asx>',
    "list.ram": "{}\n",
    "list.strm": "{}\n",
}
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {} RTP/AVP 96\n"


class Web(ThreadingHTTPServer):
    """Serves a folder on a port of this computer, and keeps what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805
                self.asked.append(handler.path)
                super().do_GET()

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        super().__init__(("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "web").mkdir()
    with Web(tmp_path / "web") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def refused(path: Path, capfd: Capture) -> str:
    """The one line that the command says when it is given `path`, which changes nothing."""
    folder = path.parent
    (folder / "identity.onnx").write_bytes(identity())
    before = sorted(folder.iterdir())
    capfd.readouterr()
    assert main([str(path), "-m", str(folder / "identity.onnx"), "--quiet"]) == 1
    output, errors = capfd.readouterr()
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert sorted(folder.iterdir()) == before
    return errors


@pytest.mark.parametrize("name", [*LISTS, *STRANGE])
def test_a_list_of_files_opens_none_of_them(
    name: str, tmp_path: Path, web: Web, capfd: Capture
) -> None:
    secret = write_clip(tmp_path / "secret.ts")
    write_clip(tmp_path / "web" / "a.ts")
    for address in (f"{web.url}/a.ts", secret.name, str(secret), secret.as_uri()):
        (tmp_path / name).write_text({**LISTS, **STRANGE}[name].format(address))
        said = refused(tmp_path / name, capfd)
        if name in LISTS:
            assert "it is a list of other files or addresses; give one of those" in said
    assert web.asked == []


@pytest.mark.parametrize("text", [HLS, CONCAT])
def test_standard_input_opens_nothing_either(text: str, tmp_path: Path, web: Web) -> None:
    write_clip(tmp_path / "web" / "a.ts")
    model = tmp_path / "identity.onnx"
    model.write_bytes(identity())
    command = [sys.executable, "-m", "streamdeblur", "-", "-o", "out.mkv", "-m", str(model)]
    done = subprocess.run(
        command, cwd=tmp_path, input=text.format(f"{web.url}/a.ts").encode(), capture_output=True
    )
    assert done.returncode == 1
    assert b"can't open standard input" in done.stderr
    assert web.asked == []
    assert not (tmp_path / "out.mkv").exists()


def test_a_session_description_opens_no_port(tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "session.sdp").write_text(SDP.format(5004))
    assert "it is a list of other files or addresses" in refused(tmp_path / "session.sdp", capfd)


def test_a_name_with_a_pattern_is_one_file(make_clip: ClipMaker, tmp_path: Path) -> None:
    for number in range(3):
        make_clip(f"x{number}.png", codec="png", pix_fmt="rgb24", pts=[0])
    (tmp_path / "x0.png").rename(tmp_path / "x%d.png")
    with open_source(str(tmp_path / "x%d.png")) as source:
        assert len(list(source)) == 1


def boxes(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of the boxes of a MOV file between two places."""
    while begin < end:
        size, name = struct.unpack(">I4s", data[begin : begin + 8])
        yield name, begin, begin + size
        begin += size


def pointing_elsewhere(path: Path, other: str) -> None:
    """Have the first track of a MOV file say that its pictures lie in another file."""
    data = bytearray(path.read_bytes())
    level, parents = (0, len(data)), []
    for wanted in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        _, begin, end = next(box for box in boxes(data, *level) if box[0] == wanted)
        parents.append(begin)
        level = begin + 8, end
    name = other.encode()
    record = bytes(10) + bytes(28) + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    record += bytes(16) + struct.pack(">HH", 1, 1) + bytes(16)
    for kind, text in ((0, path.parent.name.encode()), (2, b"disk:" + name)):
        record += struct.pack(">HH", kind, len(text)) + text + bytes(len(text) % 2)
    record += struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record
    first = parents[-1] + 16  # after the box's head, version, and count of entries
    growth = len(entry) - struct.unpack(">I", data[first : first + 4])[0]
    data[first : first + len(entry) - growth] = entry
    for parent in parents:
        data[parent : parent + 4] = struct.pack(
            ">I", struct.unpack_from(">I", data, parent)[0] + growth
        )
    path.write_bytes(data)


def test_a_mov_that_points_elsewhere_is_not_followed(
    make_clip: ClipMaker, tmp_path: Path, capfd: Capture
) -> None:
    import av

    clip = make_clip("clip.mov")
    other = make_clip("other.mov")
    pointing_elsewhere(clip, other.name)
    content = clip.read_bytes()
    with av.open(str(clip), options={"enable_drefs": "1"}) as container:  # the bait is real
        assert len(list(container.decode(video=0))) == 12
    said = refused(clip, capfd)
    assert "clip.mov" in said
    assert clip.read_bytes() == content


def test_a_stream_of_the_network_reaches_no_file(tmp_path: Path, web: Web) -> None:
    write_clip(tmp_path / "web" / "a.ts")
    secret = write_clip(tmp_path / "secret.ts")
    (tmp_path / "child.m3u8").write_text(HLS.format("secret.ts"))
    pages = {
        "good": HLS.format("a.ts"),
        "above": MASTER.format("good.m3u8"),
        "segment": HLS.format(secret.as_uri()),
        "child": MASTER.format((tmp_path / "child.m3u8").as_uri()),
    }
    for name, text in pages.items():
        (tmp_path / "web" / f"{name}.m3u8").write_text(text)
    for name in ("good", "above"):
        with open_source(f"{web.url}/{name}.m3u8") as source:
            assert len(list(source)) == 12
    for name in ("segment", "child"):
        with pytest.raises(VideoError, match="Protocol 'file' not on whitelist"):
            open_source(f"{web.url}/{name}.m3u8")


def announcing(path: Path, size: tuple[int, int]) -> Path:
    """Have a clip of 320x272 say that it has another size, wherever its header says so."""
    data = path.read_bytes()
    width, height = (struct.pack(">H", side) for side in (320, 272))
    wider, higher = (struct.pack(">H", side) for side in size)
    spellings = {
        b"\xb0\x82%b\xba\x82%b": False,  # Matroska: PixelWidth, PixelHeight, of two bytes
        b"IHDR\0\0%b\0\0%b": False,  # PNG
        b"\xff\xc0\0\x11\x08%b%b": True,  # JPEG: the height comes first
    }
    changed = data
    for spelling, turned in spellings.items():
        old, new = (width, height), (wider, higher)
        changed = changed.replace(
            spelling % (old[::-1] if turned else old), spelling % (new[::-1] if turned else new)
        )
    assert changed != data
    path.write_bytes(changed)
    return path


BOMBS = """
import resource, sys
from streamdeblur.cli import main

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

main([sys.argv[2], "-m", sys.argv[1], "--quiet", "--overwrite"])
before = most()
print([main([name, "-m", sys.argv[1], "--quiet"]) for name in sys.argv[3:]], most() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_a_header_may_announce_any_size_and_costs_no_memory(
    make_clip: ClipMaker, tmp_path: Path
) -> None:
    kinds = {
        "a.mkv": ("ffv1", "gray"),
        "b.mov": ("png", "rgb24"),
        "c.avi": ("mjpeg", "yuvj420p"),
        "d.png": ("png", "rgb24"),
        "e.jpg": ("mjpeg", "yuvj420p"),
    }
    names = []
    for size in ((65_535, 65_535), (16_385, 8_192)):
        for name, (codec, layout) in kinds.items():
            clip = make_clip(
                f"{size[0]}{name}", size=(320, 272), codec=codec, pix_fmt=layout, pts=[0]
            )
            names.append(str(announcing(clip, size)))
    raw = tmp_path / "f.y4m"
    names.append(str(raw))
    raw.write_bytes(b"YUV4MPEG2 W65535 H65535 F25:1 C420\nFRAME\n" + bytes(1000))
    (tmp_path / "identity.onnx").write_bytes(identity())
    command = [
        sys.executable,
        "-c",
        BOMBS,
        str(tmp_path / "identity.onnx"),
        str(make_clip()),
        *names,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    codes, grown = done.stdout.rsplit(maxsplit=1)
    assert codes == str([1] * len(names)), done.stderr
    said = done.stderr.splitlines()
    assert len(said) == len(names)
    assert all(line.startswith("streamdeblur: error: ") for line in said)
    reasons = ("larger than 16K", "more than 134217728", "is invalid", "65500 pixels")
    assert all(any(reason in line for reason in reasons) for line in said), done.stderr
    assert int(grown) < 100  # MB; one such picture has 134 and more in each plane


def test_16k_is_not_too_much() -> None:
    assert 15_360 * 8_640 <= MAX_PIXELS < 16_385 * 8_192


def loaded(path: Path, content: bytes) -> Deblurrer:
    path.write_bytes(content)
    return Deblurrer.load(path, device="cpu")


def test_a_model_reads_weights_in_its_own_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_bytes(b"s")
    path = tmp_path / "inside" / "model.onnx"
    (tmp_path / "inside" / "weight.bin").write_bytes(b"\x0f")
    black = np.zeros((2, 2, 3), np.uint8)
    assert (loaded(path, external_weight("weight.bin"))(black) == 15).all()
    outside = ["../secret", str(tmp_path / "secret")]
    if sys.platform != "win32":  # where links need a right of their own
        (tmp_path / "inside" / "link").symlink_to(tmp_path / "secret")
        outside.append("link")
    for location in outside:
        with pytest.raises(ModelError, match="External data path validation failed") as caught:
            loaded(path, external_weight(location))
        assert "\n" not in str(caught.value)


def test_a_model_brings_no_code_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No Op registered for Foreign"):
        loaded(tmp_path / "model.onnx", model("Foreign"))


@pytest.mark.skipif(sys.platform == "win32", reason="allows no such names")
def test_names_say_nothing_to_the_terminal(tmp_path: Path, capfd: Capture) -> None:
    clip = write_clip(tmp_path / "in.mkv", pts=range(3))
    clip = clip.rename(tmp_path / "a\nb\x1b[31m\u202f映像.mkv")
    (tmp_path / "model.onnx").write_bytes(identity())
    assert main([str(clip), "-m", str(tmp_path / "model.onnx")]) == 0
    errors = capfd.readouterr().err
    assert "a b?[31m\u202f映像.deblurred.mkv: 3 frames in " in errors
    assert "\x1b" not in errors
    assert all(line.startswith("streamdeblur: ") for line in errors.splitlines())
