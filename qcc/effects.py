"""How far a network's outputs are from the float network's, summed up over samples.

Sums of pieces can be added, so samples may be taken a few at a time and in several processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcc.ir import Array, Graph
from qcc.reference import to_onnx

_DIGITS = 4
"""Of decibels and shares in JSON: beyond, the order of a floating-point sum shows."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Outputs of one variant of a network, beside the float network's on the same samples.

    Attributes:
        samples: how many.
        power, noise: sums over all outputs of the squares of the float values, and of differences.
        agree: samples whose largest value is where the float network has it (first output).
        correct: samples whose largest value is at the label; None without labels.
        classes: values of the first output; with fewer than two, *agree* says nothing.
    """

    samples: int
    power: float
    noise: float
    agree: int
    correct: int | None
    classes: int

    @property
    def sqnr_db(self) -> float:
        """Signal to noise over all outputs; infinite where nothing differs."""
        return decibel(self.power, self.noise)

    @property
    def agreement(self) -> float | None:
        return self.agree / self.samples if self.classes > 1 else None

    @property
    def accuracy(self) -> float | None:
        return None if self.correct is None else self.correct / self.samples

    def __add__(self, other: Effect) -> Effect:
        both = self.correct is not None and other.correct is not None
        return Effect(
            self.samples + other.samples,
            self.power + other.power,
            self.noise + other.noise,
            self.agree + other.agree,
            (self.correct or 0) + (other.correct or 0) if both else None,
            self.classes,
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "sqnr_db": json_number(self.sqnr_db),
            "agreement": json_number(self.agreement),
            "accuracy": json_number(self.accuracy),
        }


def effect_of(
    graph: Graph, want: Mapping[str, Array], got: Mapping[str, Array], labels: Array | None
) -> Effect:
    """The effect of outputs *got* where the float network has *want*.

    Args:
        graph: says what the outputs are.
        want: output -> real values (N, *shape) of the float network.
        got: the same of a variant.
        labels: (N,) class indices, or None.
    """
    first = graph.outputs[0]
    best, mine = (_top1(graph, first, v[first]) for v in (want, got))
    pairs = [(want[t].astype(np.float64), got[t]) for t in graph.outputs]
    return Effect(
        samples=len(best),
        power=sum(float(np.square(w).sum()) for w, _ in pairs),
        noise=sum(float(np.square(w - g).sum()) for w, g in pairs),
        agree=int((mine == best).sum()),
        correct=None if labels is None else int((mine == labels).sum()),
        classes=graph.tensor(first).size,
    )


def _top1(graph: Graph, output: str, value: Array) -> Array:
    """Where each sample has its largest value, in ONNX's order of elements."""
    origin = graph.tensor(output).origin
    if origin is not None:
        value = to_onnx(value, origin.perm)
    return np.asarray(value.reshape(len(value), -1).argmax(axis=1))


_ROUNDING = 1e-12
"""Noise below this part of the signal, 120 dB, is that of the float arithmetic itself."""


def decibel(power: float, noise: float) -> float:
    """10 log10(power / noise); infinite without noise."""
    if noise <= power * _ROUNDING:
        return math.inf
    return 10 * math.log10(max(power, 1e-30) / noise)


def json_number(value: float | None) -> float | None:
    """Rounded; None for what JSON has no number for."""
    return None if value is None or not math.isfinite(value) else round(value, _DIGITS)
