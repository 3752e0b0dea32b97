"""lower_scale_shift: what is left of batch normalization becomes a depthwise 1x1 convolution.

%y = scale_shift(%x, s, t)   ->   %y = conv2d(%x, s as (C, 1, 1, 1), t), group = C
with a transpose around it where the channel axis is not the last, and reshapes where x is no image.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qcc.config import Config
from qcc.ir import Graph, Node, Tensor
from qcc.ops import OPS, conv2d, reshape, transpose


def lower_scale_shift(graph: Graph, config: Config) -> int:
    """Returns how many were lowered."""
    nodes = [n for n in graph.nodes() if n.op == "scale_shift"]
    for node in nodes:
        _lower(graph, node)
    return len(nodes)


def _lower(graph: Graph, node: Node) -> None:
    x, scale, shift = node.inputs
    shape, axis = graph.shape(x), node.attrs.axis
    order = (*(a for a in range(len(shape)) if a != axis), axis)
    moved = tuple(shape[a] for a in order)
    weight = graph.add_constant(f"{node.name}.w", graph.constant(scale).reshape(-1, 1, 1, 1))
    steps: list[tuple[str, tuple[str, ...], Any]] = [
        ("transpose", (), transpose.Attrs(order)),
        ("reshape", (), reshape.Attrs((1, 1, math.prod(moved[:-1]), moved[-1]))),
        ("conv2d", (weight, shift), conv2d.Attrs(group=moved[-1])),
        ("reshape", (), reshape.Attrs(moved)),
        ("transpose", (), transpose.Attrs(tuple(int(i) for i in np.argsort(order)))),
    ]
    for op, constants, attrs in steps:
        x = _emit(graph, node, op, (x, *constants), attrs)
    graph.tensor(x).origin = graph.tensor(node.output).origin
    graph.replace_uses(node.output, x)
    graph.remove_node(node)


def _emit(graph: Graph, like: Node, op: str, inputs: tuple[str, ...], attrs: Any) -> str:
    """Add a node; where it would change nothing, its input is returned instead."""
    shape = OPS[op].infer(attrs, [graph.shape(t) for t in inputs])
    same = shape == graph.shape(inputs[0])
    identity = op == "transpose" and attrs.perm == tuple(range(len(shape)))
    if identity or (op == "reshape" and same):
        return inputs[0]
    name = graph.add_tensor(Tensor(graph.fresh(f"{like.output}.{op}"), shape)).name
    graph.add_node(Node(graph.fresh(f"{like.name}:{op}"), op, inputs, (name,), attrs, like.sources))
    return name
