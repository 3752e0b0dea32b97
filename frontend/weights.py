"""Check the values that a model holds, and bring them to float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from qcc.errors import QccError, short
from qcc.frontend.tensors import all_nodes, describe, tensors, to_array
from qcc.ir import Array

_WIDE = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
"""Element types that become float32."""

_FLOATS = _WIDE | {TensorProto.FLOAT}

_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "stash_type", "output_dtype"})
"""Integer attributes whose value is an element type."""


def check_weights(model: onnx.ModelProto) -> None:
    """Check every tensor's shape, data and values.

    An infinity is accepted as a bound of Clip, where it means that there is none.

    Raises:
        QccError: naming the tensor.
    """
    bounds = clip_bounds(model.graph.node, [o.name for o in model.graph.output])
    for label, tensor in tensors(model):
        array = to_array(tensor, label)
        if tensor.data_type not in _FLOATS:
            continue
        if array.size == 0 and array.ndim > 1:
            raise QccError(f"{label} has a dimension of zero: {list(array.shape)}")
        _check_finite(array, label, infinite=tensor.name in bounds)
    for node in all_nodes(model.graph):
        for attribute in node.attribute:
            _check_attribute(node, attribute)


def to_float32(model: onnx.ModelProto) -> None:
    """Make every float16, bfloat16 and double of *model* a float32: values, types and casts.

    All such types change alike, so operands that had one type still have one.

    Raises:
        QccError: naming a tensor with values beyond float32.
    """
    for label, tensor in tensors(model):
        if tensor.data_type in _WIDE:
            tensor.CopyFrom(_float32(tensor, label))
    for node in all_nodes(model.graph):
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _WIDE:
                attribute.i = TensorProto.FLOAT
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in _WIDE:
            value.type.tensor_type.elem_type = TensorProto.FLOAT


def clip_bounds(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> set[str]:
    """Names that nothing reads but Clip nodes, as a bound."""
    bounds = {name for n in nodes if n.op_type == "Clip" for name in n.input[1:]}
    for node in nodes:
        bounds.difference_update(node.input[:1] if node.op_type == "Clip" else node.input)
    return bounds.difference(outputs)


def _float32(tensor: TensorProto, label: str) -> TensorProto:
    wide = to_array(tensor, label)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    if not np.array_equal(np.isinf(narrow), np.isinf(wide.astype(np.float64))):
        raise QccError(f"{label} holds values beyond the range of float32")
    return numpy_helper.from_array(narrow, tensor.name)


def _check_finite(array: Array, label: str, infinite: bool) -> None:
    values = array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
    bad = np.isnan(values) if infinite else ~np.isfinite(values)
    if bad.any():
        kind = "NaN" if np.isnan(values).any() else "infinite"
        count = int(bad.sum())
        raise QccError(f"{label} holds {count} {kind} value{'s' if count > 1 else ''}")


def _check_attribute(node: onnx.NodeProto, attribute: AttributeProto) -> None:
    values = [attribute.f] if attribute.type == AttributeProto.FLOAT else list(attribute.floats)
    if node.op_type == "Clip":
        values = [v for v in values if not math.isinf(v)]
    for value in values:
        if not math.isfinite(value):
            raise QccError(f"{describe(node)}: attribute {short(attribute.name)!r} is {value}")
