"""Pooling on the DSP extension of Armv7E-M and Armv8-M: four channels at a time.

In step with runtime_c/isa/dsp/qcc_dsp_avg_pool2d.h and qcc_dsp_max_pool2d.h, which take the
arguments of the portable kernels. A mean over the rows of a matrix is a pooling with one window.
Estimates are instructions counted under emulation (docs/kernels.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Node
from qcc.ops import OPS
from qcc.ops.base import Arg, Call, CArray, In, Out
from qcc.ops.kernels import CRescale, instance

ISA = "dsp"
OPERATORS = ("avg_pool2d", "max_pool2d", "reduce_mean")

AVG, MAX = "dsp/avg-pool", "dsp/max-pool"

_LANE = 255
"""Bytes that a lane of 16 bits can sum, signed or not."""


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """Windows of words that are four channels."""
    name = MAX if node.op == "max_pool2d" else AVG
    types = [graph.quant(t).qtype for t in (node.inputs[0], node.output)]
    if any(t.storage_bits > 8 for t in types):
        yield Refusal(name, "activations of 16 bits")
        return
    found = _matrix(graph, node) if node.op == "reduce_mean" else _image(graph, node)
    if isinstance(found, str):
        yield Refusal(name, found)
        return
    windows, args = found
    if windows.c < 4:
        yield Refusal(name, "fewer than four channels")
        return
    macros = {"signed": int(types[0].signed)}
    if name == AVG:
        macros["many"] = int(windows.most > _LANE)
    line, four, code = 9, 17, 330
    if name == MAX:
        kernel = instance("qcc_dsp_max_pool2d.h", macros, x=types[0].ctype)
    else:
        r = _rescale(node)
        if r.acc != "int32_t":
            yield Refusal(name, "the sums need 64 bits")
            return
        line, four, code = 7 + 4 * macros["many"], 38, 520
        four += 12 * (r.form != "shift32") + 24 * (node.attrs.clip != (0, 255))
        kernel = instance(
            "qcc_dsp_avg_pool2d.h", macros, rescale=r.form,
            x=types[0].ctype, y=types[1].ctype, acc=r.acc,
        )  # fmt: skip
    yield Variant(
        kernel=name,
        why="four channels at a time",
        calls=(Call(kernel, args),),
        instructions=windows.cost(line, four),
        code_bytes=code,
        leads={0: windows.lead},
    )


@dataclass(frozen=True, slots=True)
class _Windows:
    """Windows over an image; a mean over the rows of matrices is one of height 1."""

    h: int
    w: int
    c: int
    oh: int
    ow: int
    kh: int
    kw: int
    sh: int
    pt: int

    @property
    def most(self) -> int:
        """Values of a window."""
        return min(self.kh, self.h) * min(self.kw, self.w)

    @property
    def lead(self) -> int:
        """How far outputs may run ahead of the first input that is still needed."""
        row = self.ow * self.c
        behind = (
            (i + 1) * row - max(0, i * self.sh - self.pt) * self.w * self.c for i in range(self.oh)
        )
        return max(0, *behind)

    def cost(self, line: int, four: int) -> int:
        """Estimated instructions, *line* for a row of a window, *four* for 4 outputs."""
        rows, cols = min(self.kh, self.h), min(self.kw, self.w)
        window = -(-self.c // 4) * (rows * (6 * cols + line) + four) + 40
        return self.oh * (self.ow * window + 14) + 40


def _rescale(node: Node) -> CRescale:
    a = node.attrs
    return CRescale(getattr(a, "table", None) or a.rescale, a.acc_bound)


def _image(graph: Graph, node: Node) -> tuple[_Windows, tuple[Arg, ...]]:
    """Windows and arguments of a pooling."""
    a = node.attrs
    (_, h, w, c), (_, oh, ow, _) = graph.shape(node.inputs[0]), graph.shape(node.output)
    (call,) = OPS[node.op].calls(graph, node)
    (kh, kw), sh, pt = a.kernel, a.strides[0], a.pads[0]
    return _Windows(h, w, c, oh, ow, kh, kw, sh, pt), call.args


def _matrix(graph: Graph, node: Node) -> tuple[_Windows, tuple[Arg, ...]] | str:
    """The same of a mean over n rows of c values, k times; or why *node* is something else."""
    shape, axes = graph.shape(node.inputs[0]), node.attrs.axes
    kinds = [i in axes for i, size in enumerate(shape) if size > 1]
    changes = [b for a, b in zip([None, *kinds], kinds, strict=False) if a != b]
    if changes not in ([True, False], [False, True, False]):
        return "a mean over other axes than the ones before the last"
    first, last = axes[0], axes[-1]
    k, n, c = (
        math.prod(part) for part in (shape[:first], shape[first : last + 1], shape[last + 1 :])
    )
    r = _rescale(node)
    half = CArray("b", r.acc, r.half)
    args = (
        In(0), half, r.mult, r.shift, "NULL", "NULL", Out(), k, n, c, k, 1, 1, n, 1, 1, 1, 1, 0, 0,
        *node.attrs.clip,
    )  # fmt: skip
    return _Windows(k, n, c, k, 1, 1, n, 1, 0), args
