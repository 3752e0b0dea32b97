"""What the providers of Helium kernels share: rescaling forms and packed tables.

In step with runtime_c/isa/mve. A table is one array of 32-bit words that a kernel reads from its
beginning to its end: per block of output channels the biases, the weights, and what rescaling
needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcc.arith import Rescale
from qcc.ir import Graph, Int, Node, Shape
from qcc.ops.base import CArray
from qcc.ops.kernels import CRescale
from qcc.ops.max_pool2d import tap_counts
from qcc.ops.window import Geometry

LANES = 16
"""Bytes of a vector."""

_DOUBLING = 31
"""VQDMULH gives floor(acc * mult / 2**31)."""

_WEIGHT = 127


@dataclass(frozen=True, slots=True)
class Requant:
    """How a layer's accumulators become outputs.

    Attributes:
        form: QCC_FORM: 0 a shift per channel, 1 a multiplier and a shift.
        bias: (channels,), the rounding half included with form 0.
        mult: (channels,), below 2**31; all 1 with form 0.
        shift: (channels,), right shifts that remain, form 0: 0..31, form 1: 1..31.
        lo, hi: clip.
    """

    form: int
    bias: Int
    mult: Int
    shift: Int
    lo: int
    hi: int


def unsupported(graph: Graph, node: Node) -> str | None:
    """Why no Helium kernel takes *node*'s formats: one phrase."""
    for t in (*graph.activations(node), node.output):
        if graph.quant(t).qtype.storage_bits != 8:
            return "activations of more than 8 bits"
    return None


def flip(graph: Graph, tensor: str) -> int:
    """128 where *tensor* is unsigned: its values are read as x - 128."""
    return 0 if graph.quant(tensor).qtype.signed else 128


def layer(graph: Graph, node: Node, channels: int) -> tuple[Int, Requant] | str:
    """(weights, how accumulators become outputs) of a layer, or why the kernels cannot: one phrase.

    A factor of 1/2 or more is halved as often as it takes, and the weights and biases of its
    channel doubled as often, where they have room: the same outputs.
    """
    a = node.attrs
    weights = graph.constant(node.inputs[1]).astype(np.int64)
    bias = graph.constant(node.inputs[2]).astype(np.int64)
    up = [_doublings(m, s) for m, s in zip(a.rescale.mult, a.rescale.shift, strict=True)]
    times = _expanded([1 << n for n in up], channels)
    rescale = Rescale(
        a.rescale.mode,
        a.rescale.mult,
        tuple(s + n for s, n in zip(a.rescale.shift, up, strict=True)),
    )
    weights = weights * times.reshape(-1, *(1,) * (weights.ndim - 1))
    if np.abs(weights).max(initial=0) > _WEIGHT:
        return "factors of 1/2 or more"
    found = rescaled(rescale, a.acc_bound << max(up), bias * times, channels, a.clip)
    return found if isinstance(found, str) else (weights, found)


def _doublings(mult: int, shift: int) -> int:
    """How often mult / 2**shift has to be halved before a kernel can multiply with it."""
    if mult == 1 and shift >= 0:
        return 0
    up = 0
    while _normalized(mult, shift + up)[0] >= 1 << 31:
        up += 1
    return up


def rescaled(
    rescale: Rescale, acc_bound: int, bias: Int, channels: int, clip: tuple[int, int]
) -> Requant | str:
    """The form of *rescale* for accumulators of at most *acc_bound*, or why there is none."""
    r = CRescale(rescale, acc_bound)
    if acc_bound >= 1 << 31 or r.form == "shift64":
        return "the accumulators need 64 bits"
    values = np.broadcast_to(bias.astype(np.int64), channels)
    if r.form == "shift32":
        shift = _expanded(rescale.collapsed().shift, channels)
        mult = np.ones(channels, np.int64)
        return Requant(0, values + r.half, mult, shift, *clip)
    pairs = [_normalized(m, s) for m, s in zip(rescale.mult, rescale.shift, strict=True)]
    if any(m >= 1 << 31 for m, _ in pairs):
        return "factors of 1/2 or more"
    mult = _expanded([m for m, _ in pairs], channels)
    shift = _expanded([s for _, s in pairs], channels)
    return Requant(1, values, mult, shift, *clip)


def _normalized(mult: int, shift: int) -> tuple[int, int]:
    """(m, s) with m / 2**(31 + s) = mult / 2**shift and s >= 1; m may be too large."""
    up = max(0, _DOUBLING + 1 - shift)
    return mult << up, shift + up - _DOUBLING


def _expanded(values: tuple[int, ...] | list[int], channels: int) -> Int:
    return np.broadcast_to(np.array(values, np.int64), channels).copy()


@dataclass(frozen=True, slots=True)
class Visits:
    """How often a kernel that skips the padding goes round its loops, over all pixels."""

    pixels: int
    rows: int
    taps: int

    def cost(self, blocks: int, pixel: float, block: float, row: float, tap: float) -> int:
        """Instructions, of which all but *pixel* are spent once per block of channels."""
        inner = self.pixels * block + self.rows * row + self.taps * tap
        return round(self.pixels * pixel + blocks * inner)


def visits(x: Shape, y: Shape, kernel: tuple[int, int], a: Geometry) -> Visits:
    """Of the windows *kernel* over x, NHWC, that make y."""
    rows, columns = (
        int(tap_counts(d, kernel, a, x[1 + d], y[1 + d], (0, 0)).sum()) for d in range(2)
    )
    return Visits(y[1] * y[2], rows * y[2], rows * columns)


def blocks(values: int) -> int:
    """Vectors that hold *values* bytes."""
    return -(-values // LANES)


def pack(weights: Int, r: Requant, width: int, flipped: int) -> Int:
    """The words of a layer, or of one group of it.

    Args:
        weights: (channels, values of a window in the order of its bytes).
        r: of these channels.
        width: channels of a block; a block of fewer comes first.
        flipped: what the kernel subtracts from every input.

    Returns:
        uint32 words, per block: biases, weights [16 values][channel], multipliers (form 1), shifts.
    """
    channels, values = weights.shape
    padded = np.zeros((channels, blocks(values) * LANES), np.int64)
    padded[:, :values] = weights
    bias = r.bias + flipped * padded.sum(axis=1)
    first = channels % width
    cuts = [(0, first)] if first else []
    cuts += [(c, c + width) for c in range(first, channels, width)]
    words: list[Int] = []
    for begin, end in cuts:
        part, missing = slice(begin, end), width - (end - begin)
        rows = np.pad(padded[part], ((0, missing), (0, 0)))
        words.append(np.pad(bias[part], (0, missing)))
        words.append(words8(rows.reshape(width, -1, LANES).transpose(1, 0, 2)))
        if r.form == 1:
            words.append(np.pad(r.mult[part], (0, missing)))
        words.append(words8(np.pad(-r.shift[part], (0, missing), constant_values=-1)))
    return np.asarray(np.concatenate(words) & 0xFFFFFFFF, np.int64)


def words8(values: Int) -> Int:
    """Bytes, four a word, the first lowest."""
    b = (values.reshape(-1, 4) & 0xFF).astype(np.int64)
    return np.asarray(b[:, 0] | b[:, 1] << 8 | b[:, 2] << 16 | b[:, 3] << 24, np.int64)


def table(words: Int) -> CArray:
    """The table of a layer."""
    return CArray("k", "uint32_t", words, "biases, weights, multipliers and shifts, interleaved")
