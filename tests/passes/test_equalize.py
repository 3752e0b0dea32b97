"""equalize: the same function with channels of like size, over branches and beside clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from qcc.config import Config
from qcc.ir import Array, Graph
from qcc.ops.examples import normal
from qcc.passes.equalize import connected, equalize, wanted
from qcc.passes.fuse_activations import fuse_activations
from qcc.reference import run_float
from tests.build import compiled
from tests.graphs import CONFIG, channel_last, node, proto

SPREAD = np.array([1.0, 0.5, 2.0, 0.25, 1.0, 3.0], np.float32).reshape(-1, 1, 1, 1)
CONSTANTS = {
    "w1": normal((6, 3, 3, 3), 1, 0.3) * SPREAD, "b1": normal((6,), 9, 0.1),
    "w2": normal((6, 1, 3, 3), 2), "w3": normal((6, 6, 1, 1), 3), "w4": normal((4, 6, 1, 1), 4),
    "lo": np.array(0, np.float32), "hi": np.array(6, np.float32),
}  # fmt: skip


def chain() -> onnx.ModelProto:
    nodes = [
        node("Conv", "x w1 b1", "a"), node("Relu", "a", "r"), node("Conv", "r w2", "b", group=6),
        node("Relu", "b", "s"), node("MaxPool", "s", "p", kernel_shape=[2, 2]),
        node("Conv", "p w4", "y"),
    ]  # fmt: skip
    return proto(nodes, (1, 3, 9, 9), constants=CONSTANTS)


def branches() -> onnx.ModelProto:
    nodes = [
        node("Conv", "x w1", "a", pads=[1] * 4), node("Relu", "a", "r"),
        node("Conv", "r w3", "b"), node("Add", "r b", "s"), node("Relu", "s", "t"),
        node("Conv", "t w4", "y"),
    ]  # fmt: skip
    return proto(nodes, (1, 3, 9, 9), constants=CONSTANTS)


def relu6() -> onnx.ModelProto:
    nodes = [
        node("Conv", "x w1", "a"), node("Clip", "a lo hi", "r"), node("Conv", "r w4", "y"),
    ]  # fmt: skip
    return proto(nodes, (1, 3, 9, 9), constants=CONSTANTS)


def ready(m: onnx.ModelProto, gain: float = 1.0) -> tuple[Graph, dict[str, Array]]:
    graph = channel_last(m)
    fuse_activations(graph, CONFIG)
    (x,) = graph.inputs
    data = (gain * normal((20, *graph.shape(x)), 3)).astype(np.float32)
    values = run_float(graph, {x: data})
    return graph, {t.name: values[t.name] for t in graph.tensors() if t.data is None}


def spread(x: Array) -> float:
    """The largest channel beside the smallest."""
    sizes = np.quantile(np.abs(x.reshape(-1, x.shape[-1])), 0.999, axis=0)
    return float(sizes.max() / sizes.min())


@pytest.mark.parametrize("make", [chain, branches, relu6])
@pytest.mark.parametrize("per_channel", [True, False])
def test_the_function_stays_the_same(make: Any, per_channel: bool) -> None:
    graph, real = ready(make())
    assert equalize(graph, Config(per_channel=per_channel), real) > 0
    graph.verify()
    after = run_float(graph, {t: real[t] for t in graph.inputs}, keep=graph.outputs)
    for name, got in after.items():
        np.testing.assert_allclose(got, real[name], rtol=1e-4, atol=1e-4)


def test_channels_before_a_depthwise_layer_become_alike() -> None:
    graph, real = ready(chain())
    (name,) = [n.output for n in graph.nodes() if n.op == "conv2d"][:1]
    assert spread(real[name]) > 4
    equalize(graph, CONFIG, real)
    after = run_float(graph, {t: real[t] for t in graph.inputs})
    assert spread(after[name]) < 0.5 * spread(real[name])


def test_all_branches_of_an_addition_share_their_factors() -> None:
    graph, _ = ready(branches())
    (found,) = connected(graph)
    assert len(found.tensors) == 3
    assert len(found.writers) == 2
    assert len(found.readers) == 2


def test_inputs_outputs_and_other_operators_keep_their_channels() -> None:
    nodes = [
        node("Conv", "x w1", "a"), node("Sigmoid", "a", "s"), node("Conv", "s w4", "y"),
        node("Conv", "x w1", "z"),
    ]  # fmt: skip
    graph, real = ready(proto(nodes, (1, 3, 9, 9), "y z", CONSTANTS))
    assert equalize(graph, CONFIG, real) == 0


def test_channels_at_a_clip_keep_their_factor_and_others_stay_below_it() -> None:
    graph, real = ready(relu6(), gain=2.0)
    first = next(n for n in graph.nodes() if n.op == "conv2d")
    before = graph.constant(first.inputs[1]).copy()
    peaks = np.abs(real[first.output]).max(axis=(0, 1, 2, 3))
    assert (peaks >= 6).any()
    assert (peaks < 4).any()
    assert equalize(graph, CONFIG, real) == 1
    ratio = (graph.constant(first.inputs[1]) / before).reshape(6, -1).mean(axis=1)
    np.testing.assert_allclose(ratio[peaks * 1.25 >= 6], 1.0, rtol=1e-6)
    assert (ratio * peaks)[peaks * 1.25 < 6].max() <= 6 / 1.25 + 1e-5
    after = run_float(graph, {t: real[t] for t in graph.inputs}, keep=graph.outputs)
    for name, got in after.items():
        np.testing.assert_allclose(got, real[name], rtol=1e-4, atol=1e-4)


def test_four_bit_activations_gain_and_it_is_their_default() -> None:
    rng = np.random.default_rng(0)
    x = {"x": rng.normal(size=(40, 1, 3, 9, 9)).astype(np.float32)}
    on, off, auto = (
        compiled(chain(), act_bits=4, equalize=how, calibration=x) for how in ("on", "off", "auto")
    )
    (y,) = on.graph.outputs
    assert on.sqnr_db[y] > off.sqnr_db[y] + 1
    assert auto.sqnr_db == on.sqnr_db
    assert not wanted(Config(act_bits=8, calibration=x))
    assert not wanted(Config(act_bits=4))
