"""assign_scales: a format and a scale for every activation.

1. Sign: interval analysis on the float graph; what cannot be negative is unsigned.
2. Groups: tensors that an operator only moves between (``same_scale``) share format and scale.
3. Thresholds: per group, from the histograms.
4. In the shift modes, groups whose scales meet in an operator without weights (add, mean, mul)
   form a class: their scales differ by powers of two (and known factors such as 1/count), so that
   the operator needs a shift only. The class's common fraction, and for every group the power of
   two above or below its threshold, are chosen by the least squared error over the histograms.

Source: docs/method.md; the method descends from N2D2's branch handling, where a ratio other than
a power of two costs a multiplier per element.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from qcc.config import Config
from qcc.histogram import Histogram, mse, threshold
from qcc.ir import Graph, Node, QType, Quant, Tensor
from qcc.ops import OPS
from qcc.passes.choose_widths import choose_widths
from qcc.passes.input_formats import choose_format, make_padding_explicit

FloatRange = tuple[float, float]


def assign_scales(graph: Graph, config: Config, stats: Mapping[str, Histogram]) -> int:
    """Set ``Tensor.quant`` of every activation; returns how many."""
    isolate_fixed_formats(graph)
    isolate_small_operands(graph, stats)
    bits = choose_widths(graph, config).activations
    groups = _make_groups(graph, config, bits, _float_ranges(graph, stats), stats)
    if config.scale == "fixed-point":
        for g in groups:
            g.scale = g.scale or g.wanted
    else:
        _choose_by_class(graph, groups)
    for g in groups:
        assert g.scale is not None
        if g.zero_point:
            g.tensors += make_padding_explicit(graph, g.tensors)
        for t in g.tensors:
            graph.tensor(t).quant = Quant(g.qtype, g.scale, g.zero_point)
    return sum(len(g.tensors) for g in groups)


# -- signs ----------------------------------------------------------------------------------------


def _float_ranges(graph: Graph, stats: Mapping[str, Histogram]) -> dict[str, FloatRange]:
    """Sound bounds of every tensor; a graph input's lower bound is 0 if no sample went below."""
    ranges: dict[str, FloatRange] = {}
    for t in graph.tensors():
        if t.data is not None and t.data.size:
            ranges[t.name] = float(t.data.min()), float(t.data.max())
    for name in graph.inputs:
        nonnegative = name in stats and stats[name].count and stats[name].min >= 0
        ranges[name] = (0.0 if nonnegative else -math.inf), math.inf
    for node in graph.nodes():
        if node.output not in ranges:
            inputs = [ranges[x] for x in node.inputs]
            ranges[node.output] = OPS[node.op].range(node.attrs, inputs)
    return ranges


# -- groups ---------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Group:
    """Tensors that share one Quant.

    Attributes:
        wanted: the scale that the threshold asks for.
        scale: the scale chosen; set from the start where it is given (inputs, softmax).
    """

    tensors: list[str]
    qtype: QType
    wanted: float
    scale: float | None
    stats: list[Histogram]
    zero_point: int = 0

    def error(self, scale: float) -> float:
        """Squared error at *scale*, relative to the signal; 0 for an empty histogram."""
        power = sum(h.squares for h in self.stats)
        if power == 0:
            return 0.0
        return float(sum(mse(h, scale, self.qtype) * h.count for h in self.stats) / power)


def isolate_fixed_formats(graph: Graph) -> None:
    """Give every tensor whose format its operator dictates a group of its own.

    Before: concat(softmax(a), b).  After: concat(unary(softmax(a)), b), the unary an identity that
    rescales by its table.
    """
    for node in list(graph.nodes()):
        if OPS[node.op].output_scale(graph, node, 8) is None:
            continue
        views = [node.output]
        for x in views:
            for c in graph.consumers(x):
                if _merges(graph, c):
                    _rescale(graph, x, c)
                elif OPS[c.op].same_scale:
                    views.append(c.output)


