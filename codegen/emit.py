"""The text of every file of a compiled model, by path. Same program, same text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from qcc import __version__
from qcc.codegen.program import Layer, Program
from qcc.codegen.render import c_array, render
from qcc.codegen.tables import ctype_bytes, tables
from qcc.codegen.target import Target
from qcc.ir import QType, Shape
from qcc.ops.base import Arg, Call, CArray, In, Kernel, Out, Scratch

_RUNTIME = Path(str(files("qcc.runtime_c")))
_INCLUDE = re.compile(r'^#include "(qcc_\w+\.h)"', re.M)


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    shape: Shape
    ctype: str


@dataclass(frozen=True, slots=True)
class _Function:
    layer: Layer
    also: tuple[int, ...]
    inputs: tuple[_Parameter, ...]
    params: str
    calls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Run:
    layer: Layer
    function: str
    args: str
    bytes: int


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    ctype: str
    size: int
    text: str
    note: str


def emit_model(program: Program, target: Target) -> dict[str, str]:
    """The model's own C: header, source, weights, float helpers and the kernels it uses."""
    kernels = _kernels(program.layers)
    functions = _functions(program)
    shared: dict[str, Any] = {
        "name": program.name,
        "title": program.title,
        "version": __version__,
        "target": target.name,
        "params": _signature(program),
        "arena_bytes": program.arena_bytes,
        "arena_align": program.arena_align,
    }
    ports: dict[str, Any] = {"inputs": program.inputs, "outputs": program.outputs}
    out = {
        f"{program.name}.h": render(
            "model.h.j2", **shared, **ports, placed=bool(program.ports_in_arena)
        ),
        f"{program.name}.c": render(
            "model.c.j2",
            **shared,
            kernels=kernels,
            functions=functions,
            runs=[_run(functions, layer) for layer in program.layers],
            null_check=_null_check(program),
        ),
        f"{program.name}_weights.h": render(
            "weights.h.j2",
            name=program.name,
            total=program.weight_bytes,
            tables=[t for layer in program.layers for t in _tables(program, layer)],
        ),
        f"{program.name}_float.h": render("float.h.j2", name=program.name, **ports),
    }
    return out | kernel_headers(("qcc_arith.h", *(k.header for k in kernels)))


def kernel_headers(names: Iterable[str]) -> dict[str, str]:
    """The text of the run-time headers *names* and of all that they include, by name."""
    out: dict[str, str] = {}
    wanted = list(names)
    while wanted:
        name = wanted.pop(0)
        if name not in out:
            out[name] = _runtime_headers()[name].read_text(encoding="utf-8")
            wanted += _INCLUDE.findall(out[name])
    return out


@cache
def _runtime_headers() -> dict[str, Path]:
    """Every header of runtime_c by name: names are unique, because OUT is one folder."""
    paths = [*_RUNTIME.glob("include/*.h"), *_RUNTIME.glob("isa/*/*.h")]
    found = {path.name: path for path in sorted(paths)}
    if len(found) != len(paths):
        raise ValueError("two headers of runtime_c have the same name")
    return found


def model_sources(program: Program) -> tuple[str, ...]:
    """The C files to compile."""
    return (f"{program.name}.c",)


def _kernels(layers: Sequence[Layer]) -> list[Kernel]:
    return list(dict.fromkeys(call.kernel for layer in layers for call in layer.calls))


def _signature(program: Program) -> str:
    ins = [f"const {p.quant.qtype.ctype} *{p.name}" for p in program.inputs]
    outs = [f"{p.quant.qtype.ctype} *{p.name}" for p in program.outputs]
    return ", ".join([*ins, *outs, "void *arena"])


def _null_check(program: Program) -> str:
    names = [p.name for p in (*program.inputs, *program.outputs)]
    if program.arena_bytes:
        names.append("arena")
    return " || ".join(f"({name} == NULL)" for name in names)


def _input_names(count: int) -> list[str]:
    return ["x"] if count == 1 else [f"x{i}" for i in range(count)]


def _used_inputs(layer: Layer) -> list[int]:
    """Activation inputs that some kernel call reads."""
    return sorted({a.index for c in layer.calls for a in c.args if isinstance(a, In)})


def _uses_scratch(layer: Layer) -> bool:
    return any(isinstance(a, Scratch) for c in layer.calls for a in c.args)


def _functions(program: Program) -> list[_Function]:
    """The functions of the layers; layers that compute the same, as bands of rows do, share one."""
    found: dict[tuple[object, ...], _Function] = {}
    for layer in program.layers:
        f = _function(program, layer)
        text = (f.params, f.calls, layer.op, layer.output_shape, layer.scale, layer.zero_point)
        key = (*text, tuple(i.shape for i in f.inputs), layer.acc_bound)
        if key in found:
            f = replace(found[key], also=(*found[key].also, layer.index))
        found[key] = f
    return list(found.values())


def _function(program: Program, layer: Layer) -> _Function:
    names = _input_names(len(layer.inputs))
    used = _used_inputs(layer)
    inputs = tuple(
        _Parameter(names[i], layer.input_shapes[i], layer.input_types[i].ctype) for i in used
    )
    params = [f"const {p.ctype} *{p.name}" for p in inputs]
    params.append(f"{layer.output_type.ctype} *y")
    if _uses_scratch(layer):
        params.append("void *scratch")
    calls = tuple(_call(program, layer, call, names) for call in layer.calls)
    return _Function(layer, (), inputs, ", ".join(params), calls)


def _call(program: Program, layer: Layer, call: Call, names: list[str]) -> str:
    def text(arg: Arg) -> str:
        if isinstance(arg, In):
            return names[arg.index]
        if isinstance(arg, Out):
            return "y"
        if isinstance(arg, Scratch):
            return "scratch"
        if isinstance(arg, CArray):
            return _table_name(program, layer, arg)
        return str(arg)

    return _wrap(f"{call.kernel.function}(", [text(a) for a in call.args])


def _wrap(head: str, args: list[str], width: int = 108) -> str:
    """``head(args);`` broken into lines of at most *width*."""
    lines, line = [], head
    for i, arg in enumerate(args):
        piece = arg + (", " if i + 1 < len(args) else ");")
        if len(line) + len(piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = " " * 8
        line += piece
    return "\n    ".join([*lines, line])


def _run(functions: Sequence[_Function], layer: Layer) -> _Run:
    (function,) = (f.layer.c_name for f in functions if layer.index in (f.layer.index, *f.also))
    args = [layer.inputs[i] for i in _used_inputs(layer)] + [layer.output]
    if _uses_scratch(layer):
        args.append(layer.scratch)
    return _Run(layer, function, ", ".join(args), _bytes(layer.output_shape, layer.output_type))


def _bytes(shape: Shape, qtype: QType) -> int:
    size = qtype.storage_bits // 8
    for d in shape:
        size *= d
    return size


def _table_name(program: Program, layer: Layer, table: CArray) -> str:
    own = f"{layer.c_name}_{table.suffix}"
    return f"{program.name}_{layer.tables.get(table.suffix, own)}"


def _tables(program: Program, layer: Layer) -> list[_Table]:
    """The tables of *layer* that no layer before has."""
    return [
        _Table(
            _table_name(program, layer, t),
            t.ctype,
            int(t.data.size),
            c_array(t.data.ravel(), 16 if ctype_bytes(t.ctype) == 1 else 8),
            f"{layer.name}: {t.suffix} {t.note}".rstrip(),
        )
        for t in tables(layer.calls)
        if layer.tables.get(t.suffix, f"{layer.c_name}_{t.suffix}") == f"{layer.c_name}_{t.suffix}"
    ]
