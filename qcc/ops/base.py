"""What an operator says of itself, to every stage.

An operator of the IR is one file of this folder: a subclass of ``Op``. The reader, the verifier,
the passes, the reference, the emitter and the per-operator tests all go through ``OPS``
(``qcc/ops/__init__.py``); nothing else has to change when one is added, except its C kernel in
``runtime_c/include``. docs/adding-an-operator.md walks through one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import onnx

from qcc.builder import Builder
from qcc.config import Config
from qcc.ir import Array, Graph, Int, Node, Shape

INFINITY = math.inf


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a tensor's values, per index of its last axis: lo <= value <= hi.

    Arrays have shape (channels,), or (1,) where one bound serves all.
    """

    lo: Int
    hi: Int

    @classmethod
    def of(cls, lo: int, hi: int) -> Interval:
        return cls(np.array([lo], np.int64), np.array([hi], np.int64))

    def expand(self, channels: int) -> Interval:
        """The same with one entry per channel."""
        lo, hi = (np.broadcast_to(v, channels).copy() for v in (self.lo, self.hi))
        return Interval(lo, hi)

    def hull(self) -> tuple[int, int]:
        """(min, max) over all channels."""
        return int(self.lo.min()), int(self.hi.max())


# -- what the emitter needs to know of one layer ------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kernel:
    """An instance of a C kernel: a header of runtime_c, and the macros it is built with.

    A kernel header defines one ``static inline`` function named by the macro ``QCC_FN``; types and
    the rescaling come as macros too (``QCC_X``, ``QCC_Y``, ``QCC_ACC``, ``QCC_RESCALE``, ...), so
    the same C file serves every width. The emitter includes it once per distinct instance.

    Attributes:
        header: file name, e.g. ``qcc_conv2d.h``.
        function: the C name of this instance; a function of *header* and *macros*.
        macros: (name, value) in a stable order, ``QCC_FN`` excluded.
    """

    header: str
    function: str
    macros: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CArray:
    """A constant table of a layer: ``static const <ctype> <model>_<layer>_<suffix>[]`` in C."""

    suffix: str
    ctype: str
    data: Array
    note: str = ""


@dataclass(frozen=True, slots=True)
class In:
    """Argument: pointer to the layer's *index*-th activation input."""

    index: int = 0


@dataclass(frozen=True, slots=True)
class Out:
    """Argument: pointer to the layer's output."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """Argument: ``void *`` to the layer's scratch memory in the arena, aligned like the arena."""


Arg = In | Out | Scratch | CArray | int | str
"""A kernel argument: pointers, a constant table, a literal number, or C text such as ``NULL``."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a kernel. A layer's C function is a sequence of these."""

    kernel: Kernel
    args: tuple[Arg, ...]


ChannelRole = Literal["block", "pass", "mix"]


@dataclass(frozen=True, slots=True)
class Relation:
    """How the output scale of an op without weights depends on its inputs' scales.

    ``product``: s_y is naturally factor * prod(s_x) (mul); ``each``: every input x asks for
    s_y = factor * s_x * 2**k (add, mean). In the shift modes the scale chooser honours it, so that
    the op's rescale is a pure shift; otherwise the op falls back to a multiplier.
    """

    kind: Literal["each", "product"]
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class QuantContext:
    """What ``Op.quantize`` may consult beside the graph."""

    config: Config
    weight_bits: int
    notes: list[str] = field(default_factory=list[str])


