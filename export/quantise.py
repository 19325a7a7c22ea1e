"""int8 for processors: which layers, calibrated on real frames, held to what they may cost.

Activations are QUInt8: on x86 ONNX Runtime has fast kernels for unsigned ones alone, signed ones
take twelve times as long. Weights are QInt8, with a scale for each output channel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    TensorsData,
    create_calibrator,
)

from export.gate import LIMIT, Restore, Verdict
from export.verify import Frames, in_onnxruntime
from streamdeblur.errors import ModelError, VideoError
from streamdeblur.sources import FileSource
from streamdeblur.spec import INPUT_NAME
from train.pictures import find_pictures, read_picture

SAMPLES = Path(__file__).parent.parent / "samples"
_FRAMES = 16
"""To calibrate on."""
_AIM = LIMIT / 10
"""Share of the gain that may be given up before more layers stay in float. Pictures that nobody
measured on shall stay within the limit as well, and lost up to three times as much; and with 1.4 %
given up a white picture lost three levels in places."""
_FOLLOWING = ("LeakyRelu", "Relu", "Add", "DepthToSpace")
"""What ONNX Runtime does on bytes as well, if they come out of a convolution in int8."""
_LARGEST_KERNEL = 3
_CLIPS = (1.0, 0.85, 0.7, 0.55, 0.4)
"""Shares of an activation's range to choose from; what lies beyond is cut off."""
_TRIED = 4
"""Frames that such choices are made on."""


