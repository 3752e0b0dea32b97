"""Programs around a compiled model, built as its own Makefile builds the check program.

OUT is only read; everything is made in a temporary folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

from qcc.codegen.render import render
from qcc.codegen.target import Board, Target
from qcc.errors import QccError, short
from qcc.profiling.tools import need, run

OPT = "-O2"
"""The Makefile's default; -g adds nothing to what is loaded."""

_WARNINGS = (
    "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow",
    "-Wdouble-promotion", "-Werror",
)  # fmt: skip
_FREESTANDING = ("-ffunction-sections", "-fdata-sections", "-ffreestanding", "-fbuiltin", "-g")
_MARK = Path(str(files("qcc.profiling"))) / "mark.S"
_SAMPLES = re.compile(r"^#define CHECK_SAMPLES (\d+)u$", re.M)


@dataclass(frozen=True, slots=True)
class Model:
    """What is built: the folder that qcc wrote, for a target and a board."""

    out: Path
    manifest: Mapping[str, Any]
    target: Target
    board: Board

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def sources(self) -> tuple[str, ...]:
        """The model's own C files."""
        return tuple(self.manifest["sources"])

    @property
    def regions(self) -> int:
        """Nothing, the model outside its layers, and every layer."""
        return len(self.manifest["layers"]) + 2


@dataclass(frozen=True, slots=True)
class Built:
    """A linked program.

    Attributes:
        elf: the file.
        map: what the linker says of it.
        model_objects: names of the objects of the model's own sources, as the map has them.
    """

    elf: Path
    map: Path
    model_objects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Buffer:
    """Memory of one input or output; *what* is its name for people."""

    what: str
    ctype: str
    type: str
    size: int
    array: str
    buffer: str


def check_samples(out: Path) -> int:
    """How many samples OUT/check holds.

    Raises:
        QccError: there are none to be found.
    """
    try:
        text = (out / "check" / "vectors.h").read_text(encoding="utf-8")
    except OSError as e:
        raise QccError(f"{out}: no check/vectors.h; compile the model again") from e
    found = _SAMPLES.search(text)
    if found is None:
        raise QccError(f"{out}: check/vectors.h holds no samples; compile the model again")
    return int(found[1])


def build_profile(model: Model, folder: Path, samples: int) -> Built:
    """The program that marks its layers and runs *samples* samples, in *folder*."""
    ins, outs = _buffers(model.manifest)
    args = [f"&{v.array}[sample * {v.size}u]" for v in ins]
    main = render(
        "profile_main.c.j2",
        name=model.name,
        macro=model.name.upper(),
        samples=samples,
        regions=model.regions,
        outputs=outs,
        args=", ".join([*args, *(v.buffer for v in outs), "arena"]),
    )
    (folder / "profile_main.c").write_text(main, encoding="utf-8")
    check = [model.out / "check" / "vectors.c", model.out / "check" / "compare.c"]
    sources = [folder / "profile_main.c", *check, _MARK]
    return _build(model, folder, "profile", sources, ("-DQCC_PROFILE",))


def build_size(model: Model, folder: Path) -> Built:
    """The smallest firmware with the model in it: start-up code and one call."""
    ins, outs = _buffers(model.manifest)
    main = render(
        "profile_size.c.j2",
        name=model.name,
        macro=model.name.upper(),
        buffers=[*ins, *outs],
        args=", ".join([*(v.buffer for v in (*ins, *outs)), "arena"]),
    )
    (folder / "profile_size.c").write_text(main, encoding="utf-8")
    return _build(model, folder, "size", [folder / "profile_size.c"], ())


def _buffers(manifest: Mapping[str, Any]) -> tuple[list[_Buffer], list[_Buffer]]:
    """Inputs and outputs, with the names that check/vectors.h gives to their samples."""
    return (
        [_buffer(p, "in", i) for i, p in enumerate(manifest["inputs"])],
        [_buffer(p, "out", i) for i, p in enumerate(manifest["outputs"])],
    )


def _buffer(port: Mapping[str, Any], kind: str, index: int) -> _Buffer:
    dtype = str(port["dtype"])
    return _Buffer(
        what="".join(c if " " <= c <= "~" else "?" for c in str(port["name"])),
        ctype=f"{dtype}_t",
        type=f"CHECK_{dtype.upper()}",
        size=prod(port["shape"]),
        array=f"check_{kind}{index}",
        buffer=f"{kind}{index}",
    )


def compile_flags(target: Target) -> tuple[str, ...]:
    """How every file is compiled, but for where its headers are."""
    return (*target.cflags, OPT, *_WARNINGS, *_FREESTANDING)


def _build(
    model: Model, folder: Path, name: str, sources: Iterable[Path], defines: Sequence[str]
) -> Built:
    """Compile and link ``folder/name.elf``.

    Raises:
        QccError: the compiler is missing, or refuses the model (for this target, say).
    """
    target, board = model.target, model.board
    need(target.cc, target.package)
    boards = _write_board(board, folder)
    objects = folder / name
    objects.mkdir()
    headers = [model.out, model.out / "check", boards / "common", boards / "common" / "libc"]
    flags = [*compile_flags(target), *defines, *(f"-I{path}" for path in headers)]
    own = (model.out / source for source in model.sources)
    every = [*own, *sources, *(boards / source for source in board.sources)]
    jobs = {objects / f"{i}-{path.stem}.o": path for i, path in enumerate(every)}

    def compile_one(job: tuple[Path, Path]) -> None:
        made, source = job
        try:
            run([target.cc, *flags, "-c", str(source.resolve()), "-o", str(made)])
        except QccError as e:
            where = short(source.name)
            raise QccError(f"{where} cannot be compiled for {target.name}: {e.message}") from e

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, jobs.items()))
    made = [str(path) for path in jobs]
    elf, map_file = folder / f"{name}.elf", folder / f"{name}.map"
    run(
        [target.cc, *target.cflags, "-nostdlib", f"-L{boards / 'common'}",
         f"-L{boards / board.name}", "-Tlink.ld", "-Wl,--gc-sections", f"-Wl,-Map={map_file.name}",
         *made, "-lgcc", "-o", str(elf)],
        folder=folder,
    )  # fmt: skip
    return Built(elf, map_file, tuple(made[: len(model.sources)]))


def _write_board(board: Board, folder: Path) -> Path:
    root = folder / "boards"
    for name, text in board.texts().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root
