"""mul: y = a * b, broadcast. Also reads Div by a constant, and Div of a constant.

Integer: y = clamp(R(a * b)). A constant operand takes the scale that makes R a shift; for two
activations the scale chooser does (``relation``), and where it could not, R has a multiplier, in
every scale mode.
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
from qcc.functions import X, apply
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import broadcast, unary
from qcc.ops.base import INFINITY, Call, ChannelRole, Interval, Op, Out, QuantContext, Relation
from qcc.ops.examples import model, normal
from qcc.ops.kernels import CRescale, instance
from qcc.ops.linear import integer_clip
from qcc.ops.ratio import rescale


@dataclass(frozen=True, slots=True)
class Attrs:
    """bounds: a fused activation's clip; the rest is integer."""

    bounds: tuple[float, float] = (-INFINITY, INFINITY)
    rescale: Rescale | None = None
    clip: tuple[int, int] | None = None
    acc_bound: int = 0


class Mul(Op):
    name = "mul"
    onnx_types = ("Mul", "Div")
    elementwise = True

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        broadcast.check_axes(b, node)
        rank = len(b.shape(node.output[0]))
        operands = [broadcast.operand(b, node.input[0], rank)]
        operands.append(
            broadcast.operand(b, node.input[1], rank)
            if node.op_type == "Mul"
            else _reciprocal(b, node, rank)
        )
        b.emit("mul", operands, Attrs(), node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return broadcast.infer("mul", inputs)

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        return np.asarray(np.clip(inputs[0] * inputs[1], *attrs.bounds))

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        # 0 times an infinite bound is 0: the bound stands for numbers without limit.
        ends = [p * q if p and q else 0.0 for p in inputs[0] for q in inputs[1]]
        floor, top = attrs.bounds
        return min(max(min(ends), floor), top), min(max(max(ends), floor), top)

    @staticmethod
    def permute(attrs: Attrs, perm: Sequence[int], rank: int) -> Attrs:
        return attrs

    @staticmethod
    def relation(graph: Graph, node: Node) -> Relation | None:
        return Relation("product") if len(graph.activations(node)) == 2 else None

    @staticmethod
    def quantize(graph: Graph, node: Node, ctx: QuantContext) -> None:
        y = graph.quant(node.output)
        for i, name in enumerate(node.inputs):
            if graph.is_constant(name):
                other = node.inputs[1 - i]
                unit = y.scalar / graph.quant(other).scalar
                step = unit / broadcast.largest(graph, other)
                broadcast.quantize_constant(graph, node, i, unit, step)
        a, b = node.inputs
        bound = broadcast.largest(graph, a) * broadcast.largest(graph, b)
        alpha = graph.quant(a).scalar * graph.quant(b).scalar / y.scalar
        node.update(
            rescale=rescale(alpha, ctx.config.scale, bound),
            clip=integer_clip(node.attrs.bounds, y),
            acc_bound=bound,
        )

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        return arith.saturate(node.attrs.rescale.apply(inputs[0] * inputs[1]), *node.attrs.clip)

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        a, b = inputs
        ends = [p * q for p in (a.lo, a.hi) for q in (b.lo, b.hi)]
        lo, hi = np.minimum.reduce(ends), np.maximum.reduce(ends)
        at = node.attrs
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
        a, b, y = (graph.quant(t).qtype.ctype for t in (*node.inputs, node.output))
        kernel = instance("qcc_mul.h", rescale=r.form, a=a, b=b, y=y, acc=r.acc)
        shapes = (graph.shape(t) for t in (node.output, *node.inputs))
        args = (
            *broadcast.operand_args(graph, node), Out(), *broadcast.loops(*shapes).args,
            int(r.half[0]), *r.scalars, *at.clip,
        )  # fmt: skip
        return (Call(kernel, args),)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        same = helper.make_node("Mul", ["p", "q"], ["y"])
        yield model("mul_same", [same], {"p": (1, 3, 4, 5), "q": (1, 3, 4, 5)}, ["y"])
        # Squeeze and excite: one factor per channel.
        gate = [
            helper.make_node("GlobalAveragePool", ["p"], ["m"]),
            helper.make_node("Sigmoid", ["m"], ["s"]),
            helper.make_node("Mul", ["p", "s"], ["y"]),
        ]
        yield model("mul_gate", gate, {"p": (1, 6, 3, 5)}, ["y"])
        clipped = [
            helper.make_node("Mul", ["p", "q"], ["m"]),
            helper.make_node("Clip", ["m", "lo", "hi"], ["y"]),
        ]
        bounds = {"lo": np.array(0, np.float32), "hi": np.array(0.7, np.float32)}
        yield model("mul_outer_clip", clipped, {"p": (1, 4, 1, 1), "q": (3, 5)}, ["y"], bounds)
        for op, shape in (("Mul", (6, 1, 1)), ("Div", ()), ("Div", (1, 1, 3, 5))):
            node = helper.make_node(op, ["p", "c"], ["y"])
            consts = {"c": np.abs(normal(shape, seed=2)) + np.float32(0.5)}
            name = f"{op.lower()}_constant{len(shape)}"
            yield model(name, [node], {"p": (1, 6, 3, 5)}, ["y"], consts)


def _reciprocal(b: Builder, node: onnx.NodeProto, rank: int) -> str:
    """1 / the divisor: folded where it is a constant, else by a table."""
    top, bottom = node.input[:2]
    value = b.constant(bottom)
    if value is not None:
        if not value.all():
            b.unsupported("its divisor holds a zero")
        full = (1,) * (rank - value.ndim) + value.shape
        return b.const("reciprocal", 1.0 / value.astype(np.float64).reshape(full))
    if b.constant(top) is None:
        b.unsupported("division of one activation by another; a constant on one side is supported")
    return b.emit(
        "unary", [broadcast.operand(b, bottom, rank)], unary.Attrs(apply("reciprocal", X))
    )
