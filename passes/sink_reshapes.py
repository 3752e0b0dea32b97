"""sink_reshapes: operators come before the reshape that fed them, so that they meet their producer.

A 1-D network is read as conv2d of height 1, each between two reshapes; its batch normalization,
activation and residual add belong to the convolution, on the convolution's shape. Not a pass of
its own: a step of eliminate_transposes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qcc.ir import Graph, Node, Shape, Tensor
from qcc.ops import OPS, reshape


def sink_reshapes(graph: Graph) -> int:
    """Move reshapes towards the outputs; returns the number of moves.

    - Below operators that see single elements, any reshape.
    - Below operators that commute with transposes, a reshape that only drops axes of size 1.

    Before: r = reshape(x:1x1x9x8) (1, 9, 8); y = unary(r).
    After:  y = unary(x); y.reshape = reshape(y).
    """
    changes = 0
    for node in list(graph.nodes()):
        while _sink(graph, node):
            changes += 1
    return changes


def _sink(graph: Graph, node: Node) -> bool:
    if node.op in ("reshape", "transpose"):
        return False
    for name in graph.activations(node):
        before = graph.producer(name)
        if before is None or before.op != "reshape":
            continue
        x = graph.shape(before.inputs[0])
        if len(node.inputs) == 1 and OPS[node.op].elementwise:
            _move(graph, node, node.attrs, [before.inputs[0]], x)
            return True
        axes = kept_axes(x, graph.shape(name))
        if axes is not None and _sink_squeeze(graph, node, axes, len(x)):
            return True
    return False


def kept_axes(x: Shape, y: Shape) -> tuple[int, ...] | None:
    """Axis of *x* behind every axis of *y*, if *y* is *x* without some axes of size 1."""
    if len(y) >= len(x):
        return None
    axes: list[int] = []
    j = 0
    for n in y:
        while j < len(x) and x[j] != n:
            if x[j] != 1:
                return None
            j += 1
        if j == len(x):
            return None
        axes.append(j)
        j += 1
    return tuple(axes) if all(n == 1 for n in x[j:]) else None


def _sink_squeeze(graph: Graph, node: Node, axes: tuple[int, ...], rank: int) -> bool:
    """Let *node* work on tensors of *rank* axes; its own axes lie at *axes* of them.

    ``Op.permute`` renames axes; here the new names have gaps. What an operator makes of that is
    checked with its own shape rule.
    """
    y, narrow = graph.shape(node.output), len(axes)
    if any(len(graph.shape(t)) != narrow for t in graph.activations(node)) or len(y) != narrow:
        return False
    attrs = OPS[node.op].permute(node.attrs, axes, narrow)
    if attrs is None:
        return False
    shapes = [
        widened(graph.shape(t), axes, rank) if len(graph.shape(t)) == narrow else graph.shape(t)
        for t in node.inputs
    ]
    wide = widened(y, axes, rank)
    try:
        if OPS[node.op].infer(attrs, shapes) != wide:
            return False
    except (ValueError, IndexError):
        return False
    inputs = [_reshaped(graph, t, shape) for t, shape in zip(node.inputs, shapes, strict=True)]
    _move(graph, node, attrs, inputs, wide)
    return True


def widened(shape: Shape, axes: Sequence[int], rank: int) -> Shape:
    """*shape* spread over *rank* axes, ones between."""
    wide = [1] * rank
    for axis, n in zip(axes, shape, strict=True):
        wide[axis] = n
    return tuple(wide)


def _reshaped(graph: Graph, name: str, shape: Shape) -> str:
    """Tensor *name* with another shape: what it was reshaped from, if that fits."""
    t = graph.tensor(name)
    if t.shape == shape:
        return name
    if t.data is not None:
        return graph.add_constant(f"{name}.reshape", t.data.reshape(shape), t.quant)
    before = graph.producer(name)
    if before is not None and before.op == "reshape" and graph.shape(before.inputs[0]) == shape:
        return before.inputs[0]
    wide = Tensor(graph.fresh(f"{name}.reshape"), shape, quant=t.quant, origin=t.origin)
    graph.add_tensor(wide)
    add_reshape(graph, name, wide.name, before.sources if before else ())
    return wide.name


def add_reshape(graph: Graph, x: str, y: str, sources: tuple[str, ...]) -> None:
    """A node that reshapes tensor *x* to tensor *y*."""
    attrs = reshape.Attrs(graph.shape(y))
    graph.add_node(Node(graph.fresh(f"{y}:reshape"), "reshape", (x,), (y,), attrs, sources))


def _move(graph: Graph, node: Node, attrs: Any, inputs: Sequence[str], shape: Shape) -> None:
    """*node* computes *shape* from *inputs*; a reshape after it restores what its readers expect.

    The result keeps its name, unless an output of the graph has it.
    """
    old = node.inputs
    y = graph.tensor(node.output)
    other = Tensor(graph.fresh(f"{y.name}.reshape"), y.shape, None, y.quant, y.origin)
    graph.add_tensor(other)
    if y.name in graph.outputs:
        other.shape = shape
        graph.set_output(node, other.name)
        add_reshape(graph, other.name, y.name, node.sources)
    else:
        graph.replace_uses(y.name, other.name)
        y.shape = shape
        add_reshape(graph, y.name, other.name, node.sources)
    graph.set_inputs(node, inputs)
    node.attrs = attrs
    for name in old:
        before = graph.producer(name)
        if before is not None and name not in graph.outputs and not graph.consumers(name):
            graph.remove_node(before)
        elif before is None:
            graph.remove_if_unused(name)
