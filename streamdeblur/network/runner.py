"""A network opened on a device: whole pictures in, their answers out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from streamdeblur.errors import ModelError
from streamdeblur.network.binding import BoundSession, Tensor
from streamdeblur.network.catalogue import ModelFiles
from streamdeblur.network.devices import OPENVINO, TENSORRT
from streamdeblur.network.engines import Engines, load_tensorrt, meanwhile_setting
from streamdeblur.network.ports import Images, Ports
from streamdeblur.network.session import Setting, open_session, reason
from streamdeblur.network.tiling import RunFailed
from streamdeblur.threads import turnstile

# Sides, in pixels, that a network made elsewhere may want its pictures to be multiples of.
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)
_LEAST_SIDE = 64  # of the pictures that find it out: on fewer, padding inside may fail by itself


class Runner:
    """Answers pictures; those that overflow in fp16 once more in fp32.

    Safe to call from several threads.

    Args:
        files: of the network.
        setting: what it is to run on.
        say: told when another engine takes over, and when fp16 was not enough.

    Raises:
        ModelError: the device cannot be had, or the network does not fit.
    """

    def __init__(
        self, files: ModelFiles, setting: Setting, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._files, self._say = files, say
        self.path = files.needed(setting.precision)
        """The file that the network was read from."""
        self._twin: Runner | None = None
        self._turnstile = turnstile()
        self.rescued = 0
        """Pictures that were done again in fp32."""
        self._open(setting)
        self.spec = files.spec(setting.precision)
        """Facts of the model; guessed where its file holds none."""
        if not files.knows(setting.precision) and not self.ports.takes_bytes:
            self.spec = replace(self.spec, multiple_of=self._multiple())
        # One small picture: a model that changes sizes, or a GPU that lacks a library, fails
        # here and not after the output was begun.
        self(np.zeros((1, 32, 64, 3), np.uint8))

    @property
    def current(self) -> Setting:
        """What really runs; for TensorRT that is CUDA until there is an engine."""
        is_ready = self._engines is not None and self._engines.is_ready
        return self._setting if is_ready else self._opened

    @property
    def is_changing(self) -> bool:
        """Whether an engine is being made that will take over."""
        return self._engines is not None and self._engines.is_busy

    def share(self, together: int) -> None:
        """Prepare for so many pictures at the same time."""
        if self._setting.device.provider == OPENVINO and together != self._setting.together:
            # It shares its threads out beforehand: two pictures at a time took half the time.
            self._open(replace(self._setting, together=together))

    def __call__(self, images: Images) -> Images:
        """The answers to pictures, shape (N, H, W, 3), which are not cut.

        Raises:
            RunFailed: the runtime failed, for example for want of memory.
            ModelError: the answer is of another size, or holds no numbers.
        """
        if self.ports.takes_bytes:
            return self._answer(images)
        # One by one: the batch of a model made elsewhere is often fixed at 1.
        return np.concatenate([self._answer(image[np.newaxis]) for image in images])

    def _open(self, setting: Setting) -> None:
        """Open a session; that of TensorRT is CUDA's until there is an engine."""
        self._setting = self._opened = setting
        is_engine = setting.device.provider == TENSORRT
        if is_engine:
            load_tensorrt()  # before CUDA is blamed for what it lacks
            self._opened = meanwhile_setting(setting)
        path = self._files.needed(self._opened.precision)  # CUDA has no int8
        session = open_session(path, self._opened)
        self.ports = Ports.of(session, path)
        """What the network takes and gives."""
        self._run: Callable[[Tensor], list[Tensor]]
        self._run = BoundSession(session, self._opened.device.memory, setting.gpu)
        self._engines: Engines | None = None
        if is_engine:
            self._run = self._engines = Engines(self.path, setting, self._run, self._say)

    def _answer(self, images: Images) -> Images:
        _, height, width, _ = images.shape
        tensor = self.ports.tensor(images, self.spec.multiple_of)
        try:
            answers = self._run(tensor)
        except Exception as error:  # ORT's errors share no base of their own
            shape = "x".join(map(str, tensor.shape))
            raise RunFailed(f"{self.path} failed on a {shape} tensor: {reason(error)}") from error
        finite = self.ports.finite(answers)
        sharp = self.ports.images(answers[0], tensor, height, width)
        if sharp.shape != images.shape:
            raise ModelError(
                f"{self.path} answers a picture of {_size(images)} with one of {_size(sharp)}:"
                " only models that keep the size can be used"
            )
        if not finite.all():
            sharp[~finite] = self._rescue(images[~finite])
        return sharp

    def _rescue(self, images: Images) -> Images:
        """Do again in fp32 what overflowed in fp16.

        Raises:
            ModelError: it was fp32 already, or there is no file in fp32.
        """
        why = f"{self.path} answers with numbers that are none (NaN or infinity)"
        precision = self.current.precision
        if precision == "fp32":
            raise ModelError(why)
        if self._files.path("fp32") is None:
            raise ModelError(f"{why}, and {self._files.complaint('fp32')}")
        with self._turnstile:
            if self._twin is None:
                self._twin = Runner(self._files, replace(self._setting, precision="fp32"))
                self._say(f"{precision} overflowed: such frames are done again in fp32")
            self.rescued += len(images)
        return self._twin(images)

    def _multiple(self) -> int:
        """The least number that the sides of pictures must be multiples of, found by trying.

        Raises:
            ModelError: none of those that are usual will do.
        """
        failure = None
        for multiple in _MULTIPLES:
            # Odd multiples: a size that only twice the number divides must not do by chance.
            odd = -(-_LEAST_SIDE // multiple) | 1
            picture = np.zeros((1, multiple * odd, multiple * (odd + 2), 3), np.uint8)
            tensor = self.ports.tensor(picture, 1)
            try:
                if self._run(tensor)[0].shape == tensor.shape:
                    return multiple
            except Exception as error:  # ORT's errors share no base of their own
                failure = error
        if failure is None:
            return 1  # it runs, but changes the size: whoever calls it says so
        raise ModelError(
            f"{self.path} runs on no usual size of picture: {reason(failure)}"
        ) from failure


def _size(images: Images) -> str:
    return f"{images.shape[2]}x{images.shape[1]}"
