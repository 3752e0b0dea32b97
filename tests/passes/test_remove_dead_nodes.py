"""remove_dead_nodes: what no output needs goes, what one needs stays."""

from __future__ import annotations

import numpy as np

from qcc.frontend.onnx_reader import read_onnx
from qcc.ir import Graph, Node, Tensor
from qcc.ops import reshape
from qcc.passes.remove_dead_nodes import remove_dead_nodes
from tests.graphs import CONFIG, apply_checked, node, ops, proto


def with_dead_branch() -> Graph:
    """Sigmoid is the output; a reshape of a reshape of the input is not."""
    graph = read_onnx(proto([node("Sigmoid", "x", "y")], (1, 6)), "m")
    for name, source, shape in (("a", "x", (2, 3)), ("b", "a", (3, 2))):
        graph.add_tensor(Tensor(name, shape))
        graph.add_node(Node(f"{name}:reshape", "reshape", (source,), (name,), reshape.Attrs(shape)))
    return graph


def test_a_dead_chain_goes_with_its_tensors() -> None:
    graph = with_dead_branch()
    assert apply_checked(graph, remove_dead_nodes) == 2
    assert ops(graph) == ["unary"]
    assert "a" not in graph
    assert "b" not in graph


def test_a_graph_output_is_alive() -> None:
    graph = with_dead_branch()
    graph.outputs.append("b")
    assert remove_dead_nodes(graph, CONFIG) == 0
    assert ops(graph).count("reshape") == 2


def test_what_a_live_node_reads_stays() -> None:
    graph = with_dead_branch()
    graph.outputs.append("a")
    assert remove_dead_nodes(graph, CONFIG) == 1
    assert "a" in graph


def test_an_unused_input_stays_and_an_unused_constant_goes() -> None:
    graph = read_onnx(proto([node("Sigmoid", "x", "y")], (1, 6)), "m")
    graph.add_tensor(Tensor("z", (1, 2)))
    graph.inputs.append("z")
    graph.add_constant("c", np.ones(3, np.float32))
    assert remove_dead_nodes(graph, CONFIG) == 1
    assert "z" in graph
    assert "c" not in graph
