"""eliminate_transposes: channel-last inside, and no transpose that can be avoided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcc.frontend.load import load_model
from qcc.frontend.onnx_reader import read_onnx
from qcc.ir import Array, Graph, Origin, Shape
from qcc.ops.examples import normal
from qcc.ops.transpose import moves
from qcc.passes.eliminate_identities import eliminate_identities
from qcc.passes.eliminate_transposes import eliminate_transposes
from qcc.passes.layouts import through_reshape
from qcc.passes.remove_dead_nodes import remove_dead_nodes
from qcc.passes.sink_reshapes import kept_axes
from tests.graphs import CONFIG, apply_checked, node, ops, proto

NHWC = (0, 2, 3, 1)
NCHW = (0, 3, 1, 2)
X = (1, 4, 6, 5)


def conv(x: str, y: str, w: str = "w", **attrs: object) -> onnx.NodeProto:
    return node("Conv", f"{x} {w}", y, **attrs)


def read(
    nodes: Sequence[onnx.NodeProto],
    x: Shape = X,
    outputs: str = "y",
    constants: Mapping[str, Array] | None = None,
) -> Graph:
    """The graph as read; ``w`` is a 1x1 convolution of four channels unless given."""
    used = {name for n in nodes for name in n.input}
    known = {"w": normal((4, 4, 1, 1)), **(constants or {})}
    return read_onnx(proto(nodes, x, outputs, {k: v for k, v in known.items() if k in used}), "m")


def rewritten(
    nodes: Sequence[onnx.NodeProto],
    x: Shape = X,
    outputs: str = "y",
    constants: Mapping[str, Array] | None = None,
) -> Graph:
    """The graph after the pass."""
    graph = read(nodes, x, outputs, constants)
    apply_checked(graph, eliminate_transposes)
    return graph


def moving(graph: Graph) -> int:
    return sum(n.op == "transpose" for n in graph.nodes())


# -- inputs and outputs --------------------------------------------------------------------------


def test_nchw_convolution_takes_and_gives_nhwc() -> None:
    graph = rewritten([conv("x", "y")])
    assert ops(graph) == ["conv2d"]
    assert graph.inputs == ["x"]
    assert graph.outputs == ["y"]
    assert graph.shape("x") == (1, 6, 5, 4)
    assert graph.tensor("x").origin == Origin("x", NHWC)
    assert graph.tensor("y").origin == Origin("y", NHWC)


def test_nhwc_model_with_transposes_keeps_its_interface() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=list(NCHW)),
        conv("t", "c"),
        node("Relu", "c", "r"),
        node("Transpose", "r", "y", perm=list(NHWC)),
    ]
    graph = rewritten(nodes, (1, 6, 5, 4))
    assert ops(graph) == ["conv2d", "unary"]
    assert graph.tensor("x").origin == Origin("x", (0, 1, 2, 3))
    assert graph.tensor(graph.outputs[0]).origin == Origin("y", (0, 1, 2, 3))


def test_an_input_read_in_both_layouts_costs_one_transpose() -> None:
    nodes = [conv("x", "c"), node("Flatten", "x", "f"), node("Softmax", "f", "z")]
    graph = rewritten([*nodes, node("Relu", "c", "y")], outputs="y z")
    assert moving(graph) == 1


def test_two_outputs_of_one_value_keep_their_own_memory() -> None:
    nodes = [conv("x", "y"), node("Transpose", "y", "z", perm=list(NHWC))]
    graph = rewritten(nodes, outputs="y z")
    assert len(set(graph.outputs)) == 2
    origins = [graph.tensor(t).origin for t in graph.outputs]
    assert [o.name for o in origins if o is not None] == ["y", "z"]
    assert moving(graph) <= 1


def test_an_input_that_is_an_output_after_a_transpose_is_copied() -> None:
    graph = rewritten([node("Transpose", "x", "y", perm=list(NHWC))])
    assert ops(graph) == ["transpose"]


def test_transposes_between_elementwise_operators_meet_and_vanish() -> None:
    nodes = [
        node("Tanh", "x", "a"),
        node("Transpose", "a", "b", perm=list(NHWC)),
        node("Sigmoid", "b", "c"),
        node("Transpose", "c", "d", perm=list(NCHW)),
        node("Tanh", "d", "y"),
    ]
    graph = rewritten(nodes)
    assert ops(graph) == ["unary"] * 3


# -- through operators ---------------------------------------------------------------------------

THROUGH: dict[str, tuple[list[onnx.NodeProto], dict[str, Array]]] = {
    "relu": ([node("Relu", "c", "d")], {}),
    "channel_constant": ([node("Add", "c k", "d")], {"k": normal((4, 1, 1))}),
    "full_constant": ([node("Mul", "c k", "d")], {"k": normal((1, 4, 6, 5))}),
    "scalar": ([node("Mul", "c k", "d")], {"k": np.array(0.3, np.float32)}),
    "slope": ([node("PRelu", "c k", "d")], {"k": normal((4, 1, 1))}),
    "residual": ([conv("c", "e"), node("Add", "c e", "d")], {}),
    "input_residual": ([node("Add", "c x", "d")], {}),
    "split": (
        [
            node("Slice", "c lo hi ax", "l"),
            node("Slice", "c hi big ax", "h"),
            node("Concat", "h l", "d", axis=1),
        ],
        {k: np.array([v], np.int64) for k, v in (("lo", 0), ("hi", 2), ("big", 99), ("ax", 1))},
    ),
    "pad": (
        [node("Pad", "c p", "d")],
        {"p": np.array([0, 0, 1, 0, 0, 0, 0, 2], np.int64)},
    ),
    "softmax": ([node("Softmax", "c", "d", axis=1)], {}),
    "mean": ([node("ReduceMean", "c", "d", axes=[2], keepdims=1)], {}),
    "batchnorm": (
        [node("BatchNormalization", "c g g g v", "d")],
        {"g": normal((4,)), "v": np.ones(4, np.float32)},
    ),
    "squeeze_excite": (
        [
            node("GlobalAveragePool", "c", "g"),
            conv("g", "h"),
            node("Sigmoid", "h", "s"),
            node("Mul", "c s", "d"),
        ],
        {},
    ),
    "squeeze_excite_dense": (
        [
            node("GlobalAveragePool", "c", "g"),
            node("Flatten", "g", "f"),
            node("Gemm", "f k", "h"),
            node("Reshape", "h s", "i"),
            node("Mul", "c i", "d"),
        ],
        {"k": normal((4, 4)), "s": np.array([1, 4, 1, 1], np.int64)},
    ),
}


@pytest.mark.parametrize("name", THROUGH)
def test_nothing_moves_between_two_convolutions(name: str) -> None:
    middle, constants = THROUGH[name]
    graph = rewritten([conv("x", "c"), *middle, conv("d", "y")], constants=constants)
    assert moving(graph) == 0


def test_values_keep_their_names() -> None:
    graph = rewritten([conv("x", "c"), node("Relu", "c", "r"), conv("r", "y")])
    assert [n.output for n in graph.nodes()] == ["c", "r", "y"]
    assert all(t.origin == Origin(t.name, NHWC) for t in graph.tensors() if t.data is None)


# -- flattening ----------------------------------------------------------------------------------


@pytest.mark.parametrize("relu_after", [False, True])
def test_a_dense_layer_takes_the_new_order(relu_after: bool) -> None:
    between = [node("Flatten", "c", "f"), node("Relu", "f", "r")]
    if not relu_after:
        between = [node("Relu", "c", "q"), node("Flatten", "q", "r")]
    k = normal((120, 7), seed=8)
    graph = rewritten([conv("x", "c"), *between, node("Gemm", "r k", "y")], constants={"k": k})
    assert sorted(ops(graph)) == ["conv2d", "dense", "reshape", "unary"]


def test_two_dense_layers_that_share_weights() -> None:
    nodes = [
        conv("x", "c"),
        node("Flatten", "c", "f"),
        node("MatMul", "f k", "y"),
        node("MatMul", "f k", "z"),
    ]
    graph = rewritten(nodes, outputs="y z", constants={"k": normal((120, 3))})
    assert moving(graph) == 0


def test_a_flattening_that_something_else_reads_keeps_its_order() -> None:
    nodes = [
        conv("x", "c"),
        node("Flatten", "c", "f"),
        node("MatMul", "f k", "y"),
        node("Softmax", "f", "z"),
    ]
    graph = rewritten(nodes, outputs="y z", constants={"k": normal((120, 3))})
    assert moving(graph) == 1


def test_a_flattened_output_keeps_its_order() -> None:
    graph = rewritten([conv("x", "c"), node("Flatten", "c", "y")])
    assert sorted(ops(graph)) == ["conv2d", "reshape", "transpose"]


# -- reshapes ------------------------------------------------------------------------------------


def test_channel_shuffle_costs_one_transpose() -> None:
    nodes = [
        conv("x", "c"),
        node("Reshape", "c s", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "t u", "d"),
        conv("d", "y"),
    ]
    s, u = np.array([1, 2, 2, 6, 5], np.int64), np.array(X, np.int64)
    graph = rewritten(nodes, constants={"s": s, "u": u})
    assert moving(graph) == 1


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_costs_one_transpose(mode: str) -> None:
    nodes = [conv("x", "c"), node("DepthToSpace", "c", "y", blocksize=2, mode=mode)]
    graph = rewritten(nodes)
    assert moving(graph) == 1


def test_one_dimensional_network_is_all_of_height_one() -> None:
    """Reshapes to and from height 1 part nothing from its convolution."""
    nodes = [
        conv("x", "c", "k"),
        node("BatchNormalization", "c g g g v", "b"),
        node("Relu", "b", "r"),
        conv("r", "e", "k"),
        node("Add", "e r", "s"),
        node("MaxPool", "s", "p", kernel_shape=[2]),
        node("Flatten", "p", "f"),
        node("MatMul", "f m", "y"),
    ]
    constants = {"k": normal((4, 4, 1)), "g": normal((4,)), "m": normal((28, 3))}
    constants["v"] = np.ones(4, np.float32)
    graph = rewritten(nodes, (1, 4, 8), constants=constants)
    inner = ["conv2d", "scale_shift", "unary", "conv2d", "add", "max_pool2d", "reshape", "dense"]
    assert ops(graph) == ["reshape", *inner]
    assert moving(graph) == 0


def test_batch_normalization_of_single_pixels_meets_its_convolution() -> None:
    nodes = [
        conv("x", "c"),
        node("GlobalAveragePool", "c", "a"),
        conv("a", "e"),
        node("BatchNormalization", "e g g g v", "b"),
        node("Flatten", "b", "f"),
        node("MatMul", "f m", "y"),
    ]
    constants = {"g": normal((4,)), "v": np.ones(4, np.float32), "m": normal((4, 2))}
    graph = rewritten(nodes, constants=constants)
    assert ops(graph) == ["conv2d", "reduce_mean", "conv2d", "scale_shift", "reshape", "dense"]


def test_through_reshape() -> None:
    assert through_reshape((1, 8, 6, 5), (1, 2, 4, 6, 5), NHWC) == (0, 3, 4, 1, 2)
    assert through_reshape((1, 8, 6, 5), (1, 8, 30), NHWC) == (0, 2, 1)
    assert through_reshape((1, 8, 6, 5), (1, 240), NHWC) is None
    assert through_reshape((1, 8, 6, 5), (1, 48, 5), NHWC) is None
    assert through_reshape((1, 8, 1, 5), (1, 8, 5), NHWC) == (0, 2, 1)
    assert through_reshape((1, 8, 5), (1, 8, 1, 5), (0, 2, 1)) == NHWC
    assert through_reshape((1, 8, 1, 1), (1, 8), NHWC) == (0, 1)


def test_through_reshape_means_what_it_says() -> None:
    rng = np.random.default_rng(3)
    shapes = [((2, 3, 4), (2, 3, 2, 2)), ((6, 1, 4), (2, 3, 4)), ((2, 2, 1, 3), (4, 3))]
    for x, y in shapes:
        for _ in range(8):
            perm = tuple(int(p) for p in rng.permutation(len(x)))
            q = through_reshape(x, y, perm)
            if q is not None:
                v = rng.normal(size=x)
                w = v.reshape(y).transpose(q)
                np.testing.assert_array_equal(v.transpose(perm).reshape(w.shape), w)


def test_kept_axes() -> None:
    assert kept_axes((1, 1, 9, 8), (1, 9, 8)) == (0, 2, 3)
    assert kept_axes((1, 8, 1, 9), (1, 8, 9)) == (0, 1, 3)
    assert kept_axes((1, 1, 1, 8), (1, 8, 1, 1)) == (0, 3, 1, 2)
    assert kept_axes((1, 8, 9), (1, 72)) is None
    assert kept_axes((1, 8), (1, 8, 1)) is None


# -- cost ----------------------------------------------------------------------------------------


def test_an_operand_in_the_other_layout_does_not_add_transposes() -> None:
    """f comes from a dense layer, NCHW: adding it costs one transpose, wherever it is put."""
    nodes = [
        conv("x", "c"),
        node("GlobalAveragePool", "c", "g"),
        node("Flatten", "g", "h"),
        node("MatMul", "h k", "m"),
        node("Reshape", "m s", "f"),
        node("Add", "c f", "d"),
        node("Relu", "d", "e"),
        conv("e", "y"),
    ]
    graph = rewritten(nodes, constants={"k": normal((4, 120)), "s": np.array(X, np.int64)})
    assert moving(graph) == 1


def test_a_transpose_with_one_stubborn_reader_is_not_multiplied() -> None:
    """The flattenings want NCHW; relus between must not turn one transpose into three."""
    nodes = [
        conv("x", "c"),
        *[node("Relu" if i % 2 else "Tanh", "c", f"r{i}") for i in range(3)],
        *[node("Flatten", f"r{i}", f"f{i}") for i in range(3)],
        node("Concat", "f0 f1 f2", "d", axis=1),
        node("Softmax", "d", "y"),
    ]
    graph = rewritten(nodes)
    assert moving(graph) == 1


def test_never_more_transposes_on_random_graphs() -> None:
    for seed in range(60):
        graph = random_graph(seed)
        remove_dead_nodes(graph, CONFIG)
        eliminate_identities(graph, CONFIG)
        before = moving(graph)
        apply_checked(graph, eliminate_transposes)
        assert moving(graph) <= before, f"seed {seed}"
        for n in graph.nodes():
            if n.op == "transpose":
                assert moves(n.attrs.perm, graph.shape(n.inputs[0])), f"seed {seed}"


def random_graph(seed: int) -> Graph:
    """Convolutions, transposes, sums, means and flattenings in any order, on square images."""
    rng = np.random.default_rng(seed)
    side = 3
    values, nodes = ["x"], []
    for i in range(int(rng.integers(4, 14))):
        a, b = (str(rng.choice(values)) for _ in range(2))
        y = f"v{i}"
        kind = rng.choice(["conv", "relu", "add", "swap", "mean", "concat"])
        if kind == "conv":
            nodes.append(conv(a, y))
        elif kind == "relu":
            nodes.append(node("Relu", a, y))
        elif kind == "add":
            nodes.append(node("Add", f"{a} {b}", y))
        elif kind == "swap":
            perm = [NHWC, NCHW, (0, 1, 3, 2), (0, 2, 1, 3)][int(rng.integers(4))]
            nodes.append(node("Transpose", a, y, perm=list(perm)))
        elif kind == "mean":
            nodes.append(node("ReduceMean", a, f"{y}m", axes=[int(rng.integers(1, 4))]))
            nodes.append(node("Add", f"{y}m {b}", y))
        else:
            nodes.append(node("Concat", f"{a} {b}", f"{y}c", axis=2))
            nodes.append(node("Slice", f"{y}c lo hi ax", y))
        values.append(y)
    nodes.append(node("Flatten", values[-1], "f"))
    nodes.append(node("MatMul", "f k", "y"))
    nodes.append(node("Tanh", str(rng.choice(values[1:])), "z"))
    constants: dict[str, Array] = {
        "lo": np.array([1], np.int64),
        "hi": np.array([1 + side], np.int64),
        "ax": np.array([2], np.int64),
        "k": normal((side**3, 3)),
        "w": normal((side, side, 1, 1), scale=0.3),
    }
    return read(nodes, (1, side, side, side), "y z", constants)


# -- found by random graphs ------------------------------------------------------------------------


def test_a_reshape_of_equal_rank_does_not_sink_back_and_forth() -> None:
    """Random seed 11: each sink gave the other operand a reshape, which sank in its turn."""
    nodes = [conv("x", "a"), node("Relu", "a", "r"), node("Add", "x r", "y")]
    graph = read(nodes, (1, 1, 5, 2), constants={"w": normal((1, 1, 1, 1))})
    eliminate_identities(graph, CONFIG)
    assert ops(graph) == ["reshape", "conv2d", "reshape", "unary", "add"]
    apply_checked(graph, eliminate_transposes)


def test_an_operand_that_is_read_twice_sinks_once() -> None:
    """Random seed 19."""
    nodes = [conv("x", "a"), node("Add", "a a", "s"), node("Mul", "s s", "y")]
    graph = read(nodes, (1, 4, 9), constants={"w": normal((4, 4, 3))})
    apply_checked(graph, eliminate_transposes)
    assert moving(graph) == 0


def test_an_output_that_others_read_transposed_knows_its_origin() -> None:
    """Random seed 88: %a lies as the convolution wants it, and the output is a copy of it."""
    nodes = [
        node("Transpose", "x", "t", perm=NCHW), node("Sigmoid", "t", "a"),
        node("Transpose", "a", "b", perm=NHWC), conv("b", "c"), node("Tanh", "b", "d"),
    ]  # fmt: skip
    for outputs in ("c d a", "a b c d", "c a b"):
        graph = read(nodes, (1, 4, 5, 6), outputs)
        apply_checked(graph, eliminate_transposes)


def test_an_output_before_a_flattening_keeps_its_origin() -> None:
    """Random seed 576: the concat wants the source's order, the output and the layer do not."""
    nodes = [
        conv("x", "a"), node("Flatten", "a", "f"), node("Gemm", "f k", "g"),
        node("Concat", "g f", "y", axis=1),
    ]  # fmt: skip
    constants = {"w": normal((5, 3, 1, 4)), "k": normal((25, 2))}
    graph = read(nodes, (1, 3, 5, 4), "y a", constants)
    apply_checked(graph, eliminate_transposes)


