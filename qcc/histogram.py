"""Histograms of activations, and the ranges chosen from them.

A histogram takes values as they come and keeps no more than its bins. Its range is a power of two
and doubles when a value exceeds it, merging bins pairwise, so that the result does not depend on
the order or the grouping of the updates.

The thresholds (max, mse, kl, percentile) follow N2D2's ``Histogram``; here the squared error of a
threshold is not sampled at bin centres but integrated, see ``mse``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from qcc.config import Threshold
from qcc.errors import QccError, UsageError, short
from qcc.ir import Array, Int, QType

_LOG_BINS = 12
BINS = 1 << _LOG_BINS
"""Bins per sign. At least half of them cover values that occur."""

_MIN_EXPONENT = -64
"""The range is never below 2**-64: what is smaller throughout falls on the bins next to zero."""

_LEAST_PER_LEVEL = 16
"""Values per level, on average, that divergences need: with fewer they compare noise."""

ZERO_THRESHOLD = 1.0
"""Threshold of a tensor that is zero throughout: any positive one is right."""


class Histogram:
    """Counts of values over [-2**e, 2**e) in 2 * BINS equal bins, exact zeros apart.

    Attributes:
        name: the tensor, for messages.
        counts: int64 (2 * BINS,); bin i holds floor(x / width) = i - BINS, zeros excluded.
        zeros: how many values were exactly zero.
        exponent: e, or None as long as all values are zero.
        count: all values seen, zeros included.
        min, max: of all values; 0 while there are none.
        total, squares: sums of x and of x**2.
    """

    __slots__ = ("count", "counts", "exponent", "max", "min", "name", "squares", "total", "zeros")

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.counts: Int = np.zeros(2 * BINS, np.int64)
        self.exponent: int | None = None
        self.zeros = 0
        self.count = 0
        self.min = 0.0
        self.max = 0.0
        self.total = 0.0
        self.squares = 0.0

    @property
    def peak(self) -> float:
        """The largest magnitude."""
        return max(-self.min, self.max)

    @property
    def width(self) -> float:
        """Width of a bin; 0 as long as all values are zero."""
        return 0.0 if self.exponent is None else math.ldexp(1.0, self.exponent - _LOG_BINS)

    @property
    def mean_square(self) -> float:
        """Mean of x**2, the signal's power."""
        return self.squares / self.count if self.count else 0.0

    def update(self, array: Array) -> None:
        """Count the values of *array*, any shape, as float32.

        Raises:
            QccError: if a value is not finite.
        """
        with np.errstate(over="ignore"):  # what is infinite then is refused below
            x = np.asarray(array, np.float32).reshape(-1)
        if not x.size:
            return
        low, high = float(x.min()), float(x.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise QccError(
                f"tensor {short(self.name)!r}: the float model computes NaN or infinity for the "
                "calibration data; check --mean and --std"
            )
        wide = x.astype(np.float64)
        self._note(wide, low, high)
        if low == high == 0.0:
            self.zeros += x.size
            return
        self._cover(math.frexp(max(-low, high))[1])
        assert self.exponent is not None
        # By a power of two, and in float64, where float32's subnormals stay: so it is exact.
        scaled = np.multiply(wide, math.ldexp(1.0, _LOG_BINS - self.exponent), out=wide)
        if low < 0.0:
            np.floor(scaled, out=scaled)
        index = scaled.astype(np.int64)
        index += BINS
        self.counts += np.bincount(index, minlength=2 * BINS)
        zeros = x.size - int(np.count_nonzero(x))
        self.counts[BINS] -= zeros
        self.zeros += zeros

    def merge(self, other: Histogram) -> None:
        """Add what *other* has counted; the same as if its values had been counted here."""
        if not other.count:
            return
        self.min = min(self.min, other.min) if self.count else other.min
        self.max = max(self.max, other.max) if self.count else other.max
        self.count += other.count
        self.zeros += other.zeros
        self.total += other.total
        self.squares += other.squares
        if other.exponent is None:
            return
        self._cover(other.exponent)
        assert self.exponent is not None
        self.counts += _widened(other.counts, self.exponent - other.exponent)

    def _note(self, x: Array, low: float, high: float) -> None:
        """Add the float64 values *x* to all that is not bins."""
        self.min = min(self.min, low) if self.count else low
        self.max = max(self.max, high) if self.count else high
        self.count += x.size
        self.total += float(x.sum())
        # Not a dot product: the BLAS would wake its threads for each of these small arrays.
        self.squares += float(np.square(x).sum())

    def _cover(self, exponent: int) -> None:
        """Let the range hold |x| < 2**exponent."""
        exponent = max(exponent, _MIN_EXPONENT)
        if self.exponent is None:
            self.exponent = exponent
        elif exponent > self.exponent:
            self.counts = _widened(self.counts, exponent - self.exponent)
            self.exponent = exponent


def _widened(counts: Int, doublings: int) -> Int:
    """The counts over a range 2**doublings times as wide; floor(floor(v) / 2) = floor(v / 2)."""
    for _ in range(min(doublings, _LOG_BINS + 1)):  # beyond that only the two middle bins are used
        pairs = counts.reshape(-1, 2).sum(axis=1)
        counts = np.zeros_like(counts)
        counts[BINS // 2 : BINS // 2 + BINS] = pairs
    return counts


# -- thresholds ---------------------------------------------------------------------------------


def threshold(hist: Histogram, method: Threshold, qtype: QType, percentile: float = 99.99) -> float:
    """The real value that should map to ``qtype.qmax``: positive, at most max |x|.

    For an unsigned format only positive values count; negative ones become 0 whatever it is.

    Args:
        hist: of at least one value; ``ZERO_THRESHOLD`` results if none of them matters.
        method: ``max``: nothing is clipped; ``mse``: least squared error; ``kl``: least divergence
            of the quantized distribution; ``percentile``: that share of the values is kept.
        qtype: the format.
        percentile: in percent, zeros included in the count.

    Raises:
        UsageError: if *percentile* is not in (0, 100].
    """
    if not 0.0 < percentile <= 100.0:
        raise UsageError(f"--percentile {percentile:g}: expected more than 0 and at most 100")
    peak = hist.peak if qtype.signed else hist.max
    if peak <= 0.0 or hist.exponent is None:
        return ZERO_THRESHOLD
    if method == "max":
        return peak
    if method == "mse":
        return _mse_threshold(hist, qtype, peak)
    if method == "kl":
        return _kl_threshold(hist, qtype, peak)
    return _percentile_threshold(hist, qtype, percentile / 100.0, peak)


def mse(hist: Histogram, scale: float, qtype: QType) -> float:
    """Expected squared error of a value quantized with *scale* to *qtype* (zero point 0).

    Values are taken as spread evenly within their bin, and the error is integrated exactly over
    it. So it is smooth in *scale*, and right for steps finer than a bin (16 bits), where an error
    taken at bin centres would mean nothing.
    """
    if not hist.count:
        return 0.0
    least = _least_level(qtype)
    error = hist.zeros * (least * scale) ** 2
    for counts, limit in _sides(hist, qtype):
        error += _side_error(counts, hist.width, scale, least, limit)
    return error / hist.count


def _least_level(qtype: QType) -> int:
    """The smallest magnitude that the format has: 1 for {-1, +1}, else 0."""
    return int(qtype.bits == 1 and qtype.signed)


def _sides(hist: Histogram, qtype: QType) -> list[tuple[Array, int]]:
    """(counts from zero outwards, largest level) of each sign; one where both are alike."""
    positive = hist.counts[BINS:].astype(np.float64)
    negative = hist.counts[:BINS][::-1].astype(np.float64)
    if qtype.signed and qtype.qmax == -qtype.qmin:
        sides = [(_trimmed(positive + negative), qtype.qmax)]
    else:
        sides = [(_trimmed(positive), qtype.qmax), (_trimmed(negative), -qtype.qmin)]
    return [(counts, limit) for counts, limit in sides if counts.size]


def _trimmed(counts: Array) -> Array:
    """*counts* up to the last that is not zero."""
    used = np.flatnonzero(counts)
    return counts[: used[-1] + 1] if used.size else counts[:0]


def _side_error(counts: Array, width: float, scale: float, least: int, limit: int) -> float:
    """Sum of squared errors of values >= 0 that become scale * clip(round(x / scale)).

    With u = x / scale, k its level and f = u - k, the antiderivative of f**2 is k/12 + f**3/3:
    continuous where k steps (f from 1/2 to -1/2), and right beyond the last level, where f grows.
    """
    u = np.arange(counts.size + 1) * (width / scale)
    k = np.clip(np.floor(u + 0.5), least, max(least, limit))
    f = u - k
    integral = k / 12.0 + f * f * f / 3.0
    return float(counts @ np.diff(integral)) * scale**3 / width


def _mse_threshold(hist: Histogram, qtype: QType, peak: float) -> float:
    sides, least = _sides(hist, qtype), _least_level(qtype)

    def error(t: float) -> float:
        scale = t / qtype.qmax
        zeros = hist.zeros * (least * scale) ** 2
        return zeros + sum(_side_error(c, hist.width, scale, least, m) for c, m in sides)

    # The largest first: among equals nothing more is clipped than has to be.
    coarse = peak * np.exp2(-np.arange(33) / 4.0)
    return _refined(error, coarse, steps=(17, 9))


def _refined(cost: Callable[[float], float], grid: Array, steps: tuple[int, ...]) -> float:
    """The point of least *cost* on the falling *grid*, then on finer ones around it."""
    best, least = float(grid[0]), cost(float(grid[0]))
    for size in (0, *steps):
        if size:
            at = int(np.argmin(np.abs(grid - best)))
            ends = grid[max(at - 1, 0)], grid[min(at + 1, grid.size - 1)]
            grid = np.linspace(*ends, size)
        for t in grid.tolist():
            if (value := cost(t)) < least:
                best, least = t, value
    return best


def _kl_threshold(hist: Histogram, qtype: QType, peak: float) -> float:
    """Least KL(P || Q): P the magnitudes' histogram, what is clipped added to its last bin.

    Q is the histogram up to the threshold alone, the mass of every level spread evenly over the
    bins of P that fall on it: what is clipped costs the more, the more it is. Zeros are exact at
    any threshold and say nothing.

    Source: Migacz, 8-bit Inference with TensorRT, GTC 2017.
    """
    side = hist.counts[BINS:].astype(np.float64)
    if qtype.signed:
        side = side + hist.counts[:BINS][::-1]
    used = np.flatnonzero(side)
    mass, centre = side[used] / side.sum(), (used + 0.5) * hist.width
    if qtype.qmax >= used.size:
        return peak
    if side.sum() < _LEAST_PER_LEVEL * qtype.qmax:
        return _mse_threshold(hist, qtype, peak)  # too few values to make a distribution

    def divergence(t: float) -> float:
        kept = int(np.searchsorted(centre, t + hist.width / 2, "right"))
        if kept <= qtype.qmax:  # a level for every bin: nothing is left to tell them apart
            return math.inf
        p, inside = mass[:kept].copy(), float(mass[:kept].sum())
        level = np.minimum((centre[:kept] * (qtype.qmax / t) + 0.5).astype(np.int64), qtype.qmax)
        q = (np.bincount(level, p) / np.maximum(np.bincount(level), 1))[level] / inside
        p[-1] += 1.0 - inside
        return float(p @ np.log(p / q))

    coarse = peak * np.linspace(1.0, 1.0 / 64.0, 64)
    return _refined(divergence, coarse, steps=(9, 9))


def _percentile_threshold(hist: Histogram, qtype: QType, share: float, peak: float) -> float:
    """The least t such that *share* of all values is <= t in magnitude (unsigned: <= t).

    If that is zero, the few values that are not are all kept.
    """
    side = hist.counts[BINS:]
    below = hist.zeros
    if qtype.signed:
        side = side + hist.counts[:BINS][::-1]
    else:
        below += int(hist.counts[:BINS].sum())
    wanted = share * hist.count
    if wanted <= below:
        return peak
    reached = below + np.cumsum(side)
    at = int(np.searchsorted(reached, wanted))
    if at >= side.size:
        return peak
    inside = (wanted - (int(reached[at]) - int(side[at]))) / int(side[at])
    return min(peak, (at + inside) * hist.width)
