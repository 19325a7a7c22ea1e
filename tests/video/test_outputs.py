"""Where results go, whole or not at all, and never in place of what is there."""

from __future__ import annotations

import errno
import itertools
import os
import sys
from pathlib import Path

import pytest

from streamdeblur.errors import VideoError
from streamdeblur.sinks import FileSink
from streamdeblur.sources import FileSource
from streamdeblur.video.outputs import default_output
from tests.footage import deblur, names, pictures, refused


def test_default_output_is_beside_the_input() -> None:
    assert default_output(Path("a/clip.mp4")) == Path("a/clip.deblurred.mp4")
    assert default_output(Path("a.b/my.clip.MOV")) == Path("a.b/my.clip.deblurred.MOV")


def test_outputs_that_cannot_be_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    assert "there is no folder" in refused(tmp_path / "none" / "out.mp4")
    (tmp_path / "out.mp4").write_text("precious")
    message = refused(tmp_path / "out.mp4")
    assert message == f"{tmp_path / 'out.mp4'} exists; pass --overwrite to replace it"
    assert "is a folder" in refused(tmp_path)
    assert "use -o NAME.mp4" in refused(tmp_path / "clip.deblurred")  # that of `clip`
    for name, why in (
        ("out.xyz", "no video container ends in “.xyz”"),
        ("out", "it ends in nothing"),
        ("out.png", "an image holds no video"),
        ("out.m3u8", "hls is not one file"),
    ):
        assert f"{name}: {why}; use " in refused(tmp_path / name)
    assert "can't hold video" in refused(tmp_path / "out.wav")
    assert (tmp_path / "out.mp4").read_text() == "precious"


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_input_is_never_the_output(clip: Path, overwrite: bool) -> None:
    content = clip.read_bytes()
    aliases = [clip]
    if sys.platform != "win32":
        aliases += [clip.with_name("link.mp4"), clip.with_name("hard.mp4")]
        aliases[1].symlink_to(clip)
        aliases[2].hardlink_to(clip)
    with FileSource(clip) as source:
        for alias in aliases:
            message = refused(alias, copy_from=source, overwrite=overwrite)
            assert "would replace the input" in message
    part = clip.rename(clip.with_name("new.part.mp4"))
    with FileSource(part) as source:
        message = refused(clip.with_name("new.mp4"), copy_from=source)
    assert "would replace the input" in message
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


def test_a_failure_keeps_the_old_output(clip: Path) -> None:
    output = default_output(clip)
    output.write_text("old")
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


def test_what_a_killed_run_has_left_is_kept(clip: Path) -> None:
    """It may be a recording, which can be played."""
    part, output = clip.with_name("rec.part.mkv"), clip.with_name("rec.mkv")
    for content in ("first", "second"):
        part.write_text(content)
        sink = deblur(clip, output, overwrite=True)
        assert "what an interrupted run has left is kept as" in sink.notices[0]
    assert clip.with_name("rec.interrupted.mkv").read_text() == "first"
    assert clip.with_name("rec.interrupted1.mkv").read_text() == "second"
    assert len(pictures(output)) == 12
    assert not part.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_two_runs_do_not_write_one_file(clip: Path) -> None:
    """Whether the other has begun to write when this one is told of it, or not yet."""
    output = default_output(clip)
    with FileSource(clip) as source, FileSource(clip) as other:
        late = FileSink(output, other.info, copy_from=other)
        with FileSink(output, source.info, copy_from=source) as sink:
            frames = iter(source)
            sink.write(next(frames))
            assert "another run is at work on it" in refused(output)
            with pytest.raises(VideoError, match="another run is at work on it"), late:
                late.write(next(iter(other)))
            for frame in frames:
                sink.write(frame)
    assert len(pictures(output)) == 12
    assert names(clip.parent) == sorted([clip.name, output.name])


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_came_meanwhile_is_not_replaced(
    clip: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    if not has_links:
        monkeypatch.setattr(os, "link", link)
    output = default_output(clip)
    part = clip.with_name("clip.deblurred.part.mp4")
    with FileSource(clip) as source:
        sink = FileSink(output, source.info, copy_from=source)
        for frame in source:
            sink.write(frame)
        output.write_text("precious")
        with pytest.raises(VideoError, match=r"result is in .*part\.mp4: a file has come there"):
            sink.__exit__(None, None, None)
    assert output.read_text() == "precious"
    assert len(pictures(part)) == 12
    output.unlink()
    deblur(clip, output)
    assert len(pictures(output)) == 12
