"""3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3), exact, on the DSP extension.

In step with runtime_c/isa/dsp/qcc_dsp_winograd.h. The transformed weights take 16 bits for each of
16 places instead of 8 bits for each of 9, so only the speed profile asks for it.

Source: Lavin, Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from qcc.codegen.kernels.dsp_common import (
    MULTIPLY,
    UNIFORM,
    Requant,
    even_odd_pairs,
    requant,
    weight_words,
)
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Int, Node
from qcc.ops.base import Call, CArray, In, Out, Scratch
from qcc.ops.kernels import instance

ISA = "dsp"
OPERATORS = ("conv2d",)

NAME = "dsp/conv-winograd"

_2G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], np.int64)
"""Twice the G of the paper."""

_UNROLLED = 16
"""Pairs of an unrolled block."""


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """The kernel, in the speed profile."""
    if not goal.expand_weights or graph.shape(node.inputs[1])[1:3] != (3, 3):
        return
    reason = _reason(graph, node)
    if reason is not None:
        yield Refusal(NAME, reason)
        return
    w = graph.constant(node.inputs[1]).astype(np.int64)
    rescale = requant(graph, node, len(w))
    if isinstance(rescale, str):
        yield Refusal(NAME, rescale)
        return
    u = np.einsum("ai,oijc,bj->oabc", _2G, w, _2G).reshape(len(w), 16, -1)
    if not _fits(graph, node, u, rescale):
        yield Refusal(NAME, "its sums may leave 32 bits")
        return
    yield _variant(graph, node, u, rescale)


def _reason(graph: Graph, node: Node) -> str | None:
    a, x, y = node.attrs, graph.quant(node.inputs[0]).qtype, graph.quant(node.output).qtype
    if x.storage_bits > 8 or y.storage_bits > 8:
        return "activations of 16 bits"
    if a.group > 1 or a.strides != (1, 1) or a.dilations != (1, 1):
        return "grouped, strided or dilated"
    if graph.shape(node.inputs[0])[3] % 4:
        return "input channels are not a multiple of 4"
    return None


def _fits(graph: Graph, node: Node, u: Int, rescale: Requant) -> bool:
    """Whether no sum of the kernel leaves int32, and the shifts can grow by 2."""
    x = graph.quant(node.inputs[0]).qtype
    products = 4 * max(abs(x.qmin), abs(x.qmax)) * np.abs(u).sum(axis=(1, 2))
    total = int((products + 4 * np.abs(rescale.bias)).max())
    most = rescale.post if rescale.form in (MULTIPLY, UNIFORM) else int(rescale.entries.max())
    return total < 1 << 31 and most + 2 <= 31


def _variant(graph: Graph, node: Node, u: Int, rescale: Requant) -> Variant:
    (_, h, w, c), (_, oh, ow, oc) = graph.shape(node.inputs[0]), graph.shape(node.output)
    padded = np.zeros((-(-oc // 4) * 4, 16, c), np.int64)
    padded[:oc] = u
    words = [weight_words(even_odd_pairs(padded[o : o + 4]), 16) for o in range(0, oc, 4)]
    stream = CArray("u", "uint32_t", np.concatenate(words) & 0xFFFFFFFF, "2G g 2G^T in pairs")
    bias = np.zeros(len(padded), np.int64)
    bias[:oc] = 4 * rescale.bias
    entries = np.zeros(len(padded), np.int64)
    entries[:oc] = rescale.entries + (0 if rescale.form == MULTIPLY else 2)
    pairs = c // 2 - 1
    block = min(pairs, _UNROLLED)
    chunks, rest = divmod(pairs, block) if block else (0, 0)
    x, y = (graph.quant(t).qtype.ctype for t in (node.inputs[0], node.output))
    constants = {
        "signed": int(x == "int8_t"), "lo": rescale.lo, "hi": rescale.hi, "form": rescale.form,
        "post": rescale.post + 2, "pairs": block, "chunks": chunks, "rest": rest,
    }  # fmt: skip
    kernel = instance("qcc_dsp_winograd.h", constants, x=x, y=y)
    args = (
        In(0), stream, CArray("b", "int32_t", bias, "4 * bias"),
        CArray("r", "int32_t", entries, "shifts or multipliers"), Out(), Scratch(), h, w, c,
        *node.attrs.pads[:2], oh, ow, oc,
    )  # fmt: skip
    return Variant(
        kernel=NAME,
        why="F(2x2, 3x3) in exact integers: 4/9 of the multiplications",
        calls=(Call(kernel, args),),
        instructions=_cost(rescale, c, oh, ow, len(padded), chunks, rest),
        code_bytes=1500 + 44 * (block + rest),
        scratch=64 * c + 512 + w * c,
        leads={0: _lead(node, h, w, c, oh, ow, oc)},
    )


def _lead(node: Node, h: int, w: int, c: int, oh: int, ow: int, oc: int) -> int:
    """While output rows i and i + 1 are written, input rows from i - pad on are still needed."""
    top: int = node.attrs.pads[0]
    return max(min(i + 2, oh) * ow * oc - max(0, i - top) * w * c for i in range(0, oh, 2))


def _cost(rescale: Requant, c: int, oh: int, ow: int, oc: int, chunks: int, rest: int) -> int:
    """Instructions, as counted under emulation."""
    parts = math.ceil(oh / 2) * math.ceil(ow / 4)
    inputs = c / 4 * 440
    loop = 4 + 5 * chunks if chunks > 1 else 2 * chunks
    products = 16 * (11 * c / 2 + 8 + loop + 2 * (rest > 0))
    outputs = 8 * (80 + 4 * (rescale.instructions + 1.5))
    return round(parts * (inputs + oc / 4 * (products + outputs + 12) + 40))
