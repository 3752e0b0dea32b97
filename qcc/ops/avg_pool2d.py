"""avg_pool2d: the mean of each window, NHWC; the sum is exact, the rescale includes 1/count.

Windows at the border may count fewer values than inner ones. A window's count is rows * columns,
so the rescale is a table with one entry per pair of distinct row and column counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qcc import arith
from qcc.arith import Rescale
from qcc.builder import Builder
from qcc.errors import QccError, short
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import linear, mean, window
from qcc.ops.base import (
    INFINITY,
    Call,
    CArray,
    ChannelRole,
    In,
    Interval,
    Op,
    Out,
    QuantContext,
    Relation,
)
from qcc.ops.examples import model
from qcc.ops.kernels import CRescale, instance
from qcc.ops.max_pool2d import emit_pool, pooled_shape, read_window, tap_counts

Pads = tuple[int, int, int, int]

_MAX_KINDS = 1 << 16
"""The kernel's index tables are uint16_t."""


@dataclass(frozen=True, slots=True)
class Attrs:
    """What is pooled, and after quantization how.

    Attributes:
        kernel: rows, columns.
        strides: rows, columns.
        pads: top, left, bottom, right.
        dilations: rows, columns.
        counted: the part of *pads*, from the input outwards, whose zeros count as values.
        bounds: a fused activation's clip.
        rescale: of the windows that count most; its mode is fixed-point where no shift fits.
        table: one entry per (row count, column count), row-major, where counts differ.
        clip: limits of the output.
        acc_bound: the largest |sum|.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    counted: Pads = (0, 0, 0, 0)
    bounds: tuple[float, float] = (-INFINITY, INFINITY)
    rescale: Rescale | None = None
    table: Rescale | None = None
    clip: tuple[int, int] | None = None
    acc_bound: int = 0


class AvgPool2d(Op):
    name = "avg_pool2d"
    onnx_types = ("AveragePool",)

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        attrs = b.attributes(node)
        win = read_window(b, node, attrs["kernel_shape"])
        counted = (0, 0, 0, 0)
        if attrs.get("count_include_pad", 0):
            counted = _declared_pads(attrs.get("auto_pad", "NOTSET"), attrs.get("pads"), win)
        pool = Attrs(win.kernel, win.strides, win.pads, win.dilations, counted)
        emit_pool(b, node, "avg_pool2d", pool)

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return pooled_shape(attrs.kernel, attrs, inputs[0])

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        x = inputs[0]
        total = _sums(x, attrs)
        counts = _grid(_Counts.of(attrs, x.shape[1:], attrs.counted))
        y = total / counts[..., None].astype(np.float32)
        return np.asarray(np.clip(y, *attrs.bounds), np.float32)

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        lo, hi = inputs[0]
        if any(attrs.counted):
            lo, hi = min(lo, 0.0), max(hi, 0.0)
        low, high = attrs.bounds
        return min(max(lo, low), high), min(max(hi, low), high)

    @staticmethod
    def relation(graph: Graph, node: Node) -> Relation | None:
        counts = _Counts.of(node.attrs, graph.shape(node.inputs[0]), node.attrs.counted)
        if len(counts.products) > 1:
            return None  # no scale makes shifts of them all
        return Relation("each", 1 / counts.products[0])

    @staticmethod
    def quantize(graph: Graph, node: Node, ctx: QuantContext) -> None:
        a, shape = node.attrs, graph.shape(node.inputs[0])
        x, y = graph.quant(node.inputs[0]), graph.quant(node.output)
        values = _grid(_Counts.of(a, shape, (0, 0, 0, 0)))
        bound = mean.sum_bound(int(values.max()), x.qtype)
        products = _Counts.of(a, shape, a.counted).products
        if len(products) > _MAX_KINDS:
            raise QccError(
                f"layer {short(node.name)!r}: its windows count values in {len(products)} ways; "
                f"up to {_MAX_KINDS} are supported"
            )
        alphas = [x.scalar / (y.scalar * n) for n in products]
        r = mean.rescale(alphas, ctx.config.scale, bound)
        most = int(np.argmax(products))
        node.update(
            rescale=r.select(np.array([most])),
            table=r if r.per_channel else None,
            clip=linear.integer_clip(a.bounds, y),
            acc_bound=bound,
        )

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        a, x = node.attrs, inputs[0]
        kind = _kinds(_Counts.of(a, x.shape[1:], a.counted))
        return arith.saturate(_rescaled(a, _sums(x, a), kind[..., None]), *a.clip)

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        """Exact where all channels of a window can reach their bounds at once, per channel."""
        a, shape = node.attrs, graph.shape(node.inputs[0])
        values = _grid(_Counts.of(a, shape, (0, 0, 0, 0)))
        kinds = _kinds(_Counts.of(a, shape, a.counted))
        pairs = np.unique(np.stack([values.ravel(), kinds.ravel()], axis=1), axis=0)
        n, kind = pairs[:, :1], pairs[:, 1:]
        lo = arith.saturate(_rescaled(a, n * inputs[0].lo, kind), *a.clip)
        hi = arith.saturate(_rescaled(a, n * inputs[0].hi, kind), *a.clip)
        return Interval(lo.min(axis=0), hi.max(axis=0))

    @staticmethod
    def channel_role(graph: Graph, node: Node) -> ChannelRole:
        return "pass"

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        a = node.attrs
        (_, h, w, c), (_, oh, ow, _) = graph.shape(node.inputs[0]), graph.shape(node.output)
        r = CRescale(a.table or a.rescale, a.acc_bound)
        kernel = instance(
            "qcc_avg_pool2d.h",
            rescale=r.form,
            x=graph.quant(node.inputs[0]).qtype.ctype,
            y=graph.quant(node.output).qtype.ctype,
            acc=r.acc,
        )
        rows: CArray | str = "NULL"
        cols: CArray | str = "NULL"
        if r.step:
            counts = _Counts.of(a, (1, h, w, c), a.counted)
            row_kind, col_kind = counts.kinds
            rows = CArray("rows", "uint16_t", row_kind * len(counts.distinct[1]), "[oh]")
            cols = CArray("cols", "uint16_t", col_kind, "[ow]")
        half = CArray("b", r.acc, r.half)
        args = (
            In(0), half, r.mult, r.shift, rows, cols, Out(), h, w, c, oh, ow,
            *a.kernel, *a.strides, *a.dilations, *a.pads[:2], *a.clip,
        )  # fmt: skip
        return (Call(kernel, args),)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        cases: dict[str, tuple[Shape, dict[str, Any]]] = {
            "plain": ((1, 3, 6, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
            "nine": ((1, 2, 7, 9), {"kernel_shape": [3, 3], "strides": [2, 3]}),
            "excluded": ((1, 3, 5, 6), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
            "uneven": ((1, 2, 7, 5), {"kernel_shape": [4, 3], "pads": [3, 0, 1, 2],
                                      "strides": [2, 1]}),
            "included": ((1, 4, 5, 6), {"kernel_shape": [3, 2], "pads": [1, 0, 2, 1],
                                        "count_include_pad": 1}),
            "ceil": ((1, 2, 8, 7), {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1}),
            "ceil_included": ((1, 2, 8, 7), {"kernel_shape": [3, 3], "strides": [2, 3],
                                             "ceil_mode": 1,
                                             "pads": [1, 1, 1, 1], "count_include_pad": 1}),
            "upper": ((1, 2, 6, 7), {"kernel_shape": [3, 4], "strides": [2, 2],
                                     "auto_pad": "SAME_UPPER"}),
            "lower": ((1, 2, 6, 7), {"kernel_shape": [3, 4], "strides": [2, 2],
                                     "auto_pad": "SAME_LOWER"}),
            "same_included": ((1, 2, 6, 7), {"kernel_shape": [3, 4], "auto_pad": "SAME_UPPER",
                                             "count_include_pad": 1}),
            "large": ((1, 1, 17, 16), {"kernel_shape": [16, 15]}),
            "one_d": ((1, 3, 13), {"kernel_shape": [4], "strides": [3], "pads": [1, 2]}),
        }  # fmt: skip
        for name, (x, attrs) in cases.items():
            pool = helper.make_node("AveragePool", ["x"], ["y"], **attrs)
            yield model(f"avg_pool2d_{name}", [pool], {"x": x}, ["y"])
        for name, include in (("dilated", 0), ("dilated_included", 1)):
            pool = helper.make_node(
                "AveragePool", ["x"], ["y"], kernel_shape=[3, 2], dilations=[2, 3],
                pads=[2, 1, 1, 1], strides=[1, 2], count_include_pad=include,
            )  # fmt: skip
            yield model(f"avg_pool2d_{name}", [pool], {"x": (1, 2, 9, 8)}, ["y"], opset=19)


def _declared_pads(auto_pad: str, pads: Sequence[int] | None, win: window.Window) -> Pads:
    """Pads without what ceil_mode added: the overhang never counts."""
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return win.pads
    if auto_pad == "VALID" or pads is None:
        return (0, 0, 0, 0)
    if len(pads) == 2:
        return (0, pads[0], 0, pads[1])
    return (pads[0], pads[1], pads[2], pads[3])


@dataclass(frozen=True, slots=True)
class _Counts:
    """Values per window: count[i, j] = rows[i] * cols[j]."""

    rows: Int
    cols: Int

    @classmethod
    def of(cls, a: Attrs, x: Shape, margin: Pads) -> _Counts:
        out = window.output_size(x[1:3], a.kernel, a)
        rows, cols = (
            tap_counts(d, a.kernel, a, x[1 + d], out[d], (margin[d], margin[d + 2]))
            for d in range(2)
        )
        return cls(rows, cols)

    @property
    def distinct(self) -> tuple[Int, Int]:
        """The distinct row counts and column counts, ascending."""
        return np.unique(self.rows), np.unique(self.cols)

    @property
    def kinds(self) -> tuple[Int, Int]:
        """Per output row and column, the index of its count in ``distinct``."""
        rows, cols = self.distinct
        return np.searchsorted(rows, self.rows), np.searchsorted(cols, self.cols)

    @property
    def products(self) -> list[int]:
        """The count of every kind of window."""
        rows, cols = self.distinct
        return [int(n) for n in np.outer(rows, cols).ravel()]


def _grid(counts: _Counts) -> Int:
    """(oh, ow): values in each window."""
    return np.outer(counts.rows, counts.cols)


def _kinds(counts: _Counts) -> Int:
    """(oh, ow): entry of the rescale table for each window."""
    rows, cols = counts.kinds
    return rows[:, None] * len(counts.distinct[1]) + cols


def _sums(x: Array, a: Attrs) -> Array:
    """Arrays (N, 1, H, W, C) -> window sums (N, 1, OH, OW, C)."""
    taps = window.taps(x.reshape(-1, *x.shape[2:]), a.kernel, a)
    kind = np.float32 if x.dtype.kind == "f" else np.int64
    y = taps.sum(axis=3, dtype=kind)
    return np.asarray(y.reshape(*x.shape[:2], *y.shape[1:]))


def _rescaled(a: Attrs, total: Int, kind: Int) -> Int:
    """R of each window's kind; *kind* broadcasts against *total*."""
    if a.table is None:
        assert a.rescale is not None
        return a.rescale.apply(total)
    mult, shift = (np.array(v, np.int64)[kind] for v in (a.table.mult, a.table.shift))
    return arith.shift_round(total * mult, shift)


def window_rescales(a: Attrs, x: Shape) -> tuple[Int, Int]:
    """(multiplier, shift) of every window, each (oh, ow), for an input of shape *x*."""
    r = a.table or a.rescale
    assert r is not None
    kind = _kinds(_Counts.of(a, x, a.counted)) if a.table else 0
    mult, shift = (np.array(v, np.int64)[kind] for v in (r.mult, r.shift))
    return mult, shift
