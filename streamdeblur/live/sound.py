"""The sound of a live source, packet by packet, for recordings and what is sent on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from weakref import ReferenceType, ref

from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet

from streamdeblur.video.containers import takes_encoder, takes_track
from streamdeblur.video.headers import MICROSECOND
from streamdeblur.video.recoding import Recoder, copied_format, recoder

_MOST = 8192  # packets that wait for an output that hangs: minutes, before the oldest is lost
_AHEAD = 5_000_000  # microseconds by which sound may come before its picture; more is a leap
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

    codec: str
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
        name = context.codec.canonical_name
        return cls(name, context.sample_rate, context.layout.name, context.extradata)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A packet of sound, on the clock of the source's frames, in microseconds."""

    pts: int
    duration: int
    data: bytes

    def packet(self, since: int) -> Packet[Any]:
        packet = Packet(self.data)
        packet.pts = packet.dts = self.pts - since
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

    def hear(self, packet: Packet[Any], offset: Fraction, now: int) -> None:
        """Hand a packet to the tracks.

        Args:
            packet: as it came.
            offset: the frames' clock less that of the packet, in seconds.
            now: the time of the newest frame, in microseconds.
        """
        if packet.pts is None or not packet.time_base or not packet.size:
            return
        pts = round((packet.pts * packet.time_base + offset) / MICROSECOND)
        if not self._last < pts < now + _AHEAD:  # it came twice, or by a clock that has changed
            return
        self._last = pts
        duration = round((packet.duration or 0) * packet.time_base / MICROSECOND)
        piece = _Piece(pts, duration, bytes(packet))
        for each in self._tracks:
            if (track := each()) is not None:
                track.waiting.append(piece)


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
        self._begin: int | None = None
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

    def until(self, pts: int, *, since: int = 0) -> list[Packet[Any]]:
        """What was heard up to a frame's time, and not before that of the first frame.

        Args:
            pts: the frame's time, in microseconds.
            since: what is 0 on the output's clock.
        """
        if self._begin is None:
            self._begin = pts
        packets: list[Packet[Any]] = []
        while self.waiting and self.waiting[0].pts <= pts:
            piece = self.waiting.popleft()
            if piece.pts >= self._begin:
                packets += self._packets(piece, since)
        return packets

    def _packets(self, piece: _Piece, since: int) -> list[Packet[Any]]:
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
