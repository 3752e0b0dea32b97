"""What the providers of the DSP extension's kernels share: rescaling forms and packed streams.

In step with runtime_c/isa/dsp/qcc_dsp_tile.h. A stream is one table of 32-bit words that a kernel
reads from its beginning to its end: per block of 4 (or 2) output channels the biases, the weights
in the order of the multiplications, and what rescaling needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from qcc.arith import Rescale
from qcc.ir import Array, Graph, Int, Node
from qcc.ops.base import CArray
from qcc.ops.kernels import CRescale

_LANES = 4
"""Channels of a word of packed weights."""

SHIFTS, UNIFORM, MULTIPLY = 0, 1, 2
"""QCC_FORM of the kernels: a shift per channel, one shift, a multiplier per channel."""


@dataclass(frozen=True, slots=True)
class Requant:
    """How a layer's accumulators become outputs.

    Attributes:
        form: QCC_FORM.
        post: QCC_POST: the one shift, or the shift that follows the multiplication, less *up*.
        bias: (channels,), the rounding half included where *form* wants it.
        entries: (channels,), shifts or multipliers; unused for one shift.
        lo, hi: clip.
        narrow: rescaled accumulators are proved to fit 16 bits before the clip.
        up: QCC_UP: bits by which accumulators are shifted up first, for factors above 1.
    """

    form: int
    post: int
    bias: Int
    entries: Int
    lo: int
    hi: int
    narrow: bool = False
    up: int = 0

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
        """Per output, up to packed bytes."""
        up, saturates = float(self.up > 0), self.lo == 0 and (self.hi + 1).bit_count() == 1
        if saturates and self.hi == 255 and (self.form == MULTIPLY or self.post > 0):
            return 1.75 + up + (1.25 if self.form == MULTIPLY else 0.0)  # USAT shifts and clips
        pack = 1.25 if saturates else 1.75 if (self.lo, self.hi) == (-128, 127) else 3.75
        fit = 0.0 if self.narrow else 1.0
        return pack + fit + up + {SHIFTS: 1.5, UNIFORM: 1.0, MULTIPLY: 2.25}[self.form]


def requant(graph: Graph, node: Node, channels: int, up: bool = False) -> Requant | str:
    """How *node* rescales, or why the DSP kernels cannot: one phrase.

    Args:
        graph: the integer graph.
        node: a conv2d or dense.
        channels: of its output.
        up: whether the kernel can shift accumulators up first.
    """
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
    if up and all(m == 1 for m in a.rescale.mult):
        shifts = np.broadcast_to(_shifts(a.rescale), channels).astype(np.int64)
        half = np.left_shift(1, np.maximum(shifts, 0)) >> 1
        least = int(shifts.min())
        narrow = bool(((reach + half << -least >> shifts - least) + 1 < 1 << 15).all())
        return Requant(SHIFTS, 0, bias + half, shifts, lo, hi, narrow, max(0, -least))
    found = _multipliers(a.rescale, channels, up)
    if found is None:
        return "its factors are too large or too far apart for one 32-bit multiplication"
    multipliers, p = found
    narrow = all(
        (r * m >> max(0, p)) + 2 < 1 << 15
        for r, m in zip(reach.tolist(), multipliers.tolist(), strict=True)
    )
    return Requant(MULTIPLY, p - 32, bias, multipliers, lo, hi, narrow and p >= 0, max(0, 33 - p))


def _reach(graph: Graph, node: Node) -> Int:
    """Per channel, a bound of the accumulator's magnitude."""
    w, x = graph.constant(node.inputs[1]).astype(np.int64), graph.quant(node.inputs[0]).qtype
    sums = np.abs(w).reshape(len(w), -1).sum(axis=1) * max(abs(x.qmin), abs(x.qmax))
    return np.asarray(sums + np.abs(graph.constant(node.inputs[2]).astype(np.int64)))


def _shifts(rescale: Rescale) -> Int:
    return np.array(rescale.collapsed().shift, np.int64)


def _multipliers(rescale: Rescale, channels: int, up: bool) -> tuple[Int, int] | None:
    """(multipliers, p): mult / 2**shift = multiplier / 2**p for one p, 33 or more unless *up*."""
    pairs = list(zip(rescale.mult, rescale.shift, strict=True))
    last = max(s for _, s in pairs)
    spare = 31 - max(m << (last - s) for m, s in pairs).bit_length()
    p = max(last, min(33, last + spare))
    if spare < 0 or p > 63 or (p < 33 and not up):
        return None
    scaled = [m << (p - s) for m, s in pairs]
    return np.broadcast_to(np.array(scaled, np.int64), channels).copy(), p


