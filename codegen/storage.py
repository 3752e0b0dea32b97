"""Where every tensor lies: views, the order of the layers, and offsets in the arena.

A reshape, a contiguous slice and a concatenation of whole buffers need no code: what they make is
bytes that are there already. What is left are layers with code, in the order with the lowest
memory peak, and buffers that the planner places. Inputs and outputs of the model belong to the
caller, who may put them at offsets in the arena that the plan keeps free for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from qcc.codegen.memory import Item, Overlap, Plan, plan
from qcc.codegen.program import Buffer, BufferKind
from qcc.codegen.schedule import Schedule, Step, schedule
from qcc.codegen.variants import Variant
from qcc.config import Io
from qcc.ir import Graph, Node
from qcc.ops import OPS

ARENA_ALIGN = 8
"""Alignment of the arena and of every buffer in it: enough for any element type."""

_VIEW_ALIGN = 4
"""Slices and parts of a concatenation that begin at other addresses are copied: kernels load
words."""

_WORTH_COPIES = 15
"""Parts are copied, which takes time and code, where the arena then is at most so many sixteenths
of what it is with views."""


@dataclass(frozen=True, slots=True)
class Views:
    """Which tensors are bytes of others.

    Attributes:
        owner: tensor -> the one whose very bytes it is: reshapes.
        inside: owner -> (the owner that it is a part of, bytes from its beginning).
        silent: names of the nodes that need no code.
    """

    owner: Mapping[str, str]
    inside: Mapping[str, tuple[str, int]]
    silent: frozenset[str]

    def root(self, tensor: str) -> tuple[str, int]:
        """(the tensor that has storage of its own, bytes from its beginning to *tensor*)."""
        name, at = self.owner[tensor], 0
        while name in self.inside:
            name, more = self.inside[name]
            at += more
        return name, at


@dataclass(frozen=True, slots=True)
class Storage:
    """A place for everything.

    Attributes:
        nodes: the layers that have code, in order of execution.
        views: which tensors are parts of others.
        offsets: in the arena, of every tensor that owns storage there, and of scratch memory
            under ``scratch_name``.
        ports: inputs and outputs of the graph that may be in the arena -> where.
        buffers: what the arena holds.
        arena_bytes: its size.
        bound: no plan for this order of layers is smaller.
        bound_any_order: no plan for any order is smaller; None if that was not found out.
    """

    nodes: tuple[Node, ...]
    views: Views
    offsets: Mapping[str, int]
    ports: Mapping[str, int]
    buffers: tuple[Buffer, ...]
    arena_bytes: int
    bound: int
    bound_any_order: int | None


def scratch_name(node: Node) -> str:
    """The memory plan's name for the scratch memory of *node*."""
    return f"{node.name} (scratch)"


def store(graph: Graph, variants: Mapping[str, Variant], io: Io = "auto") -> Storage:
    """Order and places for the layers of the integer *graph*, computed by *variants*.

    Args:
        graph: the integer graph.
        variants: node name -> its kernel.
        io: inputs and outputs are never in the arena ("caller"), all of them may be ("arena"), or
            those for which it need not grow ("auto").
    """
    best = _store(graph, variants, io, find_views(graph))
    for parts in ("joined", "inputs") if best.arena_bytes else ():
        # Views save copies, but what they are parts of lives longer.
        views, enough = find_views(graph, parts), best.arena_bytes * _WORTH_COPIES // 16
        if len(views.inside) == len(best.views.inside):
            continue
        if _store(graph, variants, io, views, enough).arena_bytes <= enough:
            best = _store(graph, variants, io, views)
    return best


def arena_size(graph: Graph, variants: Mapping[str, Variant], io: Io = "auto") -> int:
    """The size of the arena that ``store`` would need."""
    return store(graph, variants, "caller" if io == "auto" else io).arena_bytes


def coded(graph: Graph) -> list[Node]:
    """The nodes that have code where parts of tensors are views."""
    silent = find_views(graph).silent
    return [n for n in graph.nodes() if n.name not in silent]


# -- views ----------------------------------------------------------------------------------------


Parts = Literal["all", "joined", "inputs"]


def find_views(graph: Graph, parts: Parts = "all") -> Views:
    """The views of *graph*.

    A graph output that is a reshape owns the storage of the whole chain, if the chain starts at a
    layer; an input of the graph always owns its own.

    Args:
        graph: the integer graph.
        parts: which slices and concatenations are views where they can be: all; or slices of
            the graph's inputs and concatenations; or slices of the graph's inputs.
    """
    owner = {t.name: t.name for t in graph.tensors() if t.data is None}
    silent: set[str] = set()
    for node in graph.nodes():
        if OPS[node.op].alias:
            owner[node.output] = owner[node.inputs[0]]
            silent.add(node.name)
    for out in graph.outputs:
        first = owner[out]
        if first not in graph.inputs and first not in graph.outputs:
            owner = {t: (out if o == first else o) for t, o in owner.items()}
    inside: dict[str, tuple[str, int]] = {}
    for node in graph.nodes():
        outer = node.op == "slice" and owner[node.inputs[0]] in graph.inputs
        if not outer and not (parts == "all" or (parts == "joined" and node.op == "concat")):
            continue
        if found := _parts(graph, node, owner, inside):
            inside |= found
            silent.add(node.name)
    return Views(owner, inside, frozenset(silent))


