"""From the integer graph to a ``Program``: names, buffers, kernel calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcc.builder import NHWC
from qcc.codegen.memory import Item, plan
from qcc.codegen.names import MAX_IDENTIFIER, c_identifier, unique
from qcc.codegen.program import Buffer, Layer, Port, Program
from qcc.codegen.tables import table_bytes, tables
from qcc.codegen.variants import Variant
from qcc.ir import Graph, Node
from qcc.ops import OPS
from qcc.ops.base import Call

ARENA_ALIGN = 8
"""Alignment of the arena and of every buffer in it: enough for any element type."""

_LONGEST = 24
"""Longer layer names (converters make some of 100 characters) give way to operator and number."""

_RESERVED = ("arena", "a")
"""What else the run function names."""

_SHARED = (
    "run", "arena_bytes", "arena_align", "error_null", "error_align", "h", "weights_h", "float_h",
)  # fmt: skip
"""What ``<name>_`` and ``<NAME>_`` precede in every model: functions, macros, include guards."""


@dataclass(frozen=True, slots=True)
class Before:
    """What the network took before constant channels were removed."""

    macs: int
    parameters: int
    weight_bytes: int


def lower(
    graph: Graph,
    name: str,
    title: str,
    before: Before,
    notes: Sequence[str],
    variants: Mapping[str, Variant],
) -> Program:
    """The program of a quantized *graph*, C prefix *name*, its layers computed by *variants*."""
    nodes = [n for n in graph.nodes() if not OPS[n.op].alias]
    roots = _storage_roots(graph)
    ports = _ports(graph, name)
    placed, arena, bound = _place(graph, nodes, roots, variants)
    where = {p_tensor: port.name for p_tensor, port in ports.items()}
    offsets = {b.tensor: b.offset for b in placed}

    def pointer(tensor: str, writes: bool) -> str:
        root = roots[tensor]
        if root in where:
            return where[root]
        ctype = graph.quant(tensor).qtype.ctype
        const = "" if writes else "const "
        if ctype == "uint8_t":  # what the arena is
            return f"&a[{offsets[root]}]"
        return f"({const}{ctype} *)(void *)&a[{offsets[root]}]"

    chosen = [variants[n.name] for n in nodes]
    calls = [v.calls for v in chosen]
    c_names = _layer_names(name, nodes, calls, [p.name for p in ports.values()])
    layers = tuple(
        _layer(graph, i, n, c, v, [pointer(t, False) for t in graph.activations(n)],
               pointer(n.output, True), offsets.get(scratch_name(n)))
        for i, (n, c, v) in enumerate(zip(nodes, c_names, chosen, strict=True))
    )  # fmt: skip
    return Program(
        name=name,
        title=title,
        inputs=tuple(ports[t] for t in graph.inputs),
        outputs=tuple(ports[t] for t in graph.outputs),
        layers=layers,
        buffers=tuple(placed),
        arena_bytes=arena,
        arena_align=ARENA_ALIGN,
        arena_bound=bound,
        macs_before=before.macs,
        parameters_before=before.parameters,
        weight_bytes_before=before.weight_bytes,
        notes=tuple(notes),
    )


def totals(graph: Graph) -> Before:
    """MACs, parameters and bytes of constant tables of the graph as it is now."""
    nodes = [n for n in graph.nodes() if not OPS[n.op].alias]
    return Before(
        sum(OPS[n.op].macs(graph, n) for n in nodes),
        sum(_parameters(graph, n) for n in nodes),
        sum(table_bytes(OPS[n.op].calls(graph, n)) for n in nodes),
    )


def _readable(node: Node) -> str:
    return node.name.rsplit(":", 1)[0]


def _c_name(index: int, node: Node) -> str:
    """The layer's own name where it is short, else its number and operator."""
    name = _readable(node)
    return c_identifier(name) if len(name) <= _LONGEST else f"{node.op}_{index}"


