"""The sound of a live source, packet by packet, for recordings and what is sent on."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, ref

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from streamdeblur.video.clocks import packet_time
from streamdeblur.video.containers import codec_of, takes_encoder, takes_track
from streamdeblur.video.headers import MICROSECOND, sound_stream
from streamdeblur.video.recoding import Recoder, copied_format, recoder

if TYPE_CHECKING:
    from streamdeblur.sources import FileSource

_MOST = 8192  # packets that wait for an output that hangs: minutes, before the oldest is lost
_AHEAD = 5  # seconds by which sound may come before its picture; more is a leap
_CARRIERS = {"hls": "mpegts", "rtp_mpegts": "mpegts"}  # what these put their packets into
_TAKEN = {  # by servers and players, of what could be sent
    "rtsp": {"aac", "mp2", "mp3", "opus", "pcm_alaw", "pcm_mulaw"},
    "flv": {"aac", "mp3"},
}
_ENCODERS = {"aac": "AAC", "libopus": "Opus"}

PROMPT = {"max_interleave_delta": "1"}
"""For containers with sound: pictures do not wait for it, as they do to be sorted, for seconds."""


@dataclass(frozen=True, slots=True)
class SoundFormat:
    """All that a decoder must be told before the first packet."""

    codec: str | None
    """FFmpeg's name."""
    rate: int
    """Samples a second."""
    layout: str
    """Of the channels."""
    header: bytes | None
    """What the codec has beside its packets; None where they say it all."""

    @classmethod
    def of(cls, stream: AudioStream) -> SoundFormat:
        """That of a track."""
        context = stream.codec_context
        return cls(codec_of(stream), context.sample_rate, context.layout.name, context.extradata)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A packet of sound, on the clock of the source's frames, in microseconds."""

    pts: int
    duration: int
    data: bytes

    def packet(self, since: Fraction) -> Packet[Any]:
        packet = Packet(self.data)
        packet.pts = packet.dts = self.pts - round(since / MICROSECOND)
        packet.duration, packet.time_base, packet.is_keyframe = self.duration, MICROSECOND, True
        return packet


class Sound:
    """What is heard of a live source, on the clock of its frames. It outlives each connection.

    Args:
        stream: the track of sound, as the source was opened first.
    """

    def __init__(self, stream: AudioStream) -> None:
        self.format = SoundFormat.of(stream)
        self.template = copied_format(stream)
        """A track of the same format."""
        self._tracks: tuple[ReferenceType[SoundTrack], ...] = ()
        self._last = -1

    def begin(self, track: SoundTrack) -> None:
        """Let a track have all that is heard from now on."""
        # A new tuple: the source's thread may be going through the old one.
        self._tracks = (*(each for each in self._tracks if each() is not None), ref(track))

    def hear(self, packet: Packet[Any], offset: Fraction, now: Fraction) -> None:
        """Hand a packet to the tracks.

        Args:
            packet: as it came.
            offset: the frames' clock less that of the packet, in seconds.
            now: the time of the newest frame, in seconds.
        """
        if packet.pts is None or not packet.time_base or not packet.size:
            return
        moment = packet.pts * packet.time_base + offset
        pts = round(moment / MICROSECOND)
        if pts <= self._last or moment > now + _AHEAD:  # twice, or by a clock that has changed
            return
        self._last = pts
        duration = round((packet.duration or 0) * packet.time_base / MICROSECOND)
        piece = _Piece(pts, duration, bytes(packet))
        for each in self._tracks:
            if (track := each()) is not None:
                track.waiting.append(piece)


