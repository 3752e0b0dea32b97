"""add: y = a + b or a - b, broadcast. Also reads Sub, and Sum as a chain.

Integer: y = clamp(R(a * m_a + b * m_b)), R a rounding shift. The scale chooser arranges the scales
so that the multipliers are powers of two (``relation``); where it could not (two graph inputs, a
scale shared with another operator), they are general integers, in every scale mode.
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
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import broadcast
from qcc.ops.base import INFINITY, Call, ChannelRole, Interval, Op, Out, QuantContext, Relation
from qcc.ops.examples import model, normal
from qcc.ops.kernels import CRescale, instance
from qcc.ops.linear import integer_clip
from qcc.ops.ratio import multipliers
from qcc.ops.reshape import Attrs as Reshape


@dataclass(frozen=True, slots=True)
class Attrs:
    """sign: of the second operand. bounds: a fused activation's clip; the rest is integer.

    ``rescale.mode`` says what the multipliers *mult* are: powers of two ("single-shift"), sums of
    two ("double-shift") or general.
    """

    sign: int = 1
    bounds: tuple[float, float] = (-INFINITY, INFINITY)
    mult: tuple[int, int] | None = None
    rescale: Rescale | None = None
    clip: tuple[int, int] | None = None
    acc_bound: int = 0


class Add(Op):
    name = "add"
    onnx_types = ("Add", "Sub", "Sum")
    elementwise = True

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        broadcast.check_axes(b, node)
        shape = b.shape(node.output[0])
        if len(node.input) == 1:
            b.emit("reshape", [b.tensor(node.input[0])], Reshape(shape), node.output[0])
            return
        attrs = Attrs(sign=-1 if node.op_type == "Sub" else 1)
        rank = len(shape)
        first, *rest = (broadcast.operand(b, name, rank) for name in node.input)
        for other in rest[:-1]:
            first = b.emit("add", [first, other], attrs)
        b.emit("add", [first, rest[-1]], attrs, node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return broadcast.infer("add", inputs)

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        a, b = inputs
        return np.asarray(np.clip(a + b if attrs.sign > 0 else a - b, *attrs.bounds))

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        (alo, ahi), (blo, bhi) = inputs
        lo, hi = (alo + blo, ahi + bhi) if attrs.sign > 0 else (alo - bhi, ahi - blo)
        floor, top = attrs.bounds
        return min(max(lo, floor), top), min(max(hi, floor), top)

    @staticmethod
    def permute(attrs: Attrs, perm: Sequence[int], rank: int) -> Attrs:
        return attrs

    @staticmethod
    def relation(graph: Graph, node: Node) -> Relation:
        return Relation("each")

    @staticmethod
    def quantize(graph: Graph, node: Node, ctx: QuantContext) -> None:
        y = graph.quant(node.output)
        for i, name in enumerate(node.inputs):
            if graph.is_constant(name):
                broadcast.quantize_constant(graph, node, i, y.scalar, y.scalar)
        a, b = (graph.quant(t).scalar / y.scalar for t in node.inputs)
        peaks = [broadcast.largest(graph, t) for t in node.inputs]
        try:
            m = multipliers((a, node.attrs.sign * b), peaks)
        except OverflowError as e:
            raise QccError(f"layer {short(node.name)!r}: {e}") from e
        node.update(
            mult=m.mult,
            rescale=m.rescale,
            clip=integer_clip(node.attrs.bounds, y),
            acc_bound=m.bound,
        )

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        at = node.attrs
        acc = inputs[0] * at.mult[0] + inputs[1] * at.mult[1]
        return arith.saturate(at.rescale.apply(acc), *at.clip)

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        at = node.attrs
        acc: list[Int] = [np.zeros(1, np.int64)] * 2
        for x, m in zip(inputs, at.mult, strict=True):
            ends = (x.lo, x.hi) if m >= 0 else (x.hi, x.lo)
            acc = [total + m * end for total, end in zip(acc, ends, strict=True)]
        lo, hi = (arith.saturate(at.rescale.apply(v), *at.clip) for v in acc)
        return Interval(lo, hi)

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
        kernel = instance("qcc_add.h", rescale=r.form, a=a, b=b, y=y, acc=r.acc)
        shapes = (graph.shape(t) for t in (node.output, *node.inputs))
        args = (
            *broadcast.operand_args(graph, node), Out(), *broadcast.loops(*shapes).args,
            *at.mult, int(r.half[0]), r.scalars[1], *at.clip,
        )  # fmt: skip
        return (Call(kernel, args),)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        two = {"p": (1, 3, 4, 5), "q": (1, 3, 4, 5)}
        for op in ("Add", "Sub"):
            node = helper.make_node(op, ["p", "q"], ["y"])
            yield model(f"{op.lower()}_same", [node], two, ["y"])
        # A scale of its own for each operand, and one activation read twice.
        deep = [
            helper.make_node("Tanh", ["p"], ["t"]),
            helper.make_node("Add", ["t", "q"], ["s"]),
            helper.make_node("Relu", ["s"], ["r"]),
            helper.make_node("Sum", ["r", "q", "r"], ["y"]),
        ]
        yield model("add_chain", deep, two, ["y"])
        for name, first, second in (
            ("channel", (1, 6, 3, 5), (1, 6, 1, 1)),
            ("outer", (1, 4, 1, 1), (1, 1, 3, 5)),
            ("lower_rank", (1, 2, 3, 7), (3, 1)),
        ):
            node = helper.make_node("Add", ["p", "q"], ["y"])
            yield model(f"add_{name}", [node], {"p": first, "q": second}, ["y"])
        for name, shape in (("scalar", ()), ("per_channel", (6, 1, 1)), ("map", (1, 1, 3, 5))):
            node = helper.make_node("Sub", ["c", "p"], ["y"])
            consts = {"c": normal(shape, seed=2)}
            yield model(f"sub_{name}", [node], {"p": (1, 6, 3, 5)}, ["y"], consts)