def _parts(
    graph: Graph, node: Node, owner: Mapping[str, str], inside: Mapping[str, tuple[str, int]]
) -> dict[str, tuple[str, int]]:
    """What becomes a part of something else if *node* has no code; empty if it must have some."""
    fixed = {owner[t] for t in (*graph.inputs, *graph.outputs)} | inside.keys()
    if node.op == "slice":
        at = _slice_offset(graph, node)
        part = owner[node.output]
        if at is None or part in fixed:
            return {}
        return {part: (owner[node.inputs[0]], at)}
    if node.op != "concat" or math.prod(graph.shape(node.output)[: node.attrs.axis]) != 1:
        return {}
    if any(graph.is_constant(t) for t in node.inputs):
        return {}
    found: dict[str, tuple[str, int]] = {}
    at = 0
    for t in node.inputs:
        part = owner[t]
        if part in fixed or part in found or at % _VIEW_ALIGN:
            return {}
        found[part] = (owner[node.output], at)
        at += tensor_bytes(graph, t)
    return found


def _slice_offset(graph: Graph, node: Node) -> int | None:
    """Bytes from the beginning of its input to a slice that is contiguous and aligned."""
    shape, attrs = graph.shape(node.inputs[0]), node.attrs
    cut = [i for i, (n, size) in enumerate(zip(shape, attrs.sizes, strict=True)) if n != size]
    if any(step != 1 for step, size in zip(attrs.steps, attrs.sizes, strict=True) if size > 1):
        return None
    if cut and math.prod(attrs.sizes[: cut[-1]]) != 1:
        return None
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    first = sum(s * start for s, start in zip(strides, attrs.starts, strict=True))
    at = first * graph.quant(node.inputs[0]).qtype.storage_bits // 8
    return at if at % _VIEW_ALIGN == 0 else None


def tensor_bytes(graph: Graph, tensor: str) -> int:
    """Bytes of storage of an integer tensor."""
    return graph.tensor(tensor).size * graph.quant(tensor).qtype.storage_bits // 8


# -- order and places -----------------------------------------------------------------------------


def _store(
    graph: Graph, variants: Mapping[str, Variant], io: Io, views: Views, enough: int = 0
) -> Storage:
    """The best of the given order and that with the lowest peak; *enough* as for ``plan``."""
    given = [n for n in graph.nodes() if n.name not in views.silent]
    ordered = _order(graph, given, variants, io, views)
    orders = [given]
    if ordered.order != tuple(range(len(given))):
        orders.append([given[i] for i in ordered.order])
    layouts = [_Layout(graph, nodes, variants, views) for nodes in orders]
    results = [(layout, *layout.place(io, enough)) for layout in layouts]
    layout, done, ports = min(results, key=lambda r: r[1].total_bytes)
    offsets = {item: at for item, at in done.offsets.items() if item not in views.inside}
    return Storage(
        nodes=layout.nodes,
        views=views,
        offsets=offsets,
        ports={t: offsets[views.owner[t]] for t in ports},
        buffers=layout.buffers(offsets),
        arena_bytes=done.total_bytes,
        bound=done.bound,
        bound_any_order=ordered.peak if ordered.proved else None,
    )


def _order(
    graph: Graph, nodes: Sequence[Node], variants: Mapping[str, Variant], io: Io, views: Views
) -> Schedule:
    """The order of *nodes* with the lowest peak."""
    inputs, outputs = ({views.root(t)[0] for t in ts} for ts in (graph.inputs, graph.outputs))
    outside = set() if io == "arena" else inputs | outputs
    sizes: dict[str, int] = {}
    for tensor in views.owner:
        root, at = views.root(tensor)
        end = _aligned(at + tensor_bytes(graph, tensor))
        sizes[root] = 0 if root in outside else max(sizes.get(root, 0), end)
    steps = []
    for node in nodes:
        owners = dict.fromkeys(views.owner[t] for t in graph.activations(node))
        declared = _leads(graph, node, variants, views)
        writes, at = views.root(node.output)
        leads: dict[str, int] = {}
        shut = {writes, *outside}
        for owner in owners:
            root, below = views.root(owner)
            if owner in declared:
                lead = _aligned(declared[owner] + at - below)
                leads[root] = max(leads.get(root, 0), lead)
            else:
                shut.add(root)
        leads = {root: lead for root, lead in leads.items() if root not in shut}
        scratch = _aligned(variants[node.name].scratch)
        reads = tuple(dict.fromkeys(views.root(o)[0] for o in owners))
        steps.append(Step(reads, writes, scratch, leads))
    return schedule(steps, sizes, inputs, outputs)


