"""Sound in another codec, where a container does not hold that which it has."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import av
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet

_USUAL_RATE = 48_000  # samples a second, which every encoder takes


def copied_format(stream: AudioStream) -> AudioStream:
    """A track of the same format, in a container of its own that is nowhere written."""
    memory = av.open(io.BytesIO(), "w", format="mpegts")  # which takes every codec
    return memory.add_stream_from_template(stream, opaque=True)


def recoder(given: AudioStream, output: OutputContainer, encoder: str) -> Recoder | None:
    """A `Recoder`, or None if what is given cannot be decoded or has too many channels."""
    with suppress(FFmpegError, ValueError):
        return Recoder(given, output, encoder)
    return None


class Recoder:
    """A track of an output, coded anew from packets of another codec.

    PCM keeps the channels; other codecs have one or two.

    Args:
        given: a track of the packets' format.
        output: where the track is added.
        encoder: FFmpeg's name.

    Raises:
        FFmpegError: what is given cannot be decoded.
        ValueError: it has more channels than have names.
    """

    def __init__(self, given: AudioStream, output: OutputContainer, encoder: str) -> None:
        self._template = copied_format(given)
        self._decoder = decoder = self._template.codec_context
        decoder.open()
        channels = decoder.layout.nb_channels
        channels = channels if encoder.startswith("pcm_") else min(channels, 2)
        layout = AudioLayout(f"{channels}c")  # by their usual names, without which MP4 takes none
        rates = av.Codec(encoder, "w").audio_rates or [decoder.sample_rate]
        rate = decoder.sample_rate if decoder.sample_rate in rates else _USUAL_RATE
        stream = output.add_stream(encoder, rate=rate)
        assert isinstance(stream, AudioStream)
        stream.codec_context.layout = layout
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
