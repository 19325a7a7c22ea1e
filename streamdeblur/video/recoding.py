"""Sound in another codec, where a container does not hold that which it has."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet

_USUAL_RATE = 48_000  # samples a second, which every encoder takes


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


class Recoder:
    """A track of an output, coded anew from packets of another codec, in mono or stereo.

    Args:
        given: the format of the packets.
        output: where the track is added.
        encoder: FFmpeg's name.
    """

    def __init__(self, given: SoundFormat, output: OutputContainer, encoder: str) -> None:
        decoder = av.CodecContext.create(given.codec, "r")
        assert isinstance(decoder, AudioCodecContext)
        decoder.sample_rate, decoder.layout = given.rate, given.layout
        decoder.extradata = given.header
        self._decoder = decoder
        rates = av.Codec(encoder, "w").audio_rates or [given.rate]
        stream = output.add_stream(encoder, rate=given.rate if given.rate in rates else _USUAL_RATE)
        assert isinstance(stream, AudioStream)
        # Of channels that have no names, as those of PCM, encoders take none.
        stream.codec_context.layout = "mono" if decoder.layout.nb_channels == 1 else "stereo"
        self.stream = stream
        """The track."""

    def coded(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """What comes out for a packet: nothing, if it is damaged."""
        coded: list[Packet[Any]] = []
        with suppress(FFmpegError):
            for frame in self._decoder.decode(packet):
                coded += self.stream.encode(frame)
        # Of what only primes the decoder, FLV would have the time before 0, and take none.
        return [each for each in coded if each.pts is not None and each.pts >= 0]
