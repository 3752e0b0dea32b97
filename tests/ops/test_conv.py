"""conv2d, its depthwise kernel, conv_transpose2d: float meaning, integers, compiled kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.errors import UnsupportedError
from qcc.ir import Shape
from qcc.ops import OPS, Op
from qcc.ops.base import Interval
from qcc.ops.conv2d import Conv2d
from qcc.ops.conv2d_depthwise import depthwise_call, is_depthwise
from qcc.ops.conv_transpose2d import ConvTranspose2d
from qcc.ops.examples import model, normal
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

CONVS: tuple[type[Op], ...] = (Conv2d, ConvTranspose2d)
ALL = [case for op in CONVS for case in cases(op)]


@pytest.mark.parametrize("op", CONVS, ids=lambda op: op.name)
def test_examples_mean_what_onnxruntime_says(op: type[Op]) -> None:
    check_float(op)


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.name)
def test_integers_are_rounded_to_nearest(case: Case) -> None:
    check_rounding(case)


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.name)
def test_intervals_hold_every_output(case: Case) -> None:
    check_interval(case)


@pytest.mark.parametrize("op", CONVS, ids=lambda op: op.name)
def test_kernels_equal_the_reference(op: type[Op], tmp_path: Path) -> None:
    check_compiled([c for c in ALL if c.node.op == op.name], tmp_path)


# -- depthwise ------------------------------------------------------------------------------------


def _conv(op: str, x: Shape, w: Shape, **attrs: Any) -> onnx.ModelProto:
    node = helper.make_node(op, ["x", "w"], ["y"], **attrs)
    return model("m", [node], {"x": x}, ["y"], {"w": normal(w, seed=4)})


DEPTHWISE: dict[str, tuple[Shape, Shape, dict[str, Any]]] = {
    "one": ((1, 1, 5, 5), (1, 1, 3, 3), {"pads": [1, 1, 1, 1]}),
    "three": ((1, 3, 6, 5), (3, 1, 3, 3), {"group": 3, "pads": [0, 2, 1, 1]}),
    "four": ((1, 4, 6, 5), (4, 1, 3, 2), {"group": 4, "strides": [2, 3]}),
    "eleven": ((1, 11, 9, 8), (11, 1, 5, 4), {"group": 11, "pads": [4, 3, 2, 1]}),
    "dilated": (
        (1, 8, 9, 7),
        (8, 1, 3, 3),
        {"group": 8, "dilations": [2, 3], "pads": [2, 3, 2, 3]},
    ),
    "multiplied": ((1, 5, 6, 6), (15, 1, 3, 3), {"group": 5, "pads": [1, 1, 1, 1]}),
    "wholly_outside": ((1, 4, 3, 3), (4, 1, 2, 2), {"group": 4, "pads": [3, 3, 2, 2]}),
}


def _conv_cases(models: dict[str, tuple[Shape, Shape, dict[str, Any]]]) -> list[Case]:
    found = []
    for name, (x, w, attrs) in models.items():
        for mode in ("single-shift", "double-shift", "fixed-point"):
            graph = quantized(_conv("Conv", x, w, **attrs), mode)
            found += [Case(f"{name}-{mode}", graph, n) for n in graph.nodes() if n.op == "conv2d"]
    return found


def test_the_depthwise_kernel_equals_the_reference(tmp_path: Path) -> None:
    layers = _conv_cases(DEPTHWISE)
    assert all(is_depthwise(c.graph, c.node) for c in layers)
    check_compiled(layers, tmp_path, [depthwise_call(c.graph, c.node) for c in layers])


def test_the_general_kernel_equals_the_reference_on_the_same_windows(tmp_path: Path) -> None:
    models = {
        name: (x, (w[0], x[1], *w[2:]), {**attrs, "group": 1})
        for name, (x, w, attrs) in DEPTHWISE.items()
    }
    check_compiled(_conv_cases(models), tmp_path)


def test_grouped_layers_are_not_depthwise() -> None:
    graph = quantized(_conv("Conv", (1, 6, 4, 4), (6, 2, 3, 3), group=3), "single-shift")
    (node,) = (n for n in graph.nodes() if n.op == "conv2d")
    assert not is_depthwise(graph, node)


# -- transposed -----------------------------------------------------------------------------------


def test_output_padding_rows_hold_the_bias_alone() -> None:
    proto = _conv(
        "ConvTranspose", (1, 1, 2, 2), (1, 1, 1, 1), strides=[3, 3], output_padding=[2, 0]
    )
    graph = read(proto)
    (node,) = (n for n in graph.nodes() if n.op == "conv_transpose2d")
    assert node.attrs.pads == (0, 0, -2, 0)
    x = np.ones((1, 1, 2, 2, 1), np.float32)
    y = ConvTranspose2d.run_float(node.attrs, [x, graph.constant(node.inputs[1])])
    assert y.shape == (1, 1, 6, 4, 1)
    assert not y[:, :, 4:].any()
    assert y[0, 0, 0, 0, 0] != 0


def test_auto_pad_that_runtimes_disagree_on_is_refused() -> None:
    proto = _conv(
        "ConvTranspose", (1, 1, 4, 4), (1, 1, 2, 2), strides=[3, 3], auto_pad="SAME_UPPER"
    )
    with pytest.raises(UnsupportedError, match="auto_pad"):
        read(proto)


def test_an_output_beyond_the_taps_is_refused() -> None:
    proto = _conv("ConvTranspose", (1, 1, 4, 4), (1, 1, 2, 2), output_shape=[9, 9])
    with pytest.raises(UnsupportedError, match="the taps reach only 5"):
        read(proto)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_three_dimensions_are_refused(op: str) -> None:
    with pytest.raises(UnsupportedError, match="3 dimensions"):
        read(_conv(op, (1, 2, 4, 4, 4), (2, 2, 2, 2, 2)))


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_weights_computed_at_run_time_are_refused(op: str) -> None:
    node = helper.make_node(op, ["x", "w"], ["y"])
    proto = model("m", [node], {"x": (1, 2, 4, 4), "w": (2, 2, 3, 3)}, ["y"])
    with pytest.raises(UnsupportedError, match="the weights"):
        read(proto)


def test_macs_of_a_transposed_convolution_count_each_input_once_per_tap() -> None:
    graph = read(_conv("ConvTranspose", (1, 6, 4, 5), (6, 2, 3, 2), group=3, strides=[2, 2]))
    (node,) = (n for n in graph.nodes() if n.op == "conv_transpose2d")
    assert ConvTranspose2d.macs(graph, node) == 4 * 5 * 6 * 3 * 2 * 2


def test_channels_pass_through_a_depthwise_transposed_convolution_only() -> None:
    depthwise = read(_conv("ConvTranspose", (1, 4, 3, 3), (4, 1, 2, 2), group=4))
    dense = read(_conv("ConvTranspose", (1, 4, 3, 3), (4, 4, 2, 2)))
    roles = []
    for graph in (depthwise, dense):
        (node,) = (n for n in graph.nodes() if n.op == "conv_transpose2d")
        roles.append(OPS[node.op].channel_role(graph, node))
    assert roles == ["pass", "block"]


def test_selected_channels_compute_the_same_bits() -> None:
    graph = quantized(
        _conv("ConvTranspose", (1, 4, 3, 3), (4, 1, 2, 2), group=4, strides=[2, 1]), "single-shift"
    )
    (node,) = (n for n in graph.nodes() if n.op == "conv_transpose2d")
    x = np.random.default_rng(1).integers(-127, 128, (3, 1, 3, 3, 4))
    before = _run(graph, node, x)
    keep = np.array([0, 2, 3])
    ConvTranspose2d.select_channels(graph, node, keep)
    assert np.array_equal(_run(graph, node, x[..., keep]), before[..., keep])


def _run(graph: Any, node: Any, x: Any) -> Any:
    constants = [graph.constant(t).astype(np.int64) for t in node.inputs[1:]]
    return ConvTranspose2d.run_int(graph, node, [x, *constants])


def test_constant_inputs_make_exact_intervals_where_every_tap_is_hit() -> None:
    graph = quantized(_conv("ConvTranspose", (1, 3, 4, 4), (3, 5, 1, 1)), "single-shift")
    (node,) = (n for n in graph.nodes() if n.op == "conv_transpose2d")
    values = np.array([5, -3, 100])
    out = ConvTranspose2d.interval(graph, node, [Interval(values, values)])
    assert np.array_equal(out.lo, out.hi)
