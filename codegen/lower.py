"""From the integer graph to a ``Program``: names, buffers, kernel calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcc.builder import NHWC
from qcc.codegen.names import MAX_IDENTIFIER, c_identifier, unique
from qcc.codegen.program import Banding, Layer, Port, Program
from qcc.codegen.storage import ARENA_ALIGN, coded, scratch_name, store
from qcc.codegen.tables import ctype_bytes, distinct_bytes, first_equals, tables
from qcc.codegen.variants import Variant
from qcc.config import Io
from qcc.ir import Graph, Node
from qcc.ops import OPS
from qcc.ops.base import Call

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
    io: Io = "auto",
    bands: Banding | None = None,
) -> Program:
    """The program of a quantized *graph*, C prefix *name*, its layers computed by *variants*."""
    storage = store(graph, variants, io)
    nodes = storage.nodes
    ports = _ports(graph, name, storage.ports)
    where = {storage.views.owner[tensor]: port.name for tensor, port in ports.items()}

    def pointer(tensor: str, writes: bool) -> str:
        root, at = storage.views.root(tensor)
        ctype = graph.quant(tensor).qtype.ctype
        if root in where:
            return f"&{where[root]}[{at // ctype_bytes(ctype)}]" if at else where[root]
        const = "" if writes else "const "
        at += storage.offsets[root]
        if ctype == "uint8_t":  # what the arena is
            return f"&a[{at}]"
        return f"({const}{ctype} *)(void *)&a[{at}]"

    chosen = [variants[n.name] for n in nodes]
    calls = [v.calls for v in chosen]
    c_names = _layer_names(name, nodes, calls, [p.name for p in ports.values()])
    owners = first_equals(calls)
    parameters = _parameters(graph, nodes)
    layers = tuple(
        _layer(graph, i, n, c_names, v, [pointer(t, False) for t in graph.activations(n)],
               pointer(n.output, True), storage.offsets.get(scratch_name(n)), owners, parameters[i])
        for i, (n, v) in enumerate(zip(nodes, chosen, strict=True))
    )  # fmt: skip
    return Program(
        name=name,
        title=title,
        inputs=tuple(ports[t] for t in graph.inputs),
        outputs=tuple(ports[t] for t in graph.outputs),
        layers=layers,
        buffers=storage.buffers,
        arena_bytes=storage.arena_bytes,
        arena_align=ARENA_ALIGN,
        arena_bound=storage.bound,
        arena_bound_any_order=storage.bound_any_order,
        macs_before=before.macs,
        parameters_before=before.parameters,
        weight_bytes_before=before.weight_bytes,
        notes=tuple(notes),
        bands=bands,
    )


def totals(graph: Graph) -> Before:
    """MACs, parameters and bytes of constant tables of the graph as it is now."""
    nodes = coded(graph)
    return Before(
        sum(OPS[n.op].macs(graph, n) for n in nodes),
        sum(_parameters(graph, nodes)),
        distinct_bytes([OPS[n.op].calls(graph, n) for n in nodes]),
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
    taken = {*_SHARED, *(f"{p.lower()}_{what}" for p in ports for what in ("size", "offset"))}
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


def _parameters(graph: Graph, nodes: Sequence[Node]) -> list[int]:
    """Constants of every layer, those that several read counted for the first."""
    seen: set[str] = set()
    counts = []
    for node in nodes:
        new = {t for t in node.inputs if graph.is_constant(t)} - seen
        seen |= new
        counts.append(sum(graph.tensor(t).size for t in new))
    return counts


# -- ports ----------------------------------------------------------------------------------------


def _ports(graph: Graph, name: str, offsets: Mapping[str, int]) -> dict[str, Port]:
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
            offset=offsets.get(t),
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


# -- layers ---------------------------------------------------------------------------------------


def _layer(
    graph: Graph,
    index: int,
    node: Node,
    c_names: Sequence[str],
    variant: Variant,
    inputs: list[str],
    output: str,
    scratch: int | None,
    owners: Mapping[tuple[int, str], tuple[int, str]],
    parameters: int,
) -> Layer:
    calls = variant.calls
    own = [t for t in tables(calls) if owners[index, t.suffix] == (index, t.suffix)]
    rescale = getattr(node.attrs, "rescale", None)
    weights = [graph.quant(t).qtype.bits for t in node.inputs[1:2] if graph.is_constant(t)]
    return Layer(
        index=index,
        name=_readable(node),
        c_name=c_names[index],
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
        weight_bytes=sum(int(t.data.size) * ctype_bytes(t.ctype) for t in own),
        weight_bits=weights[0] if weights else None,
        parameters=parameters,
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
        tables={
            t.suffix: "_".join((c_names[owner], suffix))
            for t in tables(calls)
            for owner, suffix in [owners[index, t.suffix]]
        },
    )
