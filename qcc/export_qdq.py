"""The integer graph as an ONNX model of QuantizeLinear and DequantizeLinear (QDQ).

What onnxruntime computes with it is what the C computes, bit for bit. Float32 can do that because
every number it meets is a small integer times a power of two:

- Inside the graph the scale of a tensor is the power of two nearest to its real one. The weights of
  a layer take the difference back, so its sums are those of the integers times a power of two, and
  exact as long as they stay below 2**23 (proved per layer, from the weights). Real scales are where
  they matter: at the model's inputs and outputs.
- QuantizeLinear rounds ties to even, the C rounds them up. Accumulators are integers, so half an
  accumulator step added to the bias moves every tie up and nothing else over a boundary. The bias
  is int32 at half the usual scale: 2 * b + 1.
- A function of one value is a table, and Gather looks it up.
- What float32 cannot hold (general multipliers of up to 31 bits, larger sums, softmax's quotient)
  is computed with int64 operators; these layers are listed in the result and in the metadata.

What is not the same: a real input exactly between two integers is rounded to even by
QuantizeLinear and up by the C's helper, and dividing by the scale in float32 may go either way
within 1e-7 of it. Models exported with integer inputs do not have that difference.

Source of the formats: ONNX operator specification, QuantizeLinear and DequantizeLinear of opsets
21 (4 and 16 bits) and 25 (2 bits).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from qcc import __version__
from qcc.arith import Rescale
from qcc.errors import QccError, UsageError, short
from qcc.ir import Graph, Int, Node, Quant, Shape
from qcc.onnx_writer import OPSETS, Writer, element_type, storage
from qcc.ops import OPS
from qcc.ops.avg_pool2d import window_rescales
from qcc.ops.pad import integer_value
from qcc.ops.softmax import exp_table, exp_tables, is_narrow

_EXACT = 1 << 23
"""Sums of integers below this are exact in float32 with the half that is added to them."""

_PART = 1 << 24
"""And below this without it."""

_NCHW, _NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_LIMIT = 20
"""Scales are kept within 2**-20 to 2**20: only ratios count, and float32 must not run out of range
where a layer shifts by up to 62 bits."""


@dataclass(frozen=True, slots=True)
class Export:
    """An exported model.

    Attributes:
        layers: how many layers it has.
        integer_layers: those computed with int64 operators, and why.
    """

    model: onnx.ModelProto
    opset: int
    layers: int
    integer_layers: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "opset": self.opset,
            "layers": self.layers,
            "integer_layers": dict(self.integer_layers),
        }


def export_qdq(graph: Graph, opset: int = 21, integer_ports: bool = False) -> Export:
    """The QDQ model of a quantized graph.

    Args:
        graph: quantized, as ``check/reference.json`` holds it.
        opset: 21, or 25 for 2-bit types.
        integer_ports: inputs and outputs are the C's integers, in its order of elements, instead of
            real numbers in the source model's order.

    Raises:
        UsageError: another opset.
        QccError: a layer cannot be expressed; says which and why.
    """
    if opset not in OPSETS:
        raise UsageError(f"--opset {opset}: choose one of {', '.join(map(str, OPSETS))}")
    export = _Exporter(graph, opset)
    ports = _Ports(export, integer_ports)
    inputs = {ports.name(t): ports.input(t) for t in graph.inputs}
    layers = [n for n in graph.nodes() if not OPS[n.op].alias]
    for node in graph.nodes():
        export.node(node)
    outputs = {ports.name(t): ports.output(t) for t in graph.outputs}
    metadata = {
        "qcc.version": __version__,
        "qcc.rounding": "half_up",
        "qcc.scales": json.dumps({ports.name(t): _described(graph.quant(t)) for t in ports.all}),
        "qcc.integer_layers": json.dumps(export.integer_layers),
    }
    model = export.w.model(graph.name, inputs, outputs, opset, metadata)
    onnx.checker.check_model(model)
    return Export(model, opset, len(layers), export.integer_layers)


def _described(quant: Quant) -> dict[str, float | int | bool]:
    q = quant.qtype
    return {
        "scale": quant.scalar,
        "zero_point": quant.zero_point,
        "bits": q.bits,
        "signed": q.signed,
    }


# -- inputs and outputs ---------------------------------------------------------------------------


class _Ports:
    """Inputs and outputs under the names of the source model."""

    def __init__(self, export: _Exporter, integers: bool) -> None:
        self._export, self._integers = export, integers
        graph = export.graph
        self.all = (*graph.inputs, *graph.outputs)
        self._names: dict[str, str] = {}
        for t in self.all:
            origin = graph.tensor(t).origin
            self._names[t] = origin.name if origin else t
        for name in self._names.values():
            export.w.reserve(name)

    def name(self, tensor: str) -> str:
        return self._names[tensor]

    def input(self, tensor: str) -> tuple[int, Shape]:
        """Begin with an input; its type and shape."""
        e, name = self._export, self.name(tensor)
        quant = e.graph.quant(tensor)
        if self._integers:
            held = storage(quant.qtype, e.opset)
            kind, shape = _whole_bytes(quant), e.graph.shape(tensor)
            e.quantized[tensor] = name
            if held.bits < 8:
                e.quantized[tensor] = e.w.add("Cast", [name], f"{name}.cast", to=element_type(held))
            return kind, shape
        origin = e.graph.tensor(tensor).origin
        perm = origin.perm if origin else tuple(range(len(e.graph.shape(tensor))))
        real = e.clipped(name, quant, quant.scalar, quant.qtype.qmin, quant.qtype.qmax)
        if perm == _NHWC:
            e.finish(tensor, real, nchw=True, scale=quant.scalar)
        else:
            if perm != tuple(sorted(perm)):
                real = e.w.add("Transpose", [real], f"{name}.transposed", perm=perm)
            e.finish(tensor, real, scale=quant.scalar)
        held_shape = e.graph.shape(tensor)
        return int(TensorProto.FLOAT), tuple(held_shape[i] for i in np.argsort(perm))

    def output(self, tensor: str) -> tuple[int, Shape]:
        """End with an output; its type and shape."""
        e, name = self._export, self.name(tensor)
        quant, shape = e.graph.quant(tensor), e.graph.shape(tensor)
        q = e.integer(tensor)
        if self._integers:
            kind = _whole_bytes(quant)
            e.w.add_named("Cast", [q], name, to=kind)
            return kind, shape
        origin = e.graph.tensor(tensor).origin
        perm = origin.perm if origin else tuple(range(len(shape)))
        back = tuple(int(p) for p in np.argsort(perm))
        scale = e.w.const(quant.scalar, f"{name}.scale")
        if back == tuple(sorted(back)):
            e.dequantize(q, tensor, scale, name)
        else:
            e.w.add_named("Transpose", [e.dequantize(q, tensor, scale)], name, perm=back)
        return int(TensorProto.FLOAT), tuple(shape[p] for p in back)


def _whole_bytes(quant: Quant) -> int:
    """The type of the C."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(quant.qtype.dtype)))


