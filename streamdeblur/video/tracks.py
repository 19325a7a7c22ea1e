"""Sound, subtitles, data and cover art, copied packet by packet beside the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import DataStream, Discard, Stream

from streamdeblur.sources import FileSource
from streamdeblur.video.clocks import packet_time
from streamdeblur.video.containers import (
    MATROSKA,
    MOV_FAMILY,
    codec_of,
    takes_encoder,
    takes_track,
)
from streamdeblur.video.covers import attach, can_be_attached, is_still
from streamdeblur.video.headers import begins_late, picture_stream
from streamdeblur.video.order import DISORDER, Order
from streamdeblur.video.recoding import Recoder, recoder

if TYPE_CHECKING:
    from av.container.core import Chapter  # which PyAV has in its stubs only

# Tags that MP4 and MOV files keep in the list that iTunes knows, or outside of any list.
# fmt: off
_ITUNES_TAGS = {
    "album", "album_artist", "artist", "author", "comment", "composer", "compilation", "copyright",
    "creation_time", "date", "description", "disc", "episode_id", "genre", "grouping", "keywords",
    "location", "lyrics", "network", "performer", "show", "synopsis", "timecode", "title", "track",
}
# fmt: on
# Sound of cameras, which Matroska holds by a name of Windows'; but libavformat does not say so, and
# PyAV asks it. Decoded, it has 16 bits a sample.
_SHORT_FOR_PCM = ("pcm_alaw", "pcm_mulaw", "adpcm_")
_TAKES_ANY_PCM = {*MATROSKA, *MOV_FAMILY, "avi"}  # where others, such as FLV, know few rates


class TrackCopier:
    """Copies every track but the picture into an output, never ahead of the picture.

    A file is read a second time for this, so that its tracks need no buffer; of a pipe the source
    keeps what it meets before the next picture. Packets are copied whole: of a part, those that
    begin in it.

    Args:
        copy_from: what reads the file, or a part of it.
        output: where the tracks go.

    Raises:
        VideoError: the file cannot be read.
    """

    def __init__(self, copy_from: FileSource, output: OutputContainer) -> None:
        self._output = output
        self._source = copy_from
        self._pipe = copy_from if copy_from.is_pipe else None
        self._input = copy_from.container if copy_from.is_pipe else copy_from.reopened()
        self.picture = picture_stream(self._input, copy_from.path)
        """The stream that is not copied."""
        if self._pipe is None:
            self.picture.discard = Discard.all
        else:
            self._pipe.keep_others()
        self._copies: dict[int, Stream] = {}
        self._recoders: dict[int, Recoder] = {}
        self._packets: Iterator[Packet[Any]] = iter(())
        self._running: set[int] = set()
        self._begun: set[int] = set()
        self._order = Order(copy_from.jumps)
        self._next: Packet[Any] | None = None
        self._is_placed = False
        self.notices: list[str] = []
        """What is left out or stays blurred, one line each; complete after `add_tracks`."""

    def add_tracks(self, add_picture: Callable[[], None]) -> None:
        """Add the output's streams in the order of the input's, the picture by `add_picture`."""
        for stream in self._input.streams:
            if stream.index == self.picture.index:
                add_picture()
            else:
                self._add(stream)
        self._copy_facts()

    def advance(self, until: Fraction | None = None) -> None:
        """Write the packets up to `until`, in seconds of the output's clock; all if None."""
        until = None if until is None else until + self._source.shift  # now of the file's clock
        while (packet := self._next or self._following()) is not None:
            self._next = packet
            self._is_placed = self._is_placed or self._order.place(packet, until)
            if not self._is_placed:
                return
            moment, is_past = packet_time(packet), self._is_past(packet)
            if not is_past and until is not None and moment is not None and moment > until:
                return
            self._next, self._is_placed = None, False
            if not is_past:
                self._write(packet)

    def start(self) -> None:
        """Begin to read. To be called when the output's streams are complete."""
        copied = [self._input.streams[index] for index in self._copies]
        self._running = {stream.index for stream in copied if stream.type != "attachment"}
        if self._pipe is not None:
            return
        if self._source.sought is not None:
            # Early, since a seek without an index may land late; packets before are left out.
            with suppress(FFmpegError):
                self._input.seek(math.floor((self._source.sought - DISORDER) * av.time_base))
        self._packets = self._read(copied)

    def close(self) -> None:
        """Close the file that is read; a pipe is its source's. Harmless when repeated."""
        if self._pipe is None:
            self._input.close()

    def _add(self, stream: Stream) -> None:
        """Add a track's copy to the output, or a notice that it is left out."""
        kind = self._output.format.name
        if self._is_rewritten(stream):
            return
        if not takes_track(kind, stream):
            if self._recode(stream):
                return
            why = f"{kind} files can't hold it"
            if begins_late(stream):
                why = "it begins so late in the file that its format is not known"
            self.notices.append(f"{_title(stream)} is left out: {why}")
            return
        if kind == "matroska" and self._pipe is None and can_be_attached(stream):
            with self._source.reopened() as again:
                attach(stream, again, self._output)
            return
        if stream.type == "video" and not is_still(stream):
            self.notices.append(f"{_title(stream)} is copied as it is: one video is deblurred")
        copy = self._output.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        self._copies[stream.index] = copy

    def _recode(self, stream: Stream) -> bool:
        """Add a track for the very samples of one that can't be copied; whether there are some."""
        kind = self._output.format.name
        if not isinstance(stream, AudioStream):
            return False
        is_short = (codec_of(stream) or "").startswith(_SHORT_FOR_PCM)
        if not is_short or kind not in _TAKES_ANY_PCM or not takes_encoder(kind, "pcm_s16le"):
            return False
        if (made := recoder(stream, self._output, "pcm_s16le")) is None:
            return False
        made.stream.metadata.update(stream.metadata)
        made.stream.disposition = stream.disposition
        self._recoders[stream.index], self._copies[stream.index] = made, made.stream
        self.notices.append(f"{_title(stream)} becomes PCM, its samples as they are")
        return True

    def _is_rewritten(self, stream: Stream) -> bool:
        """Whether a track is one that the muxer makes anew from tags and chapters.

        In the MOV family time codes and the titles of chapters are tracks of their own.
        """
        if not isinstance(stream, DataStream):
            return False
        is_timecode = "timecode" in stream.metadata and "timecode" in self.picture.metadata
        chapters = len(self._input.chapters())
        is_titles = stream.name == "bin_data" and 0 < chapters == stream.frames
        return is_timecode or is_titles

    def _copy_facts(self) -> None:
        """Copy title, date, place and other tags of the whole file, and its chapters."""
        own = {"major_brand", "minor_version", "compatible_brands", "encoder"}
        tags = {key: text for key, text in self._input.metadata.items() if key not in own}
        self._output.metadata.update(tags)
        if self._output.format.name in MOV_FAMILY:
            # A tag can end in its language, as in `location-eng`.
            self._keep_tags([key for key in tags if key.partition("-")[0] not in _ITUNES_TAGS])
        chapters = [_moved(chapter, self._source) for chapter in self._input.chapters()]
        self._output.set_chapters([chapter for chapter in chapters if chapter is not None])

    def _keep_tags(self, unusual: list[str]) -> None:
        """Have a MOV or MP4 keep tags that iTunes' list lacks, if that harms nothing else."""
        if not unusual:
            return
        if any(map(is_still, self._output.streams)):  # which the muxer writes only in iTunes' list
            names = ", ".join(unusual)
            self.notices.append(f"the tags {names} are left out in favour of the cover picture")
        else:
            flags = self._output.container_options.get("movflags", "")
            self._output.container_options["movflags"] = f"{flags}+use_metadata_tags"

    def _following(self) -> Packet[Any] | None:
        """The next packet that is to be written; None if there is none, or not yet."""
        if self._pipe is not None and not self._running:
            self._pipe.drop_others()  # they would pile up
        while self._running:
            packet = next(self._packets, None) if self._pipe is None else self._pipe.other_packet()
            if packet is None or self._is_begun(packet):
                return packet
        return None

    def _is_begun(self, packet: Packet[Any]) -> bool:
        """Whether a packet is of a track that is copied, and not before the part."""
        index, moment, begin = packet.stream_index, packet_time(packet), self._source.begin
        if not packet.size or index not in self._copies:
            return False
        if is_still(packet.stream):
            is_first = index in self._running
            self._running.discard(index)  # given once more after a seek
            return is_first
        is_early = moment is not None and begin is not None and moment < begin
        if is_early and index not in self._begun:  # else the clock went back: it goes on
            return False
        self._begun.add(index)
        return True

    def _is_past(self, packet: Packet[Any]) -> bool:
        """Whether a packet, set in order, comes after the part; its track has ended then."""
        moment, end = packet_time(packet), self._source.end
        if moment is None or end is None or moment < end or is_still(packet.stream):
            return False
        self._running.discard(packet.stream_index)
        if moment > end + DISORDER:
            self._running.clear()  # rather than wait for subtitles that may be hours away
        return True

    def _write(self, packet: Packet[Any]) -> None:
        """Write a packet on the output's clock."""
        if not is_still(packet.stream):
            _shift(packet, self._source.shift)
        # A track that was in Matroska says by itself how far it is to be moved.
        no_past = self._output.format.name in MATROSKA and "matroska" not in self._input.format.name
        if no_past and _ends_before_zero(packet):
            return
        index = packet.stream_index
        if index in self._recoders:
            self._output.mux(self._recoders[index].coded(packet))
            return
        packet.stream = self._copies[index]
        self._output.mux(packet)

    def _read(self, streams: list[Stream]) -> Iterator[Packet[Any]]:
        """Demux up to the end of the file, or up to where it cannot be read any more."""
        # The picture's source meets the same place, and counts it, or knows it for the end.
        with suppress(FFmpegError, IndexError):
            yield from self._input.demux(streams)


