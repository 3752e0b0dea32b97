"""Sliding windows, shared by convolution and pooling: ONNX attributes, output size, taps.

Not an operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx

from qcc.builder import Builder
from qcc.ir import Array, Shape

MatMul = Callable[[Array, Array], Array]


class Geometry(Protocol):
    """What the functions below need of an operator's attributes."""

    @property
    def strides(self) -> tuple[int, int]: ...
    @property
    def pads(self) -> tuple[int, int, int, int]: ...
    @property
    def dilations(self) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class Window:
    """A 2-D window; pads are top, left, bottom, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]


def read(b: Builder, node: onnx.NodeProto, kernel: Sequence[int]) -> Window:
    """The window of a Conv or pooling node; a 1-D one becomes one of height 1.

    auto_pad and ceil_mode end here, as explicit pads. With ceil_mode the bottom and right pads
    grow until the last window fits.
    """
    check_batch(b, node)
    attrs = b.attributes(node)
    rank = len(kernel)
    strides = list(attrs.get("strides", [1] * rank))
    dilations = list(attrs.get("dilations", [1] * rank))
    pads = list(attrs.get("pads", [0] * (2 * rank)))
    size = b.shape(node.input[0])[2:]
    out = b.shape(node.output[0])[2:]
    auto = attrs.get("auto_pad", "NOTSET")
    if auto == "VALID":
        pads = [0] * (2 * rank)
    for d in range(rank):
        span = (out[d] - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            total = max(0, span - size[d])
            less, more = total // 2, total - total // 2
            pads[d], pads[rank + d] = (less, more) if auto == "SAME_UPPER" else (more, less)
        elif attrs.get("ceil_mode", 0):
            pads[rank + d] = max(pads[rank + d], span - size[d] - pads[d])
    if min(pads, default=0) < 0:
        b.unsupported(f"negative pads {pads}; only pads >= 0 are supported")
    if rank == 1:
        return Window((1, kernel[0]), (1, strides[0]), (0, pads[0], 0, pads[1]), (1, dilations[0]))
    return Window(
        (kernel[0], kernel[1]),
        (strides[0], strides[1]),
        (pads[0], pads[1], pads[2], pads[3]),
        (dilations[0], dilations[1]),
    )


def check_batch(b: Builder, node: onnx.NodeProto) -> None:
    """Refuse several images: the kernels have no loop over axis 0.

    Where they come in through an input, the frontend says so, and which option helps.
    """
    shape, inputs = b.shape(node.input[0]), map(b.graph.shape, b.graph.inputs)
    if shape[0] != 1 and not any(len(x) > 1 and x[0] != 1 for x in inputs):
        b.unsupported(f"an input of shape {list(shape)}; a first axis (batch) of 1 is supported")


def add_height(b: Builder, x: str) -> str:
    """(N, C, L) -> (N, C, 1, L)."""
    from qcc.ops.reshape import Attrs

    n, c, length = b.graph.shape(x)
    return b.emit("reshape", [x], Attrs((n, c, 1, length)))


def drop_height(b: Builder, y: str, shape: Shape, output: str) -> None:
    """The NHWC tensor *y* of height 1 as the ONNX value *output* of *shape* (N, C, L)."""
    from qcc.builder import NCHW
    from qcc.ops.reshape import Attrs
    from qcc.ops.transpose import Attrs as Transpose

    b.emit("reshape", [b.emit("transpose", [y], Transpose(NCHW))], Attrs(shape), output)


def output_size(size: Sequence[int], kernel: Sequence[int], a: Geometry) -> tuple[int, int]:
    """(height, width) of the output; raises ValueError when the window does not fit once."""
    out = []
    for d in range(2):
        padded = size[d] + a.pads[d] + a.pads[d + 2]
        reach = (kernel[d] - 1) * a.dilations[d] + 1
        if padded < reach:
            raise ValueError(f"a window of {reach} does not fit {padded} elements")
        out.append((padded - reach) // a.strides[d] + 1)
    return out[0], out[1]


def taps(x: Array, kernel: tuple[int, int], a: Geometry, fill: float = 0) -> Array:
    """im2col: x (n, h, w, c) -> (n, oh, ow, kh * kw, c); pads read *fill*."""
    top, left, bottom, right = a.pads
    if any(a.pads):
        x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    kh, kw = kernel
    reach = ((kh - 1) * a.dilations[0] + 1, (kw - 1) * a.dilations[1] + 1)
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(1, 2))
    view = view[:, :: a.strides[0], :: a.strides[1], :, :: a.dilations[0], :: a.dilations[1]]
    n, oh, ow, c = view.shape[:4]
    return view.transpose(0, 1, 2, 4, 5, 3).reshape(n, oh, ow, kh * kw, c)


def by_group(taps: Array, groups: int) -> Array:
    """What ``taps`` made, (n, oh, ow, taps, c), as (groups, n * oh * ow, taps * c / groups)."""
    n, oh, ow, count, c = taps.shape
    split = taps.reshape(n * oh * ow, count, groups, c // groups).transpose(2, 0, 1, 3)
    return split.reshape(groups, n * oh * ow, -1)
