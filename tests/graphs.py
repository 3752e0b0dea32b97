"""Small models for tests of passes: made as ONNX, read, rewritten, and run in float."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qcc.config import Config
from qcc.frontend.onnx_reader import read_onnx
from qcc.frontend.synthetic import input_shapes
from qcc.ir import Array, Graph, Shape
from qcc.ops.examples import model, normal
from qcc.passes.eliminate_identities import eliminate_identities
from qcc.passes.eliminate_transposes import eliminate_transposes
from qcc.reference import run_float, to_memory, to_onnx

CONFIG = Config()
PassFunction = Callable[[Graph, Config], int]


def node(op: str, inputs: str, output: str, **attrs: Any) -> onnx.NodeProto:
    """``node("Conv", "x w", "y", pads=[1, 1, 1, 1])``."""
    return helper.make_node(op, inputs.split(), [output], name=f"{op}_{output}", **attrs)


def proto(
    nodes: Sequence[onnx.NodeProto],
    x: Shape,
    outputs: str = "y",
    constants: Mapping[str, Array] | None = None,
) -> onnx.ModelProto:
    """A model with one input ``x``."""
    return model("m", nodes, {"x": x}, outputs.split(), constants)


def channel_last(m: onnx.ModelProto) -> Graph:
    """The graph after the layout passes: NHWC inside, no transposes around layers."""
    graph = read_onnx(m, "m")
    for rewrite in (eliminate_identities, eliminate_transposes, eliminate_identities):
        rewrite(graph, CONFIG)
        graph.verify()
    return graph


def ops(graph: Graph) -> list[str]:
    """The operators, in execution order."""
    return [n.op for n in graph.nodes()]


def outputs_for(graph: Graph, samples: Mapping[str, Array]) -> list[Array]:
    """Float outputs (N, *ONNX shape) for *samples*: ONNX input name -> (N, *ONNX shape)."""
    feeds: dict[str, Array] = {}
    for name in graph.inputs:
        origin = graph.tensor(name).origin
        assert origin is not None
        feeds[name] = to_memory(samples[origin.name], origin.perm)
    values = run_float(graph, feeds, keep=graph.outputs)
    outputs = []
    for name in graph.outputs:
        origin = graph.tensor(name).origin
        assert origin is not None
        outputs.append(to_onnx(values[name], origin.perm))
    return outputs


def float_outputs(graph: Graph, seed: int = 0, samples: int = 3) -> list[Array]:
    """Outputs in ONNX layout for normal inputs, each (samples, *ONNX shape)."""
    shapes = input_shapes(graph)
    return outputs_for(graph, {n: normal((samples, *s), seed) for n, s in shapes.items()})


def apply_checked(graph: Graph, rewrite: PassFunction, config: Config = CONFIG) -> int:
    """Run a pass; its result must verify, compute the same, and not change when run again."""
    before = float_outputs(graph)
    changes = rewrite(graph, config)
    graph.verify()
    for want, got in zip(before, float_outputs(graph), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    text = str(graph)
    rewrite(graph, config)
    assert str(graph) == text
    return changes
