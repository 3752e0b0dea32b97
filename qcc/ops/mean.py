"""Rescaling of sums, shared by avg_pool2d and reduce_mean: the multiplier includes 1/count.

Not an operator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from qcc import arith
from qcc.arith import Rescale
from qcc.config import ScaleMode
from qcc.ir import QType

_NARROW_BITS = 16
"""The least multiplier width worth a product of 32 bits: an error of 2**-16, relative."""

_TOLERANCE = 1e-6
"""Relative distance at which a shift counts as exact; scales pass through float32 on the way."""


def sum_bound(count: int, qtype: QType) -> int:
    """The largest magnitude of a sum of *count* values."""
    return count * max(-qtype.qmin, qtype.qmax)


def rescale(alphas: Sequence[float], mode: ScaleMode, bound: int) -> Rescale:
    """R for sums of at most *bound* in magnitude, times *alphas* > 0.

    Shifts of *mode* where they are exact, which they are when the scale chooser could honour
    ``Op.relation``; otherwise multipliers: the result's mode is then "fixed-point".
    """
    # Below the first limit every result is 0; above the other, all but 0 saturate 16 bits.
    least = math.ldexp(1.0, -bound.bit_length() - 2)
    wanted = [min(max(a, least), 2.0**20) for a in alphas]
    for candidate in ("single-shift", mode):
        shifts = arith.nearest_rescale(candidate, wanted)
        if candidate != "fixed-point" and _equals(shifts, wanted):
            return Rescale(mode, shifts.mult, shifts.shift)
    bits = 30 - bound.bit_length()
    if bits < _NARROW_BITS:
        bits = min(arith.MULT_BITS, 61 - bound.bit_length())
    pairs = [arith.fixed_point(a, bits) for a in wanted]
    return Rescale("fixed-point", tuple(m for m, _ in pairs), tuple(s for _, s in pairs))


def _equals(found: Rescale, wanted: Sequence[float]) -> bool:
    return all(abs(f / w - 1) < _TOLERANCE for f, w in zip(found.alphas, wanted, strict=True))
