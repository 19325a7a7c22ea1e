from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import onnxruntime as ort
from onnx import parser

from export.operators import pool_globally

MODEL = """
<ir_version: 8, opset_import: ["" : 18]>
tiny (float[n, 4, h, w] x) => (float[n, 4, 1, 1] mean, float[n, 4, 1, 1] peak, float[n, 1, h, w] z)
<int64[2] places = {2, 3}, int64[2] same = {-1, -2}, int64[1] channels = {1}>
{
  mean = ReduceMean<keepdims = 1>(x, places)
  peak = ReduceMax<keepdims = 1>(x, same)
  z = ReduceMax<keepdims = 1>(x, channels)
}
"""


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 16)])
def test_pooling_is_the_same_at_any_size(size):
    model = parser.parse_model(MODEL)
    before = model.SerializeToString()
    rewritten = pool_globally(model)
    assert model.SerializeToString() == before
    kinds = [node.op_type for node in rewritten.graph.node]
    assert kinds == ["GlobalAveragePool", "GlobalMaxPool", "ReduceMax"]
    assert [constant.name for constant in rewritten.graph.initializer] == ["channels"]
    onnx.checker.check_model(rewritten, full_check=True)
    x = np.random.default_rng(0).normal(size=(2, 4, *size)).astype(np.float32)
    for expected, answer in zip(run(model, x), run(rewritten, x), strict=True):
        np.testing.assert_allclose(answer, expected, atol=1e-6)


def test_other_reductions_stay():
    flat = parser.parse_model(
        MODEL.replace("[n, 4, 1, 1]", "[n, 4]").replace("keepdims = 1>(x, p", "keepdims = 0>(x, p")
    )
    kinds = [node.op_type for node in pool_globally(flat).graph.node]
    assert kinds == ["ReduceMean", "GlobalMaxPool", "ReduceMax"]


def run(model, x):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})
