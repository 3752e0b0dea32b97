"""equalize: channels of a tensor get like ranges, by scaling the layers on both sides of it.

ReLU, pooling and additions let a positive factor of a channel through: f(s x) = s f(x). So the
rows of the layers that write a set of tensors can be multiplied by s, one factor per channel, and
the columns of the layers that read it divided by s; the model computes the same. The set is what
such operators connect, over any number of branches; all its tensors share the factors.

With p[c] the magnitude that nearly all values of channel c of the tensors stay below, and r[c]
the largest weight that reads it, beside the largest of its row, s[c] is such that neither has to be
coarse for the other's sake: s = 1 / p where only depthwise layers read, each of whose channels has
a step of its own, else s = sqrt(r / p). With one step per layer (``--per-layer``) the rows that
write matter as much as p: the geometric mean of both takes its place, and r is beside the largest
weight of all; and it is repeated, as layers have two sides.

A clip at a limit (ReLU6) lets no factor through. A channel that stays clear of it, by a fifth, on
all calibration samples gets a factor that leaves it clear; others keep theirs.

Source: cross-layer equalization, Nagel et al. 2019 (arXiv 1906.04721), section 4.1, for pairs of
layers and one step per layer; a factor between activations and weights as in Xiao et al. 2023
(arXiv 2211.10438).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from qcc.config import Config
from qcc.functions import Var, clip_bounds
from qcc.ir import Array, Graph, Node
from qcc.ops import OPS
from qcc.passes.choose_widths import is_depthwise
from qcc.passes.fold_batchnorm import LINEAR, replace_constants

_CLEAR = 1.25
"""A channel is clear of a limit where this times its largest magnitude is below."""

_MOST = 4.0
"""No factor is larger: of 64, channels that are nearly dead drown the others in their noise (10 dB
of SQNR instead of 30 on the MLPerf Tiny person detector, 8 bits, one step per layer)."""

_ROUNDS = 10
"""Of the iteration for one step per layer."""

_THROUGH = ("max_pool2d", "avg_pool2d", "reduce_mean", "resize_nearest")
"""Operators that let factors through wherever they let channels through."""


@dataclass(slots=True)
class Connected:
    """Tensors whose channels have to share their factors.

    Attributes:
        tensors: their names; all have the same last axis.
        writers, readers: layers with weights.
        limits: of clips on the way, (tensor behind the clip, magnitude).
    """

    tensors: list[str]
    writers: list[Node] = field(default_factory=list[Node])
    readers: list[Node] = field(default_factory=list[Node])
    limits: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])


BELOW = 6
"""Activations of fewer bits are equalized by default: they lose most to channels of other sizes."""


def wanted(config: Config) -> bool:
    """Whether to equalize."""
    if config.equalize == "auto":
        return config.act_bits < BELOW and config.calibration is not None
    return config.equalize == "on"


def equalize(graph: Graph, config: Config, real: Mapping[str, Array]) -> int:
    """Equalize the float *graph*; returns the number of sets of tensors that changed.

    Tensors that change lose their origin: their values are no longer the source model's.

    Args:
        graph: the float graph.
        config: for ``per_channel``.
        real: float values (N, *shape) of every activation, for the sizes of channels.
    """
    found = list(connected(graph))
    sizes = [_Sizes.of(c, real) for c in found]
    total = [np.ones_like(size.usual) for size in sizes]
    for _ in range(1 if config.per_channel else _ROUNDS):
        for i, c in enumerate(found):
            after = total[i] * _factors(graph, c, sizes[i].times(total[i]), config.per_channel)
            after = sizes[i].allowed(np.clip(after, 1 / _MOST, _MOST))
            _scale(graph, c, after / total[i])
            total[i] = after
    return sum(bool(np.abs(np.log2(t)).max() > _SAME) for t in total)


_SAME = 1e-3
"""Factors nearer to 1 than this, in octaves, change nothing to speak of."""

_USUAL = 0.999
"""The part of a channel's values that its usual size covers: few outliers do not count."""


@dataclass(frozen=True, slots=True)
class _Sizes:
    """How large the channels of connected tensors are; arrays (channels,).

    Attributes:
        usual: of nearly all values, the largest of all the tensors.
        peaks: of all values, where a clip is: (limit, magnitudes).
    """

    usual: Array
    peaks: tuple[tuple[float, Array], ...]

    @classmethod
    def of(cls, c: Connected, real: Mapping[str, Array]) -> _Sizes:
        usual = np.max([_magnitudes(real[t], _USUAL) for t in c.tensors], axis=0)
        return cls(usual, tuple((limit, _magnitudes(real[t], 1.0)) for t, limit in c.limits))

    def times(self, factors: Array) -> _Sizes:
        """The sizes after the channels were multiplied."""
        return _Sizes(self.usual * factors, self.peaks)

    def allowed(self, factors: Array) -> Array:
        """*factors* that bring no channel near a limit, and leave alone those that are."""
        for limit, peaks in self.peaks:
            clear = peaks * _CLEAR < limit
            most = limit / np.where(peaks > 0, peaks * _CLEAR, limit / _MOST)
            factors = np.where(clear, np.minimum(factors, most), 1.0)
        return factors


def _magnitudes(x: Array, part: float) -> Array:
    """What *part* of the magnitudes of every channel does not exceed, (channels,) float64."""
    flat = np.abs(x.reshape(-1, x.shape[-1]))
    return np.asarray(np.quantile(flat, part, axis=0, method="higher"), np.float64)


# -- what is connected ----------------------------------------------------------------------------


