"""fuse_padding: pads vanish into what reads them, where the result stays the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from qcc.ir import Array, Graph, Node
from qcc.ops.examples import normal
from qcc.passes.fuse_padding import fuse_padding
from tests.graphs import apply_checked, channel_last, node, ops, proto

W = {"w": normal((4, 3, 3, 3))}
AROUND = [0, 0, 1, 2, 0, 0, 3, 0]


def padded(
    pads: list[int],
    *readers: onnx.NodeProto,
    before: str = "Identity",
    value: float = 0.0,
    outputs: str = "y",
) -> Graph:
    """x -> *before* -> a -> Pad -> p -> *readers*, channel last."""
    constants: dict[str, Array] = {"pads": np.array(pads, np.int64), **W}
    constants["value"] = np.array(value, np.float32)
    nodes = [node(before, "x", "a"), node("Pad", "a pads value", "p"), *readers]
    used = {name for n in nodes for name in n.input}
    constants = {k: v for k, v in constants.items() if k in used}
    return channel_last(proto(nodes, (1, 3, 7, 8), outputs, constants))


def only(graph: Graph, op: str) -> Node:
    (found,) = (n for n in graph.nodes() if n.op == op)
    return found


CONV = node("Conv", "p w", "y", pads=[1, 0, 0, 1])


def test_into_a_convolution() -> None:
    graph = padded(AROUND, CONV)
    assert apply_checked(graph, fuse_padding) == 1
    assert ops(graph) == ["conv2d"]
    assert only(graph, "conv2d").attrs.pads == (2, 2, 3, 1)  # top, left, bottom, right


def test_two_pads_in_a_row() -> None:
    graph = padded(AROUND, node("Pad", "p pads", "q"), node("Conv", "q w", "y"), outputs="y")
    assert apply_checked(graph, fuse_padding) == 2
    assert only(graph, "conv2d").attrs.pads == (2, 4, 6, 0)


@pytest.mark.parametrize(
    ("pads", "value"), [(AROUND, 0.5), ([0, 1, 1, 2, 0, 0, 3, 0], 0.0)], ids=["value", "channels"]
)
def test_other_pads_stay(pads: list[int], value: float) -> None:
    weights = normal((4, 3 + pads[1], 3, 3))
    constants: dict[str, Array] = {"w": weights, "pads": np.array(pads, np.int64)}
    constants["value"] = np.array(value, np.float32)
    nodes = [node("Pad", "x pads value", "p"), node("Conv", "p w", "y")]
    graph = channel_last(proto(nodes, (1, 3, 7, 8), constants=constants))
    assert apply_checked(graph, fuse_padding) == 0
    assert ops(graph) == ["pad", "conv2d"]


def test_a_pad_with_another_reader_stays_for_that_one() -> None:
    graph = padded(AROUND, CONV, node("Tanh", "p", "z"), outputs="y z")
    assert apply_checked(graph, fuse_padding) == 1
    assert sorted(ops(graph)) == ["conv2d", "pad", "unary"]
    assert only(graph, "conv2d").inputs[0] == "x"


def test_a_pad_that_is_an_output_stays() -> None:
    graph = padded(AROUND, CONV, outputs="y p")
    assert apply_checked(graph, fuse_padding) == 1
    assert "pad" in ops(graph)


@pytest.mark.parametrize("include", [0, 1])
def test_into_an_average_its_zeros_count(include: int) -> None:
    pool = node(
        "AveragePool", "p", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=include
    )
    graph = padded(AROUND, pool)
    assert apply_checked(graph, fuse_padding) == 1
    pool_attrs = only(graph, "avg_pool2d").attrs
    assert pool_attrs.pads == (2, 3, 4, 1)
    assert pool_attrs.counted == ((2, 3, 4, 1) if include else (1, 2, 3, 0))


MAXIMUM = node("MaxPool", "p", "y", kernel_shape=[4, 3], strides=[2, 2])


def test_into_a_maximum_of_what_is_not_negative() -> None:
    graph = padded(AROUND, MAXIMUM, before="Sigmoid")
    assert apply_checked(graph, fuse_padding) == 1
    assert ops(graph) == ["unary", "max_pool2d"]


def test_the_least_number_never_wins() -> None:
    least = float(np.finfo(np.float32).min)
    graph = padded(AROUND, MAXIMUM, before="HardSigmoid", value=least)
    assert apply_checked(graph, fuse_padding) == 1


def test_zero_may_win_over_negative_values() -> None:
    graph = padded(AROUND, MAXIMUM, before="Tanh")
    assert apply_checked(graph, fuse_padding) == 0


def test_a_window_of_padding_only_stays() -> None:
    pool = node("MaxPool", "p", "y", kernel_shape=[3, 3])
    graph = padded([0, 0, 0, 0, 0, 0, 3, 0], pool, before="Sigmoid")
    assert apply_checked(graph, fuse_padding) == 0
    apart = node("MaxPool", "p", "y", kernel_shape=[2, 2], dilations=[9, 1])
    graph = padded([0, 0, 1, 0, 0, 0, 2, 0], apart, before="Sigmoid")
    assert apply_checked(graph, fuse_padding) == 0
