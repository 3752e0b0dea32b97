"""tune_weights: steps and integers of the weights, by the error of a layer's output.

What ``quantize`` chose from the weights alone is chosen again on calibration samples, layer by
layer in execution order, each seeing what the layers before it make of them:

- the step (``--weight-clip output``): the smallest at which no weight is clipped, or a smaller one,
  whichever makes the output err less. In the single-shift mode that is the neighbouring shift.
- the integers (``--rounding learned``): see ``qcc.rounding``.
- the bias takes back the mean error that is left (``correct_bias``).

"auto" means both below 8 bits, if there is calibration data of the user's. Layers of more than
``MOST_TAPS`` taps keep what they have: the work grows with the cube of the taps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from qcc import rounding
from qcc.config import Config
from qcc.errors import QccError, short
from qcc.ir import Array, Graph, Int
from qcc.ops import OPS, linear
from qcc.ops.linear import RealLayer, Steps
from qcc.passes.choose_widths import choose_widths
from qcc.passes.correct_bias import correct_layer
from qcc.passes.fold_batchnorm import LINEAR
from qcc.passes.layer_walk import Layer, walk_layers

BELOW = 8
"""Weights of fewer bits are tuned by default."""

MOST_TAPS = 4608
"""512 channels of a 3 x 3 convolution; 170 MB of second moments."""

_CHUNK = 1 << 24
"""Products that are spread out at once, float32: 64 MB."""

_WORK = 1 << 36
"""Multiplications for the moments of a layer; beyond, only every k-th place counts."""

_SMALLER = {"single-shift": (1.0, 0.5, 0.25)}
"""Parts of the whole range that are tried; other modes have factors between them."""

_SMALLER_STEPS = tuple(2.0 ** (-i / 4) for i in range(9))

Progress = Callable[[int, int], None]
"""Called with (layers done, layers in all)."""


def tuned(config: Config) -> bool:
    """Whether tuning could change anything at all; it then needs many samples."""
    bits = [config.weight_bits, *(r.weight_bits for r in config.layers if r.weight_bits)]
    return any(any(_methods(config, b)) for b in bits)


def _methods(config: Config, bits: int) -> tuple[bool, bool]:
    """For weights of *bits*: whether the steps are tuned, and whether the integers are."""
    auto = bits < BELOW and config.calibration is not None
    clip, how = config.weight_clip, config.rounding
    return clip == "output" or (clip == "auto" and auto), how == "learned" or (
        how == "auto" and auto
    )


def tune_weights(
    graph: Graph,
    config: Config,
    source: Graph,
    real: Mapping[str, Array],
    progress: Progress | None = None,
) -> int:
    """Tune the layers of the integer *graph* that *config* asks for; returns how many.

    Args:
        graph: quantized.
        config: the choices.
        source: the same graph before quantization: same node and tensor names.
        real: float values (N, *shape) of every activation of *source*.
        progress: hears of every layer.
    """
    bits = choose_widths(source, config).weights
    if not any(any(_methods(config, b)) for b in bits.values()):
        return 0
    total = sum(n.op in LINEAR for n in graph.nodes())
    changes = 0
    for done, layer in enumerate(walk_layers(graph, source, real)):
        steps, integers = _methods(config, bits[layer.node.name])
        taps = math.prod(graph.shape(layer.node.inputs[1])[1:])
        if (steps or integers) and taps <= MOST_TAPS:
            _tune(graph, config, layer, bits[layer.node.name], steps, integers)
            changes += 1
        if config.bias_correction:
            correct_layer(graph, layer)
        if progress:
            progress(done + 1, total)
    return changes


def _tune(
    graph: Graph, config: Config, layer: Layer, bits: int, steps: bool, integers: bool
) -> None:
    node = layer.node
    x, y = graph.quant(node.inputs[0]), graph.quant(node.output)
    whole = linear.real_layer(layer.source, layer.float_node, x, y, bits, config)
    groups = 1 if node.op == "dense" else node.attrs.group
    shape = (groups, len(whole.w) // groups)
    w = whole.rows.reshape(*shape, -1)
    moments = _moments(graph, layer, groups, not config.bias_correction).damped(w)

    def fit(chosen: Steps) -> Int:
        step = chosen.step.reshape(shape)
        if integers:
            return rounding.learned(w, step, whole.qtype, moments, config.rounding_sweeps)
        return linear.nearest(w / step[:, :, None], whole.qtype)

    chosen = _current(graph, layer, whole)
    if steps:
        choices = _choices(whole)
        errors = np.stack(
            [moments.errors(fit(c) * c.step.reshape(*shape, 1)).reshape(-1) for c in choices]
        )
        if not whole.per_channel:
            errors[:] = errors.sum(axis=1, keepdims=True)
        chosen = whole.settled(linear.choose(choices, errors))
    try:
        done = whole.at(chosen, fit(chosen).reshape(len(whole.w), -1))
    except OverflowError as e:
        raise QccError(f"layer {short(node.name)!r}: {e}") from e
    linear.replace_constants(graph, node, done)


def _current(graph: Graph, layer: Layer, whole: RealLayer) -> Steps:
    """The steps that the layer has."""
    scale, rescale = graph.quant(layer.node.inputs[1]).scale, layer.node.attrs.rescale
    size = len(whole.w)
    return Steps(
        *(np.broadcast_to(np.asarray(v), size) for v in (scale, rescale.mult, rescale.shift))
    )


def _choices(whole: RealLayer) -> list[Steps]:
    """Steps that come into question, the largest first."""
    parts = _SMALLER.get(whole.mode, _SMALLER_STEPS)
    if whole.qtype.bits == 1:  # the mean magnitude: it may be too small as well
        parts = (2.0, *parts)
    return [whole.steps(whole.whole_range(r)) for r in parts]


def _moments(graph: Graph, layer: Layer, groups: int, plain: bool) -> rounding.Moments:
    """Of the quantized inputs, in real units, and the float outputs.

    Args:
        graph: the integer graph.
        layer: the layer.
        groups: of its channels.
        plain: with the means, of an output less its bias; else only what varies counts.
    """
    sums = rounding.MomentSum(centred=not plain)
    bias = np.zeros(1)
    if plain and len(layer.float_node.inputs) > 2:
        bias = layer.source.constant(layer.float_node.inputs[2])
    for x, y in _rows(graph, layer):
        sums.add(x, (y - bias).reshape(len(y), groups, -1).transpose(1, 0, 2).astype(np.float32))
    return sums.moments()


def _rows(graph: Graph, layer: Layer) -> Iterator[tuple[Array, Array]]:
    """(x, y) of some samples at a time: x (groups, rows, taps), y (rows, out), float32."""
    node, quant = layer.node, graph.quant(layer.node.inputs[0])
    weights = graph.shape(node.inputs[1])
    places, taps = math.prod(graph.shape(node.output)[:-1]), math.prod(weights[1:])
    groups = 1 if node.op == "dense" else node.attrs.group
    every = _stride(len(layer.x) * places * groups * taps**2, graph.shape(node.output))
    chunk = max(1, _CHUNK // max(1, places * taps * groups))
    for start in range(0, len(layer.x), chunk):
        some = slice(start, start + chunk)
        real = ((layer.x[some] - quant.zero_point) * quant.scalar).astype(np.float32)
        x = OPS[node.op].columns(node.attrs, weights, real)
        y = layer.target(some)
        yield x[:, ::every], y.reshape(-1, y.shape[-1])[::every]


def _stride(work: int, shape: tuple[int, ...]) -> int:
    """Every which place counts, coprime to the rows' length so that all columns are seen."""
    every = -(-work // _WORK)
    while math.gcd(every, shape[-2] if len(shape) > 1 else 1) > 1:
        every += 1
    return every
