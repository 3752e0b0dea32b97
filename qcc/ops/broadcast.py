"""What add, mul and prelu share: operands of equal rank whose axes of size 1 repeat.

Not an operator. An operand is an activation or a constant; the layout passes transpose constants
along with the activations. In C, broadcasting is a set of strides: neighbouring axes that advance
alike in the output and in both operands are merged, so that most cases are one loop or two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from qcc import arith
from qcc.builder import Builder
from qcc.ir import Array, Graph, Int, Node, QType, Quant, Shape
from qcc.ops.base import Arg, CArray, ChannelRole, In
from qcc.ops.ratio import FINE
from qcc.ops.reshape import Attrs as Reshape

MAX_AXES = 5
"""Loops of the kernels."""


# -- reading --------------------------------------------------------------------------------------


def operand(b: Builder, name: str, rank: int) -> str:
    """The tensor of an ONNX operand, axes of size 1 put before it up to *rank*."""
    shape = b.shape(name)
    full = (1,) * (rank - len(shape)) + tuple(shape)
    value = b.constant(name)
    if full == tuple(shape):
        return b.tensor(name)
    if value is not None:
        return b.const("operand", value.reshape(full))
    return b.emit("reshape", [b.tensor(name)], Reshape(full))


def check_axes(b: Builder, node: onnx.NodeProto) -> None:
    """Refuse what the kernels have no loops for."""
    shapes = [tuple(b.shape(n)) for n in node.input if n]
    out = b.shape(node.output[0])
    axes = sum(d != 1 for d in out)
    if axes > MAX_AXES and any(math.prod(s) not in (1, math.prod(out)) for s in shapes):
        b.unsupported(f"broadcasting over {axes} axes; up to {MAX_AXES} are supported")


def infer(op: str, inputs: Sequence[Shape]) -> Shape:
    """The shape of the result of *op* on two operands."""
    a, b = inputs
    if len(a) != len(b):
        raise ValueError(f"{op}: operands {a} and {b} have different ranks")
    return np.broadcast_shapes(a, b)


# -- quantizing -----------------------------------------------------------------------------------


def quantize_constant(graph: Graph, node: Node, index: int, unit: float, step: float) -> None:
    """Replace constant operand *index* by integers of scale unit * 2**k, the finest that fits.

    8 bits where they represent it within ``FINE`` steps of the output, otherwise 16.

    Args:
        graph: the graph.
        node: the node.
        index: which input.
        unit: the scale is this times a power of two, so that the operator needs a shift only.
        step: the change of the constant that moves the output by one.
    """
    name = node.inputs[index]
    real = graph.constant(name).astype(np.float64)
    top = float(np.abs(real).max(initial=0.0)) or unit
    for bits in (8, 16):
        qtype = QType(bits)
        k = max(math.ceil(math.log2(top / (qtype.qmax * unit)) - 1e-12), -20)
        quant = Quant(qtype, math.ldexp(unit, k))
        q = arith.quantize(real, quant.scalar, qtype)
        if np.abs(q * quant.scalar - real).max(initial=0.0) <= FINE * step:
            break
    new = graph.add_constant(f"{name}.q", q, quant)
    graph.set_inputs(node, [new if i == index else t for i, t in enumerate(node.inputs)])
    graph.remove_if_unused(name)


def largest(graph: Graph, name: str) -> int:
    """The largest magnitude of an integer operand: of its data, or of its format."""
    tensor = graph.tensor(name)
    if tensor.data is not None:
        return int(np.abs(tensor.data).max(initial=0))
    q = graph.quant(name).qtype
    return max(-q.qmin, q.qmax)


# -- channels -------------------------------------------------------------------------------------


def channel_role(graph: Graph, node: Node) -> ChannelRole:
    """Channel i of the output depends on channel i of the operands, or on their only one."""
    channels = graph.shape(node.output)[-1:]
    alike = all(graph.shape(t)[-1:] == channels for t in graph.activations(node))
    return "pass" if channels and alike else "block"


def select_channels(graph: Graph, node: Node, keep: Int) -> None:
    """Narrow the constant operands to the channels *keep*."""
    for name in node.inputs:
        data = graph.tensor(name).data
        if data is None or data.shape[-1] == 1:
            continue
        new = graph.add_constant(name, data[..., keep], graph.tensor(name).quant)
        graph.set_inputs(node, [new if t == name else t for t in node.inputs])
        graph.remove_if_unused(name)


# -- C --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loops:
    """``MAX_AXES`` loops, outermost first; an operand's stride is 0 along what it repeats."""

    counts: tuple[int, ...]
    a: tuple[int, ...]
    b: tuple[int, ...]

    @property
    def args(self) -> tuple[int, ...]:
        """As the kernels take them."""
        return (*self.counts, *self.a, *self.b)


def loops(out: Shape, a: Shape, b: Shape) -> Loops:
    """The loops over *out* that read operands of shapes *a* and *b*."""
    rows = [(n, sa, sb) for n, sa, sb in zip(out, _strides(a), _strides(b), strict=True) if n != 1]
    merged: list[tuple[int, int, int]] = []
    for n, sa, sb in rows:
        if merged and merged[-1][1:] == (sa * n, sb * n):
            merged[-1] = (merged[-1][0] * n, sa, sb)
        else:
            merged.append((n, sa, sb))
    if len(merged) > MAX_AXES:
        raise ValueError(f"{a} and {b} broadcast over more than {MAX_AXES} axes")
    full = [(1, 0, 0)] * (MAX_AXES - len(merged)) + merged
    counts, first, second = zip(*full, strict=True)
    return Loops(counts, first, second)


def _strides(shape: Shape) -> tuple[int, ...]:
    """Row-major element strides, 0 along axes of size 1."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step if n != 1 else 0)
        step *= n
    return tuple(reversed(strides))


def operand_args(graph: Graph, node: Node) -> list[Arg]:
    """Pointers to both operands: a table for a constant, else the activation."""
    args: list[Arg] = []
    activations = 0
    for name, suffix in zip(node.inputs, ("a", "b"), strict=True):
        data: Array | None = graph.tensor(name).data
        if data is not None:
            args.append(CArray(suffix, graph.quant(name).qtype.ctype, data))
            continue
        args.append(In(activations))
        activations += 1
    return args
