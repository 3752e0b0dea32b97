"""fold_constants: nodes on constants are evaluated, whatever operator they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcc.frontend.onnx_reader import read_onnx
from qcc.ir import Graph, Node, QType, Quant, Tensor
from qcc.ops import OPS, concat, reshape, transpose
from qcc.ops.examples import normal
from qcc.passes.fold_constants import fold_constants
from tests.graphs import CONFIG, apply_checked, node, ops, proto

C = normal((1, 3, 2), seed=4)


def adding_constant() -> Graph:
    """y = x + c, both (1, 2, 3)."""
    constants = {"c": normal((1, 2, 3), seed=5)}
    return read_onnx(proto([node("Add", "x c", "y")], (1, 2, 3), constants=constants), "m")


def feed(graph: Graph, op: str, inputs: list[str], attrs: Any) -> str:
    """Let the addition read ``op(inputs)`` instead of its constant."""
    (add,) = (n for n in graph.nodes() if n.op == "add")
    shape = OPS[op].infer(attrs, [graph.shape(t) for t in inputs])
    name = graph.add_tensor(Tensor(graph.fresh(op), shape)).name
    graph.add_node(Node(f"{name}:node", op, tuple(inputs), (name,), attrs))
    old = add.inputs[1]
    graph.set_inputs(add, (add.inputs[0], name))
    graph.remove_if_unused(old)
    return name


def test_a_transposed_constant_is_a_constant() -> None:
    graph = adding_constant()
    name = feed(graph, "transpose", [graph.add_constant("k", C)], transpose.Attrs((0, 2, 1)))
    assert fold_constants(graph, CONFIG) == 1
    assert ops(graph) == ["add"]
    np.testing.assert_array_equal(graph.constant(name), C.transpose(0, 2, 1))
    assert "k" not in graph


def test_chains_and_operators_with_two_operands_fold() -> None:
    graph = adding_constant()
    a, b = graph.add_constant("a", C[:, :1]), graph.add_constant("b", C[:, 1:])
    joined = feed(graph, "concat", [a, b], concat.Attrs(1))
    feed(graph, "reshape", [joined], reshape.Attrs((1, 2, 3)))
    assert fold_constants(graph, CONFIG) == 2
    graph.verify()
    assert fold_constants(graph, CONFIG) == 0
    (add,) = graph.nodes()
    np.testing.assert_array_equal(graph.constant(add.inputs[1]), C.reshape(1, 2, 3))


def test_one_constant_operand_is_not_enough() -> None:
    graph = adding_constant()
    assert apply_checked(graph, fold_constants) == 0


def test_a_constant_with_another_reader_stays() -> None:
    graph = adding_constant()
    k = graph.add_constant("k", C)
    feed(graph, "transpose", [k], transpose.Attrs((0, 2, 1)))
    (add,) = (n for n in graph.nodes() if n.op == "add")
    graph.add_tensor(Tensor("z", (1, 5, 2)))
    graph.add_tensor(Tensor("w", (1, 2, 2)))
    graph.inputs.append("w")
    graph.add_node(Node("z:concat", "concat", (k, "w"), ("z",), concat.Attrs(1)))
    graph.outputs.append("z")
    assert fold_constants(graph, CONFIG) == 1
    assert graph.is_constant(add.inputs[1])
    assert k in graph


def test_integer_constants_and_outputs_are_left_alone() -> None:
    graph = adding_constant()
    data = np.ones((1, 3, 2), np.int64)
    k = graph.add_constant("k", data, Quant(QType(8), 0.5))
    name = feed(graph, "transpose", [k], transpose.Attrs((0, 2, 1)))
    assert fold_constants(graph, CONFIG) == 0
    graph.tensor(k).quant = None
    graph.outputs.append(name)
    assert fold_constants(graph, CONFIG) == 0
