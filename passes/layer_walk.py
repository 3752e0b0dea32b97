"""The layers with weights of a quantized graph, one after the other, each with what it reads.

Not a pass. Whoever walks may change the constants of a layer before asking for the next: what
follows is computed with them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from qcc.ir import Array, Graph, Int, Node
from qcc.ops import OPS
from qcc.passes.fold_batchnorm import LINEAR
from qcc.reference import quantize_tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with weights on calibration samples.

    Attributes:
        node: the quantized layer.
        float_node: the same in *source*.
        source: the graph before quantization.
        x: what *node* reads, integers (N, *shape).
        real_x: what *float_node* reads, (N, *shape).
    """

    node: Node
    float_node: Node
    source: Graph
    x: Int
    real_x: Array

    def target(self, samples: slice = slice(None)) -> Array:
        """Output (N, *shape) of the float layer before its activation."""
        constants = [self.source.constant(x) for x in self.float_node.inputs[1:]]
        attrs = dataclasses.replace(self.float_node.attrs, bounds=(-math.inf, math.inf))
        return OPS[self.node.op].run_float(attrs, [self.real_x[samples], *constants])


def walk_layers(graph: Graph, source: Graph, real: Mapping[str, Array]) -> Iterator[Layer]:
    """Every layer with weights of *graph*, in execution order.

    Args:
        graph: quantized.
        source: the same graph before quantization: same node and tensor names.
        real: float values (N, *shape) of every activation of *source*.
    """
    values: dict[str, Int] = {
        name: quantize_tensor(graph, name, real[name]) for name in graph.inputs
    }
    nodes = list(graph.nodes())
    last = {x: i for i, node in enumerate(nodes) for x in node.inputs}
    for i, node in enumerate(nodes):
        if node.op in LINEAR:
            float_node = source.node(node.name)
            x = values[node.inputs[0]]
            yield Layer(node, float_node, source, x, real[float_node.inputs[0]])
        read = [
            graph.constant(x).astype(np.int64) if graph.is_constant(x) else values[x]
            for x in node.inputs
        ]
        values[node.output] = OPS[node.op].run_int(graph, node, read)
        for name in {*node.inputs}:
            if last[name] == i:
                values.pop(name, None)
