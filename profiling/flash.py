"""Where the bytes of the firmware belong: layers, shared kernels, libraries.

What lies where, to the byte, is the linker's map. Which layer a piece of inlined code belongs to is
in the debugging information.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qcc.profiling.build import Built, Model
from qcc.profiling.counts import Region
from qcc.profiling.disassembly import Disassembly, disassemble, inlined_frames
from qcc.profiling.elf import read_elf
from qcc.profiling.result import Flash, SharedCode

_MEMORY_MAP = "Linker script and memory map"
_PLACED = re.compile(r"^ (\.\S+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) (\S.*)$")
_LIBRARY = re.compile(r"libgcc|-memory\.o$")
_CODE = ".text"
_CONSTANTS = (".rodata", ".srodata", ".data", ".sdata", ".ARM.ex")


@dataclass(frozen=True, slots=True)
class Placed:
    """A section of an object file in the linked program."""

    section: str
    address: int
    size: int
    file: str


@dataclass(frozen=True, slots=True)
class FlashOfLayers:
    """Bytes per layer, what several share, and the sums."""

    code: tuple[int, ...]
    tables: tuple[int, ...]
    shared: tuple[SharedCode, ...]
    total: Flash


@dataclass(slots=True)
class _Owners:
    """Bytes of code by the function that they are for; a layer's own one, or another."""

    layers: Counter[str] = field(default_factory=Counter)
    functions: Counter[str] = field(default_factory=Counter)
    call: int = 0


def functions_run(
    model: Model, built: Built, counted: Sequence[Region]
) -> dict[str, frozenset[int]]:
    """The layers that ran each function, by its name; inlined functions too.

    Args:
        model: what is measured.
        built: by ``build_profile``.
        counted: what each layer executed, in order.
    """
    found: dict[str, set[int]] = defaultdict(set)
    addresses = sorted({address for region in counted for address in region.executed})
    frames = inlined_frames(built.elf, model.target, addresses)
    names = {a: set(map(_plain, inside)) for a, inside in zip(addresses, frames, strict=True)}
    for s in read_elf(built.elf).symbols:  # clones of one function have names of their own
        if s.function and s.address in names:
            names[s.address].add(s.name)
    for layer, region in enumerate(counted):
        for address in region.executed:
            for name in names[address]:
                found[name].add(layer)
    return {name: frozenset(layers) for name, layers in found.items()}


def measure_flash(
    model: Model, built: Built, users: Mapping[str, Collection[int]]
) -> FlashOfLayers:
    """The flash of the firmware *built*.

    Args:
        model: what it is built from.
        built: by ``build_size``.
        users: the layers that ran each function, from ``functions_run``.
    """
    placed = parse_map(built.map.read_text(encoding="utf-8", errors="replace"))
    own = [p for p in placed if p.file in built.model_objects]
    code = [p for p in own if p.section.startswith(_CODE)]
    constants = [p for p in own if p.section.startswith(_CONSTANTS)]
    others = [p for p in placed if p.file not in built.model_objects]
    library = sum(p.size for p in others if _LIBRARY.search(p.file) and _in_flash(p))
    prefixes = [f"{model.name}_{layer['c_name']}" for layer in model.manifest["layers"]]
    owners = _code_owners(model, built.elf, code, prefixes)
    per_layer, shared = _share_out(owners, users, prefixes)
    tables, nameless = table_owners(constants, prefixes)
    code_bytes = sum(p.size for p in code)
    table_bytes = sum(p.size for p in constants)
    given = sum(per_layer.values()) + owners.call + sum(s.bytes for s in shared)
    total = Flash(
        firmware=sum(s.size for s in read_elf(built.elf).sections if s.loaded),
        model=code_bytes + table_bytes + library,
        code=code_bytes,
        tables=table_bytes,
        library=library,
        call=owners.call,
        other=nameless + code_bytes - given,
    )
    order = range(len(prefixes))
    return FlashOfLayers(
        code=tuple(per_layer[i] for i in order),
        tables=tuple(tables[i] for i in order),
        shared=tuple(shared),
        total=total,
    )


def _share_out(
    owners: _Owners, users: Mapping[str, Collection[int]], prefixes: Sequence[str]
) -> tuple[Counter[int], list[SharedCode]]:
    """Bytes of code by layer, and the functions that are not one layer's."""
    per_layer: Counter[int] = Counter()
    shared = []
    for name, size in sorted((owners.layers + owners.functions).items()):
        layers = users.get(name) or users.get(_plain(name)) or ()
        if not layers and name in prefixes:
            layers = (prefixes.index(name),)
        if len(layers) == 1:
            per_layer[next(iter(layers))] += size
        else:
            shared.append(SharedCode(name, size, tuple(sorted(layers))))
    return per_layer, shared


def _in_flash(p: Placed) -> bool:
    return p.section.startswith((_CODE, *_CONSTANTS))


def parse_map(text: str) -> list[Placed]:
    """The sections that the linker has kept, by GNU ld's map."""
    _, _, kept = text.partition(_MEMORY_MAP)
    # A section with a long name has its numbers on the next line.
    joined = re.sub(r"^( \.\S+)\n\s+(?=0x)", r"\1 ", kept, flags=re.M)
    found = []
    for line in joined.splitlines():
        m = _PLACED.match(line)
        if m and int(m[3], 16):
            found.append(Placed(m[1], int(m[2], 16), int(m[3], 16), m[4]))
    return found


def _code_owners(
    model: Model, elf: Path, code: Sequence[Placed], prefixes: Sequence[str]
) -> _Owners:
    """Whose the bytes of *code* are; constants between instructions go with those before them."""
    listing = disassemble(elf, model.target)
    names = set(prefixes)
    owners = _Owners()
    spans = [span for p in code for span in _spans(p, listing)]
    frames = inlined_frames(elf, model.target, [address for _, address, _ in spans])
    for (section, _, size), inside in zip(spans, frames, strict=True):
        layer = next((f for f in map(_plain, inside) if f in names), None)
        function = section.removeprefix(_CODE).lstrip(".")
        if layer is not None:
            owners.layers[layer] += size
        elif function == model.manifest["entry"]:
            owners.call += size
        elif function:
            owners.functions[function] += size
    return owners


def _plain(function: str) -> str:
    """Without what the compiler appends to a clone: ``conv.constprop.0``."""
    return function.split(".")[0]


def _spans(p: Placed, listing: Disassembly) -> list[tuple[str, int, int]]:
    """(section, address, bytes up to the next instruction) of every instruction in *p*."""
    starts = [i.address for i in listing.within(p.address, p.size)]
    ends = [*starts[1:], p.address + p.size]
    return [(p.section, a, b - a) for a, b in zip(starts, ends, strict=True)]


def table_owners(constants: Sequence[Placed], prefixes: Sequence[str]) -> tuple[Counter[int], int]:
    """Bytes of tables by layer, and of those that no layer's name begins.

    Args:
        constants: sections of tables, each named after its table.
        prefixes: what the names of each layer's tables begin with, but for a ``_``.
    """
    tables: Counter[int] = Counter()
    rest = 0
    # The longest name that fits: conv_1 is not conv_10's, and conv not conv_1's.
    by_length = sorted(range(len(prefixes)), key=lambda i: -len(prefixes[i]))
    for p in constants:
        name = p.section.split(".", 2)[-1]
        owner = next((i for i in by_length if name.startswith(f"{prefixes[i]}_")), None)
        if owner is None:
            rest += p.size
        else:
            tables[owner] += p.size
    return tables, rest
