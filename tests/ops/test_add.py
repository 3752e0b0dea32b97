"""add: float meaning, integers for arranged and for arbitrary scales, broadcasting, kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from qcc.config import ScaleMode
from qcc.ir import Array, Quant, Shape
from qcc.ops.add import Add, Attrs
from qcc.ops.base import INFINITY
from qcc.ops.broadcast import loops
from qcc.ops.examples import model, normal
from qcc.ops.ratio import FINE, multipliers
from tests.build import compiled
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
BROADCASTS: tuple[tuple[Shape, Shape], ...] = (
    (SAME, SAME),
    (SAME, (1, 1, 1, 7)),
    ((1, 1, 1, 7), SAME),
    (SAME, (1, 3, 1, 1)),
    (SAME, (1, 1, 5, 1)),
    ((1, 3, 1, 7), (1, 1, 5, 1)),
    (SAME, (1, 1, 1, 1)),
    ((2, 3, 1, 3, 1), (2, 1, 2, 1, 5)),
    ((1,), (1,)),
)


def _cases() -> Iterator[Layer]:
    for first, second in BROADCASTS:
        yield layer("add", Attrs(), [(first, Quant(S8, 0.02)), (second, Quant(U8, 0.013))],
                    Quant(S8, 0.03))  # fmt: skip
    formats = (
        (S8, 0.5, U8, 0.125, U8, 0.25),  # powers of two
        (U8, 0.25, U8, 0.75, U8, 0.5),  # 1.5 is a sum of two powers
        (S8, 0.9, S8, 1e-5, S8, 0.7),
        (S8, 1.0, S8, 1.0, S8, 1e-3),  # saturates nearly always
        (S16, 1.0, S16, 0.5, S16, 0.5),
        (S16, 0.011, S16, 0.0123, S16, 0.02),  # not exact enough in 32 bits
        (S16, 0.011, S8, 0.3, S8, 0.4),
    )
    modes: tuple[ScaleMode, ...] = ("single-shift", "double-shift", "fixed-point")
    for n, (a, sa, b, sb, y, sy) in enumerate(formats):
        for sign in (1, -1):
            attrs = Attrs(sign=sign, bounds=(0.0, 6.0) if sign > 0 else (-INFINITY, INFINITY))
            operands = [(SAME, Quant(a, sa)), (SAME, Quant(b, sb))]
            yield layer("add", attrs, operands, Quant(y, sy), modes[n % 3])


CASES = list(_cases())


def test_examples_mean_what_onnxruntime_says() -> None:
    check_float(Add)


@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_a_sum_of_a_constant_is_read_in_either_order(op: str) -> None:
    for args in (["x", "c"], ["c", "x"]):
        node = helper.make_node(op, args, ["y"])
        proto = model("m", [node], {"x": (2, 3, 4)}, ["y"], {"c": normal((3, 1), 1)})
        graph = read(proto)
        fed = samples(graph)
        (n,) = graph.nodes()
        c = graph.constant(next(t for t in n.inputs if graph.is_constant(t)))
        assert c.shape == (1, 3, 1)
        inputs = [fed.get(t, c) for t in n.inputs]
        np.testing.assert_array_equal(Add.run_float(n.attrs, inputs), run_onnx(proto, fed))


def test_kernels_equal_the_reference(tmp_path: Path) -> None:
    check_compiled([*CASES, *WITH_CONSTANT], tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_sums_are_rounded_to_nearest(case: Layer) -> None:
    values = feeds(case)
    a, b = real(case, values)
    attrs = case.node.attrs
    exact = np.clip(a + attrs.sign * b, *attrs.bounds)
    tolerance = 0.5 + (0 if attrs.rescale.mode != "fixed-point" else FINE)
    assert steps_off(case, run(case, values), exact) <= tolerance + 1e-9


def test_halves_round_up() -> None:
    case = layer("add", Attrs(), [((4,), Quant(S8, 0.5)), ((4,), Quant(S8, 0.5))], Quant(S8, 1.0))
    a, b = np.array([[1, -1, 3, -3]]), np.array([[0, 0, 0, 0]])
    assert run(case, [a, b]).tolist() == [[1, 0, 2, -1]]


@pytest.mark.parametrize(
    ("ratios", "mode"),
    [
        ((0.5, 4.0), "single-shift"),
        ((0.5, -0.125), "single-shift"),
        ((0.75, 1.0), "double-shift"),
        ((0.7, 1.0), "fixed-point"),
    ],
)
def test_multipliers_are_as_simple_as_the_ratios(ratios: tuple[float, float], mode: str) -> None:
    m = multipliers(ratios, (127, 127))
    assert m.mode == mode
    assert [k / 2**m.shift for k in m.mult] == pytest.approx(ratios, rel=1e-5)
    assert m.bound == 127 * sum(abs(k) for k in m.mult) < 1 << 31


def test_sixteen_bits_of_odd_scales_take_a_wide_accumulator() -> None:
    m = multipliers((0.55, 0.6151), (32767, 32767))
    assert m.bound >= 1 << 31
    assert all(abs(k) < 1 << 31 for k in m.mult)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_intervals_hold_every_output(case: Layer) -> None:
    check_interval(case)


# -- constants ------------------------------------------------------------------------------------


def _with_constant(x: Quant, c: Array, y: Quant, sign: int = 1) -> tuple[Layer, Array]:
    """x + c, or c - x."""
    operands: list[Operand | Array] = [(SAME, x), c]
    return layer("add", Attrs(sign=sign), operands[::sign], y), c


CONSTANTS = [
    _with_constant(Quant(S8, 0.02), normal((1, 1, 1, 7), 1), Quant(S8, 0.03)),
    _with_constant(Quant(S8, 0.02), normal((1, 1, 1, 1), 2), Quant(S8, 0.03), -1),
    _with_constant(Quant(U8, 1.0), np.arange(15.0).reshape(1, 3, 5, 1), Quant(U8, 1.0)),
    _with_constant(Quant(S8, 0.02), np.zeros((1, 1, 1, 7)), Quant(S8, 0.02)),
    _with_constant(Quant(S8, 0.02), normal(SAME, 3, 1e-6), Quant(S8, 0.02)),
    _with_constant(Quant(S8, 0.02), normal(SAME, 4, 1e2), Quant(S8, 0.02)),
    _with_constant(Quant(S16, 1e-4), normal(SAME, 5), Quant(S16, 1.1e-4)),
]
WITH_CONSTANT = [case for case, _ in CONSTANTS]


@pytest.mark.parametrize(("case", "c"), CONSTANTS, ids=[c.name for c in WITH_CONSTANT])
def test_constants_are_fine_enough(case: Layer, c: Array) -> None:
    values = feeds(case)
    (x,) = real(case, values)
    exact = c + case.node.attrs.sign * x
    error = constant_error(case, c) / case.graph.quant("y").scalar
    if np.abs(c).max() < 100 and case.graph.quant("y").qtype.bits == 8:
        assert error <= FINE
    assert steps_off(case, run(case, values), exact) <= 0.5 + error + FINE
    check_interval(case)


def test_a_constant_takes_eight_bits_where_they_do() -> None:
    widths = [
        c.graph.quant(next(t for t in c.node.inputs if c.graph.is_constant(t))).qtype.bits
        for c in WITH_CONSTANT[:4]
    ]
    assert widths == [16, 8, 8, 8]


def test_channels_are_selected_in_the_constant() -> None:
    case = layer("add", Attrs(), [(SAME, Quant(S8, 0.02)), normal((1, 1, 1, 7), 1)],
                 Quant(S8, 0.03))  # fmt: skip
    assert Add.channel_role(case.graph, case.node) == "pass"
    values = feeds(case)[0]
    before = run(case, [values])
    keep = np.array([0, 3, 6])
    Add.select_channels(case.graph, case.node, keep)
    np.testing.assert_array_equal(run(case, [values[..., keep]]), before[..., keep])


def test_channels_stay_where_an_operand_has_one() -> None:
    case = layer("add", Attrs(), [(SAME, Quant(S8, 0.02)), ((1, 3, 5, 1), Quant(S8, 0.02))],
                 Quant(S8, 0.03))  # fmt: skip
    assert Add.channel_role(case.graph, case.node) == "block"


# -- loops ----------------------------------------------------------------------------------------


def test_axes_that_advance_alike_are_merged() -> None:
    same = loops(SAME, SAME, SAME)
    assert same.counts == (1, 1, 1, 1, 105)
    channel = loops(SAME, SAME, (1, 1, 1, 7))
    assert (channel.counts, channel.a, channel.b) == (
        (1, 1, 1, 15, 7),
        (0, 0, 0, 7, 1),
        (0, 0, 0, 0, 1),
    )


@pytest.mark.parametrize(
    ("x", "bounds", "expected"),
    [
        (((0.0, 1.0), (0.0, 2.0)), (-INFINITY, INFINITY), (0.0, 3.0)),
        (((0.0, INFINITY), (-1.0, INFINITY)), (0.0, 6.0), (0.0, 6.0)),
        (((2.0, 3.0), (5.0, 6.0)), (0.0, 4.0), (4.0, 4.0)),
    ],
)
def test_range(
    x: tuple[tuple[float, float], ...], bounds: tuple[float, float], expected: tuple[float, float]
) -> None:
    assert Add.range(Attrs(bounds=bounds), x) == expected


def test_range_of_a_difference() -> None:
    assert Add.range(Attrs(sign=-1), [(0.0, 1.0), (0.0, INFINITY)]) == (-INFINITY, 1.0)


def test_a_sum_of_one_keeps_the_name_of_its_output() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Sum", ["r"], ["y"])]
    done = compiled(model("sum", nodes, {"x": (1, 5)}, ["y"]))
    assert [p.onnx_name for p in done.program.outputs] == ["y"]
    assert [n.op for n in done.graph.nodes()] == ["unary"]
