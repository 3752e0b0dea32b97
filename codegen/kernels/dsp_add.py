"""Additions on the DSP extension of Armv7E-M and Armv8-M: lanes of 16 bits.

In step with runtime_c/isa/dsp/qcc_dsp_add.h. Estimates are instructions counted under emulation
(docs/kernels.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qcc.codegen.variants import Goal, Refusal, Variant
from qcc.ir import Graph, Node, QType
from qcc.ops import broadcast
from qcc.ops.base import Call, Out
from qcc.ops.kernels import instance

ISA = "dsp"
OPERATORS = ("add",)

LANES = "dsp/add-lanes"

_TOP = 0xFFFF
"""The largest value of a lane."""


def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
    """Both operands in 16-bit lanes, where shifts and sums are proved to fit them.

    General multipliers leave nothing to gain: two multiplications with addition and a saturation
    per element are what a compiler makes of the portable kernel.
    """
    types = [graph.quant(t).qtype for t in (*node.inputs, node.output)]
    if any(t.storage_bits > 8 for t in types):
        yield Refusal(LANES, "operands or results of 16 bits")
        return
    shapes = [graph.shape(t) for t in (*node.inputs, node.output)]
    if len(set(shapes)) > 1:
        yield Refusal(LANES, "an operand repeats")
        return
    lanes = _lanes(node, types[0], types[1])
    if isinstance(lanes, str):
        yield Refusal(LANES, lanes)
        return
    ctypes = {k: t.ctype for k, t in zip("aby", types, strict=True)}
    kernel = instance("qcc_dsp_add.h", lanes.constants, **ctypes)
    n = graph.tensor(node.output).size
    yield Variant(
        kernel=LANES,
        why="four elements at a time in lanes of 16 bits",
        calls=(Call(kernel, (*broadcast.operand_args(graph, node), Out(), n)),),
        instructions=round(n // 8 * lanes.per_eight + n % 8 * 17 + 20),
        code_bytes=190,
        leads=dict.fromkeys(range(len(graph.activations(node))), 0),
    )


@dataclass(frozen=True, slots=True)
class _Operand:
    """An operand as unsigned bytes: q * mult = (byte << shift) + offset.

    Attributes:
        flip: exclusive or that makes the bytes.
        shift: of the byte.
        offset: what is left.
    """

    flip: int
    shift: int
    offset: int

    @property
    def most(self) -> int:
        return 255 << self.shift


@dataclass(frozen=True, slots=True)
class _Lanes:
    """The constants of a kernel instance, see the header."""

    a: _Operand
    b: _Operand
    cap: int
    base: int
    post: int
    lo: int

    @property
    def constants(self) -> dict[str, int]:
        return {
            "fa": self.a.flip, "fb": self.b.flip, "ka": self.a.shift, "kb": self.b.shift,
            "cap": self.cap, "base": self.base, "post": self.post, "lo": self.lo,
        }  # fmt: skip

    @property
    def per_eight(self) -> int:
        """Instructions of one turn of the loop."""
        flips = (self.a.flip != 0) + (self.b.flip != 0)
        shifts = 2 * (min(self.a.shift, self.b.shift) > 0)
        return 7 + 2 * (14 + flips + shifts + 2 * (self.post > 0) + (self.lo != 0))


def _lanes(node: Node, a: QType, b: QType) -> _Lanes | str:
    """How *node* is computed in lanes, or why it cannot be."""
    at = node.attrs
    operands = [_operand(q, m) for q, m in zip((a, b), at.mult, strict=True)]
    if None in operands:
        return "its multipliers are not powers of two"
    first, second = (o for o in operands if o is not None)
    (mult,), (post,) = at.rescale.mult, at.rescale.shift
    if mult != 1 or not 0 <= post <= 8:
        return f"a rounding shift of {post}"
    lo, hi = at.clip
    constant = ((1 << post) >> 1) + first.offset + second.offset
    low, high = lo << post, ((hi + 1) << post) - 1
    # Lanes hold what the operands make, 0 to `most`; the clip from above is where they overflow.
    high = min(high, constant + _TOP)
    if first.most + second.most > _TOP or not low <= high <= low + _TOP or high < constant:
        return "its sums or its clip do not fit 16 bits"
    return _Lanes(first, second, _TOP - (high - constant), _TOP - (high - low), post, lo)


def _operand(q: QType, mult: int) -> _Operand | None:
    """None if *mult* is not a power of two, negative or not."""
    size = abs(mult)
    if size.bit_count() != 1:
        return None
    shift = size.bit_length() - 1
    zero = 128 if q.signed else 0  # the byte of 0
    if mult > 0:
        return _Operand(zero, shift, -(zero << shift))
    return _Operand(255 ^ zero, shift, -((255 - zero) << shift))
