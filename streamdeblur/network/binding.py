"""Running a session with buffers that stay: allocated once for a shape, reused for each frame."""

from __future__ import annotations

import itertools
from collections import deque
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from streamdeblur.network import devices
from streamdeblur.network.devices import CUDA
from streamdeblur.threads import turnstile

Tensor = NDArray[Any]

_SHAPES = 4  # whose buffers are kept
_NO_GRAPH = "-1"  # ONNX Runtime's word for a run that is neither recorded nor replayed
_DTYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
}


class BoundSession:
    """Runs a session whose first output has its input's shape, and others one value a picture.

    A shape that comes for the first time is run as it is; from the second time on it has buffers
    where the device works, and on CUDA the work is recorded as a graph and replayed. Safe to call
    from several threads: on the processor each call has buffers of its own, on a GPU they take
    turns, since a graph replays into memory that other runs of the session use as well.

    Args:
        session: an open session with one input.
        memory: ONNX Runtime's name for where the buffers are to lie: cpu or cuda.
        gpu: which GPU they lie on.
    """

    def __init__(self, session: ort.InferenceSession, memory: str = "cpu", gpu: int = 0) -> None:
        self._session, self._memory, self._gpu = session, memory, gpu
        self._input = session.get_inputs()[0].name
        self.dtype = _DTYPES[session.get_inputs()[0].type]
        """Of the input."""
        self.captures = self._may_capture = _captures(session)
        """Whether repeated work is recorded as a CUDA graph."""
        self._graphs = itertools.count(1)
        self._idle: dict[tuple[int, ...], deque[_Buffers]] = {}
        self._turnstile = nullcontext() if memory == "cpu" else turnstile()

    def __call__(self, tensor: Tensor) -> list[Tensor]:
        """The outputs for `tensor`, which are the caller's own.

        Raises:
            Exception: whatever ONNX Runtime raises; its errors share no base of their own.
        """
        with self._turnstile:
            idle = self._idle.get(tensor.shape)
            if idle is None:
                answers = self._plain(tensor)
                self._expect(tensor.shape)
                return answers
            try:
                buffers = idle.pop()
            except IndexError:  # the first time, or other threads have them all
                buffers = self._allocated(tensor)
            try:
                answers = buffers.run(tensor)
            except Exception:
                if not self.captures:
                    raise
                self.captures = False  # CUDA cannot record this work
                return self._plain(tensor)
            idle.append(buffers)  # unless it failed
            return answers

    def _plain(self, tensor: Tensor) -> list[Tensor]:
        answers: list[Tensor] = self._session.run(
            None, {self._input: tensor}, self._options(_NO_GRAPH)
        )
        return answers

    def _expect(self, shape: tuple[int, ...]) -> None:
        """Keep buffers for that shape from now on, and forget those longest known."""
        self._idle.setdefault(shape, deque())
        for old in list(self._idle)[:-_SHAPES]:
            self._idle.pop(old, None)

    def _allocated(self, tensor: Tensor) -> _Buffers:
        binding = self._session.io_binding()
        answers = []
        for number, end in enumerate(self._session.get_outputs()):
            shape = tensor.shape[:1] if number else tensor.shape
            answers.append(self._value(shape, _DTYPES[end.type]))
            binding.bind_ortvalue_output(end.name, answers[-1])
        given = staging = None
        if self._memory != "cpu":
            given = self._value(tensor.shape, tensor.dtype)
            binding.bind_ortvalue_input(self._input, given)
            staging = pinned(tensor.shape, tensor.dtype, CUDA, self._gpu)
        options = self._options(str(next(self._graphs)))
        return _Buffers(self._session, self._input, binding, given, answers, staging, options)

    def _value(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, self._memory, self._gpu)

    def _options(self, graph: str) -> Any:
        if not self._may_capture:
            return None
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", graph if self.captures else _NO_GRAPH)
        return options


class _Buffers:
    """Memory for one shape, bound to a session: of the outputs, and on a GPU of the input too."""

    def __init__(
        self,
        session: ort.InferenceSession,
        name: str,
        binding: Any,
        given: Any,
        answers: list[Any],
        staging: Any,
        options: Any,
    ) -> None:
        self._session, self._name = session, name
        self._binding, self._options = binding, options
        self._given, self._answers, self._staging = given, answers, staging

    def run(self, tensor: Tensor) -> list[Tensor]:
        if self._given is None:
            # Bound anew each time: a provider with memory of its own copies when it is bound.
            self._binding.bind_cpu_input(self._name, tensor)
        elif self._staging is None:
            self._given.update_inplace(tensor)
        else:  # pages that cannot be moved travel to a GPU faster
            page = self._staging.numpy()
            np.copyto(page, tensor)
            self._given.update_inplace(page)
        self._session.run_with_iobinding(self._binding, self._options)
        return [_own(answer) for answer in self._answers]


def _own(value: Any) -> Tensor:
    """The content, copied: from a GPU ONNX Runtime does so, on the processor it gives a view."""
    content: Tensor = value.numpy()
    return content.copy() if value.device_name().lower() == "cpu" else content


def pinned(shape: tuple[int, ...], dtype: Any, provider: str, index: int) -> Any:
    """A tensor in memory of the processor that a device reaches by itself, if ONNX Runtime can.

    None if it cannot: versions before 1.27, and providers that offer none.
    """
    with suppress(Exception):  # of many kinds and versions; ordinary memory does as well
        offers = [
            memory
            for each in devices.plugin_devices(provider)
            if (memory := each.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)) is not None
        ]
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, memory_info=offers[index])
    return None


def _captures(session: ort.InferenceSession) -> bool:
    options = session.get_provider_options().get(CUDA, {})
    return str(options.get("enable_cuda_graph", "0")) in ("1", "True", "true")
