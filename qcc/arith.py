"""Integer arithmetic, defined once: the twin of runtime_c/include/qcc_arith.h.

Everything here is exact. Rounding is half up, ``floor(v + 1/2)``: add half, shift right
arithmetically (docs/arithmetic.md). Tests compare the two files value by value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qcc.config import ScaleMode
from qcc.ir import Array, Int, QType

MULT_BITS = 31
"""Width of a fixed-point multiplier."""

MAX_SHIFT = 62


@dataclass(frozen=True, slots=True)
class Rescale:
    """R(acc) = floor((acc * mult + half) / 2**shift) with half = 2**(shift - 1).

    One entry, or one per channel. mult is 1 (single-shift), 1 + 2**a (double-shift) or any positive
    number below 2**31 (fixed-point). A negative shift multiplies.
    """

    mode: ScaleMode
    mult: tuple[int, ...]
    shift: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.mult) != len(self.shift):
            raise ValueError("as many multipliers as shifts")
        if not all(-31 < s <= MAX_SHIFT for s in self.shift):
            raise ValueError(f"shifts {self.shift} outside -30..{MAX_SHIFT}")

    @property
    def per_channel(self) -> bool:
        return len(self.shift) > 1

    @property
    def alphas(self) -> tuple[float, ...]:
        """The real factors, mult / 2**shift."""
        return tuple(math.ldexp(m, -s) for m, s in zip(self.mult, self.shift, strict=True))

    def collapsed(self) -> Rescale:
        """The same with one entry, where all channels agree."""
        if len(set(self.mult)) == 1 and len(set(self.shift)) == 1:
            return Rescale(self.mode, self.mult[:1], self.shift[:1])
        return self

    def select(self, keep: Array) -> Rescale:
        """The entries of the channels in *keep* (indices)."""
        if not self.per_channel:
            return self
        mult, shift = (tuple(v[i] for i in keep.tolist()) for v in (self.mult, self.shift))
        return Rescale(self.mode, mult, shift)

    def apply(self, acc: Int) -> Int:
        """R(acc); per-channel entries go along the last axis."""
        mult = np.asarray(self.mult, np.int64)
        shift = np.asarray(self.shift, np.int64)
        return shift_round(acc * mult, shift)

    def max_product(self, bound: int) -> int:
        """The largest magnitude that computing R takes for |acc| <= *bound*, half included."""
        worst = 0
        for m, s in zip(self.mult, self.shift, strict=True):
            product = bound * m + ((1 << (s - 1)) if s > 0 else 0)
            worst = max(worst, product if s >= 0 else product << -s)
        return worst


def shift_round(v: Int, shift: Int | int) -> Int:
    """floor(v / 2**shift + 1/2), elementwise; a negative shift multiplies by 2**-shift."""
    s = np.asarray(shift, np.int64)
    right = np.maximum(s, 0)
    half = np.where(right > 0, np.left_shift(np.int64(1), np.maximum(right - 1, 0)), 0)
    return np.left_shift(np.right_shift(v + half, right), np.maximum(-s, 0))


def saturate(v: Int, lo: int, hi: int) -> Int:
    """Clamp to [lo, hi]."""
    return np.clip(v, lo, hi)


def round_half_up(v: Array) -> Int:
    """floor(v + 1/2) as int64, elementwise; the rounding of every table and constant."""
    return np.floor(np.asarray(v, np.float64) + 0.5).astype(np.int64)


_FAR = 2.0**40
"""Steps beyond every format that quantize() serves, yet well within int64."""


def quantize(real: Array, scale: float, qtype: QType, zero_point: int = 0) -> Int:
    """The integers nearest to *real* / *scale*, saturated to *qtype*."""
    steps = np.clip(np.asarray(real, np.float64) / scale, -_FAR, _FAR)
    return np.clip(round_half_up(steps) + zero_point, qtype.qmin, qtype.qmax)


def fixed_point(alpha: float, bits: int = MULT_BITS) -> tuple[int, int]:
    """(mult, shift) with mult / 2**shift nearest to *alpha* > 0, mult in [2**(bits-1), 2**bits).

    The shift is at most 62: a smaller alpha loses precision of the multiplier instead.
    """
    mantissa, exponent = math.frexp(alpha)
    mult, shift = round(mantissa * (1 << bits)), bits - exponent
    if mult == 1 << bits:
        mult, shift = mult // 2, shift - 1
    if shift > MAX_SHIFT:
        mult, shift = round(math.ldexp(alpha, MAX_SHIFT)), MAX_SHIFT
    return mult, shift


def power_of_two(alpha: float) -> tuple[int, int]:
    """(1, shift) with 2**-shift nearest to *alpha* in log scale."""
    return 1, round(-math.log2(alpha))


DOUBLE_SHIFT_SPAN = 7
"""Largest distance of the two shifts: mult = 1 + 2**a, a in 1..7."""


def double_shift(alpha: float) -> tuple[int, int]:
    """(1 + 2**a, shift) or (1, shift), whichever factor is nearest to *alpha* in log scale."""
    best = power_of_two(alpha)
    for a in range(1, DOUBLE_SHIFT_SPAN + 1):
        mult = 1 + (1 << a)
        shift = round(math.log2(mult / alpha))
        if _log_distance(mult, shift, alpha) < _log_distance(*best, alpha):
            best = mult, shift
    return best


def double_shift_at_least(alpha: float) -> tuple[int, int]:
    """The smallest factor (1 + 2**a) / 2**shift or 2**-shift that is not below *alpha*."""
    candidates = [(1, math.floor(-math.log2(alpha)))]
    for a in range(1, DOUBLE_SHIFT_SPAN + 1):
        mult = 1 + (1 << a)
        candidates.append((mult, math.floor(math.log2(mult / alpha))))
    return min(candidates, key=lambda ms: math.ldexp(ms[0], -ms[1]))


def _log_distance(mult: int, shift: int, alpha: float) -> float:
    return abs(math.log2(math.ldexp(mult, -shift) / alpha))


def nearest_rescale(mode: ScaleMode, alphas: list[float]) -> Rescale:
    """The rescale of *mode* nearest to the real factors *alphas*."""
    choose = {
        "single-shift": power_of_two,
        "double-shift": double_shift,
        "fixed-point": fixed_point,
    }[mode]
    pairs = [choose(a) for a in alphas]
    return Rescale(mode, tuple(m for m, _ in pairs), tuple(s for _, s in pairs))


def exact_matmul(a: Int, b: Int, bound: int) -> Int:
    """a @ b for integers, where every partial sum is proved to be at most *bound* in magnitude.

    BLAS computes it exactly in float32 below 2**24 and in float64 below 2**53; int64 is the
    slow rest.
    """
    if bound < 1 << 24:
        kind: type[np.floating] = np.float32
    elif bound < 1 << 53:
        kind = np.float64
    else:
        return np.asarray(a.astype(np.int64) @ b.astype(np.int64))
    product = a.astype(kind) @ b.astype(kind)
    return np.asarray(product).astype(np.int64)
