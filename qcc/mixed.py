"""One network with some of its layers integer and the others float: where does accuracy go?

A value is either integers of its tensor's format or real numbers. An integer layer that reads
integers computes what the C computes, bit for bit. One that reads real numbers takes its integer
constants at their real value and rounds its result to its format, so that only its own errors are
added; a float layer adds none. Operators that only move values (``same_scale``) round nothing: they
hand on what they get. So each error has one place: a layer, with its constants and the format of
its output, or an input of the model, with its format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcc.ir import Array, Graph, Int, Node, Quant
from qcc.ops import OPS
from qcc.passes.fold_batchnorm import LINEAR
from qcc.reference import quantize_tensor

_NUDGE = 2.0**-11
"""Part of a step by which real results are raised before they are rounded: what would be halfway
between two integers, but for the rounding of float32, then goes up as it does in integers. With
scales that are powers of two that is common."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor's values (N, *shape): integers of its format, or real numbers."""

    data: Array
    integer: bool


Values = Mapping[str, Value]


class Mixed:
    """A quantized graph beside its float twin.

    Args:
        graph: quantized, as ``qcc.driver`` has it before constant channels are removed.
        twin: the same graph before its constants were quantized: same nodes, same tensors.

    Attributes:
        places: where errors come from: inputs of the model, then layers in order of execution.
    """

    def __init__(self, graph: Graph, twin: Graph) -> None:
        self.graph, self.twin = graph, twin
        self._nodes = list(graph.nodes())
        self._constants: dict[tuple[str, str], Sequence[Array]] = {}
        layers = (n.name for n in self._nodes if not OPS[n.op].same_scale and not OPS[n.op].alias)
        self.places = (*graph.inputs, *layers)

    def run(self, inputs: Mapping[str, Array], integer: bool) -> dict[str, Value]:
        """The values of every activation, all layers integer, or all float.

        Args:
            inputs: graph input -> real values (N, *shape).
            integer: which of the two.
        """
        values = {name: self._input(name, x, integer) for name, x in inputs.items()}
        for node in self._nodes:
            values[node.output] = self._step(node, values, integer)
        return values

    def switched(self, place: str, base: Values, inputs: Mapping[str, Array]) -> dict[str, Value]:
        """The values that change where one place is of the other kind than all the rest.

        Args:
            place: one of ``places``.
            base: what ``run`` gave for *inputs*, all of one kind.
            inputs: graph input -> real values (N, *shape).
        """
        integer = not base[self.graph.inputs[0]].integer
        changed: dict[str, Value] = {}
        if place in self.graph.inputs:
            changed[place] = self._input(place, inputs[place], integer)
        for node in self._nodes:
            if node.name == place:
                changed[node.output] = self._step(node, base, integer)
            elif any(x in changed for x in node.inputs):
                changed[node.output] = self._step(node, {**base, **changed}, not integer)
        return changed

    def real(self, tensor: str, value: Value) -> Array:
        """The real numbers that *value* stands for, (N, *shape) float32."""
        if not value.integer:
            return value.data
        quant = self.graph.quant(tensor)
        return ((value.data - quant.zero_point) * quant.scalar).astype(np.float32)

    def _input(self, name: str, real: Array, integer: bool) -> Value:
        if integer:
            return Value(quantize_tensor(self.graph, name, real), True)
        return Value(np.asarray(real, np.float32), False)

    def _step(self, node: Node, values: Values, integer: bool) -> Value:
        given = [values[x] for x in self.graph.activations(node)]
        known = all(v.integer for v in given)
        moves = OPS[node.op].same_scale or OPS[node.op].alias
        if known and (integer or moves):
            constants = iter(self._integers(node))
            data = [values[x].data if x in values else next(constants) for x in node.inputs]
            return Value(OPS[node.op].run_int(self.graph, node, data), True)
        real = self._float(node, values, integer)
        if moves or not integer:
            return Value(real, False)
        step = self.graph.quant(node.output).scalar
        return Value(quantize_tensor(self.graph, node.output, real + step * _NUDGE), True)

    def _float(self, node: Node, values: Values, integer: bool) -> Array:
        """The float meaning, of the quantized constants at their real value where *integer*."""
        exact = self.twin.node(node.name)
        weighted = integer and node.op in LINEAR  # its integer form always has a bias
        constants = iter(self._reals(node) if weighted else self._sources(exact))
        names = node.inputs if weighted else exact.inputs
        data = [self.real(x, values[x]) if x in values else next(constants) for x in names]
        return OPS[node.op].run_float(exact.attrs, data)

    def _sources(self, exact: Node) -> Sequence[Array]:
        return [self.twin.constant(x) for x in exact.inputs if self.twin.is_constant(x)]

    def _integers(self, node: Node) -> Sequence[Int]:
        g = self.graph
        return self._cached(
            ("integers", node.name),
            lambda: [g.constant(x).astype(np.int64) for x in node.inputs if g.is_constant(x)],
        )

    def _reals(self, node: Node) -> Sequence[Array]:
        """What the integer weights and bias of a layer stand for."""

        def make() -> Sequence[Array]:
            g = self.graph
            w, bias = (g.constant(x).astype(np.int64) for x in node.inputs[1:])
            # The zero point of the input is folded into the integer bias; the real one lacks it.
            bias = bias + g.quant(node.inputs[0]).zero_point * w.reshape(len(w), -1).sum(axis=1)
            return [_scaled(v, g.quant(x)) for v, x in zip((w, bias), node.inputs[1:], strict=True)]

        return self._cached(("reals", node.name), make)

    def _cached(self, key: tuple[str, str], make: Callable[[], Sequence[Array]]) -> Sequence[Array]:
        if key not in self._constants:
            self._constants[key] = make()
        return self._constants[key]


def _scaled(data: Int, quant: Quant) -> Array:
    """Integer constants (out, ...) at their real value, float32."""
    scale = np.asarray(quant.scale, np.float64).reshape(-1, *[1] * (data.ndim - 1))
    return np.asarray(data * scale, np.float32)
