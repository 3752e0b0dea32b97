"""The memory plan: offsets of tensors in one arena, so that none spoils another while both live.

Items that are views of one another become one block of bytes first. Two blocks that live at the
same time are disjoint, except where a layer may write its output over an input that it reads for
the last time: then the input has to begin at least *lead* bytes above the output, and may overlap
it. Either way each pair has two clearances, one for either order of the two in the arena, and a
plan is small where blocks lie as deep as the clearances let them.

Blocks are placed one after the other at the lowest offset that is free over their whole life.
Which order is best is found by several rules, an exact search where there are few blocks, and else
a bounded, seeded search around the best. First-fit in the right order is always optimal (the order
of the offsets of an optimal plan is such an order), so nothing is lost by searching orders only.
Every plan comes with a lower bound: the most bytes that live at any one step, overlaps counted
once as far as their leads allow; or the plan's own size where the exact search has proved it.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_WORK = 1_000_000
"""Blocks and neighbours that the search looks at before it gives up: well under a second."""

_EXACT_BLOCKS = 16
"""The exact search is tried for at most so many blocks, ..."""

_EXACT_WORK = 2_000_000
"""... and given up after looking at so many blocks and neighbours: a second or two."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """An item may lie over *other*, which the step that writes the item reads last.

    The layer writes upwards and is so far behind its reading that nothing is lost as long as
    ``offset(other) >= offset(item) + lead``. 0 for an elementwise layer; a 1x1 convolution that
    makes OC bytes of C at N pixels has ``max(0, N * (OC - C))``.
    """

    other: str
    lead: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """Bytes that live from step *first*, which writes them, to step *last*, which reads them last.

    A layer's scratch memory is an item with one step.

    Attributes:
        overlaps: what this item may lie over in part or whole, where it dies at step *first* and
            began before; other entries have no effect.
        alias_of: an item that this one is a view of: its bytes lie inside the other's, *at* bytes
            from its beginning. All views of one item are one block, which lives as long as any.
    """

    name: str
    bytes: int
    first: int
    last: int
    overlaps: tuple[Overlap, ...] = ()
    alias_of: str | None = None
    at: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything goes.

    Attributes:
        offsets: of every item, multiples of the alignment but for views that begin inside.
        total_bytes: size of the arena, a multiple of the alignment.
        bound: proved: no plan for these items has a smaller total.
    """

    offsets: Mapping[str, int]
    total_bytes: int
    bound: int

    @property
    def gap(self) -> int:
        """Bytes by which the plan may be above the best one; 0: proved optimal."""
        return self.total_bytes - self.bound


@dataclass(slots=True)
class _Block:
    """One or several items that are the same bytes: (item, where in the block it begins).

    Attributes:
        under: (block that this one may lie under, lead), see ``Overlap``.
        neighbours: (other block, clearance above it, clearance below it): of two blocks that live
            together, this one's offset is at least the first more, or the second less.
    """

    members: list[tuple[Item, int]] = field(default_factory=list[tuple[Item, int]])
    bytes: int = 0
    first: int = 0
    last: int = 0
    under: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    neighbours: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])

    @property
    def area(self) -> int:
        return self.bytes * (self.last - self.first + 1)


def plan(items: Sequence[Item], align: int, enough: int = 0) -> Plan:
    """Offsets for *items* in one arena.

    Args:
        items: names are unique.
        align: every offset is a multiple of it.
        enough: no plan smaller than that is looked for, nor any where the bound is above it.

    Raises:
        ValueError: for items that contradict themselves or name unknown ones.
    """
    _check(items, align)
    blocks = _blocks(items, align)
    _find_overlaps(blocks, align)
    _find_neighbours(blocks)
    placed, total, bound = _search(blocks, _bound(blocks), enough)
    offsets = {item.name: 0 for item in items}  # items without bytes stay there
    for block, offset in zip(blocks, placed, strict=True):
        offsets.update((item.name, offset + at) for item, at in block.members)
    return Plan(offsets, total, bound)


