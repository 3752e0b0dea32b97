"""What the file writers need of a compiled model: plain values, no graph.

``codegen/lower.py`` makes a ``Program`` from the integer graph; the templates, the project files,
the manifest and the report are functions of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from qcc.ir import Array, QType, Quant, Shape
from qcc.ops.base import Call


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the model.

    Attributes:
        name: C identifier of the parameter.
        onnx_name: the model's own name, any text.
        shape: C memory order (NHWC for images), batch axis included.
        onnx_shape: the model's own order.
        perm: ``value_in_C = value_in_onnx.transpose(perm)``.
        layout: "NHWC", "NCHW", "NC", ... as held in C memory.
        quant: format and scale of the C values.
        offset: where in the arena the caller may put it; None: outside only.
    """

    name: str
    onnx_name: str
    shape: Shape
    onnx_shape: Shape
    perm: tuple[int, ...]
    layout: str
    quant: Quant
    offset: int | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def bytes(self) -> int:
        return self.size * self.quant.qtype.storage_bits // 8


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer that has code.

    Attributes:
        index: position in execution order, from 0.
        name: readable name, from the model.
        c_name: C identifier, unique in the program, without the model's prefix.
        op: IR operator.
        sources: ONNX nodes that it does the work of.
        calls: kernel calls.
        tables: suffix of a constant table in *calls* -> its C name, without the model's prefix;
            that of another layer's table where the two are equal.
        inputs, output: C expressions of the typed pointers passed to the layer function.
        input_types, output_type: their element formats.
        output_shape: C memory order.
        macs: multiply-accumulates.
        scale, zero_point: of the output, real = scale * (q - zero_point).
        weight_bytes: constant tables in flash that no layer before has.
        kernel, why: what computes it, for people (``qcc.codegen.variants.Variant``).
        instructions: of one inference, as the kernel's provider estimates.
        scratch_bytes, scratch: memory it needs while it runs, and the C expression of its pointer.
    """

    index: int
    name: str
    c_name: str
    op: str
    sources: tuple[str, ...]
    calls: tuple[Call, ...]
    inputs: tuple[str, ...]
    output: str
    input_types: tuple[QType, ...]
    output_type: QType
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    output_tensor: str
    scale: float
    macs: int
    weight_bytes: int
    weight_bits: int | None
    parameters: int
    scale_mode: str | None
    shift: tuple[int, ...] | None
    multiplier: tuple[int, ...] | None
    acc_bound: int | None
    zero_point: int = 0
    kernel: str = ""
    why: str = ""
    instructions: int = 0
    scratch_bytes: int = 0
    scratch: str = "NULL"
    tables: Mapping[str, str] = field(default_factory=dict[str, str])


BufferKind = Literal["tensor", "scratch", "input", "output"]


@dataclass(frozen=True, slots=True)
class Buffer:
    """What lies in the arena at [offset, offset + bytes) from layer *first* to *last*.

    An input or output of the model lies there only if the caller puts it there.

    Attributes:
        over: (tensor, lead) of those that end at layer *first* and that this one may lie over,
            where they begin at least *lead* bytes above it.
    """

    tensor: str
    offset: int
    bytes: int
    first: int
    last: int
    kind: BufferKind = "tensor"
    over: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Banding:
    """The first layers run in bands of rows (``qcc.passes.patch_rows``).

    Attributes:
        count: number of bands.
        layers: how many layers of the undivided model run so.
        until: what the last of them makes.
        macs_again: multiply-accumulates that are done more than once.
        arena_before: bytes of arena of the undivided model.
    """

    count: int
    layers: int
    until: str
    macs_again: int
    arena_before: int


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled model.

    Attributes:
        name: C prefix.
        title: the model's file name.
        inputs, outputs: ports, ONNX order.
        layers: in execution order.
        buffers: the memory plan.
        arena_bytes, arena_align: what the caller provides.
        arena_bound: proved: no plan for this order of layers is smaller.
        arena_bound_any_order: no plan for any order is smaller; None if that was not found out.
        macs_before: multiply-accumulates before constant channels were removed.
    """

    name: str
    title: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    layers: tuple[Layer, ...]
    buffers: tuple[Buffer, ...]
    arena_bytes: int
    arena_align: int
    arena_bound: int
    macs_before: int
    parameters_before: int
    weight_bytes_before: int
    notes: tuple[str, ...] = ()
    arena_bound_any_order: int | None = None
    bands: Banding | None = None

    @property
    def ports_in_arena(self) -> tuple[Port, ...]:
        """The inputs and outputs that may lie in the arena."""
        return tuple(p for p in (*self.inputs, *self.outputs) if p.offset is not None)

    @property
    def arena_proof(self) -> str:
        """How good the memory plan is, for people."""
        if self.arena_bytes == self.arena_bound_any_order:
            return "proved optimal, in any order of the layers"
        if self.arena_bytes == self.arena_bound:
            return "proved optimal for this order of the layers"
        gap = self.arena_bytes - self.arena_bound
        return f"{gap:,} above the lower bound of {self.arena_bound:,}"

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def macs_once(self) -> int:
        """Multiply-accumulates without those that bands of rows repeat."""
        return self.macs - (self.bands.macs_again if self.bands else 0)

    @property
    def weight_bytes(self) -> int:
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Vectors:
    """What ``check/`` compares with: integer samples and what the reference makes of them.

    Attributes:
        inputs: per input port, (samples, *shape).
        outputs: per output port, (samples, *shape).
        layers: output of every layer for the first sample, in layer order.
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    layers: tuple[Array, ...] = field(default_factory=tuple)

    @property
    def samples(self) -> int:
        return len(self.inputs[0])
