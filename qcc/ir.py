"""The graph that every stage reads and rewrites.

A ``Graph`` is a bipartite networkx digraph, tensor -> node -> tensor. Names are the graph's
vertices; the typed ``Node`` and ``Tensor`` objects hang on them. ``Node.inputs`` and
``Node.outputs`` are the truth (order, repetition); edges follow from them.

Shapes are complete (they include the batch axis, which is 1); images are NHWC, convolution
weights (out, height, width, in). The reference adds one leading axis of samples to every array.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt

from qcc.errors import short

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int64]
Shape = tuple[int, ...]


class IRError(ValueError):
    """A graph breaks an invariant of the IR."""


@dataclass(frozen=True, slots=True)
class QType:
    """An integer format: *bits* in 1..8 or 16 for data, 32 or 64 for accumulators.

    What qcc quantizes itself is *narrow*: the signed range is symmetric, so that a value and its
    opposite both exist. Imported formats may use the full range.
    """

    bits: int
    signed: bool = True
    narrow: bool = True

    @property
    def qmin(self) -> int:
        if not self.signed:
            return 0
        if self.bits == 1:
            return -1
        return -(1 << (self.bits - 1)) + int(self.narrow)

    @property
    def qmax(self) -> int:
        if self.bits == 1:
            return 1
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def storage_bits(self) -> int:
        """Bits of the C type that holds one value: 8, 16, 32 or 64."""
        return next(width for width in (8, 16, 32, 64) if self.bits <= width)

    @property
    def dtype(self) -> str:
        """The numpy name of the storage type, as in the manifest: int8, uint8, int16, ..."""
        return f"{'' if self.signed else 'u'}int{self.storage_bits}"

    @property
    def ctype(self) -> str:
        """The C99 exact-width type that holds one value."""
        return f"{self.dtype}_t"

    def __str__(self) -> str:
        return f"{'i' if self.signed else 'u'}{self.bits}"


INT32 = QType(32, narrow=False)
INT64 = QType(64, narrow=False)


@dataclass(frozen=True, slots=True)
class Quant:
    """real = scale * (q - zero_point); *scale* has one entry, or one per index of *axis*."""

    qtype: QType
    scale: float | tuple[float, ...]
    zero_point: int = 0
    axis: int | None = None

    @property
    def scalar(self) -> float:
        """The one scale of a per-tensor format."""
        if isinstance(self.scale, tuple):
            raise IRError("a per-channel scale where one scale is needed")
        return self.scale

    def __str__(self) -> str:
        if isinstance(self.scale, tuple):
            return f"{self.qtype}*[{len(self.scale)} scales]@{self.axis}"
        zero = f"-{self.zero_point}" if self.zero_point else ""
        return f"{self.qtype}{zero}*{self.scale:.6g}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tensor's float value can be seen in the source model.

    The value is ``source[name].transpose(perm).reshape(tensor.shape)``.
    """

    name: str
    perm: tuple[int, ...]

    def transposed(self, perm: Sequence[int]) -> Origin:
        """The origin of this value after one more transpose by *perm*."""
        return Origin(self.name, tuple(self.perm[p] for p in perm))


@dataclass(slots=True)
class Tensor:
    """A value; *data* is set for constants, *quant* once the tensor is integer."""

    name: str
    shape: Shape
    data: Array | None = None
    quant: Quant | None = None
    origin: Origin | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(slots=True)
