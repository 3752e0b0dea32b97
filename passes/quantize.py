"""quantize: every operator becomes integer by its own rule; the scales are chosen by now."""

from __future__ import annotations

from qcc.config import Config
from qcc.ir import Graph
from qcc.ops import OPS
from qcc.ops.base import QuantContext
from qcc.passes.choose_widths import choose_widths


def quantize(graph: Graph, config: Config) -> int:
    """Quantize constants and attributes of every node; returns the number of nodes."""
    bits = choose_widths(graph, config).weights
    nodes = list(graph.nodes())
    for node in nodes:
        ctx = QuantContext(config, bits.get(node.name, config.weight_bits))
        OPS[node.op].quantize(graph, node, ctx)
    return len(nodes)
