"""The depthwise kernel of conv2d: one input channel per group, the same bits as qcc_conv2d.h.

Not an operator. The kernel reads the weights tap by tap, ``[kh][kw][out]``, so that neighbouring
channels lie side by side and four of them share the work of finding a tap.
"""

from __future__ import annotations

import numpy as np

from qcc.ir import Graph, Node
from qcc.ops.base import Call, In, Out
from qcc.ops.kernels import CRescale, CWeights, instance


def is_depthwise(graph: Graph, node: Node) -> bool:
    """Whether ``depthwise_call`` may stand for the conv2d *node*."""
    return bool(graph.shape(node.inputs[0])[3] == node.attrs.group)


def depthwise_call(graph: Graph, node: Node) -> Call:
    """The kernel call of a conv2d whose groups have one input channel each."""
    a, w = node.attrs, graph.constant(node.inputs[1])  # (O, KH, KW, 1)
    (_, h, w_in, c), (_, oh, ow, o) = graph.shape(node.inputs[0]), graph.shape(node.output)
    r = CRescale(a.rescale, a.acc_bound)
    taps_first = np.ascontiguousarray(w.transpose(1, 2, 3, 0))
    weights = CWeights(taps_first, graph.quant(node.inputs[1]).qtype, "[kh][kw][out]")
    kernel = instance(
        weights.header("qcc_depthwise.h"),
        weights.constants,
        rescale=r.form,
        x=graph.quant(node.inputs[0]).qtype.ctype,
        w=weights.table.ctype,
        y=graph.quant(node.output).qtype.ctype,
        acc=r.acc,
    )
    args = (
        In(0), weights.table, r.bias(graph.constant(node.inputs[2]), o), r.mult, r.shift, r.step,
        Out(), h, w_in, oh, ow, o // c, c, *w.shape[1:3], *a.strides, *a.dilations, *a.pads[:2],
        *a.clip,
    )  # fmt: skip
    return Call(kernel, args)
