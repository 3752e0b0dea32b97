"""Depthwise convolutions on the DSP extension of Armv7E-M and Armv8-M: planes of four channels.

In step with runtime_c/isa/dsp/qcc_dsp_planes.h, qcc_dsp_groups.h, qcc_dsp_depthwise3x3.h and
qcc_dsp_depthwise.h. Estimates are instructions counted under emulation (docs/kernels.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from qcc.codegen.kernels.dsp_common import MULTIPLY, SHIFTS, UNIFORM, Requant, requant
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Array, Graph, Int, Node
from qcc.ops import conv2d_depthwise
from qcc.ops.base import Call, CArray, In, Kernel, Out, Scratch
from qcc.ops.kernels import instance

ISA = "dsp"
OPERATORS = ("conv2d",)

THREE, ANY = "dsp/depthwise-3x3", "dsp/depthwise"

_WORD = 16
"""QCC_DSP_WORD: bytes of two columns of four planes."""

_REACH = 4095
"""Largest offset of a load or store."""

_WIDEST = 16
"""Columns of a kernel whose multiplications are unrolled."""

_SCRATCH = 4096
"""Planes are cut into strips of about so many bytes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The geometry of a depthwise convolution; m outputs per channel."""

    h: int
    w: int
    c: int
    oh: int
    ow: int
    m: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    pt: int
    pl: int

    @property
    def extent(self) -> int:
        """Rows that a window spans."""
        return (self.kh - 1) * self.dh + 1


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """The planes, with rows of outputs unrolled by different amounts."""
    if not conv2d_depthwise.is_depthwise(graph, node) or node.attrs.group == 1:
        return
    x, y = (graph.quant(t).qtype for t in (node.inputs[0], node.output))
    if x.storage_bits > 8 or y.storage_bits > 8:
        yield Refusal("dsp/depthwise", "activations of 16 bits")
        return
    shape, w = _shape(graph, node)
    w, rescale = _rescaled(graph, node, w)
    if isinstance(rescale, str):
        yield Refusal("dsp/depthwise", rescale)
        return
    layer = _Layer(shape, w, rescale, x.ctype, y.ctype)
    if shape.dw > 1:
        yield Refusal(ANY, "dilated along rows")
    elif shape.sw > 2:
        yield Refusal(ANY, f"a horizontal stride of {shape.sw}")
    elif shape.kw > _WIDEST:
        yield Refusal(ANY, f"a kernel of {shape.kw} columns; up to {_WIDEST} are unrolled")
    else:
        yield from list(_three(layer)) or [_any(layer)]


def _shape(graph: Graph, node: Node) -> tuple[Shape, Array]:
    """The geometry, and the weights (out, kh, kw)."""
    a, w = node.attrs, graph.constant(node.inputs[1]).astype(np.int64)
    (_, h, width, c), (_, oh, ow, oc) = graph.shape(node.inputs[0]), graph.shape(node.output)
    shape = Shape(
        h, width, c, oh, ow, oc // c, *w.shape[1:3], *a.strides, *a.dilations, *a.pads[:2]
    )  # fmt: skip
    return shape, w[..., 0]


def _rescaled(graph: Graph, node: Node, w: Array) -> tuple[Array, Requant | str]:
    """The weights, and how accumulators become outputs.

    Where outputs are finer than accumulators (weights of few bits), what shifts a channel up
    becomes a factor of its weights and its bias, if they still fit.
    """
    plain = requant(graph, node, len(w))
    lifted = requant(graph, node, len(w), up=True)
    if not isinstance(plain, str) or isinstance(lifted, str):
        return w, plain
    if lifted.form == MULTIPLY:
        finer = np.full(len(w), lifted.up)
        rescale = replace(lifted, post=lifted.post + lifted.up)
    else:
        finer = np.maximum(-lifted.entries, 0)
        rescale = replace(lifted, entries=lifted.entries + finer)
    scaled = w << finer[:, None, None]
    half = 0 if rescale.form == MULTIPLY else 1 << int(rescale.entries.max())
    if np.abs(scaled).max() > 127 or (node.attrs.acc_bound << int(finer.max())) + half >= 1 << 31:
        return w, plain
    return scaled, replace(rescale, bias=rescale.bias << finer, up=0)


@dataclass(frozen=True, slots=True)
class _Layer:
    shape: Shape
    w: Array
    rescale: Requant
    x: str
    y: str

    @property
    def macros(self) -> dict[str, int]:
        """What every kernel here is built with."""
        return {
            "signed": int(self.x == "int8_t"), "few": int(self.shape.c < 4),
            "sw": self.shape.sw, "form": self.rescale.form, "post": self.rescale.post,
            "lo": self.rescale.lo, "hi": self.rescale.hi,
        }  # fmt: skip

    @property
    def out(self) -> float:
        """Instructions that rescale, clip and store an output."""
        r = self.rescale
        clip = 1 if r.lo == 0 and (r.hi + 1).bit_count() == 1 else 6
        return clip + {SHIFTS: 2.0, UNIFORM: 1.0, MULTIPLY: 2.4}[r.form]


@dataclass(frozen=True, slots=True)
class _Planes:
    """Where things lie in the planes.

    Attributes:
        row: bytes of a row.
        rows: output rows of a strip.
        tall: rows of the planes.
        n: columns of the input that are unpacked.
    """

    row: int
    rows: int
    tall: int
    n: int

    @property
    def bytes(self) -> int:
        return self.row * self.tall


def _planes(s: Shape, words: int, row: int) -> _Planes:
    """Strips of rows of *row* bytes, of which the windows reach *words* words."""
    most = max(_SCRATCH // row, s.extent)
    rows = min(s.oh, max(1, (most - s.extent) // s.sh + 1))
    strips = -(-s.oh // rows)
    rows = -(-s.oh // strips)
    n = max(0, min(s.w, 2 * words - s.pl))
    return _Planes(row, rows, (rows - 1) * s.sh + s.extent, n)


def _in_place(s: Shape, planes: _Planes) -> bool:
    """Whether no output replaces an input of its channel before that is unpacked."""
    if s.m > 1:
        return False
    for end in (*range(planes.rows, s.oh, planes.rows), s.oh):
        unpacked = (end - 1) * s.sh - s.pt + s.extent
        if unpacked < s.h and unpacked * s.w < end * s.ow:
            return False
    return True


# -- 3x3 ------------------------------------------------------------------------------------------


def _three(layer: _Layer) -> Iterator[Variant]:
    """Nothing for other kernels, and where the rows of a window are too far apart for offsets."""
    s = layer.shape
    if (s.kh, s.kw) != (3, 3):
        return
    words = (s.ow // 2 + s.ow % 2) * s.sw + 1
    stream = _stream(layer)
    for row in sorted({_WORD * words, _WORD * (1 << (words - 1).bit_length())}):
        planes = _planes(s, words, row)
        for step in (s.c * s.m, 0):
            for pairs in _blocks(s, row, step):
                yield _three_variant(layer, stream, planes, step, pairs)


def _blocks(s: Shape, row: int, step: int) -> Iterator[int]:
    """Unrolled pairs that are worth a try and within reach of immediate offsets."""
    total = s.ow // 2
    for n in (0, 1, 2, 3, 4, 5, 6, 8, 12):
        near = 2 * row * s.dh + _WORD * (2 * n + 2) <= _REACH and 2 * n * step <= _REACH
        if near and min(total, 1) <= n <= total:
            yield n


def _three_variant(
    layer: _Layer, stream: CArray, planes: _Planes, step: int, pairs: int
) -> Variant:
    s = layer.shape
    total = s.ow // 2
    chunks, rest = divmod(total, pairs) if pairs else (0, 0)
    constants = {
        **layer.macros, "row": planes.row, "down": planes.row * s.sh, "under": planes.row * s.dh,
        "step": step, "pairs": pairs, "rest": rest, "once": int(chunks == 1), "odd": s.ow % 2,
    }  # fmt: skip
    kernel = instance("qcc_dsp_depthwise3x3.h", constants, x=layer.x, y=layer.y)
    return Variant(
        kernel=THREE,
        why=f"four channels as planes, {planes.rows} rows at a time",
        calls=(_call(s, kernel, stream, planes, chunks),),
        instructions=_three_cost(layer, planes, step, pairs),
        code_bytes=(pairs + rest) * (100 if s.sw == 1 else 112) + 60 * (s.ow % 2) + 560,
        scratch=planes.bytes,
        leads={0: 0} if _in_place(s, planes) else {},
    )


# -- other kernels --------------------------------------------------------------------------------


def _any(layer: _Layer) -> Variant:
    s = layer.shape
    fours = -(-s.ow // 4)
    words = 2 * s.sw * (fours - 1) + s.kw // 2 + (2 if s.sw == 1 else 3 + s.kw % 2)
    planes = _planes(s, words, _WORD * words)
    pairs = _pairs(s)
    constants = {
        **layer.macros, "kh": s.kh, "kw": s.kw, "row": planes.row, "down": planes.row * s.sh,
        "under": planes.row * s.dh,
    }  # fmt: skip
    kernel = instance("qcc_dsp_depthwise.h", constants, x=layer.x, y=layer.y)
    return Variant(
        kernel=ANY,
        why=f"{s.kh}x{s.kw}, four channels as planes, {planes.rows} rows at a time",
        calls=(_call(s, kernel, _stream(layer), planes, 0),),
        instructions=_any_cost(layer, planes),
        code_bytes=430 + min(s.kh, 8) * 18 * pairs,
        scratch=planes.bytes + 4 * s.kh * pairs,
        leads={0: 0} if _in_place(s, planes) else {},
    )


def _pairs(s: Shape) -> int:
    """Words of weights that a row of the kernel becomes."""
    if s.sw == 2:
        return (s.kw + 1) // 2
    return max(1, s.kw // 2 + (s.kw - 1) // 2)


def _any_cost(layer: _Layer, planes: _Planes) -> int:
    s = layer.shape
    pairs = _pairs(s)
    if s.sw == 1:
        line = pairs + s.kw // 2 + 2 + 4 * (s.kw // 2) + (4 if s.kw % 2 else 2)
    else:
        line = 6 * pairs + 3
    row = -(-s.ow // 4) * (s.kh * line + 9) + s.ow * (layer.out + 1) + 10
    strips = -(-s.oh // planes.rows)
    plane = s.oh * row + strips * (40 + s.kh * (10 + 7 * pairs))
    return round(s.c * s.m * plane + _unpack_cost(s, planes))


# -- both -----------------------------------------------------------------------------------------


def _unpack_cost(s: Shape, planes: _Planes) -> float:
    """Instructions that fill the planes."""
    strips = -(-s.oh // planes.rows)
    rows = min(planes.tall * strips, s.h + (s.extent - s.sh) * (strips - 1))
    each = 32 * s.c / 4 if s.c < 4 else 7.5
    return -(-s.c // 4) * rows * (each * planes.n + 18) + planes.tall * planes.row / 8


def _call(s: Shape, kernel: Kernel, stream: CArray, planes: _Planes, chunks: int) -> Call:
    args = (
        In(0), stream, Out(), Scratch(), s.h, s.w, s.c, planes.n, s.pt, s.pl, s.oh, s.ow, s.m,
        chunks, planes.rows, planes.tall,
    )  # fmt: skip
    return Call(kernel, args)


def _stream(layer: _Layer) -> CArray:
    """Per output: bias, multiplier, rows of the kernel in bytes; the last byte is the shift."""
    r, w = layer.rescale, layer.w
    outs, kh, kw = w.shape
    rows = np.zeros((outs, kh, (kw // 4 + 1) * 4), np.int64)  # a byte is left for the shift
    rows[:, :, :kw] = w & 0xFF
    if r.form == SHIFTS:
        rows[:, -1, -1] = r.entries
    body = _little_endian(rows.reshape(outs, -1, 4))
    head = [r.bias[:, None]]
    if r.form == MULTIPLY:
        head.append(r.entries[:, None])
    data = np.concatenate([*head, body], axis=1).reshape(-1) & 0xFFFFFFFF
    return CArray("w", "uint32_t", data, "per channel: bias, multiplier, rows of weights, shift")


def _little_endian(groups: Int) -> Int:
    """(..., 4) bytes -> words."""
    return np.asarray((groups << (8 * np.arange(4))).sum(axis=-1), np.int64)


def _three_cost(layer: _Layer, planes: _Planes, step: int, pairs: int) -> int:
    s = layer.shape
    total = s.ow // 2
    out = layer.out
    two = (18 if s.sw == 1 else 21) + 2 * out + (0 if step else 1)
    blocks = -(-total // pairs) if pairs else 0
    row = total * two + 6 * blocks + (13 + out) * (s.ow % 2) + 6
    strips = -(-s.oh // planes.rows)
    outs = s.c * s.m
    plane = s.oh * row + 45 * strips
    return round(outs * plane + _unpack_cost(s, planes))
