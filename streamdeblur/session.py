"""Opening ONNX Runtime on a device: quietly, and with the true reason where that fails."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import onnxruntime as ort

from streamdeblur.errors import ModelError
from streamdeblur.threads import usable_cores

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_INSTALL = "pip install 'streamdeblur[cuda]' brings what it needs, or take --device cpu"


def cpu_session(path: Path, threads: int | None) -> ort.InferenceSession:
    """Open a model on the processor, with one thread for each usable core by default.

    Raises:
        ModelError: the file is no ONNX model, or one that this ONNX Runtime cannot run.
    """
    return _session(path, threads, [CPU])


def cuda_session(path: Path, threads: int | None, gpu: int) -> ort.InferenceSession:
    """Open a model on an NVIDIA GPU.

    Raises:
        ModelError: CUDA cannot be had (names the missing library), or as for `cpu_session`.
    """
    if CUDA not in ort.get_available_providers():
        raise ModelError(f"cannot use CUDA: this onnxruntime was built without it; {_INSTALL}")
    options = {
        "device_id": gpu,
        "arena_extend_strategy": "kSameAsRequested",  # by default memory grows in doublings
        "use_tf32": 0,  # else fp32 would be fp32 in name only
    }
    with captured_output() as output:
        if hasattr(ort, "preload_dlls"):  # from 1.21: finds the libraries that pip installed
            ort.preload_dlls()
        session = _session(path, threads, [(CUDA, options), CPU])
    # A CUDA that fails becomes the processor without an exception; only the session knows.
    if session.get_providers()[0] != CUDA:
        raise ModelError(f"cannot use CUDA: {_missing(output)}; {_INSTALL}")
    return session


def has_nvidia_driver() -> bool:
    """Whether trying CUDA makes sense; asking is silent and takes no time."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


@contextmanager
def captured_output() -> Iterator[list[str]]:
    """Keep what native code prints off stdout and stderr; its lines, once the block is left.

    CUDA's part of ONNX Runtime prints to both, whatever its log level, and piped video on stdout
    would be corrupted by one such line. The redirection holds for the whole process.
    """
    lines: list[str] = []
    with tempfile.TemporaryFile("w+", errors="replace", buffering=1) as file:
        _flush()
        kept = {stream: os.dup(stream) for stream in (1, 2)}
        try:
            for stream in kept:
                os.dup2(file.fileno(), stream)
            # Python's own streams need not be these two, in a notebook for example.
            with redirect_stdout(file), redirect_stderr(file):
                yield lines
        finally:
            for stream, original in kept.items():
                os.dup2(original, stream)
                os.close(original)
            file.seek(0)
            lines += file.read().splitlines()


def reason(error: Exception) -> str:
    """ONNX Runtime's message on one line, without its codes."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    return text[:300].rstrip(" .")


def _session(path: Path, threads: int | None, providers: list[Any]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what matters arrives as an exception
    # By itself it would count the machine's cores, also those that this process may not use.
    options.intra_op_num_threads = threads or usable_cores()
    # Values too small for the eye must not slow the processor down.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    # Decoding and encoding need the same cores. On two of them, files came out as fast without
    # spinning for an eighth less processor time, and finer blocks of work gained 4 %.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.dynamic_block_base", "4")
    try:
        return ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
    except Exception as error:  # ORT's errors share no base of their own
        raise ModelError(f"cannot load {path}: {reason(error)}; is it an ONNX model?") from error


def _missing(lines: list[str]) -> str:
    """Which libraries ONNX Runtime missed, from what it printed."""
    pattern = r'([\w.-]+\.so[\w.]*): cannot open|"([\w.-]+\.dll)" which is missing'
    found = [linux or windows for line in lines for linux, windows in re.findall(pattern, line)]
    if not has_nvidia_driver():
        found.append("the NVIDIA driver")
    if found:
        return ", ".join(dict.fromkeys(found)) + " not found"  # each once, in order
    errors = [line.strip() for line in lines if "rror" in line]
    return errors[0][:300] if errors else "ONNX Runtime gave no reason"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # there is none, or it is closed
            stream.flush()
