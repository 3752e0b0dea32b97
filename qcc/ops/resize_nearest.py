"""resize_nearest: every output pixel is a copy of one input pixel, NHWC. Reads Resize and Upsample.

Which one is computed here, in exact fractions: ties are ties, and not what float32 makes of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops import window
from qcc.ops.base import Call, CArray, In, Interval, Op, Out
from qcc.ops.examples import model
from qcc.ops.kernels import instance

_MAX_SIZE = 1 << 16
"""The kernel's index tables are uint16_t."""


@dataclass(frozen=True, slots=True)
class Attrs:
    """rows[i], cols[j]: the input row and column that output row i and column j copy."""

    rows: tuple[int, ...]
    cols: tuple[int, ...]


class ResizeNearest(Op):
    name = "resize_nearest"
    onnx_types = ("Resize", "Upsample")
    same_scale = True

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        mode = b.attributes(node).get("mode", "nearest")
        if mode != "nearest":
            b.unsupported(f"mode {mode}; only nearest is supported")
        x_shape, y_shape = b.shape(node.input[0]), b.shape(node.output[0])
        if len(x_shape) not in (3, 4) or x_shape[:2] != y_shape[:2]:
            b.unsupported(
                f"from {list(x_shape)} to {list(y_shape)}; only the last axes of (N, C, L) and"
                " (N, C, H, W) may change"
            )
        if max(x_shape[2:]) > _MAX_SIZE:
            b.unsupported(f"an axis of {max(x_shape[2:])} elements; up to {_MAX_SIZE} can change")
        maps = _index_maps(b, node)
        x = b.tensor(node.input[0])
        if len(x_shape) == 3:
            y = b.emit("resize_nearest", [b.to_nhwc(window.add_height(b, x))], Attrs((0,), maps[2]))
            window.drop_height(b, y, y_shape, node.output[0])
            return
        y = b.emit("resize_nearest", [b.to_nhwc(x)], Attrs(maps[2], maps[3]))
        b.from_nhwc(y, node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if len(x) != 4 or max(attrs.rows) >= x[1] or max(attrs.cols) >= x[2]:
            raise ValueError(f"resize_nearest: {attrs} for shape {x}")
        return (x[0], len(attrs.rows), len(attrs.cols), x[3])

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        return _picked(attrs, inputs[0])

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        return inputs[0]

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        return _picked(node.attrs, inputs[0])

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        return inputs[0]

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        a, (n, h, w, c) = node.attrs, graph.shape(node.inputs[0])
        rows, cols = (np.array(v, np.int64) for v in (a.rows, a.cols))
        kernel = instance("qcc_resize_nearest.h", x=graph.quant(node.output).qtype.ctype)
        tables = CArray("rows", "uint16_t", rows), CArray("cols", "uint16_t", cols)
        return (Call(kernel, (In(0), *tables, Out(), n, h, w, len(rows), len(cols), c)),)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        relu = helper.make_node("LeakyRelu", ["x"], ["r"])

        def resize(
            name: str, shape: Shape, *, opset: int = 13, sizes: Any = None, scales: Any = None,
            **attrs: Any,
        ) -> onnx.ModelProto:  # fmt: skip
            none = np.zeros(0, np.float32)  # opset 11 wants all inputs, empty where not meant
            consts: dict[str, Array] = {"roi": none, "scales": none} if opset == 11 else {}
            if scales is not None:
                consts["scales"] = np.array(scales, np.float32)
            if sizes is not None:
                consts["sizes"] = np.array(sizes, np.int64)
            names = ["r", *[k if k in consts else "" for k in ("roi", "scales", "sizes")]]
            inputs = ["r", "scales"] if opset == 10 else names
            node = helper.make_node("Resize", inputs, ["y"], mode="nearest", **attrs)
            return model(f"resize_{name}", [relu, node], {"x": shape}, ["y"], consts, opset)

        image = (1, 3, 4, 5)
        yield resize("opset10_up", image, opset=10, scales=[1, 1, 2, 3])
        yield resize("opset10_down", image, opset=10, scales=[1, 1, 0.6, 0.5])
        yield resize("length", (1, 3, 7), scales=[1, 1, 2.5])
        for i, coordinates in enumerate(_COORDINATES):
            opset = {"half_pixel_symmetric": 19, "tf_half_pixel_for_nn": 11}.get(coordinates, 13)
            rounding = list(_ROUNDINGS)[i % len(_ROUNDINGS)]
            attrs = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
            yield resize(
                f"scales_{coordinates}", image, opset=opset, scales=[1, 1, 1.7, 0.7], **attrs
            )
            yield resize(f"sizes_{coordinates}", image, opset=opset, sizes=[1, 3, 9, 4], **attrs)
        yield resize("axes", image, opset=18, sizes=[6, 7], axes=[3, 2])
        yield resize("aspect", image, opset=18, sizes=[7, 9], axes=[2, 3],
                     keep_aspect_ratio_policy="not_larger")  # fmt: skip
        up = helper.make_node("Upsample", ["r"], ["y"], scales=[1.0, 1.0, 2.0, 1.5])
        yield model("upsample7", [relu, up], {"x": image}, ["y"], opset=7)
        up = helper.make_node("Upsample", ["r", "scales"], ["y"])
        scales = {"scales": np.array([1, 1, 2, 2], np.float32)}
        yield model("upsample9", [relu, up], {"x": image}, ["y"], scales, opset=9)


def _picked(attrs: Attrs, x: Array) -> Array:
    return x[:, :, np.array(attrs.rows)][:, :, :, np.array(attrs.cols)]


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis as ONNX describes it: sizes, scale, and the region of tf_crop_and_resize."""

    n_in: int
    n_out: int
    scale: Fraction
    start: Fraction = Fraction(0)
    end: Fraction = Fraction(1)


_HALF = Fraction(1, 2)


def _half_pixel(i: int, a: _Axis) -> Fraction:
    return (i + _HALF) / a.scale - _HALF


def _pytorch_half_pixel(i: int, a: _Axis) -> Fraction:
    return _half_pixel(i, a) if a.n_out > 1 else Fraction(0)


def _half_pixel_symmetric(i: int, a: _Axis) -> Fraction:
    """Half pixel, the whole part of n_in * scale centred in the input."""
    offset = Fraction(a.n_in, 2) * (1 - a.n_out / (a.scale * a.n_in))
    return offset + _half_pixel(i, a)


def _align_corners(i: int, a: _Axis) -> Fraction:
    return Fraction(i * (a.n_in - 1), a.n_out - 1) if a.n_out > 1 else Fraction(0)


def _crop_and_resize(i: int, a: _Axis) -> Fraction:
    last = a.n_in - 1
    if a.n_out == 1:
        return _HALF * (a.start + a.end) * last
    return a.start * last + i * (a.end - a.start) * last / (a.n_out - 1)


_COORDINATES: Mapping[str, Callable[[int, _Axis], Fraction]] = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "align_corners": _align_corners,
    "asymmetric": lambda i, a: i / a.scale,
    "tf_half_pixel_for_nn": lambda i, a: (i + _HALF) / a.scale,
}

_ROUNDINGS: Mapping[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda v: math.ceil(v - _HALF),
    "round_prefer_ceil": lambda v: math.floor(v + _HALF),
    "floor": math.floor,
    "ceil": math.ceil,
}


def _index_maps(b: Builder, node: onnx.NodeProto) -> list[tuple[int, ...]]:
    """Per axis of the ONNX tensor, the source index of every output index."""
    attrs = b.attributes(node)
    simple = node.op_type == "Upsample" or b.opset < 11
    name = "asymmetric" if simple else attrs.get("coordinate_transformation_mode", "half_pixel")
    rounding = attrs.get("nearest_mode", "round_prefer_floor")
    crop = name == "tf_crop_and_resize"
    if not crop and name not in _COORDINATES:
        b.unsupported(f"coordinate_transformation_mode {name}")
    if rounding not in _ROUNDINGS:
        b.unsupported(f"nearest_mode {rounding}")
    where = _crop_and_resize if crop else _COORDINATES[name]
    maps = []
    for axis in _axes(b, node, crop):
        if axis.scale == 1 and axis.n_in == axis.n_out and not crop:
            maps.append(tuple(range(axis.n_in)))
            continue
        if simple:  # before opset 11: to the pixel at or before; shrinking, at or after
            rounding = "ceil" if axis.scale < 1 else "floor"
        places = [where(i, axis) for i in range(axis.n_out)]
        if crop and not all(0 <= v <= axis.n_in - 1 for v in places):
            b.unsupported("a crop region that leaves the image")
        nearest = (_ROUNDINGS[rounding](v) for v in places)
        maps.append(tuple(min(max(v, 0), axis.n_in - 1) for v in nearest))
    return maps


def _axes(b: Builder, node: onnx.NodeProto, crop: bool) -> list[_Axis]:
    """Every axis of the tensor, with the scale that ONNX computes coordinates with."""
    x, y = b.shape(node.input[0]), b.shape(node.output[0])
    result = [_Axis(n, m, Fraction(m, n)) for n, m in zip(x, y, strict=True)]
    if x == y and not crop:
        return [_Axis(n, n, Fraction(1)) for n in x]  # as onnxruntime: nothing to do
    axes = [a % len(x) for a in b.attributes(node).get("axes", range(len(x)))]
    roi = b.optional(node, 1) if crop else None
    region = b.needs_constant(roi, "the region").tolist() if roi else []
    scales = _scales(b, node, [x[a] for a in axes])
    for i, axis in enumerate(axes):
        start, end = (region[i], region[i + len(axes)]) if region else (0, 1)
        scale = result[axis].scale if scales is None else scales[i]
        result[axis] = _Axis(x[axis], y[axis], scale, Fraction(start), Fraction(end))
    return result


def _scales(b: Builder, node: onnx.NodeProto, sizes: Sequence[int]) -> list[Fraction] | None:
    """The scales as given, or those that follow from an aspect-ratio policy; None: out / in."""
    attrs = b.attributes(node)
    if "scales" in attrs:
        return [_meant(s) for s in attrs["scales"]]
    old = node.op_type == "Upsample" or b.opset < 11
    given = b.optional(node, 1 if old else 2)
    if given is not None and (values := b.needs_constant(given, "the scales")).size:
        return [_meant(s) for s in values.tolist()]
    policy = attrs.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return None
    target = b.needs_constant(node.input[3], "the sizes").tolist()
    choose = min if policy == "not_larger" else max
    one = choose(Fraction(m, n) for n, m in zip(sizes, target, strict=True))
    return [one] * len(sizes)


def _meant(scale: float) -> Fraction:
    """The simple fraction that was rounded to the float32 *scale*, if there is one.

    2.4 in float32 is a little more than 2.4, and 18 / 2.4 no longer the tie that it was.
    """
    simple = Fraction(scale).limit_denominator(4096)
    return simple if np.float32(float(simple)) == np.float32(scale) else Fraction(scale)
