"""max_pool2d: the largest value of each window, NHWC. Padding never wins: taps outside are skipped.

ONNX's 1-D pooling is read as one of height 1; GlobalMaxPool as one window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import window
from qcc.ops.base import Call, ChannelRole, In, Interval, Op, Out
from qcc.ops.examples import model
from qcc.ops.kernels import instance


@dataclass(frozen=True, slots=True)
class Attrs:
    """pads: top, left, bottom, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)


class MaxPool2d(Op):
    name = "max_pool2d"
    onnx_types = ("MaxPool", "GlobalMaxPool")
    same_scale = True

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        if any(node.output[1:]):
            b.unsupported("its Indices output; only the maximum itself is supported")
        shape = b.shape(node.input[0])
        kernel = b.attributes(node).get("kernel_shape", shape[2:])
        win = read_window(b, node, kernel)
        attrs = Attrs(win.kernel, win.strides, win.pads, win.dilations)
        emit_pool(b, node, "max_pool2d", attrs)

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return pooled_shape(attrs.kernel, attrs, inputs[0])

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        return _maximum(inputs[0], attrs, -np.inf)

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        return inputs[0]

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        # Every window has a tap inside, so the least value can stand for padding.
        return _maximum(inputs[0], node.attrs, graph.quant(node.inputs[0]).qtype.qmin)

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        return inputs[0]

    @staticmethod
    def channel_role(graph: Graph, node: Node) -> ChannelRole:
        return "pass"

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        a = node.attrs
        (_, h, w, c), (_, oh, ow, _) = graph.shape(node.inputs[0]), graph.shape(node.output)
        kernel = instance("qcc_max_pool2d.h", x=graph.quant(node.output).qtype.ctype)
        args = (
            In(0), Out(), h, w, c, oh, ow, *a.kernel, *a.strides, *a.dilations, *a.pads[:2],
        )  # fmt: skip
        return (Call(kernel, args),)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        cases: dict[str, tuple[Shape, dict[str, Any]]] = {
            "plain": ((1, 3, 6, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
            "odd": ((1, 2, 7, 5), {"kernel_shape": [3, 2], "strides": [2, 1]}),
            "padded": ((1, 4, 5, 6), {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1]}),
            "dilated": ((1, 2, 9, 8), {"kernel_shape": [3, 2], "dilations": [2, 3],
                                       "pads": [2, 1, 1, 1]}),
            "ceil": ((1, 5, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
            "upper": ((1, 2, 6, 7), {"kernel_shape": [3, 4], "strides": [2, 2],
                                     "auto_pad": "SAME_UPPER"}),
            "lower": ((1, 2, 6, 7), {"kernel_shape": [3, 4], "strides": [2, 2],
                                     "auto_pad": "SAME_LOWER"}),
            "valid": ((1, 1, 6, 7), {"kernel_shape": [5, 4], "auto_pad": "VALID"}),
            "one_d": ((1, 3, 13), {"kernel_shape": [4], "strides": [3], "pads": [1, 2]}),
        }  # fmt: skip
        for name, (x, attrs) in cases.items():
            pool = helper.make_node("MaxPool", ["x"], ["y"], **attrs)
            yield model(f"max_pool2d_{name}", [pool], {"x": x}, ["y"])
        for name, x in (("global", (1, 5, 4, 3)), ("global_one_d", (1, 2, 9))):
            pool = helper.make_node("GlobalMaxPool", ["x"], ["y"])
            yield model(f"max_pool2d_{name}", [pool], {"x": x}, ["y"])


def _maximum(x: Array, a: Attrs, least: float) -> Array:
    taps = window.taps(x.reshape(-1, *x.shape[2:]), a.kernel, a, least)
    y = taps.max(axis=3)
    return np.asarray(y.reshape(*x.shape[:2], *y.shape[1:]))


# -- shared with avg_pool2d -----------------------------------------------------------------------


def read_window(b: Builder, node: onnx.NodeProto, kernel: Sequence[int]) -> window.Window:
    """The window of a pooling node over 1 or 2 dimensions; each covers some of the input."""
    shape = b.shape(node.input[0])
    spatial = len(shape) - 2
    if spatial not in (1, 2) or len(kernel) != spatial:
        b.unsupported(f"pooling over {spatial} dimensions; 1 and 2 are supported")
    win = window.read(b, node, kernel)
    size, out = shape[2:], b.shape(node.output[0])[2:]
    if spatial == 1:
        size, out = (1, *size), (1, *out)
    if any(tap_counts(d, win.kernel, win, size[d], out[d], (0, 0)).min() == 0 for d in range(2)):
        b.unsupported(f"pads {win.pads}: a window lies in the padding entirely")
    return win


def tap_counts(
    axis: int,
    kernel: tuple[int, int],
    a: window.Geometry,
    size: int,
    out: int,
    margin: tuple[int, int],
) -> Int:
    """How many taps of each of *out* windows along *axis* (0: rows) lie in [-before, size + after).

    Args:
        axis: 0 for rows, 1 for columns.
        kernel: taps per axis.
        a: strides, pads, dilations.
        size: of the input.
        out: of the output.
        margin: (before, after), what counts beside the input.
    """
    first = np.arange(out) * a.strides[axis] - a.pads[axis]
    at = first[:, None] + np.arange(kernel[axis]) * a.dilations[axis]
    return np.asarray(((at >= -margin[0]) & (at < size + margin[1])).sum(axis=1), np.int64)


def pooled_shape(kernel: tuple[int, int], a: window.Geometry, x: Shape) -> Shape:
    """The output's shape; raises ValueError when x is not NHWC or too small."""
    if len(x) != 4:
        raise ValueError(f"pooling: x{x} is not NHWC")
    oh, ow = window.output_size(x[1:3], kernel, a)
    return (x[0], oh, ow, x[3])


def emit_pool(b: Builder, node: onnx.NodeProto, op: str, attrs: object) -> None:
    """transpose, pool, transpose; 1-D through height 1."""
    x, y_shape = b.tensor(node.input[0]), b.shape(node.output[0])
    if len(y_shape) == 3:
        y = b.emit(op, [b.to_nhwc(window.add_height(b, x))], attrs)
        window.drop_height(b, y, y_shape, node.output[0])
        return
    b.from_nhwc(b.emit(op, [b.to_nhwc(x)], attrs), node.output[0])
