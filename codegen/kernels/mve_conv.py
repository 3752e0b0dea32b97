"""Convolutions and fully connected layers by Helium dot products: runtime_c/isa/mve/qcc_mve_conv.h.

Four output channels and two pixels at a time, over windows that were laid out in scratch memory.
A fully connected layer of several rows is a convolution of 1x1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from qcc.codegen.kernels import mve_common
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Int, Node
from qcc.ops import conv2d_depthwise
from qcc.ops.base import Call, In, Out, Scratch
from qcc.ops.kernels import instance

ISA = "mve"
OPERATORS = ("conv2d", "dense")

_KERNEL = "mve/dot4x2"
_UNROLL = 12
"""The most blocks that the kernel unrolls."""

_SCRATCH = 2048
"""Bytes that the windows of a chunk of pixels may take, unless two pixels take more."""

_STRIP, _ROWS, _TAPS = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Shape:
    """A convolution as the kernel sees it: c and o are per group."""

    h: int
    w: int
    c: int
    oh: int
    ow: int
    o: int
    groups: int
    kh: int = 1
    kw: int = 1
    sh: int = 1
    sw: int = 1
    dh: int = 1
    dw: int = 1
    pt: int = 0
    pl: int = 0

    @property
    def values(self) -> int:
        return self.kh * self.kw * self.c


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """The layouts and degrees of unrolling that fit a conv2d or dense *node*."""
    shape = _shape(graph, node)
    if (why := mve_common.unsupported(graph, node)) is not None:
        yield Refusal(_KERNEL, why)
        return
    if shape.groups > 1 and conv2d_depthwise.is_depthwise(graph, node):
        return  # has kernels of its own
    found = mve_common.layer(graph, node, shape.o * shape.groups)
    if isinstance(found, str):
        yield Refusal(_KERNEL, found)
        return
    count = mve_common.blocks(shape.values)
    for layout in _layouts(shape):
        for unroll in range(1, min(count, _UNROLL) + 1):
            if count % unroll == 0:
                yield _variant(graph, node, shape, found, layout, unroll)


def _shape(graph: Graph, node: Node) -> _Shape:
    x, y = graph.shape(node.inputs[0]), graph.shape(node.output)
    if node.op == "dense":
        rows = math.prod(x[:-1])
        return _Shape(1, rows, x[-1], 1, rows, y[-1], 1)
    a, (o, kh, kw, c) = node.attrs, graph.shape(node.inputs[1])
    full = _Shape(
        h=x[1], w=x[2], c=c, oh=y[1], ow=y[2], o=o // a.group, groups=a.group, kh=kh, kw=kw,
        sh=a.strides[0], sw=a.strides[1], dh=a.dilations[0], dw=a.dilations[1],
        pt=a.pads[0], pl=a.pads[1],
    )  # fmt: skip
    if kh == kw == 1 and not any(a.pads) and tuple(a.strides) == (1, 1):  # one long row
        return replace(full, h=1, w=x[1] * x[2], oh=1, ow=y[1] * y[2])
    return full


def _layouts(s: _Shape) -> list[int]:
    if s.dw > 1 and s.kw > 1:
        return [_TAPS]
    if s.kw > 1 and s.groups == 1:
        return [_STRIP, _ROWS]
    return [_STRIP]


def _chunk(s: _Shape, layout: int) -> tuple[int, int]:
    """(pixels of a row that are laid out at once, bytes that they take)."""

    def size(pixels: int) -> int:
        if layout == _STRIP:
            return ((pixels - 1) * s.sw + s.kw) * s.kh * s.c
        return pixels * s.values

    pixels = s.ow
    while pixels > 2 and size(pixels) > _SCRATCH:
        pixels = max(2, (pixels + 1) // 2 + (pixels + 1) // 2 % 2)
    return pixels, size(pixels) + mve_common.LANES


def _variant(
    graph: Graph,
    node: Node,
    s: _Shape,
    found: tuple[Int, mve_common.Requant],
    layout: int,
    unroll: int,
) -> Variant:
    weights, r = found
    chunk, scratch = _chunk(s, layout)
    count = mve_common.blocks(s.values)
    turns = count // unroll
    flip = mve_common.flip(graph, node.inputs[0])
    words = _pack(weights, s, r, layout, flip)
    constants = {"blocks": unroll, "loop": int(turns > 1), "form": r.form, "layout": layout}
    kernel = instance("qcc_mve_conv.h", constants)
    args = (
        In(0), mve_common.table(words), Out(), Scratch(), flip, s.h, s.w, s.c * s.groups, s.c,
        s.oh, s.ow, s.o * s.groups, s.o, s.groups, words.size // s.groups, s.kh, s.kw, s.sh, s.sw,
        s.dh, s.dw, s.pt, s.pl, chunk, turns, r.lo, r.hi,
    )  # fmt: skip
    return Variant(
        kernel=_KERNEL,
        why=("strip of columns", "windows by rows", "windows by taps")[layout],
        calls=(Call(kernel, args),),
        instructions=_instructions(s, layout, chunk, turns, count, r.form),
        code_bytes=_code(layout, unroll),
        scratch=scratch,
        leads={} if s.groups > 1 else {0: _lead(s, chunk)},
    )


def _pack(weights: Int, s: _Shape, r: mve_common.Requant, layout: int, flip: int) -> Int:
    """(out, kh, kw, in), or (out, in) of a dense layer, -> the table."""
    w = weights.reshape(s.o * s.groups, s.kh, s.kw, s.c)
    if layout == _STRIP:
        w = w.transpose(0, 2, 1, 3)
    rows = w.reshape(len(w), -1)
    packed = []
    for g in range(s.groups):
        own = slice(g * s.o, (g + 1) * s.o)
        part = replace(r, bias=r.bias[own], mult=r.mult[own], shift=r.shift[own])
        packed.append(mve_common.pack(rows[own], part, 4, flip))
    return np.concatenate(packed)


def _lead(s: _Shape, chunk: int) -> int:
    """How far the input must lie above the output, so that nothing is written before it is read.

    The windows of a chunk are complete before its outputs are written.
    """
    written, needed = [], []
    for i in range(s.oh):
        for j in range(0, s.ow, chunk):
            row, column = max(0, i * s.sh - s.pt), max(0, j * s.sw - s.pl)
            needed.append((row * s.w + column) * s.c)
            written.append((i * s.ow + min(j + chunk, s.ow)) * s.o)
    later = np.minimum.accumulate(np.array([*needed[1:], 1 << 40])[::-1])[::-1]
    return max(0, int((np.array(written) - later).max()))


# -- estimates, fitted to counts under emulation --------------------------------------------------


def copy_cost(n: int) -> int:
    """Instructions to copy one piece of *n* bytes, the loop over pieces included."""
    return 8 if n <= mve_common.LANES else 8 + 4 * mve_common.blocks(n)


def _instructions(s: _Shape, layout: int, chunk: int, turns: int, count: int, form: int) -> int:
    tile = 14 * count + (18 if turns == 1 else 20 + 2 * turns) + 3 * form
    tiles = -(-s.o // 4)
    pairs = -(-s.ow // 2)
    rest = 14 if s.o % 4 else 0
    chunks = -(-s.ow // chunk)
    pieces = _strip_cost(s, chunk) if layout == _STRIP else _window_cost(s, layout, chunk)
    row = pairs * (tile * tiles + 27 + rest) + chunks * (pieces + 40)
    return s.groups * s.oh * row + 120


def _strip_cost(s: _Shape, chunk: int) -> int:
    columns = (chunk - 1) * s.sw + s.kw
    if s.kh * s.c == s.c and s.groups == 1:
        return 70 + 4 * mve_common.blocks(columns * s.c)
    return s.kh * (130 + columns * copy_cost(s.c))


def _window_cost(s: _Shape, layout: int, chunk: int) -> int:
    if layout == _TAPS:
        return s.kh * s.kw * (100 + chunk * copy_cost(s.c))
    border = sum(_border(s))
    inside = max(0, chunk - border)
    return s.kh * (50 + inside * copy_cost(s.kw * s.c)) + border * (40 + 25 * s.kh)


def _border(s: _Shape) -> tuple[int, int]:
    """Pixels of a row whose windows reach over the left and the right edge."""
    left = -(-s.pl // s.sw)
    right = sum(1 for j in range(s.ow) if j * s.sw - s.pl + s.kw > s.w)
    return left, right


def _code(layout: int, unroll: int) -> int:
    return 900 + 56 * unroll + (300, 500, 350)[layout]
