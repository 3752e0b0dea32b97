"""The files around the model: check program, test vectors, board files, Makefile, CMakeLists.txt.

Nothing here knows how the model computes; it knows the model's interface and, from the reference,
what it must answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcc.codegen.program import Layer, Port, Program, Vectors
from qcc.codegen.render import render
from qcc.codegen.target import Target, load_boards
from qcc.ir import Array

STORED_ELEMENTS = 1 << 20
"""Layer outputs of more elements together are stored as one hash a layer."""

_HASH_BASIS = 2166136261
_HASH_FACTOR = 16777619


@dataclass(frozen=True, slots=True)
class _Vector:
    """The samples of one port: *array* holds them in C, *buffer* what the model writes."""

    what: str
    ctype: str
    type: str
    size: int
    array: str
    buffer: str
    values: Array


@dataclass(frozen=True, slots=True)
class _LayerVector:
    name: str
    ctype: str
    type: str
    values: Array
    stored: bool
    hash: int


@dataclass(frozen=True, slots=True)
class _Placed:
    """A port that may lie in the arena: C for where."""

    vector: _Vector
    is_input: bool
    place: str


@dataclass(frozen=True, slots=True)
class _Mistake:
    what: str
    args: str


def project_files(
    program: Program, vectors: Vectors, target: Target, sources: Sequence[str] | None = None
) -> dict[str, str]:
    """Everything in the output folder but the model itself, by path.

    Args:
        program: the compiled model.
        vectors: samples, C memory order; at least one.
        target: what it is compiled for.
        sources: the model's C files; ``<name>.c`` by default.

    Raises:
        ValueError: when *vectors* do not fit the program's ports and layers.
    """
    sources = tuple(sources or (f"{program.name}.c",))
    boards = [load_boards()[name] for name in target.boards]
    out = _check_files(program, vectors)
    out["Makefile"] = render(
        "Makefile.j2", name=program.name, target=target, sources=sources, boards=boards
    )
    out["CMakeLists.txt"] = render(
        "CMakeLists.txt.j2", name=program.name, target=target.name, sources=sources
    )
    for board in (load_boards()["host"], *boards):
        out |= {f"boards/{path}": text for path, text in board.texts().items()}
    return out


def layer_hash(values: Array) -> int:
    """The hash of the bytes of *values*, little-endian: h = h * 16777619 + byte, modulo 2**32.

    The same as ``check_hash`` in check/layers.c. A relative of FNV-1 that adds instead of xor, so
    that numpy can compute it without a loop; any single byte that differs changes it.
    """
    data = np.frombuffer(values.astype(values.dtype.newbyteorder("<")).tobytes(), np.uint8)
    powers = np.full(data.size + 1, _HASH_FACTOR, np.uint32)
    powers[0] = 1
    np.cumprod(powers, dtype=np.uint32, out=powers)
    total = np.sum(data[::-1] * powers[:-1], dtype=np.uint32)
    return (int(total) + _HASH_BASIS * int(powers[-1])) % (1 << 32)


def _check_files(program: Program, vectors: Vectors) -> dict[str, str]:
    if vectors.samples < 1:
        raise ValueError(f"{program.name}: at least one sample is needed")
    ins = _port_vectors(program.inputs, vectors.inputs, "in", vectors.samples)
    outs = _port_vectors(program.outputs, vectors.outputs, "out", vectors.samples)
    layers = _layer_vectors(program.layers, vectors.layers)
    name = program.name
    return {
        "check/check.c": render(
            "check_main.c.j2",
            name=name,
            macro=name.upper(),
            outputs=outs,
            run_args=_run_args(ins, outs),
            placed=_placed(program, ins, outs),
            placed_args=_placed_args(program, ins, outs),
            mistakes=_mistakes(program, ins, outs),
        ),
        "check/compare.h": render("check_compare.h.j2"),
        "check/compare.c": render("check_compare.c.j2"),
        "check/vectors.h": render(
            "check_vectors.h.j2", name=name, samples=vectors.samples, vectors=ins + outs
        ),
        "check/vectors.c": render("check_vectors.c.j2", name=name, vectors=ins + outs),
        "check/layers.h": render("check_layers.h.j2", name=name, count=len(layers)),
        "check/layers.c": render("check_layers.c.j2", name=name, layers=layers),
    }


def _port_vectors(
    ports: Sequence[Port], samples: Sequence[Array], kind: str, count: int
) -> list[_Vector]:
    if len(ports) != len(samples):
        raise ValueError(f"{len(samples)} arrays for {len(ports)} {kind}puts")
    found = []
    for i, (port, values) in enumerate(zip(ports, samples, strict=True)):
        if values.size != count * port.size:
            raise ValueError(f"{port.name}: {values.shape} for {count} samples of {port.shape}")
        q = port.quant.qtype
        found.append(
            _Vector(port.name, q.ctype, _type(q.dtype), port.size, f"check_{kind}{i}",
                    f"{kind}{i}", _typed(values, q.dtype))
        )  # fmt: skip
    return found


def _console(text: str) -> str:
    """*text* for one line of a board's console, which knows ASCII only."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _layer_vectors(layers: Sequence[Layer], outputs: Sequence[Array]) -> list[_LayerVector]:
    if len(layers) != len(outputs):
        raise ValueError(f"{len(outputs)} layer outputs for {len(layers)} layers")
    stored = sum(values.size for values in outputs) <= STORED_ELEMENTS
    found = []
    for layer, raw in zip(layers, outputs, strict=True):
        if raw.size != np.prod(layer.output_shape, dtype=np.int64):
            raise ValueError(f"layer {layer.name}: {raw.shape}, not {layer.output_shape}")
        dtype = layer.output_type.dtype
        values = _typed(raw, dtype)
        found.append(
            _LayerVector(
                name=_console(layer.name),
                ctype=layer.output_type.ctype,
                type=_type(dtype),
                values=values,
                stored=stored,
                hash=layer_hash(values),
            )
        )
    return found


