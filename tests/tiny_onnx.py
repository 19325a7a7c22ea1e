"""ONNX models of one node, written byte by byte: the runtime's tests need no onnx package.

An ONNX file is a protocol buffer: a sequence of fields, each a varint `number << 3 | kind`
followed by a varint (kind 0) or by a length and as many bytes (kind 2). Nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamdeblur.spec import FINITE_NAME, INPUT_NAME, OUTPUT_NAME, ModelSpec

FLOAT, UINT8, INT64, BOOL, FLOAT16 = 1, 2, 7, 9, 10  # onnx.TensorProto.DataType

Dims = Sequence[int | str]
NHWC: Dims = ("batch", "height", "width", 3)
NCHW: Dims = ("batch", 3, "height", "width")
OURS = ModelSpec(name="tiny", receptive_field=1).to_metadata()


def identity() -> bytes:
    """One of ours that leaves every frame as it is."""
    return model("Identity", metadata=OURS)


def invert() -> bytes:
    """One of ours that turns x into 255 - x: shows that the network was really asked."""
    return model("BitwiseNot", metadata=OURS)


def without_metadata() -> bytes:
    """Fits the contract, but was not written by our exporter."""
    return model("BitwiseNot")


def foreign(operation: str = "Identity", element: int = FLOAT, dims: Dims = NCHW) -> bytes:
    """The usual export of a restoration network: float NCHW in [0, 1]."""
    return model(operation, element, dims, names=("input", "output"))


def overflowing(metadata: Mapping[str, str]) -> bytes:
    """Leaves frames as they are, but says of those with a 0 that it failed, as fp16 may.

    The flag of each picture is its least sample, as a truth value.
    """
    levels = _node("Cast", "frames", "levels", _field(1, "to") + _field(3, FLOAT) + _kind(2))
    axes = b"".join(_field(8, axis) for axis in (1, 2, 3))
    least = _node("ReduceMin", "levels", "least", _field(1, "axes") + axes + _kind(7),
                  _field(1, "keepdims") + _field(3, 0) + _kind(2))  # fmt: skip
    flag = _node("Cast", "least", FINITE_NAME, _field(1, "to") + _field(3, BOOL) + _kind(2))
    ports = (
        _field(11, _tensor(INPUT_NAME, UINT8, NHWC))
        + _field(12, _tensor(OUTPUT_NAME, UINT8, NHWC))
        + _field(12, _tensor(FINITE_NAME, BOOL, ("batch",)))
    )
    nodes = (_node("Identity", INPUT_NAME, OUTPUT_NAME), levels, least, flag)
    return _file(b"".join(_field(1, node) for node in nodes) + _field(2, "overflowing") + ports,
                 metadata, opset=13)  # fmt: skip


def language_model() -> bytes:
    """A valid model that takes no pictures."""
    return model("Identity", INT64, ("batch", "tokens"), names=("input_ids", "logits"))


def external_weight(location: str) -> bytes:
    """One of ours that combines every sample, by exclusive or, with a byte in another file."""
    place = {"location": location, "offset": "0", "length": "1"}
    weight = (
        _field(1, 1)  # dims
        + _field(2, UINT8)
        + _field(8, "weight")
        + b"".join(_field(13, _field(1, key) + _field(2, text)) for key, text in place.items())
        + _field(14, 1)  # data_location: external
    )
    return model("BitwiseXor", metadata=OURS, weight=weight)


def model(
    operation: str,
    element: int = UINT8,
    dims: Dims = NHWC,
    *,
    output_dims: Dims | None = None,
    names: tuple[str, str] = (INPUT_NAME, OUTPUT_NAME),
    metadata: Mapping[str, str] | None = None,
    weight: bytes = b"",
) -> bytes:
    """A whole ONNX file: `operation`, which takes and gives one tensor, and may have a weight."""
    given = (names[0], "weight") if weight else names[0]
    graph = (
        _field(1, _node(operation, given, names[1]))
        + _field(2, operation)
        + (_field(5, weight) if weight else b"")
        + _field(11, _tensor(names[0], element, dims))
        + _field(12, _tensor(names[1], element, output_dims or dims))
    )
    return _file(graph, metadata or {})


def _file(graph: bytes, metadata: Mapping[str, str], opset: int = 18) -> bytes:
    """A ModelProto."""
    return (
        _field(1, 8)  # ir_version
        + _field(7, graph)
        + _field(8, _field(1, "") + _field(2, opset))
        + b"".join(_field(14, _field(1, key) + _field(2, value)) for key, value in metadata.items())
    )


def _node(operation: str, given: str | tuple[str, ...], answer: str, *attributes: bytes) -> bytes:
    """A NodeProto of one output."""
    inputs = (given,) if isinstance(given, str) else given
    ends = b"".join(_field(1, name) for name in inputs) + _field(2, answer) + _field(4, operation)
    return ends + b"".join(_field(5, attribute) for attribute in attributes)


def _kind(number: int) -> bytes:
    """Of an AttributeProto: 2 for a whole number, 7 for several."""
    return _field(20, number)


def _tensor(name: str, element: int, dims: Dims) -> bytes:
    """A ValueInfoProto: a name, an element type, and sizes or the names of free sizes."""
    shape = b"".join(_field(1, _field(1 if isinstance(dim, int) else 2, dim)) for dim in dims)
    return _field(1, name) + _field(2, _field(1, _field(1, element) + _field(2, shape)))


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the high bit says that more follow."""
    head = bytearray()
    while value > 0x7F:
        head.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*head, value])
