"""correct_bias: the bias of every layer takes back the mean error that quantization made.

Rounded weights and activations shift the mean of an accumulator. On calibration samples the
shift is measured per output channel, against the float layer on float inputs, and subtracted from
the integer bias. Layers go in execution order, each seeing inputs that are already corrected.

Source: empirical bias correction, Nagel et al. 2019 (arXiv 1906.04721), section 4.2 and
appendix D; sequential as in Finkelstein et al. 2019 (arXiv 1906.03193).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from qcc.arith import Rescale, round_half_up
from qcc.ir import Array, Graph, Int, Node
from qcc.ops import OPS
from qcc.passes.layer_walk import Layer, walk_layers

_IDENTITY = Rescale("single-shift", (1,), (0,))
_UNCLIPPED = (-(1 << 62), 1 << 62)


def correct_bias(graph: Graph, source: Graph, real: Mapping[str, Array]) -> int:
    """Correct the biases of the integer *graph*; returns the number of layers.

    Args:
        graph: quantized.
        source: the same graph before quantization: same node and tensor names.
        real: float values (N, *shape) of every activation of *source*.
    """
    changes = 0
    for layer in walk_layers(graph, source, real):
        correct_layer(graph, layer)
        changes += 1
    return changes


def correct_layer(graph: Graph, layer: Layer) -> None:
    """Add the mean error of the accumulators of *layer* to its bias."""
    node = layer.node
    want = layer.target()
    bare = dataclasses.replace(node.attrs, rescale=_IDENTITY, clip=_UNCLIPPED)
    constants = [graph.constant(x).astype(np.int64) for x in node.inputs[1:]]
    acc = OPS[node.op].run_int(graph, dataclasses.replace(node, attrs=bare), [layer.x, *constants])
    bias = graph.tensor(node.inputs[2])
    assert bias.data is not None
    unit = np.asarray(graph.quant(bias.name).scale, np.float64)
    axes = tuple(range(want.ndim - 1))
    error = want.mean(axis=axes, dtype=np.float64) / unit - acc.mean(axis=axes)
    corrected = bias.data.astype(np.int64) + round_half_up(error)
    bound = _bound(graph, node, corrected)
    if max(bound, node.attrs.acc_bound) < 1 << 31 or node.attrs.acc_bound >= 1 << 31:
        bias.data = corrected
        node.update(acc_bound=max(bound, 1))


def _bound(graph: Graph, node: Node, bias: Int) -> int:
    """The proved maximum of |accumulator| with the new bias."""
    q = graph.quant(node.inputs[0]).qtype
    w = graph.constant(node.inputs[1]).astype(np.int64)
    sums = np.abs(w).reshape(len(w), -1).sum(axis=1) * max(abs(q.qmin), abs(q.qmax))
    return int((sums + np.abs(bias)).max(initial=0))
