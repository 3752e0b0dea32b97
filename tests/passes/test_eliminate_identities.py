"""eliminate_identities: what moves nothing goes, and only that."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.frontend.onnx_reader import read_onnx
from qcc.ir import Array, Graph, Origin
from qcc.passes.eliminate_identities import eliminate_identities
from tests.graphs import CONFIG, apply_checked, node, ops, proto

X = (1, 3, 4, 4)


def ints(**values: list[int]) -> dict[str, Array]:
    return {k: np.array(v, np.int64) for k, v in values.items()}


def between(*middle: onnx.NodeProto, **constants: Array) -> Graph:
    """x -> Sigmoid -> a -> *middle* -> b -> Tanh -> y."""
    nodes = [node("Sigmoid", "x", "a"), *middle, node("Tanh", "b", "y")]
    return read_onnx(proto(nodes, X, constants=constants), "m")


RESIZE = helper.make_node("Resize", ["a", "", "s"], ["b"], mode="nearest")
IDENTITIES = {
    "identity": between(node("Identity", "a", "b")),
    "reshape": between(node("Reshape", "a s", "b"), **ints(s=[1, 3, 4, 4])),
    "transpose": between(node("Transpose", "a", "b", perm=[0, 1, 2, 3])),
    "slice": between(node("Slice", "a lo hi", "b"), **ints(lo=[0] * 4, hi=[9] * 4)),
    "pad": between(node("Pad", "a p", "b"), **ints(p=[0] * 8)),
    "concat": between(node("Concat", "a", "b", axis=2)),
    "resize": between(RESIZE, s=np.ones(4, np.float32)),
    "pool": between(node("MaxPool", "a", "b", kernel_shape=[1, 1])),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_an_identity_goes(name: str) -> None:
    graph = IDENTITIES[name]
    assert apply_checked(graph, eliminate_identities) > 0
    assert ops(graph) == ["unary", "unary"]


MOVERS = {
    "slice": between(
        node("Slice", "a lo hi ax st", "b"), **ints(lo=[-1], hi=[-9], ax=[3], st=[-1])
    ),
    "transpose": between(node("Transpose", "a", "b", perm=[0, 1, 3, 2])),
    # The maximum of ascending elements over a window that ends at each is each.
    "max_pool2d": between(node("MaxPool", "a", "b", kernel_shape=[1, 2], pads=[0, 1, 0, 0])),
    "max_pool2d after": between(node("MaxPool", "a", "b", kernel_shape=[1, 2], pads=[0, 0, 0, 1])),
}
"""Operators that keep the shape and yet do something."""


@pytest.mark.parametrize("name", MOVERS)
def test_what_moves_elements_stays(name: str) -> None:
    graph = MOVERS[name]
    apply_checked(graph, eliminate_identities)
    assert name.split()[0] in ops(graph)


def test_chains_become_one() -> None:
    graph = between(
        node("Transpose", "a", "p", perm=[0, 2, 3, 1]),
        node("Transpose", "p", "q", perm=[0, 2, 1, 3]),
        node("Reshape", "q s", "r"),
        node("Flatten", "r", "b"),
        **ints(s=[3, 16]),
    )
    assert apply_checked(graph, eliminate_identities) == 2
    assert ops(graph) == ["unary", "transpose", "reshape", "unary"]
    (moved,) = (n for n in graph.nodes() if n.op == "transpose")
    assert moved.attrs.perm == (0, 3, 2, 1)


def test_inverse_transposes_vanish_and_the_value_keeps_its_name() -> None:
    graph = between(
        node("Transpose", "a", "p", perm=[0, 2, 3, 1]),
        node("Transpose", "p", "b", perm=[0, 3, 1, 2]),
    )
    apply_checked(graph, eliminate_identities)
    assert [n.output for n in graph.nodes()] == ["a", "y"]


def test_a_transpose_of_axes_of_size_one_is_a_reshape() -> None:
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Tanh", "t", "y")]
    graph = read_onnx(proto(nodes, (1, 1, 1, 6)), "m")
    assert apply_checked(graph, eliminate_identities) == 1
    assert ops(graph) == ["reshape", "unary"]


def test_a_nameless_tensor_takes_the_name_of_its_view() -> None:
    """conv2d writes what the source model calls c, transposed."""
    w = {"w": np.ones((2, 3, 1, 1), np.float32)}
    nodes = [node("Conv", "x w", "c"), node("Conv", "c v", "y")]
    v = {"v": np.ones((2, 2, 1, 1), np.float32)}
    graph = read_onnx(proto(nodes, X, constants=w | v), "m")
    apply_checked(graph, eliminate_identities)
    (first, _) = (n for n in graph.nodes() if n.op == "conv2d")
    assert first.output == "c"
    assert graph.tensor("c").origin == Origin("c", (0, 2, 3, 1))


def test_second_user_keeps_the_first_of_a_chain() -> None:
    nodes = [
        node("Transpose", "x", "p", perm=[0, 2, 3, 1]),
        node("Transpose", "p", "q", perm=[0, 2, 1, 3]),
        node("Tanh", "p", "y"),
        node("Tanh", "q", "z"),
    ]
    graph = read_onnx(proto(nodes, X, outputs="y z"), "m")
    apply_checked(graph, eliminate_identities)
    assert ops(graph).count("transpose") == 2
    assert all(n.inputs == ("x",) for n in graph.nodes() if n.op == "transpose")


def test_an_output_keeps_its_name() -> None:
    nodes = [node("Tanh", "x", "t"), node("Sigmoid", "t", "z"), node("Identity", "t", "y")]
    graph = read_onnx(proto(nodes, X, outputs="y z"), "m")
    apply_checked(graph, eliminate_identities)
    assert graph.outputs == ["y", "z"]
    assert ops(graph) == ["unary", "unary"]


def test_an_output_that_is_an_input_or_another_output_stays_apart() -> None:
    nodes = [node("Tanh", "x", "t"), node("Identity", "t", "y"), node("Identity", "x", "z")]
    graph = read_onnx(proto(nodes, X, outputs="t y z"), "m")
    text = str(graph)
    assert eliminate_identities(graph, CONFIG) == 0
    assert str(graph) == text
