"""sink_reshapes: operators come before the reshape that fed them, so that they meet their producer.

A 1-D network is read as conv2d of height 1, each between two reshapes; its batch normalization,
activation and residual add belong to the convolution, on the convolution's shape. Not a pass of
its own: a step of eliminate_transposes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qcc.ir import Graph, Node, Origin, Shape, Tensor
from qcc.ops import OPS, reshape, transpose


def sink_reshapes(graph: Graph) -> int:
    """Move reshapes towards the outputs; returns the number of moves.

    - Below operators that see single elements, any reshape.
    - Below operators that commute with transposes, one that only drops or moves axes of size 1.

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
    """Axis of *x* behind every axis of *y*, if *y* is *x* with axes of size 1 dropped or moved."""
    if [n for n in x if n != 1] != [n for n in y if n != 1] or len(y) > len(x) or x == y:
        return None
    long = iter([a for a, n in enumerate(x) if n != 1])
    if len(y) == len(x):
        ones = iter([a for a, n in enumerate(x) if n == 1])
        return tuple(next(ones if n == 1 else long) for n in y)
    axes: list[int] = []
    for i, n in enumerate(y):
        if n != 1:
            axes.append(next(long))
            continue
        # A one keeps its place between its neighbours, so that the order of the axes stays.
        axis = axes[-1] + 1 if i else 0
        if x[axis : axis + 1] != (1,):
            return None
        axes.append(axis)
    return tuple(axes)


def reshaped_origin(origin: Origin | None, before: Shape, after: Shape) -> Origin | None:
    """The origin of a tensor of shape *after* with the elements of one of shape *before*.

    An origin with as many axes as its tensor stands for a plain transpose; with another number it
    may imply any reshape. None where neither expresses it.
    """
    if origin is None or len(origin.perm) != len(after):
        return origin
    axes = kept_axes(after, before) if len(before) == len(after) else None
    return None if axes is None else origin.transposed(transpose.inverse(axes))


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
    if rank == narrow and not all(
        graph.is_constant(t) or _is_reshaped(graph, t, shape)
        for t, shape in zip(node.inputs, shapes, strict=True)
    ):
        return False  # the reshape that another operand would need could sink in its turn
    sizes = [graph.shape(t) for t in node.inputs if len(graph.shape(t)) == narrow]
    if any(_reorders(axes, shape) for shape in (*sizes, y)):
        return False
    try:
        if OPS[node.op].infer(attrs, shapes) != wide:
            return False
    except (ValueError, IndexError):
        return False
    inputs = [_reshaped(graph, t, shape) for t, shape in zip(node.inputs, shapes, strict=True)]
    _move(graph, node, attrs, inputs, wide)
    return True


def _reorders(axes: Sequence[int], shape: Shape) -> bool:
    """Whether more than axes of size 1 change places."""
    long = [a for a, n in zip(axes, shape, strict=True) if n != 1]
    return long != sorted(long)


def widened(shape: Shape, axes: Sequence[int], rank: int) -> Shape:
    """*shape* spread over *rank* axes, ones between."""
    wide = [1] * rank
    for axis, n in zip(axes, shape, strict=True):
        wide[axis] = n
    return tuple(wide)


def _is_reshaped(graph: Graph, name: str, shape: Shape) -> bool:
    """Whether tensor *name* is a reshape of one of *shape*."""
    before = graph.producer(name)
    return bool(before and before.op == "reshape" and graph.shape(before.inputs[0]) == shape)


def _reshaped(graph: Graph, name: str, shape: Shape) -> str:
    """Tensor *name* with another shape: what it was reshaped from, if that fits."""
    t = graph.tensor(name)
    if t.shape == shape:
        return name
    if t.data is not None:
        return graph.add_constant(f"{name}.reshape", t.data.reshape(shape), t.quant)
    before = graph.producer(name)
    if before is not None and _is_reshaped(graph, name, shape):
        return before.inputs[0]
    origin = reshaped_origin(t.origin, t.shape, shape)
    wide = Tensor(graph.fresh(f"{name}.reshape"), shape, quant=t.quant, origin=origin)
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
        other.shape, other.origin = shape, reshaped_origin(y.origin, y.shape, shape)
        graph.set_output(node, other.name)
        add_reshape(graph, other.name, y.name, node.sources)
    else:
        graph.replace_uses(y.name, other.name)
        y.origin, y.shape = reshaped_origin(y.origin, y.shape, shape), shape
        add_reshape(graph, y.name, other.name, node.sources)
    graph.set_inputs(node, inputs)
    node.attrs = attrs
    for name in dict.fromkeys(old):
        before = graph.producer(name)
        if before is None:
            graph.remove_if_unused(name)
        elif before.op == "reshape" and name not in graph.outputs and not graph.consumers(name):
            x, view = before.inputs[0], graph.tensor(name)
            origin = reshaped_origin(view.origin, view.shape, graph.shape(x))
            graph.remove_node(before)
            adopt(graph, x, name, origin)


def adopt(graph: Graph, tensor: str, name: str, origin: Origin | None) -> None:
    """Rename *tensor*, which the source model does not know, after a view of it that is gone."""
    old, producer = graph.tensor(tensor), graph.producer(tensor)
    if old.origin is not None or origin is None or producer is None or name in graph:
        return
    graph.add_tensor(Tensor(name, old.shape, None, old.quant, origin))
    graph.set_output(producer, name)
    graph.replace_uses(tensor, name)
    graph.remove_if_unused(tensor)