class Op(ABC):
    """One operator, whole: reading, shapes, float and integer meaning, C.

    Methods are static. Arrays carry a leading axis of samples: an activation of IR shape
    (1, 8, 8, 16) is (N, 1, 8, 8, 16); constants have their plain shape.
    """

    name: ClassVar[str]
    """IR name."""

    onnx_types: ClassVar[tuple[str, ...]] = ()
    """ONNX op types (default domain) that ``read`` accepts."""

    same_scale: ClassVar[bool] = False
    """The op moves bits: its activation inputs and its output share one Quant."""

    elementwise: ClassVar[bool] = False
    """The kernel walks its output in order and reads element i of every activation input of the
    output's shape before it writes element i: it may write in place over such an input whose
    elements are not narrower."""

    alias: ClassVar[bool] = False
    """The output is the same bytes as the input: no code, one buffer."""

    # -- frontend --

    @staticmethod
    def read(b: Builder, node: onnx.NodeProto) -> None:
        """Add to the graph under construction what *node* means, and bind its outputs.

        Raises:
            UnsupportedError: through ``b.unsupported(...)``, for what qcc does not cover.
        """
        raise NotImplementedError

    @staticmethod
    @abstractmethod
    def infer(attrs: Any, inputs: Sequence[Shape]) -> Shape:
        """The output's shape; raises ValueError when the inputs do not fit."""

    # -- float graph --

    @staticmethod
    @abstractmethod
    def run_float(attrs: Any, inputs: Sequence[Array]) -> Array:
        """The meaning in float32; activations with the leading axis of samples."""

    @staticmethod
    def range(attrs: Any, inputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        """Interval that holds every output, from intervals of all inputs, constants included."""
        return -INFINITY, INFINITY

    @staticmethod
    def permute(attrs: Any, perm: Sequence[int], rank: int) -> Any | None:
        """Attributes of op' such that op(T(x), ...) = T(op'(x, ...)) for the transpose T by *perm*.

        T(v) = v.transpose(perm). All activation inputs are transposed alike. None: it does not
        commute (the default).
        """
        return None

    # -- quantization --

    @staticmethod
    def relation(graph: Graph, node: Node) -> Relation | None:
        """How the output scale depends on the inputs' in the shift modes; None: free."""
        return None

    @staticmethod
    def output_scale(graph: Graph, node: Node, bits: int) -> tuple[float, bool] | None:
        """(scale, signed) of an output whose format follows from the op alone (softmax)."""
        return None

    @staticmethod
    def quantize(graph: Graph, node: Node, ctx: QuantContext) -> None:
        """Make *node* integer: constants and attributes. Activations have their Quant by now."""

    @staticmethod
    def columns(attrs: Any, weights: Shape, x: Array) -> Array:
        """What the weights of a layer multiply: (groups, rows, taps), in the order of its weights.

        Only of operators with weights, ``qcc.passes.fold_batchnorm.LINEAR``. A row is a place of
        the output of a sample, in its order.

        Args:
            attrs: of the node.
            weights: shape (out, ...).
            x: the input (N, *shape).
        """
        raise NotImplementedError

    # -- integer graph --

    @staticmethod
    @abstractmethod
    def run_int(graph: Graph, node: Node, inputs: Sequence[Int]) -> Int:
        """The integer meaning: the golden model of the emitted C, bit for bit."""

    @staticmethod
    def interval(graph: Graph, node: Node, inputs: Sequence[Interval]) -> Interval:
        """Sound bounds of the integer output; default: its whole format."""
        q = graph.quant(node.output).qtype
        return Interval.of(q.qmin, q.qmax)

    @staticmethod
    def channel_role(graph: Graph, node: Node) -> ChannelRole:
        """How constant-channel elimination may treat the node (channels: the last axis).

        ``pass``: output channel i depends on channel i of the activations only, and all have as
        many channels; ``mix``: a linear layer, whose channels go on either side independently;
        ``block``: nothing may be removed around it.
        """
        return "block"

    @staticmethod
    def select_channels(graph: Graph, node: Node, keep: Int) -> None:
        """Keep only the output channels *keep*: narrow constants and attributes, not tensors."""

    @staticmethod
    def drop_inputs(graph: Graph, node: Node, keep: Int, values: Int) -> None:
        """Keep only the input channels *keep* of a ``mix`` node.

        Args:
            graph: the integer graph.
            node: the node.
            keep: indices that stay.
            values: (channels,), the constant value of each channel that goes, 0 elsewhere; it is
                folded into the bias.
        """
        raise NotImplementedError(node.op)

    @staticmethod
    @abstractmethod
    def calls(graph: Graph, node: Node) -> tuple[Call, ...]:
        """The kernel calls of the layer, arguments and constant tables included."""

    @staticmethod
    def macs(graph: Graph, node: Node) -> int:
        """Multiply-accumulates of one inference."""
        return 0

    # -- tests --

    @staticmethod
    @abstractmethod
    def examples() -> Iterator[onnx.ModelProto]:
        """Small models that cover the op's attributes; every per-op test runs on each."""