def shared_bytes(output: int, inputs: Iterable[tuple[int, int]]) -> int:
    """The most bytes that an output of *output* bytes can have in common with its inputs.

    Args:
        output: size of the output.
        inputs: (bytes, lead) of those that it may lie over. They do not overlap each other, and
            each lies at least its lead above the output: intervals with earliest beginnings and
            a common end, which are covered best from the earliest on.
    """
    end = covered = 0
    for lead, size in sorted((lead, size) for size, lead in inputs):
        start = max(end, lead)
        if start >= output:
            break
        end = min(start + size, output)
        covered += end - start
    return covered


def _check(items: Sequence[Item], align: int) -> None:
    if align < 1:
        raise ValueError(f"alignment {align}; expected 1 or more")
    names = {item.name for item in items}
    if len(names) != len(items):
        raise ValueError("two items have the same name")
    for item in items:
        if item.bytes < 0 or item.first > item.last:
            raise ValueError(f"item {item.name!r}: {item.bytes} bytes, {item.first}..{item.last}")
        if item.at < 0 or (item.at and item.alias_of is None):
            raise ValueError(f"item {item.name!r}: {item.at} bytes into {item.alias_of!r}")
        others = [o.other for o in item.overlaps] + ([item.alias_of] if item.alias_of else [])
        for other in others:
            if other not in names or other == item.name:
                raise ValueError(f"item {item.name!r}: shares with {other!r}, which is no other")
        if len({o.other for o in item.overlaps}) != len(item.overlaps):
            raise ValueError(f"item {item.name!r}: overlaps the same item twice")
        if any(o.lead < 0 for o in item.overlaps):
            raise ValueError(f"item {item.name!r}: a negative lead")