@dataclass(frozen=True, slots=True)
class Packing:
    """How weights lie in a stream, see qcc_dsp_block.h.

    Attributes:
        bits: of a weight: 16, 8, 4 or 2.
        split: only the lower two of four 4-bit fields are used in place.
    """

    bits: int
    split: bool = False

    @property
    def dense(self) -> bool:
        """Whether a half-word holds fields of four channels, each at its own scale."""
        return self.bits < 8

    @property
    def unit(self) -> int:
        """Pairs of inputs that the unit of the unrolled text takes."""
        return 2 if self.bits == 2 else 1

    @property
    def words(self) -> int:
        """Words of weights per unit and 4 channels."""
        return {16: 4, 8: 2, 4: 1, 2: 1}[self.bits]

    @property
    def lifts(self) -> tuple[int, int, int, int]:
        """Bits by which the accumulators of four channels are shifted up."""
        if not self.dense:
            return (0, 0, 0, 0)
        return (0, 4, 0, 4) if self.split else (0, self.bits, 2 * self.bits, 3 * self.bits)

    @property
    def offsets(self) -> tuple[int, int, int, int]:
        """What is added to the weights of four channels."""
        if not self.dense:
            return (0, 0, 0, 0)
        half = 1 << (self.bits - 1)
        return (half, half, half, 0 if self.bits == 4 and not self.split else half)

    @property
    def constants(self) -> dict[str, int]:
        """Macros of a kernel instance."""
        return {"bits": self.bits, **({"split": int(self.split)} if self.dense else {})}

    @property
    def text(self) -> str:
        """For people."""
        if self.dense:
            return f"weights of {self.bits} bits packed"
        return f"weights{' of 16 bits' if self.bits == 16 else ''} interleaved"

    def fields(self, weights: Int) -> Int:
        """(channels, ...) as they enter words, offsets included."""
        if not self.dense:
            return weights
        offsets = np.resize(np.array(self.offsets), len(weights))
        return (weights + offsets.reshape(-1, *[1] * (weights.ndim - 1))) & (1 << self.bits) - 1

    def unit_cost(self, load: int) -> int:
        """Instructions of a unit for 4 channels x 2 pixels; *load* of them fetch a pair."""
        return {16: load + 10, 8: load + 14, 4: load + 13 + self.split, 2: 2 * load + 26}[self.bits]

    @property
    def offset_cost(self) -> int:
        """Instructions that take the offsets off 8 accumulators."""
        return 1 + 2 * sum(o != 0 for o in self.offsets)


def packings(
    graph: Graph, node: Node, rescale: Requant, expand: bool
) -> Iterator[tuple[Packing, Requant]]:
    """How the weights of *node* may lie, each with the rescaling of the accumulators it makes.

    Args:
        graph: the integer graph.
        node: a conv2d or dense.
        rescale: of the layer.
        expand: weights may take 16 bits.
    """
    w, bound = graph.constant(node.inputs[1]), _bound(graph, node, rescale)
    for packing in (Packing(8), Packing(16)) if expand else (Packing(8),):
        lifted = _lifted(rescale, packing, bound)
        if lifted is not None:
            yield packing, lifted
    ways = [Packing(2)] if w.min() >= -2 and w.max() <= 1 else []
    if w.min() >= -8 and w.max() <= 7:
        ways += [Packing(4), Packing(4, split=True)]
    for packing in ways:
        lifted = _lifted(rescale, packing, bound)
        if lifted is not None:
            yield packing, lifted
            return


def _bound(graph: Graph, node: Node, rescale: Requant) -> Int:
    """Per channel, the largest magnitude of an accumulator with its bias and rounding half."""
    w, x = graph.constant(node.inputs[1]).astype(np.int64), graph.quant(node.inputs[0]).qtype
    rows = w.reshape(len(w), -1)
    positive, negative = np.maximum(rows, 0).sum(axis=1), np.minimum(rows, 0).sum(axis=1)
    low, high = min(x.qmin, 0), max(x.qmax, 0)  # padding is 0
    most, least = positive * high + negative * low, positive * low + negative * high
    return np.asarray(np.maximum(np.abs(rescale.bias + most), np.abs(rescale.bias + least)))


