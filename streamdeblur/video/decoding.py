"""The pictures of a video file as they are decoded, whatever state the file is in."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet

from streamdeblur.correction import planar_copy
from streamdeblur.errors import VideoError
from streamdeblur.video.damage import Damage, SliceChecksums
from streamdeblur.video.ffmpeg import close_reader, described
from streamdeblur.video.hardware import accelerator, choose_decoder
from streamdeblur.video.headers import (
    chroma_location,
    decoder_of,
    frame_rate,
    needs_dolby_vision,
    picture_stream,
    tick_length,
    ticks_of,
    tracks_met,
)
from streamdeblur.video.opening import STANDARD_INPUT, is_pipe, open_container

_MAY_LEAP = 0x0200  # AVFMT_TS_DISCONT: the clock may begin anew in the middle
_TOLERATED_LOSS = Fraction(1)  # second: headers are not exact to the frame
_READ_ATTEMPTS = 16  # a damaged file can fail to read more than once before it goes on


class FileDecoder:
    """Opens a file and decodes its pictures; what cannot be read is counted and stepped over.

    Its arguments are those of `FileSource`, and mean the same.

    Raises:
        VideoError: the file cannot be read or has no picture.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        start: Fraction | None,
        duration: Fraction | None,
        form: str | None,
        form_options: Mapping[str, str] | None,
        decoder: str,
        gpu: int,
    ) -> None:
        self.path = STANDARD_INPUT if str(path) == "-" else Path(path)
        self.is_pipe = is_pipe(self.path)
        """Whether it can be read but once."""
        if self.is_pipe and decoder != "software":
            raise VideoError(f"{self.path} is decoded on the processor: leave out --decoder")
        self._form, self._form_options = form, form_options
        self._others: deque[Packet[Any]] | None = deque()
        device, notices = choose_decoder(decoder, self.container_for, str(path), gpu)
        self._accelerator = accelerator(device, gpu) if device else None
        self.name = device or "software"
        """What decodes."""
        self.notices = tuple(notices)
        """What a person should know of the decoding, one line each."""
        self.damage = Damage()
        """What was wrong, so far; complete when the pictures have ended."""
        self.sought: Fraction | None = None
        """What was sought to come to `begin`, in seconds of the file's clock; None if nothing."""
        self._packets_read = 0
        self._is_closed = False
        self._checksums = SliceChecksums()
        self._open()
        self._start = start
        self._origin = Fraction(self.container.start_time or 0, av.time_base)
        self.begin = None if start is None else self._origin + start
        """Where reading begins, in seconds of the file's clock; None at its first frame."""
        self.end = None if duration is None else self._origin + (start or 0) + duration
        """Where reading ends, in seconds of the file's clock; None at its last frame."""

    def container_for(self, accelerator: HWAccel | None) -> InputContainer:
        """The file, opened for decoding by what is given, or on the processor."""
        return open_container(self.path, accelerator, self._form, self._form_options)

    def other_packet(self) -> Packet[Any] | None:
        """Of a pipe: the next packet of other tracks that has come; None if there is none yet."""
        return self._others.popleft() if self._others else None

    def drop_others(self) -> None:
        """Of a pipe: nobody will ask for the packets of other tracks."""
        self._others = None

    def close(self) -> None:
        """Let go of the file. Harmless when repeated."""
        self._is_closed = True
        close_reader(self.container, self.stream)

    def pictures(self) -> Generator[av.VideoFrame, None, None]:
        """Decode the pictures from `begin` on; errors are counted and stepped over.

        Who takes them closes this behind `end`, which only a clock without leaps can tell.
        """
        time_base, step = tick_length(self.stream), 1 / frame_rate(self.stream)
        reached, following = Fraction(0), self._origin
        is_inside = self.begin is None
        pictures = self._from_begin(self.begin) if self.begin else self._all_decoded()
        try:
            for picture in pictures:
                ticks = ticks_of(picture)
                moment = following if ticks is None else ticks * time_base
                following = moment + step
                if not is_inside and self.begin is not None and moment < self.begin:
                    continue
                if not is_inside:
                    is_inside, self.damage = True, Damage()  # what came before is not wanted
                reached = max(reached, moment + picture.duration * time_base)
                yield picture
                self.damage.frames += picture.is_corrupt  # not that of one behind `end`
            self._miss(reached)
        finally:
            self.damage.frames += max(0, self._checksums.wrong - self.damage.packets)
            if not self._is_closed:
                met = tracks_met(described(self.container))
                self.damage.late_tracks = met - len(self.container.streams)

    def nothing_read(self) -> str:
        """Why no picture has come."""
        if self._start:
            return (
                f"{self.path} has no picture at {float(self._start):g} s: choose an earlier start"
            )
        if self.end is not None and not self.damage.total:
            return f"{self.path} has no picture in the duration asked for: choose a longer one"
        if self.is_pipe and "mp4" in self.container.format.name:
            return (
                f"no picture of {self.path} can be decoded: a pipe can't be read twice, and this"
                " MP4 has its index at the end; send it with -movflags +faststart, or as a file"
            )
        return (
            f"no picture of {self.path} can be decoded: the file is damaged or empty, or its"
            " pictures are larger than 16K"
        )

    def _open(self) -> None:
        self.container = self.container_for(self._accelerator)
        try:
            self.stream = picture_stream(self.container, self.path)
            description = described(self.container)
            if needs_dolby_vision(description, self.stream):
                raise VideoError(
                    f"{self.path} has colours that only Dolby Vision's own data make right (as in"
                    " its profile 5), which can't be kept: convert it to HDR10 or SDR first"
                )
            self.chroma_location = chroma_location(description, self.stream)
        except BaseException:
            self.container.close()
            raise
        self._decoder = decoder_of(self.stream)
        if self._accelerator is None:
            self._decoder.thread_type = "AUTO"

    def _from_begin(self, begin: Fraction) -> Iterator[av.VideoFrame]:
        """Decode from `begin`, or from a key frame before it.

        Where a file has no index a seek may land late, or in a second recording whose clock never
        shows `begin`: then it is tried again some seconds earlier, and in the end the file is read
        from its top.
        """
        time_base = tick_length(self.stream)

        def is_early(picture: av.VideoFrame) -> bool:
            return (ticks := ticks_of(picture)) is not None and ticks * time_base < begin

        for margin in () if self.is_pipe else (0, 10):
            with suppress(FFmpegError):
                target = begin - margin
                self.container.seek(math.floor(target / time_base), stream=self.stream)
                pictures = self._all_decoded()
                first = next(pictures, None)
                ticks = None if first is None else ticks_of(first)
                if first is not None and ticks is not None and ticks * time_base <= begin:
                    rest = itertools.dropwhile(is_early, itertools.chain([first], pictures))
                    reached = list(itertools.islice(rest, 1))
                    if reached or not self.container.format.flags & _MAY_LEAP:
                        self.sought = target
                        return itertools.chain(reached, rest)
            close_reader(self.container, self.stream)
            self._open()
        return self._all_decoded()

    def _miss(self, reached: Fraction) -> None:
        """Note what should have come after `reached`: FFmpeg takes a file cut short for its end."""
        if self.begin is not None or self.end is not None or self.damage.packets:
            counted = 0
        else:
            counted = self.stream.frames
        lacking = self._promised() - reached
        # Edit lists leave frames out on purpose, but then the header knows of an earlier end.
        if lacking * frame_rate(self.stream) > Fraction(1, 2):
            self.damage.missing = max(0, counted - self._packets_read)
        # A header may lie about its duration; what it counts, it has an index of.
        is_whole = 0 < counted <= self._packets_read
        if lacking > _TOLERATED_LOSS and not is_whole and not self.damage.missing:
            self.damage.ends_early = 1

    def _promised(self) -> Fraction:
        """Where the picture should end by the header, in seconds of the file's clock."""
        if self.stream.duration is None:
            return Fraction(0)
        promised = (self.stream.start_time or 0) + self.stream.duration
        whole = promised * tick_length(self.stream)
        return whole if self.end is None else min(whole, self.end)

    def _all_decoded(self) -> Generator[av.VideoFrame, None, None]:
        for attempt in range(_READ_ATTEMPTS):
            self.damage.packets += attempt > 0
            try:
                for packet in self._packets():
                    if packet.size:
                        self._packets_read += 1
                        self.damage.marked += packet.is_corrupt
                        if self.stream.codec_context.name == "ffv1" and self._is_wanted(packet):
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

    def _is_wanted(self, packet: Packet[Any]) -> bool:
        """Whether the picture of a packet, which holds one, lies in the part that is read."""
        if packet.pts is None or not packet.time_base:
            return True
        moment = packet.pts * packet.time_base
        is_early = self.begin is not None and moment < self.begin
        return not is_early and (self.end is None or moment < self.end)

    def _packets(self) -> Iterator[Packet[Any]]:
        """Those of the picture; those of other tracks are put aside if this is a pipe."""
        if not self.is_pipe:
            yield from self.container.demux(self.stream)
            return
        for packet in self.container.demux():
            if packet.stream.index == self.stream.index:  # of its own, empty ones say 0
                yield packet
            elif self._others is not None and packet.size:
                self._others.append(packet)
