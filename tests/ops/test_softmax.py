"""softmax: float meaning, the flattening before opset 13, the stated error, kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from qcc.ir import Array, Int, QType, Quant, Shape
from qcc.ops.base import CArray
from qcc.ops.examples import model
from qcc.ops.softmax import Attrs, Softmax, is_narrow
from tests.ops.elementwise_harness import (
    S8,
    S16,
    U8,
    Layer,
    check_compiled,
    check_interval,
    feeds,
    layer,
    run,
)
from tests.ops.kernel_harness import check_float, read

BITS = (2, 4, 8, 16)


def _layer(shape: Shape, axis: int, x: Quant, bits: int) -> Layer:
    y = QType(bits, signed=False)
    return layer("softmax", Attrs(axis), [(shape, x)], Quant(y, 1 / y.qmax))


def _cases() -> Iterator[Layer]:
    shapes: tuple[tuple[Shape, int], ...] = (
        ((1, 10), 1),
        ((1, 3, 5, 7), 1),
        ((1, 3, 5, 7), 2),
        ((2, 3, 7), 2),
        ((4, 1), 1),
        ((1, 300), 1),
    )
    for shape, axis in shapes:
        for x in (Quant(S8, 0.1), Quant(U8, 1e-4), Quant(S16, 1e-3), Quant(QType(3), 1.5)):
            for bits in BITS:
                yield _layer(shape, axis, x, bits)
    yield _layer((1, 10), 1, Quant(S8, 50.0), 8)


CASES = list(_cases())


def _exact(case: Layer, x: Int) -> Array:
    """The softmax of the integers' real values, in steps of the output."""
    axis = case.node.attrs.axis + 1
    real = x * case.graph.quant(case.node.inputs[0]).scalar
    e = np.exp(real - real.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True) / case.graph.quant("y").scalar)


def _stated(case: Layer) -> float:
    """The bound of the module's text."""
    x, y = case.graph.quant(case.node.inputs[0]).qtype, case.graph.quant("y").qtype
    n = case.graph.shape("y")[case.node.attrs.axis]
    f = (1 << 16) - 1 if is_narrow(x, y, n) else 1 << 30
    return float(0.5 + (n + 1) * y.qmax / (2 * f) * (4 if x.bits > 8 else 1))


def test_examples_mean_what_onnxruntime_says() -> None:
    check_float(Softmax)


def test_kernels_equal_the_reference(tmp_path: Path) -> None:
    check_compiled(CASES, tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_the_error_is_as_stated(case: Layer) -> None:
    (x,) = feeds(case, 40)
    spread = np.random.default_rng(1).integers(1, 20, len(x)).reshape(-1, *[1] * (x.ndim - 1))
    x = x // spread  # flat distributions and peaked ones
    error = np.abs(run(case, [x]) - _exact(case, x)).max()
    assert error <= _stated(case) + 1e-9
    check_interval(case)


@pytest.mark.parametrize("n", [2, 10, 127])
def test_up_to_127_classes_8_bits_err_by_three_quarters_of_a_step(n: int) -> None:
    assert _stated(_layer((1, n), 1, Quant(S8, 0.1), 8)) <= 0.75


def test_rounding_that_always_errs_the_same_way() -> None:
    """999 classes whose table entry is half a step off: the sum is where errors gather."""
    x = Quant(S8, math.log(65535 / 0.5) / 254)
    case = _layer((1, 1000), 1, x, 8)
    q = np.full((1, 1, 1000), -127)
    q[..., 17] = 127
    assert np.abs(run(case, [q]) - _exact(case, q)).max() <= 0.75


def test_one_class_is_certain_and_equal_classes_share() -> None:
    one = _layer((4, 1), 1, Quant(S8, 0.1), 8)
    assert run(one, [np.array([[[5], [-127], [0], [127]]])]).tolist() == [[[255]] * 4]
    three = _layer((1, 3), 1, Quant(S8, 0.1), 8)
    assert run(three, [np.array([[[9, 9, 9]]])]).tolist() == [[[85, 85, 85]]]
    two = _layer((1, 2), 1, Quant(S8, 0.1), 8)  # 127.5 rounds up
    assert run(two, [np.array([[[9, 9]]])]).tolist() == [[[128, 128]]]


@pytest.mark.parametrize("bits", BITS)
def test_zero_and_one_are_exact(bits: int) -> None:
    scale, signed = Softmax.output_scale(CASES[0].graph, CASES[0].node, bits)
    assert not signed
    assert scale * ((1 << bits) - 1) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(
    ("shape", "axis", "ops"),
    [
        ((1, 5, 3, 4), 1, ["reshape", "softmax", "reshape"]),
        ((2, 5, 3, 1), 2, ["softmax"]),
        ((1, 5, 1, 1), 1, ["softmax"]),
        ((2, 6), None, ["softmax"]),
    ],
)
def test_before_opset_13_all_axes_from_the_given_one_count(
    shape: Shape, axis: int | None, ops: list[str]
) -> None:
    attrs: dict[str, Any] = {} if axis is None else {"axis": axis}
    node = helper.make_node("Softmax", ["x"], ["y"], **attrs)
    graph = read(model("m", [node], {"x": shape}, ["y"], opset=11))
    assert [n.op for n in graph.nodes()] == ops


def test_the_axis_follows_a_transpose() -> None:
    x = np.random.default_rng(0).normal(size=(2, 1, 3, 4, 5)).astype(np.float32)
    perm = (0, 2, 3, 1)
    moved = Softmax.permute(Attrs(3), perm, 4)
    axes = (0, *(p + 1 for p in perm))
    left = Softmax.run_float(Attrs(3), [x.transpose(axes)])
    np.testing.assert_array_equal(left, Softmax.run_float(moved, [x]).transpose(axes))


def test_channels_pass_unless_they_are_what_is_summed() -> None:
    roles = [Softmax.channel_role(c.graph, c.node) for c in CASES[:17:16]]
    assert roles == ["block", "pass"]


def test_sixteen_bits_in_and_eight_out() -> None:
    case = _layer((1, 10), 1, Quant(S16, 1e-3), 8)
    (call,) = Softmax.calls(case.graph, case.node)
    assert call.kernel.header == "qcc_softmax16.h"


def test_the_number_that_a_symmetric_format_lacks_stays_inside_the_table() -> None:
    case = _layer((1, 3), 1, Quant(S8, 0.05), 8)
    x = np.array([[[-128, 127, 0]]], np.int64)
    assert Softmax.run_int(case.graph, case.node, [x]).tolist() == [[[0, 255, 0]]]
    (call,) = Softmax.calls(case.graph, case.node)
    (table,) = (a for a in call.args if isinstance(a, CArray))
    assert table.data.size == 256
