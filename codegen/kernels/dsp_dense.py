"""Fully connected layers of one row on the DSP extension: 8 channels share each input.

In step with runtime_c/isa/dsp/qcc_dsp_dense.h. Layers of several rows are 1x1 convolutions
(``dsp_conv2d``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from qcc.codegen.kernels.dsp_common import (
    MULTIPLY,
    SHIFTS,
    Packing,
    Requant,
    even_odd_pairs,
    packings,
    requant,
    weight_words,
)
from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Int, Node
from qcc.ops.base import Call, CArray, In, Out
from qcc.ops.kernels import instance

ISA = "dsp"
OPERATORS = ("dense",)

NAME = "dsp/dense"

_BLOCK = 8
"""Channels that a block computes."""

_GROUPS = (1, 2, 4, 8, 16)
"""Groups of 4 inputs in an unrolled block."""


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """The kernel, unrolled by different amounts."""
    x, y = graph.quant(node.inputs[0]).qtype, graph.quant(node.output).qtype
    if x.storage_bits > 8 or y.storage_bits > 8:
        yield Refusal(NAME, "activations of 16 bits")
        return
    if math.prod(graph.shape(node.inputs[0])[:-1]) > 1:
        yield Refusal(NAME, "several rows: as a 1x1 convolution")
        return
    w = graph.constant(node.inputs[1]).astype(np.int64)
    rescale = requant(graph, node, len(w), up=True)
    if isinstance(rescale, str):
        yield Refusal(NAME, rescale)
        return
    # Saturating to 16 bits first costs an instruction per output; two instances cost more.
    rescale = replace(rescale, narrow=False)
    for packing, lifted in packings(graph, node, rescale, goal.expand_weights):
        yield from _unrolled(graph, node, w, lifted, packing)


def _unrolled(
    graph: Graph, node: Node, w: Int, rescale: Requant, packing: Packing
) -> Iterator[Variant]:
    m, n = w.shape
    blocks = -(-m // _BLOCK)
    stream = _pack(w, rescale, packing)
    x, y = (graph.quant(t).qtype.ctype for t in (node.inputs[0], node.output))
    for groups in _GROUPS:
        if groups > n // 4:
            break
        chunks, rest = divmod(n // 4, groups)
        once = int(chunks == 1 and rest == 0)
        constants = {
            "signed": int(x == "int8_t"), **packing.constants, "up": rescale.up, "groups": groups,
            "rest": rest, "once": once, "odd": int(n % 4 > 0), **rescale.constants,
        }  # fmt: skip
        kernel = instance("qcc_dsp_dense.h", constants, x=x, y=y)
        words = len(stream.data) // blocks
        args = (In(0), stream, Out(), n, m, words, 4 * groups * chunks)
        per_group = {16: 27, 8: 43, 4: 39 + 4 * packing.split, 2: 39}[packing.bits]
        odd = int(n % 4 > 0)
        loop = 1 if once else 3 + 5 * chunks
        out = 8 * rescale.instructions + (4 if rescale.form == SHIFTS else 1)
        per_block = (n // 4 + odd) * per_group + loop + 11 + out
        total = blocks * per_block + 60
        if packing.dense:
            total += blocks * packing.offset_cost + (n // 4) * (7 if x == "int8_t" else 4)
        yield Variant(
            kernel=NAME,
            why=f"8 channels a pass, {packing.text}",
            calls=(Call(kernel, args),),
            instructions=round(total),
            code_bytes=4 * per_group * (groups + rest + odd) + 440,
        )


def _pack(w: Int, rescale: Requant, packing: Packing) -> CArray:
    """The stream, (out, in) weights; channels are padded to whole blocks with zeros."""
    pairs = even_odd_pairs(packing.fields(w)[:, None, :])
    padded = np.zeros((-(-len(w) // _BLOCK) * _BLOCK, *pairs.shape[1:]), np.int64)
    padded[: len(w)] = pairs
    words: list[Int] = []
    for first in range(0, len(padded), _BLOCK):
        part = slice(first, min(first + _BLOCK, len(w)))
        bias = np.zeros(_BLOCK, np.int64)
        bias[: part.stop - part.start] = rescale.bias[part]
        words += [bias, weight_words(padded[first : first + _BLOCK], packing.bits)]
        words += _rescaling(rescale, part)
    data = np.concatenate(words) & 0xFFFFFFFF
    return CArray("w", "uint32_t", data, "biases, weights and shifts or multipliers, interleaved")


def _rescaling(rescale: Requant, part: slice) -> list[Int]:
    """Two words of shifts, or eight multipliers."""
    if rescale.form not in (SHIFTS, MULTIPLY):
        return []
    halves = (slice(part.start, part.start + 4), slice(part.start + 4, part.stop))
    return [
        rescale.words(slice(h.start, min(h.stop, part.stop)), 4) if h.start < part.stop
        else np.zeros(1 if rescale.form == SHIFTS else 4, np.int64)
        for h in halves
    ]  # fmt: skip
