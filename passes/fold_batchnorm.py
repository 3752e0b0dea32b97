"""fold_batchnorm: scale_shift into the weights of a convolution or dense layer next to it.

After a layer:   y = s * (W x + b) + t          ->  W' = s W (rows),  b' = s b + t
Before a layer:  y = W (s x + t) + b            ->  W' = W s (cols),  b' = b + W t
  (with padding only where t = 0: the border would read t, not 0)
Two in a row merge. After an add:  s * (a + b) + t  with a, b written by foldable layers
  (each with this one reader)                   ->  s goes into both, t into one.

Source: Jacob et al. 2018 (arXiv 1712.05877), section 3.2.
"""

from __future__ import annotations

import math

import numpy as np

from qcc.config import Config
from qcc.ir import Array, Graph, Node

LINEAR = ("conv2d", "conv_transpose2d", "dense")
"""Operators with inputs x, weights (output channel first), [bias] and attrs.bounds."""


def fold_batchnorm(graph: Graph, config: Config) -> int:
    """Fold every scale_shift that can be; returns how many went."""
    changes = 0
    again = True
    while again:
        again = False
        for node in list(graph.nodes()):
            if node.op == "scale_shift" and node.name in graph and _fold(graph, node):
                changes += 1
                again = True
    return changes


def _fold(graph: Graph, node: Node) -> bool:
    return _into_producer(graph, node) or _into_consumer(graph, node) or _over_add(graph, node)


def _last_axis(graph: Graph, node: Node) -> bool:
    return bool(node.attrs.axis == len(graph.shape(node.inputs[0])) - 1)


def _into_producer(graph: Graph, node: Node) -> bool:
    x = node.inputs[0]
    producer = graph.producer(x)
    if producer is None or graph.sole_consumer(x) is not node or not _last_axis(graph, node):
        return False
    s, t = graph.constant(node.inputs[1]), graph.constant(node.inputs[2])
    if producer.op == "scale_shift" and producer.attrs.axis == node.attrs.axis:
        s0, t0 = (graph.constant(c) for c in producer.inputs[1:])
        _replace(graph, producer, [producer.inputs[0]], s0 * s, t0 * s + t)
    elif _foldable(producer):
        scale_rows(graph, producer, s, t)
    else:
        return False
    _take_output(graph, producer, node)
    return True


def _foldable(node: Node) -> bool:
    return node.op in LINEAR and node.attrs.bounds == (-math.inf, math.inf)


def scale_rows(graph: Graph, layer: Node, s: Array, t: Array) -> None:
    """Multiply the outputs of *layer* by *s* and add *t*, both (out,)."""
    w = graph.constant(layer.inputs[1])
    b = _bias(graph, layer)
    rows = (w.reshape(len(w), -1) * s[:, None]).reshape(w.shape)
    _replace(graph, layer, [layer.inputs[0]], rows, b * s + t)


def _bias(graph: Graph, layer: Node) -> Array:
    if len(layer.inputs) > 2:
        return graph.constant(layer.inputs[2])
    return np.zeros(len(graph.constant(layer.inputs[1])), np.float32)


def _replace(graph: Graph, node: Node, inputs: list[str], *constants: Array) -> None:
    """Give *node* fresh constants; others may read the old ones."""
    old = node.inputs
    new = [
        graph.add_constant(f"{node.name}.{kind}", np.asarray(c, np.float32))
        for kind, c in zip(("weight", "bias"), constants, strict=False)
    ]
    graph.set_inputs(node, [*inputs, *new])
    for name in old:
        graph.remove_if_unused(name)


def replace_constants(graph: Graph, layer: Node, w: Array, b: Array | None) -> None:
    """Give *layer* fresh weights, and a fresh bias unless None."""
    _replace(graph, layer, [layer.inputs[0]], *(c for c in (w, b) if c is not None))


def _take_output(graph: Graph, producer: Node, node: Node) -> None:
    """*producer* writes what *node* wrote; *node* goes."""
    old, output = producer.output, node.output
    producer.sources = (*producer.sources, *node.sources)
    graph.remove_node_keep_output(node)
    graph.set_output(producer, output)
    graph.remove_if_unused(old)


def _into_consumer(graph: Graph, node: Node) -> bool:
    reader = graph.sole_consumer(node.output)
    if reader is None or reader.op not in ("conv2d", "dense") or not _last_axis(graph, node):
        return False
    if reader.inputs[0] != node.output or reader.inputs.count(node.output) > 1:
        return False
    s, t = (graph.constant(c).astype(np.float64) for c in node.inputs[1:])
    if reader.op == "conv2d" and any(reader.attrs.pads) and np.any(t != 0):
        return False
    w = graph.constant(reader.inputs[1]).astype(np.float64)
    group = reader.attrs.group if reader.op == "conv2d" else 1
    per_group = w.shape[-1]
    column = np.arange(per_group) + (np.arange(len(w)) // (len(w) // group) * per_group)[:, None]
    shape = (len(w), *([1] * (w.ndim - 2)), per_group)
    bias = _bias(graph, reader) + (w * t[column].reshape(shape)).reshape(len(w), -1).sum(axis=1)
    _replace(graph, reader, [node.inputs[0]], w * s[column].reshape(shape), bias)
    reader.sources = (*node.sources, *reader.sources)
    graph.remove_node(node)
    return True


def _over_add(graph: Graph, node: Node) -> bool:
    add = graph.producer(node.inputs[0])
    if add is None or add.op != "add" or add.attrs.bounds != (-math.inf, math.inf):
        return False
    if graph.sole_consumer(add.output) is not node or not _last_axis(graph, node):
        return False
    if len(set(add.inputs)) != 2 or any(
        graph.shape(x) != graph.shape(add.output) for x in add.inputs
    ):
        return False
    layers = [graph.producer(x) for x in add.inputs]
    if not all(p is not None and _foldable(p) for p in layers):
        return False
    if not all(graph.sole_consumer(x) is add for x in add.inputs):
        return False
    s, t = graph.constant(node.inputs[1]), graph.constant(node.inputs[2])
    for layer, shift in zip(layers, (t, np.zeros_like(t)), strict=True):
        assert layer is not None
        scale_rows(graph, layer, s, shift)
        graph.tensor(layer.output).origin = None  # its value is no longer the source's
    _take_output(graph, add, node)
    return True
