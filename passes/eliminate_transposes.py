"""eliminate_transposes: as few transposes as the operators allow, for NCHW and NHWC models alike.

The frontend reads an NCHW convolution as transpose -> conv2d (NHWC) -> transpose. Here everything
between two convolutions moves to their layout, graph inputs and outputs included; a dense layer
after a flattening takes its columns in the new order. ``passes/layouts.py`` chooses the layouts.
"""

from __future__ import annotations

import math

import numpy as np

from qcc.config import Config
from qcc.ir import Graph, Int, Node, Origin, Shape, Tensor
from qcc.ops import OPS, reshape, transpose
from qcc.ops.transpose import compose, inverse, moves
from qcc.passes.eliminate_identities import eliminate_identities
from qcc.passes.layouts import (
    Item,
    Layout,
    Perm,
    Problem,
    Read,
    absorbing_layers,
    choose,
    copy_cost,
    identity,
    offer,
    state,
    through_reshape,
    with_ones,
)
from qcc.passes.sink_reshapes import adopt, sink_reshapes


def eliminate_transposes(graph: Graph, config: Config) -> int:
    """Change layouts so that fewer elements are moved; returns the number of changes.

    There are never more transposes afterwards. A graph input or output whose layout changed keeps
    its name; ``Tensor.origin`` says how it lies in memory.

    Before: a = transpose(x) (0, 2, 3, 1); b = conv2d(a); y = transpose(b) (0, 3, 1, 2).
    After:  y = conv2d(x), x and y in NHWC.
    """
    changes = _tidy(graph, config)
    while _improve(graph):  # every round costs less, and may show the next one more
        changes += 1 + _tidy(graph, config)
    return changes


def _improve(graph: Graph) -> bool:
    problem = state(graph)
    offer(problem)
    choose(problem)
    if problem.cost() >= sum(_cost(graph, node) for node in problem.transposes):
        return False
    _Rewrite(problem).run()
    return True


def _tidy(graph: Graph, config: Config) -> int:
    """Bring reshapes to where they vanish; each step makes room for the other."""
    total = 0
    while changes := sink_reshapes(graph) + eliminate_identities(graph, config):
        total += changes
    return total


def _cost(graph: Graph, node: Node) -> int:
    x = graph.shape(node.inputs[0])
    return copy_cost(x) if moves(node.attrs.perm, x) else 0


