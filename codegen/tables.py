"""The constant tables of a layer's kernel calls."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable, Sequence

import numpy as np

from qcc.ir import Array
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


def first_equals(layers: Iterable[Sequence[Call]]) -> dict[tuple[int, str], tuple[int, str]]:
    """(layer, suffix) of every table -> that of the first one that holds the same.

    Equal tables exist once: layers that run in bands of rows have the same constants in each band.
    """
    first: dict[tuple[str, bytes], tuple[int, str]] = {}
    found: dict[tuple[int, str], tuple[int, str]] = {}
    for i, calls in enumerate(layers):
        for t in tables(calls):
            found[i, t.suffix] = first.setdefault((t.ctype, _digest(t.data)), (i, t.suffix))
    return found


def distinct_bytes(layers: Sequence[Sequence[Call]]) -> int:
    """Bytes of flash that the tables of several layers take, equal ones counted once."""
    return sum(
        {
            (t.ctype, _digest(t.data)): int(t.data.size) * ctype_bytes(t.ctype)
            for calls in layers
            for t in tables(calls)
        }.values()
    )


_digests: dict[int, tuple[weakref.ref[Array], bytes]] = {}
"""By identity of an array: kernel selection asks for the same ones very often."""


def _digest(data: Array) -> bytes:
    """Equal for tables of the same integers in the same order. Tables do not change once made."""
    key = id(data)
    known = _digests.get(key)
    if known is not None and known[0]() is data:
        return known[1]
    content = np.ascontiguousarray(data, np.int64).tobytes()
    digest = hashlib.sha256(content).digest()
    _digests[key] = weakref.ref(data, lambda _: _digests.pop(key, None)), digest
    return digest


def ctype_bytes(ctype: str) -> int:
    """``int16_t`` -> 2."""
    return int("".join(c for c in ctype if c.isdigit())) // 8
