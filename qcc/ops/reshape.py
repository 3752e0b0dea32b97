"""reshape: the same elements under another shape; no code.

Also reads what comes down to it: Flatten, Squeeze, Unsqueeze, and the operators that do nothing at
inference (Identity, Dropout, Cast between floating-point types). DepthToSpace and SpaceToDepth are
a transpose between two reshapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import transpose
from qcc.ops.base import Call, Interval, Op
from qcc.ops.examples import model

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True, slots=True)
class Attrs:
    """shape: complete, every size known."""

    shape: Shape


class Reshape(Op):
    name = "reshape"
    onnx_types = (
        "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast", "CastLike",
        "DepthToSpace", "SpaceToDepth",
    )  # fmt: skip
    same_scale = True
    alias = True

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        if node.op_type in ("DepthToSpace", "SpaceToDepth"):
            _read_blocks(b, node)
            return
        if node.op_type == "Dropout":
            _check_dropout(b, node)
        elif node.op_type in ("Cast", "CastLike"):
            _check_cast(b, node)
        # Shape inference has resolved 0, -1, allowzero, axes in all their forms.
        shape = b.shape(node.output[0])
        b.emit("reshape", [b.tensor(node.input[0])], Attrs(shape), node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if math.prod(x) != math.prod(attrs.shape):
            raise ValueError(f"reshape: {x} does not have the elements of {attrs.shape}")
        return attrs.shape

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        return inputs[0].reshape(len(inputs[0]), *attrs.shape)

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        return inputs[0]

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        return inputs[0].reshape(len(inputs[0]), *node.attrs.shape)

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        """Element e lies in channel e mod C of a row-major tensor with C channels."""
        x_shape, y_shape = graph.shape(node.inputs[0]), graph.shape(node.output)
        before, after = (shape[-1] if shape else 1 for shape in (x_shape, y_shape))
        x = inputs[0].expand(before)
        if after % before == 0:
            return Interval(np.tile(x.lo, after // before), np.tile(x.hi, after // before))
        if before % after == 0:
            lo, hi = x.lo.reshape(-1, after), x.hi.reshape(-1, after)
            return Interval(lo.min(axis=0), hi.max(axis=0))
        return Interval.of(*x.hull())

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        return ()

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        shapes = {"to": (2, 0, -1), "axes": (1, 2), "axis1": (1,)}
        consts = {k: np.array(v, np.int64) for k, v in shapes.items()}
        relu = helper.make_node("LeakyRelu", ["x"], ["r"])

        def case(name: str, op: str, *args: str, opset: int = 17, **attrs: Any) -> onnx.ModelProto:
            node = helper.make_node(op, ["r", *args], ["y"], **attrs)
            used = {k: consts[k] for k in args}
            return model(f"reshape_{name}", [relu, node], {"x": (2, 1, 1, 12)}, ["y"], used, opset)

        yield case("reshape", "Reshape", "to")
        yield case("flatten", "Flatten", axis=3)
        yield case("squeeze", "Squeeze", "axes")
        yield case("squeeze11", "Squeeze", axes=[1], opset=11)
        yield case("unsqueeze", "Unsqueeze", "axis1")
        yield case("unsqueeze11", "Unsqueeze", axes=[0, 5], opset=11)
        yield case("identity", "Identity")
        yield case("dropout", "Dropout")
        yield case("cast", "Cast", to=TensorProto.FLOAT)
        for name, op, shape, attrs in (
            ("dcr", "DepthToSpace", (1, 12, 2, 3), {"blocksize": 2}),
            ("crd", "DepthToSpace", (1, 18, 3, 2), {"blocksize": 3, "mode": "CRD"}),
            ("s2d", "SpaceToDepth", (1, 3, 4, 6), {"blocksize": 2}),
        ):
            node = helper.make_node(op, ["r"], ["y"], **attrs)
            yield model(f"reshape_{name}", [relu, node], {"x": shape}, ["y"])


def _check_dropout(b: Builder, node: onnx.NodeProto) -> None:
    name = b.optional(node, 2)
    if name and b.needs_constant(name, "training_mode").any():
        b.unsupported("training_mode is set; export the model for inference")


def _check_cast(b: Builder, node: onnx.NodeProto) -> None:
    """Refuse casts that change values; a narrower float only rounds, finer than quantization."""
    if node.op_type == "Cast":
        to = b.attributes(node)["to"]
        if to not in _FLOATS:
            kind = TensorProto.DataType.Name(to)
            b.unsupported(
                f"a cast to {kind}; only casts between floating-point types are supported"
            )
        return
    like = b.constant(node.input[1])
    if like is not None and like.dtype.kind != "f":
        b.unsupported(f"a cast to {like.dtype}; only floating-point types are supported")


def _read_blocks(b: Builder, node: onnx.NodeProto) -> None:
    """DepthToSpace and SpaceToDepth: blocks of s x s pixels from and to the channel axis."""
    attrs, (n, c, h, w) = b.attributes(node), b.shape(node.input[0])
    s = attrs["blocksize"]
    split: Shape
    if node.op_type == "SpaceToDepth":
        split, perm = (n, c, h // s, s, w // s, s), (0, 3, 5, 1, 2, 4)
    elif attrs.get("mode", "DCR") == "DCR":
        split, perm = (n, s, s, c // (s * s), h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, perm = (n, c // (s * s), s, s, h, w), (0, 1, 4, 2, 5, 3)
    x = b.emit("reshape", [b.tensor(node.input[0])], Attrs(split))
    x = b.emit("transpose", [x], transpose.Attrs(perm))
    b.emit("reshape", [x], Attrs(b.shape(node.output[0])), node.output[0])
