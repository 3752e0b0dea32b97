"""fuse_activations: a clip moves into the layer before it.

%c = conv2d(%x, @w)  %y = unary(%c) clip(x, 0, inf)   ->   %y = conv2d(%x, @w) bounds (0, inf)

The layer is any operator with ``attrs.bounds``; it has no other reader and writes no output of the
graph. It then writes the activation's tensor, which keeps its name and origin.
"""

from __future__ import annotations

from qcc.config import Config
from qcc.functions import clip_bounds, intersect
from qcc.ir import Graph, Node


def fuse_activations(graph: Graph, config: Config) -> int:
    """Returns how many clips went."""
    return sum(_fuse(graph, n) for n in list(graph.nodes()) if n.op == "unary")


def fusable_producer(graph: Graph, node: Node) -> Node | None:
    """The layer that can do what *node* does, if *node* is a clip right after one."""
    if node.op != "unary" or clip_bounds(node.attrs.fn) is None:
        return None
    layer = graph.producer(node.inputs[0])
    if layer is None or not hasattr(layer.attrs, "bounds"):
        return None
    return layer if graph.sole_consumer(layer.output) is node else None


def _fuse(graph: Graph, node: Node) -> bool:
    layer, bounds = fusable_producer(graph, node), clip_bounds(node.attrs.fn)
    if layer is None or bounds is None:
        return False
    old, output = layer.output, node.output
    layer.update(bounds=intersect(layer.attrs.bounds, bounds))
    layer.sources = tuple(dict.fromkeys((*layer.sources, *node.sources)))
    graph.remove_node_keep_output(node)
    graph.set_output(layer, output)
    graph.remove_if_unused(old)
    return True
