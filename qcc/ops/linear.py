"""Quantization of operators with weights: conv2d, conv_transpose2d, dense.

Not an operator. Weights have their output channel on axis 0. The float weights, bias and scales of
the activations go in; integer weights, bias, the rescale and the proved accumulator bound come
out.

Source: docs/arithmetic.md ("A shift need not cost accuracy"): in the shift modes the residue
between the wanted factor and the one a shift can make is absorbed by the weight step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcc import arith
from qcc.arith import Rescale
from qcc.config import Config, ScaleMode, WeightClip
from qcc.errors import QccError, short
from qcc.histogram import Histogram, threshold
from qcc.ir import INT32, INT64, Array, Graph, Int, Node, QType, Quant
from qcc.ops.base import Interval, QuantContext

_HEADROOM = 1 << 30
"""Accumulators are kept below this where a coarser weight step can do it (half of int32)."""

_LEAST_FACTOR = 2.0**-20
"""Accumulators finer than this part of an output step gain nothing: rounding each of N weights
moves the output by at most N * 255 * 2**-21 steps. It matters for channels that are nearly dead."""

_MOST_LEFT = 20
"""A factor of 2**20 saturates 16 bits with every accumulator but 0: larger ones change nothing."""


_LEAST_MULT_BITS, _MOST_MULT_BITS = 6, 16
"""Bits of a fixed-point multiplier whose product with the accumulator fits 32 bits."""

_FIXED_SHIFT = 37
"""The shift of fixed-point layers with wide products, where their factors are below 2**-6: 32 for
the upper word of a product and 5 more. Layers with one shift share kernels."""


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
    y = graph.quant(node.output)
    layer = real_layer(graph, node, graph.quant(node.inputs[0]), y, ctx.weight_bits, ctx.config)
    try:
        done = layer.quantized(weight_clip(ctx.config, ctx.weight_bits))
    except OverflowError as e:
        raise QccError(f"layer {short(node.name)!r}: {e}") from e
    set_constants(graph, node, done)
    node.update(
        rescale=done.rescale,
        clip=integer_clip(node.attrs.bounds, y),
        acc_bound=done.acc_bound,
    )


def real_layer(
    graph: Graph, node: Node, x: Quant, y: Quant, bits: int, config: Config
) -> RealLayer:
    """The float constants of *node* in *graph*, between activations of formats *x* and *y*."""
    w = graph.constant(node.inputs[1]).astype(np.float64)
    bias = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(len(w))
    per_channel = config.per_channel
    return RealLayer(w, bias.astype(np.float64), x, y, QType(bits), config.scale, per_channel)


LOW_BITS = 6
"""Weights of fewer bits lose so much that narrower ranges pay, by whatever measure there is."""


def weight_clip(config: Config, bits: int) -> WeightClip:
    """How ``quantize_node`` narrows ranges of *bits* bits: "auto" resolved.

    "output" needs data that it does not have: the range is not narrowed, tune-weights does it.
    """
    if config.weight_clip == "auto":
        low = bits < LOW_BITS and config.calibration is None
        return "mse" if low else "none"
    return "none" if config.weight_clip == "output" else config.weight_clip


def set_constants(graph: Graph, node: Node, done: Weights) -> None:
    """Give *node* fresh constant tensors: other nodes may read the float ones."""
    old = node.inputs
    wq, bq = _formats(graph, node, done)
    w = graph.add_constant(f"{old[1]}.q", done.w, wq)
    b = graph.add_constant(f"{old[2] if len(old) > 2 else f'{node.name}.bias'}.q", done.bias, bq)
    graph.set_inputs(node, (old[0], w, b))
    for name in old[1:]:
        graph.remove_if_unused(name)


def replace_constants(graph: Graph, node: Node, done: Weights) -> None:
    """Give the quantized layer *node* other integers, in the tensors that are its own."""
    formats = _formats(graph, node, done)
    for name, data, quant in zip(node.inputs[1:], (done.w, done.bias), formats, strict=True):
        tensor = graph.tensor(name)
        tensor.data, tensor.quant = data, quant
    node.update(rescale=done.rescale, acc_bound=done.acc_bound)


def _formats(graph: Graph, node: Node, done: Weights) -> tuple[Quant, Quant]:
    """Of the weights and the bias."""
    axis = 0 if len(done.scale) > 1 else None
    wq = Quant(QType(_width(done.w)), done.scale if axis == 0 else done.scale[0], axis=axis)
    acc = tuple(s * graph.quant(node.inputs[0]).scalar for s in done.scale)
    wide = done.acc_bound >= 1 << 31
    return wq, Quant(INT64 if wide else INT32, acc if axis == 0 else acc[0], axis=axis)


def _width(w: Int) -> int:
    """Bits that hold symmetric weights: 1 where all are -1 or 1, else 2 or more; zero exists."""
    magnitudes = np.abs(w)
    if w.size and magnitudes.min() == 1 == magnitudes.max():
        return 1
    return max(2, int(magnitudes.max(initial=0)).bit_length() + 1)


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


@dataclass(frozen=True, slots=True)
class RealLayer:
    """A layer with weights before quantization.

    Attributes:
        w: real weights (out, ...).
        bias: real, (out,).
        x, y: formats of the input and the output.
        qtype: format of the weights.
        mode, per_channel: how the layer is rescaled, and how many weight steps it has.
    """

    w: Array
    bias: Array
    x: Quant
    y: Quant
    qtype: QType
    mode: ScaleMode
    per_channel: bool

    @property
    def rows(self) -> Array:
        """The weights (out, taps)."""
        return self.w.reshape(len(self.w), -1)

    @property
    def units(self) -> Units:
        """Of the factor of the rescale."""
        q = self.x.qtype
        return Units(self.x.scalar, self.y.scalar, max(abs(q.qmin), abs(q.qmax)))

    def quantized(self, clip: WeightClip = "none") -> Weights:
        """Integers to the nearest, at the smallest steps that *clip* and the mode allow.

        Raises:
            OverflowError: when no step keeps the accumulator within 64 bits.
        """
        if clip == "mse":
            choices = [self.steps(self.whole_range(r)) for r in _NARROWER]
            errors = np.array([self._squared_errors(c.step) for c in choices])
            if not self.per_channel:
                errors[:] = errors.sum(axis=1, keepdims=True)
            steps = self.settled(choose(choices, errors))
        else:
            reach = self._divergence_range() if clip == "kl" else self.whole_range()
            steps = self.settled(self.steps(reach))
        return self.at(steps, nearest(self.rows / steps.step[:, None], self.qtype))

    def whole_range(self, ratio: float = 1.0) -> Array:
        """Per output channel, the real value (out,) of the largest integer, times *ratio*.

        At ratio 1 nothing is clipped. Of one bit it is the mean magnitude, the best value of all.

        Source of the latter: Rastegari et al. 2016 (arXiv 1603.05279), section 3.1.
        """
        magnitudes = np.abs(self.rows)
        if self.qtype.bits == 1:
            return np.asarray(magnitudes.mean(axis=1) * _NEAREST[self.mode] * ratio)
        return np.asarray(magnitudes.max(axis=1, initial=0.0) * ratio)

    def _divergence_range(self) -> Array:
        """As ``whole_range``, by the least divergence of the histogram of a channel, or all."""
        whole = self.whole_range()
        if self.qtype.bits == 1:
            return whole
        for i, row in enumerate(self.rows if self.per_channel else [self.rows.reshape(-1)]):
            hist = Histogram("weights")
            hist.update(row)
            limit = threshold(hist, "kl", self.qtype)
            if hist.peak > 0.0:
                whole[i if self.per_channel else slice(None)] = limit
        return whole

    def _squared_errors(self, steps: Array) -> Array:
        """Per channel (out,), of rounding the weights at *steps*."""
        v = self.rows / steps[:, None]
        return np.asarray((((nearest(v, self.qtype) - v) * steps[:, None]) ** 2).sum(axis=1))

    def steps(self, reach: Array) -> Steps:
        """The smallest steps at which *reach* and the accumulator fit and *mode* has a factor."""
        units = self.units
        least = _least_steps(self.rows, self.bias, units, np.asarray(reach) / self.qtype.qmax)
        if not self.per_channel:
            least = np.full_like(least, least.max())
        chosen = [_choose_step(float(v), units.step, self.mode) for v in least]
        return Steps(*(np.array(v) for v in zip(*chosen, strict=True)))

    def at(self, steps: Steps, wi: Int) -> Weights:
        """The layer with the integer weights *wi* (out, taps).

        Raises:
            OverflowError: when the accumulator does not fit 64 bits.
        """
        units, count = self.units, len(wi) if self.per_channel else 1
        real = steps.step
        bi = arith.round_half_up(self.bias / (real * units.x_scale))
        bi = bi - self.x.zero_point * wi.sum(axis=1)
        mult, shift = (tuple(v[:count].tolist()) for v in (steps.mult, steps.shift))
        rescale = Rescale(self.mode, mult, shift)
        bound = int((np.abs(wi).sum(axis=1) * units.x_max + np.abs(bi)).max(initial=0))
        if rescale.max_product(bound) >= 1 << 63:
            raise OverflowError(f"its accumulator (up to {bound:.3g}) does not fit 64 bits")
        return Weights(wi.reshape(self.w.shape), bi, tuple(real[:count].tolist()), rescale, bound)

    def settled(self, steps: Steps) -> Steps:
        """*steps* as the layer can have them: fixed-point layers take short multipliers."""
        if self.mode != "fixed-point":
            return steps
        chosen = list(
            zip(*(v.tolist() for v in (steps.step, steps.mult, steps.shift)), strict=True)
        )
        bits = 30 - self._reach(steps.step).bit_length()
        if bits >= _LEAST_MULT_BITS and min(shift for _, _, shift in chosen) > 0:
            settled = [_short_multiplier(c, bits, self.units.step) for c in chosen]
        else:
            settled = _one_shift(chosen, self.units.step)
        return Steps(*(np.array(v) for v in zip(*settled, strict=True)))

    def _reach(self, step: Array) -> int:
        """A bound of every accumulator with weights rounded at *step*, or at larger ones."""
        sums = (np.abs(self.rows) / step[:, None] + 0.5).sum(axis=1)
        bias = np.abs(self.bias) / (step * self.units.x_scale) + 1
        most = self.units.x_max + abs(self.x.zero_point)  # the zero point's share is in the bias
        return int((sums * most + bias).max(initial=0)) + 1


@dataclass(frozen=True, slots=True)
class Steps:
    """Weight steps of a layer and the factors that they make; arrays (out,).

    Attributes:
        step: real.
        mult, shift: the factor, mult / 2**shift.
    """

    step: Array
    mult: Int
    shift: Int


def choose(choices: Sequence[Steps], errors: Array) -> Steps:
    """Per channel the choice with the least of *errors* (choices, out); the first of equals."""
    best, at = errors.argmin(axis=0), np.arange(errors.shape[1])
    return Steps(
        *(
            np.stack([getattr(c, name) for c in choices])[best, at]
            for name in ("step", "mult", "shift")
        )
    )


def nearest(v: Array, qtype: QType) -> Int:
    """The integers of *qtype* nearest to real *v*: for one bit, -1 or 1."""
    if qtype.bits == 1:
        return np.where(v >= 0, 1, -1).astype(np.int64)
    return np.clip(arith.round_half_up(v), qtype.qmin, qtype.qmax)


_NARROWER = tuple(2.0 ** (-i / 8) for i in range(17))
"""Parts of the whole range that ``mse`` tries."""

_NEAREST: dict[ScaleMode, float] = {
    "single-shift": 2.0**-0.5,
    "double-shift": 2.0**-0.25,
    "fixed-point": 1.0,
}
"""Makes of the next factor above, which a mode takes, the nearest: half a distance less."""


def quantize_weights(
    w: Array, bias: Array, x: Quant, y: Quant, qtype: QType, mode: ScaleMode, per_channel: bool
) -> Weights:
    """Integers to the nearest for real weights *w* (out, ...) and *bias* (out,).

    Raises:
        OverflowError: when no step keeps the accumulator within 64 bits.
    """
    return RealLayer(w, bias, x, y, qtype, mode, per_channel).quantized()


def _least_steps(rows: Array, bias: Array, units: Units, wanted: Array) -> Array:
    """Per output channel, the smallest step from *wanted* on at which the accumulator fits.

    A channel whose bias is large beside its weights would need a wide accumulator for nothing:
    its step grows until bias and sums stay below half of int32.
    """
    reach = 2 * np.abs(rows).sum(axis=1) * units.x_max + np.abs(bias) / units.x_scale
    least = np.maximum(wanted, reach / _HEADROOM)
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


def _short_multiplier(
    chosen: tuple[float, int, int], bits: int, unit: float
) -> tuple[float, int, int]:
    """The choice with a multiplier of at most *bits* bits, rounded up, and a shift of at most 31.

    The product with the accumulator then fits 32 bits, which every core has; the weight step
    absorbs what the rounding changes, as in the shift modes: it costs a part in 2**bits of range.
    """
    _, mult, shift = chosen
    keep = max(1, min(bits, _MOST_MULT_BITS, 31 - (shift - mult.bit_length())))
    drop = max(0, mult.bit_length() - keep)
    mult, shift = -(-mult >> drop), shift - drop
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
