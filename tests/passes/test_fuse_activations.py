"""fuse_activations: which clips go into the layer before them, and which stay."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from qcc.config import Config
from qcc.functions import Expr, X, apply, clip
from qcc.ir import Graph, Node, Origin, Tensor
from qcc.ops import OPS, add, conv2d, dense, mul, unary
from qcc.ops.examples import normal
from qcc.passes.fuse_activations import fuse_activations
from qcc.reference import run_float

RELU = clip(X, 0.0, math.inf)
RELU6 = clip(X, 0.0, 6.0)
SHAPE = (1, 4, 5, 3)


def _node(graph: Graph, op: str, inputs: list[str], output: str, attrs: Any) -> None:
    shape = OPS[op].infer(attrs, [graph.shape(t) for t in inputs])
    origin = Origin(output, tuple(range(len(shape))))
    graph.add_tensor(Tensor(output, shape, origin=origin))
    graph.add_node(Node(f"n_{output}", op, tuple(inputs), (output,), attrs, (f"Onnx_{output}",)))


def _graph(layer: str, *fns: Expr) -> Graph:
    """x -> layer -> a0 -> a1 ..., one function each; the last one is the output."""
    graph = Graph("g", inputs=["x", "z"])
    for name in graph.inputs:
        graph.add_tensor(Tensor(name, SHAPE, origin=Origin(name, (0, 1, 2, 3))))
    w = {"conv2d": (2, 3, 3, 3), "dense": (2, 3)}.get(layer)
    second = "z" if w is None else graph.add_constant("w", normal(w))
    attrs = {"conv2d": conv2d, "dense": dense, "add": add, "mul": mul}[layer].Attrs()
    _node(graph, layer, ["x", second], "c", attrs)
    for i, fn in enumerate(fns):
        _node(graph, "unary", ["c" if i == 0 else f"a{i - 1}"], f"a{i}", unary.Attrs(fn))
    graph.outputs = [f"a{len(fns) - 1}" if fns else "c"]
    graph.verify()
    return graph


def _fuse(graph: Graph) -> int:
    """Run the pass; the result verifies, computes the same, and stays when run again."""
    feeds = {name: normal((2, *SHAPE), seed) * 4 for seed, name in enumerate(graph.inputs)}
    before = run_float(graph, feeds, graph.outputs)
    changes = fuse_activations(graph, Config())
    graph.verify()
    after = run_float(graph, feeds, graph.outputs)
    for name, want in before.items():
        np.testing.assert_array_equal(after[name], want)
    text = str(graph)
    assert fuse_activations(graph, Config()) == 0
    assert str(graph) == text
    return changes


@pytest.mark.parametrize("layer", ["conv2d", "dense", "add", "mul"])
@pytest.mark.parametrize(("fn", "bounds"), [(RELU, (0.0, math.inf)), (RELU6, (0.0, 6.0))])
def test_a_clip_goes_into_the_layer(layer: str, fn: Expr, bounds: tuple[float, float]) -> None:
    graph = _graph(layer, fn)
    assert _fuse(graph) == 1
    (node,) = graph.nodes()
    assert (node.op, node.attrs.bounds, node.output) == (layer, bounds, "a0")
    assert node.sources == ("Onnx_c", "Onnx_a0")
    assert graph.tensor("a0").origin == Origin("a0", (0, 1, 2, 3))
    assert "c" not in graph


def test_clips_in_a_row_intersect() -> None:
    graph = _graph("conv2d", clip(X, -1.0, 4.0), RELU, clip(X, 5.0, 6.0))
    assert _fuse(graph) == 3
    (node,) = graph.nodes()
    assert node.attrs.bounds == (5.0, 5.0)


@pytest.mark.parametrize("fn", [apply("sigmoid", X), apply("leaky_relu", X, 0.1)], ids=str)
def test_other_functions_stay(fn: Expr) -> None:
    assert _fuse(_graph("conv2d", fn)) == 0


def test_a_clip_after_another_function_stays() -> None:
    graph = _graph("conv2d", apply("sigmoid", X), RELU6)
    assert _fuse(graph) == 0


def test_a_clip_stays_where_the_layer_has_a_second_reader() -> None:
    graph = _graph("conv2d", RELU)
    _node(graph, "unary", ["c"], "t", unary.Attrs(apply("tanh", X)))
    graph.outputs.append("t")
    assert _fuse(graph) == 0


def test_a_clip_stays_where_the_layer_writes_an_output() -> None:
    graph = _graph("conv2d", RELU)
    graph.outputs.append("c")
    assert _fuse(graph) == 0


def test_a_clip_of_an_input_stays() -> None:
    graph = _graph("add")
    _node(graph, "unary", ["x"], "r", unary.Attrs(RELU))
    graph.outputs.append("r")
    assert _fuse(graph) == 0
