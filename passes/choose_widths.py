"""How many bits every layer's weights and every activation get: ``--bits`` and its exceptions.

In order, the later ones win:
1. ``--bits``, for all.
2. ``--keep8``: what loses most below 6 bits has 8 all the same. The *first* and the *last* layers
   (no other layer with weights lies between them and an input or output): their weights, the
   inputs and outputs, and what the last layers read. The weights of *depthwise* layers: few, and
   each output rests on few of them. *sums*: activations that no layer with weights reads, operands
   of an addition for instance; they cost no multiplication.
3. ``--io-bits``, for inputs and outputs.
4. ``--layer``: by name or pattern; of several that match, the last.

A signed activation has at least 2 bits: zero has to exist.

Source for 2: first and last layers at 8 bits as in Esser et al. 2020 (arXiv 1902.08153), section
2.3; depthwise layers and sums by measurement, docs/quantization.md.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from qcc.config import Config, Keep, LayerBits
from qcc.errors import UsageError, short
from qcc.ir import Graph, Node
from qcc.ops import OPS
from qcc.passes.fold_batchnorm import LINEAR

KEPT = 8
BELOW = 6
"""``--keep8`` concerns widths below this."""

_NAMED = 4
"""Layers that a note names, at most."""


@dataclass(frozen=True, slots=True)
class Widths:
    """What ``choose_widths`` decides.

    Attributes:
        weights: bits, by the name of every node with weights.
        activations: bits, by tensor; of tensors that share a format the largest counts.
        notes: a sentence on each exception that the user did not ask for.
    """

    weights: Mapping[str, int]
    activations: Mapping[str, int]
    notes: tuple[str, ...] = ()


def choose_widths(graph: Graph, config: Config) -> Widths:
    """The widths of all weights and activations of *graph*, float or integer.

    Raises:
        UsageError: an entry of ``config.layers`` matches nothing.
    """
    nodes = {n.name: n for n in graph.nodes()}
    layers = [n for n in nodes.values() if n.op in LINEAR]
    weights = {n.name: config.weight_bits for n in layers}
    activations = {t.name: config.act_bits for t in graph.tensors() if t.data is None}
    notes = _keep(graph, config, layers, weights, activations)
    if config.io_bits is not None:
        for name in (*graph.inputs, *graph.outputs):
            activations[name] = config.io_bits
    for rule in config.layers:
        _apply(graph, rule, weights, activations)
    return Widths(weights, activations, notes)


# -- what keeps eight bits ------------------------------------------------------------------------


@dataclass(slots=True)
class _Kept:
    """Nodes and tensors of one kind, and how the user is told."""

    what: str
    nodes: list[str] = field(default_factory=list[str])
    tensors: list[str] = field(default_factory=list[str])


def _keep(
    graph: Graph,
    config: Config,
    layers: list[Node],
    weights: dict[str, int],
    activations: dict[str, int],
) -> tuple[str, ...]:
    """Raise what ``config.keep8`` names to 8 bits; notes on it."""
    made: dict[Keep, _Kept] = {
        "first": _first(graph, layers),
        "last": _last(graph, layers),
        "depthwise": _Kept("depthwise", [n.name for n in layers if is_depthwise(graph, n)]),
        "sums": _Kept("sums", [], [t for t in activations if not _multiplied(graph, t)]),
    }
    said: list[str] = []
    for kind in config.keep8:
        kept = made[kind]
        raised = [n for n in kept.nodes if weights[n] < BELOW]
        wider = [t for t in kept.tensors if activations[t] < BELOW]
        weights.update(dict.fromkeys(raised, KEPT))
        activations.update(dict.fromkeys(wider, KEPT))
        if raised or wider:
            said.append(_what(graph, kind, raised, wider))
    if not said:
        return ()
    return (f"8 bits kept for {'; '.join(said)}; --keep8 none gives them {config.bits} too",)


def _what(graph: Graph, kind: Keep, layers: list[str], tensors: list[str]) -> str:
    if kind == "sums":
        return f"activations that no weights multiply ({len(tensors)})"
    names = ", ".join(short(n, 30) for n in layers[:_NAMED])
    more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
    weights = f"weights of {kind} layers ({names}{more})" if layers else ""
    ends = {"first": "the inputs", "last": "what the last layers read and write"}
    return " and ".join(filter(None, [weights, ends.get(kind, "") if tensors else ""]))


def _first(graph: Graph, layers: list[Node]) -> _Kept:
    """Layers whose input comes from graph inputs alone, and all tensors before them."""
    before: set[str] = set(graph.inputs)
    for node in graph.nodes():
        sources = graph.activations(node)
        if node.op not in LINEAR and sources and before.issuperset(sources):
            before.add(node.output)
    first = [n.name for n in layers if n.inputs[0] in before]
    return _Kept("first", first, list(graph.inputs))


def _last(graph: Graph, layers: list[Node]) -> _Kept:
    """Layers whose output reaches a graph output without another layer; what they read, write."""
    after: set[str] = set(graph.outputs)
    for node in reversed(list(graph.nodes())):
        if node.op not in LINEAR and node.output in after:
            after.update(graph.activations(node))
    last = [n for n in layers if n.output in after]
    read = [n.inputs[0] for n in last]
    return _Kept("last", [n.name for n in last], [*after, *read])


def is_depthwise(graph: Graph, node: Node) -> bool:
    """Whether every output channel of a layer with weights reads one input channel."""
    if node.op not in LINEAR or node.op == "dense":
        return False
    return bool(node.attrs.group > 1 and node.attrs.group == graph.shape(node.inputs[0])[3])


def _multiplied(graph: Graph, tensor: str) -> bool:
    """Whether a layer with weights reads *tensor*, directly or a view or copy of it."""
    for node in graph.consumers(tensor):
        if node.op in LINEAR or (OPS[node.op].same_scale and _multiplied(graph, node.output)):
            return True
    return False


# -- exceptions by name ---------------------------------------------------------------------------


def _apply(
    graph: Graph, rule: LayerBits, weights: dict[str, int], activations: dict[str, int]
) -> None:
    found = False
    for node in graph.nodes():
        if any(fnmatchcase(name, rule.match) for name in node_names(graph, node)):
            found = True
            if rule.weight_bits is not None and node.name in weights:
                weights[node.name] = rule.weight_bits
            if rule.act_bits is not None:
                activations[node.output] = rule.act_bits
    for name in graph.inputs:
        if any(fnmatchcase(known, rule.match) for known in _tensor_names(graph, name)):
            found = True
            if rule.act_bits is not None:
                activations[name] = rule.act_bits
    if not found:
        raise _matches_nothing(graph, rule)


def node_names(graph: Graph, node: Node) -> Iterable[str]:
    """The names by which a user may know *node*."""
    return (node.name, *node.sources, *_tensor_names(graph, node.output))


def _tensor_names(graph: Graph, tensor: str) -> Iterable[str]:
    origin = graph.tensor(tensor).origin
    return (tensor,) if origin is None else (tensor, origin.name)


def _matches_nothing(graph: Graph, rule: LayerBits) -> UsageError:
    names = [
        *(name for node in graph.nodes() for name in node_names(graph, node)),
        *(name for t in graph.inputs for name in _tensor_names(graph, t)),
    ]
    close = difflib.get_close_matches(rule.match, dict.fromkeys(names), 3)
    shown = close or list(dict.fromkeys(names))[:3]
    hint = f"names are for example {', '.join(short(n) for n in shown)}"
    return UsageError(
        f"--layer {short(rule.match)}: no layer, tensor or input has this name", [hint]
    )
