"""The network, ready to run: what is known of its model, and a device that runs it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamdeblur.errors import ModelError
from streamdeblur.frames import Frame
from streamdeblur.network import catalogue
from streamdeblur.network.binding import BoundSession, Tensor
from streamdeblur.network.catalogue import DEFAULT_MODEL, ModelFiles
from streamdeblur.network.choice import settings_for
from streamdeblur.network.devices import CPU, OPENVINO, TENSORRT
from streamdeblur.network.engines import Engines, load_tensorrt, meanwhile_setting
from streamdeblur.network.ports import Images, Ports
from streamdeblur.network.session import Setting, captured_output, open_session, reason
from streamdeblur.network.tiling import RunFailed, Tile, Tiling, need_of
from streamdeblur.network.views import VIEWS, averaged
from streamdeblur.spec import ModelSpec
from streamdeblur.threads import spread, turnstile

# Sides, in pixels, that a network made elsewhere may want its pictures to be multiples of.
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)
_MOST_PIXELS_OF_TWO = 4096 * 2304  # frames that are done at the same time
_LEAST_SIDE = 64  # of the pictures that find it out: on fewer, padding inside may fail by itself


class Deblurrer:
    """Removes motion blur from pictures. Made by `Deblurrer.load`.

    Safe to call from several threads at the same time.
    """

    spec: ModelSpec
    """Facts of the model; guessed where its file holds none."""
    notices: tuple[str, ...]
    """What a person should know before the work starts; one line each."""
    rescued: int
    """Pictures that overflowed in fp16 and were done again in fp32."""

    def __init__(
        self,
        files: ModelFiles,
        setting: Setting,
        *notices: str,
        tile: Tile = "auto",
        views: int = 1,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        path = files.path(setting.precision)
        if path is None:
            raise ModelError(files.complaint(setting.precision))
        self._files, self._setting, self._path, self._say = files, setting, path, say
        self._views = views
        self._twin: Deblurrer | None = None
        self._turnstile = turnstile()
        self.rescued = 0
        self._open()
        self.spec = files.spec(setting.precision)
        is_known = files.knows(setting.precision)
        if not is_known and not self._ports.takes_bytes:
            self.spec = replace(self.spec, multiple_of=self._multiple())
        self.notices = notices if is_known else (*notices, self._foreign_notice())
        # One small picture: a model that changes sizes, or a GPU that lacks a library, fails
        # here and not after the output was begun.
        self._whole(np.zeros((1, 32, 64, 3), np.uint8))
        is_measured = setting.device.memory == "cpu" and tile == "auto"
        need = need_of(self._whole) if is_measured else None
        self._tiling = Tiling(self.spec, tile=tile, need=need, say=say)
        self.rescued = 0  # of a person's pictures

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        gpu: int = 0,
        tile: Tile = "auto",
        views: int = 1,
        say: Callable[[str], None] = lambda line: None,
    ) -> Deblurrer:
        """Make a network ready to run.

        Args:
            model: name of a bundled model, or an ONNX file.
            device: cpu, cuda, tensorrt, openvino or another provider of this ONNX Runtime;
                `auto` takes what `--doctor --benchmark` found to be quickest, and before that an
                NVIDIA GPU if it truly works, OpenVINO if it computes in bf16, and else the
                processor.
            precision: fp32, fp16, bf16 or int8; `auto` takes a lower one than fp32 only if the
                model's file says that its loss was accepted.
            threads: on the processor; None for one on each core that this process may use.
            gpu: which of the GPUs, from 0.
            tile: side in pixels of the tiles in which large pictures are done; `auto` cuts what
                does not fit into the memory, `off` nothing.
            views: how many mirrored views of each picture are done and averaged, 1, 2 or 4: a
                little better each time, and so many times the work.
            say: told while the work goes on what a person should know: that pictures are cut,
                that another engine takes over, that fp16 was not enough.

        Raises:
            ModelError: there is no such model, it does not fit, or the device cannot be had.
            ValueError: there cannot be so many views.
        """
        if views not in VIEWS:
            raise ValueError(f"views must be one of {VIEWS}, not {views}")
        files = catalogue.find(model)
        settings = settings_for(files, device=device, precision=precision, threads=threads, gpu=gpu)
        notices: list[str] = []
        for setting in settings:
            # What a GPU's libraries print when they first run must not meet video on stdout.
            is_silent = setting.device.provider in (CPU, OPENVINO)
            try:
                with nullcontext() if is_silent else captured_output():
                    return cls(files, setting, *notices, tile=tile, views=views, say=say)
            except ModelError as error:
                if setting is settings[-1]:
                    raise
                notices.append(f"not on {setting.device.name}: {error}")
        raise AssertionError("there is always the processor")

    @property
    def provider(self) -> str:
        """The ONNX Runtime provider that runs it: asked of the session, not wished for."""
        has_engine = isinstance(self._run, Engines) and self._run.is_ready
        return TENSORRT if has_engine else self._provider

    @property
    def path(self) -> Path:
        """The file that the network was read from."""
        return self._path

    @property
    def precision(self) -> str:
        """Of the arithmetic inside the network: fp32, fp16, bf16 or int8."""
        is_meanwhile = self.provider != self._setting.device.provider  # of TensorRT, on CUDA
        return self._meanwhile if is_meanwhile else self._setting.precision

    @property
    def running(self) -> str:
        """What really runs, in words."""
        mean = f", the mean of {self._views} views" if self._views > 1 else ""
        return f"model {self.spec.name}, {self.precision}, on {self.provider}{mean}"

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Deblur a picture, or several at once.

        Args:
            images: RGB, uint8, shape (H, W, 3) or (N, H, W, 3), any size from 1x1 up.

        Returns:
            The sharp pictures: the same type and shape.

        Raises:
            ModelError: the network failed, for example for want of memory.
            ValueError: `images` has another type or shape.
        """
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[-1] != 3:
            raise ValueError(
                f"images must be uint8 (N, H, W, 3) or (H, W, 3), not {images.dtype} {images.shape}"
            )
        if images.ndim == 3:
            single: NDArray[np.uint8] = self(images[np.newaxis])[0]
            return single
        return averaged(images, lambda view: self._tiling(view, self._whole), self._views)

    def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield as many frames, in the same order, each with its `sharp` set.

        Raises:
            ModelError: as for a call.
        """
        remaining = iter(frames)
        first = next(remaining, None)
        if first is None:
            return
        # At every layer a processor's cores wait for the last of them, longest where decoders and
        # encoders need them too: a second frame fills the gaps. Live frames do not wait for it, and
        # of the largest there is no memory for two.
        is_large = first.picture.width * first.picture.height > _MOST_PIXELS_OF_TWO
        is_alone = first.captured is not None or is_large
        together = 2 if self.provider in (CPU, OPENVINO) and not is_alone else 1
        if self.provider == OPENVINO and together != self._setting.together:
            # It shares its threads out beforehand: two pictures at a time took half the time.
            self._setting = replace(self._setting, together=together)
            self._open()
        yield from spread(self._sharpened, itertools.chain((first,), remaining), together)

    def _sharpened(self, frame: Frame) -> Frame:
        frame.sharp = self(frame.image)
        return frame

    def warm_up(self, image: NDArray[np.uint8]) -> None:
        """Run until the device is prepared for pictures like this one: buffers, graphs, engines.

        Raises:
            ModelError: as for a call.
        """
        for _ in range(3):  # as it is, into buffers, and again
            self(image)
        while isinstance(self._run, Engines) and self._run.is_busy:
            self(image)

    def _open(self) -> None:
        """Open a session; that of TensorRT is CUDA's until there is an engine."""
        is_engine = self._setting.device.provider == TENSORRT
        if is_engine:
            load_tensorrt()  # before CUDA is blamed for what it lacks
        setting = meanwhile_setting(self._setting) if is_engine else self._setting
        self._meanwhile = setting.precision
        path = self._files.path(setting.precision)
        if path is None:  # CUDA has no int8
            raise ModelError(self._files.complaint(setting.precision))
        device = setting.device
        session = open_session(path, setting)
        self._ports = Ports.of(session, path)
        self._provider: str = session.get_providers()[0]
        self._run: Callable[[Tensor], list[Tensor]]
        self._run = BoundSession(session, device.memory, setting.gpu)
        if is_engine:
            self._run = Engines(self._path, self._setting, self._run, self._say)

    def _whole(self, images: Images) -> Images:
        """The answer to pictures that are not cut."""
        if self._ports.takes_bytes:
            return self._answer(images)
        # One by one: the batch of a model made elsewhere is often fixed at 1.
        return np.concatenate([self._answer(image[np.newaxis]) for image in images])

    def _answer(self, images: Images) -> Images:
        _, height, width, _ = images.shape
        tensor = self._ports.tensor(images, self.spec.multiple_of)
        try:
            answers = self._run(tensor)
        except Exception as error:  # ORT's errors share no base of their own
            shape = "x".join(map(str, tensor.shape))
            raise RunFailed(f"{self._path} failed on a {shape} tensor: {reason(error)}") from error
        finite = self._ports.finite(answers)
        sharp = self._ports.images(answers[0], tensor, height, width)
        if sharp.shape != images.shape:
            raise ModelError(
                f"{self._path} answers a picture of {_size(images)} with one of {_size(sharp)}:"
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
        why = f"{self._path} answers with numbers that are none (NaN or infinity)"
        if self.precision == "fp32":
            raise ModelError(why)
        if self._files.path("fp32") is None:
            raise ModelError(f"{why}, and {self._files.complaint('fp32')}")
        with self._turnstile:
            if self._twin is None:
                setting = replace(self._setting, precision="fp32")
                self._twin = Deblurrer(self._files, setting, tile="off")  # these are tiles already
                self._say(f"{self.precision} overflowed: such frames are done again in fp32")
            self.rescued += len(images)
        return self._twin._whole(images)

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
            tensor = self._ports.tensor(picture, 1)
            try:
                if self._run(tensor)[0].shape == tensor.shape:
                    return multiple
            except Exception as error:  # ORT's errors share no base of their own
                failure = error
        if failure is None:
            return 1  # it runs, but changes the size: whoever calls it says so
        raise ModelError(
            f"{self._path} runs on no usual size of picture: {reason(failure)}"
        ) from failure

    def _foreign_notice(self) -> str:
        if self._ports.takes_bytes:
            origin = "was not written by streamdeblur's export: its precision is a guess"
            return f"{self.spec.name} {origin}"
        multiple = self.spec.multiple_of
        padding = f"padded to multiples of {multiple} pixels" if multiple > 1 else "of any size"
        return f"{self.spec.name} was made elsewhere: fed RGB in 0..1, {padding}, as it accepts"


def _size(images: Images) -> str:
    return f"{images.shape[2]}x{images.shape[1]}"
