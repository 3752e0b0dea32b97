"""From executed blocks to what each region executed, instruction by instruction.

Where one block ends and the next begins depends on the emulator. How often each instruction was
executed, and how often each branch was taken, does not, and that is what cycle models get.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from qcc.profiling.disassembly import Disassembly, Instruction


@dataclass(frozen=True, slots=True)
class Block:
    """A straight piece of code, as an emulator has run it in one region.

    Attributes:
        address, end: its instructions begin in [address, end).
        region: 1 for the model outside its layers, 2 + i for layer i.
        executed: how often.
        taken: how often what followed was not the code behind it.
        instructions: how many, where the engine says so.
    """

    address: int
    end: int
    region: int
    executed: int
    taken: int
    instructions: int | None = None


@dataclass(slots=True)
class Region:
    """How often what was executed: by address of the instruction."""

    executed: Counter[int] = field(default_factory=Counter)
    taken: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction in a region.

    Attributes:
        instruction: what.
        previous: the instruction before it in memory; None if there is none right before it.
        after_previous: how often it was executed right after *previous*.
        after_jump: how often it was executed after anything else.
        taken: how often it, a branch, was taken.
    """

    instruction: Instruction
    previous: Instruction | None
    after_previous: int
    after_jump: int
    taken: int

    @property
    def executed(self) -> int:
        return self.after_previous + self.after_jump


def regions(blocks: Iterable[Block], code: Disassembly, count: int) -> list[Region]:
    """What each of *count* regions executed.

    Raises:
        ValueError: a block that does not fit the instructions of *code*: one of the two is not of
            this program.
    """
    found = [Region() for _ in range(count)]
    for b in blocks:
        inside = code.within(b.address, b.end - b.address)
        if not inside or inside[0].address != b.address:
            raise ValueError(f"no instruction at {b.address:#x}")
        if b.instructions not in (None, len(inside)):
            raise ValueError(f"{len(inside)} instructions, not {b.instructions}, at {b.address:#x}")
        region = found[b.region]
        for i in inside:
            region.executed[i.address] += b.executed
        region.taken[inside[-1].address] += b.taken
    return found


def steps(region: Region, code: Disassembly) -> list[Step]:
    """The executed instructions of *region*, in the order of their addresses."""
    found = []
    for address in sorted(region.executed):
        executed = region.executed[address]
        instruction, previous = code.pair(address)
        through = 0
        if previous is not None:
            through = region.executed.get(previous.address, 0) - region.taken[previous.address]
            # Less than nothing or more than all: a region began or ended between the two.
            through = max(0, min(through, executed))
        taken = region.taken.get(address, 0)
        found.append(Step(instruction, previous, through, executed - through, taken))
    return found
