"""Pooling and means over an image with Helium: qcc_mve_max_pool.h and qcc_mve_avg_pool.h."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qcc.arith import Rescale
from qcc.codegen.kernels import mve_common
from qcc.codegen.leads import portable_leads, window_lead
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Int, Node
from qcc.ops.avg_pool2d import AvgPool2d
from qcc.ops.base import Arg, Call, CArray, In, Out
from qcc.ops.kernels import instance
from qcc.ops.window import Window

ISA = "mve"
OPERATORS = ("max_pool2d", "avg_pool2d", "reduce_mean")

_MAX = "mve/max"
_MEAN = "mve/mean"
_ROW = 128
"""Values whose sum certainly fits 16 bits."""


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """The one kernel for each operator."""
    kernel = _MAX if node.op == "max_pool2d" else _MEAN
    if (why := mve_common.unsupported(graph, node)) is not None:
        yield Refusal(kernel, why)
    elif node.op == "max_pool2d":
        yield _max_pool(graph, node)
    elif node.op == "avg_pool2d":
        yield _average(graph, node)
    else:
        yield _mean(graph, node)


def _max_pool(graph: Graph, node: Node) -> Variant:
    a = node.attrs
    (_, h, w, c), (_, oh, ow, _) = graph.shape(node.inputs[0]), graph.shape(node.output)
    kernel = instance("qcc_mve_max_pool.h", x=graph.quant(node.output).qtype.ctype)
    args = (
        In(0), Out(), h, w, c, oh, ow, *a.kernel, *a.strides, *a.dilations, *a.pads[:2],
    )  # fmt: skip
    visits = mve_common.visits((1, h, w, c), (1, oh, ow, c), a.kernel, a)
    return Variant(
        kernel=_MAX,
        why="sixteen channels in the lanes",
        calls=(Call(kernel, args),),
        instructions=visits.cost(-(-c // 16), 42, 24.6, 13, 4.6) + 80,
        code_bytes=320,
        leads=_short(portable_leads(graph, node), oh * ow * c),
    )


@dataclass(frozen=True, slots=True)
class _Windows:
    """What is averaged, in the terms of the kernel."""

    h: int
    w: int
    c: int
    oh: int
    ow: int
    window: Window


def _average(graph: Graph, node: Node) -> Variant | Refusal:
    a = node.attrs
    (_, h, w, c), (_, oh, ow, _) = graph.shape(node.inputs[0]), graph.shape(node.output)
    windows = _Windows(h, w, c, oh, ow, Window(a.kernel, a.strides, a.pads, a.dilations))
    # The portable kernel's call has the tables that say which entry a window takes.
    (call,) = AvgPool2d.calls(graph, node)
    rows, cols = (v for v in call.args[4:6] if isinstance(v, CArray | str))
    return _windows(graph, node, windows, a.table or a.rescale, rows, cols)


def _mean(graph: Graph, node: Node) -> Variant | Refusal:
    """Over neighbouring axes that are followed by the channels and preceded by ones."""
    shape, axes = graph.shape(node.inputs[0]), node.attrs.axes
    first, last = axes[0], axes[-1]
    inner = any(i not in axes and shape[i] > 1 for i in range(first, last + 1))
    if last == len(shape) - 1 or inner or math.prod(shape[:first]) > 1:
        return Refusal(_MEAN, "a mean over other axes than those before the last")
    count, c = math.prod(shape[a] for a in axes), math.prod(shape[last + 1 :])
    kw = max(d for d in range(1, _ROW + 1) if count % d == 0)
    kh = count // kw
    window = Window((kh, kw), (1, 1), (0, 0, 0, 0), (1, 1))
    windows = _Windows(kh, kw, c, 1, 1, window)
    return _windows(graph, node, windows, node.attrs.rescale, "NULL", "NULL")


def _windows(
    graph: Graph,
    node: Node,
    s: _Windows,
    rescale: Rescale,
    rows: CArray | str,
    cols: CArray | str,
) -> Variant | Refusal:
    a, (kh, kw) = node.attrs, s.window.kernel
    if kw > _ROW:
        return Refusal(_MEAN, f"rows of more than {_ROW} values in a window")
    found = _rescaled(rescale, a.acc_bound, a.clip)
    if isinstance(found, str):
        return Refusal(_MEAN, found)
    r, up = found
    wide = int(kh * kw > _ROW)
    x = graph.quant(node.inputs[0]).qtype.ctype
    kernel = instance("qcc_mve_avg_pool.h", {"form": r.form, "wide": wide}, x=x)
    args: tuple[Arg, ...] = (
        In(0), CArray("k", "int32_t", _entries(r), "half, multiplier, shift"), rows, cols, Out(),
        s.h, s.w, s.c, s.oh, s.ow, kh, kw, *s.window.strides, *s.window.dilations,
        *s.window.pads[:2], up, r.lo, r.hi,
    )  # fmt: skip
    shapes = (1, s.h, s.w, s.c), (1, s.oh, s.ow, s.c)
    visits = mve_common.visits(*shapes, s.window.kernel, s.window)
    return Variant(
        kernel=_MEAN,
        why="eight channels in the lanes",
        calls=(Call(kernel, args),),
        instructions=visits.cost(-(-s.c // 8), 46, 35 + r.form, 9.5, 4.3) + 40,
        code_bytes=440,
        leads=_short({0: window_lead(*shapes, s.window.kernel, s.window)}, s.oh * s.ow * s.c),
    )


def _short(leads: dict[int, int], out: int) -> dict[int, int]:
    """Those of *leads* that let the input overlap the *out* bytes of the output."""
    return {i: lead for i, lead in leads.items() if lead < out}


def _rescaled(
    rescale: Rescale, bound: int, clip: tuple[int, int]
) -> tuple[mve_common.Requant, int] | str:
    """The form for sums of at most *bound* and the power of two to multiply them with first."""
    entries = len(rescale.shift)
    up = 0
    while True:
        moved = Rescale(rescale.mode, rescale.mult, tuple(s + up for s in rescale.shift))
        r = mve_common.rescaled(moved, bound << up, np.zeros(1, np.int64), entries, clip)
        if isinstance(r, mve_common.Requant) or up == 8:
            return r if isinstance(r, str) else (r, up)
        up += 1


def _entries(r: mve_common.Requant) -> Int:
    return np.stack([r.bias, r.mult, -r.shift], axis=1)