_SMALL = 1 / 8
"""A tensor whose range is below this part of what it is merged into would lose three bits."""


def isolate_small_operands(graph: Graph, stats: Mapping[str, Histogram]) -> None:
    """Let a small tensor keep a scale of its own where others read it than a merge with large ones.

    Before: concat(x, big), conv2d(x).  After: concat(unary(x), big), conv2d(x), the unary an
    identity that rescales.
    """
    for node in list(graph.nodes()):
        if not _merges(graph, node) or not (whole := stats.get(node.output)):
            continue
        for x in dict.fromkeys(graph.activations(node)):
            hist = stats.get(x)
            if not hist or not 0.0 < hist.peak < whole.peak * _SMALL:
                continue
            if _read_elsewhere(graph, x, node):
                _rescale(graph, x, node)


def _read_elsewhere(graph: Graph, tensor: str, node: Node) -> bool:
    """Whether others than *node* read *tensor*, or what it is a view of."""
    if tensor in graph.outputs or any(c is not node for c in graph.consumers(tensor)):
        return True
    producer = graph.producer(tensor)
    if producer is None or not OPS[producer.op].same_scale or len(producer.inputs) > 1:
        return False
    return _read_elsewhere(graph, producer.inputs[0], producer)


def _rescale(graph: Graph, tensor: str, reader: Node) -> None:
    """Let *reader* read a copy of *tensor* that has a scale of its own."""
    from qcc.functions import Var
    from qcc.ops.unary import Attrs

    t, producer = graph.tensor(tensor), graph.producer(tensor)
    copy = graph.add_tensor(Tensor(graph.fresh(f"{tensor}.rescaled"), t.shape, origin=t.origin))
    name = graph.fresh(f"{producer.name if producer else tensor}:rescale")
    sources = producer.sources if producer else ()
    graph.add_node(Node(name, "unary", (tensor,), (copy.name,), Attrs(Var()), sources))
    graph.set_inputs(reader, [copy.name if x == tensor else x for x in reader.inputs])


def _merges(graph: Graph, node: Node) -> bool:
    return OPS[node.op].same_scale and len(node.inputs) > 1


def _make_groups(
    graph: Graph,
    config: Config,
    bits: Mapping[str, int],
    ranges: Mapping[str, FloatRange],
    stats: Mapping[str, Histogram],
) -> list[Group]:
    parent = {t.name: t.name for t in graph.tensors() if t.data is None}

    def find(t: str) -> str:
        while parent[t] != t:
            t = parent[t]
        return t

    for node in graph.nodes():
        if OPS[node.op].same_scale:
            for x in graph.activations(node):
                parent[find(node.output)] = find(x)
    members: dict[str, list[str]] = {}
    for t in parent:
        members.setdefault(find(t), []).append(t)
    return [
        _group(graph, config, names, max(bits[t] for t in names), ranges, stats)
        for names in members.values()
    ]


def _group(
    graph: Graph,
    config: Config,
    names: list[str],
    bits: int,
    ranges: Mapping[str, FloatRange],
    stats: Mapping[str, Histogram],
) -> Group:
    for t in names:
        if t in graph.inputs and t in stats and len(_sources(graph, names)) == 1:
            f = choose_format(graph, config, t, bits, stats[t])
            return Group(names, f.qtype, f.scale, f.scale, [], f.zero_point)
    signed = bits == 16 or any(ranges[t][0] < 0 for t in names)
    for t in names:
        producer = graph.producer(t)
        fixed = producer and OPS[producer.op].output_scale(graph, producer, bits)
        if fixed:
            scale, fixed_signed = fixed
            return Group(names, QType(bits, fixed_signed), scale, scale, [])
    qtype = QType(max(bits, 2) if signed else bits, signed)
    known = [(t, stats[t]) for t in names if t in stats and stats[t].count]
    peak = 0.0
    for t, hist in known:
        if (hist.peak if signed else hist.max) <= 0.0:
            continue  # always zero: any scale will do, so the other tensors choose
        exact = t in graph.inputs or t in graph.outputs
        method = "max" if exact else config.threshold
        peak = max(peak, threshold(hist, method, qtype, config.percentile))
    wanted = (peak or 1.0) / qtype.qmax
    given = wanted if any(t in graph.inputs for t in names) else None
    return Group(names, qtype, wanted, given, [hist for _, hist in known])