# -- layers ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Exporter:
    """Values that the model holds so far.

    Attributes:
        real: (tensor, NCHW?) -> float value, at the tensor's power of two.
        quantized: tensor -> its integers, in the order of the graph.
        integer_layers: layer -> why it takes int64 operators.
    """

    graph: Graph
    opset: int
    w: Writer = field(default_factory=Writer)
    real: dict[tuple[str, bool], str] = field(default_factory=dict[tuple[str, bool], str])
    quantized: dict[str, str] = field(default_factory=dict[str, str])
    integer_layers: dict[str, str] = field(default_factory=dict[str, str])

    def node(self, node: Node) -> None:
        """Add one layer."""
        layer = _LAYERS.get(node.op)
        if layer is None:
            raise QccError(f"layer {short(node.name)!r}: operator {node.op} has no form in QDQ")
        layer(self, node)

    # -- values --

    def scale(self, tensor: str) -> float:
        """The power of two that the tensor's integers stand for in the model."""
        exponent = round(math.log2(self.graph.quant(tensor).scalar))
        return math.ldexp(1.0, min(max(exponent, -_LIMIT), _LIMIT))

    def quantize(self, value: str, tensor: str, scale: str) -> str:
        """QuantizeLinear to the format of *tensor*."""
        kind = element_type(storage(self.graph.quant(tensor).qtype, self.opset))
        inputs = [value, scale, *self._zero_point(tensor)]
        return self.w.add("QuantizeLinear", inputs, f"{tensor}.q", output_dtype=kind)

    def dequantize(self, q: str, tensor: str, scale: str, output: str | None = None) -> str:
        """DequantizeLinear from the format of *tensor*, as *output* if that is given."""
        name = output or self.w.name(f"{tensor}.real")
        inputs = [q, scale, *self._zero_point(tensor)]
        return self.w.add_named("DequantizeLinear", inputs, name)

    def _zero_point(self, tensor: str) -> tuple[str, ...]:
        """Left out where it is 0: the type is an attribute.

        Where it is given, onnxruntime 1.32 makes int8 uint8 when it optimizes, and fails half-way.
        """
        quant = self.graph.quant(tensor)
        if not quant.zero_point:
            return ()
        held = storage(quant.qtype, self.opset)
        return (self.w.integers(np.array(quant.zero_point), held, f"{tensor}.zero_point"),)

    def value(self, tensor: str, nchw: bool = False) -> str:
        """The float value of a tensor, dequantized or transposed where it is not there yet."""
        if (tensor, nchw) in self.real:
            return self.real[tensor, nchw]
        if (tensor, not nchw) in self.real:
            other = self.real[tensor, not nchw]
            made = self.w.add(
                "Transpose", [other], f"{tensor}.{'nchw' if nchw else 'nhwc'}",
                perm=_NCHW if nchw else _NHWC,
            )  # fmt: skip
            self.real[tensor, nchw] = made
            return made
        t = self.graph.tensor(tensor)
        if t.data is not None:
            assert t.quant is not None
            data = (t.data - t.quant.zero_point) * self.scale(tensor)
            if nchw:
                data = data.transpose(_NCHW)
            self.real[tensor, nchw] = self.w.const(data, tensor)
            return self.real[tensor, nchw]
        scale = self.w.const(self.scale(tensor), f"{tensor}.scale")
        self.real[tensor, False] = self.dequantize(self.quantized[tensor], tensor, scale)
        return self.value(tensor, nchw)

    def is_nchw(self, tensors: Sequence[str]) -> bool:
        """Whether all of *tensors* are there in NCHW, or are constants, and one is not NHWC."""
        known = [t for t in tensors if not self.graph.is_constant(t)]
        images = all(len(self.graph.shape(t)) == 4 for t in tensors)
        return images and bool(known) and all((t, True) in self.real for t in known)

    def integer(self, tensor: str) -> str:
        """The integers of a tensor, in the order of the graph."""
        if tensor not in self.quantized:
            t = self.graph.tensor(tensor)
            quant = self.graph.quant(tensor)
            held = storage(quant.qtype, self.opset)
            if t.data is not None:
                self.quantized[tensor] = self.w.integers(t.data, held, tensor)
            else:
                scale = self.w.const(self.scale(tensor), f"{tensor}.scale")
                self.quantized[tensor] = self.quantize(self.value(tensor), tensor, scale)
        return self.quantized[tensor]

    def wide(self, tensor: str) -> str:
        """The integers of a tensor as int64."""
        t = self.graph.tensor(tensor)
        if t.data is not None:
            return self.w.const(t.data, tensor, np.int64)
        name = self.integer(tensor)
        if storage(self.graph.quant(tensor).qtype, self.opset).bits < 8:
            # Few operators, and no cast to int64, take the packed types.
            signed = self.graph.quant(tensor).qtype.signed
            kind = TensorProto.INT8 if signed else TensorProto.UINT8
            name = self.w.add("Cast", [name], f"{tensor}.byte", to=int(kind))
        return self.w.add("Cast", [name], f"{tensor}.wide", to=int(TensorProto.INT64))

    # -- ends of layers --

    def clipped(self, value: str, quant: Quant, scale: float, lo: int, hi: int) -> str:
        """*value* within the integers *lo* to *hi*, where its type holds more than these."""
        held = storage(quant.qtype, self.opset)
        if (lo, hi) == (held.qmin, held.qmax):
            return value
        bounds = [(v - quant.zero_point) * scale for v in (lo, hi)]
        limits = [self.w.const(b, f"{value}.limit") for b in bounds]
        return self.w.add("Clip", [value, *limits], f"{value}.clipped")

    def finish(
        self, tensor: str, value: str, nchw: bool = False, scale: float | None = None
    ) -> None:
        """Quantize and dequantize the result of a layer: *value*, at *scale* if given."""
        step = self.w.const(self.scale(tensor) if scale is None else scale, f"{tensor}.scale")
        q = self.quantize(value, tensor, step)
        back = self.w.const(self.scale(tensor), f"{tensor}.scale") if scale else step
        self.real[tensor, nchw] = self.dequantize(q, tensor, back)
        if not nchw:
            self.quantized[tensor] = q

    def moved(self, tensor: str, value: str, nchw: bool = False) -> None:
        """The result of an operator that only moves values: they are on the grid already."""
        self.real[tensor, nchw] = value

    def rounded(self, node: Node, acc: str, unit: float, nchw: bool = False) -> None:
        """End a layer whose sum is *acc*, at *unit* per step of the integer accumulator.

        The rescale is a right shift or none; half a step of the accumulator lifts ties.
        """
        y, at = self.graph.quant(node.output), node.attrs
        if at.rescale.shift[0] > 0:
            half = self.w.const(unit / 2, f"{node.output}.half")
            acc = self.w.add("Add", [acc, half], f"{node.output}.lifted")
        self.finish(
            node.output,
            self.clipped(acc, y, self.scale(node.output), *at.clip),
            nchw,
        )

    def divided(self, node: Node, acc: str, mult: Int, shift: Int) -> None:
        """End a layer whose int64 accumulator is *acc*, in the order of the graph.

        floor((acc * mult + half) / 2**shift), clipped; *mult* and *shift* broadcast against acc.
        Div rounds towards zero, so what Mod leaves, of the divisor's sign, goes first.
        """
        w, (lo, hi), out = self.w, node.attrs.clip, node.output
        factor = mult * np.left_shift(np.int64(1), np.maximum(-shift, 0))
        divisor = np.left_shift(np.int64(1), np.maximum(shift, 0))
        if (factor != 1).any():
            acc = w.add("Mul", [acc, w.const(factor, f"{out}.mult", np.int64)], f"{out}.product")
        if (divisor != 1).any():
            by = w.const(divisor, f"{out}.divisor", np.int64)
            half = w.const(divisor // 2, f"{out}.half", np.int64)
            acc = w.add("Add", [acc, half], f"{out}.lifted")
            rest = w.add("Mod", [acc, by], f"{out}.rest")
            whole = w.add("Sub", [acc, rest], f"{out}.whole")
            acc = w.add("Div", [whole, by], f"{out}.quotient")
        bounds = [w.const(v, f"{out}.bound", np.int64) for v in (lo, hi)]
        self.integers_done(node, w.add("Clip", [acc, *bounds], f"{out}.clipped"))

    def integers_done(self, node: Node, wide: str) -> None:
        """The result of a layer as int64, within its format."""
        held = storage(self.graph.quant(node.output).qtype, self.opset)
        kind = int(helper.np_dtype_to_tensor_dtype(np.dtype(held.dtype)))
        q = self.w.add("Cast", [wide], f"{node.output}.q8", to=kind)
        if held.bits < 8:
            q = self.w.add("Cast", [q], f"{node.output}.q", to=element_type(held))
        self.quantized[node.output] = q

    def by_integers(self, node: Node, why: str) -> None:
        """Note that a layer is no QDQ pattern."""
        self.integer_layers[node.name.rsplit(":", 1)[0]] = why


# -- layers with weights --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Linear:
    """A layer with weights: how ONNX spells it.

    Attributes:
        op: the ONNX operator.
        attrs: its attributes.
        arrange: integer weights (out, ...) -> ONNX's order.
        axis: that of the output channels there.
        nchw: it works on images.
    """

    op: str
    attrs: dict[str, object]
    arrange: Callable[[Int], Int]
    axis: int
    nchw: bool


def _spelled(graph: Graph, node: Node) -> _Linear:
    a = node.attrs
    if node.op == "dense":
        return _Linear("Gemm", {"transB": 1}, lambda w: w, 0, False)
    window = {
        "strides": list(a.strides), "dilations": list(a.dilations), "group": a.group,
        "kernel_shape": list(graph.shape(node.inputs[1])[1:3]),
    }  # fmt: skip
    if node.op == "conv2d":
        window["pads"] = list(a.pads)
        return _Linear("Conv", window, lambda w: w.transpose(_NCHW), 0, True)
    more = [max(0, -p) for p in a.pads[2:]]
    window["pads"] = [max(0, p) for p in a.pads]
    window["output_padding"] = more
    return _Linear("ConvTranspose", window, lambda w: _input_first(w, a.group), 1, True)


def _input_first(w: Int, group: int) -> Int:
    """(O, KH, KW, I / g) -> ConvTranspose's (I, O / g, KH, KW)."""
    o, kh, kw, per_group = w.shape
    split = w.reshape(group, o // group, kh, kw, per_group).transpose(0, 4, 1, 2, 3)
    return split.reshape(group * per_group, o // group, kh, kw)


def _linear(e: _Exporter, node: Node) -> None:
    graph, at = e.graph, node.attrs
    w, bias = (graph.constant(t).astype(np.int64) for t in node.inputs[1:])
    x = graph.quant(node.inputs[0])
    rows = w.reshape(len(w), -1)
    bias = bias + x.zero_point * rows.sum(axis=1)
    peak = max(x.qtype.qmax - x.zero_point, x.zero_point - x.qtype.qmin)
    reach = np.abs(rows).sum(axis=1) * peak
    bound = int((reach + np.abs(bias)).max(initial=0)) + 1
    mult, shift = (np.array(v, np.int64) for v in (at.rescale.mult, at.rescale.shift))
    grouped = node.op == "conv_transpose2d" and at.group > 1
    per_channel = len(shift) > 1
    if (mult != 1).any():
        why = "multipliers"
    elif bound >= _EXACT:
        why = f"sums up to {bound:,}"
    elif grouped and per_channel:
        why = "scales per channel of a grouped transposed convolution"
    else:
        _linear_qdq(e, node, w, bias, shift)
        return
    e.by_integers(node, why)
    acc = _linear_sums(e, node, w, int(reach.max(initial=0)), peak)
    wide = e.w.const(bias, f"{node.output}.bias", np.int64)
    e.divided(node, e.w.add("Add", [acc, wide], f"{node.output}.acc"), mult, shift)


def _linear_qdq(e: _Exporter, node: Node, w: Int, bias: Int, shift: Int) -> None:
    """DequantizeLinear of everything, the layer, QuantizeLinear."""
    how, out = _spelled(e.graph, node), node.output
    y = e.graph.quant(out)
    step = np.ldexp(e.scale(out), -shift.astype(np.int32))  # of an accumulator, per channel
    held = storage(e.graph.quant(node.inputs[1]).qtype, e.opset)
    scales = (step / e.scale(node.inputs[0])).astype(np.float32)
    wi = e.w.integers(np.ascontiguousarray(how.arrange(w)), held, f"{out}.weights")
    along = {"axis": how.axis} if len(shift) > 1 else {}
    scale = e.w.const(scales if along else scales[0], f"{out}.weight_scale")
    weights = e.w.add("DequantizeLinear", [wi, scale], f"{out}.weights.real", **along)
    ties = np.broadcast_to((shift > 0).astype(np.int64), bias.shape)
    doubled = e.w.const(2 * bias + ties, f"{out}.bias", np.int32)
    halves = e.w.const(step / 2 if along else step[0] / 2, f"{out}.bias_scale")
    by = {"axis": 0} if along else {}
    real_bias = e.w.add("DequantizeLinear", [doubled, halves], f"{out}.bias.real", **by)
    x = _flat(e, node, e.value(node.inputs[0], how.nchw))
    acc = e.w.add(how.op, [x, weights, real_bias], f"{out}.acc", **how.attrs)
    acc = _unflat(e, node, acc)
    e.finish(out, e.clipped(acc, y, e.scale(out), *node.attrs.clip), how.nchw)


def _flat(e: _Exporter, node: Node, x: str) -> str:
    """The input of a dense layer as rows: what Gemm takes.

    MatMul would take it as it is, but onnxruntime makes of that a product with 8-bit activations.
    """
    shape = e.graph.shape(node.inputs[0])
    if node.op != "dense" or len(shape) == 2:
        return x
    rows = e.w.const([math.prod(shape[:-1]), shape[-1]], f"{node.output}.rows", np.int64)
    return e.w.add("Reshape", [x, rows], f"{node.output}.x")


def _unflat(e: _Exporter, node: Node, y: str) -> str:
    """And its output in its shape."""
    shape = e.graph.shape(node.output)
    if node.op != "dense" or len(shape) == 2:
        return y
    whole = e.w.const(shape, f"{node.output}.shape", np.int64)
    return e.w.add("Reshape", [y, whole], f"{node.output}.shaped")


def _linear_sums(e: _Exporter, node: Node, w: Int, reach: int, peak: int) -> str:
    """The sums of products as int64, in the order of the graph, in parts that float32 holds."""
    how, out, x = _spelled(e.graph, node), node.output, node.inputs[0]
    unit = e.w.const(1.0 / e.scale(x), f"{out}.unit")
    given = _flat(e, node, e.value(x, how.nchw))
    whole = e.w.add("Mul", [given, unit], f"{out}.x")
    xs, ws = [(whole, 1)], [(w, 1)]
    taps = max(1, w[0].size)
    top = max(1, int(np.abs(w).max(initial=0)))
    if taps * top * peak >= _PART and reach >= _PART:
        if peak > 256:
            xs = _halves(e, whole, out)
            peak = 256
        if taps * top * peak >= _PART:
            high = (w + 8) >> 4
            ws = [(high, 16), (w - 16 * high, 1)]
            top = max(8, top // 16 + 1)
    if reach >= _PART and taps * top * peak >= _PART:
        raise QccError(
            f"layer {short(node.name)!r}: {taps} taps sum up to more than float32 can hold exactly"
        )
    total: str | None = None
    for values, scale_x in xs:
        for weights, scale_w in ws:
            data = e.w.const(np.ascontiguousarray(how.arrange(weights)), f"{out}.part")
            acc = _unflat(e, node, e.w.add(how.op, [values, data], f"{out}.sums", **how.attrs))
            if how.nchw:
                acc = e.w.add("Transpose", [acc], f"{out}.nhwc", perm=_NHWC)
            acc = e.w.add("Cast", [acc], f"{out}.wide", to=int(TensorProto.INT64))
            if scale_x * scale_w != 1:
                factor = e.w.const(scale_x * scale_w, f"{out}.place", np.int64)
                acc = e.w.add("Mul", [acc, factor], f"{out}.placed")
            total = acc if total is None else e.w.add("Add", [total, acc], f"{out}.total")
    assert total is not None
    return total


def _halves(e: _Exporter, x: str, out: str) -> list[tuple[str, int]]:
    """Integers of 16 bits, as floats, in two parts: x = 256 * high + low, both at most 256."""
    small = e.w.const(1 / 256, f"{out}.small")
    large = e.w.const(256.0, f"{out}.large")
    high = e.w.add("Floor", [e.w.add("Mul", [x, small], f"{out}.scaled")], f"{out}.high")
    low = e.w.add("Sub", [x, e.w.add("Mul", [high, large], f"{out}.base")], f"{out}.low")
    return [(high, 256), (low, 1)]


# -- elementwise ----------------------------------------------------------------------------------


def _single(r: Rescale) -> tuple[int, int]:
    (mult,), (shift,) = r.mult, r.shift
    return mult, shift


def _scaled(e: _Exporter, value: str, factor: float, out: str) -> str:
    """*value* times a number, which float32 holds exactly."""
    if factor == 1.0:
        return value
    return e.w.add("Mul", [value, e.w.const(factor, f"{out}.factor")], f"{out}.scaled")


def _add(e: _Exporter, node: Node) -> None:
    at, out = node.attrs, node.output
    _, shift = _single(at.rescale)
    unit = math.ldexp(e.scale(out), -shift)
    if at.acc_bound < _EXACT and shift >= 0 and all(abs(m) < _PART for m in at.mult):
        nchw = e.is_nchw(node.inputs)
        parts = [
            _scaled(e, e.value(t, nchw), m * unit / e.scale(t), out)
            for t, m in zip(node.inputs, at.mult, strict=True)
        ]
        e.rounded(node, e.w.add("Add", parts, f"{out}.sum"), unit, nchw)
        return
    e.by_integers(node, "multipliers")
    terms = [
        e.w.add("Mul", [e.wide(t), e.w.const(m, f"{out}.mult", np.int64)], f"{out}.term")
        for t, m in zip(node.inputs, at.mult, strict=True)
    ]
    acc = e.w.add("Add", terms, f"{out}.acc")
    e.divided(node, acc, np.array(1), np.array(shift))


def _mul(e: _Exporter, node: Node) -> None:
    at, out = node.attrs, node.output
    mult, shift = _single(at.rescale)
    a, b = node.inputs
    unit = math.ldexp(e.scale(out), -shift)
    if at.acc_bound * mult < _EXACT:
        nchw = e.is_nchw(node.inputs)
        product = e.w.add("Mul", [e.value(a, nchw), e.value(b, nchw)], f"{out}.product")
        factor = mult * unit / (e.scale(a) * e.scale(b))
        e.rounded(node, _scaled(e, product, factor, out), unit, nchw)
        return
    e.by_integers(node, "multipliers")
    acc = e.w.add("Mul", [e.wide(a), e.wide(b)], f"{out}.acc")
    e.divided(node, acc, np.array(mult), np.array(shift))


def _prelu(e: _Exporter, node: Node) -> None:
    at, out, (x, slope) = node.attrs, node.output, node.inputs
    wide = e.wide(x)
    below = e.w.add("Less", [wide, e.w.const(0, f"{out}.zero", np.int64)], f"{out}.below")
    positive = e.w.const(at.positive, f"{out}.positive", np.int64)
    factor = e.w.add("Where", [below, e.wide(slope), positive], f"{out}.factor")
    acc = e.w.add("Mul", [wide, factor], f"{out}.acc")
    e.by_integers(node, "a slope per channel")
    e.divided(node, acc, *(np.array(v) for v in _single(at.rescale)))


def _unary(e: _Exporter, node: Node) -> None:
    """A table of all values; a negative index counts from its end, as two's complement does."""
    (x,), out = node.inputs, node.output
    xq, held = e.graph.quant(x), storage(e.graph.quant(out).qtype, 21)
    bits = storage(xq.qtype, e.opset).bits
    first = -(1 << (bits - 1)) if xq.qtype.signed else 0
    raw = np.arange(first, first + (1 << bits))
    within = np.clip(raw, xq.qtype.qmin, xq.qtype.qmax)
    table = np.zeros(1 << bits, np.int64)
    table[raw] = OPS["unary"].run_int(e.graph, node, [within])
    entries = e.w.const(table, f"{out}.table", held.dtype)
    e.by_integers(node, "a table")
    q = e.w.add("Gather", [entries, e.wide(x)], f"{out}.q8")
    held = storage(e.graph.quant(out).qtype, e.opset)
    if held.bits < 8:
        q = e.w.add("Cast", [q], f"{out}.q", to=element_type(held))
    e.quantized[out] = q


def _softmax(e: _Exporter, node: Node) -> None:
    (x,), out, w = node.inputs, node.output, e.w
    axis = node.attrs.axis
    xq, y = e.graph.quant(x), e.graph.quant(out).qtype
    axes = w.const([axis], f"{out}.axes", np.int64)
    wide = e.wide(x)
    top = w.add("ReduceMax", [wide, axes], f"{out}.max", keepdims=1)
    d = w.add("Sub", [top, wide], f"{out}.distance")
    if xq.qtype.bits <= 8:
        table = exp_table(xq, is_narrow(xq.qtype, y, e.graph.shape(out)[axis]))
        exps = w.add("Gather", [w.const(table, f"{out}.exp", np.int64), d], f"{out}.e")
    else:
        exps = _wide_exponentials(e, xq, d, out)
    total = w.add("ReduceSum", [exps, axes], f"{out}.total", keepdims=1)
    # (2 * top * e + total) // (2 * total), all of it positive
    scaled = w.add("Mul", [exps, w.const(2 * y.qmax, f"{out}.steps", np.int64)], f"{out}.scaled")
    above = w.add("Add", [scaled, total], f"{out}.numerator")
    twice = w.add("Mul", [total, w.const(2, f"{out}.two", np.int64)], f"{out}.denominator")
    e.by_integers(node, "an exact quotient")
    e.integers_done(node, w.add("Div", [above, twice], f"{out}.quotient"))


def _wide_exponentials(e: _Exporter, x: Quant, d: str, out: str) -> str:
    w, (high, low) = e.w, exp_tables(x)
    byte = w.const(256, f"{out}.byte", np.int64)
    top = w.add("Div", [d, byte], f"{out}.top")
    rest = w.add("Sub", [d, w.add("Mul", [top, byte], f"{out}.base")], f"{out}.rest")
    parts = [
        w.add("Gather", [w.const(table, f"{out}.exp", np.int64), index], f"{out}.e")
        for table, index in ((high, top), (low, rest))
    ]
    product = w.add("Mul", parts, f"{out}.exps")
    return w.add("Div", [product, w.const(1 << 30, f"{out}.one", np.int64)], f"{out}.exp")


# -- averages -------------------------------------------------------------------------------------


def _reduce_mean(e: _Exporter, node: Node) -> None:
    (x,), at, out = node.inputs, node.attrs, node.output
    mult, shift = _single(at.rescale)
    axes = [int(a) for a in at.axes]
    if at.acc_bound * mult < _EXACT:
        nchw = e.is_nchw([x])
        kept = [_NCHW.index(a) for a in axes] if nchw else axes
        inputs = [e.value(x, nchw), e.w.const(kept, f"{out}.axes", np.int64)]
        total = e.w.add("ReduceSum", inputs, f"{out}.total", keepdims=1)
        unit = math.ldexp(e.scale(out), -shift)
        e.rounded(node, _scaled(e, total, mult * unit / e.scale(x), out), unit, nchw)
        return
    e.by_integers(node, "multipliers")
    inputs = [e.wide(x), e.w.const(axes, f"{out}.axes", np.int64)]
    acc = e.w.add("ReduceSum", inputs, f"{out}.acc", keepdims=1)
    e.divided(node, acc, np.array(mult), np.array(shift))


def _avg_pool2d(e: _Exporter, node: Node) -> None:
    """Sums by a depthwise convolution of ones: AveragePool divides before anything can be exact."""
    (x,), at, out = node.inputs, node.attrs, node.output
    channels = e.graph.shape(x)[3]
    if at.acc_bound >= _PART:
        raise QccError(f"layer {short(node.name)!r}: its sums exceed what float32 holds exactly")
    ones = e.w.const(np.ones((channels, 1, *at.kernel)), f"{out}.ones")
    sums = e.w.add(
        "Conv", [e.value(x, True), ones], f"{out}.total", group=channels,
        kernel_shape=list(at.kernel), strides=list(at.strides), dilations=list(at.dilations),
        pads=list(at.pads),
    )  # fmt: skip
    mult, shift = window_rescales(at, e.graph.shape(x))
    if at.table is None and at.acc_bound * int(mult) < _EXACT:
        unit = math.ldexp(e.scale(out), -int(shift))
        factor = int(mult) * unit / e.scale(x)
        e.rounded(node, _scaled(e, sums, factor, out), unit, nchw=True)
        return
    e.by_integers(node, "multipliers")
    whole = _scaled(e, sums, 1 / e.scale(x), out)
    rows = e.w.add("Transpose", [whole], f"{out}.nhwc", perm=_NHWC)
    acc = e.w.add("Cast", [rows], f"{out}.acc", to=int(TensorProto.INT64))
    e.divided(node, acc, mult[..., None], shift[..., None])


# -- moving values --------------------------------------------------------------------------------


def _max_pool2d(e: _Exporter, node: Node) -> None:
    (x,), at, out = node.inputs, node.attrs, node.output
    y = e.w.add(
        "MaxPool", [e.value(x, True)], f"{out}.max", kernel_shape=list(at.kernel),
        strides=list(at.strides), dilations=list(at.dilations), pads=list(at.pads),
    )  # fmt: skip
    e.moved(out, y, nchw=True)


def _concat(e: _Exporter, node: Node) -> None:
    nchw = e.is_nchw(node.inputs)
    axis = _NCHW.index(node.attrs.axis) if nchw else node.attrs.axis
    parts = [e.value(t, nchw) for t in node.inputs]
    e.moved(node.output, e.w.add("Concat", parts, f"{node.output}.joined", axis=axis), nchw)


def _pad(e: _Exporter, node: Node) -> None:
    (x,), at, out = node.inputs, node.attrs, node.output
    nchw = e.is_nchw([x])
    pads = [at.pads[a] for a in _NCHW] if nchw else list(at.pads)
    quant = e.graph.quant(out)
    real = (integer_value(at, quant) - quant.zero_point) * e.scale(out)
    both = [side for i in range(2) for side in (p[i] for p in pads)]
    inputs = [e.value(x, nchw), e.w.const(both, f"{out}.pads", np.int64)]
    inputs.append(e.w.const(real, f"{out}.filling"))
    e.moved(out, e.w.add("Pad", inputs, f"{out}.padded", mode="constant"), nchw)


def _slice(e: _Exporter, node: Node) -> None:
    (x,), at, out = node.inputs, node.attrs, node.output
    starts, steps = np.array(at.starts), np.array(at.steps)
    ends = starts + steps * (np.array(at.sizes) - 1) + np.sign(steps)
    ends = np.where(ends < 0, -(1 << 31), ends)  # before the first: -1 would be the last
    axes = np.arange(len(at.starts))
    parts = [
        e.w.const(v, f"{out}.{what}", np.int64)
        for v, what in ((starts, "starts"), (ends, "ends"), (axes, "axes"), (steps, "steps"))
    ]
    e.moved(out, e.w.add("Slice", [e.value(x), *parts], f"{out}.part"))


def _resize(e: _Exporter, node: Node) -> None:
    (x,), at, out = node.inputs, node.attrs, node.output
    nchw = e.is_nchw([x])
    value = e.value(x, nchw)
    for axis, chosen in ((1, at.rows), (2, at.cols)):
        index = e.w.const(chosen, f"{out}.index", np.int64)
        where = _NCHW.index(axis) if nchw else axis
        value = e.w.add("Gather", [value, index], f"{out}.picked", axis=where)
    e.moved(out, value, nchw)


def _transpose(e: _Exporter, node: Node) -> None:
    y = e.w.add(
        "Transpose", [e.value(node.inputs[0])], f"{node.output}.moved", perm=node.attrs.perm
    )
    e.moved(node.output, y)


def _reshape(e: _Exporter, node: Node) -> None:
    shape = e.w.const(e.graph.shape(node.output), f"{node.output}.shape", np.int64)
    y = e.w.add("Reshape", [e.value(node.inputs[0]), shape], f"{node.output}.reshaped")
    e.moved(node.output, y)


_LAYERS: dict[str, Callable[[_Exporter, Node], None]] = {
    "add": _add,
    "avg_pool2d": _avg_pool2d,
    "concat": _concat,
    "conv2d": _linear,
    "conv_transpose2d": _linear,
    "dense": _linear,
    "max_pool2d": _max_pool2d,
    "mul": _mul,
    "pad": _pad,
    "prelu": _prelu,
    "reduce_mean": _reduce_mean,
    "reshape": _reshape,
    "resize_nearest": _resize,
    "slice": _slice,
    "softmax": _softmax,
    "transpose": _transpose,
    "unary": _unary,
}
"""By operator of the graph; scale_shift is gone before a graph is quantized."""
