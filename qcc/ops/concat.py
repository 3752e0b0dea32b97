"""concat: tensors one after the other along an axis; constants take the output's format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from qcc import arith
from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import copy_nd
from qcc.ops.base import Arg, Call, CArray, In, Interval, Op, QuantContext
from qcc.ops.examples import model, normal


@dataclass(frozen=True, slots=True)
class Attrs:
    """axis: not negative."""

    axis: int


class Concat(Op):
    name = "concat"
    onnx_types = ("Concat",)
    same_scale = True

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        axis = b.attributes(node).get("axis", 1) % len(b.shape(node.output[0]))
        filled = [b.tensor(t) for t in node.input if b.shape(t)[axis]]
        b.emit("concat", filled, Attrs(axis), node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        axis, first = attrs.axis, inputs[0]
        rest = {(x[:axis], x[axis + 1 :]) for x in inputs}
        if len(rest) > 1 or not 0 <= axis < len(first):
            raise ValueError(f"concat: {list(inputs)} along axis {axis}")
        return (*first[:axis], sum(x[axis] for x in inputs), *first[axis + 1 :])

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        return _joined(attrs, inputs)

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        return min(lo for lo, _ in inputs), max(hi for _, hi in inputs)

    @staticmethod
    def permute(attrs: Attrs, perm: Sequence[int], rank: int) -> Attrs:
        return Attrs(perm[attrs.axis])

    @staticmethod
    def quantize(graph: Graph, node: Node, ctx: QuantContext) -> None:
        y = graph.quant(node.output)
        inputs = list(node.inputs)
        for i, name in enumerate(node.inputs):
            data = graph.tensor(name).data
            if data is not None:
                q = arith.quantize(data, y.scalar, y.qtype, y.zero_point)
                inputs[i] = graph.add_constant(f"{name}.q", q, y)
        old = set(node.inputs) - set(inputs)
        graph.set_inputs(node, inputs)
        for name in old:
            graph.remove_if_unused(name)

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        return _joined(node.attrs, inputs)

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        shapes = [graph.shape(t) for t in node.inputs]
        parts = [x.expand(shape[-1]) for x, shape in zip(inputs, shapes, strict=True)]
        if node.attrs.axis == len(shapes[0]) - 1:
            lo, hi = ([getattr(p, side) for p in parts] for side in ("lo", "hi"))
            return Interval(np.concatenate(lo), np.concatenate(hi))
        return Interval(
            np.min([p.lo for p in parts], axis=0), np.max([p.hi for p in parts], axis=0)
        )

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        target = copy_nd.strides(graph.shape(node.output))
        calls, offset, index = [], 0, 0
        for i, name in enumerate(node.inputs):
            shape = graph.shape(name)
            source: Arg
            if graph.is_constant(name):
                source = CArray(f"x{i}", graph.quant(name).qtype.ctype, graph.constant(name))
            else:
                source = In(index)
                index += 1
            reads = copy_nd.strides(shape)
            calls.append(copy_nd.copy(graph, node, source, shape, reads, target, dst_offset=offset))
            offset += shape[node.attrs.axis] * target[node.attrs.axis]
        return tuple(calls)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        relu = helper.make_node("LeakyRelu", ["x"], ["r"])
        for name, axis, other in (
            ("channels", 1, (1, 2, 4, 5)),
            ("rows", 2, (1, 3, 2, 5)),
            ("columns", -1, (1, 3, 4, 1)),
        ):
            node = helper.make_node("Concat", ["r", "z", "r"], ["y"], axis=axis)
            inputs = {"x": (1, 3, 4, 5), "z": other}
            yield model(f"concat_{name}", [relu, node], inputs, ["y"])
        node = helper.make_node("Concat", ["c", "r", "c"], ["y"], axis=1)
        consts = {"c": normal((1, 2, 3), seed=7)}
        yield model("concat_constant", [relu, node], {"x": (1, 4, 3)}, ["y"], consts)
        node = helper.make_node("Concat", ["r"], ["y"], axis=0)
        yield model("concat_one", [relu, node], {"x": (2, 3)}, ["y"])


def _joined(attrs: Attrs, inputs: Sequence[Array]) -> Array:
    """Constants have no axis of samples; they are the same for every one."""
    rank = max(x.ndim for x in inputs)
    samples = next(len(x) for x in inputs if x.ndim == rank)
    parts = [x if x.ndim == rank else np.broadcast_to(x, (samples, *x.shape)) for x in inputs]
    return np.concatenate(parts, axis=attrs.axis + 1)
