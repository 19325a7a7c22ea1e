"""ONNX graphs of a few nodes that `bench.gpu_check` tries a device with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from streamdeblur.spec import FINITE_NAME, INPUT_NAME, OUTPUT_NAME, ModelSpec

ARITHMETIC = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}
"""ONNX' types, by precision."""


def of_two(operation: str, kind: int, side: int) -> bytes:
    """`operation` on two square matrices, `a` and `b`, to `c`."""
    ends = [helper.make_tensor_value_info(name, kind, [side, side]) for name in "abc"]
    node = helper.make_node(operation, ["a", "b"], ["c"])
    graph = helper.make_graph([node], operation, ends[:2], ends[2:])
    opset = helper.make_opsetid("", 18)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString())


def square(kind: int, side: int) -> NDArray[Any]:
    """A matrix of small numbers."""
    numbers = np.random.default_rng(0).random((side, side)) / side
    return numbers.astype(helper.tensor_dtype_to_np_dtype(kind))


def thousandfold(precision: str) -> bytes:
    """Frames times 1000 and divided again: 200,000 is no number of fp16, and it says so."""
    kind = ARITHMETIC[precision]
    shape = ["batch", "height", "width", 3]
    thousand = helper.make_tensor("thousand", kind, [], [1000.0])
    axes = helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])
    nodes = [
        helper.make_node("Cast", [INPUT_NAME], ["levels"], to=kind),
        helper.make_node("Mul", ["levels", "thousand"], ["large"]),
        helper.make_node("Div", ["large", "thousand"], ["again"]),
        helper.make_node("Cast", ["again"], [OUTPUT_NAME], to=TensorProto.UINT8),
        helper.make_node("Cast", ["large"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("IsInf", ["wide"], ["infinite"]),
        helper.make_node("Cast", ["infinite"], ["counted"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["counted", "axes"], ["any"], keepdims=0),
        helper.make_node("Cast", ["any"], ["flag"], to=TensorProto.BOOL),
        helper.make_node("Not", ["flag"], [FINITE_NAME]),
    ]
    ends = [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.UINT8, shape)]
    if precision == "fp16":
        ends.append(helper.make_tensor_value_info(FINITE_NAME, TensorProto.BOOL, ["batch"]))
    graph = helper.make_graph(
        nodes[:4] if precision == "fp32" else nodes,
        "thousandfold",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, shape)],
        ends,
        [thousand, axes] if precision == "fp16" else [thousand],
    )
    opset = helper.make_opsetid("", 20)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    spec = ModelSpec(name="net", precision=precision, receptive_field=1, twin="net.onnx")
    helper.set_model_props(made, spec.to_metadata())
    return bytes(made.SerializeToString())
