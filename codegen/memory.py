"""The memory plan: offsets of tensors in one arena, so that none overlaps another while both live.

Tensors that share their bytes (views, in-place operators) become one block first. Blocks are then
placed one after the other at the lowest offset that is free over their whole life. Which order is
best is found by several rules and a bounded, seeded search around the best; it stops at the lower
bound, the most bytes that live at once, which proves the plan optimal. First-fit in the right
order is always optimal (the order of the offsets of an optimal plan is such an order), so nothing
is lost by searching orders only.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_WORK = 1_000_000
"""Blocks and neighbours that the search looks at before it gives up: well under a second."""


@dataclass(frozen=True, slots=True)
class Item:
    """A tensor: live from step *first*, which writes it, to step *last*, which reads it last.

    Attributes:
        inplace_of: a tensor that dies at step *first* and may be overwritten by this one. The
            planner does so where it can; the caller has made sure that the kernel allows it.
        alias_of: a tensor whose very bytes this one is (a view): the same offset in any case.
    """

    name: str
    bytes: int
    first: int
    last: int
    inplace_of: str | None = None
    alias_of: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything goes.

    Attributes:
        offsets: of every item, multiples of the alignment.
        total_bytes: size of the arena, a multiple of the alignment.
        bound: most bytes that live at once, sizes rounded up to the alignment, in-place pairs
            counted once: no plan has a smaller total.
    """

    offsets: Mapping[str, int]
    total_bytes: int
    bound: int


@dataclass(slots=True)
class _Segment:
    """One or several tensors that are the same bytes."""

    names: list[str]
    bytes: int
    first: int
    last: int


@dataclass(slots=True)
class _Block:
    """Segments at one offset, each overwriting the one before it: next.first == this.last."""

    segments: list[_Segment]
    neighbours: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    """(other block, bytes to leave when above the other, bytes to leave when below it)."""

    @property
    def first(self) -> int:
        return self.segments[0].first

    @property
    def last(self) -> int:
        return self.segments[-1].last

    @property
    def bytes(self) -> int:
        return max(s.bytes for s in self.segments)

    @property
    def area(self) -> int:
        return sum(s.bytes * (s.last - s.first + 1) for s in self.segments)


def plan(items: Sequence[Item], align: int) -> Plan:
    """Offsets for *items* in one arena.

    Args:
        items: names are unique; of several in-place candidates for one tensor the first wins.
        align: every offset is a multiple of it.

    Raises:
        ValueError: for items that contradict themselves or name unknown ones.
    """
    _check(items, align)
    blocks = _blocks(_segments(items, align), items)
    _find_neighbours(blocks)
    bound = _bound(blocks)
    placed, total = _search(blocks, bound)
    offsets = {item.name: 0 for item in items}  # items without bytes stay there
    for block, offset in zip(blocks, placed, strict=True):
        for segment in block.segments:
            offsets.update((name, offset) for name in segment.names)
    return Plan(offsets, total, bound)


def _check(items: Sequence[Item], align: int) -> None:
    if align < 1:
        raise ValueError(f"alignment {align}; expected 1 or more")
    names = {item.name for item in items}
    if len(names) != len(items):
        raise ValueError("two items have the same name")
    for item in items:
        if item.bytes < 0 or item.first > item.last:
            raise ValueError(f"item {item.name!r}: {item.bytes} bytes, {item.first}..{item.last}")
        for other in (item.inplace_of, item.alias_of):
            if other is not None and (other not in names or other == item.name):
                raise ValueError(f"item {item.name!r}: shares with {other!r}, which is no other")


