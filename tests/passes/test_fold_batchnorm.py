"""fold_batchnorm, canonicalize_affine, lower_scale_shift: what folds, and what must not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from qcc.ir import Array, Graph
from qcc.ops.examples import normal
from qcc.passes.canonicalize_affine import canonicalize_affine
from qcc.passes.fold_batchnorm import fold_batchnorm
from qcc.passes.lower_scale_shift import lower_scale_shift
from tests.graphs import apply_checked, channel_last, node, ops, proto


def bn(prefix: str, channels: int, zero_shift: bool = False) -> dict[str, Array]:
    """Constants of a BatchNormalization named by *prefix*."""
    beta, mean = normal((channels,), 2), normal((channels,), 3)
    if zero_shift:
        beta, mean = np.zeros_like(beta), np.zeros_like(mean)
    return {
        f"{prefix}g": normal((channels,), 1),
        f"{prefix}b": beta,
        f"{prefix}m": mean,
        f"{prefix}v": np.abs(normal((channels,), 4)) + np.float32(0.5),
    }


def batchnorm(prefix: str, x: str, y: str) -> onnx.NodeProto:
    names = " ".join(f"{prefix}{k}" for k in "gbmv")
    return node("BatchNormalization", f"{x} {names}", y)


def folded(m: onnx.ModelProto) -> Graph:
    graph = channel_last(m)
    apply_checked(graph, canonicalize_affine)
    apply_checked(graph, fold_batchnorm)
    return graph


CONV = {"w": normal((4, 3, 3, 3), 5)}


def test_after_a_convolution_it_folds_and_the_bias_appears() -> None:
    nodes = [node("Conv", "x w", "c", pads=[1, 1, 1, 1]), batchnorm("n", "c", "y")]
    graph = folded(proto(nodes, (1, 3, 6, 6), constants=CONV | bn("n", 4)))
    assert ops(graph) == ["conv2d"]
    (conv,) = graph.nodes()
    assert len(conv.inputs) == 3
    assert conv.sources == ("Conv_c", "BatchNormalization_y")


def test_before_an_unpadded_convolution_it_folds() -> None:
    nodes = [batchnorm("n", "x", "c"), node("Conv", "c w", "y")]
    graph = folded(proto(nodes, (1, 3, 6, 6), constants=CONV | bn("n", 3)))
    assert ops(graph) == ["conv2d"]


def test_before_a_grouped_convolution_each_group_gets_its_channels() -> None:
    weights = {"w": normal((6, 2, 3, 3), 5)}
    nodes = [batchnorm("n", "x", "c"), node("Conv", "c w", "y", group=3)]
    graph = folded(proto(nodes, (1, 6, 6, 6), constants=weights | bn("n", 6)))
    assert ops(graph) == ["conv2d"]


def test_before_a_padded_convolution_a_shift_stays() -> None:
    nodes = [batchnorm("n", "x", "c"), node("Conv", "c w", "y", pads=[1, 1, 1, 1])]
    graph = folded(proto(nodes, (1, 3, 6, 6), constants=CONV | bn("n", 3)))
    assert "scale_shift" in ops(graph)
    graph = folded(proto(nodes, (1, 3, 6, 6), constants=CONV | bn("n", 3, zero_shift=True)))
    assert ops(graph) == ["conv2d"]


def test_a_convolution_with_another_reader_is_left_alone() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        batchnorm("n", "c", "d"),
        node("Sigmoid", "c", "e"),
        node("Concat", "d e", "y", axis=1),
    ]
    graph = folded(proto(nodes, (1, 3, 6, 6), constants=CONV | bn("n", 4)))
    assert "scale_shift" in ops(graph)


def test_a_convolution_that_is_an_output_is_left_alone() -> None:
    nodes = [node("Conv", "x w", "c"), batchnorm("n", "c", "y")]
    graph = folded(proto(nodes, (1, 3, 6, 6), "y c", CONV | bn("n", 4)))
    assert sorted(ops(graph)) == ["conv2d", "scale_shift"]


def test_weights_shared_by_two_convolutions_are_not_changed_for_the_other() -> None:
    weights = {"w": normal((3, 3, 1, 1), 5)}
    nodes = [node("Conv", "x w", "a"), batchnorm("n", "a", "b"), node("Conv", "b w", "y")]
    graph = folded(proto(nodes, (1, 3, 4, 4), constants=weights | bn("n", 3)))
    assert ops(graph) == ["conv2d", "conv2d"]


def test_after_an_add_it_folds_into_both_layers() -> None:
    nodes = [
        node("Conv", "x w", "a"),
        node("Conv", "x w", "b"),
        node("Add", "a b", "s"),
        batchnorm("n", "s", "y"),
    ]
    graph = folded(proto(nodes, (1, 3, 6, 6), constants=CONV | bn("n", 4)))
    assert sorted(ops(graph)) == ["add", "conv2d", "conv2d"]


def test_after_a_subtraction_the_signs_hold() -> None:
    nodes = [
        node("Conv", "x w", "a"),
        node("Conv", "x w", "b", pads=[0, 0, 0, 0]),
        node("Sub", "a b", "s"),
        batchnorm("n", "s", "y"),
    ]
    graph = folded(proto(nodes, (1, 3, 6, 6), constants=CONV | bn("n", 4)))
    assert "scale_shift" not in ops(graph)


def test_after_an_add_of_the_input_it_stays() -> None:
    weights = {"w": normal((3, 3, 1, 1), 5)}
    nodes = [node("Conv", "x w", "a"), node("Add", "a x", "s"), batchnorm("n", "s", "y")]
    graph = folded(proto(nodes, (1, 3, 4, 4), constants=weights | bn("n", 3)))
    assert "scale_shift" in ops(graph)


def test_two_in_a_row_become_one() -> None:
    nodes = [batchnorm("n", "x", "c"), batchnorm("p", "c", "y")]
    graph = folded(proto(nodes, (1, 3, 4, 4), constants=bn("n", 3) | bn("p", 3)))
    assert ops(graph).count("scale_shift") <= 2


@pytest.mark.parametrize("op", ["Mul", "Add", "Sub", "Div"])
def test_a_constant_per_channel_folds_into_the_layer_before(op: str) -> None:
    constants = CONV | {"k": np.abs(normal((1, 4, 1, 1), 6)) + np.float32(0.5)}
    nodes = [node("Conv", "x w", "c"), node(op, "c k", "y")]
    graph = folded(proto(nodes, (1, 3, 6, 6), constants=constants))
    assert ops(graph) == ["conv2d"]


def test_a_constant_minus_the_layer_folds() -> None:
    constants = CONV | {"k": normal((1, 4, 1, 1), 6)}
    nodes = [node("Conv", "x w", "c"), node("Sub", "k c", "y")]
    assert ops(folded(proto(nodes, (1, 3, 6, 6), constants=constants))) == ["conv2d"]


def test_a_matmul_with_bias_and_batchnorm_as_mul_and_add_is_one_layer() -> None:
    constants = {
        "w": normal((6, 5), 1),
        "b": normal((5,), 2),
        "s": normal((5,), 3),
        "t": normal((5,), 4),
    }
    nodes = [
        node("MatMul", "x w", "m"),
        node("Add", "m b", "a"),
        node("Mul", "a s", "p"),
        node("Add", "p t", "y"),
    ]
    assert ops(folded(proto(nodes, (1, 6), constants=constants))) == ["dense"]


def test_a_constant_over_the_rows_is_no_channel() -> None:
    constants = CONV | {"k": normal((1, 1, 4, 1), 6)}
    nodes = [node("Conv", "x w", "c"), node("Mul", "c k", "y")]
    assert "mul" in ops(folded(proto(nodes, (1, 3, 6, 6), constants=constants)))


def test_what_is_left_becomes_a_depthwise_convolution() -> None:
    graph = folded(proto([batchnorm("n", "x", "y")], (1, 3, 4, 5), constants=bn("n", 3)))
    apply_checked(graph, lower_scale_shift)
    assert "scale_shift" not in ops(graph)
    assert "conv2d" in ops(graph)


def test_a_flat_one_becomes_a_depthwise_convolution_without_a_transpose() -> None:
    graph = folded(proto([batchnorm("n", "x", "y")], (1, 7), constants=bn("n", 7)))
    apply_checked(graph, lower_scale_shift)
    assert ops(graph) == ["reshape", "conv2d", "reshape"]
