"""fold_constants: a node that reads constants only becomes a constant."""

from __future__ import annotations

import numpy as np

from qcc.config import Config
from qcc.ir import Array, Graph, Node
from qcc.ops import OPS


def fold_constants(graph: Graph, config: Config) -> int:
    """Evaluate every node of a float graph whose inputs are all constants; returns how many.

    Before: b = transpose(@w); c = add(x, b).  After: c = add(x, @b).
    """
    return sum(_fold(graph, node) for node in list(graph.nodes()))


def _fold(graph: Graph, node: Node) -> bool:
    inputs = [graph.tensor(t) for t in node.inputs]
    if not inputs or any(t.data is None or t.quant is not None for t in inputs):
        return False
    if node.output in graph.outputs:
        return False  # an output has to be written by a node
    data = evaluate(node, [graph.constant(t) for t in node.inputs])
    graph.tensor(node.output).data = data
    graph.remove_node_keep_output(node)
    return True


def evaluate(node: Node, constants: list[Array]) -> Array:
    """The value of *node* on constants.

    ``run_float`` takes activations with a leading axis of samples and constants without. The first
    operand stands for the activation, as one sample; the others are constants as in any graph.
    """
    y = OPS[node.op].run_float(node.attrs, [constants[0][None], *constants[1:]])
    return np.ascontiguousarray(y[0], dtype=np.float32)
