"""fold_bias: a constant added after a layer with weights goes into its bias.

Before: %c = dense(%x, @w)  %y = add(%c, @k)      After: %y = dense(%x, @w, @bias)

That is how exporters write a dense layer over more than two axes (MatMul, Add), and what is left
of a batch normalization written out. The constant has one value, or one per output channel. The
layer has no other reader, no activation of its own, and writes no output of the graph.
"""

from __future__ import annotations

import math

import numpy as np

from qcc.config import Config
from qcc.ir import Array, Graph, Node
from qcc.passes.fold_batchnorm import LINEAR


def fold_bias(graph: Graph, config: Config) -> int:
    """Fold every such addition; returns how many went."""
    changes = 0
    for node in list(graph.nodes()):
        # Additions in a row fold one after the other: nodes come in execution order.
        if node.op == "add" and _fold(graph, node):
            changes += 1
    return changes


def _fold(graph: Graph, add: Node) -> bool:
    if len(graph.activations(add)) != 1:
        return False
    at = 0 if graph.is_constant(add.inputs[1]) else 1
    layer = graph.producer(add.inputs[at])
    if layer is None or not _takes_bias(graph, layer):
        return False
    if at == 1 and add.attrs.sign < 0:  # constant - layer: the weights would change too
        return False
    addend = _per_channel(graph, graph.constant(add.inputs[1 - at]), layer.output)
    if addend is None:
        return False
    _add_to_bias(graph, layer, addend * (1 if at == 1 else add.attrs.sign))
    _replace(graph, add, layer)
    return True


def _takes_bias(graph: Graph, layer: Node) -> bool:
    return (
        layer.op in LINEAR
        and layer.attrs.rescale is None
        and layer.attrs.bounds == (-math.inf, math.inf)
        and graph.sole_consumer(layer.output) is not None
    )


def _per_channel(graph: Graph, value: Array, y: str) -> Array | None:
    """*value* with one entry per channel of *y*; None where it varies along other axes."""
    channels = graph.shape(y)[-1]
    if value.size == 1 or (value.size == channels == value.shape[-1]):
        return np.broadcast_to(value.ravel(), channels).astype(np.float64)
    return None


def _add_to_bias(graph: Graph, layer: Node, addend: Array) -> None:
    old = layer.inputs
    bias = addend if len(old) < 3 else graph.constant(old[2]) + addend
    new = graph.add_constant(f"{layer.name}.bias", bias.astype(np.float32))
    graph.set_inputs(layer, (*old[:2], new))
    for name in old[2:]:
        graph.remove_if_unused(name)


def _replace(graph: Graph, add: Node, layer: Node) -> None:
    """*layer* writes what *add* wrote, its activation included; *add* goes."""
    old, output = layer.output, add.output
    layer.sources = (*layer.sources, *add.sources)
    layer.update(bounds=add.attrs.bounds)
    graph.remove_node_keep_output(add)
    graph.set_output(layer, output)
    graph.remove_if_unused(old)
