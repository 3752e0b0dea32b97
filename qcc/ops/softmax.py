"""softmax: y = exp(x) / sum(exp(x)) along one axis.

Integer: with d = max(x) - x, e = T[d], T[d] = round(F * exp(-d * s_x)), and S = sum(e):
y = round(Q * e / S), Q = 2**n - 1, half up, exactly, by a shift-and-subtract division.

The output is unsigned with scale 1 / Q, so that 0 and 1 are both exact and every rounding error is
at most half a step; 1 / 2**n would have to saturate a probability of 1, a whole step off.

Error, in steps of y, against the softmax of the same integers: at most 1/2 + (N + 1) * Q / (2 * F)
for N classes, because each e is off by 1/2 at most and S >= F. F = 2**16 - 1, in 16-bit tables and
32-bit sums, where that keeps the second term below 1/4 (8 bits: N <= 127); otherwise F = 2**30, in
32-bit tables and 64-bit sums.

16-bit x: exp(-d * s_x) is the product of two tables, of d's high byte and of its low byte, both
with F = 2**30; the error of e is then at most 2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from qcc import arith
from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, QType, Quant, Shape
from qcc.ops.base import Call, CArray, ChannelRole, In, Op, Out, QuantContext
from qcc.ops.examples import model
from qcc.ops.kernels import instance
from qcc.ops.reshape import Attrs as Reshape

_NARROW, _WIDE = (1 << 16) - 1, 1 << 30
_MAX_CLASSES = 1 << 20


@dataclass(frozen=True, slots=True)
class Attrs:
    """axis: counted from the front."""

    axis: int


class Softmax(Op):
    name = "softmax"
    onnx_types = ("Softmax",)

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        shape, x = b.shape(node.input[0]), b.tensor(node.input[0])
        axis = b.attributes(node).get("axis", -1 if b.opset >= 13 else 1) % max(len(shape), 1)
        together = [axis]
        if b.opset < 13:  # one distribution over all axes from this one on
            together = [i for i in range(axis, len(shape)) if shape[i] != 1] or [axis]
        if math.prod(shape[i] for i in together) > _MAX_CLASSES:
            b.unsupported(f"softmax over more than {_MAX_CLASSES} values")
        if len(together) == 1:
            b.emit("softmax", [x], Attrs(together[0]), node.output[0])
            return
        flat = (math.prod(shape[:axis]), math.prod(shape[axis:]))
        y = b.emit("softmax", [b.emit("reshape", [x], Reshape(flat))], Attrs(1))
        b.emit("reshape", [y], Reshape(shape), node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if not 0 <= attrs.axis < len(x):
            raise ValueError(f"softmax: axis {attrs.axis} for shape {x}")
        return x

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        x, axis = inputs[0], attrs.axis + 1
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        return np.asarray(e / e.sum(axis=axis, keepdims=True), np.float32)

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        return 0.0, 1.0

    @staticmethod
    def permute(attrs: Attrs, perm: Sequence[int], rank: int) -> Attrs:
        return Attrs(perm[attrs.axis])

    @staticmethod
    def output_scale(graph: Graph, node: Node, bits: int) -> tuple[float, bool]:
        return 1.0 / QType(bits, signed=False).qmax, False

    @staticmethod
    def quantize(graph: Graph, node: Node, ctx: QuantContext) -> None:
        """Nothing to do: the tables follow from the formats."""

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        axis = node.attrs.axis + 1
        d = inputs[0].max(axis=axis, keepdims=True) - inputs[0]
        e = _exponentials(graph, node, d)
        total = e.sum(axis=axis, keepdims=True)
        top = graph.quant(node.output).qtype.qmax
        return np.asarray((2 * top * e + total) // (2 * total))

    @staticmethod
    def channel_role(graph: Graph, node: Node) -> ChannelRole:
        return "block" if node.attrs.axis == len(graph.shape(node.output)) - 1 else "pass"

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        x, y = graph.quant(node.inputs[0]), graph.quant(node.output).qtype
        shape, axis = graph.shape(node.output), node.attrs.axis
        n = shape[axis]
        sizes = (math.prod(shape[:axis]), n, math.prod(shape[axis + 1 :]), y.bits)
        types = {"x": x.qtype.ctype, "y": y.ctype}
        if x.qtype.bits > 8:
            high, low = exp_tables(x)
            tables = (CArray("high", "uint32_t", high), CArray("low", "uint32_t", low))
            return (Call(instance("qcc_softmax16.h", **types), (In(0), *tables, Out(), *sizes)),)
        narrow = is_narrow(x.qtype, y, n)
        types |= (
            {"t": "uint16_t", "s": "uint32_t"} if narrow else {"t": "uint32_t", "s": "uint64_t"}
        )
        table = CArray("exp", types["t"], exp_table(x, narrow), "exp(-d)")
        return (Call(instance("qcc_softmax.h", **types), (In(0), table, Out(), *sizes)),)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        node = helper.make_node("Softmax", ["x"], ["y"])
        yield model("softmax_vector", [node], {"x": (1, 10)}, ["y"])
        # Logits far enough apart that some of many classes are more than one step.
        spread = helper.make_node("Mul", ["w", "four"], ["x"])
        four = {"four": np.array(4, np.float32)}
        yield model("softmax_wide", [spread, node], {"w": (1, 300)}, ["y"], four)
        for name, axis, opset in (("channels", 1, 13), ("middle", 2, 17), ("flattened", 1, 11)):
            node = helper.make_node("Softmax", ["x"], ["y"], axis=axis)
            yield model(f"softmax_{name}", [node], {"x": (1, 5, 3, 4)}, ["y"], opset=opset)


def is_narrow(x: QType, y: QType, classes: int) -> bool:
    """Tables of 16 bits and sums of 32 are fine enough."""
    return x.bits <= 8 and (classes + 1) * y.qmax / (2 * _NARROW) <= 1 / 4


def _exponentials(graph: Graph, node: Node, d: Int) -> Int:
    x, y = graph.quant(node.inputs[0]), graph.quant(node.output).qtype
    if x.qtype.bits <= 8:
        narrow = is_narrow(x.qtype, y, graph.shape(node.output)[node.attrs.axis])
        return np.asarray(exp_table(x, narrow)[d])
    high, low = exp_tables(x)
    return np.asarray((high[d >> 8] * low[d & 255]) >> 30)


@functools.lru_cache(maxsize=64)
def exp_table(x: Quant, narrow: bool) -> Int:
    """round(F * exp(-d * s_x)) for every difference d of two numbers of as many bits as x has.

    A symmetric format lacks the lowest of them, which an input could hold all the same.
    """
    d = np.arange(1 << max(x.qtype.bits, 2))  # -1 and +1 are two apart
    table = arith.round_half_up((_NARROW if narrow else _WIDE) * np.exp(-d * x.scalar))
    table.flags.writeable = False
    return table


@functools.lru_cache(maxsize=64)
def exp_tables(x: Quant) -> tuple[Int, Int]:
    """(high, low): e = high[d >> 8] * low[d & 255] >> 30; both begin with 2**30."""
    d = np.arange(256)
    high = arith.round_half_up(_WIDE * np.exp(-256.0 * d * x.scalar))
    low = arith.round_half_up(_WIDE * np.exp(-d * x.scalar))
    high.flags.writeable = low.flags.writeable = False
    return high, low
