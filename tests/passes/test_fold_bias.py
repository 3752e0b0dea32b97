"""fold_bias: which additions go into a bias, which stay, and that nothing else changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from qcc import reference
from qcc.config import Config
from qcc.ir import Array, Graph, Node, Origin, Shape, Tensor
from qcc.ops import OPS, conv2d, conv_transpose2d, dense
from qcc.ops.add import Attrs as Add
from qcc.ops.examples import normal
from qcc.passes.fold_bias import fold_bias

LAYERS: dict[str, tuple[Shape, Shape, Any]] = {
    "dense": ((1, 3, 6), (3, 6), dense.Attrs()),
    "conv2d": ((1, 5, 4, 6), (3, 2, 3, 6), conv2d.Attrs(pads=(1, 0, 1, 2))),
    "conv_transpose2d": ((1, 2, 3, 6), (3, 2, 2, 6), conv_transpose2d.Attrs(strides=(2, 1))),
}


def _graph(
    op: str = "dense",
    constant: Array | None = None,
    add: Add | None = None,
    *,
    bias: bool = False,
    constant_first: bool = False,
    **attrs: Any,
) -> Graph:
    """x -> layer -> c -> add of a constant -> y."""
    shape, weights, defaults = LAYERS[op]
    graph = Graph("g")
    graph.add_tensor(Tensor("x", shape, origin=Origin("x", tuple(range(len(shape))))))
    graph.inputs = ["x"]
    inputs = ["x", graph.add_constant("w", normal(weights, seed=1))]
    if bias:
        inputs.append(graph.add_constant("b", normal((3,), seed=2)))
    layer = Node("layer", op, tuple(inputs), ("c",), defaults, ("Layer",))
    layer.update(**attrs)
    c_shape = OPS[op].infer(layer.attrs, [graph.shape(t) for t in inputs])
    graph.add_tensor(Tensor("c", c_shape))
    graph.add_node(layer)
    if constant is None:
        constant = normal((*[1] * (len(c_shape) - 1), 3), seed=3)
    k = graph.add_constant("k", constant)
    operands = (k, "c") if constant_first else ("c", k)
    add = add or Add()
    y_shape = OPS["add"].infer(add, [graph.shape(t) for t in operands])
    graph.add_tensor(Tensor("y", y_shape, origin=Origin("y", tuple(range(len(y_shape))))))
    graph.add_node(Node("add", "add", operands, ("y",), add, ("Add",)))
    graph.outputs = ["y"]
    graph.verify()
    return graph


def _run(graph: Graph) -> Array:
    x = np.random.default_rng(0).normal(size=(3, *graph.shape("x"))).astype(np.float32)
    out = reference.run_float(graph, {"x": x})
    return np.asarray(out[graph.outputs[0]])


def _assert_folds(graph: Graph) -> Node:
    before = _run(graph)
    assert fold_bias(graph, Config()) == 1
    graph.verify()
    np.testing.assert_allclose(_run(graph), before, 1e-5, 1e-5)
    text = str(graph)
    assert fold_bias(graph, Config()) == 0
    assert str(graph) == text
    (node,) = graph.nodes()
    return node


def _assert_stays(graph: Graph) -> None:
    text = str(graph)
    assert fold_bias(graph, Config()) == 0
    assert str(graph) == text


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("op", LAYERS)
def test_a_constant_per_channel_becomes_bias(op: str, bias: bool) -> None:
    graph = _graph(op, bias=bias)
    node = _assert_folds(graph)
    assert node.op == op
    assert node.output == "y"
    assert node.sources == ("Layer", "Add")
    assert graph.tensor("y").origin == Origin("y", tuple(range(len(graph.shape("y")))))
    assert {t.name for t in graph.tensors()} == {"x", "w", "y", node.inputs[2]}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (1,)])
def test_signs_and_single_values(shape: Shape, sign: int) -> None:
    _assert_folds(_graph(constant=normal(shape, 4).reshape((1,) * (3 - len(shape)) + shape),
                         add=Add(sign=sign)))  # fmt: skip


def test_the_constant_may_come_first() -> None:
    _assert_folds(_graph(constant_first=True, bias=True))


def test_an_activation_of_the_addition_moves_to_the_layer() -> None:
    node = _assert_folds(_graph(add=Add(bounds=(0.0, 6.0))))
    assert node.attrs.bounds == (0.0, 6.0)


def test_additions_in_a_row_all_go() -> None:
    graph = _graph()
    graph.add_constant("k2", normal((1, 1, 3), seed=8))
    graph.add_tensor(Tensor("z", graph.shape("y")))
    graph.add_node(Node("add2", "add", ("y", "k2"), ("z",), Add(), ("Add2",)))
    graph.outputs = ["z"]
    before = _run(graph)
    assert fold_bias(graph, Config()) == 2
    np.testing.assert_allclose(_run(graph), before, 1e-5, 1e-5)


def test_a_constant_minus_a_layer_stays() -> None:
    _assert_stays(_graph(add=Add(sign=-1), constant_first=True))


def test_a_layer_with_its_own_activation_stays() -> None:
    _assert_stays(_graph(bounds=(0.0, math.inf)))


def test_a_constant_that_differs_between_rows_stays() -> None:
    _assert_stays(_graph(constant=normal((1, 3, 3))))
    _assert_stays(_graph(constant=normal((1, 3, 1))))


def test_a_constant_that_enlarges_the_output_stays() -> None:
    _assert_stays(_graph(constant=normal((2, 1, 3))))


def test_a_second_reader_keeps_the_addition() -> None:
    graph = _graph()
    graph.add_tensor(Tensor("z", graph.shape("c")))
    graph.add_constant("k2", normal((1, 1, 3)))
    graph.add_node(Node("other", "add", ("c", "k2"), ("z",), Add()))
    graph.outputs.append("z")
    _assert_stays(graph)


def test_an_output_of_the_graph_keeps_the_addition() -> None:
    graph = _graph()
    graph.outputs.append("c")
    _assert_stays(graph)


def test_a_bias_that_another_layer_reads_is_not_changed() -> None:
    graph = _graph(bias=True)
    graph.add_tensor(Tensor("z", graph.shape("c")))
    graph.add_node(Node("twin", "dense", ("x", "w", "b"), ("z",), dense.Attrs()))
    graph.outputs.append("z")
    old = graph.constant("b").copy()
    assert fold_bias(graph, Config()) == 1
    np.testing.assert_array_equal(graph.constant("b"), old)
    graph.verify()
