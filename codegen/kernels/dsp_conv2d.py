"""Convolutions on the DSP extension of Armv7E-M and Armv8-M: by lines and by patches.

In step with runtime_c/isa/dsp/qcc_dsp_conv_lines.h and qcc_dsp_conv_patches.h. Estimates are
instructions counted under emulation (docs/kernels.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qcc.codegen.kernels.dsp_common import (
    Packing,
    Requant,
    even_odd_pairs,
    natural_pairs,
    pack,
    packings,
    requant,
)
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Array, Graph, Node
from qcc.ops import conv2d_depthwise
from qcc.ops.base import Call, In, Out, Scratch
from qcc.ops.kernels import instance

ISA = "dsp"
OPERATORS = ("conv2d", "dense")

LINES, PATCHES = "dsp/conv-lines", "dsp/conv-patches"

_MOST_UNROLLED = 32
"""Units (pairs, or twos of them) in one block: QCC_REPEAT goes so far."""

_LITTLE = 8
"""Values of a run that take no loop."""

_MOST_RUNS = 16
"""QCC_DSP_MOST_RUNS."""

_REACH = 4095
"""Largest offset of a load."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A convolution's geometry; a fully connected layer of R rows is 1x1 over R pixels."""

    h: int
    w: int
    c: int
    oh: int
    ow: int
    oc: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    pt: int
    pl: int

    @property
    def pointwise(self) -> bool:
        return (self.kh, self.kw, self.sh, self.sw) == (1, 1, 1, 1) and not self.padded

    @property
    def padded(self) -> bool:
        """Whether some window leaves the input."""
        bottom = (self.oh - 1) * self.sh + (self.kh - 1) * self.dh - self.pt
        right = (self.ow - 1) * self.sw + (self.kw - 1) * self.dw - self.pl
        return self.pt > 0 or self.pl > 0 or bottom >= self.h or right >= self.w


@dataclass(frozen=True, slots=True)
class Unroll:
    """How a run is cut: *chunks* blocks of *units*, then *rest* units; a unit is a pair, or two."""

    units: int
    chunks: int
    rest: int

    @property
    def constants(self) -> dict[str, int]:
        return {"pairs": self.units, "rest": self.rest, "once": int(self.once)}

    @property
    def once(self) -> bool:
        """Whether there is nothing to loop over."""
        return self.chunks == 1 and self.rest == 0

    @property
    def code(self) -> int:
        """Units of text."""
        return self.units + self.rest

    @property
    def total(self) -> int:
        """Units of a run."""
        return self.units * self.chunks + self.rest

    @property
    def looped(self) -> int:
        """Units of a run that blocks take."""
        return self.units * self.chunks


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """Both kernels, unrolled by different amounts."""
    reason = _reason(graph, node)
    if reason is not None:
        yield Refusal("dsp/conv", reason)
        return
    shape, w = _shape(graph, node)
    rescale = requant(graph, node, shape.oc, up=True)
    if isinstance(rescale, str):
        yield Refusal("dsp/conv", rescale)
        return
    for packing, lifted in packings(graph, node, rescale, goal.expand_weights):
        layer = _Layer(graph, node, shape, w, lifted, packing)
        yield from _patches(layer)
        yield from _lines(layer)


def _reason(graph: Graph, node: Node) -> str | None:
    """Why no kernel here takes *node*."""
    x, y = graph.quant(node.inputs[0]).qtype, graph.quant(node.output).qtype
    if x.storage_bits > 8 or y.storage_bits > 8:
        return "activations of 16 bits"
    if node.op == "dense":
        return None
    if node.attrs.group > 1:
        if conv2d_depthwise.is_depthwise(graph, node):
            return "depthwise"
        return "grouped"
    return None


def _shape(graph: Graph, node: Node) -> tuple[Shape, Array]:
    """The geometry, and the weights (out, kh, kw, in)."""
    w = graph.constant(node.inputs[1]).astype(np.int64)
    if node.op == "dense":
        rows = int(np.prod(graph.shape(node.inputs[0])[:-1]))
        shape = Shape(1, rows, w.shape[1], 1, rows, w.shape[0], 1, 1, 1, 1, 1, 1, 0, 0)
        return shape, w[:, None, None, :]
    a = node.attrs
    (_, h, width, c), (_, oh, ow, oc) = graph.shape(node.inputs[0]), graph.shape(node.output)
    shape = Shape(
        h, width, c, oh, ow, oc, *w.shape[1:3], *a.strides, *a.dilations, *a.pads[:2]
    )  # fmt: skip
    if shape.pointwise:
        return Shape(1, h * width, c, 1, oh * ow, oc, 1, 1, 1, 1, 1, 1, 0, 0), w
    return shape, w


