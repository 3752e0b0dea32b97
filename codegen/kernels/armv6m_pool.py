"""Pooling and means on ARMv6-M: the portable kernels' calls with loops that cost less there.

In step with qcc_armv6m_avg_pool2d.h, qcc_armv6m_max_pool2d.h and qcc_armv6m_mean.h.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from qcc.codegen.leads import portable_leads
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Node
from qcc.ops import OPS
from qcc.ops.base import Call, In, Out
from qcc.ops.kernels import CRescale

ISA = "armv6m"
OPERATORS = ("max_pool2d", "avg_pool2d", "reduce_mean")

_MEAN = "qcc_armv6m_mean.h"
_HEADERS = {"max_pool2d": "qcc_armv6m_max_pool2d.h", "avg_pool2d": "qcc_armv6m_avg_pool2d.h"}
_CODE = {_MEAN: 130, "qcc_armv6m_max_pool2d.h": 300, "qcc_armv6m_avg_pool2d.h": 440}

_SMALL_WINDOW = 5
"""Up to so many taps, the portable kernel, specialised for one layer, does as well."""


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """Windows of which pointers go from tap to tap."""
    name = f"armv6m/{node.op.removesuffix('2d')}"
    (call,) = OPS[node.op].calls(graph, node)
    count = _summed(graph, node)
    if count:
        yield _variant(
            "armv6m/mean", _MEAN, _mean(graph, node, call, count), _per_value(graph, node)
        )
    elif node.op == "reduce_mean":
        yield Refusal(name, "a mean over other than the outer axes")
    elif math.prod(node.attrs.kernel) <= _SMALL_WINDOW:
        yield Refusal(name, "a small window")
    else:
        offer = _variant(name, _HEADERS[node.op], call, _per_window(graph, node))
        yield replace(offer, leads=portable_leads(graph, node))


def _variant(name: str, header: str, call: Call, instructions: int) -> Variant:
    """The portable *call* with another kernel of the same types and rescaling."""
    portable = call.kernel
    function = portable.function.replace(portable.header[:-2], header[:-2])
    kernel = replace(portable, header=header, function=function)
    return Variant(
        kernel=name,
        why="pointers from tap to tap",
        calls=(Call(kernel, call.args),),
        instructions=instructions,
        code_bytes=_CODE[header],
    )


def _summed(graph: Graph, node: Node) -> int:
    """How many values go into each mean where each is that of a matrix's column; else 0."""
    shape, a = graph.shape(node.inputs[0]), node.attrs
    if node.op == "avg_pool2d":
        whole = a.kernel == shape[1:3] and not any(a.pads) and a.table is None
        return math.prod(a.kernel) if whole else 0
    if node.op == "reduce_mean":
        kept = [i for i, n in enumerate(shape) if n > 1 and i not in a.axes]
        return 0 if kept and min(kept) < max(a.axes) else math.prod(shape[i] for i in a.axes)
    return 0


def _mean(graph: Graph, node: Node, call: Call, count: int) -> Call:
    """The arguments of qcc_armv6m_mean.h from those of the portable *call*."""
    r = CRescale(node.attrs.rescale, node.attrs.acc_bound)
    columns = math.prod(graph.shape(node.inputs[0])) // count
    return Call(
        call.kernel, (In(0), int(r.half[0]), *r.scalars, Out(), count, columns, *node.attrs.clip)
    )


def _per_value(graph: Graph, node: Node) -> int:
    """Instructions of a mean, as counted in emulation; a test compares."""
    outputs, values = (math.prod(graph.shape(t)) for t in (node.output, node.inputs[0]))
    return 60 + 15 * outputs + values * 31 // 8


def _per_window(graph: Graph, node: Node) -> int:
    """Instructions of windows, as counted in emulation; a test compares."""
    _, oh, ow, c = graph.shape(node.output)
    kh, kw = (int(k) for k in node.attrs.kernel)
    pixel = 90 + c * (22 + kh * (8 + 7 * kw))
    if node.op == "avg_pool2d":
        pixel = 110 + c * (36 + kh * (10 + 4 * kw))
    return 60 + oh * ow * pixel