class _Rewrite:
    """Carries out the choice of a problem: every transpose is made anew where one is needed."""

    def __init__(self, problem: Problem) -> None:
        self.p, self.graph = problem, problem.graph
        # Before anything moves; the tensors change theirs in place.
        self.shapes: dict[str, Shape] = {t.name: t.shape for t in self.graph.tensors()}
        self.origins: dict[str, Origin | None] = {t.name: t.origin for t in self.graph.tensors()}
        self.sources = _source_shapes(self.graph)
        self.layout: dict[str, Perm] = {}  # root -> the layout that its writer took
        self.copies: dict[tuple[str, Perm], str] = {}
        self.kept: set[str] = set()  # old transposes that have a new purpose
        self.outputs: list[str] = []
        self.nameless: list[tuple[str, str, Origin | None]] = []  # new output, old one, its origin

    def run(self) -> None:
        for item in self.p.items:
            if item.node is not None:
                self._rewrite(item, item.node)
            elif item.writes is not None:
                self._set_layout(item.writes, self.p.out(item, item.chosen))
            else:
                self._output(item, self.graph.outputs[len(self.outputs)])
        names = self.graph.outputs
        self.graph.outputs = self.outputs
        gone = [n for n in self.p.transposes if n.name not in self.kept]
        tensors = [self.graph.tensor(n.output) for n in gone]
        for node in reversed(gone):
            self.graph.remove_node(node)
        for t, name, origin in self.nameless:
            if name in self.graph:  # kept for another purpose: no name to adopt
                self.graph.tensor(t).origin = origin
        # Who loses an output of the model takes its name rather than any other.
        for view in sorted(tensors, key=lambda t: t.name not in names):
            self._adopt(view, self.p.views[view.name])

    # -- nodes ------------------------------------------------------------------------------------

    def _rewrite(self, item: Item, node: Node) -> None:
        layout = item.options[item.chosen] if item.options is not None else None
        reads = iter(item.reads)
        inputs: list[str] = []
        for name in node.inputs:
            if self.graph.is_constant(name):
                inputs.append(self._constant(name, layout))
            else:
                read = next(reads)
                inputs.append(self._obtain(read.root, self.p.need(item, item.chosen, read.perm)))
        if layout is not None:
            self._set_attributes(node, layout)
        old = node.inputs
        self.graph.set_inputs(node, inputs)
        for name in old:
            self.graph.remove_if_unused(name)
        self._set_layout(node.output, self.p.out(item, item.chosen))

    def _constant(self, name: str, layout: Layout | None) -> str:
        """A constant operand of full rank moves with the activations; others name no axis."""
        t = self.graph.tensor(name)
        if layout is None or t.data is None or len(t.shape) != len(layout.ins):
            return name
        if not moves(layout.ins, t.shape) and t.data.transpose(layout.ins).shape == t.shape:
            return name
        data = np.ascontiguousarray(t.data.transpose(layout.ins))
        return self.graph.add_constant(f"{name}.transpose", data, t.quant)

    def _set_attributes(self, node: Node, layout: Layout) -> None:
        if node.op == "reshape":
            x, y = self.shapes[node.inputs[0]], self.shapes[node.output]
            if through_reshape(x, y, layout.ins) is None:
                self._reorder_columns(node, _flattened(x, layout.ins))
            node.attrs = reshape.Attrs(tuple(y[a] for a in layout.out))
        elif layout.ins != identity(len(layout.ins)):
            perm = inverse(layout.ins)
            node.attrs = OPS[node.op].permute(node.attrs, perm, len(perm))

    def _reorder_columns(self, node: Node, order: Int) -> None:
        """Let the dense layers after the flattening *node* take its elements in *order*."""
        self.graph.tensor(node.output).origin = None  # the source model has another order
        for layer in absorbing_layers(self.graph, node):
            w = self.graph.tensor(layer.inputs[1])
            assert w.data is not None
            data = np.ascontiguousarray(w.data[:, order])
            moved = self.graph.add_constant(f"{w.name}.columns", data, w.quant)
            self.graph.set_inputs(layer, (layer.inputs[0], moved, *layer.inputs[2:]))
            self.graph.remove_if_unused(w.name)

    # -- tensors ----------------------------------------------------------------------------------

    def _set_layout(self, name: str, perm: Perm) -> None:
        self.layout[name] = perm
        t = self.graph.tensor(name)
        t.origin = self._moved(t.origin, t.shape, perm)
        t.shape = tuple(t.shape[a] for a in perm)

    def _obtain(self, root: str, need: Perm) -> str:
        """The tensor that holds ``root.transpose(need)``, in terms of the old root."""
        perm = compose(inverse(self.layout[root]), need)
        if perm == identity(len(perm)):
            return root
        if (root, need) not in self.copies:
            self.copies[root, need] = self._copy(root, need, perm)
        return self.copies[root, need]

    def _copy(self, root: str, need: Perm, perm: Perm) -> str:
        """A transpose of the present root by *perm*; a reshape where that moves no element."""
        x = self.graph.tensor(root)
        attrs: transpose.Attrs | reshape.Attrs = transpose.Attrs(perm)
        op, source = "transpose", root
        if not moves(perm, x.shape):
            op, attrs = "reshape", reshape.Attrs(tuple(x.shape[a] for a in perm))
        elif (twin := self._twin(root, need)) is not None:
            op, attrs = "reshape", reshape.Attrs(tuple(x.shape[a] for a in perm))
            source = twin
        for node in self.p.transposes:
            if self.p.views[node.output] == Read(root, need) and node.name not in self.kept:
                self.kept.add(node.name)
                self.graph.set_inputs(node, (source,))
                node.op, node.attrs = op, attrs
                return node.output
        y = Tensor(self.graph.fresh(f"{root}.{op}"), tuple(x.shape[a] for a in perm), quant=x.quant)
        y.origin = self._moved(x.origin, x.shape, perm)
        self.graph.add_tensor(y)
        name = self.graph.fresh(f"{y.name}:{op}")
        self.graph.add_node(Node(name, op, (source,), (y.name,), attrs))
        return y.name

    def _twin(self, root: str, need: Perm) -> str | None:
        """A copy of *root* that differs from the one wanted in axes of size 1 only."""
        shape = self.shapes[root]
        wanted = [p for p in need if shape[p] != 1]
        for (other, perm), name in self.copies.items():
            if other == root and [p for p in perm if shape[p] != 1] == wanted:
                return name
        return None

    def _output(self, item: Item, name: str) -> None:
        (read,) = item.reads
        t = self._obtain(read.root, self.p.need(item, item.chosen, read.perm))
        self.outputs.append(t)
        if t == name and item.options is None:
            return
        perm = item.options[item.chosen].ins if item.options else identity(len(read.perm))
        origin = self._moved(self.origins[name], self.shapes[name], perm)
        if t == read.root and self.graph.tensor(t).origin is None:
            self.nameless.append((t, name, origin))
        elif name != t:
            self.graph.tensor(t).origin = origin

    def _adopt(self, view: Tensor, read: Read) -> None:
        """Give a nameless root the name of *view*, a transpose of it that is gone."""
        if read.root not in self.graph:
            return  # it has a name by now
        perm = compose(inverse(read.perm), self.layout[read.root])
        adopt(self.graph, read.root, view.name, self._moved(view.origin, view.shape, perm))

    def _moved(self, origin: Origin | None, shape: Shape, perm: Perm) -> Origin | None:
        """The origin of a tensor of *shape* after a transpose by *perm*; None where unknown.

        With a rank unlike its source's, the tensor is a reshape of it, which is followed as far as
        it only adds or drops axes of size 1.
        """
        if origin is None or len(origin.perm) == len(perm):
            return origin and origin.transposed(perm)
        source = self.sources.get(origin.name, ())
        if len(source) != len(origin.perm):
            return None
        old = [a for a in origin.perm if source[a] != 1]
        new = [i for i, n in enumerate(shape) if n != 1]
        if [source[a] for a in old] != [shape[i] for i in new]:
            return None
        at = dict(zip(new, old, strict=True))
        return Origin(origin.name, with_ones(source, [at[i] for i in perm if i in at]))


def _source_shapes(graph: Graph) -> dict[str, Shape]:
    """Shapes in the source model, of what the graph still has in some layout."""
    shapes: dict[str, Shape] = {}
    for t in graph.tensors():
        if t.origin is not None and len(t.origin.perm) == len(t.shape):
            shapes[t.origin.name] = tuple(t.shape[a] for a in inverse(t.origin.perm))
    return shapes


def _flattened(shape: Shape, perm: Perm) -> Int:
    """Element numbers of a tensor of *shape*, in the order in which *perm* leaves them."""
    return np.arange(math.prod(shape), dtype=np.int64).reshape(shape).transpose(perm).ravel()
