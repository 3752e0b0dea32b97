"""prelu: y = x where x >= 0, else slope * x; the slope is constant, one per channel as a rule.

One slope for all is a LeakyRelu, which ``unary`` does with a table.

Integer: y = clamp(R(x * m)), m one multiplier for x >= 0 or the slope's own below, R a rounding
shift. The multipliers are general integers in every scale mode: slopes are what they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from qcc import arith
from qcc.arith import Rescale
from qcc.builder import Builder
from qcc.errors import QccError, short
from qcc.functions import X, apply, clip
from qcc.ir import INT32, Array, Graph, Int, Node, Quant, Shape
from qcc.ops import broadcast, unary
from qcc.ops.base import INFINITY, Call, CArray, ChannelRole, In, Interval, Op, Out, QuantContext
from qcc.ops.examples import model, normal
from qcc.ops.kernels import CRescale, instance
from qcc.ops.linear import integer_clip
from qcc.ops.ratio import finest_shift, peak


@dataclass(frozen=True, slots=True)
class Attrs:
    """bounds: a fused activation's clip; the rest is integer. positive: multiplier of x >= 0."""

    bounds: tuple[float, float] = (-INFINITY, INFINITY)
    positive: int = 0
    rescale: Rescale | None = None
    clip: tuple[int, int] | None = None
    acc_bound: int = 0


class PRelu(Op):
    """Inputs: x, slope of x's rank, whose axes of size 1 repeat."""

    name = "prelu"
    onnx_types = ("PRelu",)
    elementwise = True

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        slope = b.needs_constant(node.input[1], "the slope")
        if slope.size == 1:
            alpha = float(slope.reshape(-1)[0])
            fn = apply("leaky_relu", X, alpha) if alpha else clip(X, 0.0, INFINITY)
            b.emit("unary", [b.tensor(node.input[0])], unary.Attrs(fn), node.output[0])
            return
        broadcast.check_axes(b, node)
        rank = len(b.shape(node.output[0]))
        inputs = [b.tensor(node.input[0]), broadcast.operand(b, node.input[1], rank)]
        b.emit("prelu", inputs, Attrs(), node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        if broadcast.infer("prelu", inputs) != inputs[0]:
            raise ValueError(f"prelu: slope {inputs[1]} for {inputs[0]}")
        return inputs[0]

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        x, slope = inputs
        return np.clip(np.where(x < 0, slope * x, x), *attrs.bounds)

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        (lo, hi), slopes = inputs
        below = [min(lo, 0.0) * s if s else 0.0 for s in slopes]
        ends = [0.0, max(hi, 0.0), *below] if lo < 0 else [lo, hi]
        floor, top = attrs.bounds
        return min(max(min(ends), floor), top), min(max(max(ends), floor), top)

    @staticmethod
    def permute(attrs: Attrs, perm: Sequence[int], rank: int) -> Attrs:
        return attrs

    @staticmethod
    def quantize(graph: Graph, node: Node, ctx: QuantContext) -> None:
        x, y = (graph.quant(t) for t in (node.inputs[0], node.output))
        slope = graph.constant(node.inputs[1]).astype(np.float64)
        unit = x.scalar / y.scalar
        steepest = max(float(np.abs(slope).max()), 1.0)
        try:
            shift = finest_shift(unit * steepest, peak(x.qtype))
        except OverflowError as e:
            raise QccError(f"layer {short(node.name)!r}: {e}") from e
        step = 0.5**shift / unit
        positive = round(1.0 / step)
        below = arith.round_half_up(slope / step)
        name = graph.add_constant(f"{node.inputs[1]}.q", below, Quant(INT32, step))
        old = node.inputs[1]
        graph.set_inputs(node, [node.inputs[0], name])
        graph.remove_if_unused(old)
        node.update(
            positive=positive,
            rescale=Rescale("fixed-point", (1,), (shift,)),
            clip=integer_clip(node.attrs.bounds, y),
            acc_bound=peak(x.qtype) * max(positive, int(np.abs(below).max())),
        )

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        at, (x, below) = node.attrs, inputs
        acc = x * np.where(x >= 0, at.positive, below)
        return arith.saturate(at.rescale.apply(acc), *at.clip)

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        at, (x, below) = node.attrs, inputs
        above = [np.maximum(v, 0) * at.positive for v in (x.lo, x.hi)]
        under = [np.minimum(v, 0) * m for v in (x.lo, x.hi) for m in (below.lo, below.hi)]
        # x has one sign, so its value is the sum of its two parts.
        lo = above[0] + np.minimum.reduce(under)
        hi = above[1] + np.maximum.reduce(under)
        return Interval(*(arith.saturate(at.rescale.apply(v), *at.clip) for v in (lo, hi)))

    @staticmethod
    def channel_role(graph: Graph, node: Node) -> ChannelRole:
        return broadcast.channel_role(graph, node)

    @staticmethod
    def select_channels(graph: Graph, node: Node, keep: Int) -> None:
        broadcast.select_channels(graph, node, keep)

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        at = node.attrs
        r = CRescale(at.rescale, at.acc_bound)
        x, y = (graph.quant(t).qtype.ctype for t in (node.inputs[0], node.output))
        kernel = instance("qcc_prelu.h", rescale=r.form, x=x, y=y, acc=r.acc)
        shapes = (graph.shape(t) for t in (node.output, *node.inputs))
        below = CArray("m", "int32_t", graph.constant(node.inputs[1]))
        args = (
            In(0), below, Out(), *broadcast.loops(*shapes).args,
            at.positive, int(r.half[0]), r.scalars[1], *at.clip,
        )  # fmt: skip
        return (Call(kernel, args),)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        node = helper.make_node("PRelu", ["x", "s"], ["y"])
        for name, shape in (("channel", (6, 1, 1)), ("map", (1, 3, 5)), ("one", (1,))):
            consts = {"s": normal(shape, seed=4)}
            yield model(f"prelu_{name}", [node], {"x": (1, 6, 3, 5)}, ["y"], consts)
