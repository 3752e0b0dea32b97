"""The order in which layers run: of all that respect the data flow, one with a low memory peak.

What lives between layers depends only on which of them have run, not in which order; so the least
peak with which each such set can be reached follows from those with one layer less. Sets are
visited by size. Where there are too many, those with the lowest peaks are kept: a beam search,
and no proof.

Source: E. Liberis and N. D. Lane, "Neural networks on microcontrollers: saving memory at inference
via operator reordering", 2019, which has the recurrence over sets and operators that run in place.
What outputs may lie over and by how much, the beam, and running at once what only frees memory,
are added here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from qcc.codegen.memory import shared_bytes

_STATES = 30_000
"""Sets of layers that are visited in all before the search becomes a beam: a second or so."""

_NARROWEST = 50


@dataclass(frozen=True, slots=True)
class Step:
    """One layer.

    Attributes:
        reads: the buffers that it reads, each once.
        writes: the buffer that it writes, or writes a part of.
        scratch: bytes that it needs while it runs.
        leads: buffers of *reads* that the output may lie over where they die here and the output
            begins here, with their leads (``memory.Overlap``).
    """

    reads: tuple[str, ...]
    writes: str
    scratch: int = 0
    leads: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Schedule:
    """An order of the steps.

    Attributes:
        order: indices of the steps.
        peak: the most bytes that live at once, overlaps counted once.
        proved: no order has a lower peak.
    """

    order: tuple[int, ...]
    peak: int
    proved: bool


def schedule(
    steps: Sequence[Step],
    sizes: Mapping[str, int],
    inputs: Collection[str] = (),
    outputs: Collection[str] = (),
    states: int = _STATES,
) -> Schedule:
    """An order of *steps* with the lowest peak; the given one where none is better.

    Args:
        steps: in an order that respects the data flow. Steps that write parts of one buffer come
            before those that read it.
        sizes: bytes of every buffer; 0 for what lies outside the arena.
        inputs: buffers that live from the beginning.
        outputs: buffers that live to the end.
        states: how much to search.
    """
    network = _Network(steps, sizes, frozenset(inputs), frozenset(outputs))
    given = tuple(range(len(steps)))
    peak = network.peak(given)
    if peak <= max(map(network.least, given), default=0):
        return Schedule(given, peak, proved=True)
    found, exact = _search(network, peak, max(_NARROWEST, states // max(1, len(steps))))
    if found is None:
        return Schedule(given, peak, exact)
    return Schedule(found, network.peak(found), exact)


@dataclass(frozen=True, slots=True)
class _State:
    """One way to have run a set of steps: the one with the lowest peak."""

    peak: int
    live: int
    last: int
    before: _State | None

    def order(self) -> tuple[int, ...]:
        """The steps, first to last."""
        steps: list[int] = []
        state: _State = self
        while state.before is not None:
            steps.append(state.last)
            state = state.before
        return tuple(reversed(steps))


class _Network:
    """The steps with their buffers as bit masks: bit i is step i."""

    def __init__(
        self,
        steps: Sequence[Step],
        sizes: Mapping[str, int],
        inputs: frozenset[str],
        outputs: frozenset[str],
    ):
        self.steps, self.sizes, self.inputs, self.outputs = steps, sizes, inputs, outputs
        self.everything = (1 << len(steps)) - 1
        self.users: dict[str, int] = {}
        writers: dict[str, int] = {}
        for i, step in enumerate(steps):
            for b in (*step.reads, step.writes):
                self.users[b] = self.users.get(b, 0) | 1 << i
            writers[step.writes] = writers.get(step.writes, 0) | 1 << i
        self.alone = [writers[s.writes] == 1 << i for i, s in enumerate(steps)]
        self.after = [0] * len(steps)
        for i, step in enumerate(steps):
            for b in step.reads:
                # A layer that reads and writes one buffer follows those that stand before it.
                mine = step.writes == b
                self.after[i] |= writers.get(b, 0) & ((1 << i) - 1 if mine else ~(1 << i))
        kept = {b for b in inputs if b in self.users or b in outputs}
        self.start = _State(sum(sizes[b] for b in inputs), sum(sizes[b] for b in kept), -1, None)

    def ready(self, done: int) -> list[int]:
        """The steps that can run after the set *done*, in the given order."""
        left = self.everything & ~done
        found = []
        while left:
            i = (left & -left).bit_length() - 1
            left &= left - 1
            if self.after[i] & ~done == 0:
                found.append(i)
        return found

    def run(self, done: int, live: int, i: int) -> tuple[int, int]:
        """(most bytes that live while step *i* runs, bytes that live after it).

        Args:
            done: the steps that have run.
            live: bytes that live after those.
            i: the step.
        """
        step = self.steps[i]
        now = done | 1 << i
        begins = not self.users[step.writes] & done and step.writes not in self.inputs
        during = live + (self.sizes[step.writes] if begins else 0)
        after = during
        dying: list[str] = []
        for b in dict.fromkeys((*step.reads, step.writes)):
            if not self.users[b] & ~now and b not in self.outputs:
                after -= self.sizes[b]
                dying.append(b)
        if begins and step.leads:
            over = [(self.sizes[b], step.leads[b]) for b in dying if b in step.leads]
            during -= shared_bytes(self.sizes[step.writes], over)
        return during + step.scratch, after

    def least(self, i: int) -> int:
        """No order has a peak below this, because of step *i* alone."""
        step = self.steps[i]
        touched = sum(self.sizes[b] for b in dict.fromkeys((*step.reads, step.writes)))
        over = [(self.sizes[b], lead) for b, lead in step.leads.items() if b not in self.outputs]
        return touched + step.scratch - shared_bytes(self.sizes[step.writes], over)

    def peak(self, order: Sequence[int]) -> int:
        """The most bytes that live at once in *order*."""
        done, live, peak = 0, self.start.live, self.start.peak
        for i in order:
            during, live = self.run(done, live, i)
            peak = max(peak, during)
            done |= 1 << i
        return peak


def _search(network: _Network, limit: int, width: int) -> tuple[tuple[int, ...] | None, bool]:
    """(an order with a peak below *limit*, the lowest; whether every set was visited)."""
    exact = True
    level = {0: network.start}
    for _ in network.steps:
        following: dict[int, _State] = {}
        for done, state in level.items():
            for i, during, after in _choices(network, done, state):
                peak = max(state.peak, during)
                now = done | 1 << i
                known = following.get(now)
                if peak < limit and (known is None or peak < known.peak):
                    following[now] = _State(peak, after, i, state)
        if len(following) > width:
            exact = False
            best = sorted(following.items(), key=lambda s: (s[1].peak, s[1].live, s[0]))
            following = dict(best[:width])
        level = following
    final = level.get(network.everything)
    return (final.order() if final and network.steps else None), exact


def _choices(network: _Network, done: int, state: _State) -> list[tuple[int, int, int]]:
    """(step, bytes during, bytes after) of what can run next.

    A step that raises no peak and leaves no more alive than before can as well run at once: every
    later step then finds at most as much alive, and as many of its inputs dying. Not so one that
    writes a part of a buffer: the step that begins the buffer may lie over its input.
    """
    choices = []
    for i in network.ready(done):
        during, after = network.run(done, state.live, i)
        if network.alone[i] and after <= state.live and during <= state.peak:
            return [(i, during, after)]
        choices.append((i, during, after))
    return choices