def _aligned(size: int) -> int:
    return -(-size // ARENA_ALIGN) * ARENA_ALIGN


def _leads(
    graph: Graph, node: Node, variants: Mapping[str, Variant], views: Views
) -> dict[str, int]:
    """What the output of *node* may lie over: owner -> lead, as its kernel allows."""
    leads = variants[node.name].leads
    found: dict[str, int | None] = {}
    for i, t in enumerate(graph.activations(node)):
        owner, lead = views.owner[t], leads.get(i)
        known = found.get(owner, 0)
        # A buffer that several inputs read has to be far enough for each of them.
        found[owner] = None if known is None or lead is None else max(known, lead)
    return {owner: lead for owner, lead in found.items() if lead is not None}


class _Layout:
    """The planner's items for layers in one order."""

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[Node],
        variants: Mapping[str, Variant],
        views: Views,
    ):
        self.graph, self.nodes, self.views = graph, tuple(nodes), views
        inputs, outputs = ([views.owner[t] for t in ts] for ts in (graph.inputs, graph.outputs))
        self.kinds: dict[str, BufferKind] = {
            **dict.fromkeys(inputs, "input"), **dict.fromkeys(outputs, "output")
        }  # fmt: skip
        first = dict.fromkeys(inputs, -1)
        last = dict.fromkeys(inputs, -1)
        overlaps: dict[str, tuple[Overlap, ...]] = {}
        for i, node in enumerate(nodes):
            for t in (*graph.activations(node), node.output):
                first.setdefault(views.owner[t], i)
                last[views.owner[t]] = i
            leads = _leads(graph, node, variants, views)
            overlaps[views.owner[node.output]] = tuple(map(Overlap, leads, leads.values()))
        for o in outputs:
            first.setdefault(o, len(nodes))
            last[o] = len(nodes)
        for owner in list(first):  # what only parts of are used lives as they do
            whole = owner
            while whole in views.inside:
                whole, _ = views.inside[whole]
                first.setdefault(whole, first[owner])
                last.setdefault(whole, last[owner])
        size: dict[str, int] = {}
        for tensor, owner in views.owner.items():
            size[owner] = max(size.get(owner, 0), tensor_bytes(graph, tensor))
        self.items = [
            Item(
                o, size[o], first[o], last[o], overlaps.get(o, ()), *views.inside.get(o, (None, 0))
            )
            for o in first
        ]
        for i, node in enumerate(nodes):
            if variants[node.name].scratch:
                self.items.append(Item(scratch_name(node), variants[node.name].scratch, i, i))
                self.kinds[scratch_name(node)] = "scratch"

    def place(self, io: Io, enough: int = 0) -> tuple[Plan, list[str]]:
        """(the plan, the inputs and outputs that have a place in it)."""
        ports = [*self.graph.inputs, *self.graph.outputs]
        if io == "arena":
            return self._plan(ports, enough), ports
        least = done = self._plan([], enough)
        if io == "caller" or not least.total_bytes:
            return least, []
        found = self._plan(ports, least.total_bytes)
        if found.total_bytes <= least.total_bytes:
            return Plan(found.offsets, found.total_bytes, least.bound), ports
        chosen: list[str] = []
        for port in ports if len(ports) > 1 else ():
            found = self._plan([*chosen, port], least.total_bytes)
            if found.total_bytes <= least.total_bytes:
                done = found
                chosen.append(port)
        return Plan(done.offsets, done.total_bytes, least.bound), chosen

    def _plan(self, ports: Sequence[str], enough: int = 0) -> Plan:
        """The plan for all that is the program's own, and for *ports*."""
        roots = {self.views.root(t)[0] for t in (*self.graph.inputs, *self.graph.outputs)}
        away = roots - {self.views.root(t)[0] for t in ports}
        items = [
            item
            for item in self.items
            if self.kinds.get(item.name) == "scratch" or self.views.root(item.name)[0] not in away
        ]
        known = {item.name for item in items}
        return plan(
            [
                replace(
                    item,
                    overlaps=tuple(
                        o for o in item.overlaps if o.other in known and o.other != item.name
                    ),
                )
                for item in items
            ],
            ARENA_ALIGN,
            enough,
        )

    def buffers(self, offsets: Mapping[str, int]) -> tuple[Buffer, ...]:
        """What lies at *offsets* for how long, parts not counted."""
        end = len(self.nodes) - 1
        lives: dict[str, tuple[int, int]] = {}
        for item in self.items:
            root = item.name
            while root in self.views.inside:
                root, _ = self.views.inside[root]
            first, last = lives.get(root, (item.first, item.last))
            lives[root] = (min(first, item.first), max(last, item.last))
        return tuple(
            Buffer(
                item.name,
                offsets[item.name],
                item.bytes,
                max(0, lives[item.name][0]),
                min(end, lives[item.name][1]),
                self.kinds.get(item.name, "tensor"),
                tuple(
                    (o.other, o.lead)
                    for o in item.overlaps
                    if o.other in offsets and lives[o.other][1] == item.first
                ),
            )
            for item in self.items
            if item.name in offsets and item.alias_of is None
        )