class Node:
    """One operation; *attrs* is the op's own frozen dataclass, *sources* the ONNX nodes it does."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Any = None
    sources: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """The one output: every operator of the IR has exactly one."""
        (name,) = self.outputs
        return name

    def update(self, **changes: Any) -> None:
        """Replace fields of the attributes."""
        self.attrs = dataclasses.replace(self.attrs, **changes)


@dataclass(slots=True)
class Graph:
    """A model: one dataflow graph and its ordered inputs and outputs."""

    name: str
    inputs: list[str] = field(default_factory=list[str])
    outputs: list[str] = field(default_factory=list[str])
    _g: nx.DiGraph[str] = field(default_factory=lambda: nx.DiGraph())
    _order: list[str] | None = None

    # -- building -----------------------------------------------------------------------------

    def add_tensor(self, tensor: Tensor) -> Tensor:
        if tensor.name in self._g:
            raise IRError(f"tensor {short(tensor.name)!r}: the name is taken")
        self._g.add_node(tensor.name, item=tensor)
        return tensor

    def add_node(self, node: Node) -> Node:
        if node.name in self._g:
            raise IRError(f"node {short(node.name)!r}: the name is taken")
        self._g.add_node(node.name, item=node)
        self._connect(node)
        return node

    def add_constant(self, name: str, data: Array, quant: Quant | None = None) -> str:
        """A constant under *name*, or under a fresh name made from it."""
        return self.add_tensor(Tensor(self.fresh(name), data.shape, data, quant)).name

    def fresh(self, name: str) -> str:
        """*name* if it is free, else the first free ``name.N``."""
        if name not in self._g:
            return name
        n = 1
        while f"{name}.{n}" in self._g:
            n += 1
        return f"{name}.{n}"

    def _connect(self, node: Node) -> None:
        self._order = None
        self._g.add_edges_from((t, node.name) for t in node.inputs)
        self._g.add_edges_from((node.name, t) for t in node.outputs)

    # -- rewriting ----------------------------------------------------------------------------

    def set_inputs(self, node: Node, inputs: Sequence[str]) -> None:
        """Connect *node* to other inputs; tensors that nothing reads any more stay."""
        self._g.remove_edges_from([(t, node.name) for t in set(node.inputs)])
        node.inputs = tuple(inputs)
        self._connect(node)

    def set_output(self, node: Node, output: str) -> None:
        """Let *node* write *output* instead."""
        self._g.remove_edges_from([(node.name, t) for t in node.outputs])
        node.outputs = (output,)
        self._connect(node)

    def replace_uses(self, old: str, new: str) -> None:
        """Every reader of tensor *old*, graph outputs included, reads *new* instead."""
        for node in self.consumers(old):
            self.set_inputs(node, [new if t == old else t for t in node.inputs])
        self.outputs = [new if t == old else t for t in self.outputs]

    def remove_node(self, node: Node) -> None:
        """Remove *node* and the tensors that nothing uses after that."""
        self._order = None
        self._g.remove_node(node.name)
        for name in {*node.inputs, *node.outputs}:
            self.remove_if_unused(name)

    def remove_node_keep_output(self, node: Node) -> None:
        """Remove *node*; its output tensor stays, for another node to write."""
        self._order = None
        self._g.remove_node(node.name)
        for name in set(node.inputs):
            self.remove_if_unused(name)

    def remove_if_unused(self, tensor: str) -> bool:
        """Remove *tensor* if no node touches it and it is no input or output of the graph."""
        used = tensor in self.inputs or tensor in self.outputs
        if used or tensor not in self._g or self._g.degree(tensor):
            return False
        self._g.remove_node(tensor)
        return True

    # -- reading ------------------------------------------------------------------------------

    def __contains__(self, name: str) -> bool:
        return name in self._g

    def tensor(self, name: str) -> Tensor:
        item = self._g.nodes[name]["item"]
        assert isinstance(item, Tensor)
        return item

    def node(self, name: str) -> Node:
        item = self._g.nodes[name]["item"]
        assert isinstance(item, Node)
        return item

    def shape(self, name: str) -> Shape:
        return self.tensor(name).shape

    def quant(self, name: str) -> Quant:
        """The quantization of tensor *name*, which has one by now."""
        if (quant := self.tensor(name).quant) is None:
            raise IRError(f"tensor {short(name)!r}: not quantized yet")
        return quant

    def constant(self, name: str) -> Array:
        """The data of tensor *name*, which is a constant."""
        if (data := self.tensor(name).data) is None:
            raise IRError(f"tensor {short(name)!r}: not a constant")
        return data

    def is_constant(self, name: str) -> bool:
        return self.tensor(name).data is not None

    def activations(self, node: Node) -> tuple[str, ...]:
        """The inputs of *node* that are not constants, in order."""
        return tuple(t for t in node.inputs if not self.is_constant(t))

    def nodes(self) -> Iterator[Node]:
        """Nodes in execution order; ties are broken by first appearance, so it is stable.

        Safe while the caller adds or removes nodes: it walks the order of the first call and
        skips nodes that are gone.
        """
        if self._order is None:
            rank = {name: i for i, name in enumerate(self._g)}
            self._order = list(nx.lexicographical_topological_sort(self._g, key=rank.__getitem__))
        for name in self._order:
            if name in self._g and isinstance(self._g.nodes[name]["item"], Node):
                yield self.node(name)

    def tensors(self) -> Iterator[Tensor]:
        """Tensors in the order in which they were added."""
        for name in list(self._g):
            if name in self._g and isinstance(self._g.nodes[name]["item"], Tensor):
                yield self.tensor(name)

    def producer(self, tensor: str) -> Node | None:
        for name in self._g.predecessors(tensor):
            return self.node(name)
        return None

    def consumers(self, tensor: str) -> list[Node]:
        """The nodes that read *tensor*, each once, in the order in which they were connected."""
        return [self.node(n) for n in self._g.successors(tensor)]

    def sole_consumer(self, tensor: str) -> Node | None:
        """The only reader of *tensor*, if it has exactly one and is no output of the graph."""
        readers = self.consumers(tensor)
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    # -- checking and printing ----------------------------------------------------------------

    def verify(self) -> None:
        """Check every invariant; called between passes.

        Raises:
            IRError: naming the node or tensor at fault.
        """
        from qcc.ops import OPS  # the ops know the IR, not the reverse

        if not nx.is_directed_acyclic_graph(self._g):
            raise IRError(f"graph {short(self.name)!r}: it has a cycle")
        for t in self.tensors():
            if self._g.in_degree(t.name) > 1:
                raise IRError(f"tensor {short(t.name)!r}: written by more than one node")
            if t.data is not None and t.data.shape != t.shape:
                raise IRError(f"tensor {short(t.name)!r}: data {t.data.shape}, not {t.shape}")
            if t.data is not None and t.quant is not None:
                q = t.quant.qtype
                outside = t.data.size and (t.data.min() < q.qmin or t.data.max() > q.qmax)
                if t.data.dtype.kind not in "iu" or outside:
                    raise IRError(f"tensor {short(t.name)!r}: data outside {q}")
        for n in self.nodes():
            if n.op not in OPS:
                raise IRError(f"node {short(n.name)!r}: unknown op {n.op!r}")
            for name in n.inputs:
                known = name in self.inputs or self.producer(name)
                if self.tensor(name).data is None and not known:
                    raise IRError(f"node {short(n.name)!r}: nothing writes input {short(name)!r}")
            shape = OPS[n.op].infer(n.attrs, [self.shape(t) for t in n.inputs])
            if shape != self.shape(n.output):
                found = self.shape(n.output)
                raise IRError(f"node {short(n.name)!r}: output {found} should have shape {shape}")
        for name in self.outputs:
            if name not in self._g:
                raise IRError(f"output {short(name)!r}: the tensor is gone")

    def __str__(self) -> str:
        """The stable text that golden tests compare and ``--dump-ir`` writes."""

        def value(name: str) -> str:
            t = self.tensor(name)
            sigil = "%" if t.data is None else "@"
            shape = "x".join(map(str, t.shape)) or "scalar"
            return f"{sigil}{name}:{shape}{f'<{t.quant}>' if t.quant else ''}"

        lines = [f"graph {self.name}({', '.join(map(value, self.inputs))}) {{"]
        for n in self.nodes():
            attrs = f" {n.attrs}" if n.attrs is not None else ""
            args = ", ".join(map(value, n.inputs))
            lines.append(f"  {', '.join(map(value, n.outputs))} = {n.op}({args}){attrs}")
        return "\n".join([*lines, f"  return {', '.join('%' + o for o in self.outputs)}", "}"])
