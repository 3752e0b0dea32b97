"""Integer forms of the ratios between scales, for operators without weights.

Not an operator. Where the scale chooser could arrange a ratio to be a power of two, the form is a
shift; elsewhere a multiplier, in every scale mode, of as many bits as the proof of the accumulator
leaves: a coarse shift would be an approximation that nobody asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qcc import arith
from qcc.arith import Rescale
from qcc.config import ScaleMode
from qcc.ir import QType

TOLERANCE = 1e-6
"""Relative distance at which a ratio counts as exact; far below what moves any result."""

FINE = 1 / 32
"""Errors of constants and multipliers are kept below this many steps of the output."""

_SHIFT_FORMS: tuple[tuple[ScaleMode, Callable[[float], tuple[int, int]]], ...] = (
    ("single-shift", arith.power_of_two),
    ("double-shift", arith.double_shift),
)

_LEAST, _MOST = 2.0**-40, 2.0**20
"""Beyond these, every result is 0, or saturated unless it is 0."""


def peak(qtype: QType) -> int:
    """The largest magnitude of a value."""
    return max(-qtype.qmin, qtype.qmax)


def rescale(alpha: float, mode: ScaleMode, bound: int) -> Rescale:
    """R for accumulators of at most *bound* in magnitude, times *alpha* > 0.

    The mode of the result is "fixed-point" where a general multiplier was needed.
    """
    alpha = min(max(alpha, _LEAST), _MOST)
    for shifts in (arith.power_of_two(alpha), arith.double_shift(alpha)):
        if _close(math.ldexp(shifts[0], -shifts[1]), alpha):
            return Rescale(mode, (shifts[0],), (shifts[1],))
        if mode != "double-shift":
            break
    bits = 30 - bound.bit_length()  # acc * mult + half < 2**31
    if bits < 4 or bound * alpha * 2.0**-bits > FINE:
        bits = min(arith.MULT_BITS, 61 - bound.bit_length())
    mult, shift = arith.fixed_point(alpha, bits)
    return Rescale("fixed-point", (mult,), (shift,))


@dataclass(frozen=True, slots=True)
class Multipliers:
    """sum_i mult[i] * q[i] / 2**shift; *bound* is the largest magnitude of the sum."""

    mode: ScaleMode
    mult: tuple[int, ...]
    shift: int
    bound: int

    @property
    def rescale(self) -> Rescale:
        """What is left to do to the sum: a rounding shift."""
        return Rescale(self.mode, (1,), (self.shift,))


def multipliers(alphas: Sequence[float], peaks: Sequence[int]) -> Multipliers:
    """Integers for sum_i alphas[i] * q[i], |q[i]| <= peaks[i], over one common power of two.

    Exact where all ratios are powers of two, or sums of two; otherwise as fine as int32 allows,
    and where that is coarser than ``FINE``, as int64 allows.

    Raises:
        OverflowError: when a ratio is too large for an integer multiplier.
    """
    if (exact := _exact(alphas, peaks)) is not None:
        return exact
    narrow = _largest(alphas, peaks, 30, 1 << 31)
    if narrow is not None:
        steps = (
            abs(m - math.ldexp(a, narrow.shift)) for m, a in zip(narrow.mult, alphas, strict=True)
        )
        error = sum(p * s for p, s in zip(peaks, steps, strict=True))
        if math.ldexp(error, -narrow.shift) <= FINE:
            return narrow
    if (wide := _largest(alphas, peaks, 46, 1 << 62)) is None:
        raise OverflowError(
            f"scales too far apart (ratios {', '.join(f'{a:.3g}' for a in alphas)})"
        )
    return wide


def _exact(alphas: Sequence[float], peaks: Sequence[int]) -> Multipliers | None:
    for mode, choose in _SHIFT_FORMS:
        pairs = [choose(abs(a)) for a in alphas]
        shift = max(0, *(s for _, s in pairs))
        if shift > 30 or not all(
            _close(math.ldexp(m, -s), abs(a)) for (m, s), a in zip(pairs, alphas, strict=True)
        ):
            continue
        signs = [1 if a >= 0 else -1 for a in alphas]
        mult = tuple(sign * (m << (shift - s)) for (m, s), sign in zip(pairs, signs, strict=True))
        bound = _bound(mult, peaks)
        if bound + ((1 << shift) >> 1) < 1 << 31:
            return Multipliers(mode, mult, shift, bound)
    return None


def _largest(
    alphas: Sequence[float], peaks: Sequence[int], most: int, limit: int
) -> Multipliers | None:
    """The finest multipliers below 2**31 whose sum, rounding half included, is below *limit*."""
    for shift in range(most, -1, -1):
        mult = tuple(round(math.ldexp(a, shift)) for a in alphas)
        bound = _bound(mult, peaks)
        if max(map(abs, mult)) < 1 << 31 and bound + ((1 << shift) >> 1) < limit:
            return Multipliers("fixed-point", mult, shift, bound)
    return None


def finest_shift(alpha: float, top: int) -> int:
    """The shift for multipliers of at most *alpha* * 2**shift on values of at most *top*.

    As fine as int32 allows, or int64 where int32 would err by more than ``FINE``.

    Raises:
        OverflowError: when *alpha* is too large for an integer multiplier.
    """
    for most, limit in ((30, 1 << 31), (46, 1 << 62)):
        found = _largest([alpha], [top], most, limit)
        if found is not None and (limit > 1 << 31 or top * 0.5**found.shift / 2 <= FINE):
            return found.shift
    raise OverflowError(f"scales too far apart (ratio {alpha:.3g})")


def _bound(mult: Sequence[int], peaks: Sequence[int]) -> int:
    return sum(abs(m) * p for m, p in zip(mult, peaks, strict=True))


def _close(found: float, wanted: float) -> bool:
    return abs(found - wanted) <= TOLERANCE * wanted
