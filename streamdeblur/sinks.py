"""Where frames go: a video file that appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Self

import av
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from streamdeblur.errors import ReaderLeft, VideoError
from streamdeblur.frames import Frame, VideoInfo
from streamdeblur.resume import Journal, flush_folder, gathered
from streamdeblur.sources import FileSource
from streamdeblur.video.clocks import packet_time
from streamdeblur.video.encoder_settings import Wishes
from streamdeblur.video.ffmpeg import explained, translated
from streamdeblur.video.headers import tick_length
from streamdeblur.video.outputs import open_output, open_pipe, part_name, refuse_paths
from streamdeblur.video.parts import held, publish, set_aside
from streamdeblur.video.picture import PictureTrack
from streamdeblur.video.segments import SegmentedTrack
from streamdeblur.video.timecode import frames_in, set_on
from streamdeblur.video.tracks import TrackCopier


class FileSink:
    """Writes frames, corrected by `strength`, into a video file beside copies of other tracks.

    Everything that can be refused is refused on construction, before anything is written. The
    file grows under a name with `.part` and takes its own when the `with` block ends; if that ends
    by an exception, the part is removed. What a run that was killed has left there is kept as
    `clip.interrupted.mp4`.

    With `-` as its path it writes into a pipe, as it goes, and what was written stays.

    Args:
        path: the output; its extension names the container, unless `form` does.
        info: of the video that the frames come from.
        copy_from: where the other tracks, chapters and tags come from, of the part that it reads.
        codec: encoder or codec family; by default that of the input.
        crf: quality in the encoder's own measure, less is better.
        preset: speed in the encoder's own words.
        encoder_options: more options for the encoder.
        form: FFmpeg's name of the container; needed for `-`.
        descriptor: of the pipe that `-` stands for.
        overwrite: replace an existing file.
        repeatable: encode so that `keep_work`, which is to be called then, can be relied on.
        strength: how much of the network's change is applied, 0 to 1.
        compare: write the original at the left of the result.

    Raises:
        VideoError: the output cannot be written as asked, here or later.
        ReaderLeft: who read the pipe is gone.
    """

    def __init__(
        self,
        path: Path | str,
        info: VideoInfo,
        *,
        copy_from: FileSource | None = None,
        codec: str | None = None,
        crf: float | None = None,
        preset: str | None = None,
        encoder_options: Mapping[str, str] | None = None,
        form: str | None = None,
        descriptor: int = 1,
        overwrite: bool = False,
        repeatable: bool = False,
        strength: float = 1.0,
        compare: bool = False,
    ) -> None:
        self.is_pipe = str(path) == "-"
        """Whether it goes to standard output."""
        self.path = Path("standard output") if self.is_pipe else Path(path)
        self.frames_written = 0
        """Frames taken so far."""
        self.frames_kept = 0
        """Frames that an interrupted run has left."""
        self._part = gathered(self.path) if repeatable else part_name(self.path)
        self._growing: BinaryIO | None = None
        self._overwrite = overwrite
        self._packets_written = 0
        self._started = False
        if self.is_pipe:
            self._output = open_pipe(descriptor, form, info)
        else:
            original = copy_from.path if copy_from else None
            refuse_paths(self.path, self._part, original, overwrite)
            self._output = open_output(self.path, self._part, info, form)
        self._journal: Journal | None = None
        self._track = PictureTrack(
            self._output,
            info,
            self.path.name,
            Wishes(
                codec=codec,
                crf=crf,
                preset=preset,
                options=encoder_options,
                repeatable=repeatable,
            ),
            strength=strength,
            compare=compare,
        )
        self._picture: PictureTrack | SegmentedTrack = self._track
        self.encoder = self._track.encoder
        """FFmpeg's name of the encoder."""
        self._copier = None
        copied: list[str] = []
        if copy_from is not None:
            self._copier = copier = TrackCopier(copy_from, self._output)
            end = _end_of(copier.picture, copy_from)
            copier.add_tracks(lambda: self._track.open(copier.picture, end))
            copied = copier.notices
            if copy_from.begin is not None:
                self._set_timecodes_on(copy_from, copier.picture)
        else:
            self._track.open()
        with translated(f"can't write {self.path}"):
            saved = [] if self.is_pipe or repeatable else set_aside(self._part)
        self.notices = (*saved, *self._track.notices, *copied, *self._track.losses())
        """What differs from the input or cannot be kept, one line each."""

    def prepare(self, frame: Frame) -> Frame:
        """Correct a frame, which `write` does else. Several threads may do it at the same time.

        One of another size than the video's is fitted into that.
        """
        frame.finished = self._finished(frame)
        return frame

    def encoding_identity(self) -> dict[str, Any]:
        """What tells this way of encoding from others."""
        return self._track.identity()

    def keep_work(self, journal: Journal, note: Callable[[Path], None]) -> None:
        """Keep what is encoded where it survives an interruption. To be called before writing.

        The frames that the journal has are not to be written again. `note` is told the file that
        is complete, just before that gets its name.
        """
        self._journal, self._note, self.frames_kept = journal, note, journal.frames
        self._picture = SegmentedTrack(self._track, journal)

    def write(self, frame: Frame) -> None:
        """Correct a frame, unless it is prepared, and encode it.

        Raises:
            VideoError: encoding or writing fails.
        """
        picture = frame.finished or self._finished(frame)
        frame.finished = None  # another sink may want another
        if not self._started:
            self._start()
        with self._writing():
            self._mux(self._picture.encode(picture))
        self.frames_written += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._discard()
            return
        try:
            self._finish()
        except BaseException:
            self._discard()
            raise

    def _set_timecodes_on(self, source: FileSource, picture: VideoStream) -> None:
        """Let the time codes of a part begin where it does."""
        assert source.begin is not None
        before = source.begin - Fraction(source.container.start_time or 0, av.time_base)
        rate = picture.guessed_rate or source.info.rate
        tags = [self._output.metadata, *(stream.metadata for stream in self._output.streams)]
        set_on(tags, frames_in(before, rate), rate)

    def _finished(self, frame: Frame) -> av.VideoFrame:
        with translated(f"can't write {self.path}"):
            return self._track.finished(frame)

    def _start(self) -> None:
        """Write the header."""
        with self._writing():
            if not self.is_pipe:
                self._growing = held(self._part)
        self._started = True
        advice = "is there space, and may you write there?"
        with self._writing(explained(f"can't write {self.path}", advice)):
            self._output.start_encoding()
        if self._copier:
            with translated(f"can't copy the sound of {self.path}"):
                self._copier.start()

    def _mux(self, packets: Iterable[Packet[Any]]) -> None:
        """Write packets of the picture, and before each what other tracks have up to it."""
        for packet in packets:
            if self._copier:
                self._copier.advance(packet_time(packet))
            self._output.mux(packet)
            self._packets_written += 1

    def _finish(self) -> None:
        """Write what is left, check that all is there, and give the file its name."""
        frames = self.frames_kept + self.frames_written
        if not frames:
            raise VideoError(f"no frame was written to {self.path}: the input had none")
        if not self._started:
            self._start()
        with self._writing():
            self._mux(self._picture.flush())
            if self._copier:
                self._copier.advance()
                self._copier.close()
            self._output.close()
            if self._packets_written != frames:
                raise VideoError(
                    f"{self.path} would lack pictures: {self._packets_written} were encoded of "
                    f"{frames}; try another --codec"
                )
            if not self.is_pipe:
                self._give_name()

    @contextmanager
    def _writing(self, telling: AbstractContextManager[None] | None = None) -> Iterator[None]:
        """Tell of what fails, unless `telling` does; and that who read a pipe is gone."""
        with telling or translated(f"can't write {self.path}"):
            try:
                yield
            except BrokenPipeError as error:
                if not self.is_pipe:
                    raise
                raise ReaderLeft("the program that read standard output is gone") from error

    def _give_name(self) -> None:
        """Let the file appear, when it is on the disk and not only on its way there."""
        assert self._growing is not None
        with self._growing:
            os.fsync(self._growing.fileno())
        if self._journal:
            self._note(self._part)
        self._growing = None  # whatever comes, the result stays
        with translated(f"can't write {self.path}; the result is in {self._part}"):
            publish(self._part, self.path, self._overwrite)
        flush_folder(self.path.parent)
        if self._journal:
            self._journal.remove()

    def _discard(self) -> None:
        """Remove what has been written."""
        if self._copier:
            self._copier.close()
        if self._journal:
            self._journal.close()
        with suppress(FFmpegError, OSError, ValueError):
            self._output.close()
        if self._growing:
            self._growing.close()
            self._part.unlink(missing_ok=True)


def _end_of(picture: VideoStream, part: FileSource) -> Fraction | None:
    """When the picture ends, in seconds of the output's clock; None if the input does not say."""
    ends = [] if part.end is None else [part.end]
    if picture.duration is not None:
        ends.append(((picture.start_time or 0) + picture.duration) * tick_length(picture))
    return min(ends) - part.shift if ends else None
