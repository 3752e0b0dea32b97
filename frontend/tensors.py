"""The tensors that an ONNX model holds, wherever they hide, and their arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from qcc.errors import QccError, short
from qcc.ir import Array

MAX_ELEMENTS = 1 << 28
"""The largest tensor that is looked at; anything above is a mistake or an attack."""

_BITS: dict[int, int] = {
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
    TensorProto.FLOAT4E2M1: 4,
    TensorProto.INT2: 2,
    TensorProto.UINT2: 2,
}


def tensors(model: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Every dense tensor in *model* with words that name it; those of subgraphs too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node of *graph* and of the subgraphs in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for sub in _subgraphs(attribute):
                yield from all_nodes(sub)


def describe(node: onnx.NodeProto) -> str:
    """Words that name *node* in an error: its name, or else what it computes."""
    name = node.name or next((f"of {o}" for o in node.output if o), "without a name")
    return f"node {short(name)} ({short(node.op_type)})"


def type_name(elem_type: int) -> str:
    """The name of an ONNX element type as users know it: float16, int64, ..."""
    known = TensorProto.DataType.values()
    return TensorProto.DataType.Name(elem_type).lower() if elem_type in known else f"{elem_type}"


def byte_size(tensor: TensorProto, label: str) -> int:
    """Bytes that the elements of *tensor* take in a file.

    Raises:
        QccError: if its shape or type makes no sense.
    """
    count = element_count(tensor, label)
    if tensor.data_type in _BITS:
        return (count * _BITS[tensor.data_type] + 7) // 8
    if tensor.data_type in (TensorProto.UNDEFINED, TensorProto.STRING):
        raise QccError(f"{label} has elements of type {type_name(tensor.data_type)}")
    return count * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def element_count(tensor: TensorProto, label: str) -> int:
    """Elements of *tensor*; refuses negative dimensions and absurd sizes."""
    dims: list[int] = list(tensor.dims)
    if min(dims, default=0) < 0:
        raise QccError(f"{label} has a negative dimension: {dims}")
    count: int = math.prod(dims)
    if count > MAX_ELEMENTS:
        raise QccError(f"{label} has {count} elements; at most {MAX_ELEMENTS} are supported")
    return count


def to_array(tensor: TensorProto, label: str) -> Array:
    """The value of *tensor*.

    Raises:
        QccError: naming it by *label*, if its data does not fit its shape and type.
    """
    element_count(tensor, label)
    if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
        raise QccError(f"{label} has no known element type")
    if tensor.data_location == TensorProto.EXTERNAL:
        raise QccError(f"{label} is in another file; load the model from its file")
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:
        # numpy_helper's messages speak of its own variables, and no list of its exceptions exists.
        raise QccError(
            f"{label}: its data does not fit its shape {list(tensor.dims)}"
            f" and type {type_name(tensor.data_type)}"
        ) from error


def dense(sparse: onnx.SparseTensorProto, label: str) -> TensorProto:
    """The dense tensor of the same value and name as *sparse*."""
    dims = TensorProto(dims=sparse.dims, data_type=sparse.values.data_type)
    element_count(dims, label)
    values, indices = to_array(sparse.values, label), to_array(sparse.indices, label)
    shape = tuple(sparse.dims)
    try:
        flat = np.ravel_multi_index(tuple(indices.T), shape) if indices.ndim == 2 else indices
        array = np.zeros(math.prod(shape), values.dtype)
        array[flat] = values
    except (ValueError, IndexError, TypeError) as error:
        raise QccError(f"{label}: its indices do not fit its shape {list(shape)}") from error
    return numpy_helper.from_array(array.reshape(shape), sparse.values.name)


def _of_graph(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        yield f"weight {short(tensor.name)!r}", tensor
    for sparse in graph.sparse_initializer:
        yield from _of_sparse(f"weight {short(sparse.values.name)!r}", sparse)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: onnx.NodeProto) -> Iterator[tuple[str, TensorProto]]:
    for attribute in node.attribute:
        label = f"{describe(node)}: attribute {short(attribute.name)!r}"
        if attribute.HasField("t"):
            yield label, attribute.t
        for tensor in attribute.tensors:
            yield label, tensor
        if attribute.HasField("sparse_tensor"):
            yield from _of_sparse(label, attribute.sparse_tensor)
        for sparse in attribute.sparse_tensors:
            yield from _of_sparse(label, sparse)
        for graph in _subgraphs(attribute):
            yield from _of_graph(graph)


def _of_sparse(label: str, sparse: onnx.SparseTensorProto) -> Iterator[tuple[str, TensorProto]]:
    yield f"{label} (values)", sparse.values
    yield f"{label} (indices)", sparse.indices


def _subgraphs(attribute: AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs
