"""The integer graph as text: ``check/reference.json``, from which the reference runs again.

JSON with one tensor or node a line, in the order of execution; the same graph gives the same text.
Reading runs nothing of the file: attributes may only be the dataclasses that the operators declare
(``Op.infer``'s first parameter, and what its fields hold), and every value must have the type that
its field declares.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import sys
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

import numpy as np

from qcc.errors import QccError, short
from qcc.functions import FUNCTIONS, Apply
from qcc.ir import Array, Graph, IRError, Node, Origin, Quant, Tensor
from qcc.ops import OPS

REFERENCE = "check/reference.json"
"""Where a compiled model has it, in its folder."""

VERSION = 1
"""Of the format; a file of another one is refused."""

MOST_ELEMENTS = 1 << 31
"""Elements of one tensor that are believed."""

_DTYPES = ("int8", "int16", "int32", "int64")
_ACCUMULATORS = (32, 64)
_CLASS = "class"
_FLOAT = "float"
_INT64 = np.iinfo(np.int64)


def save_graph(graph: Graph) -> str:
    """The text of a quantized graph; ``load_graph`` gives a graph of the same bits.

    Raises:
        IRError: something in the graph has no text, such as constants that are not integers.
    """
    nodes = list(graph.nodes())
    head = {
        "qcc_graph": VERSION,
        "name": graph.name,
        "inputs": graph.inputs,
        "outputs": graph.outputs,
    }
    parts = [f"{_json(key)}: {_json(value)}" for key, value in head.items()]
    parts.append(_block("tensors", map(_tensor_text, graph.tensors())))
    parts.append(_block("nodes", map(_node_text, nodes)))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def load_graph(text: str) -> Graph:
    """The graph that ``save_graph`` wrote; constants are int64.

    Raises:
        QccError: the text is damaged, of another version, or holds what no operator knows.
    """
    try:
        values = json.loads(text, parse_constant=_not_json)
        return _graph(values)
    except RecursionError as e:
        raise QccError("the saved graph is nested too deeply") from e
    # What an operator's shape rule or a constructor says of senseless attributes.
    except (ValueError, TypeError, KeyError, IndexError, ArithmeticError) as e:
        raise QccError(f"the saved graph is damaged: {short(str(e), 200)}") from e


# -- writing --------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def _block(key: str, lines: Iterable[str]) -> str:
    body = ",\n".join(lines)
    return f"{_json(key)}: [\n{body}\n]" if body else f"{_json(key)}: []"


def _tensor_text(t: Tensor) -> str:
    item: dict[str, Any] = {"name": t.name, "shape": _encode(t.shape)}
    for key in ("quant", "origin"):
        if (value := getattr(t, key)) is not None:
            item[key] = _encode(value)
    if t.data is not None:
        item |= _data(t.name, t.data)
    return _json(item)


def _node_text(n: Node) -> str:
    item = {
        "name": n.name,
        "op": n.op,
        "inputs": n.inputs,
        "outputs": n.outputs,
        "attrs": _encode(n.attrs),
        "sources": n.sources,
    }
    return _json(item)


def _data(name: str, data: Array) -> dict[str, str]:
    """Integers as base64 of the smallest little-endian type that holds them all."""
    if data.dtype.kind not in "iu":
        raise IRError(f"tensor {short(name)!r}: {data.dtype} constants cannot be saved")
    lo, hi = (int(data.min()), int(data.max())) if data.size else (0, 0)
    fits = [d for d in _DTYPES if np.iinfo(d).min <= lo and hi <= np.iinfo(d).max]
    if not fits:
        raise IRError(f"tensor {short(name)!r}: values up to {hi} do not fit 64 bits")
    raw = np.ascontiguousarray(data, np.dtype(fits[0]).newbyteorder("<")).tobytes()
    return {"dtype": fits[0], "data": base64.b64encode(raw).decode("ascii")}


def _encode(value: Any) -> Any:
    """JSON of an attribute: tuples are lists, dataclasses objects with their class's name."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return _whole(int(value))
    if isinstance(value, float | np.floating):
        real = float(value)
        return real if math.isfinite(real) else {_FLOAT: repr(real)}
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    tag = _tag(type(value))
    known = _classes().get(tag)
    if known is None or known.make is not type(value):
        raise IRError(f"attribute of type {tag}: no operator declares it")
    return {_CLASS: tag, **{name: _encode(getattr(value, name)) for name in known.fields}}


# -- what may be in a file ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Class:
    """A dataclass that a file may hold, and the declared types of its fields."""

    make: type
    fields: Mapping[str, Any]


