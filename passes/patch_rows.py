"""patch_rows: the first layers run band by band, so that only a band of their tensors is alive.

Networks for images need most memory at their beginning, where tensors have many rows. All layers
from the inputs up to some tensor, the *stage*, are computed for a few rows of that tensor, then for
the next ones: each band takes the input rows that it needs, and rows near its edges are computed
for both neighbours. The bits are those of the undivided layers; what it costs is that work.
Before: %b = conv(%a), %a = conv(%x). After, for two bands:
%a0 = conv(slice(%x)), %b0 = conv(%a0), %a1 = conv(slice(%x)), %b1 = conv(%a1),
%b = concat(%b0, %b1), where slice and concat are views without code.

Source: patch-based inference of J. Lin et al., "MCUNetV2: memory-efficient patch-based inference
for tiny deep learning", 2021. Here patches are whole rows, which are contiguous; where the stage
ends and in how many bands it runs is found by trying which fits a budget with the least work.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from qcc.errors import QccError
from qcc.ir import Graph, Node, Tensor
from qcc.ops import OPS, concat
from qcc.ops import slice as slice_op

_TRIALS = 30
"""Ways to divide whose memory is planned before the search gives up, ..."""

_MORE_TRIALS = 12
"""... and then, to say what the lowest arena would be."""

_ALIKE = 4
"""A division that needs n bytes less in its largest tensor than another takes at most so many
times n bytes less arena: that many tensors of one size live at once, scratch memory included."""

_WORD = 4
"""Bands begin at multiples of it where they can: parts at such addresses need no copy."""

Rows = tuple[int, int]
"""First row and the row after the last, of an NHWC tensor."""

Arena = Callable[[Graph], int]
"""Bytes of arena that a graph takes."""


@dataclass(frozen=True, slots=True)
class Bands:
    """How a graph was divided.

    Attributes:
        tensor: where the stage ends.
        count: number of bands.
        layers: layers of the stage.
        macs_again: multiply-accumulates that are done more than once.
        arena_before: bytes of arena of the undivided graph.
        parts: tensor of a band -> the tensor that it is rows of.
    """

    tensor: str
    count: int
    layers: int
    macs_again: int
    arena_before: int
    parts: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class _Division:
    """One way: the stage up to *tensor* in bands of *height* rows.

    ``estimate``: bytes that must live at once in the stage.
    """

    tensor: str
    stage: tuple[str, ...]
    height: int
    bands: tuple[Mapping[str, Rows], ...]
    macs_again: int
    estimate: int


def patch_rows(graph: Graph, budget: int, arena: Arena) -> Bands | None:
    """Divide the beginning of the integer *graph* so that its arena takes at most *budget* bytes.

    Of the ways that were found to fit, the one that repeats the least work is taken.

    Args:
        graph: rewritten in place.
        budget: bytes.
        arena: plans the memory of a graph.

    Returns:
        None where the undivided graph fits.

    Raises:
        QccError: nothing fits; it says what the lowest arena found was.
    """
    before = arena(graph)
    if before <= budget:
        return None
    trials = _Trials(graph, arena)
    divisions = _divisions(graph)
    for d in sorted(divisions, key=lambda d: (d.macs_again, d.estimate)):
        if trials.left and not trials.hopeless(d, budget) and trials.size(d) <= budget:
            parts = _divide(graph, d)
            count, layers = len(d.bands), len(d.stage)
            return Bands(d.tensor, count, layers, d.macs_again, before, parts)
    trials.left = _MORE_TRIALS
    for d in sorted(divisions, key=lambda d: (d.estimate, d.macs_again)):
        least = min((before, *trials.sizes.values()))
        if trials.left and d not in trials.sizes and not trials.hopeless(d, least - 1):
            trials.size(d)
    raise QccError(f"--ram-budget {budget}: {trials.lowest(before)}")


class _Trials:
    """Divisions whose memory was planned."""

    def __init__(self, graph: Graph, arena: Arena):
        self.graph, self.arena = graph, arena
        self.sizes: dict[_Division, int] = {}
        self.left = _TRIALS

    def size(self, d: _Division) -> int:
        """Bytes of arena of the graph divided by *d*."""
        self.left -= 1
        divided = copy.deepcopy(self.graph)
        _divide(divided, d)
        self.sizes[d] = self.arena(divided)
        return self.sizes[d]

    def hopeless(self, d: _Division, budget: int) -> bool:
        """The stage alone takes too much, or nearly the same division took far too much."""
        return d.estimate > budget or any(
            size - _ALIKE * max(0, other.estimate - d.estimate) > budget
            for other, size in self.sizes.items()
            if other.tensor == d.tensor
        )

    def lowest(self, before: int) -> str:
        """What the user can do."""
        hint = "use a smaller model or input, or fewer bits (--bits)"
        if not self.sizes:
            what = "no layers at the beginning of this model can run in bands of rows"
            return f"the arena takes {before} bytes, and {what}; {hint}"
        d, size = min(self.sizes.items(), key=lambda t: t[1])
        if size >= before:
            return f"the arena takes {before} bytes, and bands of rows do not lower it; {hint}"
        return (
            f"the lowest arena found takes {size} bytes, with the first {len(d.stage)} layers in "
            f"{len(d.bands)} bands of rows (undivided: {before}); {hint}"
        )


# -- ways to divide -------------------------------------------------------------------------------


def _divisions(graph: Graph) -> list[_Division]:
    """Every stage in bands of every useful height."""
    found: list[_Division] = []
    for tensor in graph.tensors():
        shape = tensor.shape
        stage = _stage(graph, tensor.name) if len(shape) == 4 else ()
        if len(stage) < 2 or shape[1] < 2:
            continue
        step = _WORD // math.gcd(_WORD, _row_bytes(graph, tensor.name))
        even = {-(-shape[1] // count) for count in range(2, shape[1] + 1)}
        for height in sorted({-(-h // step) * step for h in even}, reverse=True):
            starts = range(0, shape[1], height)
            bands = [
                _needed(graph, tensor.name, stage, (a, min(shape[1], a + height))) for a in starts
            ]
            whole = [b for b in bands if b is not None]
            if len(whole) == len(bands) > 1:
                found.append(
                    _Division(
                        tensor.name,
                        tuple(n.name for n in stage),
                        height,
                        tuple(whole),
                        _macs_again(graph, stage, whole),
                        _estimate(graph, tensor.name, stage, whole),
                    )
                )
    return found


def _stage(graph: Graph, tensor: str) -> tuple[Node, ...]:
    """All layers that *tensor* depends on, in order; none if they cannot run in bands."""
    wanted, names = [tensor], set[str]()
    while wanted:
        node = graph.producer(name := wanted.pop())
        if node is None or node.name in names or _is_input(graph, name):
            continue
        if not _by_rows(graph, node):
            return ()
        names.add(node.name)
        wanted += graph.activations(node)
    for name in names:
        out = graph.node(name).output
        leaves = out in graph.outputs or any(n.name not in names for n in graph.consumers(out))
        if out != tensor and leaves:
            return ()
    return tuple(n for n in graph.nodes() if n.name in names)


def _is_input(graph: Graph, tensor: str) -> bool:
    """Whether *tensor* is an input of the graph, or a reshape of one."""
    while (node := graph.producer(tensor)) is not None and OPS[node.op].alias:
        tensor = node.inputs[0]
    return tensor in graph.inputs


def _by_rows(graph: Graph, node: Node) -> bool:
    """Whether rows of the output are made from rows of the inputs."""
    y = graph.shape(node.output)
    inputs = [graph.shape(t) for t in graph.activations(node)]
    if len(y) != 4 or y[0] != 1 or any(len(x) != 4 for x in inputs):
        return False
    if OPS[node.op].elementwise:
        repeated = (graph.shape(t) for t in node.inputs if graph.is_constant(t))
        return all(x == y for x in inputs) and all(len(c) == 4 and c[1] == 1 for c in repeated)
    if node.op == "avg_pool2d":  # how many values a window at the border counts depends on its row
        return not node.attrs.pads[0] and not node.attrs.pads[2]
    return node.op in ("conv2d", "max_pool2d", "pad")


def _input_rows(graph: Graph, node: Node, rows: Rows) -> tuple[Rows, tuple[int, int]] | None:
    """(rows of the inputs that make *rows* of the output, padding above and below them).

    None where they are made of padding alone.
    """
    first, end = rows
    if OPS[node.op].elementwise:
        return rows, (0, 0)
    if node.op == "pad":
        low = first - node.attrs.pads[1][0]
        high = end - node.attrs.pads[1][0]
    else:
        a = node.attrs
        taps = graph.shape(node.inputs[1])[1] if node.op == "conv2d" else a.kernel[0]
        low = first * a.strides[0] - a.pads[0]
        high = (end - 1) * a.strides[0] - a.pads[0] + (taps - 1) * a.dilations[0] + 1
    size = graph.shape(node.inputs[0])[1]
    inside = max(0, low), min(size, high)
    if inside[0] >= inside[1]:
        return None
    return inside, (max(0, -low), max(0, high - size))


def _needed(graph: Graph, tensor: str, stage: Sequence[Node], rows: Rows) -> dict[str, Rows] | None:
    """Rows of every tensor of the stage that *rows* of its last one need."""
    needed = {tensor: rows}
    for node in reversed(stage):
        found = _input_rows(graph, node, needed[node.output])
        if found is None:
            return None
        for t in graph.activations(node):
            low, high = needed.get(t, found[0])
            needed[t] = min(low, found[0][0]), max(high, found[0][1])
    return needed


def _row_bytes(graph: Graph, tensor: str) -> int:
    width = graph.quant(tensor).qtype.storage_bits // 8
    return math.prod(graph.shape(tensor)[2:]) * width


def _macs_again(graph: Graph, stage: Sequence[Node], bands: Sequence[Mapping[str, Rows]]) -> int:
    total = 0
    for node in stage:
        rows = sum(band[node.output][1] - band[node.output][0] for band in bands)
        height = graph.shape(node.output)[1]
        total += OPS[node.op].macs(graph, node) * (rows - height) // height
    return total


def _estimate(
    graph: Graph, tensor: str, stage: Sequence[Node], bands: Sequence[Mapping[str, Rows]]
) -> int:
    """The last tensor, unless it is the caller's, and the largest part of another one."""
    inner = [n.output for n in stage if n.output != tensor]
    part = max(
        (band[t][1] - band[t][0]) * _row_bytes(graph, t) for band in bands[1:] for t in inner
    )
    whole = 0 if tensor in graph.outputs else graph.shape(tensor)[1] * _row_bytes(graph, tensor)
    return part + whole


