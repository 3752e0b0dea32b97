"""fuse_padding: a pad along the image's axes becomes the padding of the operator that reads it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from qcc.config import Config
from qcc.ir import Graph, Node, Shape
from qcc.ops import OPS

Pads = tuple[int, int, int, int]
"""Top, left, bottom, right."""


def fuse_padding(graph: Graph, config: Config) -> int:
    """Fuse pads into conv2d, avg_pool2d and max_pool2d where nothing changes; returns how many.

    Before: p = pad(x) ((0, 0), (1, 1), (1, 1), (0, 0)); y = conv2d(p).
    After:  y = conv2d(x) pads (1, 1, 1, 1).
    """
    changes = 0
    for node in list(graph.nodes()):
        while node.op in _READERS and _fuse(graph, node):
            changes += 1
    return changes


def _fuse(graph: Graph, node: Node) -> bool:
    pad = graph.producer(node.inputs[0])
    if pad is None or pad.op != "pad" or node.inputs.count(pad.output) > 1:
        return False
    if any(map(any, (pad.attrs.pads[0], *pad.attrs.pads[3:]))):
        return False  # beside the image's axes
    (top, bottom), (left, right) = pad.attrs.pads[1:3]
    changes = _READERS[node.op](graph, node, pad, (top, left, bottom, right))
    if changes is None:
        return False
    node.update(**changes)
    graph.set_inputs(node, (*pad.inputs, *node.inputs[1:]))
    node.sources = (*pad.sources, *node.sources)
    if pad.output not in graph.outputs and not graph.consumers(pad.output):
        graph.remove_node(pad)
    return True


def _sum(a: Pads, b: Pads) -> Pads:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])


def _conv(graph: Graph, node: Node, pad: Node, pads: Pads) -> dict[str, Any] | None:
    if pad.attrs.value != 0:
        return None
    return {"pads": _sum(node.attrs.pads, pads)}


def _average(graph: Graph, node: Node, pad: Node, pads: Pads) -> dict[str, Any] | None:
    """The zeros were values of the tensor, so they count."""
    if pad.attrs.value != 0:
        return None
    a = node.attrs
    return {"pads": _sum(a.pads, pads), "counted": _sum(a.counted, pads)}


def _maximum(graph: Graph, node: Node, pad: Node, pads: Pads) -> dict[str, Any] | None:
    """The pooling skips what it pads: the same if the value never wins, nor is ever alone."""
    total = _sum(node.attrs.pads, pads)
    x = pad.inputs[0]
    if pad.attrs.value > _lower_bound(graph, x) or not _touches(node, graph.shape(x), total):
        return None
    return {"pads": total}


_READERS: Mapping[str, Callable[[Graph, Node, Node, Pads], dict[str, Any] | None]] = {
    "conv2d": _conv,
    "avg_pool2d": _average,
    "max_pool2d": _maximum,
}


def _lower_bound(graph: Graph, tensor: str) -> float:
    """No value of *tensor* is below this, whatever the input."""
    ranges = dict.fromkeys(graph.inputs, (-math.inf, math.inf))
    for t in graph.tensors():
        if t.data is not None and t.data.size:
            ranges[t.name] = float(t.data.min()), float(t.data.max())
    for node in graph.nodes():
        ranges[node.output] = OPS[node.op].range(node.attrs, [ranges[t] for t in node.inputs])
        if node.output == tensor:
            break
    return ranges[tensor][0]


def _touches(node: Node, x: Shape, pads: Pads) -> bool:
    """Whether every window of a pooling of *x* with *pads* has an element of *x*."""
    a = node.attrs
    for d in range(2):
        n, before, after = x[1 + d], pads[d], pads[d + 2]
        reach = (a.kernel[d] - 1) * a.dilations[d]
        for first in range(-before, n + after - reach, a.strides[d]):
            taps = range(first, first + reach + 1, a.dilations[d])
            if not any(0 <= t < n for t in taps):
                return False
    return True
