"""What a model takes and gives, and pictures in that form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from streamdeblur.errors import ModelError
from streamdeblur.spec import FINITE_NAME

Images = NDArray[np.uint8]
"""RGB, shape (N, H, W, 3)."""

_TYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}


@dataclass(frozen=True, slots=True)
class Ports:
    """The one input and the first output of a model that sharpens pictures."""

    dtype: type[Any]
    """uint8: RGB, (N, H, W, 3), as our own exports have it. A float: RGB in 0..1, (N, 3, H, W)."""
    tells_finite: bool
    """A second output says of each picture whether all of its numbers were finite."""

    @classmethod
    def of(cls, session: ort.InferenceSession, path: Path) -> Ports:
        """The ports of a model.

        Raises:
            ModelError: it is not one that we can feed and understand.
        """
        inputs, outputs = session.get_inputs(), session.get_outputs()
        tells_finite = [end.name for end in outputs[1:]] == [FINITE_NAME]
        complaint = "takes or gives another number of tensors"
        if len(inputs) == 1 and (len(outputs) == 1 or tells_finite):
            complaint = _complaint(inputs[0], outputs[0])
            if not complaint:
                return cls(_TYPES[inputs[0].type], tells_finite)
        takes, gives = (", ".join(map(_described, ends)) for ends in (inputs, outputs))
        raise ModelError(
            f"{path} takes {takes} and gives {gives}, but {complaint}; it should take and give"
            " either uint8 [batch, height, width, 3], as `python -m export` writes it, or float"
            " [batch, 3, height, width]"
        )

    @property
    def takes_bytes(self) -> bool:
        """Whether pictures go in and out as bytes, of any size, as in our own exports."""
        return self.dtype is np.uint8

    def tensor(self, images: Images, multiple: int) -> NDArray[Any]:
        """What the model is given for `images`; floats are padded by their edge to `multiple`."""
        if self.takes_bytes:
            return np.ascontiguousarray(images)
        _, height, width, _ = images.shape
        border = ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0))
        padded = np.pad(images, border, mode="edge").transpose(0, 3, 1, 2)
        scaled: NDArray[Any] = np.ascontiguousarray(padded, self.dtype) / self.dtype(255)
        return scaled

    def images(self, answer: NDArray[Any], given: NDArray[Any], height: int, width: int) -> Images:
        """The pictures in what the model answered to the tensor `given`."""
        if self.takes_bytes:
            return answer
        answer = np.nan_to_num(answer)  # those pictures are told of by `finite`
        levels = np.rint(answer.clip(0, 1).astype(np.float32) * 255).astype(np.uint8)
        if levels.shape == given.shape:
            levels = levels[:, :, :height, :width]
        return np.ascontiguousarray(levels.transpose(0, 2, 3, 1))

    def finite(self, answers: list[NDArray[Any]]) -> NDArray[np.bool_]:
        """Of each picture, whether the model could compute it; a graph of bytes must tell."""
        sharp = answers[0]
        if self.tells_finite:
            told: NDArray[np.bool_] = answers[1].reshape(-1)
            return told
        if self.takes_bytes:
            return np.ones(len(sharp), np.bool_)
        within: NDArray[np.bool_] = np.isfinite(sharp).all(axis=tuple(range(1, sharp.ndim)))
        return within


def _complaint(taken: ort.NodeArg, given: ort.NodeArg) -> str:
    """What is wrong with an input and an output; nothing if we can use them."""
    if taken.type not in _TYPES or taken.type != given.type or len(taken.shape) != 4:
        return "these are no pictures"
    batch, *picture = taken.shape
    free = [size for size in picture if not isinstance(size, int)]
    is_bytes = taken.type == "tensor(uint8)"
    if is_bytes and picture[0] == 3 and picture[2] != 3:
        return "bytes must have their channels last"
    if not is_bytes and picture[2] == 3 and picture[0] != 3:
        return "floats must have their channels first"
    if 3 not in (picture[0], picture[2]):
        return "its pictures do not have three channels"
    if len(free) != 2:
        return "its pictures have a fixed size: export it with free height and width"
    if isinstance(batch, int) and (is_bytes or batch != 1):
        return f"its batch is fixed at {batch}"
    return ""


def _described(end: ort.NodeArg) -> str:
    kind = end.type.removeprefix("tensor(").removesuffix(")")
    return f"{kind} [{', '.join(map(str, end.shape))}]"