def _lifted(rescale: Requant, packing: Packing, bound: Int) -> Requant | None:
    """*rescale* for accumulators at the scales of *packing*; None where one would not fit."""
    lifts = np.resize(np.array(packing.lifts, np.int64), len(bound))
    totals = np.maximum(lifts, rescale.up)
    if not (bound << totals < 1 << 31).all():
        return None
    shifts = rescale.entries + totals
    one = rescale.form == UNIFORM and (rescale.post > 0 or not packing.dense)
    if rescale.form != MULTIPLY and not one:
        if shifts.max() > 31:
            return None
        return replace(rescale, form=SHIFTS, post=0, bias=rescale.bias << lifts, entries=shifts)
    if rescale.post + totals.max() > 31:
        return None
    return replace(rescale, bias=rescale.bias << lifts)


def pack(weights: Int, rescale: Requant, packing: Packing) -> CArray:
    """The stream of a layer.

    Args:
        weights: (channels, pairs, 2), in the order of the multiplications; fields of *packing*.
        rescale: of the accumulators that *packing* makes.
        packing: how weights lie in the stream.
    """
    blocks = list(_blocks(len(weights), least=1 if packing.dense else 3))
    words = [w for first, width in blocks for w in _block(weights, rescale, packing, first, width)]
    data = np.concatenate(words) & 0xFFFFFFFF
    return CArray("w", "uint32_t", data, "biases, weights and shifts or multipliers, interleaved")


def _blocks(channels: int, least: int) -> Iterator[tuple[int, int]]:
    """(first channel, width): fours; a rest of *least* or more is a padded four, else a pair."""
    first = 0
    while channels - first >= least:
        yield first, 4
        first += 4
    if channels > first:
        yield first, 2


def _block(weights: Int, rescale: Requant, packing: Packing, first: int, width: int) -> list[Int]:
    part = slice(first, min(first + width, len(weights)))
    real = part.stop - part.start
    rows = np.zeros((width, *weights.shape[1:]), np.int64)
    rows[:real] = weights[part]
    bias = np.zeros(width, np.int64)
    bias[:real] = rescale.bias[part]
    return [bias, weight_words(rows, packing.bits), rescale.words(part, width)]


def weight_words(rows: Int, bits: int) -> Int:
    """(width, pairs, 2) -> the words of a block of *width* channels, pair by pair."""
    return {16: _words16, 8: _words8, 4: _words4, 2: _words2}[bits](rows)


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


def _words4(rows: Int) -> Int:
    """(width, pairs, 2), fields of 4 bits -> a word per four channels and pair."""
    places = 4 * np.arange(_LANES)[:, None, None] + 16 * np.arange(2)
    fours = rows.reshape(-1, _LANES, *rows.shape[1:])  # four, lane, pair, k
    return np.asarray((fours << places).sum(axis=(1, 3)).T.reshape(-1))


def _words2(rows: Int) -> Int:
    """(width, pairs, 2), fields of 2 bits -> a word per four channels and two pairs."""
    lanes, high, k = np.ogrid[:_LANES, :2, :2]
    fours = rows.reshape(-1, _LANES, rows.shape[1] // 2, 2, 2)  # four, lane, twos, high, k
    places = (2 * lanes + 8 * high + 16 * k)[:, None]
    return np.asarray((fours << places).sum(axis=(1, 3, 4)).T.reshape(-1))


def natural_pairs(runs: Array, multiple: int = 2) -> Int:
    """(channels, runs, values) -> (channels, pairs, 2), runs padded to a *multiple* of values."""
    channels, count, length = runs.shape
    padded = np.zeros((channels, count, -(-length // multiple) * multiple), np.int64)
    padded[:, :, :length] = runs
    return padded.reshape(channels, -1, 2)


def even_odd_pairs(runs: Array) -> Int:
    """(channels, runs, values) -> (channels, pairs, 2): of every 4 values (0, 2) and (1, 3)."""
    channels, count, length = runs.shape
    padded = np.zeros((channels, count, -(-length // 4) * 4), np.int64)
    padded[:, :, :length] = runs
    fours = padded.reshape(channels, -1, 2, 2)  # group, high, odd
    return fours.transpose(0, 1, 3, 2).reshape(channels, -1, 2)
