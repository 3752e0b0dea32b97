"""eliminate_identities: operators that move no element go, and chains of them become one."""

from __future__ import annotations

import math

import numpy as np

from qcc.config import Config
from qcc.ir import Graph, Node, Origin, Shape
from qcc.ops import OPS, reshape, transpose
from qcc.passes.sink_reshapes import adopt, reshaped_origin


def eliminate_identities(graph: Graph, config: Config) -> int:
    """Simplify operators that only move elements; returns the number of changes.

    - reshape(reshape(x)) and transpose(transpose(x)) become one.
    - What keeps the order of the elements (a transpose of size-1 axes, say) becomes a reshape.
    - What keeps the shape too (pad by nothing, slice of everything, ...) goes.

    Before: a = transpose(x:1x1x1x8) (0, 3, 1, 2); b = reshape(a) (1, 8).  After: b = reshape(x).
    """
    return sum(_simplify(graph, node) for node in list(graph.nodes()))


def _simplify(graph: Graph, node: Node) -> int:
    if len(node.inputs) != 1 or graph.is_constant(node.inputs[0]):
        return 0
    changes = _merge(graph, node, "transpose")
    if node.op != "reshape" and _keeps_order(node, graph.shape(node.inputs[0])):
        node.op, node.attrs = "reshape", reshape.Attrs(graph.shape(node.output))
        changes += 1
    changes += _merge(graph, node, "reshape")
    if node.op == "reshape" and graph.shape(node.inputs[0]) == graph.shape(node.output):
        changes += _drop(graph, node)
    return changes


def _merge(graph: Graph, node: Node, op: str) -> int:
    """Let *node* do the work of the nodes of the same kind before it, up to the first other."""
    changes = 0
    while node.op == op:
        before = graph.producer(node.inputs[0])
        if before is None or before.op != op:
            break
        if op == "transpose":
            perm = transpose.compose(before.attrs.perm, node.attrs.perm)
            node.attrs = transpose.Attrs(perm)
        middle, origin = graph.tensor(before.output), _origin_before(graph, before)
        graph.set_inputs(node, before.inputs)
        node.sources = tuple(dict.fromkeys((*before.sources, *node.sources)))
        if middle.name not in graph.outputs and not graph.consumers(middle.name):
            graph.remove_node(before)
            adopt(graph, node.inputs[0], middle.name, origin)
        changes += 1
    return changes


def _keeps_order(node: Node, shape: Shape) -> bool:
    """Whether the output holds the elements of the input, all of them, in the same order.

    Asked of the operator itself: it runs on the elements' numbers, ascending and descending (one
    direction alone would take a sliding maximum for an identity).
    """
    op = OPS[node.op]
    if not op.same_scale or math.prod(op.infer(node.attrs, [shape])) != math.prod(shape):
        return False
    if node.op == "transpose":
        return not transpose.moves(node.attrs.perm, shape)
    numbers = np.arange(math.prod(shape), dtype=np.float64)
    return all(
        np.array_equal(op.run_float(node.attrs, [v.reshape(1, *shape)]).ravel(), v)
        for v in (numbers, numbers[::-1])
    )


def _drop(graph: Graph, node: Node) -> int:
    """Remove *node*, whose output equals its input; 0 if both names have to live."""
    x, y = graph.tensor(node.inputs[0]), graph.tensor(node.output)
    if x.quant != y.quant:
        return 0
    if y.name not in graph.outputs:
        graph.replace_uses(y.name, x.name)
        graph.remove_node(node)
        adopt(graph, x.name, y.name, y.origin)
        return 1
    producer = graph.producer(x.name)
    if producer is None or x.name in graph.outputs:
        return 0
    graph.remove_node_keep_output(node)
    graph.set_output(producer, y.name)
    graph.replace_uses(x.name, y.name)
    graph.remove_if_unused(x.name)
    return 1


def _origin_before(graph: Graph, node: Node) -> Origin | None:
    """The origin that the output of a transpose or reshape implies for its input."""
    origin = graph.tensor(node.output).origin
    x, y = graph.shape(node.inputs[0]), graph.shape(node.output)
    if origin is None:
        return None
    if node.op == "transpose":
        perm = transpose.inverse(node.attrs.perm)
        return origin.transposed(perm) if len(origin.perm) == len(perm) else None
    return reshaped_origin(origin, y, x)
