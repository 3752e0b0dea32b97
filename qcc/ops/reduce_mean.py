"""reduce_mean: the mean over any set of axes, which stay with size 1; the sum is exact.

GlobalAveragePool is one, over all axes but the batch and the channels. ``keepdims=0`` is read as
reduce and reshape.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from qcc import arith
from qcc.arith import Rescale
from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import linear, mean
from qcc.ops.base import (
    INFINITY,
    Call,
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

_GROUPS = 3
"""The kernel loops over at most this many groups of kept, and of reduced axes."""


@dataclass(frozen=True, slots=True)
class Attrs:
    """axes: reduced, ascending. bounds: a fused activation's clip; the rest is integer.

    The mode of *rescale* is fixed-point where no shift fits.
    """

    axes: tuple[int, ...]
    bounds: tuple[float, float] = (-INFINITY, INFINITY)
    rescale: Rescale | None = None
    clip: tuple[int, int] | None = None
    acc_bound: int = 0


class ReduceMean(Op):
    name = "reduce_mean"
    onnx_types = ("ReduceMean", "GlobalAveragePool")

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        from qcc.ops.reshape import Attrs as Reshape

        shape, y_shape = b.shape(node.input[0]), b.shape(node.output[0])
        # An axis of size 1 has nothing to sum, and the batch axis is one.
        axes = tuple(a for a in _onnx_axes(b, node, len(shape)) if shape[a] > 1)
        x = b.tensor(node.input[0])
        if not axes:
            b.emit("reshape", [x], Reshape(y_shape), node.output[0])
            return
        if len(_merged(shape, axes)) > 2 * _GROUPS:
            b.unsupported(f"the mean over axes {list(axes)} of {list(shape)}: too many groups")
        attrs = Attrs(axes)
        if len(y_shape) == len(shape):
            b.emit("reduce_mean", [x], attrs, node.output[0])
            return
        b.emit("reshape", [b.emit("reduce_mean", [x], attrs)], Reshape(y_shape), node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if not all(0 <= a < len(x) for a in attrs.axes):
            raise ValueError(f"reduce_mean: axes {attrs.axes} of shape {x}")
        return tuple(1 if i in attrs.axes else n for i, n in enumerate(x))

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        x = inputs[0]
        y = x.mean(axis=_with_samples(attrs.axes), keepdims=True, dtype=np.float32)
        return np.asarray(np.clip(y, *attrs.bounds), np.float32)

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        low, high = attrs.bounds
        lo, hi = (min(max(v, low), high) for v in inputs[0])
        return lo, hi

    @staticmethod
    def permute(attrs: Attrs, perm: Sequence[int], rank: int) -> Attrs:
        return dataclasses.replace(attrs, axes=tuple(sorted(perm[a] for a in attrs.axes)))

    @staticmethod
    def relation(graph: Graph, node: Node) -> Relation | None:
        return Relation("each", 1 / _count(graph, node))

    @staticmethod
    def quantize(graph: Graph, node: Node, ctx: QuantContext) -> None:
        x, y = graph.quant(node.inputs[0]), graph.quant(node.output)
        count = _count(graph, node)
        bound = mean.sum_bound(count, x.qtype)
        alpha = x.scalar / (y.scalar * count)
        node.update(
            rescale=mean.rescale([alpha], ctx.config.scale, bound),
            clip=linear.integer_clip(node.attrs.bounds, y),
            acc_bound=bound,
        )

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        a = node.attrs
        total = inputs[0].sum(axis=_with_samples(a.axes), keepdims=True, dtype=np.int64)
        return arith.saturate(a.rescale.apply(total), *a.clip)

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        a, x = node.attrs, graph.shape(node.inputs[0])
        count, lo, hi = _count(graph, node), inputs[0].lo, inputs[0].hi
        if len(x) - 1 in a.axes:  # sums run over the channels
            full = inputs[0].expand(x[-1])
            count //= x[-1]
            lo, hi = full.lo.sum(keepdims=True), full.hi.sum(keepdims=True)
        return linear.output_interval(node, (count * lo, count * hi))

    @staticmethod
    def channel_role(graph: Graph, node: Node) -> ChannelRole:
        last = len(graph.shape(node.inputs[0])) - 1
        return "block" if last in node.attrs.axes else "pass"

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        a, shape = node.attrs, graph.shape(node.inputs[0])
        r = CRescale(a.rescale, a.acc_bound)
        kernel = instance(
            "qcc_reduce_mean.h",
            rescale=r.form,
            x=graph.quant(node.inputs[0]).qtype.ctype,
            y=graph.quant(node.output).qtype.ctype,
            acc=r.acc,
        )
        groups = _merged(shape, a.axes)
        kept, kept_steps = _loops(groups, reduced=False)
        gone, gone_steps = _loops(groups, reduced=True)
        half, (mult, shift) = int(r.half[0]), r.scalars
        args = (
            In(0), half, mult, shift, Out(), *kept, *kept_steps, *gone, *gone_steps, *a.clip,
        )  # fmt: skip
        return (Call(kernel, args),)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        cases: dict[str, tuple[Shape, list[int] | None, int]] = {
            "space": ((1, 3, 5, 4), [2, 3], 1),
            "flat": ((1, 3, 7, 4), [2, 3], 0),
            "channels": ((1, 6, 5, 4), [1], 1),
            "last": ((2, 3, 5), [-1], 0),
            "apart": ((1, 3, 5, 4), [1, 3], 1),
            "middle": ((2, 3, 4, 5, 3), [1, 3], 0),
            "all": ((1, 3, 5, 2), None, 1),
            "ones": ((1, 1, 5), [0, 1], 0),
        }  # fmt: skip
        for name, (x, axes, keep) in cases.items():
            node = helper.make_node("ReduceMean", ["x"], ["y"], keepdims=keep, axes=axes)
            yield model(f"reduce_mean_{name}", [node], {"x": x}, ["y"])
        newer = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
        axes_input = {"axes": np.array([-1, 2], np.int64)}
        yield model("reduce_mean_opset18", [newer], {"x": (1, 4, 3, 5)}, ["y"], axes_input, 18)
        noop = helper.make_node("ReduceMean", ["x"], ["y"], noop_with_empty_axes=1)
        yield model("reduce_mean_noop", [noop], {"x": (1, 4, 3)}, ["y"], opset=18)
        for name, x in (("2d", (1, 6, 8, 8)), ("1d", (1, 5, 11)), ("3d", (1, 2, 3, 4, 3))):
            pool = helper.make_node("GlobalAveragePool", ["x"], ["y"])
            yield model(f"reduce_mean_global_{name}", [pool], {"x": x}, ["y"])


def _onnx_axes(b: Builder, node: onnx.NodeProto, rank: int) -> list[int]:
    if node.op_type == "GlobalAveragePool":
        return list(range(2, rank))
    attrs = b.attributes(node)
    axes = attrs.get("axes")
    if (name := b.optional(node, 1)) is not None:
        axes = b.needs_constant(name, "the axes").ravel().tolist()
    if not axes:
        return [] if attrs.get("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({a % rank for a in axes})


def _with_samples(axes: Sequence[int]) -> tuple[int, ...]:
    """Axes of an array that has the leading axis of samples."""
    return tuple(a + 1 for a in axes)


def _count(graph: Graph, node: Node) -> int:
    """How many values go into one mean."""
    shape = graph.shape(node.inputs[0])
    return math.prod(shape[a] for a in node.attrs.axes)


@dataclass(frozen=True, slots=True)
class _Group:
    """Adjacent axes of one kind as one: *size* elements, *step* apart."""

    reduced: bool
    size: int
    step: int


def _merged(shape: Shape, axes: Sequence[int]) -> list[_Group]:
    """The axes of a row-major array as alternating groups, outermost first."""
    groups: list[_Group] = []
    step = 1
    for i in reversed(range(len(shape))):
        if shape[i] == 1:
            continue
        last = groups[-1] if groups else None
        if last is not None and last.reduced == (i in axes):
            groups[-1] = dataclasses.replace(last, size=last.size * shape[i])
        else:
            groups.append(_Group(i in axes, shape[i], step))
        step *= shape[i]
    return groups[::-1]


def _loops(groups: Sequence[_Group], *, reduced: bool) -> tuple[list[int], list[int]]:
    """(sizes, steps) of the kernel's loops over one kind of axes, filled up with single turns."""
    mine = [g for g in groups if g.reduced == reduced]
    idle = _GROUPS - len(mine)
    return [1] * idle + [g.size for g in mine], [0] * idle + [g.step for g in mine]
