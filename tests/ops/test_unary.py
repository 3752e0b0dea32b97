"""unary: functions and their bounds, tables, interpolation, clamps, reading, kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.errors import UnsupportedError
from qcc.functions import (
    FUNCTIONS,
    UNBOUNDED,
    Const,
    Expr,
    Var,
    X,
    apply,
    bounds,
    clip,
    clip_bounds,
    compose,
    evaluate,
    size,
)
from qcc.ir import QType, Quant, Shape
from qcc.ops.base import INFINITY
from qcc.ops.examples import model
from qcc.ops.unary import Attrs, Unary, interpolation_table, lookup_table
from tests.ops.elementwise_harness import (
    S8,
    S16,
    U8,
    U16,
    Layer,
    check_compiled,
    check_interval,
    feeds,
    layer,
    real,
    run,
    steps_off,
)
from tests.ops.kernel_harness import check_float, read, run_onnx, samples

SHAPE: Shape = (1, 3, 5, 7)
SIGMOID = apply("sigmoid", X)
SWISH = apply("div", apply("mul", X, clip(apply("add", X, 3.0), 0.0, 6.0)), 6.0)

PARAMETERS = {
    "leaky_relu": (0.1,), "elu": (1.0,), "celu": (2.0,), "selu": (1.67, 1.05),
    "thresholded_relu": (0.5,), "hard_sigmoid": (0.2, 0.5), "clip": (-1.0, 2.0), "pow": (3.0,),
    "add": (2.0,), "sub": (2.0,), "mul": (-2.0,), "div": (4.0,),
}  # fmt: skip
FUNCTION_CASES = [apply(fn, X, *PARAMETERS.get(fn, ())) for fn in FUNCTIONS]


# -- trees ----------------------------------------------------------------------------------------


def test_trees_print_compactly_and_compare() -> None:
    assert str(SWISH) == "div(mul(x, clip(add(x, 3), 0, 6)), 6)"
    assert len({SWISH, compose(SWISH, X), SIGMOID}) == 2
    assert size(SWISH) == 10


def test_composition_is_composition() -> None:
    x = np.linspace(-5, 5, 101)
    both = compose(SWISH, SIGMOID)
    np.testing.assert_array_equal(evaluate(both, x), evaluate(SWISH, evaluate(SIGMOID, x)))


@pytest.mark.parametrize(
    ("inner", "outer", "both"),
    [
        ((0.0, INFINITY), (-1.0, 6.0), (0.0, 6.0)),
        ((0.0, 1.0), (2.0, 3.0), (2.0, 2.0)),
        ((2.0, 3.0), (-INFINITY, 1.0), (1.0, 1.0)),
        ((0.0, 4.0), (3.0, -3.0), (-3.0, -3.0)),
    ],
)
def test_a_clip_of_a_clip_is_one_clip(
    inner: tuple[float, float], outer: tuple[float, float], both: tuple[float, float]
) -> None:
    tree = compose(clip(X, *outer), clip(X, *inner))
    assert clip_bounds(tree) == both
    x = np.linspace(-5, 5, 41)
    np.testing.assert_array_equal(
        evaluate(tree, x), np.minimum(np.maximum(np.minimum(np.maximum(x, inner[0]), inner[1]),
                                                 outer[0]), outer[1])
    )  # fmt: skip


def test_only_a_clip_of_the_variable_has_bounds() -> None:
    assert clip_bounds(clip(X, 0.0, INFINITY)) == (0.0, INFINITY)
    assert clip_bounds(clip(SIGMOID, 0.0, 0.5)) is None
    assert clip_bounds(SIGMOID) is None
    assert clip(X, *UNBOUNDED) == Var()


@pytest.mark.parametrize("fn", FUNCTION_CASES, ids=str)
def test_bounds_hold_every_value(fn: Expr) -> None:
    rng = np.random.default_rng(7)
    for scale in (0.1, 1.0, 20.0):
        for lo, hi in np.sort(rng.normal(size=(40, 2)) * scale, axis=1).tolist():
            values = evaluate(fn, np.linspace(lo, hi, 200))
            low, high = bounds(fn, (lo, hi))
            inside = values[~np.isnan(values)]
            margin = 1e-12 * max(1.0, float(np.abs(inside).max(initial=0.0)))
            assert low - margin <= inside.min(initial=INFINITY), f"{fn} on [{lo}, {hi}]"
            assert high + margin >= inside.max(initial=-INFINITY), f"{fn} on [{lo}, {hi}]"


@pytest.mark.parametrize(
    ("fn", "x", "expected"),
    [
        (SIGMOID, UNBOUNDED, (0.0, 1.0)),
        (apply("hard_swish", X), UNBOUNDED, (-0.375, INFINITY)),
        (apply("softplus", X), UNBOUNDED, (0.0, INFINITY)),
        (apply("abs", X), (-3.0, 2.0), (0.0, 3.0)),
        (apply("mul", X, X), UNBOUNDED, (0.0, INFINITY)),
        (apply("exp", X), UNBOUNDED, (0.0, INFINITY)),
        (apply("elu", X, 1.0), UNBOUNDED, (-1.0, INFINITY)),
        (clip(apply("add", X, 3.0), 0.0, 6.0), UNBOUNDED, (0.0, 6.0)),
        (apply("reciprocal", X), (0.0, 1.0), UNBOUNDED),
        (apply("reciprocal", X), (0.5, 4.0), (0.25, 2.0)),
        (Const(3.0), (0.0, 1.0), (3.0, 3.0)),
    ],
    ids=str,
)
def test_bounds_are_tight_where_signs_depend_on_them(
    fn: Expr, x: tuple[float, float], expected: tuple[float, float]
) -> None:
    assert bounds(fn, x) == pytest.approx(expected)


# -- reading --------------------------------------------------------------------------------------


def test_examples_mean_what_onnxruntime_says() -> None:
    check_float(Unary)


def _protos() -> Iterator[onnx.ModelProto]:
    plain = ("Ceil", "Cos", "Floor", "Neg", "Round", "Sign", "Sin", "Relu", "Abs", "Exp", "Erf",
             "Softplus", "Softsign", "Tanh", "Elu", "Selu", "Celu", "HardSigmoid", "HardSwish",
             "LeakyRelu", "ThresholdedRelu", "Sigmoid")  # fmt: skip
    for op in plain:
        yield model(op, [helper.make_node(op, ["x"], ["y"])], {"x": SHAPE}, ["y"])
    yield model("relu7", [helper.make_node("Relu", ["x"], ["y"])], {"x": SHAPE}, ["y"], opset=7)
    for op, approximate in (("Gelu", "none"), ("Gelu", "tanh")):
        node = helper.make_node(op, ["x"], ["y"], approximate=approximate)
        yield model(f"{op}_{approximate}", [node], {"x": SHAPE}, ["y"], opset=20)
    mish = helper.make_node("Mish", ["x"], ["y"])
    yield model("mish", [mish], {"x": SHAPE}, ["y"], opset=18)
    limits: tuple[tuple[str, dict[str, Any]], ...] = (
        ("both", {"min": -0.5, "max": 0.5}), ("none", {}), ("min", {"min": 0.0}),
    )  # fmt: skip
    for name, attrs in limits:
        node = helper.make_node("Clip", ["x"], ["y"], **attrs)
        yield model(f"clip6_{name}", [node], {"x": SHAPE}, ["y"], opset=7)
    consts = {"lo": np.array(-0.5, np.float32), "hi": np.array([0.25], np.float32)}
    consts["two"] = np.array(2.0, np.float32)
    for name, op, args in (
        ("both", "Clip", ["x", "lo", "two"]), ("max", "Clip", ["x", "", "two"]),
        ("one", "Clip", ["x"]), ("lower", "Max", ["lo", "x", "hi"]), ("upper", "Min", ["x", "hi"]),
        ("square", "Pow", ["x", "two"]),
    ):  # fmt: skip
        used = {a: consts[a] for a in args if a in consts}
        yield model(name, [helper.make_node(op, args, ["y"])], {"x": SHAPE}, ["y"], used)


PROTOS = list(_protos())


@pytest.mark.parametrize("proto", PROTOS, ids=lambda p: p.graph.name)
def test_every_function_is_read_as_onnx_defines_it(proto: onnx.ModelProto) -> None:
    graph = read(proto)
    (node,) = graph.nodes()
    fed = samples(graph)
    fed["x"] *= 2
    found = Unary.run_float(node.attrs, [fed["x"]])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, run_onnx(proto, fed), 1e-5, 1e-6)


def test_relu_and_clip_are_recognised() -> None:
    found = {p.graph.name: clip_bounds(next(read(p).nodes()).attrs.fn) for p in PROTOS}
    assert found["Relu"] == (0.0, INFINITY)
    assert found["clip6_both"] == (-0.5, 0.5)
    assert found["clip6_min"] == (0.0, INFINITY)
    assert found["lower"] == (0.25, INFINITY)
    assert found["upper"] == (-INFINITY, 0.25)
    assert found["LeakyRelu"] is None


@pytest.mark.parametrize(
    ("op", "said"),
    [("Max", "more than one tensor"), ("Pow", "the exponent"), ("Clip", "the minimum")],
)
def test_a_second_activation_is_refused(op: str, said: str) -> None:
    node = helper.make_node(op, ["x", "z"], ["y"])
    shapes: dict[str, Shape] = {"x": (4,), "z": () if op == "Clip" else (4,)}
    with pytest.raises(UnsupportedError, match=said):
        read(model("m", [node], shapes, ["y"]))


# -- integers -------------------------------------------------------------------------------------


def _tables() -> Iterator[Layer]:
    """Up to 8 bits: tables of every kind of format."""
    for x in (S8, U8, QType(8, narrow=False), QType(4), QType(3, signed=False), QType(1), QType(2)):
        for y, scale in ((S8, 0.02), (U8, 0.01), (S16, 1e-4), (QType(5), 0.1)):
            yield layer("unary", Attrs(SWISH), [(SHAPE, Quant(x, 4.0 / x.qmax))], Quant(y, scale))
    for fn in FUNCTION_CASES:
        yield layer("unary", Attrs(fn), [(SHAPE, Quant(S8, 0.031))], Quant(S8, 0.017))
    yield layer("unary", Attrs(SIGMOID), [(SHAPE, Quant(U8, 0.05, 128))], Quant(U8, 0.01, 7))


def _clamps() -> Iterator[Layer]:
    for x, sx, y, sy in (
        (S8, 0.5, U8, 0.5),
        (S8, 0.5, S8, 2.0),
        (U8, 0.5, U8, 0.125),
        (S16, 0.01, S8, 1.3),
        (S16, 0.01, S16, 0.013),
        (S16, 0.25, U16, 0.125),
        (S8, 1.0, S16, 1 / 64),
    ):
        for fn in (clip(X, 0.0, INFINITY), clip(X, -1.0, 6.3), X):
            yield layer("unary", Attrs(fn), [(SHAPE, Quant(x, sx))], Quant(y, sy))


def _interpolated() -> Iterator[Layer]:
    for fn in (SIGMOID, apply("gelu", X), apply("log", X), apply("exp", X)):
        for x, sx in ((S16, 8 / 32767), (U16, 8 / 65535)):
            for y, sy in ((S16, 1 / 32767), (S8, 1 / 127)):
                yield layer("unary", Attrs(fn), [((1, 40, 50), Quant(x, sx))], Quant(y, sy))


TABLES, CLAMPS, INTERPOLATED = list(_tables()), list(_clamps()), list(_interpolated())


def test_kernels_equal_the_reference(tmp_path: Path) -> None:
    check_compiled([*TABLES, *CLAMPS, *INTERPOLATED], tmp_path)


@pytest.mark.parametrize("case", [*TABLES, *CLAMPS], ids=lambda c: f"{c.name}-{c.node.attrs.fn}")
def test_values_are_rounded_to_nearest(case: Layer) -> None:
    (x,) = feeds(case)
    q = case.graph.quant(case.node.inputs[0])
    y = case.graph.quant("y")
    exact = evaluate(case.node.attrs.fn, (x - q.zero_point) * q.scalar) + y.zero_point * y.scalar
    defined = ~np.isnan(exact)
    found = run(case, [x])
    tolerance = 0.51 if q.qtype.bits == 16 else 0.5 + 1e-9
    assert steps_off(case, found[defined], exact[defined]) <= tolerance
    check_interval(case)


@pytest.mark.parametrize("case", CLAMPS, ids=lambda c: f"{c.name}-{c.node.attrs.fn}")
def test_clamps_take_no_table(case: Layer) -> None:
    (call,) = Unary.calls(case.graph, case.node)
    assert call.kernel.header == "qcc_clamp.h"


def test_a_clip_between_odd_scales_of_8_bits_is_a_table() -> None:
    case = layer("unary", Attrs(clip(X, 0.0, 6.0)), [(SHAPE, Quant(S8, 0.1))], Quant(U8, 0.027))
    (call,) = Unary.calls(case.graph, case.node)
    assert call.kernel.header == "qcc_lut.h"


def test_halves_round_up() -> None:
    case = layer("unary", Attrs(X), [((4,), Quant(S8, 1.0))], Quant(S8, 2.0))
    assert run(case, [np.array([[1, -1, 3, -3]])]).tolist() == [[1, 0, 2, -1]]
    table = lookup_table(X, Quant(S8, 1.0), Quant(S8, 2.0))
    assert table[[1, 255, 3, 253]].tolist() == [1, 0, 2, -1]


def test_a_table_is_indexed_by_the_low_bits() -> None:
    table = lookup_table(X, Quant(S8, 1.0), Quant(S16, 1.0))
    assert table[[0, 1, 127, 129, 255]].tolist() == [0, 1, 127, -127, -1]
    assert table[128] == -127  # no value of the symmetric format: as its nearest
    assert lookup_table(X, Quant(QType(3), 1.0), Quant(S8, 1.0)).tolist() == [
        0, 1, 2, 3, -3, -3, -2, -1,
    ]  # fmt: skip
    assert lookup_table(X, Quant(QType(1), 1.0), Quant(S8, 1.0)).tolist() == [0, 1, -1, -1]


def test_what_is_no_number_saturates_or_takes_the_nearest_value() -> None:
    x, y = Quant(S8, 0.5), Quant(S8, 0.1)
    log = lookup_table(apply("log", X), x, y)
    assert log[[0, 255, 129]].tolist() == [-127, -127, -127]
    assert log[2] == 0
    assert lookup_table(apply("sqrt", X), x, y)[[0, 255, 2]].tolist() == [0, 0, 10]
    reciprocal = lookup_table(apply("reciprocal", X), x, y)
    assert reciprocal[[0, 1, 255, 2]].tolist() == [127, 20, -20, 10]


@pytest.mark.parametrize(
    ("fn", "curvature"),
    [(SIGMOID, 0.0963), (apply("tanh", X), 0.7699), (apply("gelu", X), 0.798)],
    ids=str,
)
@pytest.mark.parametrize("x", [Quant(S16, 8 / 32767), Quant(U16, 8 / 65535)], ids=str)
def test_interpolation_errs_no_more_than_stated(fn: Expr, curvature: float, x: Quant) -> None:
    y = Quant(S16, 8 / 32767)
    case = layer("unary", Attrs(fn), [((1, 1 << 16), x)], y)
    q = np.arange(x.qtype.qmin, x.qtype.qmax + 1)
    values = np.resize(q, (1, 1, 1 << 16))
    exact = evaluate(fn, real(case, [values])[0])
    h = 128 * x.scalar
    stated = h * h / 8 * curvature / y.scalar + 1 / 64
    assert steps_off(case, run(case, [values]), exact) <= 0.5 + stated


def test_sigmoid_of_16_bits_is_within_one_step() -> None:
    x, y = Quant(S16, 8 / 32767), Quant(S16, 1 / 32767)
    case = layer("unary", Attrs(SIGMOID), [((1, 65535), x)], y)
    q = np.arange(-32767, 32768).reshape(1, 1, -1)
    assert steps_off(case, run(case, [q]), evaluate(SIGMOID, q * x.scalar)) <= 1.0


def test_interpolation_sums_fit_32_bits() -> None:
    for fn in (apply("exp", apply("mul", X, 1e3)), apply("reciprocal", X), apply("log", X)):
        t = interpolation_table(fn, Quant(S16, 1.0), Quant(S16, 1e-6))
        assert np.abs(t).max() <= 1 << 23
        worst = np.abs(np.diff(t)).max() * 127
        assert worst < 1 << 31


def test_permutation_and_channels_pass() -> None:
    case = TABLES[0]
    assert Unary.permute(case.node.attrs, (0, 2, 3, 1), 4) == case.node.attrs
    assert Unary.channel_role(case.graph, case.node) == "pass"
    assert math.isinf(Unary.range(Attrs(X), [UNBOUNDED])[1])
