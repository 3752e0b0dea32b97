"""conv_transpose2d: transposed convolution, NHWC. Weights (O, KH, KW, I/g), as conv2d has them.

    y[i][j][o] = b[o] + sum of x[a][e][c] * w[o][u][v][c] over all a * sh + u * dh - top == i, and
                                                          e * sw + v * dw - left == j

ONNX's 1-D form is read as one of height 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qcc import arith
from qcc.arith import Rescale
from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import linear, window
from qcc.ops.base import INFINITY, Call, ChannelRole, In, Interval, Op, Out, QuantContext
from qcc.ops.examples import model, normal
from qcc.ops.kernels import CRescale, CWeights, instance


@dataclass(frozen=True, slots=True)
class Attrs:
    """pads: top, left, bottom, right, cut off the full output; a negative bottom or right one adds
    rows or columns that no tap may reach (ONNX's output_padding). The rest is as in conv2d.
    """  # noqa: D205

    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1
    bounds: tuple[float, float] = (-INFINITY, INFINITY)
    rescale: Rescale | None = None
    clip: tuple[int, int] | None = None
    acc_bound: int = 0


class ConvTranspose2d(Op):
    name = "conv_transpose2d"
    onnx_types = ("ConvTranspose",)

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        spatial = len(b.shape(node.input[0])) - 2
        if spatial not in (1, 2):
            b.unsupported(f"convolution over {spatial} dimensions; 1 and 2 are supported")
        window.check_batch(b, node)
        w = b.needs_constant(node.input[1], "the weights")
        attrs = _read_attrs(b, node, w.shape[2:])
        x = b.tensor(node.input[0])
        if spatial == 1:
            x = window.add_height(b, x)
            w = w[:, :, None, :]
        inputs = [b.to_nhwc(x), b.const("weight", _output_first(w, attrs.group))]
        if (bias := b.optional(node, 2)) is not None:
            inputs.append(b.const("bias", b.needs_constant(bias, "the bias")))
        y = b.emit("conv_transpose2d", inputs, attrs)
        if spatial == 1:
            window.drop_height(b, y, b.shape(node.output[0]), node.output[0])
            return
        b.from_nhwc(y, node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        x, w = inputs[0], inputs[1]
        if len(x) != 4 or len(w) != 4 or w[3] * attrs.group != x[3] or w[0] % attrs.group:
            raise ValueError(f"conv_transpose2d: x{x}, W{w} and {attrs.group} groups do not fit")
        if len(inputs) > 2 and inputs[2] != (w[0],):
            raise ValueError(f"conv_transpose2d: bias {inputs[2]} for {w[0]} channels")
        oh, ow = _output_size(x[1:3], w[1:3], attrs)
        return (x[0], oh, ow, w[0])

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        y = _spread(inputs[0], inputs[1], attrs, lambda p, q: np.asarray(p @ q, np.float32))
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
        return window.by_group(_gathered(x, weights[1:3], attrs), attrs.group)

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        a, (x, w, bias) = node.attrs, inputs
        acc = _spread(x, w, a, lambda p, q: arith.exact_matmul(p, q, a.acc_bound))
        return arith.saturate(a.rescale.apply(acc + bias), *a.clip)

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        a, w = node.attrs, graph.constant(node.inputs[1])
        x = inputs[0].expand(graph.shape(node.inputs[0])[3])
        if w.shape[1:3] != (1, 1) or a.strides != (1, 1) or any(a.pads):
            # An output is reached by some taps only; the others count as zero.
            x = Interval(np.minimum(x.lo, 0), np.maximum(x.hi, 0))
        return linear.grouped_interval(graph, node, x)

    @staticmethod
    def channel_role(graph: Graph, node: Node) -> ChannelRole:
        """Depthwise passes. Else nothing moves: outputs differ in the taps that reach them, so no
        single bias stands for a constant input channel.
        """  # noqa: D205
        channels = graph.shape(node.inputs[0])[3]
        depthwise = node.attrs.group == channels == graph.shape(node.output)[3]
        return "pass" if depthwise else "block"

    @staticmethod
    def select_channels(graph: Graph, node: Node, keep: Int) -> None:
        linear.select_outputs(graph, node, keep)
        node.update(group=len(keep))

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        a = node.attrs
        (_, h, w_in, c), (_, oh, ow, o) = graph.shape(node.inputs[0]), graph.shape(node.output)
        w = graph.constant(node.inputs[1])
        r = CRescale(a.rescale, a.acc_bound)
        weights = CWeights(w, graph.quant(node.inputs[1]).qtype, "[out][kh][kw][in]")
        kernel = instance(
            weights.header("qcc_conv_transpose2d.h"),
            weights.constants,
            rescale=r.form,
            x=graph.quant(node.inputs[0]).qtype.ctype,
            w=weights.table.ctype,
            y=graph.quant(node.output).qtype.ctype,
            acc=r.acc,
        )
        # Every (stride / gcd)-th tap meets an input, each (dilation / gcd) before the last.
        common = [math.gcd(s, d) for s, d in zip(a.strides, a.dilations, strict=True)]
        next_tap = [s // g for s, g in zip(a.strides, common, strict=True)]
        next_input = [d // g for d, g in zip(a.dilations, common, strict=True)]
        args = (
            In(0), weights.table, r.bias(graph.constant(node.inputs[2]), o), r.mult, r.shift,
            r.step, Out(), h, w_in, c // a.group, oh, ow, o // a.group, a.group, *w.shape[1:3],
            *a.strides, *a.dilations, *a.pads[:2], *next_tap, *next_input, *a.clip,
        )  # fmt: skip
        return (Call(kernel, args),)

    @staticmethod
    def macs(graph: Graph, node: Node) -> int:
        per_input = math.prod(graph.shape(node.inputs[1])[:3]) // node.attrs.group
        return math.prod(graph.shape(node.inputs[0])) * int(per_input)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        cases: dict[str, tuple[Shape, Shape, dict[str, Any]]] = {
            "plain": ((1, 3, 4, 5), (3, 2, 3, 3), {}),
            "doubling": ((1, 4, 5, 3), (4, 3, 2, 2), {"strides": [2, 2]}),
            "padded": ((1, 2, 5, 4), (2, 3, 4, 3), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
            "output_padding": ((1, 2, 4, 4), (2, 2, 3, 3),
                {"strides": [2, 3], "pads": [1, 1, 1, 1], "output_padding": [1, 2]}),
            "untouched": ((1, 2, 3, 3), (2, 2, 1, 2),
                {"strides": [3, 3], "output_padding": [2, 2]}),
            "dilated": ((1, 2, 4, 5), (2, 3, 3, 2),
                {"strides": [2, 2], "dilations": [3, 2], "pads": [1, 2, 0, 1]}),
            "common": ((1, 1, 3, 4), (1, 2, 3, 2), {"strides": [6, 4], "dilations": [4, 6]}),
            "grouped": ((1, 6, 3, 4), (6, 2, 3, 2), {"group": 3, "strides": [1, 2]}),
            "depthwise": ((1, 4, 3, 3), (4, 1, 4, 4),
                {"group": 4, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
            "upper": ((1, 2, 4, 3), (2, 2, 3, 4), {"strides": [2, 1], "auto_pad": "SAME_UPPER"}),
            "lower": ((1, 2, 4, 3), (2, 2, 3, 4), {"strides": [2, 1], "auto_pad": "SAME_LOWER"}),
            "output_shape": ((1, 2, 4, 5), (2, 1, 3, 5),
                {"strides": [2, 2], "output_shape": [8, 10]}),
            "one_d": ((1, 3, 7), (3, 4, 5), {"strides": [3], "pads": [2, 1]}),
        }  # fmt: skip
        for name, (x, w, attrs) in cases.items():
            out = w[1] * attrs.get("group", 1)
            consts = {"w": normal(w, seed=len(name)), "b": normal((out,), seed=1)}
            conv = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], **attrs)
            yield model(f"conv_transpose2d_{name}", [conv], {"x": x}, ["y"], consts)
        conv = helper.make_node("ConvTranspose", ["x", "w"], ["y"])
        consts = {"w": normal((3, 4, 1, 1), seed=3)}
        yield model("conv_transpose2d_nobias", [conv], {"x": (1, 3, 3, 2)}, ["y"], consts)


def _output_first(w: Array, group: int) -> Array:
    """ONNX's weights (I, O/g, KH, KW) -> (O, KH, KW, I/g)."""
    i, per_group, kh, kw = w.shape
    grouped = w.reshape(group, i // group, per_group, kh, kw)
    return grouped.transpose(0, 2, 3, 4, 1).reshape(group * per_group, kh, kw, i // group)


def _read_attrs(b: Builder, node: onnx.NodeProto, kernel: Sequence[int]) -> Attrs:
    given = b.attributes(node)
    rank = len(kernel)
    strides = given.get("strides", [1] * rank)
    dilations = given.get("dilations", [1] * rank)
    extra = given.get("output_padding", [0] * rank)
    sizes = b.shape(node.input[0])[2:]
    auto = given.get("auto_pad", "NOTSET")
    pads = given.get("pads", [0] * (2 * rank)) if auto == "NOTSET" else [0] * (2 * rank)
    wanted = _wanted_size(b, node, given, strides)
    begin, end = [], []
    for d in range(rank):
        head, tail = pads[d], pads[rank + d]
        if wanted is not None:
            full = (sizes[d] - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1 + extra[d]
            if (total := full - wanted[d]) < 0:
                b.unsupported(f"an output of {wanted[d]} where the taps reach only {full}")
            less = total // 2
            head = less if auto == "SAME_UPPER" else total - less
            tail = total - head
        if min(head, tail) < 0:
            b.unsupported(f"negative pads {list(pads)}; only pads >= 0 are supported")
        begin.append(head)
        end.append(tail - extra[d])
    flat = rank == 1
    two = [[1, strides[0]], [1, dilations[0]], [0, *begin], [0, *end]]
    s, dil, first, last = two if flat else [strides, dilations, begin, end]
    return Attrs(
        (s[0], s[1]), (first[0], first[1], last[0], last[1]), (dil[0], dil[1]),
        given.get("group", 1),
    )  # fmt: skip


def _wanted_size(
    b: Builder, node: onnx.NodeProto, given: dict[str, Any], strides: Sequence[int]
) -> Shape | None:
    """The spatial output size where it is asked for, so that pads follow from it."""
    declared = b.shape(node.output[0])[2:]
    if given.get("output_shape"):
        return declared
    if given.get("auto_pad", "NOTSET") not in ("SAME_UPPER", "SAME_LOWER"):
        return None
    sizes = b.shape(node.input[0])[2:]
    same = tuple(n * s for n, s in zip(sizes, strides, strict=True))
    if same != declared:
        # Runtimes differ here: a kernel smaller than the stride, or output_padding.
        b.unsupported(f"auto_pad with an output of {list(declared)}, which is not {list(same)}")
    return same


def _output_size(size: Sequence[int], kernel: Sequence[int], a: Attrs) -> tuple[int, int]:
    out = []
    for d in range(2):
        full = (size[d] - 1) * a.strides[d] + (kernel[d] - 1) * a.dilations[d] + 1
        out.append(full - a.pads[d] - a.pads[d + 2])
    if min(out) < 1:
        raise ValueError(f"conv_transpose2d: pads {a.pads} leave an output of {out}")
    return out[0], out[1]


def _spread(x: Array, w: Array, a: Attrs, matmul: Callable[[Array, Array], Array]) -> Array:
    """Each input times all taps, added where it lands: (N, 1, H, W, C) -> (N, 1, OH, OW, O)."""
    out, kh, kw, per_group = w.shape
    n, batch, h, width = x.shape[:4]
    og = out // a.group
    products = np.concatenate(
        [
            matmul(
                x[..., g * per_group : (g + 1) * per_group].reshape(-1, per_group),
                w[g * og : (g + 1) * og].reshape(-1, per_group).T,
            ).reshape(n * batch, h, width, og, kh, kw)
            for g in range(a.group)
        ],
        axis=3,
    )
    oh, ow = _output_size((h, width), (kh, kw), a)
    reach_h = (h - 1) * a.strides[0] + 1
    reach_w = (width - 1) * a.strides[1] + 1
    canvas = (
        max(reach_h + (kh - 1) * a.dilations[0], a.pads[0] + oh),
        max(reach_w + (kw - 1) * a.dilations[1], a.pads[1] + ow),
    )
    y = np.zeros((n * batch, *canvas, out), products.dtype)
    for u in range(kh):
        for v in range(kw):
            top, left = u * a.dilations[0], v * a.dilations[1]
            rows = slice(top, top + reach_h, a.strides[0])
            cols = slice(left, left + reach_w, a.strides[1])
            y[:, rows, cols] += products[..., u, v]
    y = y[:, a.pads[0] : a.pads[0] + oh, a.pads[1] : a.pads[1] + ow]
    return y.reshape(n, batch, oh, ow, out)


def _gathered(x: Array, kernel: Sequence[int], a: Attrs) -> Array:
    """What each output place sums up: (N, 1, H, W, C) -> (n, OH, OW, KH * KW, C).

    It is the convolution of x, zeros between its elements, with the taps in reverse order.
    """
    kh, kw = kernel
    n, h, width, c = x.shape[0] * x.shape[1], *x.shape[2:]
    oh, ow = _output_size((h, width), (kh, kw), a)
    (sh, sw), (top, left) = a.strides, a.pads[:2]
    reach_h, reach_w = (kh - 1) * a.dilations[0], (kw - 1) * a.dilations[1]
    # Element (0, 0) of x is at (reach_h, reach_w); the window of output 0 begins at (top, left).
    rows = max(reach_h + (h - 1) * sh + 1, top + oh + reach_h)
    columns = max(reach_w + (width - 1) * sw + 1, left + ow + reach_w)
    wide = np.zeros((n, rows, columns, c), x.dtype)
    wide[:, reach_h:, reach_w:][:, : (h - 1) * sh + 1 : sh, : (width - 1) * sw + 1 : sw] = (
        x.reshape(n, h, width, c)
    )
    seen = wide[:, top : top + oh + reach_h, left : left + ow + reach_w]
    plain = window.Window((kh, kw), (1, 1), (0, 0, 0, 0), a.dilations)
    return window.taps(seen, (kh, kw), plain)[:, :, :, ::-1]
