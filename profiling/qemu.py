"""Counting under QEMU, by a plugin that is compiled for the QEMU that is installed."""

from __future__ import annotations

import re
import subprocess
from importlib.resources import files
from pathlib import Path

from qcc.codegen.target import Board
from qcc.errors import QccError
from qcc.profiling.counts import Block
from qcc.profiling.engine import Execution, Marks, host_compiler
from qcc.profiling.tools import SECONDS, complaint, run

_PLUGIN = Path(str(files("qcc.profiling"))) / "insncount.c"
_VERSION = 1
"""Of the plugin interface: QEMU 6.0's, which newer ones refuse and say what they want."""

_WANTED = re.compile(r"supports only a minimum version of (\d+)")
_NO_PLUGINS = re.compile(r"-plugin: (invalid option|.*not supported)")


def execute(elf: Path, board: Board, marks: Marks, folder: Path) -> Execution:
    """Run *elf* on *board*; *folder* is for temporary files.

    Raises:
        QccError: QEMU cannot load the plugin, or does not end.
    """
    version = _VERSION
    done = _run(elf, board, marks, folder, version)
    if done.returncode and (wanted := _WANTED.search(done.stderr)):
        version = int(wanted[1])
        done = _run(elf, board, marks, folder, version)
    blocks = folder / "blocks.txt"
    if not blocks.is_file():
        if _NO_PLUGINS.search(done.stderr):
            raise QccError(f"{board.run[0]} was built without plugins; use --engine unicorn")
        raise QccError(f"{board.run[0]} fails: {complaint(done.stderr)}")
    found = [parse(line) for line in blocks.read_text(encoding="ascii").splitlines()]
    return Execution(done.returncode, done.stdout, tuple(found))


def parse(line: str) -> Block:
    """One line of the plugin's output."""
    address, last, instructions, region, executed, taken = map(int, line.split())
    return Block(address, last + 1, region, executed, taken, instructions)


def build_plugin(folder: Path, version: int = _VERSION) -> Path:
    """The counting plugin, for *version* of QEMU's interface, in *folder*."""
    library = folder / f"insncount-{version}.so"
    run([host_compiler(), "-O2", "-shared", "-fPIC", "-fvisibility=hidden",
         f"-DPLUGIN_VERSION={version}", str(_PLUGIN), "-o", str(library)])  # fmt: skip
    return library


def _run(
    elf: Path, board: Board, marks: Marks, folder: Path, version: int
) -> subprocess.CompletedProcess[str]:
    plugin = build_plugin(folder, version)
    # Paths by name in the working folder: a comma in one would end the plugin's argument.
    skip = "".join(f",skip={start:#x}:{end:#x}" for start, end in marks.skip)
    arguments = f"regions={marks.array:#x},count={marks.regions}{skip},out=blocks.txt"
    command = [*board.run, str(elf.resolve()), "-plugin", f"./{plugin.name},{arguments}"]
    try:
        return subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as e:
        raise QccError(f"{board.run[0]}: stopped after {SECONDS:.0f} s") from e
