"""Instructions of a linked program, as the compiler's own objdump and addr2line see them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcc.codegen.target import Target
from qcc.profiling.tools import binutil, core_of, run

_LINE = re.compile(r"^\s*([0-9a-f]+):\t([0-9a-f ]+)\t(\S+)(?:\t(.*))?$")
_COMMENT = re.compile(r"\s*[@;<].*|\s*//.*")

_ARCHITECTURE = {"cortex-m55": ("-m", "armv8.1-m.main"), "cortex-m85": ("-m", "armv8.1-m.main")}
"""Without it objdump prints Helium instructions as those of a coprocessor."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: ``ldr`` and ``r0, [r1, #4]``, *size* bytes at *address*."""

    address: int
    size: int
    mnemonic: str
    operands: str


class Disassembly:
    """The instructions of a program in the order of their addresses."""

    def __init__(self, instructions: Iterable[Instruction]) -> None:
        self.instructions = sorted(instructions, key=lambda i: i.address)
        self._addresses = [i.address for i in self.instructions]

    def pair(self, address: int) -> tuple[Instruction, Instruction | None]:
        """The instruction at *address*, and the one that ends right before it, if any."""
        at = bisect_left(self._addresses, address)
        found = self.instructions[at]
        before = self.instructions[at - 1] if at else None
        if before is not None and before.address + before.size != address:
            before = None
        return found, before

    def within(self, start: int, size: int) -> Sequence[Instruction]:
        """The instructions that begin in *size* bytes from *start*."""
        first = bisect_left(self._addresses, start)
        return self.instructions[first : bisect_left(self._addresses, start + size, first)]


def disassemble(elf: Path, target: Target) -> Disassembly:
    """All code of *elf*."""
    architecture = _ARCHITECTURE.get(core_of(target), ())
    text = run([binutil(target, "objdump"), "-d", "-z", *architecture, str(elf)])
    return Disassembly(parse(text))


def parse(text: str) -> list[Instruction]:
    """The instructions in what objdump printed; its data (``.word``) left out."""
    found = []
    for line in text.splitlines():
        m = _LINE.match(line)
        if m is None or m[3].startswith("."):
            continue
        size = len(m[2].replace(" ", "")) // 2
        found.append(Instruction(int(m[1], 16), size, m[3], _COMMENT.sub("", m[4] or "")))
    return found


def inlined_frames(elf: Path, target: Target, addresses: Sequence[int]) -> list[tuple[str, ...]]:
    """For each address the functions it is in, innermost first, by the debugging information."""
    wanted = "".join(f"{a:#x}\n" for a in addresses)
    command = [binutil(target, "addr2line"), "-e", str(elf), "-a", "-f", "-i"]
    lines = run(command, wanted).splitlines()
    found: list[list[str]] = []
    function = False
    for line in lines:
        if line.startswith("0x"):
            found.append([])
            function = True
        elif function:
            found[-1].append(line)
            function = False
        else:  # the file and line of the function before
            function = True
    return [tuple(frames) for frames in found]
