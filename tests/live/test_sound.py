"""The sound of live sources, heard in what was recorded of them, and in step with the picture."""

from __future__ import annotations

import io
import threading
import weakref
from contextlib import ExitStack
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from streamdeblur.live.feeds import LiveSource, RealtimeSource
from streamdeblur.live.recording import Recording
from streamdeblur.live.restream import Restream
from streamdeblur.live.sound import Sound, SoundTrack
from streamdeblur.sources import open_source
from tests.footage import levels
from tests.live import broadcast
from tests.live.broadcast import Broadcast

MS = 1000  # in ticks of live sources
PAST, LATER = Fraction(0), Fraction(1000)
# Sound that is not encoded, and every second a flash with a beep, like those of `Broadcast`.
UNCODED = (
    "lavfi:color=gray:size=64x48:rate=25:duration=2.4,"
    "drawbox=color=white:t=fill:enable='lt(mod(t,1),0.199)'[out0];"
    "aevalsrc='0.5*sin(2*PI*1000*t)*lt(mod(t,1),0.2)':s=48000:d=2.4,aformat=s16[out1]"
)


def opened(name: str) -> LiveSource:
    source = open_source(name)
    assert isinstance(source, LiveSource)
    return source


def sink_to(path: Path, source: LiveSource) -> Recording | Restream:
    kind = Restream if path.suffix == ".m3u8" else Recording
    return kind(str(path), source.info, sound=source.sound)


def write(source: LiveSource, *sinks: Recording | Restream, skip: int = 0, count: int) -> None:
    """Some frames of the source, without every third, as where a network is too slow."""
    for number, frame in enumerate(islice(source, count)):
        if number >= skip and number % 3 != 1:
            frame.sharp = frame.image
            for sink in sinks:
                sink.write(frame)


def seen_and_heard(path: Path) -> tuple[list[float], list[float], str]:
    """When flashes and beeps begin, in seconds, and what the sound is coded in."""
    flashes, loud = [], []
    with av.open(str(path)) as container:
        codec = container.streams.audio[0].codec_context.codec.canonical_name
        was_white = True
        for frame in container.decode():
            assert frame.pts is not None
            assert frame.time_base is not None
            begin = float(frame.pts * frame.time_base)
            if isinstance(frame, av.VideoFrame):
                is_white = float(frame.to_ndarray(format="gray").mean()) > 200
                if is_white and not was_white:
                    flashes.append(begin)
                was_white = is_white
            elif isinstance(frame, av.AudioFrame):
                wave = frame.to_ndarray().astype(float).reshape(-1)
                full = 32768 if frame.format.name.startswith("s16") else 1
                loud += [
                    begin + n / frame.sample_rate for n in np.flatnonzero(abs(wave) > full / 9)
                ]
    beeps = [now for before, now in zip([-9.0, *loud], loud, strict=False) if now - before > 0.5]
    return flashes, beeps, codec


def in_step(flashes: list[float], beeps: list[float]) -> bool:
    """Whether each flash has its beep, but for the frames that were left out."""
    return all(min(abs(beep - flash) for beep in beeps) < 0.045 for flash in flashes)


@pytest.mark.parametrize("codec", ["aac", "mp2"])
def test_it_is_copied_and_stays_in_step(tmp_path: Path, codec: str) -> None:
    names = ["a.mkv", "a.mp4", "b.mov", "b.ts", "c.m3u8"]
    with Broadcast(sound=codec) as station, opened(station.url) as source, ExitStack() as stack:
        sinks = []
        for name in names:  # each in a folder of its own: some would grow as the same part
            (tmp_path / name).mkdir()
            sinks.append(stack.enter_context(sink_to(tmp_path / name / name, source)))
        assert all(sink.notices == () for sink in sinks)
        write(source, *sinks, skip=10, count=90)
    for name in names:
        flashes, beeps, kept = seen_and_heard(tmp_path / name / name)
        mpeg = {"mp2": "mp3"}.get(codec, codec)  # MP4 has one name for both
        assert kept == (mpeg if name == "a.mp4" else codec)
        assert len(flashes) == 3
        assert in_step(flashes, beeps), name


@pytest.mark.parametrize(
    ("name", "becomes", "words"),
    [
        ("a.mkv", "pcm_s16le", ""),
        ("a.webm", "opus", "the sound becomes Opus (it was pcm_s16le)"),
        ("a.ts", "aac", "the sound becomes AAC (it was pcm_s16le)"),
        ("a.m3u8", "aac", "the sound becomes AAC (it was pcm_s16le)"),
    ],
)
def test_what_a_container_does_not_hold_is_coded_anew(
    tmp_path: Path, name: str, becomes: str, words: str
) -> None:
    with opened(UNCODED) as source, sink_to(tmp_path / name, source) as sink:
        assert (words in sink.notices) == bool(words)
        write(source, sink, count=60)
    flashes, beeps, codec = seen_and_heard(tmp_path / name)
    assert codec == becomes
    assert len(flashes) == 2
    assert in_step(flashes, beeps)