def _blocks(items: Sequence[Item], align: int) -> list[_Block]:
    """Items with all their views; blocks without bytes are left out."""
    by_name = {item.name: item for item in items}
    blocks: dict[str, _Block] = {}
    for item in items:
        root, at, seen = item, 0, {item.name}
        while root.alias_of is not None:
            root, at = by_name[root.alias_of], at + root.at
            if root.name in seen:
                raise ValueError(f"item {item.name!r} is a view of itself")
            seen.add(root.name)
        end = -(-(at + item.bytes) // align) * align if item.bytes else 0
        block = blocks.setdefault(root.name, _Block(first=item.first, last=item.last))
        block.members.append((item, at))
        block.bytes = max(block.bytes, end)
        block.first = min(block.first, item.first)
        block.last = max(block.last, item.last)
    return [b for b in blocks.values() if b.bytes]


def _find_overlaps(blocks: Sequence[_Block], align: int) -> None:
    """Fill in which blocks may lie under which, and how deep."""
    block_of = {item.name: i for i, b in enumerate(blocks) for item, _ in b.members}
    for block in blocks:
        born = [(s, at) for s, at in block.members if s.first == block.first and s.bytes]
        candidates = {block_of.get(o.other) for s, _ in born for o in s.overlaps}
        for i in sorted(c for c in candidates if c is not None):
            other = blocks[i]
            if other is block or not other.first < block.first == other.last:
                continue
            dying = [(t, at) for t, at in other.members if t.last == other.last and t.bytes]
            leads = [
                next((o.lead + at - t_at for o in s.overlaps if o.other == t.name), None)
                for s, at in born
                for t, t_at in dying
            ]
            known = [lead for lead in leads if lead is not None]
            if len(known) == len(leads):  # every part that dies may be written over
                lead = -(-max([0, *known]) // align) * align
                if lead < block.bytes:
                    block.under.append((i, lead))


def _find_neighbours(blocks: Sequence[_Block]) -> None:
    """Fill in which blocks live together, sweeping over the steps."""
    leads = {(i, j): lead for i, b in enumerate(blocks) for j, lead in b.under}
    active: list[int] = []
    for i in sorted(range(len(blocks)), key=lambda i: (blocks[i].first, i)):
        active = [j for j in active if blocks[j].last >= blocks[i].first]
        for j in active:
            above_i = leads.get((i, j), blocks[i].bytes)
            above_j = leads.get((j, i), blocks[j].bytes)
            blocks[i].neighbours.append((j, above_j, above_i))
            blocks[j].neighbours.append((i, above_i, above_j))
        active.append(i)


def _bound(blocks: Sequence[_Block]) -> int:
    """The most bytes that live at any one step; it occurs where something begins."""
    points = sorted({b.first for b in blocks})
    change = [0] * (len(points) + 1)
    saved = [0] * (len(points) + 1)
    for block in blocks:
        begin = bisect_left(points, block.first)
        change[begin] += block.bytes
        change[bisect_right(points, block.last)] -= block.bytes
        # At one step each byte is at most one dying block's and one beginning block's, so what
        # the beginning ones share adds up.
        saved[begin] += shared_bytes(block.bytes, [(blocks[j].bytes, at) for j, at in block.under])
    peak = now = 0
    for size, less in zip(change, saved, strict=True):
        now += size
        peak = max(peak, now - less)
    return peak


# -- placing ------------------------------------------------------------------------------------


def _place(blocks: Sequence[_Block], order: Sequence[int]) -> tuple[list[int], int]:
    """(offset of every block, total) when each takes the lowest free offset, in *order*."""
    offsets = [-1] * len(blocks)
    total = 0
    for i in order:
        taken = [
            (offsets[j] - below, offsets[j] + above)
            for j, above, below in blocks[i].neighbours
            if offsets[j] >= 0
        ]
        taken.sort()
        at = 0
        for start, end in taken:  # free for this block: at <= start, or at >= end
            if at <= start:
                break
            at = max(at, end)
        offsets[i] = at
        total = max(total, at + blocks[i].bytes)
    return offsets, total


_RULES: tuple[Callable[[_Block], tuple[int, ...]], ...] = (
    lambda b: (-b.bytes, b.first),
    lambda b: (-b.area, b.first),
    lambda b: (b.first - b.last, -b.bytes),
    lambda b: (b.first, -b.bytes),
    lambda b: (-b.last, -b.bytes),
)


def _orders(blocks: Sequence[_Block]) -> list[list[int]]:
    """Orders to begin with. Ties end with the index: a plan is a function of the items."""
    indices = range(len(blocks))
    orders = [sorted(indices, key=lambda i: (rule(blocks[i]), i)) for rule in _RULES]
    # Every other one first: optimal for a plain chain, where each lies upon its two neighbours.
    in_time = sorted(indices, key=lambda i: (blocks[i].first, i))
    orders.append(in_time[::2] + in_time[1::2])
    # Blocks that lie over one another together, the one that has to be lowest first.
    chains = _chains(blocks)
    for rule in _RULES:
        ordered = sorted(chains, key=lambda c: (min(rule(blocks[i]) for i in c), c[0]))
        orders.append([i for chain in ordered for i in chain])
    return orders


def _chains(blocks: Sequence[_Block]) -> list[list[int]]:
    """Partition into chains in which each block may lie under the next, last in time first."""
    above: dict[int, int] = {}
    taken: set[int] = set()
    for i, block in enumerate(blocks):
        for _, j in sorted((lead, j) for j, lead in block.under):
            if j not in taken:
                above[i] = j
                taken.add(j)
                break
    chains: list[list[int]] = []
    for i in range(len(blocks)):
        if i in taken:
            continue
        chain = [i]
        while chain[-1] in above:
            chain.append(above[chain[-1]])
        chains.append(chain)
    return chains


def _search(blocks: Sequence[_Block], bound: int, enough: int) -> tuple[list[int], int, int]:
    """The best placement found, its total, and a lower bound of all totals."""
    goal = max(bound, enough)
    results = []
    for order in _orders(blocks):
        offsets, total = _place(blocks, order)
        if total <= goal:
            return offsets, total, bound
        results.append((total, order, offsets))
    results.sort(key=lambda r: r[0])
    total, _, offsets = results[0]
    if bound > enough > 0:
        return offsets, total, bound
    if len(blocks) <= _EXACT_BLOCKS:
        exact = _Exact(blocks, goal, offsets, total)
        if exact.run():
            return exact.offsets, exact.total, bound if exact.total <= goal else exact.total
        offsets, total = exact.offsets, exact.total
    rng = random.Random(0)
    once = len(blocks) + sum(len(b.neighbours) for b in blocks)
    for _, order, _ in results:
        if total <= goal:
            break
        found = _improve(blocks, order, goal, rng, _WORK // once // len(results))
        if found[1] < total:
            offsets, total = found
    return offsets, total, bound


def _improve(
    blocks: Sequence[_Block], order: Sequence[int], goal: int, rng: random.Random, steps: int
) -> tuple[list[int], int]:
    """Walk over orders: a block at the top moves ahead of a random one, never for the worse."""
    now = list(order)
    offsets, best = _place(blocks, now)
    for _ in range(steps):
        tops = [i for i, at in enumerate(offsets) if at + blocks[i].bytes == best]
        # Sometimes another block than the highest: what is in its way may have to move first.
        moved = rng.choice(tops) if rng.random() < 0.5 else rng.randrange(len(blocks))
        at = now.index(moved)
        trial = now[:at] + now[at + 1 :]
        trial.insert(rng.randrange(at + 1), moved)
        trial_offsets, total = _place(blocks, trial)
        if total > best:
            continue
        now, offsets, best = trial, trial_offsets, total
        if best <= goal:
            break
    return offsets, best


class _Exact:
    """Branch and bound over the orders of offsets, from the lowest block up.

    A best plan can be pushed down until every block touches 0 or a clearance above one that is
    not higher; so it is enough to stack blocks in the order of their offsets, each as low as what
    is under it allows. A branch ends where what is left cannot fit below the best total known: at
    every step, the bytes that are still to come have to go above the lowest place that any of
    them can take.
    """

    def __init__(self, blocks: Sequence[_Block], goal: int, offsets: list[int], total: int):
        self.blocks, self.goal = blocks, goal
        self.offsets, self.total = offsets, total
        self.work = _EXACT_WORK
        steps = sorted({b.first for b in blocks})
        self.live = [[i for i, b in enumerate(blocks) if b.first <= s <= b.last] for s in steps]
        self.once = len(blocks) + sum(map(len, self.live))
        self.above = [{j: above for j, above, _ in b.neighbours} for b in blocks]
        self.seen: dict[tuple[tuple[int, int], ...], tuple[int, int]] = {}

    def run(self) -> bool:
        """Whether the search came to its end: ``total`` is the optimum, or as low as the goal."""
        self._stack([-1] * len(self.blocks), [0] * len(self.blocks), 0, 0)
        return self.work >= 0

    def _stack(self, placed: list[int], lowest: list[int], level: int, total: int) -> None:
        """Place one more block at or above *level*, where block *last* is.

        Args:
            placed: offset of every block, -1 where it is still to come.
            lowest: where each block that is to come can go, as far as those placed allow.
            level: offset of the block placed before.
            total: size of the arena so far.
        """
        self.work -= self.once
        left = [i for i, at in enumerate(placed) if at < 0]
        if not left:
            self.offsets, self.total = list(placed), total
            return
        if self.work < 0 or self._least(placed, lowest, level) >= self.total:
            return
        # The same blocks in another order, with the same effect on those that are to come.
        key = tuple((i, lowest[i]) for i in left)
        before = self.seen.get(key)
        if before is not None and before[0] <= level and before[1] <= total:
            return
        self.seen[key] = (level, total)
        for i in sorted(left, key=lambda i: (lowest[i], -self.blocks[i].bytes, i)):
            at = lowest[i]
            if at < level:  # it comes earlier in the order of the offsets
                continue
            height = max(total, at + self.blocks[i].bytes)
            if height >= self.total:
                continue
            placed[i] = at
            higher = list(lowest)
            for j, clearance in ((j, self.above[j][i]) for j in self.above[i]):
                higher[j] = max(higher[j], at + clearance)
            self._stack(placed, higher, at, height)
            placed[i] = -1
            if self.total <= self.goal or self.work < 0:
                return

    def _least(self, placed: Sequence[int], lowest: Sequence[int], level: int) -> int:
        """No total below this comes of the blocks that are still to be placed."""
        least = 0
        for live in self.live:
            left = {i for i in live if placed[i] < 0}
            if not left:
                continue
            size = sum(self.blocks[i].bytes for i in left)
            for i in left:
                block = self.blocks[i]
                over = [(self.blocks[j].bytes, lead) for j, lead in block.under if j in left]
                size -= shared_bytes(block.bytes, over) if over else 0
            least = max(least, max(level, min(lowest[i] for i in left)) + size)
        return least
