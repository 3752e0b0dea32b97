"""Depthwise convolution on ARMv6-M: two rows of a channel at a time (qcc_armv6m_depthwise.h)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qcc.codegen.kernels.armv6m_common import Requant, flip, leads_of, requant, unsupported
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Int, Node, Shape
from qcc.ops.base import Call, CArray, In, Out, Scratch
from qcc.ops.kernels import instance

ISA = "armv6m"
OPERATORS = ("conv2d",)

_NAME = "armv6m/depthwise"
_MAX_SIDE = 32767
_TRIPLE = 3
_MOST = 254
"""The |w| of a triple add up to at most that: 256 * 254 is below 2**16."""

_SPLIT = 255
_ENTRY_BYTES = 20
_MAX_HALF = 2
_CODE = 1000


@dataclass(frozen=True, slots=True)
class _Layer:
    """A depthwise convolution: x (1, h, w, c), y (1, oh, ow, outs * c), weights (out, kh, kw)."""

    x: Shape
    y: Shape
    w: Int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, ...]

    @property
    def half(self) -> int:
        """Rows of half a strip."""
        return min(_MAX_HALF, -(-self.y[1] // 2))

    @property
    def lines(self) -> int:
        """Rows of the input that half a strip reads."""
        span = (self.kernel[0] - 1) * self.dilations[0]
        return (self.half - 1) * self.strides[0] + span + 1

    @property
    def triples(self) -> int:
        """In a row of the kernel: taps that are apart have one each."""
        kw = self.kernel[1]
        return -(-kw // _TRIPLE) if self.dilations[1] == 1 else kw

    @property
    def pitch(self) -> int:
        """Words of a line: the last triple may read two beyond the last tap."""
        span = (self.kernel[1] - 1) * self.dilations[1]
        return (self.y[2] - 1) * self.strides[1] + span + 1 + _TRIPLE - 1

    @property
    def columns(self) -> int:
        """Of the input that are in a line."""
        return min(self.x[2], self.pitch - self.pads[1])


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """Channel by channel, from lines of words."""
    layer, why = _layer(graph, node), unsupported(graph, node)
    if isinstance(layer, str):
        why = layer
    if why or isinstance(layer, str):
        if why:
            yield Refusal(_NAME, why)
        return
    a = node.attrs
    flat = layer.w.reshape(len(layer.w), -1)
    r = requant(a.rescale, a.acc_bound, graph.constant(node.inputs[2]), len(flat), a.clip)
    if isinstance(r, str):
        yield Refusal(_NAME, r)
        return
    flipped = flip(graph, node.inputs[0])
    r = r.add(-flipped * flat.sum(axis=1))
    entries = layer.kernel[0] * layer.triples
    args = (
        In(0),
        CArray("w", "uint8_t", _stream(layer), "triples of weights, see the kernel"),
        CArray("k", "int32_t", r.records(), "[out], see qcc_armv6m.h"),
        CArray("g", "int16_t", _geometry(layer), "sizes, see qcc_armv6m_lines.h"),
        Out(),
        Scratch(),
        r.lo,
        r.hi,
    )
    kernel = instance("qcc_armv6m_depthwise.h", {"flip": flipped, "form": r.form})
    yield Variant(
        kernel=_NAME,
        why="two rows a multiply",
        calls=(Call(kernel, args),),
        instructions=_instructions(layer, r, flipped),
        code_bytes=_CODE + 100 * r.form,
        scratch=4 * layer.lines * layer.pitch + 2 * _ENTRY_BYTES * entries,
        leads=leads_of(_lead(layer), layer.y),
    )


def _layer(graph: Graph, node: Node) -> _Layer | str:
    """*node* as a depthwise convolution, or why it is none; "" where it has no groups."""
    a, w = node.attrs, graph.constant(node.inputs[1]).astype(np.int64)
    x, y = graph.shape(node.inputs[0]), graph.shape(node.output)
    if a.group == 1 and x[3] > 1:
        return ""
    if a.group != x[3]:
        return "groups of several channels"
    layer = _Layer(x, y, w[..., 0], w.shape[1:3], a.strides, a.dilations, a.pads)
    sizes = (*x, *y, *w.shape, *a.strides, *a.dilations, *a.pads, layer.lines, layer.pitch)
    if max(sizes) > _MAX_SIDE:
        return f"a side of more than {_MAX_SIDE}"
    if layer.columns < 1:
        return "every window lies in the border"
    return layer


def _geometry(layer: _Layer) -> Int:
    (_, h, w, c), (_, oh, ow, oc) = layer.x, layer.y
    across = _TRIPLE if layer.dilations[1] == 1 else layer.dilations[1]
    sizes = (h, w, c, oh, ow, oc // c, layer.kernel[0], layer.triples, across)
    places = (*layer.strides, layer.dilations[0], *layer.pads[:2])
    buffers = (layer.half, layer.lines, layer.pitch, layer.columns)
    return np.array([*sizes, *places, *buffers], np.int64)


def _triples(layer: _Layer) -> Int:
    """(channels, triples, 3) weights in the order of the kernel."""
    w = layer.w
    if layer.dilations[1] > 1:
        single = np.zeros((*w.shape, _TRIPLE), np.int64)
        single[..., 0] = w
        return single.reshape(len(w), -1, _TRIPLE)
    padded = np.pad(w, ((0, 0), (0, 0), (0, -w.shape[2] % _TRIPLE)))
    return padded.reshape(len(w), -1, _TRIPLE)


def _stream(layer: _Layer) -> Int:
    """The bytes of all channels, see the kernel."""
    out: list[int] = []
    for row in _triples(layer).reshape(-1, _TRIPLE):
        if np.abs(row).sum() > _MOST:
            rest = np.array([0, 0, row[2]])
            out += [_SPLIT, *_entry(row - rest), *_entry(rest)]
        else:
            out += _entry(row)
    return np.array(out, np.int64)


def _entry(row: Int) -> list[int]:
    return [int(np.maximum(-row, 0).sum()), *(int(v) & 0xFF for v in row)]


def _lead(layer: _Layer) -> int:
    """How far the input has to lie above the output: a strip is read until it is done."""
    (_, h, w, c), (_, oh, ow, oc) = layer.x, layer.y
    rows = 2 * layer.half
    begins = np.arange(0, oh, rows)
    needed = np.clip(begins * layer.strides[0] - layer.pads[0], 0, h) * w * c
    written = np.minimum(begins + rows, oh) * ow * oc
    return max(0, int((written - needed).max()))


def _instructions(layer: _Layer, r: Requant, flipped: int) -> int:
    """As counted in emulation; a test compares."""
    (_, _, _, c), (_, oh, ow, oc) = layer.x, layer.y
    triples = _triples(layer)
    twice = int((np.abs(triples).sum(axis=2) > _MOST).sum())
    windows = layer.kernel[0] * layer.triples * oc + twice
    halves = [min(layer.half, -(-(oh - i) // 2)) for i in range(0, oh, 2 * layer.half)]
    lines = [layer.lines - (layer.half - half) * layer.strides[0] for half in halves]
    line = 14 + (6 if flipped else 4) * layer.columns
    output = 38 + (0, 3, 32)[r.form]
    return (
        300
        + 8 * layer.lines * layer.pitch
        + len(halves) * (300 + c * 90 + oc * 70 + windows * 33)
        + sum(lines) * 2 * c * line
        + sum(halves) * (oc * 55 + ow * (windows * 16 + oc * output))
    )
