"""fuse_unary: a region of elementwise operations on one tensor becomes one function of it.

%a = add(%x, @3)  %r = unary(%a) clip(x, 0, 6)  %m = mul(%x, %r)  %y = mul(%m, @1/6)
  ->   %y = unary(%x) mul(mul(x, clip(add(x, 3), 0, 6)), 0.1666667)

So every spelling of hard-swish, SiLU, GELU, Mish, ... ends as one table, without rounding in
between. A region holds functions of one variable, additions and products with numbers, and
additions and products of values inside the region; nothing outside reads what is inside, and all
shapes are equal. A clip right after a layer that can do it (fuse_activations) is left to the layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from qcc.config import Config
from qcc.functions import Expr, X, apply, clip, compose, size
from qcc.ir import Graph, Node
from qcc.ops.unary import Attrs
from qcc.passes.fuse_activations import fusable_producer

_MAX_SIZE = 128
"""Nodes of a region and of its function's tree: bounds the recursion that evaluates the tree."""


@dataclass(frozen=True, slots=True)
class _Region:
    """*nodes*, the last in execution order first, compute *fn* of the tensor *root*."""

    nodes: Sequence[Node]
    root: str
    fn: Expr


def fuse_unary(graph: Graph, config: Config) -> int:
    """Returns how many nodes went or changed."""
    nodes = list(graph.nodes())
    rank = {n.name: i for i, n in enumerate(nodes)}
    changes = 0
    for node in reversed(nodes):  # from the end: the largest region comes first
        if node.name in graph and (region := _region(graph, node, rank)) is not None:
            _replace(graph, region)
            changes += len(region.nodes)
    return changes


def _region(graph: Graph, sink: Node, rank: Mapping[str, int]) -> _Region | None:
    """The largest region that ends in *sink*, if one is worth a rewrite.

    It grows by the producer that comes last in execution order, so that the readers of a tensor
    inside the region are all known when its producer is considered.
    """
    if not _elementwise(graph, sink):
        return None
    inside = [sink]
    frontier = set(_operands(graph, sink))
    cuts: list[tuple[int, str]] = []  # (how many nodes, the only tensor that they read)
    while len(inside) <= _MAX_SIZE:
        if len(frontier) == 1 and _worthwhile(graph, inside, root := next(iter(frontier))):
            cuts.append((len(inside), root))
        names = {n.name for n in inside}
        producers = (_absorbable(graph, t, names, sink) for t in frontier)
        found = [p for p in producers if p is not None]
        if not found:
            break
        node = max(found, key=lambda p: rank[p.name])
        inside.append(node)
        frontier.remove(node.output)
        frontier.update(_operands(graph, node))
    for count, root in reversed(cuts):
        fn = _function(graph, inside[:count], root)
        if fn is not None:
            return _Region(inside[:count], root, fn)
    return None


def _elementwise(graph: Graph, node: Node) -> bool:
    """A function of its activations, element by element, all shapes equal."""
    if node.op == "unary":
        return True
    if node.op not in ("add", "mul"):
        return False
    return bool(graph.activations(node)) and all(
        graph.tensor(t).size == 1 if graph.is_constant(t) else _same(graph, t, node.output)
        for t in node.inputs
    )


def _same(graph: Graph, a: str, b: str) -> bool:
    return graph.shape(a) == graph.shape(b)


def _operands(graph: Graph, node: Node) -> tuple[str, ...]:
    return tuple(dict.fromkeys(graph.activations(node)))


def _absorbable(graph: Graph, tensor: str, inside: Set[str], sink: Node) -> Node | None:
    """The producer of *tensor*, if it may join the region."""
    node = graph.producer(tensor)
    if node is None or tensor in graph.outputs or not _elementwise(graph, node):
        return None
    if not _same(graph, tensor, sink.output):
        return None
    return node if all(c.name in inside for c in graph.consumers(tensor)) else None


def _worthwhile(graph: Graph, inside: Sequence[Node], root: str) -> bool:
    """The rewrite saves something, and does not part a clip from the layer that can do it."""
    names = {n.name for n in inside}
    for reader in graph.consumers(root):
        if reader.name in names and fusable_producer(graph, reader) is not None:
            return False
    return len(inside) > 1 or len(graph.activations(inside[0])) > 1


def _function(graph: Graph, inside: Sequence[Node], root: str) -> Expr | None:
    """What the region makes of *root*, or None if its tree would be too large."""
    made: dict[str, Expr] = {root: X}
    for node in reversed(inside):  # producers first
        made[node.output] = _apply(graph, node, made)
        if size(made[node.output]) > _MAX_SIZE:
            return None
    return made[inside[0].output]


def _apply(graph: Graph, node: Node, made: Mapping[str, Expr]) -> Expr:
    if node.op == "unary":
        return compose(node.attrs.fn, made[node.inputs[0]])
    a, b = (
        float(graph.constant(t).reshape(-1)[0]) if graph.is_constant(t) else made[t]
        for t in node.inputs
    )
    fn = "sub" if node.op == "add" and node.attrs.sign < 0 else node.op
    return clip(apply(fn, a, b), *node.attrs.bounds)


def _replace(graph: Graph, region: _Region) -> None:
    """The last node computes everything; it keeps its name, its output and the output's origin."""
    last, *others = region.nodes
    sources = [s for node in reversed(region.nodes) for s in node.sources]
    constants = [t for t in last.inputs if graph.is_constant(t)]
    last.op, last.attrs = "unary", Attrs(region.fn)
    last.sources = tuple(dict.fromkeys(sources))
    graph.set_inputs(last, [region.root])
    for node in others:
        graph.remove_node(node)
    for name in constants:
        graph.remove_if_unused(name)