def quantise(
    model: bytes, frames: Sequence[Frames], judge: Callable[[Restore], Verdict]
) -> tuple[onnx.ModelProto, Verdict, list[str]]:
    """The fastest int8 file that keeps the gain.

    Layers go back to float, the one that changes the frames most first, until little is given up;
    then those of them that were not what cost return to int8.

    Args:
        model: in fp32.
        frames: to calibrate on, each (1, H, W, 3).
        judge: as of `export.gate.Gate`.

    Returns:
        the model, what it costs, and the names of the weights that stayed in float for that.

    Raises:
        ModelError: it gives up more than `LIMIT` with half of the layers in float.
    """
    quantiser = Quantiser(model, frames)
    candidates = quantiser.candidates
    if not candidates:
        raise ModelError("the network has no layer that int8 pays for")

    def tried(in_float: list[str]) -> tuple[onnx.ModelProto, Verdict]:
        quantised = quantiser.quantised([name for name in candidates if name not in in_float])
        return quantised, judge(restorer(quantised.SerializeToString()))

    worst = sorted(candidates, key=lambda name: quantiser.error([name]), reverse=True)
    for count in range(len(worst) // 2 + 1):
        in_float = worst[:count]
        quantised, verdict = tried(in_float)
        if verdict.share <= _AIM:
            break
    if not verdict.accepted:
        raise ModelError(f"int8 loses too much, with {count} layers in float: {verdict}")
    for name in in_float[-2::-1]:  # the last one was needed, as the try before it told
        fewer = [other for other in in_float if other != name]
        found = tried(fewer)
        if found[1].share <= _AIM:
            in_float, (quantised, verdict) = fewer, found
    return quantised, verdict, [quantiser.weight(name) for name in in_float]


def calibration_frames(source: Path | None, count: int = _FRAMES) -> list[Frames]:
    """About `count` frames, evenly chosen, each (1, H, W, 3).

    Args:
        source: a folder of pictures, or a video; None for the blurred clips of samples/.
        count: how many.

    Raises:
        FileNotFoundError: there is nothing at `source`, or a folder without pictures.
        ValueError: a picture is broken.
        VideoError: the video cannot be read.
    """
    if source is None:
        clips = sorted(clip for clip in SAMPLES.glob("*.mp4") if "-sharp" not in clip.name)
        return [frame for clip in clips for frame in _of_video(clip, count // len(clips))]
    if source.is_file():
        return _of_video(source, count)
    pictures = find_pictures(source)
    return [read_picture(path)[np.newaxis] for path in pictures[:: -(-len(pictures) // count)]]


def _of_video(path: Path, count: int) -> list[Frames]:
    """Read twice: how many frames there are shows at the end alone."""
    with FileSource(path) as source:
        length = sum(1 for _ in source)
    if not length:
        raise VideoError(f"{path} has no frames to calibrate on")
    with FileSource(path) as source:
        chosen = islice(source, 0, None, -(-length // count))
        return [frame.image[np.newaxis] for frame in chosen]


class Quantiser:
    """A model in fp32 and the ranges of its activations: int8 files can be made of it."""

    def __init__(self, model: bytes, frames: Sequence[Frames]) -> None:
        """Calibrate `model` on `frames`, each (1, H, W, 3).

        Rare peaks make a range wide and its 256 steps coarse: of several shares of the ranges
        found, the one that changes the frames least is taken.
        """
        self._model = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
        sharpen = restorer(model)
        self._tried = [(each[0], sharpen(each[0])) for each in frames[:: -(-len(frames) // _TRIED)]]
        whole = self._calibrated(frames)
        errors = {}
        for clip in _CLIPS:
            self._ranges = _clipped(whole, clip)
            errors[clip] = self.error(self.candidates)
        self._ranges = _clipped(whole, min(errors, key=errors.__getitem__))

    def _calibrated(self, frames: Sequence[Frames]) -> TensorsData:
        """Between which numbers each activation stays."""
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder, "plain.onnx")
            onnx.save(self._model, plain)
            calibrator = create_calibrator(
                plain, ["Conv", *_FOLLOWING], str(Path(folder, "augmented.onnx"))
            )
            calibrator.collect_data(_Reader(frames))
            return calibrator.compute_data()

    @property
    def candidates(self) -> list[str]:
        """Names of the convolutions that int8 pays for, in the order of the computation.

        Not the last one, whose sums are the correction itself; not kernels above 3x3, which
        gather many bytes for few channels; not the MLP of an attention, applied to one place.
        """
        pooled = _after_pooling(self._model)
        convolutions = [node for node in self._model.graph.node if node.op_type == "Conv"]
        return [
            node.name
            for node in convolutions[:-1]
            if max(_kernel(node)) <= _LARGEST_KERNEL and node.name not in pooled
        ]

    def quantised(self, convolutions: Collection[str]) -> onnx.ModelProto:
        """The model with these in int8, and with the activations and sums that follow them."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=True,  # 7 bits: processors without VNNI add two products in 16
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[*convolutions, *self._following(convolutions)],
            nodes_to_exclude=[],
            op_types_to_quantize=["Conv", *_FOLLOWING],
            extra_options={},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        quantised: onnx.ModelProto = quantizer.model.model
        return quantised

    def error(self, convolutions: Collection[str]) -> float:
        """Mean squared error, in grey levels squared, if these are in int8."""
        sharpen = restorer(self.quantised(convolutions).SerializeToString())
        return fmean(
            float(np.square(sharpen(picture) - sharp.astype(np.float32)).mean())
            for picture, sharp in self._tried
        )

    def weight(self, convolution: str) -> str:
        """Name of its weights, which says more to people than the node's."""
        node = next(node for node in self._model.graph.node if node.name == convolution)
        return str(node.input[1]).removeprefix("correct.").removesuffix(".weight")

    def _following(self, convolutions: Collection[str]) -> list[str]:
        quantised: set[str] = set()
        names = []
        for node in self._model.graph.node:  # in the order of the computation
            if node.op_type in _FOLLOWING and quantised.intersection(node.input):
                names.append(node.name)
            elif node.name not in convolutions:
                continue
            quantised.update(node.output)
        return names


def restorer(model: bytes) -> Restore:
    """What restores single pictures by a model file's bytes, on the processor."""
    run = in_onnxruntime(model)
    return lambda picture: run(picture[np.newaxis])[0][0]


def _clipped(ranges: TensorsData, clip: float) -> TensorsData:
    """That share of every range."""
    ends = {name: each.range_value for name, each in ranges.items()}
    return TensorsData(
        CalibrationMethod.MinMax,
        {name: (clip * lowest, clip * highest) for name, (lowest, highest) in ends.items()},
    )


def _after_pooling(model: onnx.ModelProto) -> set[str]:
    """Names of what works on the whole picture as one place."""
    pooled: set[str] = set()
    names = set()
    for node in model.graph.node:
        if node.op_type in ("GlobalAveragePool", "GlobalMaxPool") or (
            node.op_type in ("Conv", *_FOLLOWING) and pooled.intersection(node.input)
        ):
            pooled.update(node.output)
            names.add(node.name)
    return names


def _kernel(convolution: onnx.NodeProto) -> list[int]:
    """Height and width, in pixels."""
    return next(list(item.ints) for item in convolution.attribute if item.name == "kernel_shape")


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # ships no types
    """Frames, as ONNX Runtime's calibration asks for them."""

    def __init__(self, frames: Iterable[Frames]) -> None:
        self._left = iter(frames)

    def get_next(self) -> dict[str, Frames] | None:
        """The next, or None."""
        frame = next(self._left, None)
        return None if frame is None else {INPUT_NAME: frame}
