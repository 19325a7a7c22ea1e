"""Recording a live picture: playable at every moment, whatever ends it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Self

import av
from av.error import FFmpegError
from av.packet import Packet

from streamdeblur.errors import VideoError
from streamdeblur.frames import Frame, VideoInfo
from streamdeblur.live.sound import PROMPT, Sound, SoundTrack
from streamdeblur.video.containers import keeps_times
from streamdeblur.video.encoder_settings import Wishes
from streamdeblur.video.ffmpeg import translated
from streamdeblur.video.outputs import open_output, part_name, refuse_paths
from streamdeblur.video.parts import held, publish, set_aside
from streamdeblur.video.picture import PictureTrack

# What a killed recording loses is one cluster, of so many milliseconds: the encoder keeps nothing.
_CONTAINER = {"cluster_time_limit": "250", "flush_packets": "1", **PROMPT}


class Recording:
    """Writes live frames, and the sound beside them, into a video file.

    The file grows as Matroska, `clip.mp4` as `clip.part.mkv`, and becomes what was asked for when
    the `with` block ends, by an exception as well. If the process is killed, the part can be
    played, and a later run to the same name keeps it as `clip.interrupted.mkv`. It begins at 0,
    whenever its first frame came. Frames of another size than the first's are fitted into it.

    Args:
        path: the recording; its extension names the container.
        info: of the source.
        sound: of the source, if it has one that is to be recorded.
        codec: encoder or codec family; by default H.264, or what the container takes.
        crf: quality in the encoder's own measure, less is better.
        preset: speed in the encoder's own words.
        encoder_options: more options for the encoder.
        overwrite: replace an existing file.
        compare: the original at the left of the result.

    Raises:
        VideoError: it cannot be written as asked, here or later.
    """

    closed = False

    def __init__(
        self,
        path: Path | str,
        info: VideoInfo,
        *,
        sound: Sound | None = None,
        codec: str | None = None,
        crf: float | None = None,
        preset: str | None = None,
        encoder_options: Mapping[str, str] | None = None,
        overwrite: bool = False,
        compare: bool = False,
    ) -> None:
        self.path = Path(path)
        self.part = growing_name(self.path)
        """Where it grows."""
        self.frames_written = 0
        """Frames taken so far."""
        self._info = replace(info, codec="h264")
        self._growing: BinaryIO | None = None
        self._overwrite = overwrite
        refuse_paths(self.path, self.part, None, overwrite)
        with open_output(self.path, part_name(self.path), info, None) as final:
            kind = final.format.name
            if not keeps_times(kind):
                raise VideoError(
                    f"can't record to {path}: {kind} has a constant frame rate, which live sources"
                    " have not; use .mp4 or .mkv"
                )
        self._output = av.open(
            str(self.part.absolute()), "w", format="matroska", container_options=_CONTAINER
        )
        self._picture = PictureTrack(
            self._output,
            self._info,
            self.path.name,
            Wishes(codec=codec, crf=crf, preset=preset, options=encoder_options, live=True),
            kind=kind,
            compare=compare,
        )
        self._picture.open()
        self._sound = SoundTrack(sound, self._output, kind, "matroska")
        self._begin, self._end = 0, Fraction(0)  # in ticks, and in seconds
        with translated(f"can't write {self.path}"):
            saved = [*set_aside(self.part), *set_aside(part_name(self.path))]
        self.notices = (*saved, *self._picture.notices, *self._sound.notices)
        """What a run before has left, and what this one cannot keep, one line each."""

    def write(self, frame: Frame) -> None:
        """Encode a frame.

        Raises:
            VideoError: encoding or writing fails.
        """
        with translated(f"can't write {self.part}"):
            if self._growing is None:
                self._growing = held(self.part)
                self._begin = frame.pts
            picture = self._picture.finished(frame)
            picture.pts = frame.pts - self._begin
            self._output.mux(self._picture.encode(picture))
            self._end = frame.pts * self._info.time_base
            self._output.mux(self._heard())
        self.frames_written += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._growing is None or not self.frames_written:
            self._discard()
            return
        with self._growing:
            with translated(f"can't finish {self.part}, which can be played as it is"):
                self._output.mux(self._picture.flush())
                self._end += 1 / self._info.rate
                self._output.mux(self._heard())
                self._output.close()
            with translated(f"can't write {self.path}; the recording is in {self.part}"):
                self._rename(self._growing)

    def _heard(self) -> list[Packet[Any]]:
        """The sound up to `_end`."""
        return self._sound.until(self._end, since=self._begin * self._info.time_base)

    def _discard(self) -> None:
        """Remove what has no frame."""
        with suppress(FFmpegError, OSError, ValueError):
            self._output.close()
        if self._growing:
            self._growing.close()
            self.part.unlink(missing_ok=True)

    def _rename(self, growing: BinaryIO) -> None:
        """Give the part the name, and the container, that was asked for."""
        if self.path.suffix.lower() == ".mkv":
            growing.close()  # or Windows would not rename it
            publish(self.part, self.path, self._overwrite)
            return
        final = part_name(self.path)
        copy = held(final)
        try:
            with copy:
                repacked(self.part, final)
            publish(final, self.path, self._overwrite)
        except BaseException:
            final.unlink(missing_ok=True)
            raise
        growing.close()
        self.part.unlink()


def growing_name(path: Path) -> Path:
    """Where a recording grows: `clip.mp4` as `clip.part.mkv`."""
    return path.with_name(f"{path.stem}.part.mkv")


def repacked(source: Path, target: Path) -> None:
    """Copy all tracks of a file into another container, which the extension of `target` names."""
    with av.open(str(source.absolute())) as old, av.open(str(target.absolute()), "w") as new:
        # Opaque, for AV1's decoder has no encoder.
        copies = [new.add_stream_from_template(stream, opaque=True) for stream in old.streams]
        for packet in old.demux():
            if packet.size:  # the last ones are empty, and meant for decoders
                packet.stream = copies[packet.stream_index]
                new.mux(packet)
