"""mul: float meaning, division, integers for arranged and for arbitrary scales, kernels; prelu."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from qcc.config import ScaleMode
from qcc.errors import UnsupportedError
from qcc.functions import X, apply, clip
from qcc.ir import Array, Quant, Shape
from qcc.ops import prelu
from qcc.ops.base import INFINITY, Relation
from qcc.ops.examples import model, normal
from qcc.ops.mul import Attrs, Mul
from qcc.ops.ratio import FINE, rescale
from tests.ops.elementwise_harness import (
    S8,
    S16,
    U8,
    Layer,
    Operand,
    check_compiled,
    check_interval,
    constant_error,
    feeds,
    layer,
    real,
    run,
    steps_off,
)
from tests.ops.kernel_harness import check_float, read, run_onnx, samples

SAME: Shape = (1, 3, 5, 7)


def _cases() -> Iterator[Layer]:
    gates: tuple[tuple[Shape, Shape], ...] = (
        (SAME, SAME),
        (SAME, (1, 1, 1, 7)),
        ((1, 1, 5, 1), SAME),
        ((2, 3, 1, 3, 1), (2, 1, 2, 1, 5)),
    )
    for first, second in gates:
        yield layer("mul", Attrs(), [(first, Quant(S8, 0.02)), (second, Quant(U8, 2.0**-8))],
                    Quant(S8, 0.02))  # fmt: skip
    modes: tuple[ScaleMode, ...] = ("single-shift", "double-shift", "fixed-point")
    formats = (
        (S8, 0.5, U8, 0.5, S8, 8.0),
        (U8, 0.5, U8, 0.75, U8, 8.0),
        (S8, 1.0, S8, 1.0, S8, 0.25),  # a shift to the left; saturates
        (U8, 0.011, U8, 0.0123, U8, 0.02),
        (S8, 0.3, U8, 0.7, S8, 1e-4),
        (S16, 2.0**-10, S16, 2.0**-11, S16, 2.0**-8),
        (S16, 0.011, S16, 0.0123, S16, 3.0),
        (S16, 0.01, S8, 0.02, S8, 5.0),
    )
    for a, sa, b, sb, y, sy in formats:
        for mode in modes:
            operands: list[Operand | Array] = [(SAME, Quant(a, sa)), (SAME, Quant(b, sb))]
            bounds = (0.0, 3.0) if mode == "double-shift" else (-INFINITY, INFINITY)
            yield layer("mul", Attrs(bounds), operands, Quant(y, sy), mode)


def _with_constant(x: Quant, c: Array, y: Quant) -> tuple[Layer, Array]:
    return layer("mul", Attrs(), [(SAME, x), c], y), c


CASES = list(_cases())
CONSTANTS = [
    _with_constant(Quant(S8, 0.02), normal((1, 1, 1, 7), 1), Quant(S8, 0.03)),
    _with_constant(Quant(U8, 0.02), normal((1, 1, 1, 1), 2), Quant(S8, 0.01)),
    _with_constant(Quant(S8, 0.5), np.full((1, 1, 1, 1), 2.0), Quant(S8, 1.0)),
    _with_constant(Quant(S8, 0.02), np.zeros((1, 1, 1, 7)), Quant(S8, 0.03)),
    _with_constant(Quant(S8, 0.02), normal(SAME, 3, 1e-4), Quant(S8, 0.02)),
    _with_constant(Quant(S8, 0.02), normal(SAME, 3, 1e4), Quant(S8, 200.0)),
    _with_constant(Quant(S16, 1e-3), normal(SAME, 4), Quant(S16, 2e-3)),
]


def _slopes() -> Iterator[tuple[Layer, Array]]:
    for x, sx, y, sy, shape in (
        (S8, 0.02, S8, 0.03, (1, 1, 1, 7)),
        (S8, 0.5, S8, 0.25, SAME),
        (U8, 0.5, U8, 0.7, (1, 1, 1, 7)),
        (S16, 1e-3, S16, 1.7e-3, (1, 1, 1, 7)),
        (S16, 1e-3, S8, 1.0, (1, 3, 1, 1)),
    ):
        c = normal(shape, 5)
        attrs = prelu.Attrs(bounds=(-1.0, 2.0) if sx == 0.5 else (-INFINITY, INFINITY))
        yield layer("prelu", attrs, [(SAME, Quant(x, sx)), c], Quant(y, sy)), c


SLOPES = list(_slopes())


@pytest.mark.parametrize("op", [Mul, prelu.PRelu], ids=["mul", "prelu"])
def test_examples_mean_what_onnxruntime_says(op: type[Mul | prelu.PRelu]) -> None:
    check_float(op)


def test_kernels_equal_the_reference(tmp_path: Path) -> None:
    layers = [case for case, _ in (*CONSTANTS, *SLOPES)]
    check_compiled([*CASES, *layers], tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_products_are_rounded_to_nearest(case: Layer) -> None:
    values = feeds(case)
    a, b = real(case, values)
    exact = np.clip(a * b, *case.node.attrs.bounds)
    tolerance = 0.5 + (FINE if case.node.attrs.rescale.mode == "fixed-point" else 0.0)
    assert steps_off(case, run(case, values), exact) <= tolerance + 1e-9


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_intervals_hold_every_output(case: Layer) -> None:
    check_interval(case)


@pytest.mark.parametrize(("case", "c"), CONSTANTS, ids=[c.name for c, _ in CONSTANTS])
def test_constants_are_fine_enough(case: Layer, c: Array) -> None:
    values, y = feeds(case), case.graph.quant("y").scalar
    (x,) = real(case, values)
    assert case.node.attrs.rescale.mult == (1,)
    error = constant_error(case, c) * float(np.abs(x).max()) / y
    assert error <= FINE or case.graph.quant("y").qtype.bits == 16
    assert steps_off(case, run(case, values), x * c) <= 0.5 + error + 1e-9
    check_interval(case)


@pytest.mark.parametrize(("case", "slope"), SLOPES, ids=[c.name for c, _ in SLOPES])
def test_prelu_is_rounded_to_nearest(case: Layer, slope: Array) -> None:
    values = feeds(case)
    (x,) = real(case, values)
    exact = np.clip(np.where(x < 0, slope * x, x), *case.node.attrs.bounds)
    assert steps_off(case, run(case, values), exact) <= 0.5 + FINE
    check_interval(case)


def test_one_slope_is_read_as_a_function() -> None:
    node = helper.make_node("PRelu", ["x", "s"], ["y"])
    for slope, fn in ((0.25, apply("leaky_relu", X, 0.25)), (0.0, clip(X, 0.0, INFINITY))):
        consts = {"s": np.full((1, 1), slope, np.float32)}
        (n,) = read(model("m", [node], {"x": (1, 3, 4)}, ["y"], consts)).nodes()
        assert (n.op, n.attrs.fn) == ("unary", fn)


def test_division_by_a_constant_is_a_product() -> None:
    node = helper.make_node("Div", ["x", "c"], ["y"])
    proto = model(
        "m", [node], {"x": (1, 3, 4)}, ["y"], {"c": np.array([[2], [4], [8]], np.float32)}
    )
    graph = read(proto)
    (n,) = graph.nodes()
    assert graph.constant(n.inputs[1]).tolist() == [[[0.5], [0.25], [0.125]]]


def test_division_of_a_constant_is_a_product_with_a_reciprocal() -> None:
    node = helper.make_node("Div", ["c", "x"], ["y"])
    proto = model("m", [node], {"x": (1, 3, 4)}, ["y"], {"c": np.array([3], np.float32)})
    graph = read(proto)
    assert [n.op for n in graph.nodes()] == ["unary", "mul"]
    fed = {name: np.abs(x) + np.float32(0.1) for name, x in samples(graph).items()}
    x = fed["x"]
    reciprocal = 1 / x
    (n,) = (n for n in graph.nodes() if n.op == "mul")
    inputs = [graph.constant(t) if graph.is_constant(t) else reciprocal for t in n.inputs]
    np.testing.assert_allclose(Mul.run_float(n.attrs, inputs), run_onnx(proto, fed), 1e-6)


@pytest.mark.parametrize(
    ("inputs", "constants", "said"),
    [
        ({"x": (2, 3), "z": (2, 3)}, {}, "division of one activation by another"),
        ({"x": (2, 3)}, {"z": np.zeros(3, np.float32)}, "a zero"),
    ],
)
def test_other_divisions_are_refused(
    inputs: dict[str, Shape], constants: dict[str, Array], said: str
) -> None:
    proto = model("m", [helper.make_node("Div", ["x", "z"], ["y"])], inputs, ["y"], constants)
    with pytest.raises(UnsupportedError, match=said):
        read(proto)


def test_scales_are_arranged_for_two_activations_only() -> None:
    two, one = CASES[0], CONSTANTS[0][0]
    assert Mul.relation(two.graph, two.node) == Relation("product")
    assert Mul.relation(one.graph, one.node) is None


@pytest.mark.parametrize(
    ("alpha", "mode", "found", "mult"),
    [
        (2.0**-9, "fixed-point", "fixed-point", 1),
        (2.0**3, "single-shift", "single-shift", 1),
        (3 * 2.0**-9, "double-shift", "double-shift", 3),
        (3 * 2.0**-9, "single-shift", "fixed-point", None),
        (0.0117, "single-shift", "fixed-point", None),
    ],
)
def test_rescaling_is_a_shift_where_one_is_exact(
    alpha: float, mode: ScaleMode, found: str, mult: int | None
) -> None:
    r = rescale(alpha, mode, 127 * 127)
    assert r.mode == found
    assert r.mult[0] == mult or mult is None
    assert r.alphas[0] == pytest.approx(alpha, rel=1e-4)
    assert r.max_product(127 * 127) < 1 << 31


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0.0, INFINITY), (0.0, 1.0), (0.0, INFINITY)),
        ((-INFINITY, INFINITY), (0.0, 1.0), (-INFINITY, INFINITY)),
        ((-2.0, 3.0), (-1.0, 4.0), (-8.0, 12.0)),
        ((0.0, 0.0), (-INFINITY, INFINITY), (0.0, 0.0)),
    ],
)
def test_range(
    a: tuple[float, float], b: tuple[float, float], expected: tuple[float, float]
) -> None:
    assert Mul.range(Attrs(), [a, b]) == expected


def test_channels_are_selected_in_the_slopes() -> None:
    case, _ = next(_slopes())
    values = feeds(case)[0]
    before = run(case, [values])
    keep = np.array([1, 2, 5])
    prelu.PRelu.select_channels(case.graph, case.node, keep)
    np.testing.assert_array_equal(run(case, [values[..., keep]]), before[..., keep])
