"""Histograms of every activation, from the source model run by onnxruntime.

One sample at a time: nothing but the histograms outlives a sample. A tensor that the source model
has too (``Tensor.origin``) is read from there; one that only the IR has is computed from its
inputs by the operator's own float meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from qcc.frontend.float_model import FloatModel
from qcc.histogram import Histogram
from qcc.ir import Array, Graph
from qcc.ops import OPS

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


def source_names(graph: Graph) -> list[str]:
    """ONNX names of the tensors that ``float_values`` reads from the source model."""
    names = (t.origin.name for t in graph.tensors() if t.origin and t.data is None)
    return list(dict.fromkeys(names))


def float_values(
    graph: Graph, model: FloatModel, samples: Mapping[str, Array]
) -> Iterator[dict[str, Array]]:
    """Per sample: IR tensor -> float32 (1, *shape), for every activation.

    Args:
        graph: the graph as it is now.
        model: the source model, with ``source_names(graph)`` exposed.
        samples: ONNX input name -> (N, *ONNX shape).
    """
    for i in range(len(next(iter(samples.values())))):
        fed = {name: x[i] for name, x in samples.items()}
        yield _ir_values(graph, {**model.run(fed), **fed})


def _ir_values(graph: Graph, source: Mapping[str, Array]) -> dict[str, Array]:
    values: dict[str, Array] = {}
    for t in graph.tensors():
        if t.data is not None:
            values[t.name] = t.data
        elif t.origin is not None and t.origin.name in source:
            x = source[t.origin.name].transpose(t.origin.perm)
            values[t.name] = x.reshape(1, *t.shape)
    for node in graph.nodes():
        if node.output not in values:
            values[node.output] = OPS[node.op].run_float(
                node.attrs, [values[x] for x in node.inputs]
            )
    return {name: v for name, v in values.items() if not graph.is_constant(name)}


def observe(
    graph: Graph,
    model: FloatModel,
    samples: Mapping[str, Array],
    progress: Progress | None = None,
) -> dict[str, Histogram]:
    """A histogram per activation tensor of *graph*."""
    stats: dict[str, Histogram] = {}
    total = len(next(iter(samples.values())))
    for i, values in enumerate(float_values(graph, model, samples)):
        for name, value in values.items():
            stats.setdefault(name, Histogram(name)).update(np.asarray(value, np.float32))
        if progress:
            progress(i + 1, total)
    return stats
