"""How far outputs of the portable kernels may run ahead of their inputs in the same memory.

A kernel that walks upwards over both may write over an input that it reads for the last time, if
the input begins far enough above the output: by the *lead* (``memory.Overlap``). The kernels of
windows go over the output pixel by pixel, in rows, and read within a pixel's window until the last
of its channels is written. So before pixel p + 1, outputs of p + 1 pixels are written, and all the
input from the lowest address in the window of p on, or of any later pixel, may still be needed.
"""

from __future__ import annotations

import math

import numpy as np

from qcc.ir import Graph, Int, Node, Shape
from qcc.ops import OPS
from qcc.ops.window import Geometry, Window


def portable_leads(graph: Graph, node: Node) -> dict[int, int]:
    """Index of an activation input -> lead, for the portable kernel of *node*."""
    if OPS[node.op].elementwise:
        return _elementwise(graph, node)
    x, y = graph.activations(node)[0], node.output
    sizes = tuple(graph.quant(t).qtype.storage_bits // 8 for t in (x, y))
    if node.op == "dense":
        shape, out = graph.shape(x), graph.shape(y)
        rows = math.prod(shape[:-1])
        one = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
        pixels = (1, rows, 1, shape[-1]), (1, rows, 1, out[-1])
        return {0: window_lead(*pixels, one.kernel, one, *sizes)}
    if node.op not in ("conv2d", "max_pool2d", "avg_pool2d"):
        return {}
    kernel = graph.shape(node.inputs[1])[1:3] if node.op == "conv2d" else node.attrs.kernel
    return {0: window_lead(graph.shape(x), graph.shape(y), kernel, node.attrs, *sizes)}


def _elementwise(graph: Graph, node: Node) -> dict[int, int]:
    """Element i of an operand of the output's shape is read before element i is written."""
    out = graph.quant(node.output).qtype.storage_bits
    return {
        i: 0
        for i, t in enumerate(graph.activations(node))
        if graph.shape(t) == graph.shape(node.output) and out <= graph.quant(t).qtype.storage_bits
    }


def window_lead(
    x: Shape, y: Shape, kernel: tuple[int, ...], a: Geometry, x_bytes: int = 1, y_bytes: int = 1
) -> int:
    """The lead of a sliding window.

    Args:
        x: shape of the input, (1, height, width, channels).
        y: shape of the output, the same way.
        kernel: rows and columns of the window.
        a: how it moves.
        x_bytes: bytes of an element of the input.
        y_bytes: bytes of an element of the output.
    """
    (_, h, w, c), (_, oh, ow, oc) = x, y
    rows = _first_inside(oh, h, kernel[0], a.strides[0], a.pads[0], a.dilations[0])
    columns = _first_inside(ow, w, kernel[1], a.strides[1], a.pads[1], a.dilations[1])
    starts = (rows[:, None] * w + columns[None, :]).ravel() * c * x_bytes
    needed = np.minimum.accumulate(starts[::-1])[::-1]
    written = np.arange(1, oh * ow + 1) * oc * y_bytes
    return max(0, int((written - needed).max()))


def _first_inside(count: int, size: int, taps: int, stride: int, pad: int, dilation: int) -> Int:
    """(count,) first index of the input that each window reads along one axis, else *size*."""
    at = np.arange(count)[:, None] * stride - pad + np.arange(taps)[None, :] * dilation
    return np.asarray(np.where((at >= 0) & (at < size), at, size).min(axis=1), np.int64)
