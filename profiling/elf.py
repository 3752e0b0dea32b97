"""What profiling needs of a 32-bit little-endian ELF file: sections, segments, symbols.

Layouts are those of the System V ABI, "Object Files" (ELF32). Written out here because the standard
library reads no ELF, and a hundred lines are less than a dependency.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from qcc.errors import QccError

_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_SECTION = struct.Struct("<IIIIIIIIII")
_SEGMENT = struct.Struct("<IIIIIIII")
_SYMBOL = struct.Struct("<IIIBBH")

_MAGIC = b"\x7fELF\x01\x01"
"""32 bits, little-endian."""

_ARM = 40
_LOAD = 1
_SYMTAB, _NOBITS = 2, 8
_ALLOC = 2
_FUNC = 2


@dataclass(frozen=True, slots=True)
class Section:
    """A section; *loaded* ones take bytes of flash."""

    name: str
    address: int
    size: int
    loaded: bool


@dataclass(frozen=True, slots=True)
class Segment:
    """Memory of the program: *data* belongs at *load_address*, *memory_size* bytes at *address*."""

    address: int
    load_address: int
    memory_size: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Symbol:
    """A named address; of an Arm function without the bit that says Thumb."""

    name: str
    address: int
    size: int
    function: bool


@dataclass(frozen=True, slots=True)
class Elf:
    """A linked program.

    Attributes:
        entry: where it starts, without Arm's Thumb bit.
        symbols: every symbol with a name, in the file's order.
    """

    entry: int
    sections: tuple[Section, ...]
    segments: tuple[Segment, ...]
    symbols: tuple[Symbol, ...]

    def symbol(self, name: str) -> Symbol:
        """The symbol called *name*.

        Raises:
            KeyError: there is none.
        """
        for s in self.symbols:
            if s.name == name:
                return s
        raise KeyError(name)


def read_elf(path: Path) -> Elf:
    """The program in *path*.

    Raises:
        QccError: it is no 32-bit little-endian ELF file.
    """
    data = path.read_bytes()
    if data[: len(_MAGIC)] != _MAGIC:
        raise QccError(f"{path}: not a 32-bit little-endian ELF file")
    h = _HEADER.unpack_from(data)
    entry, segments_at, sections_at = h[4], h[5], h[6]
    segment_count, section_count, names_index = h[10], h[12], h[13]
    raw = [_SECTION.unpack_from(data, sections_at + i * h[11]) for i in range(section_count)]
    names = raw[names_index][4]
    thumb = 1 if h[2] == _ARM else 0
    return Elf(
        entry=entry & ~thumb,
        sections=tuple(
            Section(_text(data, names + s[0]), s[3], s[5], _takes_flash(s[1], s[2])) for s in raw
        ),
        segments=tuple(_segments(data, segments_at, segment_count, h[9])),
        symbols=tuple(
            symbol for s in raw if s[1] == _SYMTAB for symbol in _symbols(data, s, raw, thumb)
        ),
    )


def _takes_flash(kind: int, flags: int) -> bool:
    return bool(flags & _ALLOC) and kind != _NOBITS


def _segments(data: bytes, at: int, count: int, step: int) -> list[Segment]:
    found = []
    for i in range(count):
        s = _SEGMENT.unpack_from(data, at + i * step)
        if s[0] == _LOAD:
            found.append(Segment(s[2], s[3], s[5], data[s[1] : s[1] + s[4]]))
    return found


def _symbols(
    data: bytes, table: tuple[int, ...], sections: list[tuple[int, ...]], thumb: int
) -> list[Symbol]:
    names = sections[table[6]][4]
    found = []
    for i in range(table[5] // _SYMBOL.size):
        name, value, size, info, _, _ = _SYMBOL.unpack_from(data, table[4] + i * _SYMBOL.size)
        function = info & 15 == _FUNC
        if name:
            address = value & ~thumb if function else value
            found.append(Symbol(_text(data, names + name), address, size, function))
    return found


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(0, at)].decode("utf-8", "replace")