def _typed(values: Array, dtype: str) -> Array:
    """*values* as *dtype*, which must hold them all."""
    typed = values.astype(dtype)
    if not np.array_equal(typed, values):
        raise ValueError(f"values outside {dtype}")
    return typed


def _type(dtype: str) -> str:
    return f"CHECK_{dtype.upper()}"


def _run_args(ins: Sequence[_Vector], outs: Sequence[_Vector]) -> str:
    args = [f"&{v.array}[sample * {v.size}u]" for v in ins]
    return ", ".join([*args, *(v.buffer for v in outs), "arena"])


def _placed(program: Program, ins: Sequence[_Vector], outs: Sequence[_Vector]) -> list[_Placed]:
    """The ports that may lie in the arena."""
    ports = [(p, v, True) for p, v in zip(program.inputs, ins, strict=True)]
    ports += [(p, v, False) for p, v in zip(program.outputs, outs, strict=True)]
    return [
        _Placed(v, is_input, _inside(program, p, v))
        for p, v, is_input in ports
        if p.offset is not None
    ]


def _inside(program: Program, port: Port, v: _Vector) -> str:
    """C for where *port* lies in the arena."""
    return f"({v.ctype} *)(void *)&arena[{program.name.upper()}_{port.name.upper()}_OFFSET]"


def _placed_args(program: Program, ins: Sequence[_Vector], outs: Sequence[_Vector]) -> str:
    """Arguments of the call with every port in the arena that may be there."""
    inputs = [
        f"&{v.array}[sample * {v.size}u]" if p.offset is None else _inside(program, p, v)
        for p, v in zip(program.inputs, ins, strict=True)
    ]
    outputs = [
        v.buffer if p.offset is None else _inside(program, p, v)
        for p, v in zip(program.outputs, outs, strict=True)
    ]
    return ", ".join([*inputs, *outputs, "arena"])


def _mistakes(program: Program, ins: Sequence[_Vector], outs: Sequence[_Vector]) -> list[_Mistake]:
    """Calls that must return an error: each pointer null in turn, the arena misaligned."""
    good = [*(v.array for v in ins), *(v.buffer for v in outs), "arena"]
    names = [v.what for v in (*ins, *outs)] + (["arena"] if program.arena_bytes else [])
    found = [
        _Mistake(f"a null pointer for {name}", ", ".join([*good[:i], "NULL", *good[i + 1 :]]))
        for i, name in enumerate(names)
    ]
    if program.arena_bytes and program.arena_align > 1:
        found.append(_Mistake("a misaligned arena", ", ".join([*good[:-1], "&arena[1]"])))
    return found
