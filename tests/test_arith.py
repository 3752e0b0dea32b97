"""The arithmetic of qcc/arith.py: against exact rationals, and against its C twin."""

from __future__ import annotations

import ctypes
import subprocess
from fractions import Fraction
from math import floor, ldexp, log2
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcc import arith
from qcc.arith import Rescale
from qcc.config import SCALE_MODES
from qcc.ir import QType

INCLUDE = Path(__file__).parents[1] / "runtime_c" / "include"
INT32 = st.integers(-(2**31) + 1, 2**31 - 1)


def half_up(v: Fraction) -> int:
    return floor(v + Fraction(1, 2))


@given(acc=INT32, mult=st.integers(1, 2**31 - 1), shift=st.integers(0, 62))
def test_rescale_is_the_rational_rounded_half_up(acc: int, mult: int, shift: int) -> None:
    got = Rescale("fixed-point", (mult,), (shift,)).apply(np.array([acc]))
    if abs(acc * mult) + (1 << shift) < 2**63:
        assert got[0] == half_up(Fraction(acc * mult, 1 << shift))


@given(acc=INT32, shift=st.integers(-20, 31))
def test_a_negative_shift_multiplies(acc: int, shift: int) -> None:
    got = Rescale("single-shift", (1,), (shift,)).apply(np.array([acc]))
    assert got[0] == half_up(Fraction(acc) / Fraction(2) ** shift)


@given(acc=INT32, mult=st.integers(1, 2**31 - 1), shift=st.integers(-8, 40))
def test_max_product_bounds_what_is_computed(acc: int, mult: int, shift: int) -> None:
    r = Rescale("fixed-point", (mult,), (shift,))
    half = (1 << shift) >> 1 if shift > 0 else 0
    assert abs(acc * mult + half) * (1 << max(0, -shift)) <= r.max_product(abs(acc))


@given(st.floats(1e-12, 1e6))
def test_fixed_point_is_within_half_a_step(alpha: float) -> None:
    mult, shift = arith.fixed_point(alpha)
    assert 0 <= mult < 2**31
    assert shift <= 62
    assert abs(ldexp(mult, -shift) - alpha) <= ldexp(0.5, -shift)


@given(st.floats(1e-9, 1e3))
def test_power_of_two_is_the_nearest_in_log_scale(alpha: float) -> None:
    _, shift = arith.power_of_two(alpha)
    assert abs(log2(alpha) + shift) <= 0.5 + 1e-9


@given(st.floats(1e-9, 1e3))
def test_double_shift_is_never_worse_than_single(alpha: float) -> None:
    m, s = arith.double_shift(alpha)
    m1, s1 = arith.power_of_two(alpha)
    assert abs(log2(ldexp(m, -s) / alpha)) <= abs(log2(ldexp(m1, -s1) / alpha)) + 1e-12
    assert m == 1 or bin(m - 1).count("1") == 1


@given(st.floats(1e-9, 1e3))
def test_double_shift_at_least_is_tight(alpha: float) -> None:
    mult, shift = arith.double_shift_at_least(alpha)
    made = ldexp(mult, -shift)
    assert alpha <= made * (1 + 1e-12)
    # 1, 1 + 1/128, 1 + 1/64, ..., 1.5, 2: the widest gap is from 1.5 to 2
    assert made <= alpha * (4 / 3) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("bits", "signed", "lo", "hi"),
    [(8, True, -127, 127), (8, False, 0, 255), (4, True, -7, 7), (1, True, -1, 1)],
)
def test_formats_are_symmetric(bits: int, signed: bool, lo: int, hi: int) -> None:
    q = QType(bits, signed)
    assert (q.qmin, q.qmax) == (lo, hi)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(1e-3, 1e3))
def test_quantize_rounds_half_up_and_saturates(values: list[float], scale: float) -> None:
    q = QType(8)
    for v, got in zip(values, arith.quantize(np.array(values), scale, q).tolist(), strict=True):
        assert got == min(127, max(-127, floor(np.float64(v) / scale + 0.5)))


