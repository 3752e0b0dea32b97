"""dense: y[..., o] = sum over i of w[o, i] * x[..., i] + b[o]. Gemm, and MatMul with a constant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qcc import arith
from qcc.arith import Rescale
from qcc.builder import Builder
from qcc.errors import short
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import linear
from qcc.ops.base import INFINITY, Call, ChannelRole, In, Interval, Op, Out, QuantContext
from qcc.ops.examples import model, normal
from qcc.ops.kernels import CRescale, CWeights, instance


@dataclass(frozen=True, slots=True)
class Attrs:
    """bounds: a fused activation's clip; the rest is integer, as in conv2d."""

    bounds: tuple[float, float] = (-INFINITY, INFINITY)
    rescale: Rescale | None = None
    clip: tuple[int, int] | None = None
    acc_bound: int = 0


class Dense(Op):
    """Inputs: x (..., in), weights (out, in), [bias (out,)]; output (..., out)."""

    name = "dense"
    onnx_types = ("Gemm", "MatMul")

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        if node.op_type == "Gemm":
            _read_gemm(b, node)
        elif b.constant(node.input[1]) is not None:
            _read_matmul(b, node)
        elif b.constant(node.input[0]) is not None:
            _read_matmul_left(b, node)
        else:
            b.unsupported("both operands are computed at run time; one has to be constant")

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        x, w = inputs[0], inputs[1]
        if not x or len(w) != 2 or x[-1] != w[1]:
            raise ValueError(f"dense: x{x} and W{w} do not fit")
        if len(inputs) > 2 and inputs[2] != (w[0],):
            raise ValueError(f"dense: bias {inputs[2]} for {w[0]} outputs")
        return (*x[:-1], w[0])

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        x, w = inputs[0], inputs[1]
        y = (x.reshape(-1, x.shape[-1]) @ w.T).reshape(*x.shape[:-1], len(w))
        if len(inputs) > 2:
            y = y + inputs[2]
        return np.asarray(np.clip(y, *attrs.bounds), np.float32)

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        return attrs.bounds

    @staticmethod
    def quantize(graph: Graph, node: Node, ctx: QuantContext) -> None:
        linear.quantize_node(graph, node, ctx)

    @staticmethod
    def columns(attrs: Attrs, weights: Shape, x: Array) -> Array:
        return x.reshape(1, -1, x.shape[-1])

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        a, (x, w, bias) = node.attrs, inputs
        acc = arith.exact_matmul(x.reshape(-1, x.shape[-1]), w.T, a.acc_bound)
        y = arith.saturate(a.rescale.apply(acc + bias), *a.clip)
        return y.reshape(*x.shape[:-1], len(w))

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        w = graph.constant(node.inputs[1]).astype(np.int64)
        x = inputs[0].expand(w.shape[1])
        bias = graph.constant(node.inputs[2])
        acc = linear.acc_interval(w, bias, x, np.arange(w.shape[1]))
        return linear.output_interval(node, acc)

    @staticmethod
    def channel_role(graph: Graph, node: Node) -> ChannelRole:
        return "mix"

    @staticmethod
    def select_channels(graph: Graph, node: Node, keep: Int) -> None:
        linear.select_outputs(graph, node, keep)

    @staticmethod
    def drop_inputs(graph: Graph, node: Node, keep: Int, values: Int) -> None:
        linear.drop_inputs(graph, node, keep, values)

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        a, w = node.attrs, graph.constant(node.inputs[1])
        r = CRescale(a.rescale, a.acc_bound)
        weights = CWeights(w, graph.quant(node.inputs[1]).qtype, "[out][in]")
        kernel = instance(
            weights.header("qcc_dense.h"),
            weights.constants,
            rescale=r.form,
            x=graph.quant(node.inputs[0]).qtype.ctype,
            w=weights.table.ctype,
            y=graph.quant(node.output).qtype.ctype,
            acc=r.acc,
        )
        bias = r.bias(graph.constant(node.inputs[2]), len(w))
        rows = math.prod(graph.shape(node.inputs[0])[:-1])
        args = (
            In(0), weights.table, bias, r.mult, r.shift, r.step, Out(), rows, w.shape[1], len(w),
            *a.clip,
        )  # fmt: skip
        return (Call(kernel, args),)

    @staticmethod
    def macs(graph: Graph, node: Node) -> int:
        return math.prod(graph.shape(node.inputs[0])) * graph.shape(node.inputs[1])[0]

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        gemms: dict[str, tuple[Shape, Shape, Shape | None, dict[str, Any]]] = {
            "plain": ((1, 7), (7, 5), (5,), {}),
            "transb": ((1, 9), (4, 9), (1, 4), {"transB": 1}),
            "transa": ((6, 3), (6, 5), (1,), {"transA": 1}),
            "scaled": ((2, 6), (6, 3), (3,), {"alpha": 0.5, "beta": -2.0}),
            "scalar": ((1, 1), (1, 1), (), {}),
            "nobias": ((3, 33), (10, 33), None, {"transB": 1}),
        }  # fmt: skip
        for name, (x, w, c, attrs) in gemms.items():
            consts = {"w": normal(w, seed=len(name))}
            if c is not None:
                consts["c"] = normal(c, seed=2)
            gemm = helper.make_node("Gemm", ["x", *consts], ["y"], **attrs)
            yield model(f"gemm_{name}", [gemm], {"x": x}, ["y"], consts)
        products: tuple[tuple[str, Shape, Shape], ...] = (
            ("flat", (1, 8), (8, 5)),
            ("vector", (6,), (6, 4)),
            ("images", (1, 3, 4, 5), (5, 7)),
            ("column", (1, 3, 5), (5,)),
            ("leading", (2, 5), (1, 1, 5, 3)),
        )
        for name, x, w in products:
            matmul = helper.make_node("MatMul", ["x", "w"], ["y"])
            yield model(f"matmul_{name}", [matmul], {"x": x}, ["y"], {"w": normal(w, seed=5)})
        left = helper.make_node("MatMul", ["w", "x"], ["y"])
        consts = {"w": normal((4, 6), seed=6)}
        yield model("matmul_left", [left], {"x": (1, 6, 3)}, ["y"], consts)


