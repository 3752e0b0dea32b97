"""report.html: a compiled model on one page, for people.

Self-contained: no scripts, no links, nothing to load; the same model gives the same text. All text
of the model is escaped by the template, which sees plain values only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcc import __version__
from qcc.codegen.program import Buffer, Layer, Port, Program
from qcc.codegen.render import render
from qcc.errors import short
from qcc.ir import Shape

if TYPE_CHECKING:
    from qcc.driver import Compilation

_GOOD_DB = 40.0
"""A full bar in the column of signal-to-noise ratios."""

_LOW_DB, _FAIR_DB = 10.0, 20.0

_INT32_BITS = 31

_TIMES, _MINUS, _ARROW = "\u00d7", "\u2212", "\u2192"


def report_html(done: Compilation) -> str:
    """The page of a compiled model."""
    p = done.program
    return render(
        "report.html.j2",
        name=p.name,
        title=_text(p.title),
        version=__version__,
        figures=_figures(done),
        saving=_saving(p),
        bands=_bands(p),
        notes=[_text(n, 400) for n in p.notes],
        inputs=[_port(p, port) for port in p.inputs],
        outputs=[_port(p, port) for port in p.outputs],
        example=_example(p),
        layers=[_row(done, layer) for layer in p.layers],
        plan=_plan(p),
        options=_options(done),
        source=done.source_sha256,
    )


# -- words for one layer, also for the command line ------------------------------------------------


def layer_label(name: str, limit: int) -> str:
    """The telling part of a layer's name: converters chain names with ``;``, nest them with ``/``.

    ``model/block_3/relu;model/block_3/conv`` within 12 characters is ``block_3/relu``.
    """
    parts = (name.split(";")[0] or name).split("/")
    while len("/".join(parts)) > limit and len(parts) > 2:
        parts = parts[1:]
    label = short("/".join(parts), max(limit, 1000))
    return label if len(label) <= limit else f"...{label[len(label) - limit + 3 :]}"


def kernel_label(layer: Layer) -> str:
    """The kernels of a layer without what their operator's name says: ``u8 s8 s8 s32 shift32``."""
    names = dict.fromkeys(call.kernel.function.removeprefix("qcc_") for call in layer.calls)
    labels = [n.removeprefix(f"{layer.op}_").replace("_", " ") for n in names]
    return ", ".join(labels) or "-"


def spare_bits(acc_bound: int) -> int:
    """Bits of an int32 accumulator that no input can reach; negative: it takes int64."""
    return _INT32_BITS - acc_bound.bit_length()


def dims(shape: Shape) -> str:
    """``14 x 14 x 16``; a batch axis of 1 is left out."""
    return dims_all(shape[1:] if len(shape) > 1 and shape[0] == 1 else shape)


# -- the head --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Figure:
    """One number at the top of the page."""

    label: str
    value: str
    unit: str
    note: str


def _figures(done: Compilation) -> list[_Figure]:
    p = done.program
    ports = sum(port.bytes for port in (*p.inputs, *p.outputs))
    figures = [
        _Figure("weights in flash", f"{p.weight_bytes:,}", "bytes", f"{p.parameters:,} parameters"),
        _Figure("arena in RAM", f"{p.arena_bytes:,}", "bytes", p.arena_proof),
        _Figure("inputs and outputs", f"{ports:,}", "bytes", _port_places(p)),
        _Figure("work", f"{p.macs:,}", "MACs", f"{len(p.layers)} layers"),
    ]
    known = [(db, layer) for layer in p.layers if (db := _db(done, layer)) is not None]
    if known:
        db, layer = min(known, key=lambda item: item[0])
        text = f"{db:.1f}" if math.isfinite(db) else "exact"
        figures.append(_Figure("worst layer", text, "dB SNR", _text(layer_label(layer.name, 40))))
    return figures


def _port_places(p: Program) -> str:
    """Where the caller may have the inputs and outputs."""
    inside = len(p.ports_in_arena)
    if not inside:
        return "owned by the caller"
    every = inside == len(p.inputs) + len(p.outputs)
    return f"the caller's{'' if every else ', some'} in the arena if wanted"


