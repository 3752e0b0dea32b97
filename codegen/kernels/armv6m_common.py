"""What the providers of ARMv6-M kernels share: rescaling records, split weights, leads.

In step with runtime_c/isa/armv6m/qcc_armv6m.h. The kernels multiply unsigned bytes: weights are
stored as u = w + z, and what of a weight does not fit is kept apart, as q = w + z - u.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcc.arith import Rescale
from qcc.ir import Array, Graph, Int, Node, Shape
from qcc.ops.base import CArray
from qcc.ops.kernels import CRescale
from qcc.ops.window import Geometry

FLIP = 128
"""What is added to signed inputs, by inverting their highest bit."""

_HIGH_EXCESS = 1 << 14
"""What qcc_armv6m_high adds; the rounding constant takes it off."""

MAX_Z = 128
_MAX_REST = 32767


@dataclass(frozen=True, slots=True)
class Requant:
    """Rescaling as qcc_armv6m_rescale does it.

    Attributes:
        form: QCC_FORM, 0 to 2.
        k: (channels,), the constant that is added before the shift (form 1: after the multiplier).
        shift: (channels,), 0 to 31.
        mult: (channels,), below 2**31; all 1 with form 0.
        lo, hi: clip.
    """

    form: int
    k: Int
    shift: Int
    mult: Int
    lo: int
    hi: int

    def add(self, constant: Int) -> Requant:
        """The same for sums that *constant* (channels,) is still to be added to."""
        factor = self.mult if self.form == 1 else 1
        k = self.k + constant * factor
        return Requant(self.form, k, self.shift, self.mult, self.lo, self.hi)

    def records(self, meta: Int | int = 0) -> Int:
        """The words of all channels, one after the other; *meta* is added to the shifts."""
        parts = [wrapped(self.k), self.shift + meta]
        if self.form:
            parts.append(self.mult)
        if self.form == 2:
            parts.append(((1 << self.shift) >> 1) - _HIGH_EXCESS)
        return np.stack(parts, axis=1).ravel()


def wrapped(values: Int) -> Int:
    """Modulo 2**32, as int32 has it: the kernels add modulo 2**32."""
    return np.asarray((values + (1 << 31)) % (1 << 32) - (1 << 31), np.int64)


def unsupported(graph: Graph, node: Node) -> str | None:
    """Why no ARMv6-M kernel takes *node*'s formats: one phrase."""
    for t in (*graph.activations(node), node.output):
        if graph.quant(t).qtype.storage_bits != 8:
            return "activations of more than 8 bits"
    return None


def flip(graph: Graph, tensor: str) -> int:
    """QCC_FLIP: 128 where *tensor* is signed."""
    return FLIP if graph.quant(tensor).qtype.signed else 0


def largest(graph: Graph, tensor: str) -> int:
    """The largest value that a kernel sees of *tensor*, as an unsigned byte."""
    q = graph.quant(tensor).qtype
    return q.qmax + (FLIP if q.signed else 0)


def requant(
    rescale: Rescale, acc_bound: int, bias: Array | int, channels: int, clip: tuple[int, int]
) -> Requant | str:
    """How *channels* accumulators of at most *acc_bound* are rescaled, or why they cannot be."""
    r = CRescale(rescale, acc_bound)
    b = np.broadcast_to(np.asarray(bias, np.int64), channels)
    if r.acc != "int32_t":
        return "the accumulators need 64 bits"
    shifts, mults = np.array(rescale.shift, np.int64), np.array(rescale.mult, np.int64)
    left = np.maximum(-shifts, 0)
    shift, mult = (_spread(v, channels) for v in (np.maximum(shifts, 0), mults << left))
    half = (1 << shift) >> 1
    if r.form == "shift32":
        return Requant(0, b + half, shift, mult, *clip)
    if r.form == "mult32":
        return Requant(1, b * mult + half, shift, mult, *clip)
    if acc_bound >= 1 << 30:
        return "accumulators of more than 30 bits with a multiplier"
    up = np.maximum(0, 33 - shift)
    mult, shift = mult << up, shift + up - 32
    if mult.max() >= 1 << 31:
        return "factors of 1/2 or more"
    return Requant(2, b.copy(), shift, mult, *clip)


def _spread(values: Int, channels: int) -> Int:
    return np.broadcast_to(values, channels).astype(np.int64)


# -- weights --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Split:
    """Weights as unsigned bytes and what is left: w = u - z + q.

    Attributes:
        u: (channels, n), n even: a column of no effect is added where the weights have odd n.
        z: (channels,), 0 to 128.
        q: (channels, n), mostly zero, -127 to 127.
    """

    u: Int
    z: Int
    q: Int

    @property
    def rest(self) -> int:
        """How many q there are."""
        return int(np.count_nonzero(self.q))


