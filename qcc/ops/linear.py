"""Quantization of operators with weights: conv2d, conv_transpose2d, dense.

Not an operator. Weights have their output channel on axis 0. The float weights, bias and scales of
the activations go in; integer weights, bias, the rescale and the proved accumulator bound come
out.

Source: docs/arithmetic.md ("A shift need not cost accuracy"): in the shift modes the residue
between the wanted factor and the one a shift can make is absorbed by the weight step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qcc import arith
from qcc.arith import Rescale
from qcc.config import ScaleMode
from qcc.errors import QccError, short
from qcc.ir import INT32, INT64, Array, Graph, Int, Node, QType, Quant
from qcc.ops.base import Interval, QuantContext

_HEADROOM = 1 << 30
"""Accumulators are kept below this where a coarser weight step can do it (half of int32)."""

_LEAST_FACTOR = 2.0**-20
"""Accumulators finer than this part of an output step gain nothing: rounding each of N weights
moves the output by at most N * 255 * 2**-21 steps. It matters for channels that are nearly dead."""

_MOST_LEFT = 20
"""A factor of 2**20 saturates 16 bits with every accumulator but 0: larger ones change nothing."""


_FIXED_SHIFT = 37
"""The shift of fixed-point layers, where their factors are below 2**-6, as most are: 32 for the
upper word of a product and 5 more. Layers with one shift share kernels."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Integer weights (out, ...), bias (out,), scales (one or out), the rescale, the bound."""

    w: Int
    bias: Int
    scale: tuple[float, ...]
    rescale: Rescale
    acc_bound: int


def quantize_node(graph: Graph, node: Node, ctx: QuantContext) -> None:
    """Replace the constants of *node* (x, weights, [bias]) by integers, set rescale and bound.

    The node's attributes have the fields ``rescale``, ``clip`` and ``acc_bound``.
    """
    x, y = graph.quant(node.inputs[0]), graph.quant(node.output)
    w = graph.constant(node.inputs[1]).astype(np.float64)
    bias = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(len(w))
    try:
        done = quantize_weights(
            w,
            bias.astype(np.float64),
            x,
            y,
            QType(ctx.weight_bits),
            ctx.config.scale,
            ctx.config.per_channel,
        )
    except OverflowError as e:
        raise QccError(f"layer {short(node.name)!r}: {e}") from e
    set_constants(graph, node, done)
    node.update(
        rescale=done.rescale,
        clip=integer_clip(node.attrs.bounds, y),
        acc_bound=done.acc_bound,
    )


def set_constants(graph: Graph, node: Node, done: Weights) -> None:
    """Give *node* fresh constant tensors: other nodes may read the float ones."""
    old = node.inputs
    axis = 0 if len(done.scale) > 1 else None
    wq = Quant(QType(_width(done.w)), done.scale if axis == 0 else done.scale[0], axis=axis)
    acc = tuple(s * graph.quant(old[0]).scalar for s in done.scale)
    wide = done.acc_bound >= 1 << 31
    bq = Quant(INT64 if wide else INT32, acc if axis == 0 else acc[0], axis=axis)
    w = graph.add_constant(f"{old[1]}.q", done.w, wq)
    b = graph.add_constant(f"{old[2] if len(old) > 2 else f'{node.name}.bias'}.q", done.bias, bq)
    graph.set_inputs(node, (old[0], w, b))
    for name in old[1:]:
        graph.remove_if_unused(name)


def _width(w: Int) -> int:
    """Bits that hold symmetric weights; at least 2, so that zero exists."""
    peak = int(np.abs(w).max(initial=0))
    return max(2, peak.bit_length() + 1)


def integer_clip(bounds: tuple[float, float], y: Quant) -> tuple[int, int]:
    """The format of *y* narrowed to the real *bounds* of a fused activation."""
    q, scale = y.qtype, y.scalar
    lo, hi = (
        int(np.clip(arith.round_half_up(np.array(v / scale)), q.qmin, q.qmax))
        if math.isfinite(v)
        else (q.qmin if v < 0 else q.qmax)
        for v in bounds
    )
    return lo, hi


