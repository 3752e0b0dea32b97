"""Targets and boards: what the folders of runtime_c/targets and runtime_c/boards say.

A target is a kind of processor that code is compiled for; a board is a machine that it runs on,
emulated or this one. A new folder is a new target or board; nothing else has to change.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from qcc.errors import UsageError, short

RUNTIME = Path(str(files("qcc.runtime_c")))
_BOARDS = RUNTIME / "boards"


@dataclass(frozen=True, slots=True)
class Target:
    """How to build for one kind of processor, as its target.toml says.

    Attributes:
        name: as on the command line.
        description: one line for ``--list-targets``.
        boards: where it can run here; the first is the default.
        cc: the compiler, found on the PATH.
        cflags: processor flags, for compiling and linking.
        size: prints the sections of an object file.
        package: the Debian package that holds *cc*.
        alias_of: the target whose settings these are.
        isa: folders of runtime_c/isa whose kernels it can run, preferred ones first.
    """

    name: str
    description: str
    boards: tuple[str, ...]
    cc: str
    cflags: tuple[str, ...] = ()
    size: str = "size"
    package: str = "gcc"
    alias_of: str | None = None
    isa: tuple[str, ...] = ()

    @property
    def board(self) -> str:
        """The default board."""
        return self.boards[0]

    @property
    def native(self) -> bool:
        """Built by this machine's own compiler, with an operating system below."""
        return self.board == "host"


@dataclass(frozen=True, slots=True)
class Board:
    """How to link for and run on one machine, as its board.toml says.

    Attributes:
        name: as in ``make run BOARD=...``.
        description: one line.
        sources: C files, relative to runtime_c/boards.
        files: what else they need, relative to runtime_c/boards.
        run: the emulator's command, to which the ELF file is appended; empty: run natively.
        package: the Debian package that holds the emulator.
    """

    name: str
    description: str
    sources: tuple[str, ...]
    files: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    package: str = ""

    def texts(self) -> dict[str, str]:
        """The text of every file of the board, by path relative to the boards folder."""
        paths = ("common/board.h", *self.sources, *self.files)
        return {path: (_BOARDS / path).read_text(encoding="utf-8") for path in paths}


@cache
def load_targets() -> dict[str, Target]:
    """Every target, by name, in alphabetical order; aliases are filled in."""
    raw = dict(_descriptions("targets", "target.toml"))
    return {name: _target(name, raw) for name in sorted(raw)}


@cache
def load_boards() -> dict[str, Board]:
    """Every board, by name, in alphabetical order."""
    raw = dict(_descriptions("boards", "board.toml"))
    return {name: Board(**raw[name]) for name in sorted(raw)}


def resolve(name: str) -> Target:
    """The target called *name*; an alias keeps its own name and boards.

    Raises:
        UsageError: listing the choices.
    """
    targets = load_targets()
    if name not in targets:
        choices = ", ".join(targets)
        raise UsageError(f"--target {short(name)}: no such target; choose one of {choices}")
    return targets[name]


def _target(name: str, raw: dict[str, dict[str, Any]]) -> Target:
    own = raw[name]
    if "alias_of" not in own:
        return Target(**own)
    return replace(Target(**raw[own["alias_of"]]), **own)


def _descriptions(folder: str, file: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, settings) of every folder of runtime_c/*folder* that has *file*."""
    found = []
    for path in sorted((RUNTIME / folder).glob(f"*/{file}")):
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        if settings["name"] != path.parent.name:
            raise ValueError(f"{path}: it is named {settings['name']!r}, its folder is not")
        found.append((path.parent.name, {k: _frozen(v) for k, v in settings.items()}))
    return found


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