def _layer_names(
    name: str, nodes: Sequence[Node], calls: Sequence[Sequence[Call]], ports: Sequence[str]
) -> list[str]:
    """C names of the layers of model *name*: none means two things where C sees it.

    The function ``<name>_conv`` of a layer has the tables ``<name>_conv_w`` beside it, which a
    layer called conv_w must not meet, nor a parameter of the model.
    """
    prefix = f"{name.lower()}_"
    taken = {*_SHARED, *(f"{p.lower()}_size" for p in ports)}
    taken |= {p.lower().removeprefix(prefix) for p in ports if p.lower().startswith(prefix)}
    plain = unique([_c_name(i, n) for i, n in enumerate(nodes)])
    wanted = {p.lower() for p in plain}
    names: list[str] = []
    for base, layer_calls in zip(plain, calls, strict=True):
        suffixes = [t.suffix for t in tables(layer_calls)]
        c_name, number, claims = base, 1, _claims(base, suffixes)
        while not taken.isdisjoint(claims) or (number > 1 and c_name.lower() in wanted):
            number += 1
            c_name = f"{base}_{number}"
            claims = _claims(c_name, suffixes)
        taken |= claims
        names.append(c_name)
    return names


def _claims(c_name: str, suffixes: Sequence[str]) -> set[str]:
    """What a layer of that name defines, without the model's prefix, in lower case."""
    return {c_name.lower(), *(f"{c_name}_{s}".lower() for s in suffixes)}


def _parameters(graph: Graph, node: Node) -> int:
    return sum(graph.tensor(t).size for t in node.inputs if graph.is_constant(t))


# -- storage --------------------------------------------------------------------------------------


def _storage_roots(graph: Graph) -> dict[str, str]:
    """Tensor -> the tensor whose bytes it shares (aliases have no code).

    A graph output that is an alias owns the storage of the whole chain, if the chain starts at
    a layer; an input of the graph always owns its own.
    """
    root = {t.name: t.name for t in graph.tensors() if t.data is None}
    for node in graph.nodes():
        if OPS[node.op].alias:
            root[node.output] = root[node.inputs[0]]
    for out in graph.outputs:
        first = root[out]
        if first in graph.inputs or first in graph.outputs:
            continue
        root = {t: (out if r == first else r) for t, r in root.items()}
    return root


def _ports(graph: Graph, name: str) -> dict[str, Port]:
    names = [*graph.inputs, *graph.outputs]
    shared = (f"{name}_{s}" for s in _SHARED)
    reserved = [*_RESERVED, *(s for s in shared if len(s) <= MAX_IDENTIFIER)]
    taken = unique([*reserved, *(c_identifier(graph_name(graph, t)) for t in names)])
    ports: dict[str, Port] = {}
    for t, c_name in zip(names, taken[len(reserved) :], strict=True):
        tensor = graph.tensor(t)
        perm = tensor.origin.perm if tensor.origin else tuple(range(len(tensor.shape)))
        onnx_shape = [0] * len(perm)
        for i, p in enumerate(perm):
            onnx_shape[p] = tensor.shape[i]
        ports[t] = Port(
            name=c_name,
            onnx_name=graph_name(graph, t),
            shape=tensor.shape,
            onnx_shape=tuple(onnx_shape),
            perm=perm,
            layout=_layout(graph, t, perm),
            quant=graph.quant(t),
        )
    return ports


def graph_name(graph: Graph, tensor: str) -> str:
    """The ONNX name of an input or output."""
    origin = graph.tensor(tensor).origin
    return origin.name if origin else tensor


_IMAGE_OPS = (
    "conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "resize_nearest", "pad",
)  # fmt: skip


def _layout(graph: Graph, tensor: str, perm: Sequence[int]) -> str:
    """How C memory orders the axes: "NHWC" for images, else in terms of ONNX's order."""
    around = [*graph.consumers(tensor), *filter(None, [graph.producer(tensor)])]
    identity = list(perm) == sorted(perm)
    if tuple(perm) == NHWC:
        return "NHWC"
    if len(perm) == 4 and identity and any(n.op in _IMAGE_OPS for n in around):
        return "NHWC"
    return "onnx" if identity else f"onnx axes {list(perm)}"