def _read_gemm(b: Builder, node: onnx.NodeProto) -> None:
    from qcc.ops.transpose import Attrs as Transpose

    attrs = b.attributes(node)
    w = b.needs_constant(node.input[1], "the right operand")
    if b.constant(node.input[0]) is not None:
        b.unsupported("both operands are constant")
    x = b.tensor(node.input[0])
    if attrs.get("transA", 0):
        x = b.emit("transpose", [x], Transpose((1, 0)))
    rows = w if attrs.get("transB", 0) else w.T
    inputs = [x, b.const("weight", rows * np.float32(attrs.get("alpha", 1.0)))]
    if (c := b.optional(node, 2)) is not None:
        bias = _row(b, c, len(rows)) * np.float32(attrs.get("beta", 1.0))
        inputs.append(b.const("bias", bias))
    b.emit("dense", inputs, Attrs(), node.output[0])


def _row(b: Builder, name: str, n: int) -> Array:
    """The constant C of a Gemm as one entry per output."""
    c = b.needs_constant(name, "the addend")
    matrix = np.atleast_2d(c)
    if np.any(matrix != matrix[:1]):
        b.unsupported(f"the addend ({short(name)}) differs from row to row; one row works")
    return np.broadcast_to(matrix[0], (n,))


def _read_matmul(b: Builder, node: onnx.NodeProto) -> None:
    w = b.needs_constant(node.input[1], "the right operand")
    if b.constant(node.input[0]) is not None:
        b.unsupported("both operands are constant")
    matrix = w[:, None] if w.ndim == 1 else _matrix(b, w)
    inputs = [b.tensor(node.input[0]), b.const("weight", matrix.T)]
    _emit_as(b, inputs, node.output[0])


def _matrix(b: Builder, w: Array) -> Array:
    """The one matrix of a constant operand whose batch axes are all 1."""
    if math.prod(w.shape[:-2]) != 1:
        b.unsupported(f"a constant operand of shape {list(w.shape)}; only one matrix is supported")
    return w.reshape(w.shape[-2:])


def _emit_as(b: Builder, inputs: list[str], output: str) -> None:
    """dense, then a reshape where ONNX adds or drops axes of size 1."""
    from qcc.ops.reshape import Attrs as Reshape

    x, w = (b.graph.shape(t) for t in inputs)
    wanted = b.shape(output)
    if (*x[:-1], w[0]) == wanted:
        b.emit("dense", inputs, Attrs(), output)
        return
    b.emit("reshape", [b.emit("dense", inputs, Attrs())], Reshape(wanted), output)


def _read_matmul_left(b: Builder, node: onnx.NodeProto) -> None:
    """W x = (x' W')', the transposes over the last two axes."""
    from qcc.ops.transpose import Attrs as Transpose

    w = b.needs_constant(node.input[0], "the left operand")
    rank = len(b.shape(node.input[1]))
    if rank < 2 or w.ndim != 2:
        b.unsupported(
            f"a constant left operand of shape {list(w.shape)} times rank {rank}; "
            "only one matrix times rank 2 or more is supported"
        )
    swap = Transpose((*range(rank - 2), rank - 1, rank - 2))
    x = b.emit("transpose", [b.tensor(node.input[1])], swap)
    y = b.emit("dense", [x, b.const("weight", w)], Attrs())
    b.emit("transpose", [y], swap, node.output[0])
