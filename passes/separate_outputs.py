"""separate_outputs: an output that is only another name for stored bytes becomes a copy.

A reshape has no code, so what it writes is where its input is. That is no place for an output of
the model if the input is an input of the model, or another output.
Before: %y = reshape(%x), %x an input. After: %y = unary(reshape(%x)), the unary an identity.
"""

from __future__ import annotations

from qcc.config import Config
from qcc.functions import X
from qcc.ir import Graph, Node, Tensor
from qcc.ops import OPS
from qcc.ops.unary import Attrs


def separate_outputs(graph: Graph, config: Config) -> int:
    """Returns how many copies were added."""
    taken = set(graph.inputs)
    changes = 0
    for name in list(graph.outputs):
        root = _root(graph, name)
        if root in taken:
            _copy(graph, name)
            changes += 1
        taken.add(_root(graph, name))
    return changes


def _root(graph: Graph, tensor: str) -> str:
    """The tensor whose bytes *tensor* is."""
    while (node := graph.producer(tensor)) is not None and OPS[node.op].alias:
        tensor = node.inputs[0]
    return tensor


def _copy(graph: Graph, output: str) -> None:
    alias = graph.producer(output)
    assert alias is not None
    shape = graph.shape(output)
    through = graph.add_tensor(Tensor(graph.fresh(f"{output}.view"), shape)).name
    graph.set_output(alias, through)
    for reader in graph.consumers(output):  # one of them may be a view that is an output too
        graph.set_inputs(reader, [through if x == output else x for x in reader.inputs])
    name = graph.fresh(f"{alias.name}:copy")
    graph.add_node(Node(name, "unary", (through,), (output,), Attrs(X), alias.sources))
