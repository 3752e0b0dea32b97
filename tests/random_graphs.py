"""Small random ONNX models over all operators that qcc reads, one per seed.

A model grows node by node: an operator and a value are drawn, attributes and constants to fit them,
and ONNX's own shape inference decides whether the node stands. Odd sizes, wild weights, channels
that are constant, branches, dead ends and outputs that are read again are all likely. The same seed
gives the same model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from qcc.ir import Array, Shape

NEWEST_OPSET = 23
"""The newest that every onnxruntime qcc works with can run."""

MOST_ELEMENTS = 2000
"""Values above this size are not made: models stay small enough for one C compiler run each."""

_TRIES = 60

_ACTIVATIONS: dict[str, tuple[int, dict[str, float]]] = {
    "Relu": (7, {}),
    "LeakyRelu": (7, {"alpha": 0.2}),
    "Sigmoid": (7, {}),
    "Tanh": (7, {}),
    "HardSigmoid": (7, {"alpha": 0.3}),
    "HardSwish": (14, {}),
    "Elu": (7, {}),
    "Softplus": (7, {}),
    "Abs": (7, {}),
    "Neg": (7, {}),
    "Gelu": (20, {}),
    "Erf": (9, {}),
    "Selu": (7, {}),
    "Softsign": (7, {}),
}
"""Operator -> (first opset, attributes)."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the model, its shape static."""

    name: str
    shape: Shape


@dataclass(slots=True)
class _Growing:
    """A model under construction."""

    rng: np.random.Generator
    opset: int
    inputs: list[Value] = field(default_factory=list[Value])
    nodes: list[onnx.NodeProto] = field(default_factory=list[onnx.NodeProto])
    constants: dict[str, Array] = field(default_factory=dict[str, Array])
    values: list[Value] = field(default_factory=list[Value])
    wild: bool = False
    count: int = 0

    # -- choosing --

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def between(self, low: int, high: int) -> int:
        """low..high, both included."""
        return int(self.rng.integers(low, high + 1))

    def value(self) -> Value:
        """A recent value most of the time, so that graphs grow deep."""
        return self.values[-1] if self.chance(0.6) else self.pick(self.values)

    # -- making --

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def constant(self, data: Any, dtype: Any = np.float32) -> str:
        name = self.fresh("c")
        self.constants[name] = np.asarray(data, dtype)
        return name

    def node(
        self, op: str, inputs: Sequence[str], outputs: int = 1, **attrs: Any
    ) -> list[Value] | None:
        """Add a node; its outputs, or None where the operator does not work out."""
        names = [self.fresh("v") for _ in range(outputs)]
        node = helper.make_node(op, inputs, names, name=self.fresh(f"{op}_"), **attrs)
        shapes = self._shapes(node)
        if shapes is None:
            return None
        self.nodes.append(node)
        made = [Value(n, s) for n, s in zip(names, shapes, strict=True)]
        self.values.extend(made)
        return made

    def one(self, op: str, inputs: Sequence[str], **attrs: Any) -> Value | None:
        """The output of a node with one."""
        made = self.node(op, inputs, **attrs)
        return made[0] if made else None

    def _shapes(self, node: onnx.NodeProto) -> list[Shape] | None:
        known = {v.name: v.shape for v in (*self.inputs, *self.values)}
        ins = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, known[n])
            for n in dict.fromkeys(node.input)
            if n in known
        ]
        outs = [onnx.ValueInfoProto(name=n) for n in node.output]
        consts = [
            numpy_helper.from_array(self.constants[n], n)
            for n in dict.fromkeys(node.input)
            if n in self.constants
        ]
        graph = helper.make_graph([node], "one", ins, outs, consts)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        try:
            inferred = shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        except shape_inference.InferenceError:
            return None
        found = [o.type.tensor_type.shape.dim for o in inferred.graph.output]
        shapes = [tuple(int(d.dim_value) for d in dims) for dims in found]
        fit = all(s and min(s) > 0 and np.prod(s) <= MOST_ELEMENTS for s in shapes)
        return shapes if fit else None

    # -- constants of layers --

    def weights(self, shape: Shape, fan_in: int, out_axis: int = 0) -> str:
        """Normal weights; some of wild scale, some channels zero."""
        w = self.rng.normal(size=shape) / np.sqrt(max(1, fan_in))
        if self.chance(0.2):
            channels = [1] * len(shape)
            channels[out_axis] = shape[out_axis]
            w *= 10.0 ** self.rng.uniform(-3, 1, channels)
        if self.wild and self.chance(0.5):
            w *= self.pick([1e-6, 1e-3, 1e2, 1e4, 0.0])
        if self.chance(0.2):
            dead = self.rng.random(shape[out_axis]) < 0.4
            np.moveaxis(w, out_axis, 0)[dead] = 0
        if self.chance(0.1):
            w = np.abs(w)
        return self.constant(w)

    def bias(self, channels: int) -> str:
        """A small bias; some channels so negative that a Relu behind them is always 0."""
        b = self.rng.normal(size=channels) * self.pick([0.0, 0.1, 1.0])
        if self.chance(0.35):
            b[self.rng.random(channels) < 0.5] = self.pick([-50.0, -1000.0, 30.0])
        if self.wild and self.chance(0.3):
            b *= self.pick([1e-5, 1e3, 1e6])
        return self.constant(b)


