"""correct_bias: the mean error of every output channel goes, and only that changes."""

from __future__ import annotations

import numpy as np
import onnx

from qcc import reference
from qcc.driver import Compilation
from qcc.frontend.float_model import FloatModel
from qcc.ir import Array
from qcc.ops.examples import normal
from tests.build import compiled
from tests.graphs import node, proto


def network() -> onnx.ModelProto:
    """Three layers on inputs with a large mean, where rounded weights shift every output."""
    constants = {
        "w1": normal((8, 3, 3, 3), 1), "w2": normal((8, 1, 3, 3), 2), "w3": normal((4, 8, 1, 1), 3),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w1", "a"), node("Relu", "a", "r"),
        node("Conv", "r w2", "b", group=8), node("Conv", "b w3", "y"),
    ]  # fmt: skip
    return proto(nodes, (1, 3, 10, 10), constants=constants)


def samples(count: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return (2 + rng.normal(size=(count, 1, 3, 10, 10))).astype(np.float32)


def channel_means(done: Compilation, m: onnx.ModelProto, x: Array) -> tuple[Array, Array]:
    """(float, integer) means of the output channels in real units."""
    model = FloatModel(m, ["y"], {})
    want = np.concatenate([model.run({"x": v})["y"] for v in x]).mean(axis=(0, 2, 3))
    graph = done.graph
    (name,) = graph.outputs
    got = reference.run_int(graph, reference.quantize_inputs(graph, {"x": x}))[name]
    return want, got.mean(axis=(0, 1, 2, 3)) * graph.quant(name).scalar


def test_the_mean_error_shrinks_on_data_it_has_not_seen() -> None:
    m = network()
    errors = []
    for on in (False, True):
        done = compiled(m, weight_bits=4, calibration={"x": samples(40, 0)}, bias_correction=on)
        want, got = channel_means(done, m, samples(40, 1))
        errors.append(float(np.abs(want - got).max()))
    assert errors[1] < 0.3 * errors[0], errors


def test_only_biases_change() -> None:
    m = network()
    graphs = [
        compiled(m, calibration={"x": samples(20, 0)}, bias_correction=on).graph
        for on in (False, True)
    ]
    for a, b in zip(graphs[0].nodes(), graphs[1].nodes(), strict=True):
        assert a.attrs.rescale == b.attrs.rescale
        np.testing.assert_array_equal(
            graphs[0].constant(a.inputs[1]), graphs[1].constant(b.inputs[1])
        )


def test_the_bounds_cover_the_corrected_biases() -> None:
    graph = compiled(network(), weight_bits=2, calibration={"x": samples(20, 0)}).graph
    for n in graph.nodes():
        q = graph.quant(n.inputs[0]).qtype
        w = np.abs(graph.constant(n.inputs[1]).astype(np.int64)).reshape(
            len(graph.constant(n.inputs[1])), -1
        )
        reach = w.sum(axis=1) * max(-q.qmin, q.qmax) + np.abs(graph.constant(n.inputs[2]))
        assert reach.max() <= n.attrs.acc_bound
