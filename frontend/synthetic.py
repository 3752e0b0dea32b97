"""Samples for a model that came without calibration data.

A model with batch normalization says how its own training data looked behind the first
convolution: the running mean and variance. Of some usual input distributions, images in ranges up
to [0, 255] among them, the one whose statistics there come nearest is taken. Without that, inputs
are taken to be standard normal.
Either way the ranges are a guess, and the compiler says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from qcc.frontend.float_model import FloatModel
from qcc.ir import Array, Graph, Shape

SAMPLES = 16

Maker = Callable[[np.random.Generator, Shape], Array]


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    make: Maker


def _smooth(rng: np.random.Generator, shape: Shape) -> Array:
    """Values in [0, 1], correlated along the axes as images are, with a random brightness."""
    x = rng.normal(size=shape)
    for axis in range(1, len(shape)):
        for _ in range(2):
            x = x + np.roll(x, 1, axis)
    x = (x - x.mean()) / (x.std() + 1e-9)
    return np.asarray(np.clip(0.5 + 0.25 * x + rng.normal(scale=0.1), 0.0, 1.0))


def _images(low: float, high: float) -> _Kind:
    def make(rng: np.random.Generator, shape: Shape) -> Array:
        return low + (high - low) * _smooth(rng, shape)

    return _Kind(f"synthetic images in [{low:g}, {high:g}]", make)


_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)

_FAMILIES = (
    (_Kind("a standard normal distribution", lambda rng, s: rng.normal(size=s)),),
    tuple(_images(0.0, size) for size in (*_SIZES, 255.0)),
    tuple(_images(-size, size) for size in _SIZES),
)
"""Distributions of one form, ever wider."""

_MARGIN = 0.3
"""A wider distribution of the same form is preferred if its distance is at most this much larger:
too wide a range costs resolution, too narrow a one clips. Twice the right width costs 0.8."""


def synthetic_samples(proto: onnx.ModelProto, graph: Graph) -> tuple[dict[str, Array], str]:
    """(ONNX input name -> float32 (16, *ONNX shape), how they were made)."""
    shapes = input_shapes(graph)
    stats = _first_statistics(proto)
    if stats is None:
        normal = _FAMILIES[0][0]
        return _samples(normal, shapes), f"synthetic inputs ({normal.name})"
    tensor, mean, std = stats
    model = FloatModel(proto, [tensor], shapes)

    def distance(kind: _Kind) -> float:
        return _distance(model, tensor, _samples(kind, shapes), mean, std)

    scores = [[distance(kind) for kind in family] for family in _FAMILIES]
    best = min(range(len(scores)), key=lambda i: min(scores[i]))
    limit = min(scores[best]) + _MARGIN
    kind = [k for k, v in zip(_FAMILIES[best], scores[best], strict=True) if v <= limit][-1]
    how = f"synthetic inputs ({kind.name}) chosen by batch-normalization statistics"
    return _samples(kind, shapes), how


def input_shapes(graph: Graph) -> dict[str, Shape]:
    """ONNX name -> shape in ONNX's order, for every input of *graph*."""
    shapes: dict[str, Shape] = {}
    for name in graph.inputs:
        t = graph.tensor(name)
        assert t.origin is not None
        back = np.argsort(t.origin.perm)
        shapes[t.origin.name] = tuple(t.shape[int(i)] for i in back)
    return shapes


def _samples(kind: _Kind, shapes: Mapping[str, Shape]) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        name: np.stack([kind.make(rng, s) for _ in range(SAMPLES)]).astype(np.float32)
        for name, s in shapes.items()
    }


def _first_statistics(proto: onnx.ModelProto) -> tuple[str, Array, Array] | None:
    """(tensor, mean, standard deviation) at the first batch normalization."""
    constants = {c.name: c for c in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization" and set(node.input[3:5]) <= set(constants):
            mean, var = (numpy_helper.to_array(constants[n]) for n in node.input[3:5])
            return node.input[0], mean, np.sqrt(np.maximum(var, 1e-12))
    return None


def _distance(
    model: FloatModel, tensor: str, samples: Mapping[str, Array], mean: Array, std: Array
) -> float:
    """How far the channel statistics of *tensor* are from those of training, in log likelihood."""
    seen = []
    for i in range(SAMPLES):
        x = model.run({name: v[i] for name, v in samples.items()})[tensor]
        seen.append(np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]))
    x = np.concatenate(seen)
    got_mean, got_std = x.mean(axis=0), x.std(axis=0) + 1e-9
    # Kullback-Leibler divergence of two normal distributions, averaged over the channels.
    kl = np.log(std / got_std) + (got_std**2 + (got_mean - mean) ** 2) / (2 * std**2) - 0.5
    return float(kl.mean())
