"""Which memory layout every operator works in: the choice that eliminate_transposes carries out.

Transposes are not operators here but relations. A tensor that no transpose writes is a *root*;
every other activation is ``root.transpose(perm)``. An operator that commutes with transposes, a
graph input and a graph output can work in either of two layouts: as it is, or as its neighbours
that have no choice (convolutions) want it. A copy in another layout costs one transpose for all
who read it. The cheapest choice is a minimum cut: one side of the cut works in the layout of the
convolutions, the other in the second one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import networkx as nx

from qcc.ir import Graph, Node, Shape
from qcc.ops import OPS
from qcc.ops.transpose import compose, inverse

Perm = tuple[int, ...]

_COPY = 1 << 60
"""Cost of one transpose; its elements decide between choices with equally many transposes."""
_ELEMENT = 1 << 20
"""Cost of one element; what changes for nothing in return decides the rest, at 1 apiece."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Perms of all activation inputs and of the output: it works on ``value.transpose(perm)``."""

    ins: Perm
    out: Perm


@dataclass(frozen=True, slots=True)
class Read:
    """One activation input: ``root.transpose(perm)``."""

    root: str
    perm: Perm


@dataclass(slots=True, eq=False)
class Item:
    """A graph input, a node that is no transpose, or a graph output.

    Attributes:
        node: None for inputs and outputs of the graph.
        reads: its activation inputs, in order.
        writes: the root that it writes; None for an output.
        pinned: an input or output that may not change.
        options: the two layouts to choose from; None: only its own.
        chosen: index of the option taken.
    """

    node: Node | None
    reads: list[Read]
    writes: str | None
    pinned: bool = False
    options: tuple[Layout, Layout] | None = None
    chosen: int = 0


@dataclass(slots=True)
class Problem:
    """All items in execution order, and what they read and write.

    Attributes:
        transposes: the nodes that are no items.
        views: every activation tensor as a view of its root.
        readers: root -> (item, perm) of everything that reads it.
    """

    graph: Graph
    items: list[Item] = field(default_factory=list[Item])
    transposes: list[Node] = field(default_factory=list[Node])
    views: dict[str, Read] = field(default_factory=dict[str, Read])
    writer: dict[str, Item] = field(default_factory=dict[str, Item])
    readers: dict[str, list[tuple[Item, Perm]]] = field(
        default_factory=dict[str, list[tuple[Item, Perm]]]
    )

    # -- what a layout is -----------------------------------------------------------------------

    def out(self, item: Item, choice: int) -> Perm:
        """Layout of what *item* writes."""
        assert item.writes is not None
        if item.options is None:
            return identity(len(self.graph.shape(item.writes)))
        return item.options[choice].out

    def need(self, item: Item, choice: int, perm: Perm) -> Perm:
        """Layout of the root that *item* wants to read, where it reads ``root.transpose(perm)``."""
        return perm if item.options is None else compose(perm, item.options[choice].ins)

    def key(self, root: str, perm: Perm) -> Perm:
        """*perm* without axes of size 1: equal keys, equal memory."""
        shape = self.graph.shape(root)
        return tuple(p for p in perm if shape[p] != 1)

    def cost(self) -> int:
        """Of the transposes that the present choice takes."""
        total = 0
        for root, readers in self.readers.items():
            own = self.key(root, self.out(self.writer[root], self.writer[root].chosen))
            needs = {self.key(root, self.need(c, c.chosen, p)) for c, p in readers}
            total += len(needs - {own}) * copy_cost(self.graph.shape(root))
        return total


def copy_cost(shape: Shape) -> int:
    """Cost of transposing a tensor of *shape*."""
    elements = 1
    for n in shape:
        elements *= n
    return _COPY + _ELEMENT * elements


def identity(rank: int) -> Perm:
    return tuple(range(rank))


# -- stating the problem --------------------------------------------------------------------------


