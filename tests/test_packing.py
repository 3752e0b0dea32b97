"""Dense packing: round trips, size, and the exact place of every bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcc.packing import WIDTHS, pack, packed_size, unpack


@st.composite
def vectors(draw: st.DrawFn) -> tuple[list[int], int, bool]:
    """(values, bits, signed)."""
    bits, signed = draw(st.sampled_from(WIDTHS)), draw(st.booleans())
    if not signed:
        value = st.integers(0, (1 << bits) - 1)
    elif bits == 1:
        value = st.sampled_from([-1, 1])
    else:
        value = st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return draw(st.lists(value, max_size=40)), bits, signed


@given(vectors())
def test_unpack_undoes_pack(case: tuple[list[int], int, bool]) -> None:
    values, bits, signed = case
    packed = pack(np.array(values, np.int64), bits, signed)
    assert packed.dtype == np.uint8
    assert len(packed) == packed_size(len(values), bits)
    assert unpack(packed, bits, len(values), signed).tolist() == values


@given(vectors())
def test_stream_is_one_little_endian_number(case: tuple[list[int], int, bool]) -> None:
    values, bits, signed = case
    binary = bits == 1 and signed
    fields = [(v > 0) if binary else v & ((1 << bits) - 1) for v in values]
    number = sum(int(f) << (i * bits) for i, f in enumerate(fields))
    expected = number.to_bytes(packed_size(len(values), bits), "little")
    assert pack(np.array(values, np.int64), bits, signed).tobytes() == expected


def test_known_bytes() -> None:
    assert pack(np.array([1, -2, 3, -1]), 4).tolist() == [0xE1, 0xF3]
    assert pack(np.array([1, -1, -1, 1, 1]), 1).tolist() == [0b11001]
    assert pack(np.array([-2, 258]), 16).tolist() == [0xFE, 0xFF, 0x02, 0x01]


def test_order_is_that_of_c() -> None:
    values = np.arange(6).reshape(2, 3)
    assert unpack(pack(values.T, 8), 8, 6).tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ("values", "bits", "signed"),
    [([8], 4, True), ([-9], 4, True), ([-1], 4, False), ([16], 4, False), ([2], 1, True)],
)
def test_values_that_do_not_fit_are_refused(values: list[int], bits: int, signed: bool) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        pack(np.array(values), bits, signed)


def test_zero_is_no_binary_value() -> None:
    with pytest.raises(ValueError, match="0 is neither"):
        pack(np.array([1, 0]), 1)


def test_odd_widths_and_short_streams_are_refused() -> None:
    with pytest.raises(ValueError, match="9 bits"):
        pack(np.array([1]), 9)
    with pytest.raises(ValueError, match="2 hold 3 values"):
        unpack(np.zeros(1, np.uint8), 4, 3)