def _saving(p: Program) -> str:
    """What the removal of constant channels saved; empty if nothing."""
    if (p.macs_before, p.parameters_before) == (p.macs_once, p.parameters):
        return ""
    return (
        f"{p.macs_before:,} {_ARROW} {p.macs_once:,} multiply-accumulates"
        f" ({_percent_less(p.macs_before, p.macs_once)}), "
        f"{p.weight_bytes_before:,} {_ARROW} {p.weight_bytes:,} bytes of weights"
        f" ({_percent_less(p.weight_bytes_before, p.weight_bytes)})"
    )


def _bands(p: Program) -> str:
    """What running the first layers in bands of rows saves and costs; empty if they do not."""
    if (b := p.bands) is None:
        return ""
    return (
        f"the first {b.layers} layers run in {b.count} bands of rows: "
        f"{b.arena_before:,} {_ARROW} {p.arena_bytes:,} bytes of arena, "
        f"{b.macs_again:,} multiply-accumulates done again"
    )


def _percent_less(before: int, after: int) -> str:
    return f"{_MINUS}{100 * (before - after) / before:.0f} %" if before else "same"


def _options(done: Compilation) -> list[tuple[str, str]]:
    c = done.config
    affine = f"(raw {_MINUS} {_list(c.mean, 0)}) / {_list(c.std, 1)}"
    calibration = "none"
    if done.calibrated and c.calibration:
        calibration = f"{len(next(iter(c.calibration.values()))):,} samples"
    return [
        ("target", f"{done.target.name}: {done.target.description}"),
        ("bits", c.bits),
        ("scale", c.scale),
        ("threshold", c.threshold + (f" {c.percentile}" if c.threshold == "percentile" else "")),
        ("weight scales", "per channel" if c.per_channel else "per layer"),
        ("constant channels", "removed" if c.constant_channels else "kept"),
        ("biases", "corrected" if c.bias_correction else "as rounded"),
        ("optimize", _optimize(done)),
        ("calibration", calibration),
        ("samples", "raw" if c.mean is c.std is None else affine),
        *((f"shape of {_text(n, 40)}", dims_all(s)) for n, s in sorted(c.shapes.items())),
    ]


def _optimize(done: Compilation) -> str:
    """The profile, and what each would take by estimate."""
    c = done.config
    budget = f", at most {c.flash_budget:,} bytes of flash" if c.flash_budget else ""
    trade = [
        f"{name} {v.instructions:,} instructions, {v.flash_bytes:,} bytes of flash"
        for name, v in done.trade.items()
    ]
    return c.optimize + budget + (f" (estimates: {'; '.join(trade)})" if trade else "")


def _list(values: Sequence[float] | None, default: int) -> str:
    return ", ".join(f"{v:g}" for v in values) if values else str(default)


def dims_all(shape: Shape) -> str:
    """``1 x 3 x 32 x 32``: every axis."""
    return f" {_TIMES} ".join(map(str, shape)) or "scalar"


# -- inputs and outputs ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _PortText:
    """An input or output in words."""

    name: str
    onnx_name: str
    ctype: str
    shape: str
    onnx_shape: str
    layout: str
    scale: str
    convert: str
    index: str
    bytes: str


def _port(program: Program, port: Port) -> _PortText:
    q = port.quant.qtype
    scale, zero = f"{port.quant.scalar:.9g}", port.quant.zero_point
    integer = f"({port.name} {_MINUS} {zero})" if zero else port.name
    plus = f" + {zero}" if zero else ""
    real = f"real = {scale} {_TIMES} {integer}"
    quantize = f"{port.name} = clamp(floor(real / {scale} + 0.5){plus}, {q.qmin}, {q.qmax})"
    return _PortText(
        name=port.name,
        onnx_name=_text(port.onnx_name),
        ctype=q.ctype,
        shape=dims_all(port.shape),
        onnx_shape=dims_all(port.onnx_shape),
        layout=_layout(port),
        scale=scale,
        convert=quantize if port in program.inputs else real,
        index=_index(port),
        bytes=f"{port.bytes:,}",
    )


def _layout(port: Port) -> str:
    """How the axes in C memory come from the model's."""
    if list(port.perm) == sorted(port.perm):
        return "the model's own order"
    kind = f"{port.layout}; " if port.layout == "NHWC" else ""
    return f"{kind}C memory = ONNX value transposed by ({', '.join(map(str, port.perm))})"


