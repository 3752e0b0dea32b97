"""Counting under Unicorn, which pip installs: Cortex-M without Helium.

Unicorn is QEMU's translator without its machines, so the board's memories are mapped here and its
semihosting calls are served here. Blocks are counted as the plugin of ``qemu.py`` does.
"""

from __future__ import annotations

from collections import defaultdict
from importlib import import_module
from typing import Any

from qcc.errors import QccError
from qcc.profiling.counts import Block
from qcc.profiling.elf import Elf
from qcc.profiling.engine import PIP, Execution, Marks

_PAGE = 0x1000
_SYSTEM = 0xE000E000
"""The system control space, of which start-up code sets a register."""

_END = 0xFFFFFFFE
"""No program reaches it: what ends a run is a semihosting call."""

_BREAKPOINT = b"\xab\xbe"
"""``bkpt 0xab``, a semihosting call."""

_WRITE0, _EXIT, _EXIT_EXTENDED = 0x04, 0x18, 0x20
_APPLICATION_EXIT = 0x20026


def execute(elf: Elf, core: str, marks: Marks) -> Execution:
    """Run the program *elf* on *core*.

    Raises:
        QccError: Unicorn is not installed or does not know the core, or the program goes wrong.
    """
    unicorn, arm_const = _load_unicorn()
    model = getattr(arm_const, f"UC_CPU_ARM_{_cpu(core)}", None)
    if model is None:
        raise QccError(f"the emulator Unicorn does not know {core}; use --engine qemu")
    machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    machine.ctl_set_cpu_model(model)
    _load(machine, elf)
    counter = _Counter(machine, marks)
    console = _Console(machine, arm_const)
    machine.hook_add(unicorn.UC_HOOK_BLOCK, counter.block)
    machine.hook_add(
        unicorn.UC_HOOK_MEM_WRITE, counter.store, None, marks.array, marks.array + marks.regions - 1
    )
    machine.hook_add(unicorn.UC_HOOK_INTR, console.interrupt)
    machine.reg_write(arm_const.UC_ARM_REG_SP, elf.symbol("qcc_stack_top").address)
    try:
        machine.emu_start(elf.entry | 1, _END)
    except unicorn.UcError as e:
        at = machine.reg_read(arm_const.UC_ARM_REG_PC)
        raise QccError(f"the emulator Unicorn stops at {at:#x}: {e}; try --engine qemu") from e
    if console.status is None:
        raise QccError("the emulator Unicorn stopped before the program ended; try --engine qemu")
    return Execution(console.status, "".join(console.text), counter.blocks())


def _load_unicorn() -> tuple[Any, Any]:
    """The package, which has no types, and its constants for Arm."""
    try:
        return import_module("unicorn"), import_module("unicorn.arm_const")
    except (ImportError, OSError) as e:
        raise QccError(f"the emulator Unicorn cannot be loaded ({e}): {PIP}") from e


def _cpu(core: str) -> str:
    """``CORTEX_M4``; an M0+ runs the same instructions as an M0."""
    return core.replace("0plus", "0").replace("-", "_").upper()


def _load(machine: Any, elf: Elf) -> None:
    """Map the pages that the program uses and put its bytes there."""
    pages = {_SYSTEM}
    for s in elf.segments:
        for start, size in ((s.address, s.memory_size), (s.load_address, len(s.data))):
            pages |= set(range(start & -_PAGE, start + size, _PAGE))
    for page in sorted(pages):
        machine.mem_map(page, _PAGE)
    for s in elf.segments:
        if s.data:
            machine.mem_write(s.load_address, s.data)


class _Counter:
    """Counts blocks per region."""

    def __init__(self, machine: Any, marks: Marks) -> None:
        self._machine = machine
        self._marks = marks
        self._region = 0
        self._marking = False
        self._executed: dict[tuple[int, int, int], int] = defaultdict(int)
        self._taken: dict[tuple[int, int, int], int] = defaultdict(int)
        self._previous: tuple[int, int, int] | None = None

    def block(self, machine: Any, address: int, size: int, data: Any) -> None:
        """A block begins."""
        self._marking = any(a <= address < b for a, b in self._marks.skip)
        if self._region == 0 or self._marking:
            return
        key = (address, size, self._region)
        before = self._previous
        if before is not None and before[0] + before[1] != address:
            self._taken[before] += 1
        self._executed[key] += 1
        self._previous = key

    def store(
        self, machine: Any, access: int, address: int, size: int, value: int, data: Any
    ) -> None:
        """A region begins, unless it is start-up code that clears the array."""
        if not self._marking:
            return
        self._region = address - self._marks.array
        self._previous = None

    def blocks(self) -> tuple[Block, ...]:
        """What was counted."""
        return tuple(
            Block(address, address + size, region, n, self._taken[address, size, region])
            for (address, size, region), n in self._executed.items()
        )


class _Console:
    """Serves semihosting: text, and the end.

    Attributes:
        text: what was written.
        status: the exit status, once there is one.
    """

    def __init__(self, machine: Any, registers: Any) -> None:
        self.text: list[str] = []
        self.status: int | None = None
        self._r0, self._r1 = registers.UC_ARM_REG_R0, registers.UC_ARM_REG_R1
        self._pc = registers.UC_ARM_REG_PC

    def interrupt(self, machine: Any, number: int, data: Any) -> None:
        """A breakpoint, or a fault."""
        pc = machine.reg_read(self._pc)
        if bytes(machine.mem_read(pc, 2)) != _BREAKPOINT:
            raise QccError(f"the program faults at {pc:#x} (exception {number})")
        operation, argument = machine.reg_read(self._r0), machine.reg_read(self._r1)
        if operation == _WRITE0:
            self.text.append(_string(machine, argument))
        elif operation == _EXIT:
            self.status = 0 if argument == _APPLICATION_EXIT else 1
        elif operation == _EXIT_EXTENDED:
            self.status = int.from_bytes(machine.mem_read(argument + 4, 4), "little")
        if self.status is not None:
            machine.emu_stop()
            return
        machine.reg_write(self._pc, (pc + len(_BREAKPOINT)) | 1)


def _string(machine: Any, address: int) -> str:
    text = bytearray()
    while byte := machine.mem_read(address + len(text), 1)[0]:
        text.append(byte)
    return text.decode("ascii", "replace")
