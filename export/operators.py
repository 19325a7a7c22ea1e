"""Exact rewrites among ONNX operators, for what torch's exporter writes in a slower way."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

_GLOBAL = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}
_HEIGHT_AND_WIDTH = {2, 3}


def pool_globally(model: onnx.ModelProto) -> onnx.ModelProto:
    """Means and maxima over whole pictures (N, C, H, W) as pooling, on a copy.

    Pooling reads the layout that convolutions compute in; a reduction makes ONNX Runtime turn the
    picture back into rows and columns first.
    """
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    constants = {each.name: each for each in copied.graph.initializer}
    for node in copied.graph.node:
        if node.op_type not in _GLOBAL or len(node.input) != 2 or node.input[1] not in constants:
            continue
        axes = {int(axis) % 4 for axis in numpy_helper.to_array(constants[node.input[1]])}
        keeps = all(item.i for item in node.attribute if item.name == "keepdims")
        if axes == _HEIGHT_AND_WIDTH and keeps:
            node.op_type = _GLOBAL[node.op_type]
            del node.input[1], node.attribute[:]
    used = {name for node in copied.graph.node for name in node.input}
    kept = [constant for name, constant in constants.items() if name in used]
    del copied.graph.initializer[:]
    copied.graph.initializer.extend(kept)
    return copied