class PlayedSound:
    """The sound of a file that is played, read beside its frames. To be closed.

    Args:
        container: the file, opened for this alone.
        stream: what is heard of it.
        begin: where playing begins, in seconds of the file's clock.
        shift: seconds by which the frames' clock is set back.
    """

    def __init__(
        self, container: InputContainer, stream: AudioStream, begin: Fraction, shift: Fraction
    ) -> None:
        self.sound = Sound(stream)
        self._container, self._shift = container, shift
        if begin:
            with suppress(FFmpegError):
                container.seek(int(begin * av.time_base))
        self._packets = self._read(stream)
        self._next: Packet[Any] | None = None

    @classmethod
    def of(cls, source: FileSource) -> PlayedSound | None:
        """That of a file; None if it has none, or can be read but once."""
        if source.is_pipe:
            return None
        container = source.reopened()
        stream = sound_stream(container)
        if stream is None:
            container.close()
            return None
        return cls(container, stream, source.sought or Fraction(0), source.shift)

    def read_on(self, moment: Fraction) -> None:
        """Let be heard what comes up to a frame's time, in seconds."""
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = packet
            time = packet_time(packet)
            if time is not None and time - self._shift > moment:
                return
            self._next = None
            self.sound.hear(packet, -self._shift, moment)

    def close(self) -> None:
        """Let go of the file."""
        with suppress(ValueError):  # a thread is reading it, which is left behind
            self._packets.close()
            self._container.close()

    def _read(self, stream: AudioStream) -> Generator[Packet[Any], None, None]:
        with suppress(FFmpegError):  # the picture meets the same place, and tells of it
            yield from self._container.demux(stream)


class SoundTrack:
    """A live source's sound in one output, from the output's first frame on.

    It is copied, or, where the container does not hold it, becomes AAC or Opus.

    Args:
        sound: the source's; None if there is none, or none is wanted.
        output: whose header is not yet written.
        kinds: FFmpeg's names of the containers that hold it in the end, and on the way there.
    """

    def __init__(self, sound: Sound | None, output: OutputContainer, *kinds: str) -> None:
        self.waiting = deque[_Piece](maxlen=_MOST)
        """What was heard and is not yet written."""
        self.notices: list[str] = []
        """What becomes of the sound, if it is not copied, in a line."""
        self._begin: Fraction | None = None
        if sound is None:
            return
        self._coder: Recoder | None = None
        codec, encoder = sound.format.codec, _encoder(kinds[0])
        if all(_takes(kind, sound) for kind in kinds):
            self._stream = output.add_stream_from_template(sound.template, opaque=True)
        elif encoder and (coder := recoder(sound.template, output, encoder)):
            self._coder = coder
            self.notices.append(f"the sound becomes {_ENCODERS[encoder]} (it was {codec})")
        else:
            self.notices.append(f"the sound ({codec}) is left out: {kinds[0]} files can't hold it")
            return
        sound.begin(self)

    def until(self, moment: Fraction, *, since: Fraction = Fraction(0)) -> list[Packet[Any]]:
        """What was heard up to a frame's time, and not before that of the first frame.

        Args:
            moment: the frame's time, in seconds.
            since: what is 0 on the output's clock, in seconds.
        """
        if self._begin is None:
            self._begin = moment
        packets: list[Packet[Any]] = []
        while self.waiting and self.waiting[0].pts <= moment / MICROSECOND:
            piece = self.waiting.popleft()
            if piece.pts >= self._begin / MICROSECOND:
                packets += self._packets(piece, since)
        return packets

    def _packets(self, piece: _Piece, since: Fraction) -> list[Packet[Any]]:
        packet = piece.packet(since)
        if self._coder is not None:
            return self._coder.coded(packet)
        packet.stream = self._stream
        return [packet]


def _takes(kind: str, sound: Sound) -> bool:
    """Whether a container, or what is sent in its place, holds the sound as it is."""
    codec = sound.format.codec
    if kind == "rtsp" and codec == "aac" and sound.format.header is None:
        return False  # the other side is told beforehand what a transport stream has in packets
    if kind in _TAKEN:
        return codec in _TAKEN[kind]
    return takes_track(_CARRIERS.get(kind, kind), sound.template)


def _encoder(kind: str) -> str | None:
    """What makes sound that a container holds."""
    held = (name for name in _ENCODERS if takes_encoder(_CARRIERS.get(kind, kind), name))
    return "aac" if kind == "rtsp" else next(held, None)
