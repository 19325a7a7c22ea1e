"""Where frames go: a video file that appears whole or not at all."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.reformatter import ColorRange, Interpolation
from av.video.stream import VideoStream

from streamdeblur.correction import (
    chroma_grid,
    corrected,
    joined_width,
    planar_copy,
    side_by_side,
)
from streamdeblur.encoders import choose_encoding, similar
from streamdeblur.errors import VideoError
from streamdeblur.ffmpeg import explained, translated
from streamdeblur.frames import USUAL_MATRICES, Frame, VideoInfo, is_full_range
from streamdeblur.sources import FileSource
from streamdeblur.tracks import MATROSKA, Part, TrackCopier, packet_time

_NO_FILE = 0x0001  # AVFMT_NOFILE: the format writes several files, or none
_VARIABLE_RATE = 0x0400  # AVFMT_VARIABLE_FPS
_AUDIO_RATE = 48_000
_MILLISECOND = Fraction(1, 1000)


def default_output(path: Path) -> Path:
    """The output's name beside the input: `clip.mp4` gives `clip.deblurred.mp4`."""
    return path.with_name(f"{path.stem}.deblurred{path.suffix}")


class FileSink:
    """Writes frames, corrected by `strength`, into a video file beside copies of other tracks.

    Everything that can be refused is refused on construction, before anything is written. The
    file grows under a name with `.part` and takes its own when the `with` block ends; if that ends
    by an exception, the part is removed.

    Args:
        path: the output; its extension names the container.
        info: of the video that the frames come from.
        copy_from: where the other tracks, chapters and tags come from; a `FileSource` also says
            which part of them.
        codec: encoder or codec family; by default that of the input.
        crf: quality in the encoder's own measure, less is better.
        preset: speed in the encoder's own words.
        encoder_options: more options for the encoder.
        overwrite: replace an existing file.
        strength: how much of the network's change is applied, 0 to 1.
        compare: write the original at the left of the result.

    Raises:
        VideoError: the output cannot be written as asked, here or later.
    """

    def __init__(
        self,
        path: Path | str,
        info: VideoInfo,
        *,
        copy_from: FileSource | Path | None = None,
        codec: str | None = None,
        crf: float | None = None,
        preset: str | None = None,
        encoder_options: Mapping[str, str] | None = None,
        overwrite: bool = False,
        strength: float = 1.0,
        compare: bool = False,
    ) -> None:
        self.path = Path(path)
        self.frames_written = 0
        """Frames taken so far."""
        self._info, self._strength, self._compare = info, strength, compare
        original = copy_from.path if isinstance(copy_from, FileSource) else copy_from
        self._part = part_name(self.path)
        _refuse_paths(self.path, self._part, original, overwrite)
        part = Part() if copy_from is None else Part.of(copy_from)
        self._packets_written = 0
        self._started = False
        self._output = _open(self.path, self._part, info, original)
        self._encoding = choose_encoding(
            info,
            self._size(),
            self._takes,
            self._output.format.name,
            codec=codec,
            crf=crf,
            preset=preset,
            extra=encoder_options,
        )
        self.encoder = self._encoding.encoder
        """FFmpeg's name of the encoder."""
        self._copier = None if original is None else TrackCopier(original, self._output, part)
        if self._copier:
            self._copier.add_tracks(self._add_picture)
        else:
            self._add_picture()
        self.notices = (*self._encoding.notices, *self._other_notices())
        """What differs from the input or cannot be kept, one line each."""

    def write(self, frame: Frame) -> None:
        """Correct a frame and encode it.

        Raises:
            VideoError: its size is not that of the video, or encoding or writing fails.
        """
        info = self._info
        if (frame.picture.width, frame.picture.height) != (info.width, info.height):
            raise VideoError(
                f"frame {self.frames_written} is {frame.picture.width}x{frame.picture.height}, the "
                f"video {info.width}x{info.height}: videos that change their size are not supported"
            )
        picture = corrected(frame, self._strength)
        if self._compare:
            picture = side_by_side(planar_copy(frame.picture), picture)
        picture = self._as_coded(picture)
        picture.time_base = info.time_base
        if not self._started:
            self._start()
        with translated(f"can't write {self.path}"):
            self._mux(self._stream.encode(picture))
        self.frames_written += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._discard()
            return
        try:
            self._finish()
        except BaseException:
            self._discard()
            raise

    def _add_picture(self) -> None:
        """Add the encoded stream to the output and open its encoder."""
        info, encoding = self._info, self._encoding
        width, height = self._size()
        stream = self._output.add_stream(
            encoding.encoder,
            rate=info.rate,
            width=width,
            height=height,
            time_base=self._time_base(),
            options=encoding.options,
        )
        assert isinstance(stream, VideoStream)
        self._stream = stream
        context = stream.codec_context
        context.pix_fmt = encoding.pix_fmt
        context.colorspace, context.color_range = self._matrix_and_range()
        context.color_primaries, context.color_trc = info.color_primaries, info.color_trc
        context.field_order = info.field_order
        if not self._keeps_times():
            context.max_b_frames = 0  # frames out of order would all come late
        # PyAV's default cuts each frame into slices for the threads, which costs x264 quality.
        context.thread_type = "AUTO"
        if info.sample_aspect_ratio:
            context.sample_aspect_ratio = info.sample_aspect_ratio
        if info.display_matrix:
            stream.set_display_matrix(info.display_matrix)
        if self._copier:
            original = self._copier.picture
            stream.metadata.update(_lasting(original.metadata))
            stream.disposition = original.disposition
        with explained(f"{encoding.encoder} can't encode {self.path.name}", "check its options"):
            context.open()
        if unknown := sorted(context.options):
            name = unknown[0]
            raise VideoError(
                f"{encoding.encoder} has no option {name}{_options_like(stream, name)}"
            )

    def _takes(self, encoder: str) -> bool:
        """Whether the container holds what an encoder makes."""
        kind = self._output.format.name
        if kind == "mpegts":  # which takes anything, as data that no player understands
            return encoder in ("libx264", "libx265", "mpeg2video")
        trial = av.open(io.BytesIO(), "w", format=kind)
        try:
            trial.add_stream(encoder, rate=25)
        except ValueError:
            return False
        return True

    def _start(self) -> None:
        """Write the header."""
        self._started = True
        with explained(f"can't write {self.path}", "is there space, and may you write there?"):
            self._output.start_encoding()
        if self._copier:
            with translated(f"can't copy the sound of {self.path}"):
                self._copier.start()

    def _mux(self, packets: list[Packet[Any]]) -> None:
        """Write packets of the picture, and before each what other tracks have up to it."""
        for packet in packets:
            if self._copier:
                self._copier.advance(packet_time(packet))
            self._output.mux(packet)
            self._packets_written += 1

    def _finish(self) -> None:
        """Write what is left, check that all is there, and give the file its name."""
        if not self.frames_written:
            raise VideoError(f"no frame was written to {self.path}: the input had none")
        with translated(f"can't write {self.path}"):
            self._mux(self._stream.encode(None))
            if self._copier:
                self._copier.advance()
                self._copier.close()
            self._output.close()
            if self._packets_written != self.frames_written:
                raise VideoError(
                    f"{self.path} would lack pictures: {self._packets_written} were encoded of "
                    f"{self.frames_written}; try another --codec"
                )
            self._part.replace(self.path)

    def _discard(self) -> None:
        """Remove what has been written."""
        if self._copier:
            self._copier.close()
        with suppress(FFmpegError, OSError, ValueError):
            self._output.close()
        if self._started:
            self._part.unlink(missing_ok=True)

    def _as_coded(self, picture: av.VideoFrame) -> av.VideoFrame:
        """The picture in the encoder's layout, if that is not its own."""
        target = self._encoding.pix_fmt
        if picture.format.name == target:
            return picture
        matrix, full = self._matrix_and_range()
        finer = chroma_grid(picture.format) > chroma_grid(av.VideoFormat(target))
        # Repeated chroma samples are averaged back to what they were; interpolated ones are not.
        how = Interpolation.POINT if finer else Interpolation.BILINEAR
        changed = picture.reformat(
            format=target,
            dst_colorspace=USUAL_MATRICES.get(matrix),
            src_color_range=ColorRange.JPEG if is_full_range(picture) else ColorRange.MPEG,
            dst_color_range=full or None,
            interpolation=int(how | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP),
            threads=1,
        )
        changed.pict_type = 0
        return changed

    def _matrix_and_range(self) -> tuple[int, int]:
        """The tags of the coded picture: the input's, unless RGB has to become YUV."""
        info = self._info
        source, target = av.VideoFormat(info.pix_fmt), av.VideoFormat(self._encoding.pix_fmt)
        if target.is_rgb:
            return 0, 2
        if source.is_rgb or source.has_palette:
            return (1 if info.height >= 720 else 6), 1
        implied = ("yuvj", "ya")  # layouts of full range
        is_full = info.pix_fmt.startswith(implied) or target.name.startswith(implied)
        return info.colorspace, 2 if is_full else info.color_range

    def _size(self) -> tuple[int, int]:
        """Width and height of the coded picture, in pixels."""
        if not self._compare:
            return self._info.width, self._info.height
        return joined_width(self._info.width, self._info.pix_fmt), self._info.height

    def _time_base(self) -> Fraction:
        """Ticks of the output: the input's, unless the container knows only a frame rate."""
        return self._info.time_base if self._keeps_times() else 1 / self._info.rate

    def _keeps_times(self) -> bool:
        return bool(self._output.format.flags & _VARIABLE_RATE)

    def _other_notices(self) -> list[str]:
        """What tracks, clock and tags lose in this container, one line each."""
        info, kind = self._info, self._output.format.name
        notices = list(self._copier.notices) if self._copier else []
        notices += [f"{thing} of the picture can't be kept" for thing in info.unkept]
        if self._time_base() != info.time_base:
            notices.append(f"{kind} has a constant frame rate: {float(info.rate):g} a second")
        elif kind in MATROSKA and (info.time_base % _MILLISECOND or info.time_base.numerator != 1):
            notices.append(f"{kind} counts in milliseconds: times are rounded to the nearest")
        aspect = info.sample_aspect_ratio or 1
        if aspect != 1 and kind in MATROSKA and self.encoder not in ("libx264", "libx265"):
            # Those write it into the video itself; PyAV cannot hand it to the container.
            notices.append(f"{kind} can't keep the pixel aspect {aspect} with {self.encoder}")
        hdr = info.mastering_display or info.content_light
        if hdr and not any(key.endswith("-params") for key in self._encoding.options):
            notices.append(f"{self.encoder} can't keep the HDR mastering metadata")
        return notices