def scratch_name(node: Node) -> str:
    """The memory plan's name for the scratch memory of *node*."""
    return f"{node.name} (scratch)"


def _place(
    graph: Graph, nodes: list[Node], roots: dict[str, str], variants: Mapping[str, Variant]
) -> tuple[list[Buffer], int, int]:
    """(buffers in the arena, its size, the lower bound of its size)."""
    outside = {roots[t] for t in (*graph.inputs, *graph.outputs)}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    size: dict[str, int] = {}
    for i, node in enumerate(nodes):
        root = roots[node.output]
        first.setdefault(root, i)
        last[root] = max(i, last.get(root, i))
        size[root] = max(size.get(root, 0), _bytes(graph, node.output))
        for t in graph.activations(node):
            last[roots[t]] = i
    items = [
        Item(root, size[root], first[root], last[root], _inplace(graph, nodes, roots, last, root))
        for root in first
        if root not in outside
    ]
    known = {item.name for item in items}
    items = [
        item if item.inplace_of in known else Item(item.name, item.bytes, item.first, item.last)
        for item in items
    ]
    items += [
        Item(scratch_name(node), variants[node.name].scratch, i, i)
        for i, node in enumerate(nodes)
        if variants[node.name].scratch
    ]
    done = plan(items, ARENA_ALIGN)
    buffers = [
        Buffer(item.name, done.offsets[item.name], item.bytes, item.first, item.last)
        for item in items
    ]
    return buffers, done.total_bytes, done.bound


def _bytes(graph: Graph, tensor: str) -> int:
    return graph.tensor(tensor).size * graph.quant(tensor).qtype.storage_bits // 8


def _inplace(
    graph: Graph, nodes: list[Node], roots: dict[str, str], last: dict[str, int], root: str
) -> str | None:
    """The buffer that *root* may be written over: an elementwise op's first operand dying there."""
    i = next(k for k, n in enumerate(nodes) if roots[n.output] == root)
    node = nodes[i]
    if not OPS[node.op].elementwise:
        return None
    for t in graph.activations(node):
        same = graph.shape(t) == graph.shape(node.output)
        narrow = graph.quant(node.output).qtype.storage_bits <= graph.quant(t).qtype.storage_bits
        if same and narrow and last[roots[t]] == i and roots[t] != root:
            return roots[t]
    return None


# -- layers ---------------------------------------------------------------------------------------


def _layer(
    graph: Graph,
    index: int,
    node: Node,
    c_name: str,
    variant: Variant,
    inputs: list[str],
    output: str,
    scratch: int | None,
) -> Layer:
    calls = variant.calls
    rescale = getattr(node.attrs, "rescale", None)
    weights = [graph.quant(t).qtype.bits for t in node.inputs[1:2] if graph.is_constant(t)]
    return Layer(
        index=index,
        name=_readable(node),
        c_name=c_name,
        op=node.op,
        sources=node.sources,
        calls=calls,
        inputs=tuple(inputs),
        output=output,
        input_types=tuple(graph.quant(t).qtype for t in graph.activations(node)),
        output_type=graph.quant(node.output).qtype,
        input_shapes=tuple(graph.shape(t) for t in graph.activations(node)),
        output_shape=graph.shape(node.output),
        output_tensor=node.output,
        scale=graph.quant(node.output).scalar,
        macs=OPS[node.op].macs(graph, node),
        weight_bytes=table_bytes(calls),
        weight_bits=weights[0] if weights else None,
        parameters=_parameters(graph, node),
        scale_mode=rescale.mode if rescale else None,
        shift=rescale.collapsed().shift if rescale else None,
        multiplier=rescale.collapsed().mult if rescale else None,
        acc_bound=getattr(node.attrs, "acc_bound", None) or None,
        zero_point=graph.quant(node.output).zero_point,
        kernel=variant.kernel,
        why=variant.why,
        instructions=variant.instructions,
        scratch_bytes=variant.scratch,
        scratch="NULL" if scratch is None else f"(void *)&a[{scratch}]",
    )
