"""Run a graph in numpy: float (the model's meaning) or integer (the golden model of the C).

Arrays carry a leading axis of samples, so thousands of samples run at once; tensors are freed
after their last use unless they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from qcc.arith import quantize
from qcc.ir import Array, Graph, Int, IRError, Node
from qcc.ops import OPS

_CHUNK = 64
"""Samples that are computed together: large enough to vectorise, small enough for the cache."""


def run_float(
    graph: Graph, inputs: Mapping[str, Array], keep: Collection[str] | None = None
) -> dict[str, Array]:
    """Float values of the tensors *keep* (default: all), each (N, *shape).

    Args:
        graph: a float graph.
        inputs: tensor name -> (N, *shape).
        keep: names to return.
    """

    def step(node: Node, values: Sequence[Array]) -> Array:
        return OPS[node.op].run_float(node.attrs, values)

    constants = {t.name: t.data for t in graph.tensors() if t.data is not None}
    return _run(graph, constants, inputs, keep, step)


def run_int(
    graph: Graph, inputs: Mapping[str, Int], keep: Collection[str] | None = None
) -> dict[str, Int]:
    """Integer values of the tensors *keep* (default: the outputs), each (N, *shape), int64.

    Args:
        graph: a quantized graph.
        inputs: tensor name -> (N, *shape), within the input's format.
        keep: names to return.

    Raises:
        IRError: when a value leaves its format: the C would not survive that.
    """
    wanted = set(graph.outputs if keep is None else keep)
    constants = {t.name: t.data.astype(np.int64) for t in graph.tensors() if t.data is not None}
    samples = len(next(iter(inputs.values())))
    parts: list[dict[str, Int]] = []
    for start in range(0, samples, _CHUNK):
        chunk = {k: np.asarray(v[start : start + _CHUNK], np.int64) for k, v in inputs.items()}
        parts.append(_run(graph, constants, chunk, wanted, _checked_step(graph)))
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _checked_step(graph: Graph) -> Callable[[Node, Sequence[Int]], Int]:
    def step(node: Node, values: Sequence[Int]) -> Int:
        y = OPS[node.op].run_int(graph, node, values)
        q = graph.quant(node.output).qtype
        if y.size and (y.min() < q.qmin or y.max() > q.qmax):
            raise IRError(f"node {node.name!r}: values {y.min()}..{y.max()} outside {q}")
        return y

    return step


def _run(
    graph: Graph,
    constants: Mapping[str, Array],
    inputs: Mapping[str, Array],
    keep: Collection[str] | None,
    step: Callable[[Node, Sequence[Array]], Array],
) -> dict[str, Array]:
    values: dict[str, Array] = {**constants, **inputs}
    nodes = list(graph.nodes())
    last = {t: i for i, node in enumerate(nodes) for t in node.inputs}
    for i, node in enumerate(nodes):
        values[node.output] = step(node, [values[t] for t in node.inputs])
        if keep is not None:
            done = {*node.inputs, node.output}
            for name in done:
                if last.get(name, -1) <= i and name not in keep:
                    values.pop(name, None)
    return values if keep is None else {name: values[name] for name in keep}


def quantize_inputs(graph: Graph, real: Mapping[str, Array]) -> dict[str, Int]:
    """Graph inputs as integers, from float arrays (N, *ONNX shape) keyed by ONNX name."""
    out: dict[str, Int] = {}
    for name in graph.inputs:
        tensor = graph.tensor(name)
        assert tensor.origin is not None
        x = to_memory(real[tensor.origin.name], tensor.origin.perm)
        out[name] = quantize_tensor(graph, name, x)
    return out


def quantize_tensor(graph: Graph, name: str, real: Array) -> Int:
    """Values of the activation *name* as integers of its format."""
    q = graph.quant(name)
    return quantize(real, q.scalar, q.qtype, q.zero_point)


def to_memory(x: Array, perm: Sequence[int]) -> Array:
    """(N, *ONNX shape) -> (N, *C memory order)."""
    return x.transpose(0, *(p + 1 for p in perm))


def to_onnx(x: Array, perm: Sequence[int]) -> Array:
    """(N, *C memory order) -> (N, *ONNX shape)."""
    return x.transpose(0, *(int(p) + 1 for p in np.argsort(perm)))
