"""What the providers of the DSP extension's kernels share: rescaling forms and packed streams.

In step with runtime_c/isa/dsp/qcc_dsp_tile.h. A stream is one table of 32-bit words that a kernel
reads from its beginning to its end: per block of 4 (or 2) output channels the biases, the weights
in the order of the multiplications, and what rescaling needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qcc.arith import Rescale
from qcc.ir import Array, Graph, Int, Node
from qcc.ops.base import CArray
from qcc.ops.kernels import CRescale

SHIFTS, UNIFORM, MULTIPLY = 0, 1, 2
"""QCC_FORM of the kernels: a shift per channel, one shift, a multiplier per channel."""


@dataclass(frozen=True, slots=True)
class Requant:
    """How a layer's accumulators become outputs.

    Attributes:
        form: QCC_FORM.
        post: QCC_POST: the one shift, or the shift that follows the multiplication.
        bias: (channels,), the rounding half included where *form* wants it.
        entries: (channels,), shifts or multipliers; unused for one shift.
        lo, hi: clip.
        narrow: rescaled accumulators are proved to fit 16 bits before the clip.
    """

    form: int
    post: int
    bias: Int
    entries: Int
    lo: int
    hi: int
    narrow: bool = False

    @property
    def constants(self) -> dict[str, int]:
        """Macros of a kernel instance."""
        clip = {"lo": self.lo, "hi": self.hi}
        return {"form": self.form, "post": self.post, **clip, "narrow": int(self.narrow)}

    def words(self, channels: slice, width: int) -> Int:
        """The rescaling words of a block of *width* channels."""
        part = np.zeros(width, np.int64)
        given = self.entries[channels]
        part[: len(given)] = given
        if self.form == UNIFORM:
            return part[:0]
        if self.form == MULTIPLY:
            return part
        return np.array([sum(int(s) << (8 * i) for i, s in enumerate(part))], np.int64)

    @property
    def instructions(self) -> float:
        """Per output, clip and store included, as measured."""
        saturates = self.lo == 0 and self.hi + 1 in (2, 4, 8, 16, 32, 64, 128, 256)
        pack = 1.5 if saturates else 3.0
        fit = 0.0 if self.narrow else 1.0
        return pack + fit + {SHIFTS: 1.5, UNIFORM: 1.0, MULTIPLY: 2.3}[self.form]


def requant(graph: Graph, node: Node, channels: int) -> Requant | str:
    """How *node* rescales, or why the DSP kernels cannot: one phrase."""
    a = node.attrs
    r = CRescale(a.rescale, a.acc_bound)
    reach = _reach(graph, node)
    if r.acc != "int32_t":
        return "the accumulators need 64 bits"
    bias = graph.constant(node.inputs[2]).astype(np.int64)
    lo, hi = a.clip
    if r.form == "shift32":
        shifts = np.broadcast_to(_shifts(a.rescale), channels).astype(np.int64)
        form = UNIFORM if len(set(shifts.tolist())) == 1 else SHIFTS
        post = int(shifts[0]) if form == UNIFORM else 0
        narrow = bool((((reach + r.half) >> shifts) + 1 < 1 << 15).all())
        return Requant(form, post, bias + r.half, shifts, lo, hi, narrow)
    found = _multipliers(a.rescale, channels)
    if found is None:
        return "its factors are too large or too far apart for one 32-bit multiplication"
    multipliers, post = found
    narrow = bool((((reach * multipliers >> 32) >> post) + 2 < 1 << 15).all())
    return Requant(MULTIPLY, post, bias, multipliers, lo, hi, narrow)


def _reach(graph: Graph, node: Node) -> Int:
    """Per channel, a bound of the accumulator's magnitude."""
    w, x = graph.constant(node.inputs[1]).astype(np.int64), graph.quant(node.inputs[0]).qtype
    sums = np.abs(w).reshape(len(w), -1).sum(axis=1) * max(abs(x.qmin), abs(x.qmax))
    return np.asarray(sums + np.abs(graph.constant(node.inputs[2]).astype(np.int64)))


