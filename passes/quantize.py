"""quantize: every operator becomes integer by its own rule; the scales are chosen by now."""

from __future__ import annotations

from qcc.config import Config
from qcc.ir import Graph
from qcc.ops import OPS
from qcc.ops.base import QuantContext


def quantize(graph: Graph, config: Config) -> int:
    """Quantize constants and attributes of every node; returns the number of nodes."""
    ctx = QuantContext(config, config.weight_bits)
    nodes = list(graph.nodes())
    for node in nodes:
        OPS[node.op].quantize(graph, node, ctx)
    return len(nodes)
