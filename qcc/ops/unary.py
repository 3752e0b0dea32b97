"""unary: y = f(x), element by element; f is a tree of qcc/functions.py.

Integer, by the width of x:
- a clip (Relu, Relu6, Clip) or the identity whose scales differ by a power of two: shift and clamp;
- up to 8 bits: a table of every value, y = clamp(round(f(s_x * q) / s_y)): exact;
- 16 bits: a clip is a multiplication and a clamp; any other f a table of 513 entries, one every 128
  steps of x, with linear interpolation in integers.

The interpolation errs, before it is rounded to y, by at most h**2 / 8 * max|f''| / s_y + 1/64 steps
of y, h = 128 * s_x; at a kink that is no multiple of h, h / 4 times the change of slope instead.
A sigmoid over -8..8 is within one step of 16 bits in all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qcc import arith
from qcc.arith import Rescale
from qcc.builder import Builder
from qcc.functions import UNBOUNDED, Expr, Range, Var, X, apply, bounds, clip, clip_bounds, evaluate
from qcc.ir import Array, Graph, Int, Node, QType, Quant, Shape
from qcc.ops.base import INFINITY, Call, CArray, ChannelRole, In, Interval, Op, Out, QuantContext
from qcc.ops.examples import model
from qcc.ops.kernels import CRescale, instance
from qcc.ops.linear import integer_clip
from qcc.ops.ratio import peak, rescale

_SEGMENT_BITS = 7
_FRACTION_BITS = 5
"""Of the interpolation table's entries: 5 leave |y| up to 2**18, four times what a format holds."""


@dataclass(frozen=True, slots=True)
class Attrs:
    """fn: the function. With *rescale* the integer form is a clamp, otherwise a table."""

    fn: Expr
    rescale: Rescale | None = None
    clip: tuple[int, int] | None = None
    acc_bound: int = 0


