"""Depthwise convolutions with Helium: qcc_mve_planes.h and qcc_mve_depthwise.h.

From channel planes, where a window is one vector or two; or with channels in the lanes, which takes
every window, stride and dilation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qcc.codegen.kernels import mve_common
from qcc.codegen.leads import portable_leads
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Int, Node
from qcc.ops import conv2d_depthwise
from qcc.ops.base import Arg, Call, CArray, In, Out, Scratch
from qcc.ops.kernels import instance

ISA = "mve"
OPERATORS = ("conv2d",)

_PLANES = "mve/planes"
_LANES = "mve/channels"
_SCRATCH = 8192
"""Bytes that the planes may take."""

_OFFSET = (1 << 16) - 1
"""Largest distance in a scatter of 16-bit lanes."""


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """Both kernels, where a conv2d *node* has one input channel per group."""
    if node.attrs.group == 1 or not conv2d_depthwise.is_depthwise(graph, node):
        return
    if (why := mve_common.unsupported(graph, node)) is not None:
        yield Refusal(_PLANES, why)
        return
    found = mve_common.layer(graph, node, graph.shape(node.output)[3])
    if isinstance(found, str):
        yield Refusal(_PLANES, found)
        return
    refused = _no_planes(graph, node)
    if refused is None:
        yield _planes(graph, node, *found)
    else:
        yield Refusal(_PLANES, refused)
    yield _lanes(graph, node, *found)


# -- channel planes -------------------------------------------------------------------------------


def _columns(graph: Graph, node: Node) -> int:
    """Of a plane: what a line of outputs reads."""
    ow, kw = graph.shape(node.output)[2], graph.shape(node.inputs[1])[2]
    return int((ow - 1) * node.attrs.strides[1] + kw)


def _scratch(graph: Graph, node: Node) -> int:
    kh, step = graph.shape(node.inputs[1])[1], _step(graph, node)
    channels = -(-graph.shape(node.inputs[0])[3] // 8) * 8
    return int(32 * kh + channels * _columns(graph, node) * kh + 8 * step + 32)


def _step(graph: Graph, node: Node) -> int:
    return int(node.attrs.strides[1] * graph.shape(node.inputs[1])[1])


def _no_planes(graph: Graph, node: Node) -> str | None:
    """Why the windows cannot be vectors of planes: one phrase."""
    _, kh, kw, _ = graph.shape(node.inputs[1])
    a = node.attrs
    if kh * kw > 2 * mve_common.LANES:
        return "windows of more than 32 values"
    if (a.dilations[0] > 1 and kh > 1) or (a.dilations[1] > 1 and kw > 1):
        return "dilated"
    if _step(graph, node) > 15:
        return "windows more than 15 bytes apart"
    if _scratch(graph, node) > _SCRATCH:
        return f"planes of more than {_SCRATCH} bytes"
    if max(8 * graph.shape(node.output)[3], 7 * _columns(graph, node) * kh) > _OFFSET:
        return "too many channels to scatter"
    return None


def _planes(graph: Graph, node: Node, weights: Int, r: mve_common.Requant) -> Variant:
    (_, h, w, c), (_, oh, ow, o) = graph.shape(node.inputs[0]), graph.shape(node.output)
    a, (_, kh, kw, _) = node.attrs, graph.shape(node.inputs[1])
    taps, step, flip = kh * kw, _step(graph, node), mve_common.flip(graph, node.inputs[0])
    kind = 2 if taps > mve_common.LANES else int(step + taps <= mve_common.LANES)
    constants = {"taps": taps, "step": step, "kind": kind, "form": r.form, "lo": r.lo}
    kernel = instance("qcc_mve_planes.h", constants)
    columns = _columns(graph, node)
    table = mve_common.table(_records(weights, r, flip))
    args: tuple[Arg, ...] = (
        In(0), table, Out(), Scratch(), flip, h, w, c, oh, ow, o // c, kh, kw, a.strides[0],
        *a.pads[:2], columns, r.hi,
    )  # fmt: skip
    eight = (30, 26, 46)[kind] + (4 if kind == 0 else 4 if kind == 1 else 0)
    eight += 2 * r.form + (0 if r.lo == 0 else 3)
    rows = min(h, (oh - 1) * a.strides[0] + kh) + a.pads[0]
    load = -(-c // 8) * (26 + (6 if c % 8 == 0 else 8) * min(w, columns - a.pads[1]))
    lines = oh * ((1 if o == c else c) * 40 + o * (14 + -(-ow // 8) * eight) + kh * 12 + 30)
    return Variant(
        kernel=_PLANES,
        why="a window is a vector" if kind < 2 else "a window is two vectors",
        calls=(Call(kernel, args),),
        instructions=lines + rows * load + _scratch(graph, node) // 8 + kh * (40 + 9 * taps),
        code_bytes=900 + (0, 0, 60)[kind],
        scratch=_scratch(graph, node),
        leads={0: _lead(graph, node)} if o == c else {},
    )


def _records(weights: Int, r: mve_common.Requant, flip: int) -> Int:
    """(out, kh, kw, 1) -> the words of qcc_mve_planes.h."""
    w = weights[..., 0].transpose(0, 2, 1).reshape(len(weights), -1).astype(np.int64)
    taps = w.shape[1]
    padded = np.zeros((len(w), (taps + 4) // 4 * 4), np.int64)
    padded[:, :taps] = w
    columns = [r.bias + flip * w.sum(axis=1), -r.shift]
    if r.form == 1:
        columns.append(r.mult)
    head = np.stack(columns, axis=1)
    body = mve_common.words8(padded).reshape(len(w), -1)
    return np.asarray(np.concatenate([head, body], axis=1).ravel() & 0xFFFFFFFF, np.int64)


def _lead(graph: Graph, node: Node) -> int:
    """A line of outputs is written after the rows of its windows have been read."""
    (_, h, w, c), (_, oh, ow, o) = graph.shape(node.inputs[0]), graph.shape(node.output)
    a, kh = node.attrs, graph.shape(node.inputs[1])[1]
    leads = [0]
    for i in range(oh):
        unread = max(0, i * a.strides[0] - a.pads[0] + kh)
        if unread < h:
            leads.append((i + 1) * ow * o - unread * w * c)
    return max(leads)


# -- channels in the lanes ------------------------------------------------------------------------


def _lanes(graph: Graph, node: Node, weights: Int, r: mve_common.Requant) -> Variant:
    (_, h, w, c), (_, oh, ow, o) = graph.shape(node.inputs[0]), graph.shape(node.output)
    a, (_, kh, kw, _) = node.attrs, graph.shape(node.inputs[1])
    blocks = -(-o // 8)
    padded = np.zeros((kh, kw, blocks * 8), np.int64)
    padded[..., :o] = weights[..., 0].transpose(1, 2, 0)
    index: CArray | str = "NULL"
    if o != c:
        each = np.zeros(blocks * 8, np.int64)
        each[:o] = np.arange(o) // (o // c)
        index = CArray("i", "uint16_t", each, "channel of each output")
    kernel = instance(
        "qcc_mve_depthwise.h",
        {"form": r.form, "each": int(o == c)},
        x=graph.quant(node.inputs[0]).qtype.ctype,
    )
    args: tuple[Arg, ...] = (
        In(0), CArray("w", "int8_t", padded, "[kh][kw][out]"),
        mve_common.table(_interleaved(r)), index, Out(), h, w, c, oh, ow, o, kh, kw, *a.strides,
        *a.dilations, *a.pads[:2], r.lo, r.hi,
    )  # fmt: skip
    visits = mve_common.visits((1, h, w, c), (1, oh, ow, o), (kh, kw), a)
    return Variant(
        kernel=_LANES,
        why="eight channels in the lanes",
        calls=(Call(kernel, args),),
        instructions=visits.cost(blocks, 53, 59 + 4 * r.form, 10.5, 9) + 50,
        code_bytes=620,
        leads=portable_leads(graph, node),
    )


def _interleaved(r: mve_common.Requant) -> Int:
    """Biases, multipliers and shifts by eights, the even ones before the odd ones."""

    def split(values: Int, fill: int = 0) -> Int:
        full = np.pad(values, (0, -len(values) % 8), constant_values=fill)
        return np.asarray(full.reshape(-1, 4, 2).transpose(0, 2, 1).reshape(-1, 8))

    parts = [split(r.bias)]
    if r.form == 1:
        parts.append(split(r.mult))
    parts.append(mve_common.words8(split(-r.shift, -1)).reshape(-1, 2))
    return np.asarray(np.concatenate(parts, axis=1).ravel() & 0xFFFFFFFF, np.int64)
