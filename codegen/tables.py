"""The constant tables of a layer's kernel calls."""

from __future__ import annotations

from collections.abc import Sequence

from qcc.ops.base import Call, CArray


def tables(calls: Sequence[Call]) -> list[CArray]:
    """The constant tables of a layer, each once."""
    found: dict[str, CArray] = {}
    for call in calls:
        for arg in call.args:
            if isinstance(arg, CArray):
                found.setdefault(arg.suffix, arg)
    return list(found.values())


def table_bytes(calls: Sequence[Call]) -> int:
    """Bytes of flash that the tables take."""
    return sum(int(t.data.size) * ctype_bytes(t.ctype) for t in tables(calls))


def ctype_bytes(ctype: str) -> int:
    """``int16_t`` -> 2."""
    return int("".join(c for c in ctype if c.isdigit())) // 8