def _index(port: Port) -> str:
    """The C expression of one element: ``image[(y * 32 + x) * 3 + c]``."""
    shape = port.shape[1:] if len(port.shape) > 1 and port.shape[0] == 1 else port.shape
    names = "yxc" if port.layout == "NHWC" and len(shape) == 3 else "ijklmn"
    if not shape or len(shape) > len(names):
        return f"{port.name}[i]"
    text = names[0]
    for i, size in enumerate(shape[1:], 1):
        text = f"({text})" if i > 1 else text
        text = f"{text} * {size} + {names[i]}"
    return f"{port.name}[{text}]"


def _example(p: Program) -> str:
    """C that calls the model."""
    macro = p.name.upper()
    ports = [f"static {port.quant.qtype.ctype} {port.name}[{macro}_{port.name.upper()}_SIZE];"
             for port in (*p.inputs, *p.outputs)]  # fmt: skip
    args = ", ".join(port.name for port in (*p.inputs, *p.outputs))
    arena = "NULL"
    if p.arena_bytes:
        align = f"__attribute__((aligned({macro}_ARENA_ALIGN)))"
        ports.append(f"static uint8_t arena[{macro}_ARENA_BYTES] {align};")
        arena = "arena"
    call = f"int error = {p.name}_run({args}, {arena}); /* 0: all is well */"
    return "\n".join([f'#include "{p.name}.h"', "", *ports, "", call])


# -- layers ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """A layer in the table; bars are in percent of the longest."""

    index: int
    name: str
    whole_name: str
    op: str
    sources: str
    kernel: str
    family: str
    why: str
    instructions: str
    shapes: str
    types: str
    macs: str
    macs_bar: str
    bytes: str
    bytes_bar: str
    rescale: str
    bound: str
    spare: str
    db: str
    db_bar: str
    grade: str


def _row(done: Compilation, layer: Layer) -> _Row:
    layers = done.program.layers
    most_macs = max((x.macs for x in layers), default=0)
    most_bytes = max((x.weight_bytes for x in layers), default=0)
    db = _db(done, layer)
    types = " ".join(dict.fromkeys(map(str, layer.input_types)))
    return _Row(
        index=layer.index,
        name=_text(layer_label(layer.name, 40)),
        whole_name=_text("; ".join([layer.name, *layer.sources]), 1000),
        op=layer.op,
        sources=_sources(layer),
        kernel=kernel_label(layer),
        family=layer.kernel,
        why=_text(layer.why, 300),
        instructions=f"{layer.instructions:,}" if done.trade and layer.instructions else "",
        shapes=f"{' + '.join(map(dims, layer.input_shapes))} {_ARROW} {dims(layer.output_shape)}",
        types=f"{types} {_ARROW} {layer.output_type}",
        macs=f"{layer.macs:,}" if layer.macs else "",
        macs_bar=_bar(layer.macs, most_macs),
        bytes=f"{layer.weight_bytes:,}" if layer.weight_bytes else "",
        bytes_bar=_bar(layer.weight_bytes, most_bytes),
        rescale=_rescale(layer),
        bound=f"{layer.acc_bound:,}" if layer.acc_bound else "",
        spare=_spare(layer),
        db="" if db is None else f"{db:.1f}" if math.isfinite(db) else "exact",
        db_bar=_bar(0.0 if db is None else min(max(db, 0.0), _GOOD_DB), _GOOD_DB),
        grade=_grade(db),
    )


def _sources(layer: Layer) -> str:
    """The ONNX nodes that a layer does the work of, but for the one that gave it its name."""
    own = layer_label(layer.name, 40)
    names = [_text(label) for s in layer.sources if (label := layer_label(s, 40)) != own]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _db(done: Compilation, layer: Layer) -> float | None:
    return done.sqnr_db.get(layer.output_tensor)


def _bar(value: float, most: float) -> str:
    """Length in percent with one digit."""
    return f"{100 * value / most:.1f}" if most else "0"


def _rescale(layer: Layer) -> str:
    """The shifts, and the multipliers if they are any."""
    if not layer.scale_mode or not layer.shift:
        return ""
    text = f">> {_range(layer.shift)}"
    if layer.multiplier and set(layer.multiplier) != {1}:
        text = f"{_TIMES} {_range(layer.multiplier)} {text}"
    return text


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _spare(layer: Layer) -> str:
    if not layer.acc_bound:
        return ""
    spare = spare_bits(layer.acc_bound)
    if spare < 0:
        return "int64"
    return f"{spare} bit{'' if spare == 1 else 's'} free"


def _grade(db: float | None) -> str:
    if db is None or db >= _FAIR_DB:
        return "good"
    return "fair" if db >= _LOW_DB else "low"


