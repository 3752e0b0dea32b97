"""correct_bias: the bias of every layer takes back the mean error that quantization made.

Rounded weights and activations shift the mean of an accumulator. On calibration samples the
shift is measured per output channel, against the float layer on float inputs, and subtracted from
the integer bias. Layers go in execution order, each seeing inputs that are already corrected.

Source: empirical bias correction, Nagel et al. 2019 (arXiv 1906.04721), section 4.2 and
appendix D; sequential as in Finkelstein et al. 2019 (arXiv 1906.03193).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from qcc.arith import Rescale, round_half_up
from qcc.ir import Array, Graph, Int, Node
from qcc.ops import OPS
from qcc.passes.fold_batchnorm import LINEAR
from qcc.reference import quantize_tensor

_IDENTITY = Rescale("single-shift", (1,), (0,))
_UNCLIPPED = (-(1 << 62), 1 << 62)


def correct_bias(graph: Graph, source: Graph, real: Mapping[str, Array]) -> int:
    """Correct the biases of the integer *graph*; returns the number of layers.

    Args:
        graph: quantized.
        source: the same graph before quantization: same node and tensor names.
        real: float values (N, *shape) of every activation of *source*.
    """
    values: dict[str, Int] = {
        t.name: t.data.astype(np.int64) for t in graph.tensors() if t.data is not None
    }
    for name in graph.inputs:
        values[name] = quantize_tensor(graph, name, real[name])
    nodes = list(graph.nodes())
    last = {x: i for i, node in enumerate(nodes) for x in node.inputs}
    changes = 0
    for i, node in enumerate(nodes):
        if node.op in LINEAR:
            _correct(graph, node, source.node(node.name), source, values, real)
            values[node.inputs[2]] = graph.constant(node.inputs[2]).astype(np.int64)
            changes += 1
        values[node.output] = OPS[node.op].run_int(graph, node, [values[x] for x in node.inputs])
        for x in node.inputs:
            if last[x] == i:
                del values[x]
                last[x] = -1
    return changes


def _correct(
    graph: Graph,
    node: Node,
    float_node: Node,
    source: Graph,
    values: Mapping[str, Int],
    real: Mapping[str, Array],
) -> None:
    """Add the mean error of *node*'s accumulators to its bias."""
    constants = [source.constant(x) for x in float_node.inputs[1:]]
    open_ended = dataclasses.replace(float_node.attrs, bounds=(-math.inf, math.inf))
    want = OPS[node.op].run_float(open_ended, [real[float_node.inputs[0]], *constants])
    bare = dataclasses.replace(node.attrs, rescale=_IDENTITY, clip=_UNCLIPPED)
    acc = OPS[node.op].run_int(
        graph, dataclasses.replace(node, attrs=bare), [values[x] for x in node.inputs]
    )
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
