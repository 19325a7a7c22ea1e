"""The network, ready to run: what is known of its model, and a device that runs it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamdeblur.errors import ModelError
from streamdeblur.frames import Frame
from streamdeblur.network import catalogue
from streamdeblur.network.catalogue import DEFAULT_MODEL, ModelFiles
from streamdeblur.network.choice import settings_for
from streamdeblur.network.devices import CPU, OPENVINO
from streamdeblur.network.runner import Runner
from streamdeblur.network.session import Setting, captured_output
from streamdeblur.network.tiling import Tile, Tiling, need_of
from streamdeblur.network.views import VIEWS, averaged
from streamdeblur.spec import ModelSpec
from streamdeblur.threads import spread

_MOST_PIXELS_OF_TWO = 4096 * 2304  # frames that are done at the same time


class Deblurrer:
    """Removes motion blur from pictures. Made by `Deblurrer.load`.

    Safe to call from several threads at the same time.
    """

    spec: ModelSpec
    """Facts of the model; guessed where its file holds none."""
    notices: tuple[str, ...]
    """What a person should know before the work starts; one line each."""

    def __init__(
        self,
        files: ModelFiles,
        setting: Setting,
        *notices: str,
        tile: Tile = "auto",
        views: int = 1,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._views = views
        self._runner = Runner(files, setting, say)
        self.spec = self._runner.spec
        is_known = files.knows(setting.precision)
        self.notices = notices if is_known else (*notices, _foreign_notice(self._runner))
        is_measured = setting.device.memory == "cpu" and tile == "auto"
        need = need_of(self._runner) if is_measured else None
        self._tiling = Tiling(self.spec, tile=tile, need=need, say=say)
        self._runner.rescued = 0  # of a person's pictures

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
        """The ONNX Runtime provider that runs it; its session was asked when it was opened."""
        return self._runner.current.device.provider

    @property
    def path(self) -> Path:
        """The file that the network was read from."""
        return self._runner.path

    @property
    def precision(self) -> str:
        """Of the arithmetic inside the network: fp32, fp16, bf16 or int8."""
        return self._runner.current.precision

    @property
    def rescued(self) -> int:
        """Pictures that overflowed in fp16 and were done again in fp32."""
        return self._runner.rescued

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
        return averaged(images, lambda view: self._tiling(view, self._runner), self._views)

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
        self._runner.share(together)
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
        while self._runner.is_changing:
            self(image)


def _foreign_notice(runner: Runner) -> str:
    name, multiple = runner.spec.name, runner.spec.multiple_of
    if runner.ports.takes_bytes:
        return f"{name} was not written by streamdeblur's export: its precision is a guess"
    padding = f"padded to multiples of {multiple} pixels" if multiple > 1 else "of any size"
    return f"{name} was made elsewhere: fed RGB in 0..1, {padding}, as it accepts"
