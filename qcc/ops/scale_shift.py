"""scale_shift: y = x * scale + shift, scale and shift per channel. What BatchNormalization becomes.

Exists in the float graph only: it is folded into a convolution before or after it, and what is
left becomes a depthwise 1x1 convolution (passes/fold_batchnorm.py, lower_scale_shift.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops.base import Call, Op
from qcc.ops.examples import model, normal


@dataclass(frozen=True, slots=True)
class Attrs:
    """axis: the channel axis of x."""

    axis: int


class ScaleShift(Op):
    """Inputs: x, scale (C,), shift (C,)."""

    name = "scale_shift"
    onnx_types = ("BatchNormalization",)

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        attrs = b.attributes(node)
        if attrs.get("training_mode", 0) or not attrs.get("spatial", 1):
            b.unsupported("training_mode=1 or spatial=0; only inference per channel is supported")
        if any(node.output[1:]):
            b.unsupported("its training outputs are used")
        what = ("the scale", "the bias", "the mean", "the variance")
        gamma, beta, mean, var = (
            b.needs_constant(n, w).astype(np.float64)
            for n, w in zip(node.input[1:], what, strict=True)
        )
        scale = gamma / np.sqrt(var + attrs.get("epsilon", 1e-5))
        inputs = [b.tensor(node.input[0])]
        inputs += [b.const("scale", scale), b.const("shift", beta - mean * scale)]
        axis = min(1, len(b.shape(node.input[0])) - 1)
        b.emit("scale_shift", inputs, Attrs(axis), node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        x, scale, shift = inputs
        if not (scale == shift == (x[attrs.axis],)):
            raise ValueError(f"scale_shift: {scale} and {shift} for axis {attrs.axis} of {x}")
        return x

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        x, scale, shift = inputs
        shape = [1] * x.ndim
        shape[attrs.axis + 1] = -1
        return np.asarray(x * scale.reshape(shape) + shift.reshape(shape), np.float32)

    @staticmethod
    def permute(attrs: Attrs, perm: Sequence[int], rank: int) -> Attrs:
        return Attrs(perm[attrs.axis])

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        raise NotImplementedError("scale_shift is lowered before quantization")

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        raise NotImplementedError("scale_shift is lowered before quantization")

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        def bn(channels: int) -> dict[str, Array]:
            return {
                "g": normal((channels,), 1),
                "b": normal((channels,), 2),
                "m": normal((channels,), 3),
                "v": np.abs(normal((channels,), 4)) + np.float32(0.1),
            }

        node = helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"])
        yield model("batchnorm_alone", [node], {"x": (1, 3, 4, 5)}, ["y"], bn(3))
        yield model("batchnorm_flat", [node], {"x": (1, 7)}, ["y"], bn(7))
        conv = helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])
        after = helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"])
        weights = {"w": normal((4, 3, 3, 3))}
        yield model("conv_batchnorm", [conv, after], {"x": (1, 3, 6, 6)}, ["y"], bn(4) | weights)
        before = helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["c"])
        conv = helper.make_node("Conv", ["c", "w"], ["y"])
        yield model("batchnorm_conv", [before, conv], {"x": (1, 3, 6, 6)}, ["y"], bn(3) | weights)
