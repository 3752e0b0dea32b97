"""remove_dead_nodes: nodes whose result nobody uses, and constants that nobody reads."""

from __future__ import annotations

from qcc.config import Config
from qcc.ir import Graph


def remove_dead_nodes(graph: Graph, config: Config) -> int:
    """Remove what contributes to no output; graph inputs stay. Returns how many went.

    Before: b = relu(a); c = tanh(a); return c.  After: c = tanh(a); return c.
    """
    changes = 0
    for node in reversed(list(graph.nodes())):  # readers go before what they read
        if node.output not in graph.outputs and not graph.consumers(node.output):
            graph.remove_node(node)
            changes += 1
    return changes + sum(graph.remove_if_unused(t.name) for t in graph.tensors())