def test_it_is_as_long_as_the_picture(tmp_path: Path) -> None:
    """And begins with it, although the source was heard before and after."""
    with Broadcast(sound="aac") as station, opened(station.url) as source:
        with sink_to(tmp_path / "a.mkv", source) as sink:
            write(source, sink, skip=20, count=60)
        next(iter(source))
    spans = {}
    with av.open(str(tmp_path / "a.mkv")) as container:
        for stream in container.streams:
            times = [
                float(packet.pts * packet.time_base)
                for packet in container.demux(stream)
                if packet.pts is not None
            ]
            spans[stream.type] = times[0], times[-1]
            container.seek(0)
    assert spans["video"] == pytest.approx((0.0, 1.56), abs=0.001)  # frame 20 is not left out
    assert spans["audio"] == pytest.approx((0.0, 1.58), abs=0.025)


@pytest.mark.parametrize("start", [None, Fraction(6, 5)])
def test_a_file_that_is_played_is_heard(tmp_path: Path, start: Fraction | None) -> None:
    (tmp_path / "in.ts").write_bytes(b"".join(broadcast.transport_stream((64, 48), 3, "aac")))
    source = open_source(tmp_path / "in.ts", realtime=True, start=start)
    assert isinstance(source, RealtimeSource)
    with source, Recording(tmp_path / "a.mkv", source.info, sound=source.sound) as recording:
        assert source.sound is not None
        ears = SoundTrack(source.sound, av.open("none.mkv", "w", format="null"), "matroska")
        for frame in source:
            frame.sharp = frame.image
            recording.write(frame)
            assert all(
                heard.pts <= frame.pts * 1e6 * source.info.time_base for heard in ears.waiting
            )
    flashes, beeps, codec = seen_and_heard(tmp_path / "a.mkv")
    assert codec == "aac"
    assert len(flashes) == (1 if start else 2)  # and one at the very beginning
    assert len(beeps) == len(flashes) + (start is None)
    assert in_step(flashes, beeps)


def test_a_recording_begun_late_begins_at_zero(tmp_path: Path) -> None:
    with opened("lavfi:color=gray:size=64x48:rate=25") as source:
        list(islice(source, 10))
        with Recording(tmp_path / "a.mp4", source.info) as recording:
            for frame in islice(source, 5):
                recording.write(frame)
    with av.open(str(tmp_path / "a.mp4")) as container:
        first, *_, last = container.decode(video=0)
    assert (first.time, last.time) == (0, pytest.approx(0.16))


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"], ids=["copied", "coded anew"])
def test_it_goes_on_in_step_when_the_source_is_back(tmp_path: Path, name: str) -> None:
    with Broadcast(sound="aac") as station, opened(station.url) as source:
        with sink_to(tmp_path / name, source) as sink:
            write(source, sink, count=40)
            station.off()
            returns = threading.Timer(0.4, station.on)
            returns.start()
            write(source, sink, count=40)
            returns.join()
        assert source.connections == 2
        assert not any("sound" in message for message in source.messages)
    flashes, beeps, _ = seen_and_heard(tmp_path / name)
    assert len(flashes) == len(beeps) - 1 == 3  # the first beep comes with the first frame
    assert in_step(flashes, beeps)


@pytest.mark.parametrize("then", ["mp2", None])
def test_a_source_that_is_back_with_other_sound_goes_on_without(
    tmp_path: Path, then: str | None
) -> None:
    with Broadcast(sound="aac") as station, opened(station.url) as source:
        with sink_to(tmp_path / "a.mkv", source) as sink:
            write(source, sink, count=20)
            station.off()
            station.sound = then
            station.on()
            write(source, sink, count=30)
        assert any("no sound now, or not as before" in message for message in source.messages)
    with av.open(str(tmp_path / "a.mkv")) as container:
        frames = [frame.time for frame in container.decode(audio=0)]
    assert frames
    assert max(frames) < 1.5


def test_none_is_written_where_none_is_wanted_or_there_is_none(tmp_path: Path) -> None:
    with Broadcast(sound="aac") as station, opened(station.url) as source:
        assert source.sound is not None
        with Recording(tmp_path / "a.mkv", source.info) as recording:
            write(source, recording, count=5)
    with Broadcast() as station, opened(station.url) as source:
        assert source.sound is None
        with sink_to(tmp_path / "b.mkv", source) as sink:
            write(source, sink, count=5)
    for name in ("a.mkv", "b.mkv"):
        with av.open(str(tmp_path / name)) as container:
            assert [stream.type for stream in container.streams] == ["video"]