@pytest.mark.parametrize("bits", [20, 30, 52, 60])
def test_exact_matmul_is_exact_up_to_its_bound(bits: int) -> None:
    rng = np.random.default_rng(bits)
    side = 1 << ((bits - 4) // 2)
    a = rng.integers(-side, side, (5, 16))
    b = rng.integers(-side, side, (16, 3))
    bound = int((np.abs(a).astype(object) @ np.abs(b).astype(object)).max())
    want = a.astype(object) @ b.astype(object)
    assert (arith.exact_matmul(a, b, bound) == want).all()


# -- the C twin -----------------------------------------------------------------------------------

TWIN = """
#include "qcc_arith.h"
int32_t asr32(int32_t v, int32_t s) { return qcc_asr32(v, s); }
int64_t asr64(int64_t v, int32_t s) { return qcc_asr64(v, s); }
#define RESCALE(name, acc) int32_t name(acc v, int32_t m, int32_t s, int32_t lo, int32_t hi) \\
    { return qcc_rescale_##name(v, m, s, lo, hi); }
RESCALE(shift32, int32_t)
RESCALE(shift64, int64_t)
RESCALE(mult32, int32_t)
RESCALE(mult64, int64_t)
"""


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("twin")
    (folder / "twin.c").write_text(TWIN)
    flags = ["-std=c99", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    command = ["gcc", *flags, f"-I{INCLUDE}", str(folder / "twin.c"), "-o", str(folder / "twin.so")]
    subprocess.run(command, check=True)
    lib = ctypes.CDLL(str(folder / "twin.so"))
    lib.asr64.restype = ctypes.c_int64
    return lib


def edge(bound: int) -> list[int]:
    """Values around zero, the powers of two and the ends."""
    powers = [1 << k for k in range(0, bound.bit_length() - 1, 3)]
    near = {p + d for p in powers for d in (-1, 0, 1)} | {0, bound, bound - 1}
    return sorted({v for n in near for v in (n, -n) if abs(v) <= bound})


def test_c_shifts_like_numpy(twin: ctypes.CDLL) -> None:
    for shift in (0, 1, 7, 30, 31):
        for v in edge(2**31 - 1):
            assert twin.asr32(v, shift) == v >> shift
    for shift in (0, 1, 31, 32, 62, 63):
        for v in edge(2**63 - 1):
            assert twin.asr64(ctypes.c_int64(v), shift) == v >> shift


@pytest.mark.parametrize("form", ["mult32", "mult64"])
def test_c_rescales_like_python(twin: ctypes.CDLL, form: str) -> None:
    limit = 2**31 if form == "mult32" else 2**63
    function = getattr(twin, form)
    checked = 0
    for mult in (1, 3, 129, 32767, 2**30, 2**31 - 1):
        for shift in (0, 1, 8, 31, *([32, 62] if form == "mult64" else [])):
            r = Rescale("fixed-point", (mult,), (shift,))
            for acc in edge(2**31 - 1):
                if r.max_product(abs(acc)) >= limit:
                    continue
                want = int(arith.saturate(r.apply(np.array([acc])), -127, 127)[0])
                value = ctypes.c_int64(acc) if form == "mult64" else acc
                assert function(value, mult, shift, -127, 127) == want
                checked += 1
    assert checked > 300


@pytest.mark.parametrize("form", ["shift32", "shift64"])
def test_c_shift_form_has_the_half_in_the_accumulator(twin: ctypes.CDLL, form: str) -> None:
    for shift in (0, 1, 5, 30):
        half = (1 << shift) >> 1
        for acc in edge(2**31 - 1 - half):
            want = int(np.clip(half_up(Fraction(acc, 1 << shift)), 0, 255))
            value = ctypes.c_int64(acc + half) if form == "shift64" else acc + half
            assert getattr(twin, form)(value, 1, shift, 0, 255) == want


def test_every_mode_has_a_nearest_rescale() -> None:
    for mode in SCALE_MODES:
        r = arith.nearest_rescale(mode, [0.013, 0.4])
        for got, want in zip(r.alphas, (0.013, 0.4), strict=True):
            assert 0.7 < got / want < 1.42
