"""Convolution with weights of 4 or 2 bits on ARMv6-M (qcc_armv6m_conv_packed.h).

Eight pixels share every weight, two of them every multiplication and every addition: the sums of
two pixels lie in one word. A dense layer over several vectors is a 1x1 convolution.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qcc.codegen.kernels.armv6m_common import (
    Requant,
    requant,
    unsupported,
    window_lead,
    wrapped,
)
from qcc.codegen.kernels.armv6m_conv import Layer, geometry, layer_of
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Int, Node, QType
from qcc.ops.base import Call, CArray, In, Out, Scratch
from qcc.ops.kernels import instance
from qcc.ops.window import Window

ISA = "armv6m"
OPERATORS = ("conv2d", "dense")

_NAME = "armv6m/conv-packed"
_PIXELS = 8
_MOST_VALUES = 1024
"""Of a window: scratch memory takes 16 bytes each."""

_FOLDED = 3
"""QCC_FORM: a shift, the constant added while two sums share a word."""

_PLAIN = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
"""Windows of one pixel lie side by side already."""

_LEAST, _LARGEST = -(1 << 15), (1 << 15) - 1


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """Eight pixels at a time."""
    found = _variant(graph, node)
    yield Refusal(_NAME, found) if isinstance(found, str) else found


def _variant(graph: Graph, node: Node) -> Variant | str:
    layer = layer_of(graph, node)
    if isinstance(layer, str):
        return layer
    if why := unsupported(graph, node):
        return why
    w = layer.w.reshape(len(layer.w), -1)
    bits = _bits(w)
    if bits is None:
        return "weights of more than 4 bits"
    if w.shape[1] > _MOST_VALUES:
        return f"windows of more than {_MOST_VALUES} values"
    a, x = node.attrs, graph.quant(node.inputs[0]).qtype
    r = requant(a.rescale, a.acc_bound, graph.constant(node.inputs[2]), len(w), a.clip)
    if isinstance(r, str):
        return r
    low, high = _sums(w, x)
    if low.min() < _LEAST or high.max() > _LARGEST:
        return "sums of more than 16 bits"
    folded = r.form == 0 and (low + r.k).min() >= _LEAST and (high + r.k).max() <= _LARGEST
    digits = _digits(w, bits)
    kernel = instance(
        "qcc_armv6m_conv_packed.h",
        {"bits": bits, "signed": int(x.signed), "form": _FOLDED if folded else r.form},
    )
    args = (
        In(0),
        CArray("w", "uint32_t", digits, f"[out] rows of weights, {bits} bits each, plus offset"),
        CArray("k", "int32_t", _folded(r) if folded else r.records(), "[out], see the kernel"),
        CArray("g", "int16_t", geometry(layer), "sizes, see qcc_armv6m_window.h"),
        Out(),
        Scratch(),
        r.lo,
        r.hi,
    )
    filled = digits.shape[1] * (32 // bits)
    return Variant(
        kernel=_NAME,
        why=f"eight pixels a weight of {bits} bits, two a multiply",
        calls=(Call(kernel, args),),
        instructions=_instructions(layer, r, filled, bits, folded, x.signed),
        code_bytes=_CODE + (0 if folded else 250 + 250 * r.form),
        scratch=16 * filled + (_PIXELS * len(w) if layer.y[1] * layer.y[2] % _PIXELS else 0),
        leads={0: window_lead(layer.x, layer.y, layer.window.kernel, layer.window, _PIXELS)},
    )


def _bits(w: Int) -> int | None:
    """Of the narrowest digits that hold *w*."""
    for bits in (2, 4):
        half = 1 << (bits - 1)
        if -half <= w.min(initial=0) and w.max(initial=0) < half:
            return bits
    return None


def _sums(w: Int, x: QType) -> tuple[Int, Int]:
    """Least and largest sum of products of each channel: partial sums and the border included."""
    ends = w * x.qmin, w * x.qmax
    return np.minimum(*ends).sum(axis=1), np.maximum(*ends).sum(axis=1)


def _digits(w: Int, bits: int) -> Int:
    """*w* (out, n) in words (out, ceil(n * bits / 32)); digits that fill up are 0."""
    each = 32 // bits
    d = np.pad(w + (1 << (bits - 1)), ((0, 0), (0, -w.shape[1] % each)))
    places = np.arange(0, 32, bits, dtype=np.int64)
    return np.asarray((d.reshape(len(d), -1, each) << places).sum(axis=2), np.int64)


def _folded(r: Requant) -> Int:
    """Records of form 3: the constant of two pixels at once, and the shift."""
    return np.stack([wrapped(r.k * (1 + (1 << 16))), r.shift], axis=1).ravel()


_CODE = 1300


def _instructions(
    layer: Layer, r: Requant, filled: int, bits: int, folded: bool, signed: bool
) -> int:
    """As counted in emulation; see tests/codegen/kernels/test_armv6m_conv_packed.py."""
    (_, _, _, c), (_, oh, ow, oc), (kh, kw) = layer.x, layer.y, layer.window.kernel
    groups = -(-oh * ow // _PIXELS)
    runs, run = (kh, kw * c) if layer.window.dilations[1] == 1 else (kh * kw, c)
    eights, left = divmod(run, 8)
    widen = 8 * eights + left if signed else 0
    run_cost = 39 + 21 * eights + (7 * left + 12 if left else 0) + widen
    plain = layer.window == _PLAIN and (oh, ow) == layer.x[1:3]
    pixel = (-35 if plain else 85) + runs * run_cost + 6 * (filled - runs * run)
    ready = 4 * (25 + (filled * (37 if signed else 21)) // 4)
    output = 10 if folded else 16 + (0, 1, 20)[r.form]
    channel = 24 + _PIXELS * output + 10 * filled + 3 * (filled * bits // 32)
    return 100 + groups * (100 + _PIXELS * pixel + ready + oc * channel)