def _shifts(rescale: Rescale) -> Int:
    return np.array(rescale.collapsed().shift, np.int64)


def _multipliers(rescale: Rescale, channels: int) -> tuple[Int, int] | None:
    """(multipliers, p - 32) with mult / 2**shift = multiplier / 2**p for one p of 33 to 63."""
    pairs = list(zip(rescale.mult, rescale.shift, strict=True))
    for p in range(max(33, *(s for _, s in pairs)), 64):
        scaled = [m << (p - s) for m, s in pairs]
        if max(scaled) >= 1 << 31:
            return None
        return np.broadcast_to(np.array(scaled, np.int64), channels).copy(), p - 32
    return None


def pack(weights: Int, rescale: Requant, bits: int) -> CArray:
    """The stream of a layer.

    Args:
        weights: (channels, pairs, 2), in the order of the multiplications.
        rescale: of the layer.
        bits: of a weight in the stream, 8 or 16.
    """
    blocks = list(_blocks(len(weights)))
    words = [w for first, width in blocks for w in _block(weights, rescale, bits, first, width)]
    data = np.concatenate(words) & 0xFFFFFFFF
    return CArray("w", "uint32_t", data, "biases, weights and shifts or multipliers, interleaved")


def _blocks(channels: int) -> Iterator[tuple[int, int]]:
    """(first channel, width): fours; a rest of 3 is a padded four, of 1 or 2 a pair."""
    first = 0
    while channels - first >= 3:
        yield first, 4
        first += 4
    if channels > first:
        yield first, 2


def _block(weights: Int, rescale: Requant, bits: int, first: int, width: int) -> list[Int]:
    part = slice(first, min(first + width, len(weights)))
    real = part.stop - part.start
    rows = np.zeros((width, *weights.shape[1:]), np.int64)
    rows[:real] = weights[part]
    bias = np.zeros(width, np.int64)
    bias[:real] = rescale.bias[part]
    return [bias, weight_words(rows, bits), rescale.words(part, width)]


def weight_words(rows: Int, bits: int) -> Int:
    """(width, pairs, 2) -> the words of a block of *width* channels, pair by pair."""
    return _words8(rows) if bits == 8 else _words16(rows)


def _words8(rows: Int) -> Int:
    """(width, pairs, 2) -> words {c0 k0, c1 k0, c0 k1, c1 k1}, two channels a word."""
    width, pairs, _ = rows.shape
    twos = (rows & 0xFF).reshape(width // 2, 2, pairs, 2)  # two, channel, pair, k
    words = (
        twos[:, 0, :, 0] | twos[:, 1, :, 0] << 8 | twos[:, 0, :, 1] << 16 | twos[:, 1, :, 1] << 24
    )
    return words.T.reshape(-1)


def _words16(rows: Int) -> Int:
    """(width, pairs, 2) -> words {k0, k1}, one a channel."""
    halves = rows & 0xFFFF
    return (halves[:, :, 0] | halves[:, :, 1] << 16).T.reshape(-1)


def natural_pairs(runs: Array) -> Int:
    """(channels, runs, values) -> (channels, pairs, 2), each run padded to even length."""
    channels, count, length = runs.shape
    padded = np.zeros((channels, count, -(-length // 2) * 2), np.int64)
    padded[:, :, :length] = runs
    return padded.reshape(channels, -1, 2)


def even_odd_pairs(runs: Array) -> Int:
    """(channels, runs, values) -> (channels, pairs, 2): of every 4 values (0, 2) and (1, 3)."""
    channels, count, length = runs.shape
    padded = np.zeros((channels, count, -(-length // 4) * 4), np.int64)
    padded[:, :, :length] = runs
    fours = padded.reshape(channels, -1, 2, 2)  # group, high, odd
    return fours.transpose(0, 1, 3, 2).reshape(channels, -1, 2)
