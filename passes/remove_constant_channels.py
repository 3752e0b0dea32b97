"""remove_constant_channels: channels that hold one value for every input leave the integer graph.

Interval analysis bounds every channel of every tensor; a channel whose bounds meet is a constant
(after ReLU often 0), and one that only zero weights read does not matter. Such a channel goes
with the weights that made it and those that read it; what it contributed moves into the next
bias. The remaining network computes the same bits.

Not removed: channels of the model's inputs and outputs; a nonzero constant that a padded
convolution reads (the border reads 0 in its place, so no single bias stands for it); anything
next to an operator whose ``channel_role`` is "block".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcc.config import Config
from qcc.ir import Graph, Int, Node
from qcc.ops import OPS
from qcc.ops.base import Interval

Mask = npt.NDArray[np.bool_]


def remove_constant_channels(graph: Graph, config: Config) -> int:
    """Returns the number of channels removed, summed over tensors."""
    if not config.constant_channels:
        return 0
    total = 0
    while removed := _round(graph):
        total += removed
    return total


def _round(graph: Graph) -> int:
    intervals = analyse(graph)
    masks = _removable(graph, intervals)
    if not any(m.any() for m in masks.values()):
        return 0
    nodes = list(graph.nodes())
    for node in nodes:
        _shrink_node(graph, node, masks, intervals)
    for name, mask in masks.items():
        if mask.any():
            t = graph.tensor(name)
            t.shape = (*t.shape[:-1], int((~mask).sum()))
            t.origin = None
    return int(sum(m.sum() for m in masks.values()))


def analyse(graph: Graph) -> dict[str, Interval]:
    """Sound bounds of every activation of an integer graph, per channel (last axis)."""
    bounds: dict[str, Interval] = {}
    for t in graph.tensors():
        if t.data is not None:
            flat = t.data.reshape(-1, t.shape[-1] if t.shape else 1).astype(np.int64)
            bounds[t.name] = Interval(flat.min(axis=0), flat.max(axis=0))
    for name in graph.inputs:
        q = graph.quant(name).qtype
        bounds[name] = Interval.of(q.qmin, q.qmax)
    for node in graph.nodes():
        inputs = [bounds[x] for x in node.inputs]
        bounds[node.output] = OPS[node.op].interval(graph, node, inputs)
    return bounds


def _channels(graph: Graph, tensor: str) -> int:
    shape = graph.shape(tensor)
    return shape[-1] if shape else 1


def _removable(graph: Graph, intervals: dict[str, Interval]) -> dict[str, Mask]:
    """Per activation tensor, the channels that can go: the largest consistent choice."""
    nodes = list(graph.nodes())
    masks: dict[str, Mask] = {}
    unused = _unused(graph, nodes)
    for t in graph.tensors():
        if t.data is None:
            v = intervals[t.name].expand(_channels(graph, t.name))
            masks[t.name] = (v.lo == v.hi) | unused[t.name]
    for name in (*graph.inputs, *graph.outputs):
        masks[name][:] = False
    for node in nodes:
        if OPS[node.op].channel_role(graph, node) == "mix" and any(getattr(node.attrs, "pads", ())):
            x = node.inputs[0]
            v = intervals[x].expand(len(masks[x]))
            masks[x] &= ((v.lo == 0) & (v.hi == 0)) | _zero_columns(graph, node)
    _settle(graph, nodes, masks)
    for mask in masks.values():  # a layer keeps at least one channel
        if mask.all():
            mask[0] = False
    _settle(graph, nodes, masks)
    return masks


def _settle(graph: Graph, nodes: list[Node], masks: dict[str, Mask]) -> None:
    """Narrow the masks until every operator agrees with them."""
    changed = True
    while changed:
        changed = False
        for node in nodes:
            role = OPS[node.op].channel_role(graph, node)
            if role == "mix":
                continue
            names = [*graph.activations(node), node.output]
            lengths = {len(masks[n]) for n in names}
            common = np.zeros(1, np.bool_)
            if role == "pass" and len(lengths) == 1:
                common = np.logical_and.reduce([masks[n] for n in names])
            for n in names:
                narrowed = masks[n] & common
                if (narrowed != masks[n]).any():
                    masks[n] = narrowed
                    changed = True


def _zero_columns(graph: Graph, node: Node) -> Mask:
    w = graph.constant(node.inputs[1])
    return np.asarray(~w.reshape(-1, w.shape[-1]).any(axis=0))


def _unused(graph: Graph, nodes: list[Node]) -> dict[str, Mask]:
    """Channels that cannot reach an output: only zero weights read them."""
    unused = {
        t.name: np.ones(_channels(graph, t.name), np.bool_)
        for t in graph.tensors()
        if t.data is None
    }
    for name in graph.outputs:
        unused[name][:] = False
    for node in reversed(nodes):
        role = OPS[node.op].channel_role(graph, node)
        for x in graph.activations(node):
            if role == "mix":
                unused[x] &= _zero_columns(graph, node)
            elif role == "pass" and len(unused[x]) == len(unused[node.output]):
                unused[x] &= unused[node.output]
            else:
                unused[x][:] = False
    return unused


def _shrink_node(
    graph: Graph, node: Node, masks: dict[str, Mask], intervals: dict[str, Interval]
) -> None:
    op = OPS[node.op]
    if op.channel_role(graph, node) == "mix" and masks[node.inputs[0]].any():
        mask = masks[node.inputs[0]]
        v = intervals[node.inputs[0]].expand(len(mask))
        values: Int = np.where(mask & (v.lo == v.hi), v.lo, 0)
        op.drop_inputs(graph, node, np.flatnonzero(~mask), values)
    if masks[node.output].any():
        op.select_channels(graph, node, np.flatnonzero(~masks[node.output]))