def _segments(items: Sequence[Item], align: int) -> dict[str, _Segment]:
    """Item name -> the segment it is part of; items without bytes are left out."""
    by_name = {item.name: item for item in items}
    segments: dict[str, _Segment] = {}
    for item in items:
        root, seen = item, {item.name}
        while root.alias_of is not None:
            root = by_name[root.alias_of]
            if root.name in seen:
                raise ValueError(f"item {item.name!r} is a view of itself")
            seen.add(root.name)
        size = -(-item.bytes // align) * align
        segment = segments.setdefault(root.name, _Segment([], size, item.first, item.last))
        segment.names.append(item.name)
        segment.bytes = max(segment.bytes, size)
        segment.first = min(segment.first, item.first)
        segment.last = max(segment.last, item.last)
    return {name: s for s in segments.values() if s.bytes for name in s.names}


def _blocks(segments: Mapping[str, _Segment], items: Sequence[Item]) -> list[_Block]:
    """Segments chained wherever one may overwrite the other."""
    block_of = {id(s): _Block([s]) for s in segments.values()}
    for item in items:
        target, source = segments.get(item.name), segments.get(item.inplace_of or "")
        if target is None or source is None:
            continue
        block, old = block_of[id(target)], block_of[id(source)]
        # The source is the end of its chain (nothing else overwrites it), the target a beginning.
        joins = old.segments[-1] is source and block.segments[0] is target
        if block is old or not joins or not source.first < target.first == source.last:
            continue
        old.segments += block.segments
        block_of.update((id(s), old) for s in block.segments)
    return list({id(b): b for b in block_of.values()}.values())


def _find_neighbours(blocks: Sequence[_Block]) -> None:
    """Fill in which blocks live together, sweeping over the steps."""
    active: list[int] = []
    for i in sorted(range(len(blocks)), key=lambda i: (blocks[i].first, i)):
        active = [j for j in active if blocks[j].last >= blocks[i].first]
        for j in active:
            mine, theirs = _clearance(blocks[i], blocks[j])
            blocks[i].neighbours.append((j, theirs, mine))
            blocks[j].neighbours.append((i, mine, theirs))
        active.append(i)


def _clearance(a: _Block, b: _Block) -> tuple[int, int]:
    """The most bytes that *a*, and that *b*, has while both live."""
    pairs = [(s, t) for s in a.segments for t in b.segments]
    together = [(s, t) for s, t in pairs if s.first <= t.last and t.first <= s.last]
    return max(s.bytes for s, _ in together), max(t.bytes for _, t in together)


def _bound(blocks: Sequence[_Block]) -> int:
    """The most bytes that live at any one step; it occurs where something begins."""
    points = sorted({s.first for b in blocks for s in b.segments})
    change = [0] * (len(points) + 1)

    def live(size: int, first: int, last: int) -> None:
        change[bisect_left(points, first)] += size
        change[bisect_right(points, last)] -= size

    for block in blocks:
        for s in block.segments:
            live(s.bytes, s.first, s.last)
        for s, t in zip(block.segments, block.segments[1:], strict=False):
            live(-min(s.bytes, t.bytes), t.first, t.first)  # both at this step, in one place
    peak = now = 0
    for size in change:
        now += size
        peak = max(peak, now)
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


def _search(blocks: Sequence[_Block], bound: int) -> tuple[list[int], int]:
    """The best placement found, and its total."""
    # Ties end with the index: the plan is a function of the items in their order.
    orders = [[i for _, i in sorted((rule(b), i) for i, b in enumerate(blocks))] for rule in _RULES]
    # Every other one first: optimal for a plain chain, where each lies upon its two neighbours.
    in_time = sorted(range(len(blocks)), key=lambda i: blocks[i].first)
    orders.append(in_time[::2] + in_time[1::2])
    results = []
    for order in orders:
        offsets, total = _place(blocks, order)
        if total == bound:
            return offsets, total
        results.append((total, order, offsets))
    results.sort(key=lambda r: r[0])
    total, _, offsets = results[0]
    rng = random.Random(0)
    once = len(blocks) + sum(len(b.neighbours) for b in blocks)
    for _, order, _ in results:
        found = _improve(blocks, order, bound, rng, _WORK // once // len(results))
        if found[1] < total:
            offsets, total = found
        if total == bound:
            break
    return offsets, total


def _improve(
    blocks: Sequence[_Block], order: Sequence[int], bound: int, rng: random.Random, steps: int
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
        if best == bound:
            break
    return offsets, best
