"""Fully connected layers of one vector on ARMv6-M (qcc_armv6m_dense.h)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from qcc.codegen.kernels.armv6m_common import (
    MAX_Z,
    flip,
    largest,
    requant,
    rest_array,
    rest_table,
    split,
    unsupported,
)
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Int, Node
from qcc.ops.base import Call, CArray, In, Out
from qcc.ops.kernels import instance

ISA = "armv6m"
OPERATORS = ("dense",)

_NAME = "armv6m/dense"
_CHUNK = 128
_BLOCK = 32
_CODE = 560

_SHORT_K = 1 << 22
"""Constants below this leave room in their words for the rest of a record, ..."""

_SHORT_SHIFT = 15
"""... if no two shifts are further apart, ..."""

_SHORT_Z = 8
"""... and every z is a multiple of this."""

_MAX_SKIP = 127


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """Sums of two products at once."""
    x = node.inputs[0]
    why = unsupported(graph, node)
    if why or math.prod(graph.shape(x)[:-1]) != 1:
        yield Refusal(_NAME, why or "several vectors")
        return
    a, w = node.attrs, graph.constant(node.inputs[1]).astype(np.int64)
    outputs, inputs = w.shape
    r = requant(a.rescale, a.acc_bound, graph.constant(node.inputs[2]), outputs, a.clip)
    if isinstance(r, str):
        yield Refusal(_NAME, r)
        return
    flipped = flip(graph, x)
    r = r.add(-flipped * w.sum(axis=1))
    least = int(r.shift.min())
    short = (
        r.form == 0
        and int(np.abs(r.k).max()) < _SHORT_K
        and int(r.shift.max()) - least <= _SHORT_SHIFT
    )
    choice = range(_SHORT_Z, MAX_Z + 1, _SHORT_Z) if short else range(MAX_Z + 1)
    s = split(w, True, 65535 // largest(graph, x), apart=2, choice=choice)
    rest = rest_table(s.q, _MAX_SKIP, last=_MAX_SKIP + 1)
    if isinstance(rest, str):
        yield Refusal(_NAME, rest)
        return
    counts, far = rest
    has = (counts > 0).astype(np.int64)
    if short:
        records = r.shift - least | (s.z // _SHORT_Z - 1) << 4 | has << 8 | r.k << 9
    else:
        records = r.records(s.z << 8 | has << 16)
    args = (
        In(0),
        CArray("w", "uint32_t", _words(s.u[:, :inputs]), "weights + z, see the kernel"),
        CArray("k", "int32_t", records, "[out], see the kernel"),
        rest_array(far),
        inputs,
        outputs,
        least,
        Out(),
        r.lo,
        r.hi,
    )
    kernel = instance("qcc_armv6m_dense.h", {"flip": flipped, "form": r.form, "short": int(short)})
    yield Variant(
        kernel=_NAME,
        why="two products a multiply",
        calls=(Call(kernel, args),),
        instructions=_instructions(inputs, outputs, s.rest, r.form),
        code_bytes=_CODE + 60 * r.form,
    )


def _words(u: Int) -> Int:
    """(out, in) -> words of four bytes in the order in which the kernel reads them."""
    parts: list[Int] = []
    for o in range(0, len(u), _BLOCK):
        rows = u[o : o + _BLOCK]
        rows = np.pad(rows, ((0, -len(rows) % 4), (0, 0)))
        for k in range(0, u.shape[1], _CHUNK):
            part = rows[:, k : k + _CHUNK]
            part = np.pad(part, ((0, 0), (0, -part.shape[1] % 8)))
            b = part.reshape(len(rows) // 4, 4, -1, 4).transpose(0, 2, 1, 3)
            parts.append((b << np.array([0, 8, 16, 24])).sum(axis=-1).ravel())
    return np.concatenate(parts)


def _instructions(inputs: int, outputs: int, rest: int, form: int) -> int:
    """As counted in emulation; a test compares."""
    fours = -(-outputs // 4)
    blocks, chunks = -(-outputs // _BLOCK), -(-inputs // _CHUNK)
    turns = sum(-(-min(_CHUNK, inputs - k) // 8) for k in range(0, inputs, _CHUNK))
    packing = 5 * inputs * (blocks if chunks > 1 else 1)
    each = 44 + (0, 10, 38)[form]
    return (
        200
        + packing
        + fours * (30 * chunks + 84 * turns)
        + blocks * 160
        + outputs * each
        + 16 * rest
    )