def _tag(cls: type) -> str:
    """``ops.conv2d.Attrs``."""
    return f"{cls.__module__.removeprefix('qcc.')}.{cls.__qualname__}"


@cache
def attributes_of(op: str) -> Any:
    """The type of an operator's attributes, as its ``infer`` declares it."""
    return typing.get_type_hints(OPS[op].infer)["attrs"]


@cache
def _classes() -> Mapping[str, _Class]:
    """By tag, the dataclasses that a file may hold: what tensors and operators declare."""
    found: dict[str, _Class] = {}
    waiting: list[Any] = [Quant, Origin, *(attributes_of(op) for op in OPS)]
    while waiting:
        hint = waiting.pop()
        waiting += typing.get_args(hint)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and _tag(hint) not in found:
            fields = typing.get_type_hints(hint, vars(sys.modules[hint.__module__]))
            found[_tag(hint)] = _Class(hint, fields)
            waiting += fields.values()
    return found


def _fits(value: Any, hint: Any) -> bool:
    """Whether *value* has the type *hint*; an int serves as a float."""
    if hint is Any:
        return True
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, a) for a in args)
    if origin is typing.Literal:
        return isinstance(value, str) and value in args
    if origin is tuple:
        return isinstance(value, tuple) and _fit_all(value, args)
    if hint is None or hint is types.NoneType:
        return value is None
    if hint is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(hint, type) and isinstance(value, hint)


def _fit_all(values: tuple[Any, ...], hints: tuple[Any, ...]) -> bool:
    if len(hints) == 2 and hints[1] is Ellipsis:
        return all(_fits(v, hints[0]) for v in values)
    return len(values) == len(hints) and all(map(_fits, values, hints))


# -- reading --------------------------------------------------------------------------------------


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _graph(values: Any) -> Graph:
    if not isinstance(values, dict) or "qcc_graph" not in values:
        raise QccError("this is no graph that qcc saved")
    if (version := values["qcc_graph"]) != VERSION:
        raise QccError(
            f"the saved graph has version {short(str(version))}, this qcc reads version {VERSION}",
            ["compile the model again"],
        )
    graph = Graph(_typed(values["name"], str, "the graph's name"))
    for item in _objects(values["tensors"]):
        graph.add_tensor(_tensor(item))
    tensors = {t.name for t in graph.tensors()}
    for item in _objects(values["nodes"]):
        graph.add_node(_node(item, tensors))
    graph.inputs += _names(values["inputs"], tensors)
    graph.outputs += _names(values["outputs"], tensors)
    _check(graph)
    graph.verify()
    return graph


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(value, list):
        raise ValueError("a list is missing")
    for item in value:
        yield _typed(item, dict, "an entry")


def _typed(value: Any, hint: Any, what: str) -> Any:
    if not _fits(value, hint):
        raise ValueError(f"{what} is {short(repr(value))}")
    return value


def _tensor(item: Mapping[str, Any]) -> Tensor:
    name = _typed(item["name"], str, "a tensor's name")
    where = f"tensor {short(name)!r}"
    shape = _typed(_decode(item["shape"]), tuple[int, ...], f"{where}: the shape")
    if min(shape, default=1) < 0 or math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"{where}: the shape is {short(str(shape))}")
    quant = _typed(_decode(item.get("quant")), Quant | None, f"{where}: the format")
    origin = _typed(_decode(item.get("origin")), Origin | None, f"{where}: the origin")
    if origin is not None and sorted(origin.perm) != list(range(len(shape))):
        raise ValueError(f"{where}: the axes are {short(str(origin.perm))}")
    if quant is not None:
        _check_quant(where, quant, shape)
    data = None if item.get("data") is None else _array(where, item, shape)
    return Tensor(name, shape, data, quant, origin)


def _check_quant(where: str, quant: Quant, shape: tuple[int, ...]) -> None:
    q = quant.qtype
    bits = (*range(1, 9), 16, *_ACCUMULATORS)
    scales = quant.scale if isinstance(quant.scale, tuple) else (quant.scale,)
    sound = q.bits in bits and all(math.isfinite(s) and s > 0 for s in scales)
    if isinstance(quant.scale, tuple) or quant.axis is not None:
        axis = quant.axis
        sound &= axis is not None and 0 <= axis < len(shape) and shape[axis] == len(scales)
    if not sound or not q.qmin <= quant.zero_point <= q.qmax:
        raise ValueError(f"{where}: the format is {short(str(quant))}")


