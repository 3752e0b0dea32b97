"""slice: a regular part of a tensor along every axis. Reads Slice and Split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import copy_nd
from qcc.ops.base import Call, Interval, Op
from qcc.ops.examples import model
from qcc.ops.transpose import along


@dataclass(frozen=True, slots=True)
class Attrs:
    """Per axis: first index, number of indices, step (negative runs backwards)."""

    starts: tuple[int, ...]
    sizes: Shape
    steps: tuple[int, ...]


class Slice(Op):
    name = "slice"
    onnx_types = ("Slice", "Split")
    same_scale = True

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        if node.op_type == "Split":
            _read_split(b, node)
            return
        shape = b.shape(node.input[0])
        starts, steps = [0] * len(shape), [1] * len(shape)
        sizes = list(shape)
        for axis, first, last, step in _bounds(b, node, len(shape)):
            if step == 0:
                b.unsupported("a step of 0")
            chosen = range(shape[axis])[slice(first, last, step)]
            if not chosen:
                b.unsupported(f"an empty slice of axis {axis}, [{first}:{last}:{step}]")
            starts[axis], sizes[axis], steps[axis] = chosen[0], len(chosen), step
        attrs = Attrs(tuple(starts), tuple(sizes), tuple(steps))
        b.emit("slice", [b.tensor(node.input[0])], attrs, node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if not len(x) == len(attrs.starts) == len(attrs.sizes) == len(attrs.steps):
            raise ValueError(f"slice: {attrs} for shape {x}")
        for n, start, size, step in zip(x, attrs.starts, attrs.sizes, attrs.steps, strict=True):
            last = start + (size - 1) * step
            if size < 1 or not (0 <= start < n and 0 <= last < n):
                raise ValueError(f"slice: {attrs} reaches outside shape {x}")
        return attrs.sizes

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        return inputs[0][(slice(None), *selection(attrs))]

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        return inputs[0]

    @staticmethod
    def permute(attrs: Attrs, perm: Sequence[int], rank: int) -> Attrs:
        parts = (along(perm, v) for v in (attrs.starts, attrs.sizes, attrs.steps))
        return Attrs(*parts)

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        return inputs[0][(slice(None), *selection(node.attrs))]

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        x, last = inputs[0], selection(node.attrs)[-1]
        x = x.expand(graph.shape(node.inputs[0])[-1])
        return Interval(x.lo[last].copy(), x.hi[last].copy())

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        a = node.attrs
        source = copy_nd.strides(graph.shape(node.inputs[0]))
        reads = [s * step for s, step in zip(source, a.steps, strict=True)]
        offset = sum(s * start for s, start in zip(source, a.starts, strict=True))
        writes = copy_nd.strides(a.sizes)
        return (copy_nd.call(graph, node, 0, a.sizes, reads, writes, offset),)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        relu = helper.make_node("LeakyRelu", ["x"], ["r"])
        big = np.iinfo(np.int64).max
        for name, parts in {
            "inner": ([1, 2], [3, 5], [1, 3], [1, 1]),
            "steps": ([0, 1], [big, 6], [2, 3], [2, 3]),
            "backwards": ([-1, 4], [-big, 0], [3, 2], [-1, -2]),
            "negative": ([-3], [-1], [-1], [1]),
        }.items():
            names = ["starts", "ends", "axes", "steps"]
            consts = {k: np.array(v, np.int64) for k, v in zip(names, parts, strict=True)}
            node = helper.make_node("Slice", ["r", *names], ["y"])
            yield model(f"slice_{name}", [relu, node], {"x": (1, 4, 6, 7)}, ["y"], consts)
        node = helper.make_node("Slice", ["r"], ["y"], starts=[1, -4], ends=[9, -1], axes=[1, 3])
        yield model("slice_attributes", [relu, node], {"x": (1, 4, 6, 7)}, ["y"], opset=9)
        outs = ["a", "b", "c"]
        node = helper.make_node("Split", ["r"], outs, axis=1)
        yield model("split_equal", [relu, node], {"x": (1, 6, 3, 2)}, outs, opset=13)
        node = helper.make_node("Split", ["r"], outs, axis=1, split=[1, 3, 2])
        yield model("split_attribute", [relu, node], {"x": (1, 6, 3, 2)}, outs, opset=11)
        node = helper.make_node("Split", ["r", "split"], outs, axis=-1)
        split = {"split": np.array([3, 1, 2], np.int64)}
        yield model("split_input", [relu, node], {"x": (1, 2, 3, 6)}, outs, split)
        node = helper.make_node("Split", ["r"], outs, axis=2, num_outputs=3)
        yield model("split_uneven", [relu, node], {"x": (1, 2, 7, 3)}, outs, opset=18)


def selection(attrs: Attrs) -> tuple[slice, ...]:
    """The index expression of each axis."""
    parts = []
    for start, size, step in zip(attrs.starts, attrs.sizes, attrs.steps, strict=True):
        stop = start + size * step
        parts.append(slice(start, stop if stop >= 0 else None, step))
    return tuple(parts)


def part(shape: Shape, axis: int, start: int, size: int, step: int = 1) -> Attrs:
    """Attributes that take *size* indices of one *axis* and everything of the others."""
    starts, sizes, steps = [0] * len(shape), list(shape), [1] * len(shape)
    starts[axis], sizes[axis], steps[axis] = start, size, step
    return Attrs(tuple(starts), tuple(sizes), tuple(steps))


def _bounds(b: Builder, node: onnx.NodeProto, rank: int) -> Iterator[tuple[int, int, int, int]]:
    """(axis >= 0, start, end, step) as ONNX has them, from attributes or inputs."""
    given = b.attributes(node)
    if "starts" not in given:
        for i, key in enumerate(("starts", "ends", "axes", "steps"), start=1):
            if name := b.optional(node, i):
                given[key] = b.needs_constant(name, f"the {key}").tolist()
    starts, ends = given["starts"], given["ends"]
    axes = given.get("axes", range(len(starts)))
    steps = given.get("steps", [1] * len(starts))
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        yield axis % rank, start, end, step


def _read_split(b: Builder, node: onnx.NodeProto) -> None:
    """One slice per output; shape inference has found the sizes."""
    shape = b.shape(node.input[0])
    axis = b.attributes(node).get("axis", 0) % len(shape)
    x, start = b.tensor(node.input[0]), 0
    for size, output in zip(_split_sizes(b, node, shape[axis]), node.output, strict=True):
        if output:
            b.emit("slice", [x], part(shape, axis, start, size), output)
        start += size


def _split_sizes(b: Builder, node: onnx.NodeProto, n: int) -> list[int]:
    """Given as an attribute or an input, else equal, the last one smaller."""
    if (name := b.optional(node, 1)) is not None:
        return [int(v) for v in b.needs_constant(name, "the split")]
    if "split" in (attrs := b.attributes(node)):
        return list(attrs["split"])
    count = len(node.output)
    each = -(-n // count)
    return [max(0, min(each, n - i * each)) for i in range(count)]
