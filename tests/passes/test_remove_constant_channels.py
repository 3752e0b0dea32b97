"""remove_constant_channels: what goes, what must stay, and that no output bit changes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from qcc import reference
from qcc.config import Config
from qcc.driver import Compilation
from qcc.ir import Array, Int
from qcc.ops.examples import normal
from qcc.passes.remove_constant_channels import analyse, remove_constant_channels
from tests.build import compiled
from tests.graphs import node, proto

DEAD = -100.0
"""A bias that holds a channel below zero whatever comes in, so that ReLU makes it 0."""


def bias(channels: int, dead: list[int], value: float = DEAD) -> Array:
    b = normal((channels,), 2, 0.1)
    b[dead] = value
    return b


def both(m: onnx.ModelProto) -> tuple[Compilation, Compilation]:
    """The model compiled with and without the elimination."""
    return compiled(m, constant_channels=False), compiled(m)


def assert_same_outputs(before: Compilation, after: Compilation, samples: int = 50) -> None:
    rng = np.random.default_rng(3)
    inputs: dict[str, Int] = {}
    for name in before.graph.inputs:
        q = before.graph.quant(name).qtype
        shape = (samples, *before.graph.shape(name))
        inputs[name] = rng.integers(q.qmin, q.qmax + 1, shape)
    want = reference.run_int(before.graph, inputs)
    got = reference.run_int(after.graph, inputs)
    for a, b in zip(before.graph.outputs, after.graph.outputs, strict=True):
        np.testing.assert_array_equal(want[a], got[b])


def layer_channels(done: Compilation) -> list[int]:
    return [layer.output_shape[-1] for layer in done.program.layers]


def pointwise_depthwise(dead: list[int], pads: list[int]) -> onnx.ModelProto:
    constants = {
        "w1": normal((8, 3, 1, 1), 1), "b1": bias(8, dead),
        "w2": normal((8, 1, 3, 3), 3), "b2": bias(8, []),
        "w3": normal((5, 8, 1, 1), 4), "b3": bias(5, []),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w1 b1", "a"), node("Relu", "a", "r"),
        node("Conv", "r w2 b2", "c", group=8, pads=pads), node("Relu", "c", "s"),
        node("Conv", "s w3 b3", "y"),
    ]  # fmt: skip
    return proto(nodes, (1, 3, 6, 6), constants=constants)


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_a_dead_channel_leaves_through_a_depthwise_layer(pads: list[int]) -> None:
    before, after = both(pointwise_depthwise([1, 6], pads))
    assert layer_channels(before) == [8, 8, 5]
    assert layer_channels(after) == [6, 6, 5]
    assert after.program.macs < before.program.macs
    assert after.program.macs_before == before.program.macs
    assert after.program.weight_bytes < before.program.weight_bytes
    assert_same_outputs(before, after)


def test_nothing_goes_from_a_network_without_constants() -> None:
    before, after = both(pointwise_depthwise([], [0, 0, 0, 0]))
    assert layer_channels(before) == layer_channels(after)
    assert remove_constant_channels(after.graph, Config()) == 0


def saturated(pads: list[int]) -> onnx.ModelProto:
    """Channel 2 of the first layer is 6 for every input: a nonzero constant."""
    constants = {
        "w1": normal((4, 3, 1, 1), 1), "b1": bias(4, [2], 100.0),
        "w2": normal((3, 4, 3, 3), 3), "b2": bias(3, []),
        "lo": np.array(0, np.float32), "hi": np.array(6, np.float32),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w1 b1", "a"), node("Clip", "a lo hi", "r"),
        node("Conv", "r w2 b2", "y", pads=pads),
    ]  # fmt: skip
    return proto(nodes, (1, 3, 6, 6), constants=constants)


def test_a_nonzero_constant_is_folded_into_the_bias() -> None:
    before, after = both(saturated([0, 0, 0, 0]))
    assert layer_channels(after) == [3, 3]
    assert_same_outputs(before, after)


def test_a_nonzero_constant_before_a_padded_convolution_stays() -> None:
    before, after = both(saturated([1, 1, 1, 1]))
    assert layer_channels(after) == [4, 3]
    assert_same_outputs(before, after)


def test_channels_of_an_output_stay() -> None:
    m = pointwise_depthwise([1, 6], [0, 0, 0, 0])
    m.graph.output.append(onnx.helper.make_tensor_value_info("s", 1, [1, 8, 4, 4]))
    before, after = both(m)
    assert after.graph.shape(after.graph.outputs[1])[-1] == 8
    assert_same_outputs(before, after)


def test_an_add_loses_a_channel_only_when_both_sides_do() -> None:
    constants = {
        "w1": normal((6, 3, 1, 1), 1), "b1": bias(6, [0, 1]),
        "w2": normal((6, 3, 1, 1), 2), "b2": bias(6, [1, 2]),
        "w3": normal((4, 6, 1, 1), 4), "b3": bias(4, []),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w1 b1", "a"), node("Relu", "a", "ra"),
        node("Conv", "x w2 b2", "b"), node("Relu", "b", "rb"),
        node("Add", "ra rb", "s"), node("Conv", "s w3 b3", "y"),
    ]  # fmt: skip
    before, after = both(proto(nodes, (1, 3, 5, 5), constants=constants))
    assert layer_channels(after) == [5, 5, 5, 4]
    assert_same_outputs(before, after)


def test_a_channel_that_only_zero_weights_read_goes() -> None:
    w2 = normal((4, 6, 1, 1), 2)
    w2[:, 3] = 0
    constants = {"w1": normal((6, 3, 1, 1), 1), "w2": w2}
    nodes = [node("Conv", "x w1", "a"), node("Sigmoid", "a", "s"), node("Conv", "s w2", "y")]
    before, after = both(proto(nodes, (1, 3, 5, 5), constants=constants))
    assert layer_channels(after)[0] == 5
    assert_same_outputs(before, after)


def test_a_layer_that_is_all_constant_keeps_one_channel() -> None:
    before, after = both(pointwise_depthwise(list(range(8)), [0, 0, 0, 0]))
    assert layer_channels(after)[:2] == [1, 1]
    assert_same_outputs(before, after)


def test_dense_layers_shrink_on_both_sides() -> None:
    constants = {
        "w1": normal((7, 9), 1), "b1": bias(9, [0, 4, 8]),
        "w2": normal((9, 3), 2), "b2": bias(3, []),
    }  # fmt: skip
    nodes = [
        node("Gemm", "x w1 b1", "a"), node("Relu", "a", "r"), node("Gemm", "r w2 b2", "y"),
    ]  # fmt: skip
    before, after = both(proto(nodes, (1, 7), constants=constants))
    assert layer_channels(after) == [6, 3]
    assert_same_outputs(before, after)


def test_intervals_hold_what_the_reference_computes() -> None:
    done = compiled(pointwise_depthwise([1], [1, 1, 1, 1]), constant_channels=False)
    bounds = analyse(done.graph)
    rng = np.random.default_rng(0)
    (x,) = done.graph.inputs
    q = done.graph.quant(x).qtype
    inputs = {x: rng.choice([q.qmin, q.qmax], (200, *done.graph.shape(x)))}
    names = [t.name for t in done.graph.tensors() if t.data is None]
    for name, value in reference.run_int(done.graph, inputs, keep=names).items():
        assert (value >= bounds[name].lo).all()
        assert (value <= bounds[name].hi).all()


def test_a_scalar_after_the_removed_channels_keeps_its_shape() -> None:
    constants = {
        "w1": normal((8, 4), 1), "b1": bias(8, [1, 3]),
        "w2": normal((1, 8), 3), "b2": bias(1, []), "s": np.array([], np.int64),
    }  # fmt: skip
    nodes = [
        node("Gemm", "x w1 b1", "a", transB=1), node("Relu", "a", "r"),
        node("Gemm", "r w2 b2", "c", transB=1), node("Reshape", "c s", "d"),
        node("Sigmoid", "d", "y"),
    ]  # fmt: skip
    before, after = both(proto(nodes, (1, 4), constants=constants))
    assert layer_channels(after)[0] == 6
    assert after.program.outputs[0].shape == ()
    assert_same_outputs(before, after)
