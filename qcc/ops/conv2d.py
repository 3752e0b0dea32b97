"""conv2d: 2-D convolution, NHWC; grouped, depthwise, dilated, any padding.

Weights are (out, kernel height, kernel width, in / group). ONNX's 1-D convolution is read as one of
height 1.
"""

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
from qcc.builder import NHWC, Builder
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import conv2d_depthwise, linear, window
from qcc.ops.base import (
    INFINITY,
    Call,
    ChannelRole,
    In,
    Interval,
    Op,
    Out,
    QuantContext,
)
from qcc.ops.examples import model, normal
from qcc.ops.kernels import CRescale, CWeights, instance


@dataclass(frozen=True, slots=True)
class Attrs:
    """pads: top, left, bottom, right. bounds: a fused activation's clip; the rest is integer."""

    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1
    bounds: tuple[float, float] = (-INFINITY, INFINITY)
    rescale: Rescale | None = None
    clip: tuple[int, int] | None = None
    acc_bound: int = 0


class Conv2d(Op):
    name = "conv2d"
    onnx_types = ("Conv",)

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        x_shape, y_shape = b.shape(node.input[0]), b.shape(node.output[0])
        spatial = len(x_shape) - 2
        if spatial not in (1, 2):
            b.unsupported(f"convolution over {spatial} dimensions; 1 and 2 are supported")
        w = b.needs_constant(node.input[1], "the weights")
        bias = b.optional(node, 2)
        win = window.read(b, node, kernel=w.shape[2:])
        attrs = Attrs(win.strides, win.pads, win.dilations, b.attributes(node).get("group", 1))
        x = b.tensor(node.input[0])
        if spatial == 1:
            x = window.add_height(b, x)
            w = w[:, :, None, :]
        inputs = [b.to_nhwc(x), b.const("weight", w.transpose(NHWC))]
        if bias is not None:
            inputs.append(b.const("bias", b.needs_constant(bias, "the bias")))
        if spatial == 1:
            y = b.emit("conv2d", inputs, attrs)
            window.drop_height(b, y, y_shape, node.output[0])
            return
        b.from_nhwc(b.emit("conv2d", inputs, attrs), node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        x, w = inputs[0], inputs[1]
        if len(x) != 4 or len(w) != 4 or w[3] * attrs.group != x[3] or w[0] % attrs.group:
            raise ValueError(f"conv2d: x{x}, W{w} and {attrs.group} groups do not fit")
        if len(inputs) > 2 and inputs[2] != (w[0],):
            raise ValueError(f"conv2d: bias {inputs[2]} for {w[0]} channels")
        oh, ow = window.output_size(x[1:3], w[1:3], attrs)
        return (x[0], oh, ow, w[0])

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        x, w = inputs[0], inputs[1]
        acc = _convolve(x, w, attrs, lambda a, b: np.asarray(a @ b, np.float32))
        if len(inputs) > 2:
            acc = acc + inputs[2]
        lo, hi = attrs.bounds
        return np.asarray(np.clip(acc, lo, hi), np.float32)

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        return attrs.bounds

    @staticmethod
    def quantize(graph: Graph, node: Node, ctx: QuantContext) -> None:
        linear.quantize_node(graph, node, ctx)

    @staticmethod
    def columns(attrs: Attrs, weights: Shape, x: Array) -> Array:
        taps = window.taps(x.reshape(-1, *x.shape[2:]), (weights[1], weights[2]), attrs)
        return window.by_group(taps, attrs.group)

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        a = node.attrs
        acc = _convolve(inputs[0], inputs[1], a, lambda p, q: arith.exact_matmul(p, q, a.acc_bound))
        return arith.saturate(a.rescale.apply(acc + inputs[2]), *a.clip)

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        x = inputs[0].expand(graph.shape(node.inputs[0])[3])
        if any(node.attrs.pads):  # a border tap may read zero instead
            x = Interval(np.minimum(x.lo, 0), np.maximum(x.hi, 0))
        return linear.grouped_interval(graph, node, x)

    @staticmethod
    def channel_role(graph: Graph, node: Node) -> ChannelRole:
        if node.attrs.group == 1:
            return "mix"
        depthwise = (
            node.attrs.group == graph.shape(node.inputs[0])[3] == graph.shape(node.output)[3]
        )
        return "pass" if depthwise else "block"

    @staticmethod
    def select_channels(graph: Graph, node: Node, keep: Int) -> None:
        linear.select_outputs(graph, node, keep)
        if node.attrs.group > 1:
            node.update(group=len(keep))

    @staticmethod
    def drop_inputs(graph: Graph, node: Node, keep: Int, values: Int) -> None:
        linear.drop_inputs(graph, node, keep, values)

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        a = node.attrs
        if a.group > 1 and conv2d_depthwise.is_depthwise(graph, node):
            return (conv2d_depthwise.depthwise_call(graph, node),)
        (_, h, w_in, c), (_, oh, ow, o) = graph.shape(node.inputs[0]), graph.shape(node.output)
        w = graph.constant(node.inputs[1])
        r = CRescale(a.rescale, a.acc_bound)
        weights = CWeights(w, graph.quant(node.inputs[1]).qtype, "[out][kh][kw][in]")
        kernel = instance(
            weights.header("qcc_conv2d.h"),
            weights.constants,
            rescale=r.form,
            x=graph.quant(node.inputs[0]).qtype.ctype,
            w=weights.table.ctype,
            y=graph.quant(node.output).qtype.ctype,
            acc=r.acc,
        )
        bias = r.bias(graph.constant(node.inputs[2]), o)
        args = (
            In(0), weights.table, bias, r.mult, r.shift, r.step, Out(), h, w_in, c // a.group,
            oh, ow, o // a.group, a.group, *w.shape[1:3], *a.strides, *a.dilations, *a.pads[:2],
            *a.clip,
        )  # fmt: skip
        return (Call(kernel, args),)

    @staticmethod
    def macs(graph: Graph, node: Node) -> int:
        return math.prod(graph.shape(node.output)) * math.prod(graph.shape(node.inputs[1])[1:])

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        cases: dict[str, tuple[Shape, Shape, dict[str, Any]]] = {
            "same3x3": ((1, 3, 8, 7), (5, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
            "pointwise": ((1, 8, 5, 5), (4, 8, 1, 1), {}),
            "strided": ((1, 4, 9, 9), (6, 4, 3, 3), {"strides": [2, 2], "pads": [0, 1, 1, 0]}),
            "dilated": ((1, 2, 11, 9), (3, 2, 3, 2), {"dilations": [2, 3], "pads": [2, 1, 0, 2]}),
            "depthwise": ((1, 6, 7, 7), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
            "multiplier": ((1, 3, 6, 6), (6, 1, 3, 3), {"group": 3, "auto_pad": "VALID"}),
            "grouped": ((1, 6, 5, 6), (4, 3, 2, 2), {"group": 2, "auto_pad": "SAME_UPPER"}),
            "lower": ((1, 1, 6, 6), (1, 1, 4, 4), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
            "one_d": ((1, 4, 20), (3, 4, 5), {"strides": [2], "pads": [1, 2]}),
        }  # fmt: skip
        for name, (x, w, attrs) in cases.items():
            consts = {"w": normal(w, seed=len(name)), "b": normal((w[0],), seed=1)}
            conv = helper.make_node("Conv", ["x", "w", "b"], ["y"], **attrs)
            yield model(f"conv2d_{name}", [conv], {"x": x}, ["y"], consts)
        conv = helper.make_node("Conv", ["x", "w"], ["c"])
        relu = helper.make_node("Relu", ["c"], ["y"])
        consts = {"w": normal((4, 3, 3, 3), seed=3)}
        yield model("conv2d_relu_nobias", [conv, relu], {"x": (1, 3, 6, 6)}, ["y"], consts)


def _convolve(x: Array, w: Array, a: Attrs, matmul: window.MatMul) -> Array:
    """x (N, 1, H, W, C) * w (O, KH, KW, I/g) -> (N, 1, OH, OW, O), through im2col."""
    out, kh, kw, per_group = w.shape
    n, batch = x.shape[:2]
    taps = window.taps(x.reshape(-1, *x.shape[2:]), (kh, kw), a)  # n, oh, ow, kh*kw, c
    size = taps.shape[1:3]
    if per_group == 1 and out == a.group:  # depthwise: one product per tap and channel
        acc = np.zeros((*taps.shape[:3], out), np.int64 if x.dtype.kind == "i" else np.float32)
        for t in range(kh * kw):
            acc += taps[:, :, :, t] * w.reshape(out, -1).T[t]
    else:
        parts = []
        for g in range(a.group):
            rows = w[g * (out // a.group) : (g + 1) * (out // a.group)].reshape(out // a.group, -1)
            cols = taps[..., g * per_group : (g + 1) * per_group]
            parts.append(matmul(cols.reshape(-1, rows.shape[1]), rows.T))
        acc = np.concatenate(parts, axis=-1)
    return acc.reshape(n, batch, *size, out)