def split(
    w: Int, joined: bool, limit: int, apart: int = 1, choice: Sequence[int] = range(MAX_Z + 1)
) -> Split:
    """*w* (channels, n) as the kernels multiply it, with as few q as the best z has.

    Args:
        w: -127 to 127.
        joined: the u of two values that a kernel joins are at most *limit* together.
        limit: at least 254.
        apart: values k and k + apart are joined, where k // apart is even.
        choice: of z, each 0 to 128; MAX_Z is among them.
    """
    w = np.pad(w.astype(np.int64), ((0, 0), (0, -w.shape[1] % (2 * apart))))
    if not joined:
        return Split(w + MAX_Z, np.full(len(w), MAX_Z, np.int64), np.zeros_like(w))
    best_count = np.full(len(w), w.shape[1] + 1)
    best_u, best_z = np.zeros_like(w), np.zeros(len(w), np.int64)
    for z in choice:
        u = _fitted(w + z, limit, apart)
        count = np.count_nonzero(u != w + z, axis=1)
        better = count < best_count
        best_count = np.where(better, count, best_count)
        best_u = np.where(better[:, None], u, best_u)
        best_z = np.where(better, z, best_z)
    return Split(best_u, best_z, w + best_z[:, None] - best_u)


def _fitted(u: Int, limit: int, apart: int) -> Int:
    """*u* cut to what may be stored: not negative, and pairs of at most *limit* together.

    The larger one gives way, as far as a signed byte can say how much; then the other one.
    """
    v = np.maximum(u, 0).reshape(len(u), -1, 2, apart)
    excess = np.maximum(v.sum(axis=2) - limit, 0)  # channels, pairs, apart
    most = np.minimum(excess, 127)
    larger = v[:, :, 0] >= v[:, :, 1]
    first = v[:, :, 0] - np.where(larger, most, excess - most)
    second = v[:, :, 1] - np.where(larger, excess - most, most)
    return np.stack([first, second], axis=2).reshape(u.shape)


def rest_table(q: Int, max_skip: int, last: int = 0) -> tuple[Int, Int] | str:
    """(entries of each channel, the bytes of all of them), or why they cannot be stored.

    Two bytes an entry: how many values it lies behind the one before it, and q. Gaps that are too
    long are bridged by entries of no effect.

    Args:
        q: (channels, n).
        max_skip: the longest gap.
        last: is added to the skip of a channel's last entry.
    """
    counts: list[int] = []
    out: list[int] = []
    for row in q:
        begin, at = len(out), 0
        for k in np.flatnonzero(row).tolist():
            while k - at > max_skip:
                out += [max_skip, 0]
                at += max_skip
            out += [k - at, int(row[k]) & 0xFF]
            at = k
        counts.append((len(out) - begin) // 2)
        if counts[-1]:
            out[-2] += last
    if max(counts) > _MAX_REST:
        return "too many large weights"
    return np.array(counts, np.int64), np.array(out or [0], np.int64)


def rest_array(data: Int) -> CArray:
    """The table of weights that do not fit the others' bytes."""
    return CArray("far", "uint8_t", data, "what large weights exceed their bytes by: skip, value")


# -- memory ---------------------------------------------------------------------------------------


def window_lead(x: Shape, y: Shape, kernel: Sequence[int], a: Geometry, pixels: int = 2) -> int:
    """The lead of a kernel that reads *pixels* windows in full before it writes their outputs.

    Args:
        x: shape of the input, (1, height, width, channels), bytes.
        y: shape of the output, the same way.
        kernel: rows and columns of the window.
        a: how it moves.
        pixels: of the output, at a time.
    """
    (_, h, w, c), (_, oh, ow, oc) = x, y
    rows = _first_inside(oh, h, kernel[0], a.strides[0], a.pads[0], a.dilations[0])
    columns = _first_inside(ow, w, kernel[1], a.strides[1], a.pads[1], a.dilations[1])
    starts = (rows[:, None] * w + columns[None, :]).ravel() * c
    needed = np.minimum.accumulate(starts[::-1])[::-1]
    steps = np.arange(pixels, oh * ow, pixels)
    return max(0, int((steps * oc - needed[steps]).max(initial=0)))


def leads_of(lead: int, y: Shape) -> dict[int, int]:
    """``Variant.leads`` for a *lead* of input 0: none where nothing of the output *y* is spared."""
    return {0: lead} if lead < math.prod(y) else {}


def _first_inside(count: int, size: int, taps: int, stride: int, pad: int, dilation: int) -> Int:
    """(count,) first index of the input that each window reads along one axis, else *size*."""
    at = np.arange(count)[:, None] * stride - pad + np.arange(taps)[None, :] * dilation
    return np.asarray(np.where((at >= 0) & (at < size), at, size).min(axis=1), np.int64)