def _sources(graph: Graph, names: list[str]) -> list[str]:
    """The tensors of a group that are not copies of others in it."""
    return [t for t in names if (p := graph.producer(t)) is None or not OPS[p.op].same_scale]


# -- classes of the shift modes -------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Class:
    """Groups whose scales are base * factor * 2**k, k chosen per group."""

    factors: dict[int, float] = field(default_factory=dict[int, float])  # group index -> factor
    base: float | None = None


def _choose_by_class(graph: Graph, groups: list[Group]) -> None:
    of = {t: i for i, g in enumerate(groups) for t in g.tensors}
    class_of = {i: _Class({i: 1.0}, g.scale) for i, g in enumerate(groups)}
    products: list[tuple[int, list[int], float]] = []
    for node in graph.nodes():
        relation = OPS[node.op].relation(graph, node)
        if relation is None:
            continue
        y, xs = of[node.output], [of[x] for x in graph.activations(node)]
        if relation.kind == "product":
            products.append((y, xs, relation.factor))
            continue
        for x in xs:
            _join(class_of, x, y, relation.factor)
    # A product's output takes its fraction from its inputs, so those are settled first.
    for y, xs, factor in products:
        base = factor
        for x in xs:
            _settle(groups, class_of[x])
            base *= groups[x].scale or 1.0
        target = class_of[y]
        if len(xs) > 1 and target.base is None and groups[y].scale is None:
            target.base = base / target.factors[y]
    for c in dict.fromkeys(class_of.values()):
        _settle(groups, c)


def _join(class_of: dict[int, _Class], x: int, y: int, factor: float) -> None:
    """Demand scale[y] = factor * scale[x] * 2**k; skipped where both are given already."""
    a, b = class_of[x], class_of[y]
    if a is b or (a.base is not None and b.base is not None):
        return
    ratio = a.factors[x] * factor / b.factors[y]  # b's unit in a's
    if a.base is None and b.base is not None:
        a.base = b.base / ratio
    for i, f in b.factors.items():
        a.factors[i] = f * ratio
        class_of[i] = a


def _settle(groups: list[Group], c: _Class) -> None:
    """Choose the scales of all groups of a class."""
    todo = [i for i in c.factors if groups[i].scale is None]
    if not todo:
        return
    if c.base is None and len(c.factors) == 1:
        groups[todo[0]].scale = groups[todo[0]].wanted
        return
    if c.base is None:
        c.base = min(_bases(groups, c), key=lambda base: _class_error(groups, c, base))
    for i in todo:
        groups[i].scale = _nearby(groups[i], c.base * c.factors[i])


def _bases(groups: list[Group], c: _Class) -> Iterable[float]:
    """Candidates: what each group asks for, and eight steps of an octave between."""
    first = True
    for i, factor in c.factors.items():
        wanted = groups[i].wanted / factor
        yield wanted
        if first:
            yield from (wanted * 2.0 ** (n / 8) for n in range(1, 8))
            first = False


def _class_error(groups: list[Group], c: _Class, base: float) -> float:
    return sum(
        groups[i].error(_nearby(groups[i], base * factor)) for i, factor in c.factors.items()
    )


def _nearby(group: Group, unit: float) -> float:
    """unit * 2**k just above or just below what *group* wants, whichever errs less."""
    above = math.ldexp(unit, math.ceil(math.log2(group.wanted / unit) - 1e-9))
    return min((above, above / 2), key=group.error)