def connected(graph: Graph) -> Iterator[Connected]:
    """All sets of tensors whose channels can be scaled."""
    seen: set[str] = set()
    for node in graph.nodes():
        if node.op in LINEAR and node.output not in seen:
            c = Connected([node.output])
            free = [_spread(graph, t, c) for t in c.tensors]  # grows while it is walked
            seen.update(c.tensors)
            if all(free) and c.readers:
                yield c


def _spread(graph: Graph, tensor: str, c: Connected) -> bool:
    """Add what is around *tensor* to *c*; whether its channels are free to be scaled."""
    producer = graph.producer(tensor)
    if producer is None or tensor in graph.outputs:
        return False
    around = [producer, *graph.consumers(tensor)]
    for node in dict.fromkeys(n.name for n in around):
        if not _visit(graph, graph.node(node), tensor, c):
            return False
    return True


def _visit(graph: Graph, node: Node, tensor: str, c: Connected) -> bool:
    """Follow *node*, a neighbour of *tensor*; whether it lets factors be."""
    if node.op in LINEAR:
        if node.output == tensor:
            c.writers.append(node)
            return _note_limit(c, node.output, node.attrs.bounds)
        c.readers.append(node)
        return not any(x == tensor for x in node.inputs[1:])
    bounds = _lets_through(graph, node)
    if bounds is None:
        return False
    if node.output == tensor and not _note_limit(c, tensor, bounds):
        return False
    c.tensors += [t for t in (*node.inputs, node.output) if t not in c.tensors]
    return True


def _note_limit(c: Connected, tensor: str, bounds: tuple[float, float]) -> bool:
    """Remember where *bounds* clip *tensor*, besides at zero."""
    limit = min(abs(b) if b else math.inf for b in bounds)
    if math.isfinite(limit):
        c.limits.append((tensor, limit))
    return bounds[0] <= 0.0 <= bounds[1]


def _lets_through(graph: Graph, node: Node) -> tuple[float, float] | None:
    """The clip of an operator that lets factors of channels through; None: it does not."""
    unbounded = -math.inf, math.inf
    shapes = [graph.shape(t) for t in (*node.inputs, node.output)]
    if any(graph.is_constant(t) for t in node.inputs) or not all(shapes):
        return None
    if len({s[-1] for s in shapes}) > 1:
        return None
    if node.op == "unary":
        return unbounded if isinstance(node.attrs.fn, Var) else clip_bounds(node.attrs.fn)
    if node.op == "pad":
        plain = node.attrs.value == 0.0 and node.attrs.pads[-1] == (0, 0)
        return unbounded if plain else None
    if node.op == "reshape":
        return unbounded
    if node.op == "add" or node.op in _THROUGH:
        passes = OPS[node.op].channel_role(graph, node) == "pass"
        return getattr(node.attrs, "bounds", unbounded) if passes else None
    return None


# -- factors --------------------------------------------------------------------------------------


def _factors(graph: Graph, c: Connected, sizes: _Sizes, per_channel: bool) -> Array:
    """The factor of every channel, (channels,); 1 where there is nothing to gain or to go by."""
    size = sizes.usual
    if not per_channel:
        rows = [np.abs(graph.constant(n.inputs[1])) for n in c.writers]
        beside = [w.reshape(len(w), -1).max(axis=1) / max(w.max(), _TINY) for w in rows]
        size = np.sqrt(size * np.max(beside, axis=0))
    narrow = [n for n in c.readers if not (per_channel and is_depthwise(graph, n))]
    factors, used = np.ones_like(size), size > 0
    if narrow:
        columns = np.max([_columns(graph, n, per_channel) for n in narrow], axis=0)
        used &= columns > 0
        factors[used] = np.sqrt(columns[used] / size[used])
    else:
        factors[used] = 1.0 / size[used]
    if not used.any():
        return factors
    # The largest channel stays as large as it was.
    factors[used] *= sizes.usual[used].max() / (factors * sizes.usual)[used].max()
    return factors


_TINY = float(np.finfo(np.float64).tiny)


def _columns(graph: Graph, node: Node, per_channel: bool) -> Array:
    """The largest magnitude of the weights that read each channel, beside that of its step."""
    w = np.abs(graph.constant(node.inputs[1]).astype(np.float64))
    flat = w.reshape(len(w), -1)
    steps = flat.max(axis=1) if per_channel else np.full(len(w), flat.max())
    beside = w / np.where(steps > 0, steps, 1.0).reshape(-1, *([1] * (w.ndim - 1)))
    groups = 1 if node.op == "dense" else node.attrs.group
    split = beside.reshape(groups, -1, w.shape[-1])  # output channels of a group are neighbours
    return np.asarray(split.max(axis=1).reshape(-1))


def _scale(graph: Graph, c: Connected, factors: Array) -> None:
    for node in c.writers:
        w, bias = graph.constant(node.inputs[1]), None
        if len(node.inputs) > 2:
            bias = graph.constant(node.inputs[2]) * factors
        rows = w * factors.reshape(-1, *([1] * (w.ndim - 1)))
        replace_constants(graph, node, rows, bias)
    for node in c.readers:
        w = graph.constant(node.inputs[1])
        groups = 1 if node.op == "dense" else node.attrs.group
        split = w.reshape(groups, len(w) // groups, -1, w.shape[-1])
        columns = split / factors.reshape(groups, 1, 1, -1)
        bias = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
        replace_constants(graph, node, columns.reshape(w.shape), bias)
    for t in c.tensors:
        graph.tensor(t).origin = None
