"""transpose: y = x with its axes reordered. The layout passes remove all that can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import onnx
from onnx import helper

from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import copy_nd
from qcc.ops.base import Call, Interval, Op
from qcc.ops.examples import model

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attrs:
    """perm[i]: the input axis that becomes output axis i."""

    perm: tuple[int, ...]


class Transpose(Op):
    name = "transpose"
    onnx_types = ("Transpose",)
    same_scale = True

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        rank = len(b.shape(node.input[0]))
        perm = tuple(b.attributes(node).get("perm", range(rank)[::-1]))
        b.emit("transpose", [b.tensor(node.input[0])], Attrs(perm), node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if sorted(attrs.perm) != list(range(len(x))):
            raise ValueError(f"transpose: perm {attrs.perm} for shape {x}")
        return tuple(x[p] for p in attrs.perm)

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        return inputs[0].transpose(0, *(p + 1 for p in attrs.perm))

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        return inputs[0]

    @staticmethod
    def permute(attrs: Attrs, perm: Sequence[int], rank: int) -> Attrs:
        return Attrs(compose(perm, compose(attrs.perm, inverse(perm))))

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        return inputs[0].transpose(0, *(p + 1 for p in node.attrs.perm))

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        if node.attrs.perm[-1] == len(node.attrs.perm) - 1:
            return inputs[0]
        return Interval.of(*inputs[0].hull())

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        strides = copy_nd.strides(graph.shape(node.inputs[0]))
        source = [strides[p] for p in node.attrs.perm]
        shape = graph.shape(node.output)
        return (copy_nd.call(graph, node, 0, shape, source, copy_nd.strides(shape)),)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        for name, shape, perm in (
            ("swap", (1, 3, 4, 5), (0, 1, 3, 2)),
            ("rotate", (2, 3, 4), (1, 2, 0)),
            ("five", (1, 2, 3, 2, 3), (0, 3, 1, 4, 2)),
        ):
            node = helper.make_node("Transpose", ["x"], ["y"], perm=list(perm))
            relu = helper.make_node("LeakyRelu", ["x0"], ["x"])
            yield model(f"transpose_{name}", [relu, node], {"x0": shape}, ["y"])


def along(perm: Sequence[int], values: Sequence[T]) -> tuple[T, ...]:
    """One value per axis of T(v) = v.transpose(perm), in the order of the axes of v."""
    return tuple(values[i] for i in inverse(perm))


def compose(first: Sequence[int], then: Sequence[int]) -> tuple[int, ...]:
    """v.transpose(first).transpose(then) = v.transpose(compose(first, then))."""
    return tuple(first[i] for i in then)


def inverse(perm: Sequence[int]) -> tuple[int, ...]:
    """The perm that undoes *perm*."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


def moves(perm: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a transpose of *shape* by *perm* moves elements, not only axes of size 1."""
    long = [p for p in perm if shape[p] != 1]
    return long != sorted(long)
