"""fuse_unary: which regions become one function, where they end, and what is left alone."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from qcc.config import Config
from qcc.functions import X, clip, clip_bounds, evaluate, size
from qcc.ir import Array, Graph, Shape
from qcc.ops.examples import model, normal
from qcc.ops.unary import Attrs
from qcc.passes.fuse_activations import fuse_activations
from qcc.passes.fuse_unary import fuse_unary
from qcc.reference import run_float
from tests.graphs import node
from tests.ops.kernel_harness import read

SHAPE: Shape = (1, 3, 4, 5)
CONSTANTS: dict[str, Array] = {
    name: np.array(value, np.float32)
    for name, value in {
        "half": 0.5, "one": 1.0, "three": 3.0, "six": 6.0, "zero": 0.0, "root": math.sqrt(2),
        "k": 0.044715, "slope": math.sqrt(2 / math.pi),
    }.items()
}  # fmt: skip
CONSTANTS["ones"] = np.full((1, 1, 1, 1), 1.5, np.float32)
CONSTANTS["channels"] = normal((3, 1, 1), 9)


def _graph(
    nodes: Sequence[onnx.NodeProto], outputs: str = "y", inputs: str = "x", **more: Array
) -> Graph:
    used = {i for n in nodes for i in n.input}
    consts = {k: v for k, v in (CONSTANTS | more).items() if k in used}
    return read(model("m", nodes, dict.fromkeys(inputs.split(), SHAPE), outputs.split(), consts))


def _fuse(graph: Graph) -> int:
    """Run the pass; the result verifies, computes the same, and stays when run again."""
    feeds = {name: normal((3, *SHAPE), seed) * 3 for seed, name in enumerate(graph.inputs)}
    before = run_float(graph, feeds, graph.outputs)
    changes = fuse_unary(graph, Config())
    graph.verify()
    after = run_float(graph, feeds, graph.outputs)
    for name, want in before.items():
        np.testing.assert_allclose(after[name], want, rtol=1e-5, atol=1e-5)
    text = str(graph)
    assert fuse_unary(graph, Config()) == 0
    assert str(graph) == text
    return changes


def _ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes()]


RELU6 = node("Clip", "a zero six", "c")
SPELLINGS = {
    "hard_swish": [
        node("Add", "x three", "a"), RELU6, node("Mul", "x c", "m"), node("Div", "m six", "y"),
    ],
    "hard_swish_of_hard_sigmoid": [
        node("HardSigmoid", "x", "s", alpha=1 / 6), node("Mul", "x s", "y"),
    ],
    "hard_swish_divided_first": [
        node("Add", "three x", "a"), RELU6, node("Div", "c six", "d"), node("Mul", "d x", "y"),
    ],
    "silu": [node("Sigmoid", "x", "s"), node("Mul", "x s", "y")],
    "gelu": [
        node("Div", "x root", "d"), node("Erf", "d", "e"), node("Add", "e one", "a"),
        node("Mul", "x a", "m"), node("Mul", "m half", "y"),
    ],
    "gelu_tanh": [
        node("Mul", "x x", "x2"), node("Mul", "x2 x", "x3"), node("Mul", "k x3", "kx"),
        node("Add", "x kx", "s"), node("Mul", "s slope", "t"), node("Tanh", "t", "h"),
        node("Add", "one h", "u"), node("Mul", "half x", "v"), node("Mul", "u v", "y"),
    ],
    "mish": [node("Softplus", "x", "p"), node("Tanh", "p", "t"), node("Mul", "x t", "y")],
    "swish_of_division": [
        node("Neg", "x", "n"), node("Exp", "n", "e"), node("Add", "e ones", "a"),
        node("Reciprocal", "a", "i"), node("Mul", "x i", "y"),
    ],
    "square": [node("Mul", "x x", "y")],
    "normalization": [node("Sub", "x half", "s"), node("Div", "s six", "y")],
    "reversed": [node("Sub", "one x", "s"), node("Div", "three s", "d"), node("Relu", "d", "y")],
    "two_functions": [node("Tanh", "x", "t"), node("Abs", "t", "y")],
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_becomes_one_function(name: str) -> None:
    graph = _graph(SPELLINGS[name])
    origin = graph.tensor("y").origin
    assert _fuse(graph) == len(SPELLINGS[name]) + (name == "reversed")  # Div is two nodes there
    (only,) = graph.nodes()
    assert (only.op, only.inputs, only.output) == ("unary", ("x",), "y")
    assert set(only.sources) == {n.name for n in SPELLINGS[name]}
    assert graph.tensor("y").origin == origin
    assert [t.name for t in graph.tensors()] == ["x", "y"]


def test_the_text_of_a_fused_hard_swish() -> None:
    graph = _graph(SPELLINGS["hard_swish"])
    _fuse(graph)
    (only,) = graph.nodes()
    assert str(only.attrs.fn) == "mul(mul(x, clip(add(x, 3), 0, 6)), 0.1666667)"
    x = np.linspace(-5, 5, 21)
    hard_swish = x * np.clip(x + 3, 0, 6) / 6
    np.testing.assert_allclose(evaluate(only.attrs.fn, x), hard_swish, 1e-6)


def test_a_gate_after_a_layer_keeps_the_layer() -> None:
    weights = normal((3, 3, 1, 1))
    graph = _graph([node("Conv", "x w", "p"), node("Sigmoid", "p", "s"), node("Mul", "p s", "q"),
                    node("LeakyRelu", "q", "y")], w=weights)  # fmt: skip
    assert _fuse(graph) == 3
    assert _ops(graph)[-2:] == ["transpose", "unary"]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Add", "x one", "y")],
        [node("Mul", "x six", "y")],
        [node("Tanh", "x", "y")],
        [node("Mul", "x channels", "m"), node("Tanh", "m", "y")],
    ],
    ids=["sum", "product", "function", "channels"],
)
def test_what_is_one_operation_already_stays(nodes: list[onnx.NodeProto]) -> None:
    assert _fuse(_graph(nodes)) == 0


def test_two_tensors_are_no_function_of_one() -> None:
    graph = _graph([node("Sigmoid", "z", "s"), node("Mul", "x s", "y")], inputs="x z")
    assert _fuse(graph) == 0


def test_the_largest_cut_is_taken_where_a_region_has_two_roots_further_up() -> None:
    graph = _graph(
        [node("Tanh", "x", "t"), node("Add", "t z", "w"), node("Sigmoid", "w", "s"),
         node("Mul", "w s", "y")], inputs="x z",
    )  # fmt: skip
    assert _fuse(graph) == 2
    assert _ops(graph) == ["unary", "add", "unary"]


def test_both_branches_of_a_sum_may_come_from_one_tensor() -> None:
    graph = _graph([node("Tanh", "x", "t"), node("Abs", "x", "a"), node("Sub", "t a", "y")])
    assert _fuse(graph) == 3
    assert _ops(graph) == ["unary"]


def test_an_intermediate_with_another_reader_stays() -> None:
    graph = _graph([node("Tanh", "x", "t"), node("Abs", "t", "y"), node("GlobalMaxPool", "t", "z")],
                   "y z")  # fmt: skip
    assert _fuse(graph) == 0


def test_an_intermediate_that_is_an_output_stays() -> None:
    graph = _graph([node("Tanh", "x", "t"), node("Abs", "t", "y")], "y t")
    assert _fuse(graph) == 0


def test_a_region_ends_at_an_intermediate_with_another_reader() -> None:
    graph = _graph(
        [node("Tanh", "x", "t"), node("Sigmoid", "t", "s"), node("Mul", "t s", "y"),
         node("GlobalMaxPool", "t", "z")], "y z",
    )  # fmt: skip
    assert _fuse(graph) == 2
    fused = graph.producer("y")
    assert fused is not None
    assert (fused.op, fused.inputs) == ("unary", ("t",))


def test_a_clip_is_left_to_the_layer_before_it() -> None:
    graph = _graph([node("Add", "x z", "a"), node("Relu", "a", "r"), node("Sigmoid", "r", "s"),
                    node("Mul", "r s", "y")], inputs="x z")  # fmt: skip
    assert _fuse(graph) == 2
    assert fuse_activations(graph, Config()) == 1
    assert _ops(graph) == ["add", "unary"]


def test_a_clip_is_taken_where_the_layer_cannot_have_it() -> None:
    graph = _graph([node("Add", "x z", "a"), node("Relu", "a", "r"), node("Sigmoid", "r", "s"),
                    node("GlobalMaxPool", "a", "y")], "s y", inputs="x z")  # fmt: skip
    assert _fuse(graph) == 2
    assert fuse_activations(graph, Config()) == 0


def test_a_fused_activation_of_an_addend_is_kept() -> None:
    graph = _graph([node("Add", "x one", "a"), RELU6, node("Tanh", "c", "y")])
    fuse_activations(graph, Config())
    assert _ops(graph) == ["add", "unary"]
    assert _fuse(graph) == 2
    (only,) = graph.nodes()
    assert str(only.attrs.fn) == "tanh(clip(add(x, 1), 0, 6))"


def test_shapes_inside_are_equal() -> None:
    nodes = [node("Tanh", "x", "t"), node("Mul", "t z", "m"), node("Abs", "m", "y")]
    shapes = {"x": (1, 1, 1, 1), "z": SHAPE}
    graph = read(model("m", nodes, shapes, ["y"]))
    fuse_unary(graph, Config())
    assert _ops(graph) == ["unary", "mul", "unary"]


def test_clips_in_a_row_are_one_clip() -> None:
    graph = _graph([node("Relu", "x", "r"), node("Clip", "r zero six", "y")])
    assert _fuse(graph) == 2
    (only,) = graph.nodes()
    assert clip_bounds(only.attrs.fn) == (0.0, 6.0)
    assert only.attrs == Attrs(clip(X, 0.0, 6.0))


def test_long_chains_are_cut_and_take_no_time() -> None:
    count = 1500
    nodes = [node("Tanh", f"t{i}" if i else "x", f"t{i + 1}") for i in range(count)]
    graph = _graph(nodes, f"t{count}")
    start = time.process_time()
    fuse_unary(graph, Config())
    assert time.process_time() - start < 10
    sizes = [size(n.attrs.fn) for n in graph.nodes()]
    assert max(sizes) <= 128
    assert len(sizes) < 20


def test_powers_of_powers_do_not_explode() -> None:
    nodes = [node("Mul", f"t{i} t{i}" if i else "x x", f"t{i + 1}") for i in range(40)]
    graph = _graph(nodes, "t40")
    fuse_unary(graph, Config())
    graph.verify()
    assert max(size(n.attrs.fn) for n in graph.nodes()) <= 128
    assert fuse_unary(graph, Config()) == 0
