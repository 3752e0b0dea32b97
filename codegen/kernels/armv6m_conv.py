"""Convolution on ARMv6-M: two pixels times four channels (qcc_armv6m_conv.h).

A dense layer over several vectors is a 1x1 convolution over as many pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qcc.codegen.kernels.armv6m_common import (
    Requant,
    Split,
    flip,
    largest,
    leads_of,
    requant,
    rest_array,
    rest_table,
    split,
    unsupported,
    window_lead,
)
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Int, Node, Shape
from qcc.ops.base import Call, CArray, In, Out, Scratch
from qcc.ops.kernels import instance
from qcc.ops.window import Window

ISA = "armv6m"
OPERATORS = ("conv2d", "dense")

_NAME = "armv6m/conv"
_CHANNELS = 4
_MAX_SIDE = 32767
_MAX_SKIP = 255


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution of one group: x, y (1, h, w, c), weights (out, kh, kw, in), its window."""

    x: Shape
    y: Shape
    w: Int
    window: Window


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """Two pixels at a time, with the products of two values joined or each for itself."""
    layer, why = layer_of(graph, node), unsupported(graph, node)
    if isinstance(layer, str):
        why = layer
    if why or isinstance(layer, str):
        yield Refusal(_NAME, why or "")
        return
    a = node.attrs
    bias = graph.constant(node.inputs[2])
    r = requant(a.rescale, a.acc_bound, bias, len(layer.w), a.clip)
    if isinstance(r, str):
        yield Refusal(_NAME, r)
        return
    for joined in (True, False):
        yield _variant(graph, node, layer, r, joined)


def layer_of(graph: Graph, node: Node) -> Layer | str:
    """*node* as a convolution of one group over two pixels or more, or why it is none."""
    a, w = node.attrs, graph.constant(node.inputs[1])
    x, y = graph.shape(node.inputs[0]), graph.shape(node.output)
    if node.op == "dense":
        rows = math.prod(x[:-1])
        if rows == 1:
            return "one vector: there are no two pixels"
        x, y, w = (1, 1, rows, x[-1]), (1, 1, rows, y[-1]), w[:, None, None, :]
        window = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
    else:
        if a.group != 1:
            return "several groups"
        window = Window(w.shape[1:3], a.strides, a.pads, a.dilations)
    geometry = (*x, *y, *window.kernel, *window.strides, *window.dilations, *window.pads)
    if max(geometry) > _MAX_SIDE:
        return f"a side of more than {_MAX_SIDE}"
    return Layer(x, y, w.astype(np.int64), window)


def _variant(graph: Graph, node: Node, layer: Layer, r: Requant, joined: bool) -> Variant | Refusal:
    x_name = node.inputs[0]
    rows = layer.w.reshape(len(layer.w), -1)
    name = f"{_NAME}-joined" if joined else _NAME
    s = split(rows, joined, 65535 // largest(graph, x_name))
    rest = rest_table(s.q, _MAX_SKIP)
    if isinstance(rest, str):
        return Refusal(name, rest)
    counts, far = rest
    flipped = flip(graph, x_name)
    r = r.add(-flipped * rows.sum(axis=1))
    kernel = instance(
        "qcc_armv6m_conv.h",
        {"join": 2 if joined else 1, "flip": flipped, "form": r.form},
    )
    n = s.u.shape[1]
    args = (
        In(0),
        CArray("w", "uint8_t", _ordered(s.u), "[out / 4][values / 2][4][2], weights + z"),
        CArray("k", "int32_t", r.records(s.z << 8 | counts << 16), "[out], see the kernel"),
        rest_array(far),
        CArray("g", "int16_t", geometry(layer), "sizes, see qcc_armv6m_window.h"),
        Out(),
        Scratch(),
        r.lo,
        r.hi,
    )
    return Variant(
        kernel=name,
        why="two pixels a multiply" + (", two products a sum" if joined else ""),
        calls=(Call(kernel, args),),
        instructions=_instructions(layer, r, s, joined),
        code_bytes=_CODE[joined] + 100 * r.form,
        scratch=4 * n,
        leads=leads_of(window_lead(layer.x, layer.y, layer.window.kernel, layer.window), layer.y),
    )


def _ordered(u: Int) -> Int:
    """(out, n) -> [out / 4][n / 2][4][2]; channels that fill up a block weigh nothing."""
    u = np.pad(u, ((0, -len(u) % _CHANNELS), (0, 0)))
    blocks = u.reshape(-1, _CHANNELS, u.shape[1] // 2, 2)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3))


def geometry(layer: Layer) -> Int:
    """The table of qcc_armv6m_window.h."""
    (_, h, w, c), (_, oh, ow, oc), window = layer.x, layer.y, layer.window
    kh, kw = window.kernel
    runs, run = (1, kw) if window.dilations[1] == 1 else (kw, 1)
    sizes = (h, w, c, oh, ow, oc, kh, runs, run)
    places = (*window.strides, *window.dilations, *window.pads[:2])
    # Where windows that lie inside begin at most; windows of several runs are none of them.
    last = h - 1 - (kh - 1) * window.dilations[0], w - kw if runs == 1 else -1
    return np.array([*sizes, *places, *last], np.int64)


_CODE = {True: 1000, False: 1000}


def _instructions(layer: Layer, r: Requant, s: Split, joined: bool) -> int:
    """As counted in emulation; a test compares."""
    (_, _, _, c), (_, oh, ow, oc), (kh, _) = layer.x, layer.y, layer.window.kernel
    sizes: list[int] = geometry(layer).tolist()
    runs, run = sizes[7:9]
    n, pixels = int(s.u.shape[1]), oh * ow
    inside = _inside(layer)
    values = 36 * (run * c // 8) + 7 * (run * c % 8)
    window = 75 + kh * (12 + values)
    border = 110 + kh * runs * (100 + values)
    turns, left = divmod(n // 2, 4)
    step = 33 if joined else 41
    block = 42 + turns * (4 * step + 6) + left * (step + 5)
    channel = (38 if joined else 35) + (0, 4, 33)[r.form]
    pair = 110 + -(-oc // _CHANNELS) * block + oc * channel + 14 * s.rest
    return 100 + -(-pixels // 2) * pair + inside * window + (pixels - inside) * border


def _inside(layer: Layer) -> int:
    """How many windows lie inside the input, in one run of columns."""
    *_, last_row, last_column = geometry(layer).tolist()
    starts = [
        np.arange(layer.y[1 + d]) * layer.window.strides[d] - layer.window.pads[d] for d in (0, 1)
    ]
    counts = [
        int(((at >= 0) & (at <= last)).sum())
        for at, last in zip(starts, (last_row, last_column), strict=True)
    ]
    return counts[0] * counts[1]
