"""pad: one constant around a tensor.

Negative ONNX pads crop (slice). The modes reflect, edge and wrap are read as a concat of slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper

from qcc import arith
from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, Quant, Shape
from qcc.ops import concat, copy_nd
from qcc.ops import slice as slice_op
from qcc.ops.base import Call, Interval, Op, Out
from qcc.ops.examples import model
from qcc.ops.kernels import instance
from qcc.ops.transpose import along

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Attrs:
    """pads: (before, after) of every axis, >= 0. value: real."""

    pads: Pads
    value: float = 0.0


class Pad(Op):
    name = "pad"
    onnx_types = ("Pad",)
    same_scale = True

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        mode = b.attributes(node).get("mode", "constant")
        pads, value = _pads(b, node), _value(b, node)
        x = _crop(b, b.tensor(node.input[0]), pads)
        grow = tuple((max(0, before), max(0, after)) for before, after in pads)
        if mode != "constant":
            x = _extend(b, x, grow, mode)
            grow = tuple((0, 0) for _ in pads)
        b.emit("pad", [x], Attrs(grow, value), node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if len(attrs.pads) != len(x) or any(min(p) < 0 for p in attrs.pads):
            raise ValueError(f"pad: {attrs.pads} for shape {x}")
        return tuple(n + before + after for n, (before, after) in zip(x, attrs.pads, strict=True))

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        return _padded(inputs[0], attrs.pads, attrs.value)

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        lo, hi = inputs[0]
        if not any(map(any, attrs.pads)):
            return lo, hi
        return min(lo, attrs.value), max(hi, attrs.value)

    @staticmethod
    def permute(attrs: Attrs, perm: Sequence[int], rank: int) -> Attrs:
        return replace(attrs, pads=along(perm, attrs.pads))

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        value = integer_value(node.attrs, graph.quant(node.output))
        return _padded(inputs[0], node.attrs.pads, value)

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        """Channels that padding adds are constant; pads along other axes touch every channel."""
        pads, value = node.attrs.pads, integer_value(node.attrs, graph.quant(node.output))
        x = inputs[0].expand(graph.shape(node.inputs[0])[-1])
        if any(map(any, pads[:-1])):
            x = Interval(np.minimum(x.lo, value), np.maximum(x.hi, value))
        return Interval(*(np.pad(v, pads[-1], constant_values=value) for v in (x.lo, x.hi)))

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        a, y = node.attrs, graph.quant(node.output)
        x_shape, y_shape = graph.shape(node.inputs[0]), graph.shape(node.output)
        fill = instance("qcc_fill.h", x=y.qtype.ctype)
        source, target = copy_nd.strides(x_shape), copy_nd.strides(y_shape)
        offset = sum(before * s for (before, _), s in zip(a.pads, target, strict=True))
        return (
            Call(fill, (Out(), math.prod(y_shape), integer_value(a, y))),
            copy_nd.call(graph, node, 0, x_shape, source, target, dst_offset=offset),
        )

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        relu = helper.make_node("LeakyRelu", ["x"], ["r"])
        shape = {"x": (1, 3, 4, 5)}

        def given(*pads: int) -> dict[str, Array]:
            return {"pads": np.array(pads, np.int64)}

        node = helper.make_node("Pad", ["r", "pads"], ["y"])
        yield model("pad_zero", [relu, node], shape, ["y"], given(0, 0, 1, 2, 0, 0, 3, 0))
        yield model("pad_channels", [relu, node], shape, ["y"], given(0, 2, 0, 0, 0, 1, 0, 0))
        yield model("pad_crop", [relu, node], shape, ["y"], given(0, -1, -2, 1, 0, 0, 1, -3))
        node = helper.make_node("Pad", ["r", "pads", "value"], ["y"], mode="constant")
        consts = given(0, 0, 1, 1, 0, 0, 1, 1) | {"value": np.array(-0.75, np.float32)}
        yield model("pad_value", [relu, node], shape, ["y"], consts)
        node = helper.make_node("Pad", ["r", "pads", "", "axes"], ["y"])
        consts = given(2, 1, 0, 3) | {"axes": np.array([-1, 1], np.int64)}
        yield model("pad_axes", [relu, node], shape, ["y"], consts, opset=18)
        node = helper.make_node("Pad", ["r"], ["y"], pads=[0, 0, 0, 1, 0, 0, 2, 0], value=0.5)
        yield model("pad_attributes", [relu, node], shape, ["y"], opset=10)
        for mode, opset in (("reflect", 17), ("edge", 17), ("wrap", 19)):
            node = helper.make_node("Pad", ["r", "pads"], ["y"], mode=mode)
            consts = given(0, 0, 2, 1, 0, 0, 3, -1)
            yield model(f"pad_{mode}", [relu, node], shape, ["y"], consts, opset=opset)


def integer_value(attrs: Attrs, y: Quant) -> int:
    """The padding in the format of the output, saturated; the value may be infinite."""
    q = y.qtype
    limit = 2.0 * y.scalar * max(abs(q.qmin - y.zero_point), abs(q.qmax - y.zero_point))
    real = np.array(min(max(attrs.value, -limit), limit))
    return int(arith.quantize(real, y.scalar, q, y.zero_point))


def _padded(x: Array, pads: Pads, value: float) -> Array:
    return np.pad(x, ((0, 0), *pads), constant_values=value)


def _pads(b: Builder, node: onnx.NodeProto) -> Pads:
    """(before, after) of every axis, as given: negative ones crop."""
    rank, attrs = len(b.shape(node.input[0])), b.attributes(node)
    if (name := b.optional(node, 1)) is not None:
        flat = b.needs_constant(name, "the pads").tolist()
    else:
        flat = list(attrs.get("pads", attrs.get("paddings", [])))  # opset 1 said paddings
    axes = list(range(rank))
    if (name := b.optional(node, 3)) is not None:
        axes = b.needs_constant(name, "the axes").tolist()
    pads = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pads[axis % rank] = (int(flat[i]), int(flat[i + len(axes)]))
    return tuple(pads)


def _value(b: Builder, node: onnx.NodeProto) -> float:
    if (name := b.optional(node, 2)) is not None:
        return float(b.needs_constant(name, "the value").reshape(()))
    return float(b.attributes(node).get("value", 0.0))


def _crop(b: Builder, x: str, pads: Pads) -> str:
    """*x* without what negative pads take away."""
    shape = b.graph.shape(x)
    starts = tuple(max(0, -before) for before, _ in pads)
    sizes = tuple(
        n - start - max(0, -after) for n, start, (_, after) in zip(shape, starts, pads, strict=True)
    )
    if sizes == shape:
        return x
    return b.emit("slice", [x], slice_op.Attrs(starts, sizes, (1,) * len(shape)))


def _extend(b: Builder, x: str, pads: Pads, mode: str) -> str:
    """*x* grown by its own elements, one axis after the other."""
    for axis, (before, after) in enumerate(pads):
        if not (before or after):
            continue
        n = b.graph.shape(x)[axis]
        reach = n - 1 if mode == "reflect" else n
        if mode != "edge" and max(before, after) > reach:
            b.unsupported(f"{mode} pads {before}, {after} of an axis of {n}; at most {reach} work")
        parts = [*_side(b, x, axis, before, mode, 0), x, *_side(b, x, axis, after, mode, 1)]
        x = b.emit("concat", parts, concat.Attrs(axis))
    return x


def _side(b: Builder, x: str, axis: int, count: int, mode: str, side: int) -> list[str]:
    """What comes before (side 0) or after (side 1) *x* along *axis*."""
    if not count:
        return []
    shape = b.graph.shape(x)
    n = shape[axis]
    if mode == "edge":
        return [b.emit("slice", [x], slice_op.part(shape, axis, side * (n - 1), 1))] * count
    if mode == "wrap":
        return [b.emit("slice", [x], slice_op.part(shape, axis, 0 if side else n - count, count))]
    if mode == "reflect":
        start = n - 2 if side else count
        return [b.emit("slice", [x], slice_op.part(shape, axis, start, count, -1))]
    b.unsupported(f"mode {mode}; constant, reflect, edge and wrap are supported")