# -- the memory plan -------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 960.0, 320.0
_LEFT, _TOP, _BOTTOM = 74.0, 18.0, 30.0
_LETTER = 6.2
"""Width of a letter in the picture's labels."""

_TICKS = 4


@dataclass(frozen=True, slots=True)
class _Box:
    """A buffer in the picture, in its units."""

    x: str
    y: str
    width: str
    height: str
    kind: str
    hue: int
    label: str
    label_x: str
    label_y: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Tick:
    at: str
    label: str


@dataclass(frozen=True, slots=True)
class _Picture:
    """Time on x, layer by layer; the arena's bytes on y, offset 0 below."""

    width: str
    height: str
    left: str
    top: str
    right: str
    bottom: str
    bound_y: str
    bound: str
    proof: str
    optimal: bool
    ports: bool
    boxes: tuple[_Box, ...]
    layers: tuple[_Tick, ...]
    bytes: tuple[_Tick, ...]


def _plan(p: Program) -> _Picture | None:
    """The picture of the arena; None if there is none."""
    if not p.buffers or not p.arena_bytes:
        return None
    column = (_WIDTH - _LEFT) / len(p.layers)
    scale = (_HEIGHT - _TOP - _BOTTOM) / max(p.arena_bytes, p.arena_bound)
    floor = _HEIGHT - _BOTTOM
    every = max(1, math.ceil(len(p.layers) * 22 / (_WIDTH - _LEFT)))
    ticks = dict.fromkeys(p.arena_bytes * i // _TICKS for i in range(_TICKS + 1))
    return _Picture(
        width=_px(_WIDTH),
        height=_px(_HEIGHT),
        left=_px(_LEFT),
        top=_px(floor - p.arena_bytes * scale),
        right=_px(_WIDTH),
        bottom=_px(floor),
        bound_y=_px(floor - p.arena_bound * scale),
        bound=f"{p.arena_bound:,}",
        proof=p.arena_proof,
        optimal=p.arena_bound == p.arena_bytes,
        ports=bool(p.ports_in_arena),
        boxes=tuple(_box(p, i, b, column, scale) for i, b in enumerate(p.buffers)),
        layers=tuple(
            _Tick(_px(_LEFT + (i + 0.5) * column), str(i)) for i in range(0, len(p.layers), every)
        ),
        bytes=tuple(_Tick(_px(floor - n * scale), f"{n:,}") for n in ticks),
    )


def _box(p: Program, i: int, b: Buffer, column: float, scale: float) -> _Box:
    x, width = _LEFT + b.first * column, (b.last - b.first + 1) * column
    height = b.bytes * scale
    y = _HEIGHT - _BOTTOM - b.offset * scale - height
    label, origin = _box_words(p, b, int((width - 8) / _LETTER))
    life = f"layers {b.first} to {b.last}" if b.last > b.first else f"layer {b.first}"
    where = f"{b.bytes:,} bytes at {b.offset:,}"
    return _Box(
        x=_px(x),
        y=_px(y),
        width=_px(width),
        height=_px(height),
        # The golden angle: neighbours in time get colours far apart.
        kind=b.kind,
        hue=i * 137 % 360,
        label=_text(label) if height >= 13 and label else "",
        label_x=_px(x + 5),
        label_y=_px(y + height / 2 + 4),
        hint=f"{_text(b.tensor)}, {origin}: {where}, {life}",
    )


def _box_words(p: Program, b: Buffer, room: int) -> tuple[str, str]:
    """(the label of a box for about *room* letters, where its bytes come from)."""
    layer = p.layers[b.first].name
    if b.kind == "scratch":
        return ("scratch" if room >= 7 else ""), f"while {_text(layer)} runs"
    if b.kind == "input":
        return (layer_label(b.tensor, room) if room >= 5 else "in"), "an input of the model"
    room -= len(str(b.first)) + 1
    label = layer_label(layer, max(room, 4))
    label = str(b.first) if "..." in label or len(label) > room else f"{b.first} {label}"
    what = ", an output of the model" if b.kind == "output" else ""
    return label, f"written by {_text(layer)}{what}"


def _px(value: float) -> str:
    return f"{value:.1f}"


def _text(text: str, limit: int = 80) -> str:
    """Text of the model, on one line and short; the template escapes it."""
    return short(text, limit).encode("utf-8", "replace").decode()