@dataclass(frozen=True, slots=True)
class _Layer:
    graph: Graph
    node: Node
    shape: Shape
    w: Array
    rescale: Requant
    packing: Packing

    @property
    def types(self) -> dict[str, str]:
        x, y = (self.graph.quant(t).qtype.ctype for t in (self.node.inputs[0], self.node.output))
        return {"x": x, "y": y}

    @property
    def signed(self) -> int:
        return int(self.types["x"] == "int8_t")

    @property
    def fields(self) -> Array:
        """The weights as they enter words (out, kh, kw, in)."""
        return self.packing.fields(self.w)

    def macros(self, unroll: Unroll) -> dict[str, int]:
        """What both kernels are built with."""
        return {
            "signed": self.signed, **self.packing.constants, **unroll.constants,
            "up": self.rescale.up,            "tail": self.shape.oc % 4, **self.rescale.constants,
        }  # fmt: skip

    @property
    def blocks(self) -> tuple[int, int]:
        """(blocks of 4 channels, blocks of 2)."""
        oc = self.shape.oc
        if self.packing.dense:
            return -(-oc // 4), 0
        return oc // 4 + (oc % 4 == 3), int(oc % 4 in (1, 2))


def _unrolls(units: int) -> Iterator[Unroll]:
    """Ways to cut a run: small text, a middle, all of it."""
    if units <= _MOST_UNROLLED:
        yield Unroll(units, 1, 0)
    for size in (4, 8, 16, 24, 32):
        if size < units:
            yield Unroll(size, units // size, units % size)


def _words(layer: _Layer, units: int) -> int:
    """Words of the stream that blocks of 4 channels take."""
    fours, _ = layer.blocks
    return fours * (4 + units * layer.packing.words + len(layer.rescale.words(slice(0, 4), 4)))


# -- lines ----------------------------------------------------------------------------------------


def _lines(layer: _Layer) -> Iterator[Variant | Refusal]:
    s, packing = layer.shape, layer.packing
    step = 2 * s.sw * s.c
    if s.kh == 1 and s.kw == 1:
        return
    if s.dw > 1 or s.dh > 1:
        yield Refusal(LINES, "dilated")
        return
    units = -(-s.kw * s.c // (2 * packing.unit))
    pairs = units * packing.unit
    if step + 4 * _MOST_UNROLLED * packing.unit > _REACH:
        yield Refusal(LINES, f"{s.c} channels: the next pixel is out of an offset's reach")
        return
    if s.kh > _MOST_RUNS:
        yield Refusal(LINES, f"{s.kh} rows")
        return
    columns = (-(-s.ow // 2) * 2 - 1) * s.sw + s.kw
    if packing.dense and 255 * s.kh * columns * s.c << packing.bits >= 1 << 31:
        yield Refusal(LINES, f"{columns * s.c} values of a line: their sum is too large")
        return
    weights = natural_pairs(layer.fields.reshape(s.oc, s.kh, s.kw * s.c), 2 * packing.unit)
    stream = pack(weights, layer.rescale, packing)
    left = s.pl * s.c
    line = 2 * -(-((-(-s.ow // 2) * 2 - 1) * s.sw * s.c + 2 * pairs) // 2)
    n = min(s.w * s.c, line - left)
    sums = {"columns": s.kw, "stride": s.sw} if packing.dense else {}
    for unroll in _unrolls(units):
        constants = {**layer.macros(unroll), "kh": s.kh, "step": step, **sums}
        kernel = instance("qcc_dsp_conv_lines.h", constants, **layer.types)
        args = (
            In(0), stream, _words(layer, s.kh * units), Out(), Scratch(), s.h, n, s.w * s.c,
            left, line, s.sh, s.pt, s.oh, s.ow, s.oc, 4 * packing.unit * unroll.looped,
        )  # fmt: skip
        yield Variant(
            kernel=LINES,
            why=f"rows of {s.kw * s.c} values in lines, {_tile_text(packing)}",
            calls=(Call(kernel, args),),
            instructions=_line_cost(layer, unroll, n, columns),
            code_bytes=_code(layer, unroll) + (620 if packing.dense else 420),
            scratch=2 * s.kh * line + (4 * (columns + 1) if packing.dense else 0),
            leads={0: _line_lead(s)},
        )


def _line_lead(s: Shape) -> int:
    """Rows up to i * sh - pt + kh have been read when output row i is written."""
    behind = [
        (i + 1) * s.ow * s.oc - max(0, i * s.sh - s.pt + s.kh) * s.w * s.c
        for i in range(s.oh)
        if i * s.sh - s.pt + s.kh < s.h
    ]
    return max(0, *behind) if behind else 0


# -- patches --------------------------------------------------------------------------------------


def _patches(layer: _Layer) -> Iterator[Variant]:
    s, packing = layer.shape, layer.packing
    runs, run = (s.kw, s.c) if s.dw > 1 else (1, s.kw * s.c)
    weights = even_odd_pairs(layer.fields.reshape(s.oc, s.kh * runs, run))
    pairs = weights.shape[1]
    units = pairs // packing.unit
    stream = pack(weights, layer.rescale, packing)
    for unroll in _unrolls(units):
        constants = {**layer.macros(unroll), "inside": int(not s.padded)}
        kernel = instance("qcc_dsp_conv_patches.h", constants, **layer.types)
        args = (
            In(0), stream, _words(layer, units), Out(), Scratch(), s.h, s.w, s.c, s.kh, s.dh,
            runs, s.dw, run, s.sh, s.sw, s.pt, s.pl, s.oh, s.ow, s.oc,
            8 * packing.unit * unroll.looped,
        )  # fmt: skip
        what = "1x1" if s.kh * s.kw == 1 else f"patches of {s.kh * runs} x {run} values"
        yield Variant(
            kernel=PATCHES,
            why=f"{what}, {_tile_text(packing)}",
            calls=(Call(kernel, args),),
            instructions=_patch_cost(layer, unroll, s.kh * runs, run),
            code_bytes=_code(layer, unroll) + (520 if packing.dense else 480),
            scratch=8 * pairs,
            leads={0: _patch_lead(s)},
        )


def _patch_lead(s: Shape) -> int:
    """How far outputs may run ahead of the first input that is still needed."""
    if s.pointwise:
        return max(0, s.ow * (s.oc - s.c))
    behind = ((i + 1) * s.ow * s.oc - max(0, i * s.sh - s.pt) * s.w * s.c for i in range(s.oh))
    return max(0, *behind)


# -- estimates ------------------------------------------------------------------------------------


def _tile_text(packing: Packing) -> str:
    return f"4 channels x 2 pixels, {packing.text}"


def _tile_cost(layer: _Layer, unroll: Unroll, segments: int, load: int) -> float:
    """Instructions for all channels of two pixels; *load* instructions fetch a pair of inputs."""
    (fours, twos), packing = layer.blocks, layer.packing
    per4 = packing.unit_cost(load)
    per2 = load + 7 if packing.bits == 8 else load + 5
    loop = 1 if unroll.once else 5 + 5 * unroll.chunks
    loop += 5 if segments > 1 else 0
    out = layer.rescale.instructions
    block = 12 + (packing.offset_cost if packing.dense else 0)
    return (
        fours * (segments * (unroll.total * per4 + loop) + block + 8 * out)
        + twos * (segments * (unroll.total * per2 + loop) + 12 + 4 * out)
        + 16
        + 6 * segments
    )


def _line_cost(layer: _Layer, unroll: Unroll, n: int, columns: int) -> int:
    s = layer.shape
    tiles, rows = s.oh * -(-s.ow // 2), s.oh * s.sh + s.kh
    fill = rows * (2.2 * n + 24)
    if layer.packing.dense:
        fill += 2 * rows * columns * (2.0 * s.c + 10) + 10 * tiles
    return round(tiles * _tile_cost(layer, unroll, s.kh, 2) + fill)


def _patch_cost(layer: _Layer, unroll: Unroll, runs: int, run: int) -> int:
    s = layer.shape
    tiles = s.oh * -(-s.ow // 2)
    fill = 2 * (runs * (1.9 * run + (24 if s.padded else 12)) + 10)
    if runs == 1 and run <= _LITTLE and not s.padded:
        fill = 2 * 1.9 * run  # the compiler unrolls all of it
    if layer.packing.dense:
        fill += 2 * (runs * run * (0.5 if layer.signed else 0.25) + 4)
    return round(tiles * (_tile_cost(layer, unroll, 1, 1) + fill))


def _code(layer: _Layer, unroll: Unroll) -> int:
    fours, twos = layer.blocks
    per4 = {16: 56, 8: 64, 4: 60, 2: 116}[layer.packing.bits]
    return unroll.code * (per4 * (fours > 0) + 36 * twos) + 240
