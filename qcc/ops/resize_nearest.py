"""resize_nearest: every output pixel is a copy of one input pixel, NHWC. Reads Resize and Upsample.

Which one is computed here, in float32 as onnxruntime does it, so that the model's own values and
the compiled ones come from the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.kernels import instance
from qcc.ops import window
from qcc.ops.base import Call, CArray, In, Interval, Op, Out
from qcc.ops.examples import model

F32 = np.float32
Floats = npt.NDArray[np.float32]


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
            consts: dict[str, Array] = {}
            if scales is not None:
                consts["scales"] = np.array(scales, np.float32)
            if sizes is not None:
                consts["sizes"] = np.array(sizes, np.int64)
            names = ["r", "", *[k if k in consts else "" for k in ("scales", "sizes")]]
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
            yield resize(f"sizes_{coordinates}", image, opset=opset, sizes=[1, 3, 9, 3], **attrs)
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
    scale: np.float32
    start: float = 0.0
    end: float = 1.0


def _half_pixel(i: Floats, a: _Axis) -> Floats:
    return (i + F32(0.5)) / a.scale - F32(0.5)


def _pytorch_half_pixel(i: Floats, a: _Axis) -> Floats:
    return _half_pixel(i, a) if a.n_out > 1 else 0 * i


def _half_pixel_symmetric(i: Floats, a: _Axis) -> Floats:
    """Half pixel, the whole part of n_in * scale centred in the input."""
    adjustment = F32(a.n_out) / (a.scale * F32(a.n_in))
    offset = F32(a.n_in) / F32(2) * (F32(1) - adjustment)
    return offset + (i + F32(0.5)) / a.scale - F32(0.5)


def _align_corners(i: Floats, a: _Axis) -> Floats:
    return i * F32(a.n_in - 1) / F32(a.n_out - 1) if a.n_out > 1 else 0 * i


def _crop_and_resize(i: Floats, a: _Axis) -> Floats:
    start, end, last = F32(a.start), F32(a.end), F32(a.n_in - 1)
    if a.n_out == 1:
        return 0 * i + F32(0.5) * (start + end) * last
    return start * last + i * (end - start) * last / F32(a.n_out - 1)


_COORDINATES: Mapping[str, Callable[[Floats, _Axis], Floats]] = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "align_corners": _align_corners,
    "asymmetric": lambda i, a: i / a.scale,
    "tf_half_pixel_for_nn": lambda i, a: (i + F32(0.5)) / a.scale,
}

_ROUNDINGS: Mapping[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda v: np.ceil(v - F32(0.5)),
    "round_prefer_ceil": lambda v: np.floor(v + F32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _index_maps(b: Builder, node: onnx.NodeProto) -> list[tuple[int, ...]]:
    """Per axis of the ONNX tensor, the source index of every output index."""
    attrs = b.attributes(node)
    simple = node.op_type == "Upsample" or b.opset < 11
    name = "asymmetric" if simple else attrs.get("coordinate_transformation_mode", "half_pixel")
    crop = name == "tf_crop_and_resize"
    if not crop and name not in _COORDINATES:
        b.unsupported(f"coordinate_transformation_mode {name}")
    where = _crop_and_resize if crop else _COORDINATES[name]
    maps = []
    for axis in _axes(b, node, crop):
        rounding = attrs.get("nearest_mode", "round_prefer_floor")
        if simple:  # before opset 11: to the pixel at or before; shrinking, at or after
            rounding = "ceil" if axis.scale < 1 else "floor"
        if rounding not in _ROUNDINGS:
            b.unsupported(f"nearest_mode {rounding}")
        place = where(np.arange(axis.n_out, dtype=np.float32), axis)
        if axis.n_out == axis.n_in and axis.scale == 1 and not crop:
            place = np.arange(axis.n_out, dtype=np.float32)
        if crop and (place.min() < 0 or place.max() > axis.n_in - 1):
            b.unsupported("a crop region that leaves the image")
        index = np.clip(_ROUNDINGS[rounding](place), 0, axis.n_in - 1)
        maps.append(tuple(int(v) for v in index))
    return maps


def _axes(b: Builder, node: onnx.NodeProto, crop: bool) -> list[_Axis]:
    """Every axis of the tensor, with the scale that ONNX computes coordinates with."""
    x, y = b.shape(node.input[0]), b.shape(node.output[0])
    attrs = b.attributes(node)
    axes = [a % len(x) for a in attrs.get("axes", range(len(x)))]
    result = [_Axis(n, m, F32(m) / F32(n)) for n, m in zip(x, y, strict=True)]
    roi = b.optional(node, 1) if crop else None
    region = b.needs_constant(roi, "the region") if roi else None
    scales = _scales(b, node, [x[a] for a in axes])
    for i, axis in enumerate(axes):
        start, end = 0.0, 1.0
        if region is not None and region.size:
            start, end = float(region[i]), float(region[i + len(axes)])
        scale = result[axis].scale if scales is None else scales[i]
        result[axis] = _Axis(x[axis], y[axis], scale, start, end)
    return result


def _scales(b: Builder, node: onnx.NodeProto, sizes: Sequence[int]) -> list[np.float32] | None:
    """The scales as given, or those that follow from an aspect-ratio policy; None: out / in."""
    attrs = b.attributes(node)
    if "scales" in attrs:
        return [F32(s) for s in attrs["scales"]]
    old = node.op_type == "Upsample" or b.opset < 11
    given = b.optional(node, 1 if old else 2)
    if given is not None and (values := b.needs_constant(given, "the scales")).size:
        return [F32(s) for s in values]
    policy = attrs.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return None
    target = b.needs_constant(node.input[3], "the sizes")
    choose = min if policy == "not_larger" else max
    one = choose(F32(m) / F32(n) for n, m in zip(sizes, target.tolist(), strict=True))
    return [one] * len(sizes)