@dataclass(frozen=True, slots=True)
class Units:
    """What fixes the factor alpha = weight step * x_scale / y_scale of a layer.

    Attributes:
        x_scale, y_scale: scales of the activations.
        x_max: largest magnitude of the input's integers.
    """

    x_scale: float
    y_scale: float
    x_max: int

    @property
    def step(self) -> float:
        """The weight step at which alpha is 1."""
        return self.y_scale / self.x_scale


def quantize_weights(
    w: Array, bias: Array, x: Quant, y: Quant, qtype: QType, mode: ScaleMode, per_channel: bool
) -> Weights:
    """Integers for real weights *w* (out, ...) and *bias* (out,).

    Raises:
        OverflowError: when no step keeps the accumulator within 64 bits.
    """
    rows = w.reshape(len(w), -1)
    units = Units(x.scalar, y.scalar, max(abs(x.qtype.qmin), abs(x.qtype.qmax)))
    least = _least_steps(rows, bias, units, qtype)
    if not per_channel:
        least = least.max(keepdims=True)
    chosen = [_choose_step(float(v), units.step, mode) for v in least]
    if mode == "fixed-point":
        chosen = _one_shift(chosen, units.step)
    step = np.array([c[0] for c in chosen])
    wi = np.clip(arith.round_half_up(rows / step[:, None]), qtype.qmin, qtype.qmax)
    bi = arith.round_half_up(bias / (step * units.x_scale)) - x.zero_point * wi.sum(axis=1)
    rescale = Rescale(mode, tuple(c[1] for c in chosen), tuple(c[2] for c in chosen))
    bound = int((np.abs(wi).sum(axis=1) * units.x_max + np.abs(bi)).max(initial=0))
    if rescale.max_product(bound) >= 1 << 63:
        raise OverflowError(f"its accumulator (up to {bound:.3g}) does not fit 64 bits")
    return Weights(wi.reshape(w.shape), bi, tuple(step.tolist()), rescale, bound)


def _least_steps(rows: Array, bias: Array, units: Units, qtype: QType) -> Array:
    """Per output channel, the smallest step at which weights and accumulator fit.

    A channel whose bias is large beside its weights would need a wide accumulator for nothing:
    its step grows until bias and sums stay below half of int32.
    """
    reach = 2 * np.abs(rows).sum(axis=1) * units.x_max + np.abs(bias) / units.x_scale
    least = np.maximum(np.abs(rows).max(axis=1, initial=0.0) / qtype.qmax, reach / _HEADROOM)
    return np.asarray(np.maximum(least, units.step * _LEAST_FACTOR))


def _choose_step(least: float, unit: float, mode: ScaleMode) -> tuple[float, int, int]:
    """(weight step, mult, shift): the smallest step >= *least* whose factor *mode* can make.

    In the shift modes the step absorbs the residue, so mult / 2**shift is step / unit exactly.
    """
    if least / unit > 1 << _MOST_LEFT:
        return least, 1, -_MOST_LEFT
    if mode == "fixed-point":
        return least, *arith.fixed_point(least / unit)
    if mode == "double-shift":
        mult, shift = arith.double_shift_at_least(least / unit)
    else:
        mult, shift = 1, math.floor(-math.log2(least / unit) + 1e-12)
    return unit * math.ldexp(mult, -shift), mult, shift