# -- rewriting ------------------------------------------------------------------------------------


def _divide(graph: Graph, d: _Division) -> dict[str, str]:
    """Rewrite *graph*; tensor of a band -> the tensor that it is rows of."""
    stage = [graph.node(name) for name in d.stage]
    parts: dict[str, str] = {}
    last: list[str] = []
    for index, needed in enumerate(d.bands):
        band = _Band(graph, index, needed)
        for node in stage:
            parts[band.run(node)] = node.output
        last.append(band.tensors[d.tensor])
    graph.remove_node_keep_output(stage[-1])
    for node in reversed(stage[:-1]):
        graph.remove_node(node)
    name = graph.fresh(f"{_base(stage[-1])}:bands")
    graph.add_node(Node(name, "concat", tuple(last), (d.tensor,), concat.Attrs(1)))
    return parts


def _base(node: Node) -> str:
    return node.name.rsplit(":", 1)[0]


class _Band:
    """The layers of one band while they are added to the graph."""

    def __init__(self, graph: Graph, index: int, needed: Mapping[str, Rows]):
        self.graph, self.index, self.needed = graph, index, needed
        self.tensors: dict[str, str] = {}
        self.slices: dict[tuple[str, Rows], str] = {}

    def run(self, node: Node) -> str:
        """Add *node* for this band; its output."""
        graph, rows = self.graph, self.needed[node.output]
        found = _input_rows(graph, node, rows)
        assert found is not None
        inputs = [t if graph.is_constant(t) else self._rows(t, found[0]) for t in node.inputs]
        shape = graph.shape(node.output)
        name = f"{node.output} band {self.index}"
        out = self._tensor(name, node.output, (1, rows[1] - rows[0], *shape[2:]))
        self.tensors[node.output] = out
        attrs = _padded(node, found[1])
        label = graph.fresh(f"{_base(node)} band {self.index}:{node.op}")
        graph.add_node(Node(label, node.op, tuple(inputs), (out,), attrs, node.sources))
        return out

    def _rows(self, tensor: str, rows: Rows) -> str:
        """The tensor that holds *rows* of *tensor*."""
        first, end = (0, self.graph.shape(tensor)[1])
        held = tensor
        if tensor in self.tensors:
            held, (first, end) = self.tensors[tensor], self.needed[tensor]
        if (first, end) == rows:
            return held
        if (tensor, rows) not in self.slices:
            shape, size = self.graph.shape(held), rows[1] - rows[0]
            attrs = slice_op.part(shape, 1, rows[0] - first, size)
            label = f"{tensor} rows {rows[0]} to {rows[1] - 1}"
            out = self._tensor(label, tensor, attrs.sizes)
            node = Node(self.graph.fresh(f"{out}:slice"), "slice", (held,), (out,), attrs)
            self.graph.add_node(node)
            self.slices[tensor, rows] = out
        return self.slices[tensor, rows]

    def _tensor(self, name: str, like: str, shape: tuple[int, ...]) -> str:
        quant = self.graph.quant(like)
        return self.graph.add_tensor(Tensor(self.graph.fresh(name), shape, None, quant)).name


def _padded(node: Node, rows: tuple[int, int]) -> object:
    """The attributes of *node* with the padding of a band above and below."""
    if OPS[node.op].elementwise:
        return node.attrs
    pads = node.attrs.pads
    if node.op == "pad":
        return replace(node.attrs, pads=(pads[0], rows, *pads[2:]))
    return replace(node.attrs, pads=(rows[0], pads[1], rows[1], pads[3]))