def state(graph: Graph) -> Problem:
    """The items of *graph* and their connections, every item in its own layout."""
    p = Problem(graph)
    for name in graph.inputs:
        _add(p, Item(None, [], name))
    for node in graph.nodes():
        if node.op == "transpose" and node.inputs[0] in p.views:
            view = p.views[node.inputs[0]]
            p.transposes.append(node)
            p.views[node.output] = Read(view.root, compose(view.perm, node.attrs.perm))
            continue
        reads = [p.views[t] for t in graph.activations(node)]
        _add(p, Item(node, reads, node.output))
    for name in graph.outputs:
        _add(p, Item(None, [p.views[name]], None))
    _pin(p)
    return p


def _add(p: Problem, item: Item) -> None:
    p.items.append(item)
    for read in item.reads:
        p.readers[read.root].append((item, read.perm))
    if item.writes is not None:
        p.writer[item.writes] = item
        p.readers[item.writes] = []
        p.views[item.writes] = Read(item.writes, identity(len(p.graph.shape(item.writes))))


def _pin(p: Problem) -> None:
    """An output that would share its memory with an input or another output keeps its layout."""
    for root, readers in p.readers.items():
        outputs = [item for item, _ in readers if item.writes is None]
        source = p.writer[root]
        if not outputs or (len(outputs) == 1 and source.node is not None):
            continue
        for item in outputs:
            item.pinned = True
        source.pinned = source.pinned or source.node is None


# -- the two layouts of every item ----------------------------------------------------------------


def offer(p: Problem) -> None:
    """Find the second layout of everything that can have one, starting at every transpose."""
    edges = [
        (p.writer[read.root], item, read.perm)
        for item in p.items
        for read in item.reads
        if p.key(read.root, read.perm) != tuple(sorted(p.key(read.root, read.perm)))
    ]
    for anchored in (True, False):  # first where one side has no choice
        for source, reader, perm in edges:
            _seed(p, source, reader, perm, anchored)


def _seed(p: Problem, source: Item, reader: Item, perm: Perm, anchored: bool) -> None:
    """Give an item beside a transpose the layout that makes the transpose vanish."""
    if source.options is None and reader.options is None:
        forward = carry(p, reader, inverse(perm))
        backward = carry_back(p, source, perm)
        if forward is not None and not (anchored and backward is not None):
            _flood(p, reader, (forward, _own(p, reader)))
        elif backward is not None and not (anchored and forward is not None):
            _flood(p, source, (backward, _own(p, source)))
    elif reader.options is None:
        wanted = compose(inverse(perm), p.out(source, 0))
        if (layout := carry(p, reader, wanted)) is not None:
            _flood(p, reader, (layout, _own(p, reader)))
    elif source.options is None:
        wanted = p.need(reader, 0, perm)
        if (layout := carry_back(p, source, wanted)) is not None:
            _flood(p, source, (layout, _own(p, source)))


def _own(p: Problem, item: Item) -> Layout:
    """The layout that *item* has now."""
    ins = identity(len(item.reads[0].perm)) if item.reads else ()
    out = identity(len(p.graph.shape(item.writes))) if item.writes is not None else ()
    return Layout(ins, out)


def _flood(p: Problem, start: Item, options: tuple[Layout, Layout]) -> None:
    """Offer *options* to *start* and, translated, to all that are connected to it."""
    start.options = options
    todo = deque([start])
    while todo:
        item = todo.popleft()
        for other, translated in _neighbours(p, item):
            if _own(p, other) in translated:
                other.options = translated
                todo.append(other)


def _neighbours(p: Problem, item: Item) -> Iterator[tuple[Item, tuple[Layout, Layout]]]:
    """Items without options beside *item*, with the layouts that match its two."""
    for read in item.reads:
        source = p.writer[read.root]
        if source.options is None:
            a, b = (carry_back(p, source, p.need(item, i, read.perm)) for i in range(2))
            if a is not None and b is not None:
                yield source, (a, b)
    if item.writes is None:
        return
    for reader, perm in p.readers[item.writes]:
        if reader.options is None:
            back = inverse(perm)
            a, b = (carry(p, reader, compose(back, p.out(item, i))) for i in range(2))
            if a is not None and b is not None:
                yield reader, (a, b)