def _array(where: str, item: Mapping[str, Any], shape: tuple[int, ...]) -> Array:
    """int64, of *shape*."""
    dtype = item.get("dtype")
    if dtype not in _DTYPES:
        raise ValueError(f"{where}: constants of type {short(str(dtype))}")
    raw = base64.b64decode(_typed(item["data"], str, f"{where}: the data"), validate=True)
    kind = np.dtype(dtype).newbyteorder("<")
    if len(raw) != math.prod(shape) * kind.itemsize:
        raise ValueError(f"{where}: {len(raw)} bytes of {dtype} for shape {shape}")
    return np.frombuffer(raw, kind).astype(np.int64).reshape(shape)


def _node(item: Mapping[str, Any], tensors: Collection[str]) -> Node:
    name = _typed(item["name"], str, "a node's name")
    where = f"node {short(name)!r}"
    op = _typed(item["op"], str, f"{where}: the operator")
    if op not in OPS:
        raise QccError(f"the saved graph: {where}: this qcc has no operator {short(op)!r}")
    attrs = _decode(item["attrs"])
    if not _fits(attrs, attributes_of(op)):
        raise ValueError(f"{where}: {short(repr(attrs))} are no attributes of {op}")
    inputs, outputs = _names(item["inputs"], tensors), _names(item["outputs"], tensors)
    if len(outputs) != 1 or not inputs:
        raise ValueError(f"{where}: {len(inputs)} inputs and {len(outputs)} outputs")
    sources = _typed(_decode(item["sources"]), tuple[str, ...], f"{where}: the sources")
    return Node(name, op, inputs, outputs, attrs, sources)


def _names(value: Any, tensors: Collection[str]) -> tuple[str, ...]:
    """Names of tensors, all known."""
    names = _typed(_decode(value), tuple[str, ...], "a list of tensors")
    for name in names:
        if name not in tensors:
            raise ValueError(f"tensor {short(name)!r} is missing")
    return tuple(names)


def _check(graph: Graph) -> None:
    """What ``verify`` takes for granted: inputs and outputs, and a format for every tensor."""
    if not graph.inputs or not graph.outputs:
        raise ValueError("it has no inputs or no outputs")
    if len({*graph.inputs}) < len(graph.inputs) or len({*graph.outputs}) < len(graph.outputs):
        raise ValueError("an input or output is listed twice")
    for t in graph.tensors():
        if t.quant is None:
            raise ValueError(f"tensor {short(t.name)!r} has no format")
        if t.data is None and t.name not in graph.inputs and graph.producer(t.name) is None:
            raise ValueError(f"tensor {short(t.name)!r}: nothing writes it")
    for name in graph.inputs:
        if graph.is_constant(name) or graph.producer(name) is not None:
            raise ValueError(f"input {short(name)!r} is written by the graph itself")
    for name in (*graph.inputs, *graph.outputs):
        _check_data_format(name, graph.quant(name))


def _check_data_format(name: str, quant: Quant) -> None:
    if quant.axis is not None or quant.qtype.bits in _ACCUMULATORS:
        raise ValueError(f"tensor {short(name)!r}: an input or output in format {quant}")


def _decode(value: Any) -> Any:
    """The inverse of ``_encode``."""
    if isinstance(value, list):
        return tuple(_decode(v) for v in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _whole(value)
    if not isinstance(value, dict):
        return value
    if set(value) == {_FLOAT}:
        return _infinite(value[_FLOAT])
    return _instance(value)


def _whole(value: int) -> int:
    if not _INT64.min <= value <= _INT64.max:
        raise ValueError(f"the number {short(str(value))} exceeds 64 bits")
    return value


def _infinite(text: Any) -> float:
    if text not in ("inf", "-inf", "nan"):
        raise ValueError(f"{short(repr(text))} is no number")
    return float(text)


def _instance(value: dict[str, Any]) -> Any:
    """A dataclass of the list, every field given and of its declared type."""
    tag = value.get(_CLASS)
    if not isinstance(tag, str) or (known := _classes().get(tag)) is None:
        raise QccError(f"the saved graph: no operator of this qcc knows {short(repr(tag))}")
    fields = {key: _decode(v) for key, v in value.items() if key != _CLASS}
    if fields.keys() != known.fields.keys():
        raise ValueError(f"{tag} has the fields {short(', '.join(sorted(fields)))}")
    for name, field in fields.items():
        if not _fits(field, known.fields[name]):
            raise ValueError(f"{tag}: {name} is {short(repr(field))}")
    if known.make is Apply and fields["fn"] not in FUNCTIONS:
        raise ValueError(f"there is no function {short(str(fields['fn']))!r}")
    return known.make(**fields)