def random_model(seed: int) -> onnx.ModelProto:
    """The model of *seed*: 2 to 12 nodes, static shapes, batch 1."""
    rng = np.random.default_rng(seed)
    opset = int(rng.integers(7, NEWEST_OPSET + 1)) if rng.random() < 0.7 else 13
    g = _Growing(rng, opset, wild=bool(rng.random() < 0.25))
    for i in range(g.pick([1, 1, 1, 2, 3])):
        g.inputs.append(Value(f"x{i}", _input_shape(g, i)))
    g.values.extend(g.inputs)
    target = g.between(2, 12)
    for _ in range(_TRIES):
        if len(g.nodes) >= target:
            break
        _grow(g)
    while not g.nodes:
        g.one("Relu", [g.value().name])
    return _model(g, f"random_{seed}")


def _input_shape(g: _Growing, index: int) -> Shape:
    """Later inputs often fit the first one, so that branches can meet."""
    if index and g.chance(0.6):
        return g.inputs[0].shape
    rank = g.pick([2, 3, 4, 4, 4, 4])
    return (1, *(g.between(1, 9) for _ in range(rank - 1)))


def _model(g: _Growing, name: str) -> onnx.ModelProto:
    """Outputs: what nothing reads, some of it left as a dead end, and some values in between."""
    made = [v for v in g.values if v not in g.inputs]
    read = {n for node in g.nodes for n in node.input}
    ends = [v for v in made if v.name not in read]
    outputs = [v for v in ends if v is ends[-1] or g.chance(0.6)]
    outputs += [v for v in made if v.name in read and g.chance(0.06)]
    ins = [helper.make_tensor_value_info(v.name, TensorProto.FLOAT, v.shape) for v in g.inputs]
    outs = [helper.make_tensor_value_info(v.name, TensorProto.FLOAT, v.shape) for v in outputs]
    used = {k: v for k, v in g.constants.items() if k in read}
    consts = [numpy_helper.from_array(v, k) for k, v in used.items()]
    graph = helper.make_graph(g.nodes, name, ins, outs, consts)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", g.opset)])
    proto.ir_version = 8
    onnx.checker.check_model(proto)
    return proto


def _grow(g: _Growing) -> None:
    """Add one drawn operator, or several that belong together, or nothing where none fits."""
    names = list(_MAKERS)
    weights = np.array([_MAKERS[n][1] for n in names], np.float64)
    name = names[int(g.rng.choice(len(names), p=weights / weights.sum()))]
    _MAKERS[name][0](g, g.value())


# -- layers with weights ---------------------------------------------------------------------------


def _sandwiched(g: _Growing, x: Value, make: Callable[[Value], Value | None]) -> None:
    """make(x), or, as tf2onnx writes it, between transposes from and to NHWC."""
    if len(x.shape) != 4 or not g.chance(0.25):
        make(x)
        return
    inside = g.one("Transpose", [x.name], perm=[0, 3, 1, 2])
    y = inside and make(inside)
    if y:
        g.one("Transpose", [y.name], perm=[0, 2, 3, 1])


def _conv(g: _Growing, x: Value) -> None:
    if len(x.shape) in (3, 4):
        _sandwiched(g, x, lambda v: _one_conv(g, v))


