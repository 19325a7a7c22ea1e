"""The encoded picture of an output: frames in, packets out, in the colours of the input."""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.reformatter import ColorRange, Interpolation
from av.video.stream import VideoStream

from streamdeblur.correction import (
    ACROSS,
    chroma_grid,
    corrected,
    joined_size,
    match_alpha,
    planar_copy,
    side_by_side,
)
from streamdeblur.errors import VideoError
from streamdeblur.frames import (
    USUAL_MATRICES,
    Frame,
    VideoInfo,
    is_full_range,
    usual_matrix,
)
from streamdeblur.video.clocks import FrameCounter
from streamdeblur.video.containers import MATROSKA, MOV_FAMILY, keeps_times
from streamdeblur.video.durations import Durations
from streamdeblur.video.encoder_settings import Wishes
from streamdeblur.video.encoders import choose_encoding, similar
from streamdeblur.video.ffmpeg import explained
from streamdeblur.video.fitting import scaled
from streamdeblur.video.hardware import maker_of
from streamdeblur.video.headers import UNSPECIFIED
from streamdeblur.video.upright import rightwards

_MILLISECOND = Fraction(1, 1000)


class PictureTrack:
    """Encodes corrected frames into one track of an output.

    Args:
        output: the container, of which nothing is written yet.
        info: of the video that the frames come from.
        name: of the output, for messages.
        wishes: what is asked of the encoding.
        kind: FFmpeg's name of the container that must hold the result, if not that of `output`.
        strength: how much of the network's change is applied, 0 to 1.
        compare: the original at the left of the result, as players show them.

    Raises:
        VideoError: there is no such encoder, or the container takes none.
    """

    def __init__(
        self,
        output: OutputContainer,
        info: VideoInfo,
        name: str,
        wishes: Wishes,
        *,
        kind: str | None = None,
        strength: float = 1.0,
        compare: bool = False,
    ) -> None:
        self._output, self._info, self._name = output, info, name
        self._strength, self._compare = strength, compare
        self._kind = kind or output.format.name
        self._keeps_rotation = self._kind in MOV_FAMILY | MATROSKA
        self._way = rightwards(info.display_matrix) if self._keeps_rotation else ACROSS
        self._encoding = choose_encoding(info, self._size(), self._kind, wishes)
        self.encoder = self._encoding.encoder
        """FFmpeg's name of the encoder."""
        # Siblings share it, being parts of one track.
        self._counter = None if keeps_times(self._kind) else FrameCounter(info.rate)
        self._durations = Durations(self._time_base(), info.rate)

    @property
    def notices(self) -> list[str]:
        """What becomes of the input's codec and layout, one line each."""
        return list(self._encoding.notices)

    def open(self, original: VideoStream | None = None, end: Fraction | None = None) -> None:
        """Add the track to the output and open its encoder.

        Args:
            original: whose tags are taken over.
            end: when the last picture ends at the latest, in seconds; None if that is not known.

        Raises:
            VideoError: the encoder does not work as asked.
        """
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
        if not keeps_times(self._kind):
            context.max_b_frames = 0  # frames out of order would all come late
        # PyAV's default cuts each frame into slices for the threads, which costs x264 quality.
        context.thread_type = "AUTO"
        if info.sample_aspect_ratio:
            context.sample_aspect_ratio = info.sample_aspect_ratio
        if info.display_matrix:
            stream.set_display_matrix(info.display_matrix)
        if original is not None:
            stream.metadata.update(_lasting(original.metadata))
            stream.disposition = original.disposition
            self._durations.end = end
        advice = "check its options"
        if maker_of(encoding.encoder):
            advice = "is its GPU here? --codec gpu takes one that works, if any"
        with explained(f"{encoding.encoder} can't encode {self._name}", advice):
            context.open()
        if unknown := sorted(context.options):
            option = unknown[0]
            raise VideoError(
                f"{encoding.encoder} has no option {option}{_options_like(stream, option)}"
            )

    def finished(self, frame: Frame) -> av.VideoFrame:
        """The corrected picture as `encode` takes it. Several threads may ask at once."""
        size = self._info.width, self._info.height
        picture = scaled(corrected(frame, self._strength), *size)
        if self._compare:
            picture = side_by_side(scaled(planar_copy(frame.picture), *size), picture, self._way)
        picture = self._as_coded(picture)
        picture.time_base = self._info.time_base
        ticks = (frame.picture.time_base or picture.time_base) / picture.time_base
        picture.duration = round(frame.picture.duration * ticks)
        return picture

    def encode(self, picture: av.VideoFrame) -> list[Packet[Any]]:
        """Encode a finished picture; the packets may be those of earlier ones, or none."""
        if self._counter is not None:
            self._counter.place(picture)
        else:
            self._durations.note(picture)
        return self._durations.given(self._stream.encode(picture))

    def flush(self) -> list[Packet[Any]]:
        """The packets that the encoder still holds."""
        return self._durations.given_last(self._stream.encode(None))

    def go_on_after(self, times: Callable[[], list[int]]) -> None:
        """Packets with these times, in ticks of the output, are there from an interrupted run.

        They are asked for only where frames are counted.
        """
        if self._counter is not None and (known := times()):
            self._counter.go_on_after(max(known))

    def sibling(self) -> PictureTrack:
        """An opened track that encodes the same, for packets that are kept elsewhere at first."""
        twin = copy.copy(self)
        twin._output = av.open(io.BytesIO(), "w", format=self._output.format.name)
        twin.open()
        return twin

    def addressed(self, packet: Packet[Any], dts: int) -> Packet[Any]:
        """A packet of a sibling, made ready to be written in this track."""
        assert self._stream.codec_context.time_base
        packet.stream, packet.time_base = self._stream, self._stream.codec_context.time_base
        packet.dts = dts
        return packet

    def identity(self) -> dict[str, Any]:
        """What tells this way of encoding from others, once opened."""
        header = self._stream.codec_context.extradata or b""
        return {
            "encoder": self.encoder,
            "layout": self._encoding.pix_fmt,
            "options": self._encoding.options,
            "header": hashlib.sha256(header).hexdigest(),
        }

    def losses(self) -> list[str]:
        """What clock and tags lose in this container, one line each."""
        info, kind = self._info, self._kind
        notices = [f"{thing} of the picture can't be kept" for thing in info.unkept]
        if self._time_base() != info.time_base:
            notices.append(f"{kind} has a constant frame rate: {float(info.rate):g} a second")
        elif kind in MATROSKA and (info.time_base % _MILLISECOND or info.time_base.numerator != 1):
            notices.append(f"{kind} counts in milliseconds: times are rounded to the nearest")
        if info.display_matrix and not self._keeps_rotation:
            notices.append(f"{kind} can't keep the rotation: use .mp4, .mov or .mkv")
        aspect = info.sample_aspect_ratio or 1
        if aspect != 1 and kind in MATROSKA and self.encoder not in ("libx264", "libx265"):
            # Those write it into the video itself; PyAV cannot hand it to the container.
            notices.append(f"{kind} can't keep the pixel aspect {aspect} with {self.encoder}")
        hdr = info.mastering_display or info.content_light
        if hdr and not any(key.endswith("-params") for key in self._encoding.options):
            notices.append(f"{self.encoder} can't keep the HDR mastering metadata")
        return notices

    def _as_coded(self, picture: av.VideoFrame) -> av.VideoFrame:
        """The picture in the encoder's layout, if that is not its own."""
        target = self._encoding.pix_fmt
        if picture.format.name == target:
            return picture
        matrix, full = self._matrix_and_range()
        if picture.format.is_rgb and matrix not in USUAL_MATRICES:
            matrix = usual_matrix(self._info.height)
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
        match_alpha(picture, changed)
        return changed

    def _matrix_and_range(self) -> tuple[int, int]:
        """The tags of the coded picture: the input's, unless RGB has to become YUV."""
        info = self._info
        source, target = av.VideoFormat(info.pix_fmt), av.VideoFormat(self._encoding.pix_fmt)
        if target.is_rgb:
            return 0, 2
        if source.is_rgb or source.has_palette:
            return usual_matrix(info.height), 1
        names = (info.pix_fmt, target.name)
        is_gray = any(name.startswith("ya") for name in names)  # with alpha: full unless tagged
        is_full = any(name.startswith("yuvj") for name in names)
        is_full |= is_gray and info.color_range == 0
        named = info.colorspace
        if named == UNSPECIFIED and usual_matrix(self._size()[1]) != usual_matrix(info.height):
            named = usual_matrix(info.height)  # or two below each other would be read by another
        return named, 2 if is_full else info.color_range

    def _size(self) -> tuple[int, int]:
        """Width and height of the coded picture, in pixels."""
        size = self._info.width, self._info.height
        return joined_size(size, self._info.pix_fmt, self._way) if self._compare else size

    def _time_base(self) -> Fraction:
        """Ticks of the output: the input's, unless the container knows only a frame rate."""
        return self._info.time_base if keeps_times(self._kind) else 1 / self._info.rate


def _lasting(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of a stream that are true of its new encoding too."""
    stale = (
        "alpha_mode",
        "encoder",
        "duration",
        "bps",
        "number_of_",
        "_statistics_",
        "vendor_id",
        "rotate",
    )
    return {key: value for key, value in tags.items() if not key.lower().startswith(stale)}


def _options_like(stream: VideoStream, name: str) -> str:
    """Suggestions for a mistyped encoder option, where PyAV can list them (from 18.1)."""
    options = getattr(stream.codec_context, "supported_options", None)
    known = [option.name for option in options.private] if options else []
    return similar(name, known) or "; see its documentation for those it has"