def carry(p: Problem, item: Item, ins: Perm) -> Layout | None:
    """The layout of *item* when its inputs come as ``value.transpose(ins)``; None: it cannot."""
    if item.node is None:
        if item.pinned or item.writes is not None:
            return None
        (read,) = item.reads
        root = p.graph.shape(read.root)
        return Layout(canonical(ins, tuple(root[a] for a in read.perm)), ())
    if item.node.op == "reshape":
        return _carry_reshape(p.graph, item.node, ins)
    return _commuted(p.graph, item.node, ins)


def carry_back(p: Problem, item: Item, out: Perm) -> Layout | None:
    """The layout of *item* whose output is ``value.transpose(out)``; None: it cannot."""
    assert item.writes is not None
    if item.node is None:
        return None if item.pinned else Layout((), canonical(out, p.graph.shape(item.writes)))
    if item.node.op == "reshape":
        x, y = p.graph.shape(item.node.inputs[0]), p.graph.shape(item.node.output)
        ins = through_reshape(y, x, out)
        return None if ins is None else Layout(ins, canonical(out, y))
    return _commuted(p.graph, item.node, out)


def _commuted(graph: Graph, node: Node, perm: Perm) -> Layout | None:
    """All inputs and the output alike, for operators that say how (``Op.permute``)."""
    shapes = [graph.shape(t) for t in (*graph.activations(node), node.output)]
    if {len(shape) for shape in shapes} != {len(perm)}:
        return None
    usual = canonical(perm, tuple(max(sizes) for sizes in zip(*shapes, strict=True)))
    if OPS[node.op].permute(node.attrs, inverse(usual), len(usual)) is None:
        return None
    return Layout(usual, usual)


def _carry_reshape(graph: Graph, node: Node, ins: Perm) -> Layout | None:
    x, y = graph.shape(node.inputs[0]), graph.shape(node.output)
    out = through_reshape(x, y, ins)
    if out is not None:
        return Layout(canonical(ins, x), out)
    if absorbing_layers(graph, node):
        return Layout(canonical(ins, x), identity(len(y)))
    return None


def absorbing_layers(graph: Graph, node: Node) -> list[Node]:
    """The dense layers that read the flattening *node*, if nothing else does.

    They do not care in which order the elements come: their columns follow.
    """
    y, readers = node.output, graph.consumers(node.output)
    shape = graph.shape(y)
    if not shape or graph.tensor(y).size != shape[-1] or y in graph.outputs:
        return []
    for r in readers:
        if r.op != "dense" or y in r.inputs[1:] or not graph.is_constant(r.inputs[1]):
            return []
    return readers


def through_reshape(x: Shape, y: Shape, perm: Perm) -> Perm | None:
    """q such that a reshape of v.transpose(perm) gives w.transpose(q), w the reshape of v from *x* to *y*.

    It exists if the reshape splits and joins axes only within groups that *perm* keeps together.
    Axes of size 1 go anywhere; here to the axis that follows them.
    """  # noqa: E501
    groups = _groups(x, y)
    if groups is None:
        return None
    order = [a for a in perm if x[a] != 1]
    result: list[int] = []
    at = 0
    starts = {before[0]: (before, after) for before, after in groups}
    while at < len(order):
        if order[at] not in starts:
            return None
        before, after = starts[order[at]]
        if order[at : at + len(before)] != before:
            return None
        result += after
        at += len(before)
    return with_ones(y, result)