def _one_shift(chosen: list[tuple[float, int, int]], unit: float) -> list[tuple[float, int, int]]:
    """Fixed-point choices of all channels with one shift: kernels then need only a multiplier.

    A channel with a smaller factor has a shorter multiplier, rounded up; its weight step absorbs
    what that changes, as in the shift modes, so nothing is lost but a part in 2**bits of range.
    """
    shifts = [shift for _, _, shift in chosen]
    if min(shifts) < 1:
        return chosen
    one = min([*shifts, _FIXED_SHIFT])
    mults = [-(-mult // (1 << (shift - one))) for _, mult, shift in chosen]
    return [(unit * math.ldexp(m, -one), m, one) for m in mults]


def acc_interval(w: Int, bias: Int, x: Interval, channels_of: Int) -> tuple[Int, Int]:
    """Bounds (lo, hi), each (out,), of bias + sum w * x.

    Args:
        w: (out, taps), each column one product.
        bias: (out,).
        x: bounds of the input per channel.
        channels_of: (out, taps) or (taps,), the input channel of each column.
    """
    lo, hi = x.lo[channels_of], x.hi[channels_of]
    positive, negative = np.maximum(w, 0), np.minimum(w, 0)
    low = bias + (positive * lo + negative * hi).sum(axis=-1)
    high = bias + (positive * hi + negative * lo).sum(axis=-1)
    return low, high


def output_interval(node: Node, acc: tuple[Int, Int]) -> Interval:
    """The bounds after rescale and clip: both are monotonic."""
    lo, hi = (arith.saturate(node.attrs.rescale.apply(v), *node.attrs.clip) for v in acc)
    return Interval(lo, hi)


def grouped_interval(graph: Graph, node: Node, x: Interval) -> Interval:
    """The bounds of a convolution's output, where every tap reads a value within *x*.

    Args:
        graph: the integer graph.
        node: weights (out, height, width, in / group), ``attrs.group``.
        x: per input channel, the zeros of the border included.
    """
    w = graph.constant(node.inputs[1]).astype(np.int64)
    out, taps, per_group = len(w), w.shape[1] * w.shape[2], w.shape[3]
    group = np.arange(out) // (out // node.attrs.group)
    channels = group[:, None] * per_group + np.tile(np.arange(per_group), taps)[None, :]
    acc = acc_interval(w.reshape(out, -1), graph.constant(node.inputs[2]), x, channels)
    return output_interval(node, acc)


# -- constant-channel elimination -----------------------------------------------------------------


def select_outputs(graph: Graph, node: Node, keep: Int) -> None:
    """Keep only the output channels *keep* of a quantized layer."""
    w, b = graph.tensor(node.inputs[1]), graph.tensor(node.inputs[2])
    assert w.data is not None
    assert b.data is not None
    _replace(graph, node, w.data[keep], b.data[keep], keep)
    node.update(rescale=node.attrs.rescale.select(keep))


def drop_inputs(graph: Graph, node: Node, keep: Int, values: Int) -> None:
    """Keep only the input channels *keep* (last axis of the weights) of a quantized layer.

    What the constant channels contributed, sum w * value, moves into the bias: the accumulators
    are the same to the bit, provided that no border tap replaces a nonzero value by zero.
    """
    w, b = graph.constant(node.inputs[1]), graph.constant(node.inputs[2])
    constant = (w.astype(np.int64) * values).reshape(len(w), -1).sum(axis=1)
    _replace(graph, node, w[..., keep], b + constant, None)


def _replace(graph: Graph, node: Node, w: Int, b: Int, keep: Int | None) -> None:
    """New integer constants; *keep* selects the entries of per-channel scales."""
    old = node.inputs
    names = []
    for name, data in zip(old[1:], (w, b), strict=True):
        quant = graph.quant(name)
        if keep is not None and isinstance(quant.scale, tuple):
            scale = tuple(quant.scale[i] for i in keep.tolist())
            quant = Quant(quant.qtype, scale, quant.zero_point, quant.axis)
        names.append(graph.add_constant(name, np.ascontiguousarray(data), quant))
    graph.set_inputs(node, [old[0], *names])
    for name in old[1:]:
        graph.remove_if_unused(name)
