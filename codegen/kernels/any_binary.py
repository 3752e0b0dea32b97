"""Layers of bits on any core: weights -1 or +1, inputs and outputs 0 or 1 (qcc_conv2d_binary.h).

A dense layer is a 1x1 convolution over its vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from qcc import arith
from qcc.codegen.kernels.armv6m_common import window_lead
from qcc.codegen.variants import ANY, Goal, Refusal, Variant
from qcc.ir import Graph, Int, Node, QType, Shape
from qcc.ops.base import Arg, Call, CArray, In, Out, Scratch
from qcc.ops.kernels import instance
from qcc.ops.window import Window

ISA = ANY
OPERATORS = ("conv2d", "dense")

_NAME = "any/binary"
_CHANNELS = 32
_MOST_TAPS = (1 << 16) - 1
"""Their numbers, and that of the word that is 0, fit uint16_t."""

_LEAST_SLICES = 4
_CODE = 700


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """32 channels at a time; nothing for layers whose weights are no bits."""
    if graph.quant(node.inputs[1]).qtype.bits != 1:
        return
    bit = QType(1, signed=False)
    if graph.quant(node.inputs[0]).qtype != bit:
        yield Refusal(_NAME, "inputs other than 0 and 1")
    elif graph.quant(node.output).qtype != bit:
        yield Refusal(_NAME, "outputs other than 0 and 1")
    elif getattr(node.attrs, "group", 1) != 1:
        yield Refusal(_NAME, "several groups")
    elif graph.tensor(node.inputs[1]).size // graph.shape(node.output)[-1] > _MOST_TAPS:
        yield Refusal(_NAME, f"windows of more than {_MOST_TAPS} values")
    else:
        yield _variant(graph, node)


def _variant(graph: Graph, node: Node) -> Variant:
    x, y, window = _geometry(graph, node)
    w = graph.constant(node.inputs[1]).astype(np.int64).reshape(y[3], -1)
    taps = w.shape[1]
    slices = max(_LEAST_SLICES, (taps + 1).bit_length())
    at = _thresholds(graph, node, taps) + taps
    halves = [_bits((at + odd + 1) >> 1, slices) for odd in (0, 1)]
    ones = np.pad((w > 0).astype(np.int64), ((0, 0), (0, 1)))
    args: tuple[Arg, ...] = (
        In(0),
        CArray("w", "uint32_t", _slice(ones), "[out / 32][kh][kw][in] and 0, a bit for a channel"),
        CArray("at", "uint32_t", np.stack(halves), "[2][out / 32][slices], see the kernel"),
        Out(),
        Scratch(),
        *x[1:],
        *y[1:],
        *window.kernel,
        *window.strides,
        *window.dilations,
        *window.pads[:2],
        slices,
    )
    return Variant(
        kernel=_NAME,
        why="32 channels an operation, inputs of 0 skipped",
        calls=(Call(instance("qcc_conv2d_binary.h"), args),),
        instructions=_instructions(y, taps, math.prod(window.kernel), slices),
        code_bytes=_CODE,
        scratch=2 * (taps + 7),
        leads={0: window_lead(x, y, window.kernel, window, 1)},
    )


def _geometry(graph: Graph, node: Node) -> tuple[Shape, Shape, Window]:
    """Input and output as images, and how the window moves."""
    x, y = graph.shape(node.inputs[0]), graph.shape(node.output)
    if node.op == "dense":
        rows = math.prod(x[:-1])
        one = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
        return (1, 1, rows, x[-1]), (1, 1, rows, y[-1]), one
    a = node.attrs
    _, kh, kw, _ = graph.shape(node.inputs[1])
    return x, y, Window((kh, kw), a.strides, a.pads, a.dilations)


def _thresholds(graph: Graph, node: Node, taps: int) -> Int:
    """(out,) least sum of products, between -taps and taps + 1, at which an output is 1.

    Rescaling and clipping never fall, so halving the interval finds it.
    """
    a, bias = node.attrs, graph.constant(node.inputs[2]).astype(np.int64)
    low, high = np.full(bias.shape, -taps), np.full(bias.shape, taps + 1)
    while (low < high).any():
        middle = (low + high) >> 1
        one = arith.saturate(a.rescale.apply(middle + bias), *a.clip) >= 1
        low, high = np.where(one, low, np.minimum(middle + 1, high)), np.where(one, middle, high)
    return np.asarray(low, np.int64)


def _slice(bits: Int) -> Int:
    """(out, n) of 0 and 1 -> (ceil(out / 32), n) words, channel 0 the lowest bit."""
    padded = np.pad(bits, ((0, -len(bits) % _CHANNELS), (0, 0)))
    groups = padded.reshape(-1, _CHANNELS, bits.shape[1])
    return np.asarray((groups << np.arange(_CHANNELS)[None, :, None]).sum(axis=1), np.int64)


def _bits(values: Int, slices: int) -> Int:
    """(out,) -> (ceil(out / 32), slices) words."""
    return _slice((values[:, None] >> np.arange(slices)) & 1)


def _instructions(y: Shape, taps: int, places: int, slices: int) -> int:
    """As counted on a Cortex-M4, a quarter of the inputs being 1."""
    blocks = -(-y[3] // _CHANNELS)
    block = 60 + 8 * slices + 5 * taps // 4
    return y[1] * y[2] * (80 + 25 * places + 4 * taps + blocks * block + 3 * y[3] // 2)