def _groups(x: Shape, y: Shape) -> list[tuple[list[int], list[int]]] | None:
    """Smallest runs of axes of *x* and *y* with equal products, axes of size 1 left out."""
    left = [a for a, n in enumerate(x) if n != 1]
    right = [a for a, n in enumerate(y) if n != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while left and right:
        before, after = [left.pop(0)], [right.pop(0)]
        m, n = x[before[0]], y[after[0]]
        while m != n:
            if m < n:
                if not left:
                    return None
                m *= x[left[0]]
                before.append(left.pop(0))
            else:
                if not right:
                    return None
                n *= y[right[0]]
                after.append(right.pop(0))
        groups.append((before, after))
    return None if left or right else groups


def with_ones(y: Shape, order: Sequence[int]) -> Perm:
    """*order*, an arrangement of the axes of *y* above 1, with the others put in."""
    result = list(order)
    for axis in reversed(range(len(y))):
        if y[axis] != 1:
            continue
        if axis == 0:
            result.insert(0, axis)
        elif axis + 1 < len(y):
            result.insert(result.index(axis + 1), axis)
        else:
            leaders = [a for a in range(axis) if y[a] != 1]
            result.insert(result.index(leaders[-1]) + 1 if leaders else 0, axis)
    return tuple(result)


def canonical(perm: Perm, shape: Shape) -> Perm:
    """Of all perms that arrange the axes of *shape* above 1 as *perm* does, the usual one."""
    return with_ones(shape, [p for p in perm if shape[p] != 1])


# -- choosing -------------------------------------------------------------------------------------


def choose(p: Problem) -> None:
    """Take the cheapest option of every item; ties keep what is."""
    free = [item for item in p.items if item.options is not None]
    if not free:
        return
    net: nx.DiGraph[object] = nx.DiGraph()
    net.add_nodes_from((_FIRST, _SECOND))
    for item in free:
        assert item.options is not None
        _charge(net, item, 1 if item.options[0] == _own(p, item) else 0, 1)
    for root, readers in p.readers.items():
        _price(p, net, root, readers)
    _, (first, _) = nx.minimum_cut(net, _FIRST, _SECOND)
    for item in free:
        item.chosen = 0 if item in first else 1


_FIRST, _SECOND = "first", "second"
"""Source and sink of the cut: the sides of options 0 and 1."""


def _charge(net: nx.DiGraph[object], item: object, side: int, cost: int) -> None:
    """*cost* if *item* ends on *side*."""
    edge: tuple[object, object] = (_FIRST, item) if side == 1 else (item, _SECOND)
    before = net.edges[edge]["capacity"] if net.has_edge(*edge) else 0
    net.add_edge(*edge, capacity=before + cost)


def _price(
    p: Problem, net: nx.DiGraph[object], root: str, readers: Sequence[tuple[Item, Perm]]
) -> None:
    """Charge the copies of *root* in other layouts than its writer's, each once for all readers."""
    source, cost = p.writer[root], copy_cost(p.graph.shape(root))
    own = [p.key(root, p.out(source, i)) for i in range(2)]
    fixed = own[0] == own[1]
    for reader, perm in readers:
        needs = [p.key(root, p.need(reader, i, perm)) for i in range(2)]
        always = needs[0] == needs[1]
        if fixed:
            for side in range(2):
                if not always and needs[side] != own[0]:
                    _copy(net, None, reader, side, (root, needs[side], side), cost)
        elif always:
            if needs[0] in own:
                side = own.index(needs[0])
                _copy(net, source, None, side, (root, needs[0], side), cost)
        else:
            for side in range(2):
                if needs[side] == own[side]:
                    _copy(net, source, reader, side, (root, needs[side], side), cost)
                elif needs[side] not in own:
                    _charge(net, reader, side, cost)
                # else crossed: no cut expresses it; the comparison of costs at the end does


def _copy(
    net: nx.DiGraph[object],
    source: Item | None,
    reader: Item | None,
    side: int,
    copy: object,
    cost: int,
) -> None:
    """Charge *cost* once if a *reader* (None: always) is on *side* and *source* is not (None: never).

    *copy* is a vertex that is on *side* as soon as one of its readers is.
    """  # noqa: E501
    if side == 1:
        net.add_edge(source or _FIRST, copy, capacity=cost)
        net.add_edge(copy, reader or _SECOND)
    else:
        net.add_edge(copy, source or _SECOND, capacity=cost)
        net.add_edge(reader or _FIRST, copy)
