"""canonicalize_affine: mul and add with a constant per channel become scale_shift.

%y = mul(%x, c)        ->   %y = scale_shift(%x, c, 0)
%y = add(%x, +-c)      ->   %y = scale_shift(%x, 1, +-c)
where c has the channels on its last axis; a constant of one element only where fold_batchnorm can
then fold it into a layer next to it (elsewhere it is left to fuse_unary).
"""

from __future__ import annotations

import math

import numpy as np

from qcc.config import Config
from qcc.ir import Array, Graph, Node
from qcc.ops.scale_shift import Attrs
from qcc.passes.fold_batchnorm import LINEAR


def canonicalize_affine(graph: Graph, config: Config) -> int:
    """Returns how many nodes changed."""
    return sum(_rewrite(graph, n) for n in list(graph.nodes()) if n.op in ("mul", "add"))


def _rewrite(graph: Graph, node: Node) -> bool:
    a, b = node.inputs
    if graph.is_constant(a) == graph.is_constant(b) or node.attrs.bounds != (-math.inf, math.inf):
        return False
    x, c = (b, a) if graph.is_constant(a) else (a, b)
    value = graph.constant(c)
    channels = graph.shape(x)[-1] if graph.shape(x) else 1
    if graph.shape(node.output) != graph.shape(x) or not graph.shape(x):
        return False
    per_channel = value.size > 1 and value.shape[-1] == value.size == channels
    if not (per_channel or (value.size == 1 and _foldable_neighbour(graph, node, x))):
        return False
    scale, shift = _affine(node, np.broadcast_to(value.reshape(-1), channels), x is b)
    constants = [
        graph.add_constant(f"{node.name}.{kind}", np.asarray(v, np.float32))
        for kind, v in (("scale", scale), ("shift", shift))
    ]
    node.op, node.attrs = "scale_shift", Attrs(len(graph.shape(x)) - 1)
    graph.set_inputs(node, [x, *constants])
    graph.remove_if_unused(c)
    return True


def _affine(node: Node, c: Array, constant_first: bool) -> tuple[Array, Array]:
    """(scale, shift) of the node as a function of its activation."""
    one, zero = np.ones_like(c), np.zeros_like(c)
    if node.op == "mul":
        return c, zero
    sign = node.attrs.sign
    return (sign * one, c) if constant_first else (one, sign * c)


def _foldable_neighbour(graph: Graph, node: Node, x: str) -> bool:
    producer, reader = graph.producer(x), graph.sole_consumer(node.output)
    above = producer is not None and graph.sole_consumer(x) is node
    if above and producer is not None and producer.op in (*LINEAR, "scale_shift"):
        return True
    return (
        reader is not None and reader.op in ("conv2d", "dense") and reader.inputs[0] == node.output
    )
