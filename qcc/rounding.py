"""Which integers the weights of a layer become: by the error of its output, not weight by weight.

With x the layer's quantized input, y the float layer's output and v = step * q its weights, a row
of the layer errs by E (v x - y)^2 = v H v' - 2 g v' + E y^2, H = E x x', g = E y x'. So the data
matter through their second moments alone, and the best integers q are those of a quadratic problem.
It is solved in two steps, neither of which needs a gradient, a learning rate or a random number:

1. Weights are rounded one after the other, those of the largest inputs first. The error of each is
   passed on to those not rounded yet, as they can make up for it.
2. Sweeps over all weights: each becomes the integer that is best while the others stay.

A part ``DAMPING`` of the mean of H's diagonal is added to the diagonal, and pulls towards the float
weights: calibration data never show all that an input can be.

Sources: the objective with quantized inputs and float outputs, Nagel et al. 2020 ("Up or Down?
Adaptive Rounding", arXiv 2004.10568), sections 3.1 and 3.3, where it is minimized by gradient
descent on a relaxation; step 1, Frantar et al. 2022 (arXiv 2210.17323), section 3, which follows
Hassibi and Stork 1993; step 2, coordinate descent as in Behdin et al. 2023 (arXiv 2309.01885).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcc.ir import Array, Int, QType
from qcc.ops.linear import nearest

DAMPING = 0.3

_FLOAT32 = 1e-4
"""Relative error that sums of products of float32 may have, well above."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Second moments of a layer, per group of channels.

    Attributes:
        xx: E x x', float64 (groups, taps, taps).
        yx: E y x', (groups, out, taps).
        yy: E y^2, (groups, out).
        noise: below which an entry of xx may be all rounding, (groups,).
    """

    xx: Array
    yx: Array
    yy: Array
    noise: Array

    def damped(self, w: Array) -> Moments:
        """With the pull towards the weights *w* (groups, out, taps)."""
        pull = DAMPING * np.diagonal(self.xx, axis1=1, axis2=2).mean(axis=1)
        pull = np.maximum(pull, self.noise)
        pull = np.where(pull > 0.0, pull, 1.0)[:, None]  # of inputs that are always zero
        return Moments(
            self.xx + pull[:, :, None] * np.eye(self.xx.shape[1]),
            self.yx + pull[:, :, None] * w,
            self.yy + pull * (w**2).sum(axis=2),
            self.noise,
        )

    def errors(self, v: Array) -> Array:
        """E (v x - y)^2 per row of *v* (groups, out, taps)."""
        return np.asarray((v * (v @ self.xx - 2.0 * self.yx)).sum(axis=2) + self.yy)


class MomentSum:
    """Adds up moments of samples as they come.

    Args:
        centred: leave out what the means contribute, because the bias will make up for them.
    """

    def __init__(self, centred: bool) -> None:
        self._centred = centred
        self._rows = 0
        self._sums: tuple[Array, Array, Array, Array, Array] | None = None

    def add(self, x: Array, y: Array) -> None:
        """Count the rows of *x* (groups, rows, taps) and *y* (groups, rows, out), real."""
        xt = x.transpose(0, 2, 1)
        parts = (
            xt @ x,
            y.transpose(0, 2, 1) @ x,
            np.square(y).sum(axis=1, dtype=np.float64),
            x.sum(axis=1, dtype=np.float64),
            y.sum(axis=1, dtype=np.float64),
        )
        self._rows += x.shape[1]
        if self._sums is None:
            self._sums = tuple(p.astype(np.float64) for p in parts)  # type: ignore[assignment]
            return
        for total, part in zip(self._sums, parts, strict=True):
            total += part

    def moments(self) -> Moments:
        """Of all rows so far, at least one."""
        assert self._sums is not None
        xx, yx, yy, x, y = (total / self._rows for total in self._sums)
        noise = _FLOAT32 * np.diagonal(xx, axis1=1, axis2=2).mean(axis=1)
        if self._centred:
            xx = xx - x[:, :, None] * x[:, None, :]
            yx = yx - y[:, :, None] * x[:, None, :]
            yy = yy - y**2
        return Moments(xx, yx, yy, noise)


def learned(w: Array, steps: Array, qtype: QType, moments: Moments, sweeps: int) -> Int:
    """Integers (groups, out, taps) for weights at *steps*.

    Args:
        w: real weights (groups, out, taps).
        steps: of a unit of the integers, (groups, out).
        qtype: their format.
        moments: *damped*: so that every weight matters.
        sweeps: most sweeps of the second step; it ends when nothing changes.
    """
    xx = moments.xx
    best = np.linalg.solve(xx, moments.yx.transpose(0, 2, 1)).transpose(0, 2, 1)
    q = _one_by_one(best, steps, qtype, xx)
    return _descend(q, steps, qtype, moments, sweeps).astype(np.int64)


def _one_by_one(w: Array, steps: Array, qtype: QType, xx: Array) -> Array:
    """Round weight after weight, each error spread over the weights that follow.

    With U the upper factor of inverse(xx) = U' U, an error e at weight k is best made up for by
    -e * U[k, j] / U[k, k] at the weights j > k.
    """
    order = np.argsort(-np.diagonal(xx, axis1=1, axis2=2).mean(axis=0), kind="stable")
    inverse = np.linalg.inv(xx[:, order][:, :, order])
    upper = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2).transpose(0, 2, 1)
    rest, q = w[:, :, order].copy(), np.empty_like(w)
    for k, at in enumerate(order.tolist()):
        q[:, :, at] = nearest(rest[:, :, k] / steps, qtype)
        error = (rest[:, :, k] - q[:, :, at] * steps) / upper[:, k, k][:, None]
        rest[:, :, k + 1 :] -= error[:, :, None] * upper[:, None, k, k + 1 :]
    return q


def _descend(q: Array, steps: Array, qtype: QType, moments: Moments, sweeps: int) -> Array:
    """Move every weight to its best integer in turn, until none moves."""
    q, xx = q.copy(), moments.xx
    slope = (q * steps[:, :, None]) @ xx - moments.yx  # half the derivative
    for _ in range(sweeps):
        moved = False
        for k in range(q.shape[2]):
            best = q[:, :, k] - slope[:, :, k] / (xx[:, k, k][:, None] * steps)
            move = nearest(best, qtype) - q[:, :, k]
            if move.any():
                moved = True
                q[:, :, k] += move
                slope += (move * steps)[:, :, None] * xx[:, None, k, :]
        if not moved:
            break
    return q