def part_name(path: Path) -> Path:
    """Where an output grows: `clip.mp4` as `clip.part.mp4`."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


def _refuse_paths(path: Path, part: Path, original: Path | None, overwrite: bool) -> None:
    """Raise if writing `path` would fail, or harm a file that is there."""
    if not path.parent.is_dir():
        raise VideoError(f"can't write {path}: there is no folder {path.parent}; create it first")
    if path.is_dir():
        raise VideoError(f"can't write {path}: it is a folder; name a file in it")
    for name in (path, part):
        if original is not None and name.exists() and original.samefile(name):
            raise VideoError(f"can't write {path}: it would replace the input; choose another name")
    if path.exists() and not overwrite:
        raise VideoError(f"{path} exists; pass --overwrite to replace it")
    if not os.access(path.parent, os.W_OK):
        raise VideoError(f"can't write {path}: {path.parent} is not yours to write in")


def _open(path: Path, part: Path, info: VideoInfo, original: Path | None) -> OutputContainer:
    """The output container, of which nothing is written yet."""
    try:
        output = av.open(str(part.absolute()), "w", container_options=_container_options(info))
    except ValueError as error:
        kinds = ".mp4, .mov, .mkv, .webm or .avi"
        raise VideoError(
            f"can't write {path}: no video container ends in “{path.suffix}”; use {kinds}"
        ) from error
    if output.format.flags & _NO_FILE:
        raise VideoError(f"can't write {path}: {output.format.name} is not one file; use .mp4")
    return output


def _container_options(info: VideoInfo) -> dict[str, str]:
    """Options that keep timestamps as they are; containers ignore those of others."""
    ticks = info.time_base.denominator
    both = math.lcm(ticks, _AUDIO_RATE)
    return {
        "video_track_timescale": str(ticks),
        # The clock of start offsets: by default they are rounded to milliseconds.
        "movie_timescale": str(both if both < 2**31 else ticks),
        "mpegts_copyts": "1",  # else a transport stream's clock is moved
    }


def _lasting(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of a stream that are true of its new encoding too."""
    stale = ("encoder", "duration", "bps", "number_of_", "_statistics_", "vendor_id", "rotate")
    return {key: value for key, value in tags.items() if not key.lower().startswith(stale)}


def _options_like(stream: VideoStream, name: str) -> str:
    """Suggestions for a mistyped encoder option, where PyAV can list them (from 18.1)."""
    options = getattr(stream.codec_context, "supported_options", None)
    known = [option.name for option in options.private] if options else []
    return similar(name, known) or "; see its documentation for those it has"