def _one_conv(g: _Growing, x: Value) -> Value | None:
    channels, spatial = x.shape[1], x.shape[2:]
    divisors = [d for d in range(1, channels + 1) if channels % d == 0]
    group = g.pick([1, 1, 1, channels, g.pick(divisors)])
    out = group * g.between(1, max(1, 8 // group))
    kernel = [g.between(1, min(4, n + 1)) for n in spatial]
    attrs = _window(g, kernel)
    if not _fits(x, attrs):
        return None
    shape = (out, channels // group, *kernel)
    inputs = [x.name, g.weights(shape, int(np.prod(shape[1:])))]
    if g.chance(0.7):
        inputs.append(g.bias(out))
    return _activated(g, g.one("Conv", inputs, group=group, **attrs))


def _conv_transpose(g: _Growing, x: Value) -> None:
    if len(x.shape) in (3, 4):
        _sandwiched(g, x, lambda v: _one_conv_transpose(g, v))


def _one_conv_transpose(g: _Growing, x: Value) -> Value | None:
    channels, spatial = x.shape[1], x.shape[2:]
    divisors = [d for d in range(1, channels + 1) if channels % d == 0]
    group = g.pick([1, 1, channels, g.pick(divisors)])
    per_group = g.between(1, 3)
    kernel = [g.between(1, 4) for _ in spatial]
    attrs = _window(g, kernel)
    attrs.pop("kernel_shape")
    strides = attrs.get("strides", [1] * len(kernel))
    if g.chance(0.3):
        attrs["output_padding"] = [g.between(0, s - 1) for s in strides]
    shape = (channels, per_group, *kernel)
    inputs = [x.name, g.weights(shape, channels // group * int(np.prod(kernel)), out_axis=1)]
    if g.chance(0.6):
        inputs.append(g.bias(per_group * group))
    return _activated(g, g.one("ConvTranspose", inputs, group=group, **attrs))


def _window(g: _Growing, kernel: Sequence[int], dilated: bool = True) -> dict[str, Any]:
    """Attributes of a sliding window."""
    attrs: dict[str, Any] = {"kernel_shape": list(kernel)}
    if g.chance(0.4):
        attrs["strides"] = [g.between(1, 3) for _ in kernel]
    how = g.pick(["none", "pads", "pads", "auto"])
    if how == "pads":
        attrs["pads"] = [g.between(0, min(2, k - 1)) for _ in range(2) for k in kernel]
    elif how == "auto":
        attrs["auto_pad"] = g.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
    if dilated and how != "auto" and g.chance(0.25):  # onnxruntime refuses both together
        attrs["dilations"] = [g.between(1, 2) for _ in kernel]
    return attrs


def _fits(x: Value, attrs: dict[str, Any]) -> bool:
    """Whether the window lies in the padded input: shape inference rounds an overhang away."""
    if attrs.get("auto_pad", "VALID") != "VALID":
        return True
    spatial = x.shape[2:]
    pads = attrs.get("pads", [0] * (2 * len(spatial)))
    dilations = attrs.get("dilations", [1] * len(spatial))
    return all(
        (k - 1) * d < n + pads[i] + pads[i + len(spatial)]
        for i, (n, k, d) in enumerate(zip(spatial, attrs["kernel_shape"], dilations, strict=True))
    )


def _skips(attrs: dict[str, Any]) -> bool:
    """Whether SAME padding would be negative, which onnxruntime refuses for pools."""
    if not attrs.get("auto_pad", "").startswith("SAME"):
        return False
    kernel = attrs["kernel_shape"]
    return any(s > k for s, k in zip(attrs.get("strides", kernel), kernel, strict=True))


def _activated(g: _Growing, x: Value | None) -> Value | None:
    """Often a batch normalization or a Relu follows at once."""
    if x and g.chance(0.25):
        x = _one_batchnorm(g, x) or x
    if x and g.chance(0.4):
        x = g.one("Relu", [x.name]) or x
    return x


def _gemm(g: _Growing, x: Value) -> None:
    if len(x.shape) != 2:
        x = g.one("Flatten", [x.name], axis=1) or x
    if len(x.shape) != 2:
        return
    n, out, flipped = x.shape[1], g.between(1, 9), g.chance(0.5)
    shape = (out, n) if flipped else (n, out)
    inputs = [x.name, g.weights(shape, n, out_axis=0 if flipped else 1)]
    if g.opset < 11 or g.chance(0.7):
        inputs.append(g.bias(out))
    attrs: dict[str, Any] = {"transB": int(flipped)}
    if g.chance(0.2):
        attrs |= {"alpha": float(g.rng.uniform(0.2, 2)), "beta": float(g.rng.uniform(0.2, 2))}
    _activated_rows(g, g.one("Gemm", inputs, **attrs))


def _matmul(g: _Growing, x: Value) -> None:
    out = g.between(1, 9)
    w = g.weights((x.shape[-1], out), x.shape[-1], out_axis=1)
    y = g.one("MatMul", [x.name, w])
    if y and g.chance(0.6):
        y = g.one("Add", g.pick([[y.name, b := g.bias(out)], [b, y.name]]))
    _activated_rows(g, y)


def _activated_rows(g: _Growing, x: Value | None) -> None:
    if x and g.chance(0.4):
        g.one("Relu", [x.name])


# -- elementwise -----------------------------------------------------------------------------------


def _batchnorm(g: _Growing, x: Value) -> None:
    if len(x.shape) >= 2:
        _sandwiched(g, x, lambda v: _one_batchnorm(g, v))


def _one_batchnorm(g: _Growing, x: Value) -> Value | None:
    c, rng = x.shape[1], g.rng
    scale = rng.normal(1, 0.5, c)
    if g.chance(0.2):
        scale[rng.random(c) < 0.4] = 0
    var = rng.uniform(0.1, 3, c)
    if g.chance(0.1):
        var[rng.random(c) < 0.3] = 1e-6
    parts = (scale, rng.normal(0, 0.7, c), rng.normal(0, 0.5, c), var)
    inputs = [x.name, *(g.constant(p) for p in parts)]
    return g.one("BatchNormalization", inputs, epsilon=g.pick([1e-5, 1e-3]))


def _activation(g: _Growing, x: Value) -> None:
    known = [op for op, (since, _) in _ACTIVATIONS.items() if since <= g.opset]
    op = "Relu" if g.chance(0.3) else g.pick(known)
    g.one(op, [x.name], **_ACTIVATIONS[op][1])


def _clip(g: _Growing, x: Value, low: float | None = None, high: float | None = None) -> None:
    if low is None and high is None:
        low, high = g.pick([(0.0, 6.0), (0.0, 1.0), (-1.0, 1.0), (None, 2.0), (-0.5, None)])
    _one_clip(g, x, low, high)


def _one_clip(g: _Growing, x: Value, low: float | None, high: float | None) -> Value | None:
    if g.opset < 11:
        bounds = {"min": low, "max": high}
        return g.one("Clip", [x.name], **{k: v for k, v in bounds.items() if v is not None})
    inputs = ["" if v is None else g.constant(v) for v in (low, high)]
    return g.one("Clip", [x.name, *(inputs if inputs[1] else inputs[:1])])


def _hard_swish(g: _Growing, x: Value) -> None:
    """x * clip(x + 3, 0, 6) / 6 in one of its spellings."""
    shifted = g.one("Add", [x.name, g.constant(3.0)])
    gate = shifted and _one_clip(g, shifted, 0.0, 6.0)
    if not gate:
        return
    if g.chance(0.5):
        y = g.one("Mul", [x.name, gate.name])
        if y and g.chance(0.5):
            g.one("Div", [y.name, g.constant(6.0)])
        elif y:
            g.one("Mul", [y.name, g.constant(1 / 6)])
        return
    gate = g.one("Div", [gate.name, g.constant(6.0)])
    if gate:
        g.one("Mul", [gate.name, x.name])


def _swish(g: _Growing, x: Value) -> None:
    gate = g.one("Sigmoid", [x.name])
    if gate:
        g.one("Mul", [x.name, gate.name])


def _gate(g: _Growing, x: Value) -> None:
    """Squeeze and excite."""
    if len(x.shape) != 4:
        return
    m = g.one("GlobalAveragePool", [x.name])
    s = m and g.one(g.pick(["Sigmoid", "HardSigmoid"]), [m.name])
    if s:
        g.one("Mul", [x.name, s.name])


def _prelu(g: _Growing, x: Value) -> None:
    channels = (*x.shape[1:2], *[1] * (len(x.shape) - 2))
    shape: Shape = g.pick([(), (x.shape[-1],), channels])
    slope = g.rng.normal(0.2, 0.3, shape)
    if shape and g.chance(0.2):
        slope[...] = np.abs(slope)
    g.one("PRelu", [x.name, g.constant(slope)])


def _with_constant(g: _Growing, x: Value) -> None:
    """Add, Sub, Mul, Div of a value and a constant: scalar, per channel, per row, a map."""
    rank = len(x.shape)
    rows = (1,) * (rank - 1) + x.shape[-1:]
    channels = tuple(n if i == 1 else 1 for i, n in enumerate(x.shape))
    one = tuple(g.pick([1, n]) for n in x.shape)
    shape: Shape = g.pick([(), (1,), channels, channels, channels[1:], rows, x.shape[-1:], one])
    c = g.rng.normal(size=shape)
    op = g.pick(["Add", "Sub", "Mul", "Mul", "Div"])
    if op == "Div":
        c = np.abs(c) + 0.3
    elif g.chance(0.15):
        c = np.where(g.rng.random(shape) < 0.4, 0.0, c)
    elif g.chance(0.1):
        c = np.abs(c)
    if op != "Div" and g.wild and g.chance(0.3):
        c = c * g.pick([1e-5, 1e3])
    name = g.constant(c)
    swap = op != "Div" and g.chance(0.3)
    g.one(op, [name, x.name] if swap else [x.name, name])


def _meet(g: _Growing, x: Value) -> None:
    """Add, Sub or Mul of two values that broadcast."""
    same = [v for v in g.values if v.shape == x.shape]
    op = g.pick(["Add", "Add", "Sub", "Mul", "Sum"])
    others = [v for v in g.values if _broadcasts(v.shape, x.shape)]
    if op == "Sum" and g.opset < 8:  # the first that broadcasts is 8
        others = same
    y = g.pick(same if g.chance(0.7) else others)
    if op == "Sum":
        g.one("Sum", [x.name, y.name, *([g.pick(others).name] if g.chance(0.5) else [])])
        return
    g.one(op, [x.name, y.name])


def _broadcasts(a: Shape, b: Shape) -> bool:
    pairs = zip(reversed(a), reversed(b), strict=False)
    return all(p == q or 1 in (p, q) for p, q in pairs)


def _residual(g: _Growing, x: Value) -> None:
    """x + f(x), f a convolution that keeps the shape."""
    if len(x.shape) != 4:
        return
    c = x.shape[1]
    w = g.weights((c, c, 3, 3), 9 * c)
    y = g.one("Conv", [x.name, w, g.bias(c)], pads=[1, 1, 1, 1])
    if y and g.chance(0.5):
        y = g.one("Relu", [y.name])
    y = y and g.one("Add", g.pick([[x.name, y.name], [y.name, x.name]]))
    if y and g.chance(0.6):
        g.one("Relu", [y.name])


# -- pools -----------------------------------------------------------------------------------------


def _pool(g: _Growing, x: Value) -> None:
    if len(x.shape) in (3, 4):
        _sandwiched(g, x, lambda v: _one_pool(g, v))


def _one_pool(g: _Growing, x: Value) -> Value | None:
    op = g.pick(["MaxPool", "MaxPool", "AveragePool", "AveragePool", "Global"])
    if op == "Global":
        return g.one(g.pick(["GlobalAveragePool", "GlobalMaxPool"]), [x.name])
    kernel = [g.between(1, min(4, n)) for n in x.shape[2:]]
    attrs = _window(g, kernel, dilated=g.opset >= (10 if op == "MaxPool" else 19))
    if not _fits(x, attrs) or _skips(attrs):
        return None
    if g.opset >= 10 and "auto_pad" not in attrs and g.chance(0.4):
        attrs["ceil_mode"] = 1
    if op == "AveragePool" and g.chance(0.5):
        attrs["count_include_pad"] = 1
    return g.one(op, [x.name], **attrs)


def _reduce_mean(g: _Growing, x: Value) -> None:
    rank = len(x.shape)
    if rank < 3:
        return
    axes = g.pick([list(range(2, rank)), [-1], [rank - 2], list(range(1, rank)), [1]])
    keep = {"keepdims": g.pick([0, 1])}
    if g.opset < 11:
        axes = [a % rank for a in axes]
    if g.opset < 18:
        g.one("ReduceMean", [x.name], axes=axes, **keep)
        return
    g.one("ReduceMean", [x.name, g.constant(axes, np.int64)], **keep)


def _softmax(g: _Growing, x: Value) -> None:
    rank = len(x.shape)
    axes = [1, rank - 1] if g.opset < 11 else [1, -1, rank - 1]
    g.one("Softmax", [x.name], axis=g.pick(axes))


# -- moving data -----------------------------------------------------------------------------------


def _concat(g: _Growing, x: Value) -> None:
    axis = g.between(1, len(x.shape) - 1) if len(x.shape) > 1 else 0
    fit = [
        v.name
        for v in g.values
        if len(v.shape) == len(x.shape)
        and all(p == q for i, (p, q) in enumerate(zip(v.shape, x.shape, strict=True)) if i != axis)
    ]
    g.one("Concat", [x.name, *(g.pick(fit) for _ in range(g.between(1, 2)))], axis=axis)


def _split(g: _Growing, x: Value) -> None:
    axes = [i for i, n in enumerate(x.shape) if n > 1]
    if not axes:
        return
    axis = g.pick(axes)
    cut = g.between(1, x.shape[axis] - 1)
    parts = [cut, x.shape[axis] - cut]
    if g.opset >= 18 and g.chance(0.4):
        g.node("Split", [x.name], 2, axis=axis, num_outputs=2)
    elif g.opset >= 13:
        g.node("Split", [x.name, g.constant(parts, np.int64)], 2, axis=axis)
    else:
        g.node("Split", [x.name], 2, axis=axis, split=parts)


def _slice(g: _Growing, x: Value) -> None:
    axes = [i for i, n in enumerate(x.shape) if n > 1]
    if not axes:
        return
    axis = g.pick(axes)
    n = x.shape[axis]
    first = g.between(0, n - 1)
    last = g.between(first + 1, n)
    if g.opset < 10:
        g.one("Slice", [x.name], axes=[axis], starts=[first], ends=[last])
        return
    step = g.pick([1, 1, 2, 3])
    if g.chance(0.15):
        first, last, step = n - 1, -(n + 1), -1
    elif g.chance(0.3):
        first, last = first - n, 1 << 40
    whole = [g.constant([v], np.int64) for v in (first, last, axis, step)]
    g.one("Slice", [x.name, *whole])


def _pad(g: _Growing, x: Value) -> None:
    rank = len(x.shape)
    pads = [0] * (2 * rank)
    for axis in range(1, rank):
        if g.chance(0.5):
            pads[axis], pads[axis + rank] = g.between(0, 2), g.between(0, 2)
    mode = g.pick(["constant", "constant", "constant", "reflect", "edge"])
    if mode == "reflect":
        pads = [min(p, x.shape[i % rank] - 1) for i, p in enumerate(pads)]
    value = g.pick([0.0, 0.0, 0.5, -1.0])
    if g.opset < 11:
        g.one("Pad", [x.name], pads=pads, mode=mode, value=value)
        return
    inputs = [x.name, g.constant(pads, np.int64)]
    if mode == "constant" and g.chance(0.5):
        inputs.append(g.constant(value))
    g.one("Pad", inputs, mode=mode)


def _resize(g: _Growing, x: Value) -> None:
    if len(x.shape) != 4:
        return
    factors = [1.0, 1.0, g.pick([1.0, 2.0, 3.0]), g.pick([1.0, 2.0, 2.0])]
    if g.opset < 10:
        scales = {"scales": factors} if g.opset < 9 else {}
        inputs = [x.name] if g.opset < 9 else [x.name, g.constant(factors)]
        g.one("Upsample", inputs, mode="nearest", **scales)
        return
    if g.opset < 11:
        g.one("Resize", [x.name, g.constant(factors)], mode="nearest")
        return
    attrs: dict[str, Any] = {"mode": "nearest"}
    if g.chance(0.7):
        attrs["coordinate_transformation_mode"] = g.pick(["asymmetric", "half_pixel"])
        attrs["nearest_mode"] = g.pick(["floor", "round_prefer_floor", "round_prefer_ceil"])
    none = g.constant([]) if g.opset < 13 else ""
    if g.chance(0.5):
        g.one("Resize", [x.name, none, g.constant(factors)], **attrs)
        return
    sizes = [*x.shape[:2], *(g.between(1, 9) for _ in range(2))]
    g.one("Resize", [x.name, none, none, g.constant(sizes, np.int64)], **attrs)


def _transpose(g: _Growing, x: Value) -> None:
    rank = len(x.shape)
    perm = [0, *(1 + int(i) for i in g.rng.permutation(rank - 1))]
    if rank == 4 and g.chance(0.6):
        perm = g.pick([[0, 2, 3, 1], [0, 3, 1, 2]])
    g.one("Transpose", [x.name], perm=perm)


def _reshape(g: _Growing, x: Value) -> None:
    size = int(np.prod(x.shape))
    how = g.pick(["flat", "image", "merge", "zero"])
    if how == "flat":
        target = [1, -1]
    elif how == "image":
        sides = [d for d in range(1, 10) if size % d == 0]
        a = g.pick(sides)
        b = g.pick([d for d in sides if size // a % d == 0])
        target = [1, a, b, -1]
    elif how == "merge":
        target = [1, x.shape[1] if len(x.shape) > 1 else 1, -1]
    else:
        target = [0, -1]
    g.one("Reshape", [x.name, g.constant(target, np.int64)])


def _flatten(g: _Growing, x: Value) -> None:
    g.one("Flatten", [x.name], axis=1)


def _squeeze(g: _Growing, x: Value) -> None:
    axes = [i for i, n in enumerate(x.shape) if n == 1 and i]
    if axes:
        _with_axes(g, "Squeeze", x, [g.pick(axes)])


def _unsqueeze(g: _Growing, x: Value) -> None:
    if len(x.shape) < 4:
        _with_axes(g, "Unsqueeze", x, [g.between(1, len(x.shape))])


def _with_axes(g: _Growing, op: str, x: Value, axes: list[int]) -> None:
    if g.opset < 13:
        g.one(op, [x.name], axes=axes)
    else:
        g.one(op, [x.name, g.constant(axes, np.int64)])


def _identity(g: _Growing, x: Value) -> None:
    g.one(g.pick(["Identity", "Dropout"]), [x.name])


def _depth_to_space(g: _Growing, x: Value) -> None:
    if len(x.shape) == 4:
        mode = {"mode": g.pick(["DCR", "CRD"])} if g.opset >= 11 else {}
        if x.shape[1] % 4 == 0:
            g.one("DepthToSpace", [x.name], blocksize=2, **mode)
        elif x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0:
            g.one("SpaceToDepth", [x.name], blocksize=2)


_Maker = Callable[[_Growing, Value], None]

_MAKERS: dict[str, tuple[_Maker, float]] = {
    "conv": (_conv, 8),
    "conv_transpose": (_conv_transpose, 2),
    "gemm": (_gemm, 2),
    "matmul": (_matmul, 2),
    "batchnorm": (_batchnorm, 2),
    "activation": (_activation, 4),
    "clip": (_clip, 1),
    "hard_swish": (_hard_swish, 0.7),
    "swish": (_swish, 0.5),
    "gate": (_gate, 0.7),
    "prelu": (_prelu, 0.7),
    "with_constant": (_with_constant, 3),
    "meet": (_meet, 4),
    "residual": (_residual, 1.5),
    "pool": (_pool, 3),
    "reduce_mean": (_reduce_mean, 1),
    "softmax": (_softmax, 0.6),
    "concat": (_concat, 2),
    "split": (_split, 1),
    "slice": (_slice, 1),
    "pad": (_pad, 1),
    "resize": (_resize, 1),
    "transpose": (_transpose, 1),
    "reshape": (_reshape, 1),
    "flatten": (_flatten, 0.3),
    "squeeze": (_squeeze, 0.4),
    "unsqueeze": (_unsqueeze, 0.4),
    "identity": (_identity, 0.7),
    "depth_to_space": (_depth_to_space, 0.4),
}
"""Maker and how often it is drawn, relative to the others."""

__all__ = ["NEWEST_OPSET", "random_model"]
