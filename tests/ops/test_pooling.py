"""max_pool2d, avg_pool2d, reduce_mean: float meaning, integers, bounds, compiled kernels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc import reference
from qcc.errors import UnsupportedError
from qcc.ir import Graph, Node, QType, Shape
from qcc.ops import OPS, Op, mean
from qcc.ops.avg_pool2d import AvgPool2d
from qcc.ops.base import Interval
from qcc.ops.examples import model
from qcc.ops.max_pool2d import MaxPool2d
from qcc.ops.reduce_mean import ReduceMean
from tests.ops.kernel_harness import (
    Case,
    cases,
    check_compiled,
    check_float,
    check_interval,
    check_rounding,
    quantized,
    random_inputs,
    read,
    run_node,
    run_onnx,
    samples,
)

POOLS: tuple[type[Op], ...] = (MaxPool2d, AvgPool2d, ReduceMean)
MEANS = [case for op in (AvgPool2d, ReduceMean) for case in cases(op)]
MAXIMA = list(cases(MaxPool2d))


@pytest.mark.parametrize("op", POOLS, ids=lambda op: op.name)
def test_examples_mean_what_onnxruntime_says(op: type[Op]) -> None:
    check_float(op)


@pytest.mark.parametrize("op", POOLS, ids=lambda op: op.name)
def test_kernels_equal_the_reference(op: type[Op], tmp_path: Path) -> None:
    check_compiled([c for c in (*MEANS, *MAXIMA) if c.node.op == op.name], tmp_path)


@pytest.mark.parametrize("case", MEANS, ids=lambda c: c.name)
def test_means_are_rounded_to_nearest(case: Case) -> None:
    check_rounding(case)


@pytest.mark.parametrize("case", [*MEANS, *MAXIMA], ids=lambda c: c.name)
def test_intervals_hold_every_output(case: Case) -> None:
    check_interval(case)


@pytest.mark.parametrize("case", MAXIMA, ids=lambda c: c.name)
def test_maxima_of_integers_are_those_of_reals(case: Case) -> None:
    x = random_inputs(case.graph, case.node)
    expected = MaxPool2d.run_float(case.node.attrs, [x.astype(np.float32)])
    assert np.array_equal(run_node(case.graph, case.node, x), expected)


@pytest.mark.parametrize("case", MEANS, ids=lambda c: c.name)
def test_bounds_are_reached(case: Case) -> None:
    graph, node = case.graph, case.node
    q = graph.quant(node.inputs[0]).qtype
    x = random_inputs(graph, node, count=2)  # all at the least, all at the largest value
    y = run_node(graph, node, x)
    lo, hi = OPS[node.op].interval(graph, node, [Interval.of(q.qmin, q.qmax)]).hull()
    assert (lo, hi) == (y.min(), y.max())


@pytest.mark.parametrize("axes", [[1], [3], [1, 2], [1, 3], [1, 2, 3]])
def test_known_channels_have_exact_means(axes: list[int]) -> None:
    graph = quantized(_pool("ReduceMean", (1, 4, 3, 5), axes=axes), "fixed-point")
    node = _layer(graph, "reduce_mean")
    values = np.array([3, -20, 7, 0, 11])
    x = np.broadcast_to(values, (1, 1, 4, 3, 5))
    y = run_node(graph, node, x)
    out = ReduceMean.interval(graph, node, [Interval(values, values)]).expand(y.shape[-1])
    assert np.array_equal(out.lo, out.hi)
    assert np.array_equal(np.broadcast_to(out.lo, y.shape), y)


# -- integer rules --------------------------------------------------------------------------------


def _pool(op: str, x: Shape, **attrs: Any) -> onnx.ModelProto:
    return model("m", [helper.make_node(op, ["x"], ["y"], **attrs)], {"x": x}, ["y"])


def _layer(graph: Graph, op: str) -> Node:
    (node,) = (n for n in graph.nodes() if n.op == op)
    return node


def test_halves_are_rounded_up() -> None:
    graph = quantized(_pool("AveragePool", (1, 1, 2, 1), kernel_shape=[2, 1]), "single-shift")
    node = _layer(graph, "avg_pool2d")
    (factor,) = node.attrs.rescale.alphas
    x = np.array([[3, 4], [-3, -4]]).reshape(2, 1, 2, 1, 1)
    y = run_node(graph, node, x).ravel()
    assert y.tolist() == [math.floor(7 * factor + 0.5), math.floor(-7 * factor + 0.5)]


@pytest.mark.parametrize("mode", ["single-shift", "double-shift"])
@pytest.mark.parametrize("op", ["avg_pool2d", "reduce_mean"])
def test_related_scales_make_a_shift_of_any_count(op: str, mode: Any) -> None:
    proto = {
        "avg_pool2d": _pool("AveragePool", (1, 2, 9, 9), kernel_shape=[3, 3]),
        "reduce_mean": _pool("GlobalAveragePool", (1, 2, 7, 3)),
    }[op]
    rescale = _layer(quantized(proto, mode), op).attrs.rescale
    assert rescale.mode == mode
    assert rescale.mult == (1,)


def test_unrelated_scales_fall_back_to_a_multiplier_and_say_so() -> None:
    proto = _pool("GlobalAveragePool", (1, 2, 7, 3))
    rescale = _layer(quantized(proto, "single-shift", honour=False), "reduce_mean").attrs.rescale
    assert rescale.mode == "fixed-point"
    assert rescale.mult[0] > 1


def test_windows_that_count_differently_ask_for_no_scale() -> None:
    proto = _pool("AveragePool", (1, 1, 4, 4), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph = quantized(proto, "single-shift")
    node = _layer(graph, "avg_pool2d")
    assert AvgPool2d.relation(graph, node) is None
    assert len(node.attrs.table.mult) == 4  # 2 or 3 rows, 2 or 3 columns
    assert node.attrs.rescale.mult == node.attrs.table.mult[-1:]


def test_a_constant_image_keeps_its_value_at_the_border() -> None:
    proto = _pool("AveragePool", (1, 1, 5, 5), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph = quantized(proto, "fixed-point")
    node = _layer(graph, "avg_pool2d")
    y = run_node(graph, node, np.full((1, 1, 5, 5, 1), 100))
    assert len(np.unique(y)) == 1
    out = AvgPool2d.interval(graph, node, [Interval.of(100, 100)])
    assert out.lo.tolist() == out.hi.tolist() == np.unique(y).tolist()


@pytest.mark.parametrize("qtype", [QType(8), QType(8, False), QType(4), QType(16)], ids=str)
@pytest.mark.parametrize("count", [1, 7, 49, 1 << 12, 1 << 20, 1 << 28])
def test_products_of_sums_fit_64_bits_and_32_where_multipliers_stay_precise(
    qtype: QType, count: int
) -> None:
    bound = mean.sum_bound(count, qtype)
    for alpha in (0.3 / count, 1 / count, 3.7 / count, 1e-30, 1e30):
        r = mean.rescale([alpha], "single-shift", bound)
        assert r.max_product(bound) < 1 << 63
        if bound < 1 << 14 and alpha * count <= 4:  # 30 bits hold 16 of the multiplier
            assert r.max_product(bound) < 1 << 31
        if alpha * bound > 1 and alpha * count <= 4:
            assert r.alphas[0] == pytest.approx(alpha, rel=2.0**-15)


def test_a_last_window_that_runtimes_drop_is_refused() -> None:
    # Shape inference counts it, runtimes do not: it starts beyond the input.
    with pytest.raises(UnsupportedError, match="in the padding entirely"):
        read(_pool("MaxPool", (1, 1, 9), kernel_shape=[3], strides=[3], pads=[0, 1], ceil_mode=1))


def test_extreme_factors_saturate_or_vanish() -> None:
    tiny, huge = (mean.rescale([a], "fixed-point", 1000) for a in (1e-30, 1e30))
    assert tiny.apply(np.array([-1000, 1000])).tolist() == [0, 0]
    assert np.all(np.abs(huge.apply(np.array([-1, 1]))) > 1 << 16)
    assert huge.apply(np.array([0])).tolist() == [0]


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("size", [(7, 7), (8, 8), (9, 10), (10, 11)])
def test_the_overhang_of_ceil_mode_never_counts(size: tuple[int, int], include: int) -> None:
    proto = _pool(
        "AveragePool", (1, 2, *size), kernel_shape=[3, 3], strides=[2, 3], pads=[1, 0, 1, 1],
        ceil_mode=1, count_include_pad=include,
    )  # fmt: skip
    graph = read(proto)
    fed = samples(graph)
    found = reference.run_float(graph, fed)[graph.outputs[0]]
    np.testing.assert_allclose(found, run_onnx(proto, fed), 1e-5, 1e-6)


def test_indices_are_refused() -> None:
    pool = helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])
    with pytest.raises(UnsupportedError, match="Indices"):
        read(model("m", [pool], {"x": (1, 1, 4, 4)}, ["y"]))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_three_dimensions_are_refused(op: str) -> None:
    with pytest.raises(UnsupportedError, match="3 dimensions"):
        read(_pool(op, (1, 1, 4, 4, 4), kernel_shape=[2, 2, 2]))


def test_a_window_of_padding_only_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="in the padding entirely"):
        read(_pool("MaxPool", (1, 1, 4, 4), kernel_shape=[2, 2], pads=[2, 0, 0, 0]))


def test_a_mean_over_axes_of_size_one_is_a_reshape() -> None:
    graph = read(_pool("ReduceMean", (1, 1, 5), axes=[0, 1], keepdims=0))
    assert [n.op for n in graph.nodes()] == ["reshape"]


# -- layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1, 3)])
def test_a_mean_commutes_with_a_transpose(perm: tuple[int, ...]) -> None:
    graph = read(_pool("ReduceMean", (1, 3, 4, 5), axes=[1, 2]))
    attrs = _layer(graph, "reduce_mean").attrs
    x = np.random.default_rng(3).normal(size=(2, 1, 3, 4, 5)).astype(np.float32)
    lifted = (0, *(p + 1 for p in perm))
    before = ReduceMean.run_float(attrs, [x.transpose(lifted)])
    moved = ReduceMean.permute(attrs, perm, 4)
    np.testing.assert_allclose(before, ReduceMean.run_float(moved, [x]).transpose(lifted), 1e-5)


def test_channels_pass_unless_they_are_reduced() -> None:
    space = read(_pool("GlobalAveragePool", (1, 3, 4, 5)))
    node = _layer(space, "reduce_mean")
    assert ReduceMean.channel_role(space, node) == "block"  # as read, NCHW: the last axis is W
    node.attrs = ReduceMean.permute(node.attrs, (0, 3, 1, 2), 4)
    assert node.attrs.axes == (1, 2)
    assert OPS["reduce_mean"].channel_role(space, node) == "pass"


@pytest.mark.parametrize(
    ("op", "attrs", "weights"),
    [
        ("MaxPool", {"kernel_shape": [2, 2]}, None),
        ("GlobalMaxPool", {}, None),
        ("AveragePool", {"kernel_shape": [2, 2]}, None),
        ("Conv", {}, (5, 3, 3, 3)),
        ("ConvTranspose", {}, (3, 2, 3, 3)),
    ],
)
def test_several_images_at_once_are_refused(
    op: str, attrs: dict[str, Any], weights: Shape | None
) -> None:
    """The kernels read one: a batch that a Reshape makes inside the model is refused."""
    constants = {"s": np.array([2, 3, 4, 4], np.int64)}
    if weights is not None:
        constants["w"] = np.ones(weights, np.float32)
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["r"]),
        helper.make_node(op, ["r", "w"] if weights else ["r"], ["y"], **attrs),
    ]
    with pytest.raises(UnsupportedError, match="batch"):
        read(model("batch", nodes, {"x": (1, 6, 4, 4)}, ["y"], constants))
