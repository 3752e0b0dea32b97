"""Strided N-D copies: what all operators that only move elements come down to in C.

Not an operator. In step with runtime_c/include/qcc_copy_nd.h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from qcc.errors import QccError, short
from qcc.ir import Graph, Node, Shape
from qcc.ops.base import Arg, Call, In, Out
from qcc.ops.kernels import instance

MAX_RANK = 6
"""Loops of the kernel."""


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Distance in elements between neighbours along each axis of a row-major array."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def call(
    graph: Graph,
    node: Node,
    input_index: int,
    shape: Shape,
    src_strides: Sequence[int],
    dst_strides: Sequence[int],
    src_offset: int = 0,
    dst_offset: int = 0,
) -> Call:
    """Copy *shape* elements of the *input_index*-th activation of *node* into its output.

    Element i of the copy is read at ``src_offset + sum(i * src_strides)`` and written at
    ``dst_offset + sum(i * dst_strides)``; strides may be negative.
    """
    source = In(input_index)
    return copy(graph, node, source, shape, src_strides, dst_strides, src_offset, dst_offset)


def copy(
    graph: Graph,
    node: Node,
    source: Arg,
    shape: Shape,
    src_strides: Sequence[int],
    dst_strides: Sequence[int],
    src_offset: int = 0,
    dst_offset: int = 0,
) -> Call:
    """As ``call``, from any pointer whose elements have the type of the output."""
    loops = merged(shape, src_strides, dst_strides)
    if len(loops) > MAX_RANK:
        raise QccError(
            f"layer {short(node.name)!r} ({node.op}): it moves data along {len(loops)} axes;"
            f" at most {MAX_RANK} are supported"
        )
    loops = [(1, 0, 0)] * (MAX_RANK - len(loops)) + loops
    counts, reads, writes = zip(*loops, strict=True)
    kernel = instance("qcc_copy_nd.h", x=graph.quant(node.output).qtype.ctype)
    return Call(kernel, (source, src_offset, Out(), dst_offset, *counts, *reads, *writes))


def merged(
    shape: Sequence[int], src_strides: Sequence[int], dst_strides: Sequence[int]
) -> list[tuple[int, int, int]]:
    """The fewest loops (count, source step, destination step), outermost first.

    Axes of size 1 go; an axis that continues the next one on both sides joins it.
    """
    loops: list[tuple[int, int, int]] = []
    for n, src, dst in zip(shape, src_strides, dst_strides, strict=True):
        if n == 1:
            continue
        if loops and loops[-1][1:] == (src * n, dst * n):
            loops[-1] = (loops[-1][0] * n, src, dst)
        else:
            loops.append((n, src, dst))
    return loops or [(1, 0, 0)]
