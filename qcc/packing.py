"""Dense packing of integers of few bits into bytes: how sub-byte weights lie in flash.

Value i takes the bits [i * bits, (i + 1) * bits) of the byte stream, the least significant bit
first, in two's complement; nothing is padded but the end of the last byte. The one format that is
no two's complement is 1 bit signed, which stands for {-1, +1}: a set bit is +1.
"""

from __future__ import annotations

import numpy as np

from qcc.ir import Array, Int

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 16)

_AT_ONCE = 1 << 20
"""Values that are packed together, a multiple of 8: large tables take little memory beside."""


def packed_size(n: int, bits: int) -> int:
    """Bytes that *n* values of *bits* bits take."""
    _check_width(bits)
    return (n * bits + 7) // 8


def pack(values: Int, bits: int, signed: bool = True) -> Array:
    """*values*, in C order, as uint8 (packed_size(values.size, bits),).

    Raises:
        ValueError: if a value does not fit, or the width is none of ``WIDTHS``.
    """
    flat = np.asarray(values, np.int64).reshape(-1)
    low, high = _limits(bits, signed)
    if flat.size and (flat.min() < low or flat.max() > high):
        raise ValueError(f"values {flat.min()}..{flat.max()} do not fit {low}..{high}")
    if bits == 1 and signed:
        if (flat == 0).any():
            raise ValueError("1 bit is -1 or +1; 0 is neither")
        flat = (flat + 1) >> 1
    if bits == 16:
        return np.frombuffer(flat.astype("<i8").astype("<u2").tobytes(), np.uint8)
    parts = [_pack_eights(flat[i : i + _AT_ONCE], bits) for i in range(0, flat.size, _AT_ONCE)]
    return np.concatenate([np.zeros(0, np.uint8), *parts])


def _pack_eights(flat: Int, bits: int) -> Array:
    """Eight values of *bits* bits are *bits* bytes of one word; what is missing at the end is 0."""
    fields = (flat & ((1 << bits) - 1)).astype(np.uint64)
    eights = np.pad(fields, (0, -fields.size % 8)).reshape(-1, 8)
    places = np.arange(0, 8 * bits, bits, dtype=np.uint64)
    words = (eights << places).sum(axis=1, dtype=np.uint64)  # n / 8, 8 -> n / 8
    stream = words.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :bits]
    return np.asarray(stream.reshape(-1)[: packed_size(fields.size, bits)])


def unpack(packed: Array, bits: int, n: int, signed: bool = True) -> Int:
    """The first *n* values of what ``pack`` made, int64 (n,).

    Raises:
        ValueError: if *packed* is too short, or the width is none of ``WIDTHS``.
    """
    stream = np.asarray(packed, np.uint8).reshape(-1)
    if stream.size < packed_size(n, bits):
        raise ValueError(f"{stream.size} bytes; {packed_size(n, bits)} hold {n} values")
    planes = np.unpackbits(stream, count=n * bits, bitorder="little").reshape(n, bits)
    raw = planes.astype(np.int64) @ (np.int64(1) << np.arange(bits))
    if not signed:
        return raw
    if bits == 1:
        return 2 * raw - 1
    half = 1 << (bits - 1)
    return (raw ^ half) - half  # sign extension


def _check_width(bits: int) -> None:
    if bits not in WIDTHS:
        raise ValueError(f"{bits} bits; 1 to 8 and 16 can be packed")


def _limits(bits: int, signed: bool) -> tuple[int, int]:
    _check_width(bits)
    if not signed:
        return 0, (1 << bits) - 1
    return (-1, 1) if bits == 1 else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