def _title(stream: Stream) -> str:
    """A track as people know it: `track 4 (subtitle subrip, English)`."""
    name = getattr(stream, "name", None) or stream.metadata.get("handler_name", "").strip()
    words = [stream.type, name, stream.language if stream.language != "und" else None]
    return f"track {stream.index} ({', '.join(word for word in words if word)})"


def _shift(packet: Packet[Any], seconds: Fraction) -> None:
    """Set a packet's clock back, to the nearest tick of its own."""
    if not seconds or not packet.time_base:
        return
    ticks = round(seconds / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts - ticks
    packet.dts = None if packet.dts is None else packet.dts - ticks


def _ends_before_zero(packet: Packet[Any]) -> bool:
    """Whether a packet only primes a decoder and is never heard.

    Matroska knows no time before zero: for such a packet the muxer would move all tracks.
    """
    return packet.pts is not None and packet.pts + (packet.duration or 0) <= 0 > packet.pts


def _moved(chapter: Chapter, part: FileSource) -> Chapter | None:
    """A chapter within the part and on the output's clock; None if it lies outside."""
    base = chapter["time_base"] or Fraction(1)
    begin, end = chapter["start"] * base, chapter["end"] * base
    begin = begin if part.begin is None else max(begin, part.begin)
    end = end if part.end is None else min(end, part.end)
    if begin >= end:
        return None
    start, stop = round((begin - part.shift) / base), round((end - part.shift) / base)
    return {**chapter, "start": start, "end": stop}
