"""Fully connected layers of one row, eight outputs at a time: runtime_c/isa/mve/qcc_mve_dense.h."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qcc.codegen.kernels import mve_common
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Int, Node
from qcc.ops.base import Call, In, Out, Scratch
from qcc.ops.kernels import instance

ISA = "mve"
OPERATORS = ("dense", "conv2d")

_KERNEL = "mve/dot8x1"
_UNROLL = 8


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """The degrees of unrolling that fit a dense *node* of one row, or a 1x1 conv2d of one pixel."""
    x = graph.shape(node.inputs[0])
    if math.prod(x[:-1]) != 1:
        if node.op == "dense":
            yield Refusal(_KERNEL, "more than one row")
        return
    if node.op == "conv2d" and (node.attrs.group > 1 or any(node.attrs.pads)):
        return
    if (why := mve_common.unsupported(graph, node)) is not None:
        yield Refusal(_KERNEL, why)
        return
    o, n = graph.shape(node.output)[-1], x[-1]
    found = mve_common.layer(graph, node, o)
    if isinstance(found, str):
        yield Refusal(_KERNEL, found)
        return
    count = mve_common.blocks(n)
    for unroll in range(1, min(count, _UNROLL) + 1):
        if count % unroll == 0:
            yield _variant(graph, node, found, unroll, n, o)


def _variant(
    graph: Graph, node: Node, found: tuple[Int, mve_common.Requant], unroll: int, n: int, o: int
) -> Variant:
    weights, r = found
    count = mve_common.blocks(n)
    turns = count // unroll
    flip = mve_common.flip(graph, node.inputs[0])
    copied = n % mve_common.LANES != 0
    words = mve_common.pack(weights.reshape(o, n), r, 8, flip)
    constants = {
        "blocks": unroll, "form": r.form, "copy": int(copied), "flip": int(flip != 0 and not copied)
    }  # fmt: skip
    kernel = instance("qcc_mve_dense.h", constants)
    scratch = Scratch() if copied else "NULL"
    args = (
        In(0), mve_common.table(words), Out(), scratch, flip, n, o, words.size, turns, r.lo, r.hi,
    )  # fmt: skip
    row = count * (17 + constants["flip"]) + 2 * turns + 18 + 4 * r.form
    return Variant(
        kernel=_KERNEL,
        why="one row",
        calls=(Call(kernel, args),),
        instructions=-(-o // 8) * row + 40 + (8 if o % 8 else 0) + 4 * count * int(copied),
        code_bytes=260 + 76 * unroll,
        scratch=count * mve_common.LANES if copied else 0,
        leads={0: 0} if copied else {},
    )
