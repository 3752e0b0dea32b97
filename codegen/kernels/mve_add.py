"""Additions and subtractions with Helium: runtime_c/isa/mve/qcc_mve_add.h."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qcc.codegen.kernels import mve_common
from qcc.codegen.leads import portable_leads
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Node
from qcc.ops import broadcast
from qcc.ops.base import Call, Out
from qcc.ops.kernels import CRescale, instance

ISA = "mve"
OPERATORS = ("add",)

_KERNEL = "mve/add"


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """Sums in 16 bits where they fit, else in 32."""
    if (why := _unsupported(graph, node)) is not None:
        yield Refusal(_KERNEL, why)
        return
    a = node.attrs
    r = CRescale(a.rescale, a.acc_bound)
    half = int(r.half[0])
    narrow = a.acc_bound + half < 1 << 15 and max(map(abs, a.mult)) < 1 << 15
    lanes = 8 if narrow else 4
    first, second = (graph.quant(t).qtype.ctype for t in node.inputs)
    shapes = (graph.shape(t) for t in (node.output, *node.inputs))
    loops = broadcast.loops(*shapes)
    kernel = instance("qcc_mve_add.h", {"lanes": lanes}, a=first, b=second)
    args = (
        *broadcast.operand_args(graph, node), Out(), *loops.counts, *loops.a[:4], *loops.b[:4],
        *a.mult, half, r.scalars[1], *a.clip,
    )  # fmt: skip
    n = loops.counts[-1]
    rows = math.prod(loops.counts[:-1])
    yield Variant(
        kernel=_KERNEL,
        why="sums in 16 bits" if narrow else "sums in 32 bits",
        calls=(Call(kernel, args),),
        instructions=round(rows * (n // lanes * 10.5 + (20 if n % lanes else 0) + 20)) + 60,
        code_bytes=420,
        leads=portable_leads(graph, node),
    )


def _unsupported(graph: Graph, node: Node) -> str | None:
    if (why := mve_common.unsupported(graph, node)) is not None:
        return why
    if any(graph.quant(t).qtype.storage_bits != 8 for t in node.inputs):
        return "a constant of more than 8 bits"
    a = node.attrs
    r = CRescale(a.rescale, a.acc_bound)
    if r.form != "shift32":
        return "sums of more than 32 bits"
    shapes = (graph.shape(t) for t in (node.output, *node.inputs))
    loops = broadcast.loops(*shapes)
    if loops.counts[-1] > 1 and (loops.a[-1], loops.b[-1]) != (1, 1):
        return "an operand that repeats along the last axis"
    return None