class Unary(Op):
    name = "unary"
    onnx_types = (
        "Abs", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
        "HardSwish", "LeakyRelu", "Log", "Max", "Min", "Mish", "Neg", "Pow", "Reciprocal", "Relu",
        "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh",
        "ThresholdedRelu",
    )  # fmt: skip
    elementwise = True

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        x = node.input[0]
        if node.op_type in ("Max", "Min"):
            x, fn = _extremum(b, node)
        elif node.op_type == "Clip":
            fn = _clip(b, node)
        elif node.op_type == "Pow":
            fn = apply("pow", X, _scalar(b, node.input[1], "the exponent"))
        else:
            fn = _READERS[node.op_type](b.attributes(node))
        b.emit("unary", [b.tensor(x)], Attrs(fn), node.output[0])

    @staticmethod
    def infer(attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        return x

    @staticmethod
    def run_float(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        return evaluate(attrs.fn, inputs[0]).astype(np.float32)

    @staticmethod
    def range(attrs: Attrs, inputs: Sequence[Range]) -> Range:
        return bounds(attrs.fn, inputs[0])

    @staticmethod
    def permute(attrs: Attrs, perm: Sequence[int], rank: int) -> Attrs:
        return attrs

    @staticmethod
    def quantize(graph: Graph, node: Node, ctx: QuantContext) -> None:
        x, y = graph.quant(node.inputs[0]), graph.quant(node.output)
        limits = UNBOUNDED if isinstance(node.attrs.fn, Var) else clip_bounds(node.attrs.fn)
        if limits is None or x.zero_point or y.zero_point:
            return
        r = rescale(x.scalar / y.scalar, ctx.config.scale, peak(x.qtype))
        if x.qtype.bits <= 8 and r.mult != (1,):
            return  # the table is exact, a multiplier costs more than a load
        node.update(rescale=r, clip=integer_clip(limits, y), acc_bound=peak(x.qtype))

    @staticmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        return _values(graph, node, inputs[0])

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        """The extremes of the values that each channel can meet; exact."""
        lo, hi = inputs[0].hull()
        reach = _values(graph, node, np.arange(lo, hi + 1))
        spans = [
            reach[a - lo : b - lo + 1] for a, b in zip(inputs[0].lo, inputs[0].hi, strict=True)
        ]
        return Interval(np.array([s.min() for s in spans]), np.array([s.max() for s in spans]))

    @staticmethod
    def channel_role(graph: Graph, node: Node) -> ChannelRole:
        return "pass"

    @staticmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        x, y = graph.quant(node.inputs[0]), graph.quant(node.output)
        n = graph.tensor(node.output).size
        types = {"x": x.qtype.ctype, "y": y.qtype.ctype}
        at = node.attrs
        if at.rescale is not None:
            r = CRescale(at.rescale, at.acc_bound)
            clamp = instance("qcc_clamp.h", rescale=r.form, **types, acc=r.acc)
            return (Call(clamp, (In(0), Out(), n, int(r.half[0]), *r.scalars, *at.clip)),)
        if x.qtype.bits <= 8:
            table = lookup_table(at.fn, x, y)
            entries = CArray("table", y.qtype.ctype, table, f"y = {at.fn}")
            args = (In(0), entries, Out(), n, len(table) - 1)
            return (Call(instance("qcc_lut.h", **types), args),)
        entries = CArray("table", "int32_t", interpolation_table(at.fn, x, y), f"y = {at.fn}")
        shift = _SEGMENT_BITS + _FRACTION_BITS
        limits = (y.qtype.qmin, y.qtype.qmax)
        args16 = (In(0), entries, Out(), n, _offset(x.qtype), shift, *limits)
        return (Call(instance("qcc_lut16.h", **types), args16),)

    @staticmethod
    def examples() -> Iterator[onnx.ModelProto]:
        groups: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
            "clips": (("Relu", {}), ("HardSigmoid", {"alpha": 0.3}), ("HardSwish", {})),
            "smooth": (("Sigmoid", {}), ("Tanh", {}), ("Softplus", {}), ("Erf", {})),
            "linear_units": (
                ("LeakyRelu", {"alpha": 0.2}), ("Elu", {}), ("Selu", {}),
                ("Celu", {"alpha": 2.0}), ("ThresholdedRelu", {"alpha": 0.5}),
            ),
            "others": (("Abs", {}), ("Neg", {}), ("Exp", {}), ("Softsign", {}), ("Sin", {})),
        }  # fmt: skip
        for name, ops in groups.items():
            nodes = [
                helper.make_node(op, ["x"], [f"y{i}"], **attrs) for i, (op, attrs) in enumerate(ops)
            ]
            yield model(f"unary_{name}", nodes, {"x": (1, 3, 5, 7)}, [n.output[0] for n in nodes])
        positive = [
            helper.make_node("Sigmoid", ["x"], ["p"]),
            *(
                helper.make_node(op, ["p"], [f"y{i}"])
                for i, op in enumerate(("Log", "Sqrt", "Reciprocal"))
            ),
        ]
        yield model("unary_positive", positive, {"x": (2, 9)}, ["y0", "y1", "y2"])
        relu6 = helper.make_node("Clip", ["x", "lo", "hi"], ["y"])
        limits = {"lo": np.array(0, np.float32), "hi": np.array(6, np.float32)}
        yield model("unary_relu6", [relu6], {"x": (1, 4, 5)}, ["y"], limits)
        gelu = helper.make_node("Gelu", ["x"], ["y"], approximate="tanh")
        yield model("unary_gelu", [gelu], {"x": (1, 33)}, ["y"], opset=20)


# -- reading --------------------------------------------------------------------------------------


def _relu(a: dict[str, Any]) -> Expr:
    return clip(X, 0.0, INFINITY)


def _leaky_relu(a: dict[str, Any]) -> Expr:
    alpha = a.get("alpha", 0.01)
    return apply("leaky_relu", X, alpha) if alpha else _relu(a)


def _gelu(a: dict[str, Any]) -> Expr:
    return apply("gelu_tanh" if a.get("approximate", "none") == "tanh" else "gelu", X)


def _swish(a: dict[str, Any]) -> Expr:
    return apply("mul", X, apply("sigmoid", apply("mul", X, a.get("alpha", 1.0))))


def _plain(fn: str, **defaults: float) -> Callable[[dict[str, Any]], Expr]:
    """A reader for the function *fn* of x and the attributes *defaults*, in this order."""

    def read(a: dict[str, Any]) -> Expr:
        return apply(fn, X, *(float(a.get(key, value)) for key, value in defaults.items()))

    return read


_READERS: dict[str, Callable[[dict[str, Any]], Expr]] = {
    "Abs": _plain("abs"),
    "Ceil": _plain("ceil"),
    "Celu": _plain("celu", alpha=1.0),
    "Cos": _plain("cos"),
    "Elu": _plain("elu", alpha=1.0),
    "Erf": _plain("erf"),
    "Exp": _plain("exp"),
    "Floor": _plain("floor"),
    "Gelu": _gelu,
    "HardSigmoid": _plain("hard_sigmoid", alpha=0.2, beta=0.5),
    "HardSwish": _plain("hard_swish"),
    "LeakyRelu": _leaky_relu,
    "Log": _plain("log"),
    "Mish": _plain("mish"),
    "Neg": _plain("neg"),
    "Reciprocal": _plain("reciprocal"),
    "Relu": _relu,
    "Round": _plain("round"),
    "Selu": _plain("selu", alpha=1.6732632423543772, gamma=1.0507009873554805),
    "Sigmoid": _plain("sigmoid"),
    "Sign": _plain("sign"),
    "Sin": _plain("sin"),
    "Softplus": _plain("softplus"),
    "Softsign": _plain("softsign"),
    "Sqrt": _plain("sqrt"),
    "Swish": _swish,
    "Tanh": _plain("tanh"),
    "ThresholdedRelu": _plain("thresholded_relu", alpha=1.0),
}

_FLOAT_MAX = float(np.finfo(np.float32).max)


def _limit(value: float) -> float:
    """The largest float32 stands for no limit: it is what Clip had as a default before opset 11."""
    return math.copysign(INFINITY, value) if abs(value) >= _FLOAT_MAX else value


def _clip(b: Builder, node: onnx.NodeProto) -> Expr:
    a = b.attributes(node)
    limits = [a.get("min", -INFINITY), a.get("max", INFINITY)]
    for i, what in enumerate(("the minimum", "the maximum")):
        if (name := b.optional(node, i + 1)) is not None:
            limits[i] = _scalar(b, name, what)
    return clip(X, *map(_limit, limits))


def _extremum(b: Builder, node: onnx.NodeProto) -> tuple[str, Expr]:
    """Max or Min of one activation and numbers: a clip."""
    activations = [n for n in node.input if b.constant(n) is None]
    values = [v for n in node.input if (v := b.constant(n)) is not None]
    whole = activations and b.shape(activations[0]) == b.shape(node.output[0])
    if len(activations) != 1 or any(v.size != 1 for v in values) or not whole:
        b.unsupported("more than one tensor; one activation against scalar constants is supported")
    numbers = [float(v.reshape(-1)[0]) for v in values]
    if node.op_type == "Max":
        return activations[0], clip(X, max(numbers, default=-INFINITY), INFINITY)
    return activations[0], clip(X, -INFINITY, min(numbers, default=INFINITY))


def _scalar(b: Builder, name: str, what: str) -> float:
    value = b.needs_constant(name, what)
    if value.size != 1:
        b.unsupported(f"{what} has {value.size} elements; one is supported")
    return float(value.reshape(-1)[0])


# -- integer --------------------------------------------------------------------------------------


def _values(graph: Graph, node: Node, x: Int) -> Int:
    """The integer function on raw values *x*."""
    at, xq, yq = node.attrs, graph.quant(node.inputs[0]), graph.quant(node.output)
    if at.rescale is not None:
        return arith.saturate(at.rescale.apply(x), *at.clip)
    if xq.qtype.bits <= 8:
        table = lookup_table(at.fn, xq, yq)
        return np.asarray(table[x & (len(table) - 1)])
    t = interpolation_table(at.fn, xq, yq)
    v = x + _offset(xq.qtype)
    k, r = v >> _SEGMENT_BITS, v & ((1 << _SEGMENT_BITS) - 1)
    mean = (t[k] << _SEGMENT_BITS) + (t[k + 1] - t[k]) * r
    y = arith.shift_round(mean, _SEGMENT_BITS + _FRACTION_BITS)
    return arith.saturate(y, yq.qtype.qmin, yq.qtype.qmax)


def _steps(fn: Expr, real: Array, y: Quant) -> Array:
    """f at ascending *real* in steps of y, zero point included; limited to +-2**40.

    Where f is no number, outside its domain, the value of the nearest argument inside counts.
    """
    v = evaluate(fn, real)
    inside = np.flatnonzero(~np.isnan(v))
    if not len(inside):
        return np.zeros_like(v)
    at = np.arange(len(v))
    after = inside[np.minimum(np.searchsorted(inside, at), len(inside) - 1)]
    before = inside[np.maximum(np.searchsorted(inside, at, "right") - 1, 0)]
    v = v[np.where(np.abs(at - before) <= np.abs(after - at), before, after)]
    return np.asarray(np.clip(v / y.scalar + y.zero_point, -(2.0**40), 2.0**40))


@functools.lru_cache(maxsize=256)
def lookup_table(fn: Expr, x: Quant, y: Quant) -> Int:
    """f for every pattern of the low bits of x: 2**n entries, exactly rounded and saturated.

    A pattern that is no value of x's format has the entry of the nearest one that is.
    """
    bits = 2 if x.qtype.bits == 1 and x.qtype.signed else x.qtype.bits
    first = -(1 << (bits - 1)) if x.qtype.signed else 0
    raw = np.arange(first, first + (1 << bits))
    q = np.clip(raw, x.qtype.qmin, x.qtype.qmax)
    steps = _steps(fn, (q - x.zero_point) * x.scalar, y)
    table = np.zeros(1 << bits, np.int64)
    table[raw & ((1 << bits) - 1)] = np.clip(arith.round_half_up(steps), y.qtype.qmin, y.qtype.qmax)
    table.flags.writeable = False  # shared by all callers
    return table


@functools.lru_cache(maxsize=64)
def interpolation_table(fn: Expr, x: Quant, y: Quant) -> Int:
    """f at every 128th value of 16-bit x, from the lowest, with 5 fractional bits; |t| <= 2**23."""
    size = (1 << (16 - _SEGMENT_BITS)) + 1
    q = (np.arange(size) << _SEGMENT_BITS) - _offset(x.qtype)
    steps = _steps(fn, (q - x.zero_point) * x.scalar, y) * (1 << _FRACTION_BITS)
    table = np.clip(arith.round_half_up(steps), -(1 << 23), 1 << 23)
    table.flags.writeable = False
    return table


def _offset(qtype: QType) -> int:
    return 1 << 15 if qtype.signed else 0