def test_an_output_does_not_take_the_name_of_another_view() -> None:
    """Random seed 1336: the transpose that made the output found a new purpose, its name stayed."""
    nodes = [
        conv("x", "a", group=2), node("Transpose", "a", "b", perm=NCHW),
        node("Reshape", "b s", "c"), conv("c", "d", "v", group=8), node("Relu", "d", "y"),
    ]  # fmt: skip
    constants = {
        "w": normal((4, 3, 2, 2)), "v": normal((8, 1, 4)), "s": np.array([1, 8, 12], np.int64),
    }  # fmt: skip
    graph = read(nodes, (1, 6, 4, 9), "y a", constants)
    eliminate_identities(graph, CONFIG)
    apply_checked(graph, eliminate_transposes)
    origins = [graph.tensor(name).origin for name in graph.outputs]
    assert [o and o.name for o in origins] == ["y", "a"]


# -- real models ---------------------------------------------------------------------------------

MODELS = Path(__file__).parents[3] / "shared" / "models"


@pytest.mark.skipif(not MODELS.exists(), reason="the real models are not here")
@pytest.mark.parametrize(
    "path",
    [
        *(f"mlperf_tiny/{name}.onnx" for name in ("ic_float", "ic_float_nchw", "vww_float_bn")),
        *(f"mlperf_tiny/{name}.onnx" for name in ("vww_float_nchw", "kws_float", "sww_float_bn")),
        "zoo/mediapipe_blazeface_short_range_float.onnx",
        "zoo/mobilenet_v1_025_224_imagenet_float_bn.onnx",
        "zoo/fer_mini_xception_float_bn.onnx",
        "zoo/micro_kws_m_fp32.onnx",
    ],
)
def test_real_models_have_no_transpose(path: str) -> None:
    graph = read_onnx(load_model(MODELS / path), "m")
    eliminate_identities(graph, CONFIG)
    eliminate_transposes(graph, CONFIG)
    graph.verify()
    assert moving(graph) == 0
    assert all(t.origin is not None for t in map(graph.tensor, (*graph.inputs, *graph.outputs)))
