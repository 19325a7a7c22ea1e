"""Where frames come from: video files, every frame of them, read through PyAV."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet

from streamdeblur.addresses import Transport, live_address
from streamdeblur.clocks import FileClock
from streamdeblur.correction import planar_copy
from streamdeblur.damage import Damage, SliceChecksums
from streamdeblur.errors import VideoError
from streamdeblur.feeds import DEFAULT_RETRY, LiveSource, RealtimeSource
from streamdeblur.ffmpeg import close_reader
from streamdeblur.fields import Deinterlace, Deinterlacer
from streamdeblur.frames import ClosedInTheEnd, Frame
from streamdeblur.hardware import accelerator, choose_decoder
from streamdeblur.headers import (
    PROGRESSIVE,
    STANDARD_INPUT,
    chroma_location,
    decoder_of,
    frame_rate,
    is_pipe,
    open_container,
    picture_stream,
    tick_length,
    ticks_of,
    video_info,
)

_TOLERATED_LOSS = Fraction(1)  # second: headers are not exact to the frame
_READ_ATTEMPTS = 16  # a damaged file can fail to read more than once before it goes on


def open_source(
    name: str,
    *,
    start: Fraction | None = None,
    duration: Fraction | None = None,
    deinterlace: Deinterlace = "auto",
    realtime: bool = False,
    whole: bool = False,
    form: str | None = None,
    form_options: Mapping[str, str] | None = None,
    retry: float = DEFAULT_RETRY,
    size: str | None = None,
    rate: str | None = None,
    pixel_format: str | None = None,
    transport: Transport = "tcp",
    decoder: str = "software",
    gpu: int = 0,
) -> FileSource | RealtimeSource | LiveSource:
    """Open a video file, or what `live_address` understands: a camera, a screen, a stream.

    Args:
        name: a file's or a live picture's.
        start: where to begin, in seconds; for files only.
        duration: how much to read, in seconds; for files only.
        deinterlace: which frames are made progressive; for files only.
        realtime: play a file at its own pace.
        whole: read standard input as a file: no frame is dropped.
        form: of a file or of standard input, as for `FileSource`.
        form_options: of a file or of standard input, as for `FileSource`.
        retry: seconds for which a lost stream is looked for.
        size: of a camera's picture; this, rate, format and transport as for `live_address`.
        decoder: what decodes, as for `FileSource`; for files only.
        gpu: which of several GPUs decodes.

    Raises:
        VideoError: it cannot be opened, or has no picture.
    """
    address = live_address(
        name, size=size, rate=rate, pixel_format=pixel_format, transport=transport
    )
    if name == "-" and not whole and address is not None:
        address = replace(address, format=form, options={**address.options, **(form_options or {})})
    if address is None or (name == "-" and whole):
        file = FileSource(
            name,
            start=start,
            duration=duration,
            deinterlace=deinterlace,
            form=form,
            form_options=form_options,
            decoder=decoder,
            gpu=gpu,
        )
        return RealtimeSource(file, name, *file.notices) if realtime else file
    if decoder != "software":
        raise VideoError(f"{address.shown} is decoded on the processor: leave out --decoder")
    if start is not None or duration is not None:
        raise VideoError(f"{address.shown} has no start or duration: leave those options out")
    return LiveSource(address, retry=retry)


class FileSource(ClosedInTheEnd):
    """The frames of a video file, every one, in order of presentation.

    Timestamps are those of the file, to the tick. With `start`, frames before that moment are
    dropped and the clock is set back by `shift`, so that the first frame comes at 0 or less than
    one frame later. A clock that begins before 0 is set forward to it: MP4 and MOV would hide the
    frames before. A missing timestamp is filled in from the frame rate, one that does not
    increase becomes its predecessor plus one tick; where the clock goes back by more than a second,
    as in joined recordings, it is set on for all that follows.

    Args:
        path: the file's.
        start: where to begin, in seconds.
        duration: how much to read, in seconds.
        deinterlace: which frames are made progressive.
        form: FFmpeg's name of the file's format; None where it tells by itself.
        form_options: for that format, such as `video_size` of raw video.
        decoder: what decodes: `software`, the name of a kind of hardware, or `auto`. Hardware must
            give the first pictures as the software does, to the bit; it may not report damage.
        gpu: which of several GPUs decodes.

    Raises:
        VideoError: the file cannot be read or has no picture, or `start` is beyond its end.
    """

    live = False

    def __init__(
        self,
        path: Path | str,
        *,
        start: Fraction | None = None,
        duration: Fraction | None = None,
        deinterlace: Deinterlace = "auto",
        form: str | None = None,
        form_options: Mapping[str, str] | None = None,
        decoder: str = "software",
        gpu: int = 0,
    ) -> None:
        self.path = STANDARD_INPUT if str(path) == "-" else Path(path)
        self.is_pipe = is_pipe(self.path)
        """Whether it can be read but once."""
        if self.is_pipe and decoder != "software":
            raise VideoError(f"{self.path} is decoded on the processor: leave out --decoder")
        self._form, self._form_options = form, form_options
        self._others: deque[Packet[Any]] | None = deque()
        self._keeps_others = False
        device, notices = choose_decoder(decoder, self._container_for, str(path), gpu)
        self._accelerator = accelerator(device, gpu) if device else None
        self.decoder = device or "software"
        """What decodes."""
        self.notices = tuple(notices)
        """What a person should know of the decoding, one line each."""
        self.frames_read = 0
        """Frames handed out so far."""
        self.damage = Damage()
        """What was wrong, so far; complete when the iteration has ended."""
        self._packets_read = 0
        self._skipped = 0
        self._checksums = SliceChecksums()
        self.jumps: list[Fraction] = []
        """For each time that the clock went back, by how many seconds it is set on since."""
        self._open()
        try:
            time_base = tick_length(self._stream)
            origin = Fraction(self._container.start_time or 0, av.time_base)
            self.begin = None if start is None else origin + start
            """Where reading begins, in seconds of the file's clock; None at its first frame."""
            self.end = None if duration is None else (self.begin or origin) + duration
            """Where reading ends, in seconds of the file's clock; None at its last frame."""
            self._shift = 0 if self.begin is None else math.ceil(self.begin / time_base)
            self.shift = self._shift * time_base
            """Seconds by which timestamps are set back; whole ticks of the picture's clock."""
            self._fields = Deinterlacer(deinterlace)
            self._pictures = self._fields.progressive(self._decoded())
            self._first = next(self._pictures, None)
            if self._first is None:
                raise VideoError(self._nothing_read(start))
            if self.begin is None and (ticks := ticks_of(self._first) or 0) < 0:
                self._shift, self.shift = ticks, ticks * time_base
            if self._first.format.name.startswith("xyz"):
                raise VideoError(f"{path} has the XYZ colours of cinemas: convert it to RGB first")
            self.info = video_info(
                self._container,
                self._stream,
                self._first,
                start,
                duration,
                chroma_location=self._chroma_location,
            )
            if self._fields.deinterlaced:
                self.info = replace(self.info, field_order=PROGRESSIVE)
        except BaseException:
            close_reader(self._container, self._stream)
            raise

    @property
    def decode_errors(self) -> int:
        """How much was lost or spoilt, so far."""
        return self.damage.total

    @property
    def frames_deinterlaced(self) -> int:
        """Interlaced frames that were made progressive, so far."""
        return self._fields.deinterlaced

    @property
    def is_interlaced(self) -> bool:
        """Whether frames go out interlaced."""
        return self.info.field_order > PROGRESSIVE

    @property
    def container(self) -> InputContainer:
        """What is read; others may ask it about the tracks."""
        return self._container

    def other_packet(self) -> Packet[Any] | None:
        """Of a pipe: the next packet of other tracks that has come; None if there is none yet."""
        return self._others.popleft() if self._others else None

    def keep_others(self) -> None:
        """Of a pipe: keep the packets of other tracks until somebody asks for them.

        To be called before the iteration, which otherwise throws away what came before it too.
        """
        self._keeps_others = True

    def close(self) -> None:
        """Let go of the file; the iteration ends. Harmless when repeated."""
        self._first = None
        self._pictures.close()
        close_reader(self._container, self._stream)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames. A file is read once: a second iteration continues the first."""
        if not self._keeps_others:
            self._others = None
        clock = FileClock(self.info, self.damage, self.jumps)
        info = self.info
        while self._first is not None:
            picture, self._first = self._first, None
            pts = clock.tick(picture) - self._shift
            if (picture.width, picture.height) != (info.width, info.height):
                self.damage.resized += 1
            if self._skipped:
                self._skipped -= 1
            else:
                self.frames_read += 1
                yield Frame(picture, None, pts)
            self._first = next(self._pictures, None)

    def skip(self, frames: int) -> None:
        """Leave out the next frames. They are decoded, so that all that follow are the same."""
        self._skipped = frames

    def _container_for(self, accelerator: HWAccel | None) -> InputContainer:
        return open_container(self.path, accelerator, self._form, self._form_options)

    def _open(self) -> None:
        self._container = self._container_for(self._accelerator)
        try:
            self._stream = picture_stream(self._container, self.path)
            self._chroma_location = chroma_location(self._container, self._stream)
        except BaseException:
            self._container.close()
            raise
        self._decoder = decoder_of(self._stream)
        if self._accelerator is None:
            self._decoder.thread_type = "AUTO"

    def _from_begin(self, begin: Fraction) -> Iterator[av.VideoFrame]:
        """Decode from a key frame at or before `begin`.

        Where a file has no index a seek may land late: then it is tried again some seconds
        earlier, and in the end the file is read from its top.
        """
        time_base = tick_length(self._stream)
        for margin in () if self.is_pipe else (0, 10):
            with suppress(FFmpegError):
                target = math.floor((begin - margin) / time_base)
                self._container.seek(target, stream=self._stream)
                pictures = self._all_decoded()
                first = next(pictures, None)
                ticks = None if first is None else ticks_of(first)
                if first is not None and ticks is not None and ticks * time_base <= begin:
                    return itertools.chain([first], pictures)
            close_reader(self._container, self._stream)
            self._open()
        return self._all_decoded()

    def _decoded(self) -> Generator[av.VideoFrame, None, None]:
        """Decode the pictures from `begin` to `end`; errors are counted and stepped over."""
        time_base = tick_length(self._stream)
        reached = Fraction(0)
        is_inside = self.begin is None
        pictures = self._from_begin(self.begin) if self.begin else self._all_decoded()
        for picture in pictures:
            if (ticks := ticks_of(picture)) is not None:
                moment = ticks * time_base
                if self.begin is not None and moment < self.begin:
                    continue
                if self.end is not None and moment >= self.end:
                    return
                if not is_inside:
                    is_inside, self.damage = True, Damage()  # what came before is not wanted
                reached = max(reached, moment + picture.duration * time_base)
            self.damage.frames += picture.is_corrupt
            yield picture
        self._miss(reached)

    def _miss(self, reached: Fraction) -> None:
        """Note what should have come after `reached`: FFmpeg takes a file cut short for its end."""
        self.damage.frames += max(0, self._checksums.wrong - self.damage.packets)
        if self.begin is not None or self.end is not None or self.damage.packets:
            counted = 0
        else:
            counted = self._stream.frames
        lacking = self._promised() - reached
        # Edit lists leave frames out on purpose, but then the header knows of an earlier end.
        if lacking * frame_rate(self._stream) > Fraction(1, 2):
            self.damage.missing = max(0, counted - self._packets_read)
        # A header may lie about its duration; what it counts, it has an index of.
        is_whole = 0 < counted <= self._packets_read
        if lacking > _TOLERATED_LOSS and not is_whole and not self.damage.missing:
            self.damage.ends_early = 1

    def _promised(self) -> Fraction:
        """Where the picture should end by the header, in seconds of the file's clock."""
        if self._stream.duration is None:
            return Fraction(0)
        promised = (self._stream.start_time or 0) + self._stream.duration
        whole = promised * tick_length(self._stream)
        return whole if self.end is None else min(whole, self.end)

    def _all_decoded(self) -> Generator[av.VideoFrame, None, None]:
        for attempt in range(_READ_ATTEMPTS):
            self.damage.packets += attempt > 0
            try:
                for packet in self._packets():
                    if packet.size:
                        self._packets_read += 1
                        self.damage.marked += packet.is_corrupt
                        if self._stream.codec_context.name == "ffv1":
                            self._checksums.look_at(bytes(packet))
                    try:
                        pictures = self._decoder.decode(packet)
                    except FFmpegError:
                        self.damage.packets += 1
                        continue
                    if self._accelerator is not None:  # it packs chroma, which files do not
                        pictures = [planar_copy(picture) for picture in pictures]
                    yield from pictures
                return
            except IndexError:  # PyAV's, at the end of a file in which a track had appeared late
                return
            except FFmpegError:
                continue  # the next packet may be readable

    def _packets(self) -> Iterator[Packet[Any]]:
        """Those of the picture; those of other tracks are put aside if this is a pipe."""
        if not self.is_pipe:
            yield from self._container.demux(self._stream)
            return
        for packet in self._container.demux():
            if packet.stream.index == self._stream.index:  # of its own, empty ones say 0
                yield packet
            elif self._others is not None and packet.size:
                self._others.append(packet)

    def _nothing_read(self, start: Fraction | None) -> str:
        if start:
            return f"{self.path} has no picture at {float(start):g} s: choose an earlier start"
        if self.end is not None and not self.decode_errors:
            return f"{self.path} has no picture in the duration asked for: choose a longer one"
        if self.is_pipe and "mp4" in self._container.format.name:
            return (
                f"no picture of {self.path} can be decoded: a pipe can't be read twice, and this"
                " MP4 has its index at the end; send it with -movflags +faststart, or as a file"
            )
        return (
            f"no picture of {self.path} can be decoded: the file is damaged or empty, or its"
            " pictures are larger than 16K"
        )
