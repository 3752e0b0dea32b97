"""dense: Gemm and MatMul against onnxruntime, its integers against its C."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.config import ScaleMode
from qcc.errors import UnsupportedError
from qcc.ir import Shape
from qcc.ops.base import Interval
from qcc.ops.dense import Dense
from qcc.ops.examples import model, normal
from tests.build import SANITIZE, check_on_host, compiled
from tests.ops.kernel_harness import (
    Case,
    cases,
    check_compiled,
    check_float,
    check_interval,
    check_rounding,
    quantized,
    read,
)

ALL = list(cases(Dense))


def test_examples_mean_what_onnxruntime_says() -> None:
    check_float(Dense)


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.name)
def test_integers_are_rounded_to_nearest(case: Case) -> None:
    check_rounding(case)


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.name)
def test_intervals_hold_every_output(case: Case) -> None:
    check_interval(case)


def test_the_kernel_equals_the_reference(tmp_path: Path) -> None:
    check_compiled(ALL, tmp_path)


def test_constant_inputs_make_exact_intervals() -> None:
    case = ALL[0]
    n = case.graph.shape(case.node.inputs[0])[-1]
    values = np.arange(n) - 3
    out = Dense.interval(case.graph, case.node, [Interval(values, values)])
    assert np.array_equal(out.lo, out.hi)


def test_macs_count_every_row() -> None:
    graph = quantized(_matmul((1, 3, 4, 5), (5, 7)), "single-shift")
    (node,) = (n for n in graph.nodes() if n.op == "dense")
    assert Dense.macs(graph, node) == 3 * 4 * 5 * 7


def _matmul(x: Shape, w: Shape) -> onnx.ModelProto:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return model("m", [node], {"x": x}, ["y"], {"w": normal(w)})


def test_two_activations_are_refused() -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    with pytest.raises(UnsupportedError, match="both operands are computed at run time"):
        read(model("m", [node], {"a": (2, 3), "b": (3, 4)}, ["y"]))


def test_a_stack_of_matrices_is_refused() -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    proto = model("m", [node], {"x": (2, 3, 4)}, ["y"], {"w": normal((2, 4, 5))})
    with pytest.raises(UnsupportedError, match="only one matrix"):
        read(proto)


def test_an_addend_that_differs_between_rows_is_refused() -> None:
    node = helper.make_node("Gemm", ["x", "w", "c"], ["y"])
    consts = {"w": normal((3, 4)), "c": normal((2, 1))}
    with pytest.raises(UnsupportedError, match="differs from row to row"):
        read(model("m", [node], {"x": (2, 3)}, ["y"], consts))


def test_an_addend_of_equal_rows_is_a_bias() -> None:
    node = helper.make_node("Gemm", ["x", "w", "c"], ["y"])
    row = normal((1, 4), seed=9)
    consts = {"w": normal((3, 4)), "c": np.repeat(row, 2, axis=0)}
    graph = read(model("m", [node], {"x": (2, 3)}, ["y"], consts))
    (dense,) = graph.nodes()
    np.testing.assert_array_equal(graph.constant(dense.inputs[2]), row[0])


def test_an_addend_computed_at_run_time_is_refused() -> None:
    node = helper.make_node("Gemm", ["x", "w", "c"], ["y"])
    proto = model("m", [node], {"x": (2, 3), "c": (4,)}, ["y"], {"w": normal((3, 4))})
    with pytest.raises(UnsupportedError, match="the addend"):
        read(proto)


@pytest.mark.parametrize("mode", ["single-shift", "double-shift", "fixed-point"])
@pytest.mark.parametrize("size", [1e5, 1e8, 1e20])
def test_weights_far_beyond_a_clip_saturate_it(
    mode: ScaleMode, size: float, tmp_path: Path
) -> None:
    """The factor to the output's scale has no multiplier of 31 bits."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Clip", ["m", "lo", "hi"], ["y"]),
    ]
    constants = {
        "w": normal((8, 4)) * np.float32(size),
        "lo": np.array(-1e-3, np.float32),
        "hi": np.array(1e-3, np.float32),
    }
    done = compiled(model("saturating", nodes, {"x": (1, 8)}, ["y"], constants), scale=mode)
    assert done.sqnr_db["y"] > 40
    assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=["-O1", *SANITIZE])
