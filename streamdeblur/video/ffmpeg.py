"""FFmpeg's errors as ours, with FFmpeg's own words and never on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import av
from av.container import InputContainer
from av.error import ExitError, FFmpegError
from av.video.stream import VideoStream

from streamdeblur.errors import VideoError

# While errors are collected, messages of other threads would reach Python's last-resort handler,
# which prints them.
logging.getLogger("libav").addHandler(logging.NullHandler())


@contextmanager
def explained(
    failure: str, advice: str = "", hide: Callable[[str], str] = lambda text: text
) -> Iterator[None]:
    """Turn what PyAV raises into a VideoError: `failure: FFmpeg's words; advice`.

    FFmpeg's words, which repeat addresses with their passwords, pass through `hide`.

    For opening and closing only: collecting messages in the middle of a stream is slow and can
    stall decoder threads.
    """
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages:
            yield
    except (FFmpegError, OSError, ValueError) as error:
        words = hide(", ".join([reason(error), *_said(messages)]))
        raise VideoError(f"{failure}: {words}{advice and '; ' + advice}") from error
    finally:
        av.logging.set_level(before)


@contextmanager
def translated(failure: str) -> Iterator[None]:
    """Turn what PyAV raises into a VideoError without FFmpeg's messages: for every frame."""
    try:
        yield
    except (FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{failure}: {reason(error)}") from error


def close_reader(container: InputContainer, stream: VideoStream) -> None:
    """Close a file or camera after the threads of its decoder have come to rest.

    A thread that meets damage tells Python, at whatever log level, and waits for the interpreter;
    PyAV does not let go of that while it frees the decoder and waits for the thread, for good.
    Flushing waits for the threads too, but lets the interpreter run.
    """
    if stream.codec_context is not None:
        stream.codec_context.flush_buffers()
    container.close()


def described(container: InputContainer) -> str:
    """FFmpeg's description of a file, as its tools print it in the most talkative mode.

    To be asked before decoding begins, or when it has ended: FFmpeg is made talkative for it, and a
    decoder's threads would each have to wait for the interpreter with what they say.
    """
    before = av.logging.get_level()
    av.logging.set_level(av.logging.VERBOSE)
    av.logging.set_libav_level(av.logging.VERBOSE)
    try:
        return str(cast(Any, container).dumps_format())  # which PyAV's stubs leave out
    finally:
        av.logging.set_libav_level(av.logging.INFO)  # where FFmpeg begins
        av.logging.set_level(before)


def reason(error: Exception) -> str:
    """Why a call into PyAV failed, in a few words on one line."""
    if isinstance(error, ExitError):  # PyAV's way to end what takes too long
        return "no answer in time"
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())


def _said(messages: list[tuple[int, str, str]]) -> list[str]:
    """FFmpeg's last two messages of weight, which name the cause more often than its codes do."""
    lines = [" ".join(text.split()) for level, _, text in messages if level <= av.logging.ERROR]
    return [f"“{line}”" for line in list(dict.fromkeys(lines))[-2:]]