def test_sound_that_is_announced_and_does_not_come_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces = broadcast.transport_stream((64, 48), sound="aac")
    mute = tuple(broadcast.without_track(piece, 1) for piece in pieces)
    monkeypatch.setattr(broadcast, "transport_stream", lambda *_, **__: mute)
    with Broadcast(sound="aac") as station, opened(station.url) as source:
        assert source.sound is None
        (message,) = source.messages
        assert message.endswith("is left out: none had come when the picture began")


@pytest.fixture
def track() -> tuple[Sound, SoundTrack]:
    """That of a recording whose first frame has come at 0."""
    with Broadcast(sound="mp2") as station, opened(station.url) as source:
        assert source.sound is not None
        output = av.open("none.mkv", "w", format="null")
        made = source.sound, SoundTrack(source.sound, output, "matroska")
    made[1].until(PAST)
    return made


def packet(at: int) -> av.Packet:
    """24 ms of sound, at so many milliseconds."""
    made = av.Packet(b"sound")
    made.pts, made.duration, made.time_base = at, 24, Fraction(1, 1000)
    return made


def test_what_comes_twice_or_from_another_clock_is_not_written(
    track: tuple[Sound, SoundTrack],
) -> None:
    sound, written = track
    for at, offset in [(0, 0), (24, 0), (24, 0), (12, 0), (90_000, 0), (48, 0), (500, -428)]:
        sound.hear(packet(at), Fraction(offset, 1000), Fraction(40, 1000))
    assert [made.pts for made in written.until(LATER)] == [0, 24 * MS, 48 * MS, 72 * MS]


@pytest.mark.parametrize(
    ("kind", "becomes"),
    [
        ("rtsp", None),
        ("flv", "AAC"),
        ("hls", None),
        ("mpegts", None),
        ("webm", "Opus"),
        ("mxf", ""),
    ],
)
def test_what_becomes_of_mp2(
    track: tuple[Sound, SoundTrack], kind: str, becomes: str | None
) -> None:
    sound, _ = track
    output = av.open(io.BytesIO(), "w", format="matroska")
    made = SoundTrack(sound, output, kind)
    words = {"": "left out: mxf files can't hold it", None: ""}.get(becomes, f"becomes {becomes}")
    assert words in " ".join(made.notices)
    assert bool(made.notices) == (becomes is not None)
    assert len(output.streams) == (becomes != "")


def test_sound_that_cannot_be_decoded_is_left_out(
    track: tuple[Sound, SoundTrack], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, _ = track
    monkeypatch.setattr("streamdeblur.live.sound.recoder", lambda *_: None)
    made = SoundTrack(sound, av.open(io.BytesIO(), "w", format="matroska"), "webm")
    assert made.notices == ["the sound (mp2) is left out: webm files can't hold it"]
    sound.hear(packet(0), PAST, PAST)
    assert made.until(LATER) == []


def test_it_waits_for_its_picture(track: tuple[Sound, SoundTrack]) -> None:
    sound, written = track
    for number in range(4):
        sound.hear(packet(24 * number), PAST, PAST)
    assert [made.pts for made in written.until(Fraction(40, 1000))] == [0, 24 * MS]
    later = written.until(Fraction(80, 1000), since=Fraction(40, 1000))
    assert [made.pts for made in later] == [8 * MS, 32 * MS]


def test_an_output_that_hangs_does_not_fill_the_memory(track: tuple[Sound, SoundTrack]) -> None:
    sound, written = track
    for number in range(10_000):
        sound.hear(packet(24 * number), PAST, Fraction(24 * number, 1000))
    assert len(written.waiting) == 8192
    assert written.until(LATER)[-1].pts == 9999 * 24 * MS


def test_outputs_that_are_gone_are_forgotten(track: tuple[Sound, SoundTrack]) -> None:
    sound, written = track
    del track
    other = SoundTrack(sound, av.open("none.mkv", "w", format="null"), "matroska")
    sound.hear(packet(0), PAST, PAST)
    assert len(other.waiting) == len(written.waiting) == 1
    gone = weakref.ref(other)
    del other
    assert gone() is None
    sound.hear(packet(24), PAST, PAST)
    assert len(written.waiting) == 2


def test_pictures_do_not_wait_for_sound_that_has_stopped(
    track: tuple[Sound, SoundTrack], tmp_path: Path
) -> None:
    """As they would, for ten seconds, to be sorted into one file."""
    sound, _ = track
    with (
        opened("lavfi:color=gray:size=64x48:rate=50") as source,
        Recording(tmp_path / "a.mkv", source.info, sound=sound) as recording,
    ):
        write(source, recording, count=60)
        assert len(levels(recording.part)) >= 40 - 25  # a cluster of 250 ms, and what is in it
