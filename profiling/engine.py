"""What every engine does: run a program, say what it printed and which blocks it executed."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

from qcc.codegen.target import Board, Target
from qcc.errors import QccError, UsageError, short
from qcc.profiling.counts import Block
from qcc.profiling.elf import Elf
from qcc.profiling.tools import core_of, need

Engine = Literal["qemu", "unicorn"]
ENGINES = ("auto", *get_args(Engine))

HELIUM = ("cortex-m52", "cortex-m55", "cortex-m85")
"""Cores whose vector instructions Unicorn does not know."""

PIP = "pip install 'qcc[profile]'"


@dataclass(frozen=True, slots=True)
class Marks:
    """Where a program says which region begins: addresses in it.

    Attributes:
        array: a store to element i begins region i.
        regions: elements.
        skip: (start, end) of the functions that do so; they belong to no region.
    """

    array: int
    regions: int
    skip: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Execution:
    """What a program did: the exit status, the text on its console, the blocks of its regions."""

    status: int
    console: str
    blocks: tuple[Block, ...]


def find_marks(elf: Elf, regions: int) -> Marks:
    """The marks of a program that ``build_profile`` made."""
    functions = [elf.symbol(name) for name in ("qcc_mark", "qcc_profile_switch")]
    skip = tuple((f.address, f.address + f.size) for f in functions)
    return Marks(elf.symbol("qcc_profile_regions").address, regions, skip)


def choose(engine: str, target: Target, board: Board) -> Engine:
    """The engine to use for what the user asks for.

    Raises:
        UsageError: there is no such engine, or it cannot run this target.
        QccError: its tools are not installed; says which packages have them.
    """
    if engine not in ENGINES:
        raise UsageError(f"--engine {short(engine)}: choose one of {', '.join(ENGINES)}")
    if engine == "qemu":
        _need_qemu(board)
        return "qemu"
    if engine == "unicorn":
        _need_unicorn(target)
        return "unicorn"
    if shutil.which(board.run[0]) and shutil.which(host_compiler()):
        return "qemu"
    if _unicorn_runs(target) and find_spec("unicorn") is not None:
        return "unicorn"
    if shutil.which(board.run[0]):
        _need_qemu(board)
    hints = [f"without it: {PIP} for the emulator Unicorn"] if _unicorn_runs(target) else []
    raise QccError(
        f"{board.run[0]} is not installed; on Debian or Ubuntu: apt install {board.package}", hints
    )


def host_compiler() -> str:
    """What builds QEMU's plugin: CC, as everywhere, else gcc or cc."""
    chosen = os.environ.get("CC", "").split()
    return chosen[0] if chosen else "gcc" if shutil.which("gcc") else "cc"


def _need_qemu(board: Board) -> None:
    need(board.run[0], board.package)
    if shutil.which(host_compiler()) is None:
        raise QccError(
            f"{host_compiler()} is not installed, which builds the counting plugin of QEMU; "
            "on Debian or Ubuntu: apt install gcc"
        )


def _unicorn_runs(target: Target) -> bool:
    core = core_of(target)
    return core.startswith("cortex-m") and core not in HELIUM


def _need_unicorn(target: Target) -> None:
    core = core_of(target)
    if core in HELIUM:
        raise UsageError(
            f"--engine unicorn: it has no Helium instructions, which {target.name} uses; "
            "--engine qemu has"
        )
    if not _unicorn_runs(target):
        raise UsageError(f"--engine unicorn: not for {target.name}, only for Cortex-M; use qemu")
    if find_spec("unicorn") is None:
        raise QccError(f"the emulator Unicorn is not installed: {PIP}")
