"""Where frames come from: video files, every frame of them, read through PyAV."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet

from streamdeblur.errors import VideoError
from streamdeblur.frames import ClosedInTheEnd, Frame
from streamdeblur.live.addresses import Transport, live_address
from streamdeblur.live.feeds import DEFAULT_RETRY, LiveSource, RealtimeSource
from streamdeblur.live.sound import PlayedSound
from streamdeblur.threads import awaited
from streamdeblur.video.clocks import FileClock
from streamdeblur.video.damage import Damage
from streamdeblur.video.decoding import FileDecoder
from streamdeblur.video.fields import Deinterlace, Deinterlacer
from streamdeblur.video.headers import PROGRESSIVE, tick_length, ticks_of, video_info


def open_source(
    name: Path | str | int,
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
        name: a file's or a live picture's, such as the number of a camera.
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
    name = str(name)
    address = live_address(
        name, size=size, rate=rate, pixel_format=pixel_format, transport=transport
    )
    if name == "-" and not whole and address is not None:
        address = replace(address, format=form, options={**address.options, **(form_options or {})})
    if address is None or (name == "-" and whole):
        file = awaited(  # a pipe may be silent from the first
            lambda: FileSource(
                name,
                start=start,
                duration=duration,
                deinterlace=deinterlace,
                form=form,
                form_options=form_options,
                decoder=decoder,
                gpu=gpu,
            )
        )
        if not realtime:
            return file
        return RealtimeSource(file, name, *file.notices, heard=PlayedSound.of(file))
    if deinterlace != "auto":
        raise VideoError(f"{address.shown} is live: leave out --deinterlace, which is for files")
    if decoder != "software":
        raise VideoError(f"{address.shown} is decoded on the processor: leave out --decoder")
    if start is not None or duration is not None:
        raise VideoError(f"{address.shown} has no start or duration: leave those options out")
    if name != "-" and (form or form_options):
        raise VideoError(
            f"{address.shown} is live: leave out --input-format and --input-option, which are for"
            " files and standard input"
        )
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
        self._file = FileDecoder(
            path,
            start=start,
            duration=duration,
            form=form,
            form_options=form_options,
            decoder=decoder,
            gpu=gpu,
        )
        self.path = self._file.path
        self.is_pipe = self.may_hang = self._file.is_pipe
        """Whether it can be read but once."""
        self.decoder = self._file.name
        """What decodes."""
        self.notices = self._file.notices
        """What a person should know of the decoding, one line each."""
        self.begin = self._file.begin
        """Where reading begins, in seconds of the file's clock; None at its first frame."""
        self.end = self._file.end
        """Where reading ends, in seconds of the file's clock; None at its last frame."""
        self.frames_read = 0
        """Frames handed out so far."""
        self.jumps: list[Fraction] = []
        """For each time that the clock went back, by how many seconds it is set on since."""
        self._keeps_others = False
        self._skipped = 0
        try:
            time_base = tick_length(self._file.stream)
            self._shift = 0 if self.begin is None else math.ceil(self.begin / time_base)
            self.shift = self._shift * time_base
            """Seconds by which timestamps are set back; whole ticks of the picture's clock."""
            self._fields = Deinterlacer(deinterlace)
            self._pictures = self._fields.progressive(self._file.pictures())
            first = next(self._pictures, None)
            if first is None:
                raise VideoError(self._file.nothing_read())
            if self.begin is None and (ticks := ticks_of(first) or 0) < 0:
                self._shift, self.shift = ticks, ticks * time_base
            if first.format.name.startswith("xyz"):
                raise VideoError(f"{path} has the XYZ colours of cinemas: convert it to RGB first")
            self.info = video_info(
                self._file.container,
                self._file.stream,
                first,
                start,
                duration,
                chroma_location=self._file.chroma_location,
            )
            if self.deinterlaces:
                self.info = replace(self.info, field_order=PROGRESSIVE)
            self._clock = FileClock(
                self.info, self.damage, self.jumps, first=self._shift, end=self.end
            )
            self._first = self._framed(first)
            if self._first is None:
                raise VideoError(self._file.nothing_read())
        except BaseException:
            self._file.close()
            raise

    @property
    def damage(self) -> Damage:
        """What was wrong, so far; complete when the iteration has ended."""
        return self._file.damage

    @property
    def decode_errors(self) -> int:
        """How much was lost or spoilt, so far."""
        return self.damage.total

    @property
    def deinterlaces(self) -> bool:
        """Whether the last frame that was read, and what follows, is made progressive."""
        return self._fields.is_at_work

    @property
    def frames_deinterlaced(self) -> int:
        """Interlaced frames that were made progressive, so far."""
        return self._fields.deinterlaced

    @property
    def is_interlaced(self) -> bool:
        """Whether frames go out interlaced."""
        return self.info.field_order > PROGRESSIVE

    @property
    def sought(self) -> Fraction | None:
        """What was sought to come to `begin`, in seconds of the file's clock; None if nothing."""
        return self._file.sought

    @property
    def container(self) -> InputContainer:
        """What is read; others may ask it about the tracks."""
        return self._file.container

    def reopened(self) -> InputContainer:
        """The same file, opened once more and in the same way, to be read beside this one.

        Raises:
            VideoError: it cannot be read any more.
        """
        return self._file.container_for(None)

    def other_packet(self) -> Packet[Any] | None:
        """Of a pipe: the next packet of other tracks that has come; None if there is none yet."""
        return self._file.other_packet()

    def keep_others(self) -> None:
        """Of a pipe: keep the packets of other tracks until somebody asks for them.

        To be called before the iteration, which otherwise throws away what came before it too.
        """
        self._keeps_others = True

    def drop_others(self) -> None:
        """Of a pipe: nobody will ask for the packets of other tracks any more."""
        self._file.drop_others()

    def close(self) -> None:
        """Let go of the file; the iteration ends. Harmless when repeated."""
        self._first = None
        with suppress(ValueError):  # a thread is reading it, left behind in a pipe that is silent
            self._pictures.close()
            self._file.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames. A file is read once: a second iteration continues the first."""
        if not self._keeps_others:
            self._file.drop_others()
        size = self.info.width, self.info.height
        while (frame := self._first or self._framed(next(self._pictures, None))) is not None:
            self._first = None
            self.damage.resized += (frame.picture.width, frame.picture.height) != size
            if self._skipped:
                self._skipped -= 1
            else:
                self.frames_read += 1
                yield frame
        self._pictures.close()

    def skip(self, frames: int) -> None:
        """Leave out the next frames. They are decoded, so that all that follow are the same."""
        self._skipped = frames

    def _framed(self, picture: av.VideoFrame | None) -> Frame | None:
        """A picture with its time; None if the part that is read has ended before it."""
        if picture is None or (pts := self._clock.tick(picture)) is None:
            return None
        return Frame(picture, None, pts - self._shift)
