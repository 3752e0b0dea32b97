"""What ``qcc`` shows people: tables, a progress bar, the summary at the end.

Text of the model goes through ``short``: nothing in it moves the cursor or is taken for markup.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qcc.errors import short

if TYPE_CHECKING:
    from qcc.api import Evaluation
    from qcc.code_size import CodeSize
    from qcc.codegen.program import Banding, Layer, Port
    from qcc.codegen.target import Target
    from qcc.debug_model import Diagnosis, Place
    from qcc.driver import Compilation
    from qcc.export_qdq import Export
    from qcc.inspect_model import Inspection
    from qcc.ir import Shape
    from qcc.profiling.result import Profile
    from qcc.search_widths import Search
    from qcc.simulate import Simulation

Progress = Callable[[str, int, int], None]

_WIDE = 100
"""Columns where the output is no terminal."""

_GAP = 2
"""Columns between two columns of a table."""

_NAME = 14
"""Columns that names of layers have at least."""

_PLACE = 24
"""The same where layers are what is looked for; the last columns give way."""

_NUMBERS = ("op", "output", "MACs", "bytes", "SNR dB")

_LABEL = 9
"""Columns of the words before the totals."""

LOW_SQNR_DB = 10.0
"""A layer below this is pointed out."""


class Screen:
    """Where everything is shown: stdout, or stderr when stdout holds JSON.

    Args:
        verbosity: -1 nothing, 0 the result, 1 passes and timings too.
        json: stdout holds JSON.
    """

    def __init__(self, verbosity: int, json: bool) -> None:
        self.verbosity = verbosity
        self._stream = sys.stderr if json else sys.stdout
        self._start = self._last = time.perf_counter()
        self._describe: Callable[[str], None] = lambda text: None

    # -- while it runs --

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A function to report to; a bar on stderr where that is a terminal."""
        if self.verbosity == 0 and sys.stderr.isatty():
            with self._bar() as report:
                yield report
        else:
            yield self._note_progress

    @contextmanager
    def _bar(self) -> Iterator[Progress]:
        from rich import progress as bars

        columns = (
            bars.SpinnerColumn(), bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(), bars.MofNCompleteColumn(),
        )  # fmt: skip
        with bars.Progress(*columns, console=_console(sys.stderr), transient=True) as bar:
            task = bar.add_task("reading", total=None)

            def describe(text: str) -> None:
                bar.update(task, description=text)

            def report(stage: str, done: int, total: int) -> None:
                bar.update(task, description=stage, completed=done, total=total)

            self._describe = describe
            yield report
            self._describe = lambda text: None

    def _note_progress(self, stage: str, done: int, total: int) -> None:
        if done == total:
            self._tell(f"{stage}, {total} samples")

    def stage(self, name: str, changes: int) -> None:
        """A pass has run."""
        self._describe(name)
        self._tell(f"{name}, {changes} changes" if changes else name)

    def _tell(self, what: str) -> None:
        """One line of -v, with the time since the line before."""
        now = time.perf_counter()
        if self.verbosity > 0:
            sys.stderr.write(f"{(now - self._last) * 1e3:8.1f} ms  {what}\n")
        self._last = now

    # -- results --

    def summary(self, done: Compilation, out: Path) -> None:
        """What was compiled, what it costs, how good it is, what to do next."""
        if self.verbosity < 0:
            return
        from qcc.code_size import measure
        from qcc.codegen.emit import model_sources

        size = measure(out, model_sources(done.program), done.target)
        self._tell("measured the code" if size else "no compiler for the target")
        console = _console(self._stream)
        lines = [*_totals(done, size), *_advice(done, out)]
        head = Text(f"{_headline(done, out)}\n", "bold")
        self._print(console, head, _layers(done, console.width), Text())
        self._print(console, *lines)

    def inspection(self, found: Inspection) -> None:
        """The layers of a model."""
        if self.verbosity < 0:
            return
        from qcc.codegen.report import layer_label

        console = _console(self._stream)
        table = _table(("layer", "<"), ("op", "<"), ("output", "<"), ("MACs", ">"), ("params", ">"))
        for layer in found.layers:
            row = (_dims(layer.shape), _count(layer.macs), _count(layer.parameters))
            table.add_row(layer_label(layer.name, 40), layer.op, *row)
        head = Text(f"{short(found.model)} (opset {found.opset})\n", "bold")
        self._print(console, head, table, Text())
        ports = [("input", p) for p in found.inputs] + [("output", p) for p in found.outputs]
        lines = [(word, f"{short(p.name)} {_dims(p.shape, whole=True)}") for word, p in ports]
        lines.append(("total", f"{len(found.layers)} layers, {_macs(found.macs)} MACs, "
                      f"{found.parameters:,} parameters"))  # fmt: skip
        self._print(console, *(_Entry(*line) for line in lines))

    def evaluation(self, found: Evaluation, manifest: Mapping[str, Any]) -> None:
        """How a compiled model does on data."""
        if self.verbosity < 0:
            return
        console = _console(self._stream)
        name = short(str(manifest.get("name")))
        head = f"{name}, {found.samples:,} samples, its C on this machine"
        table = _table(("", "<"), ("float", ">"), ("integer", ">"))
        table.add_row("accuracy", _percent(found.float_accuracy), _percent(found.integer_accuracy))
        table.add_row("time", _seconds(found.float_seconds), _seconds(found.integer_seconds))
        each = 1e6 / found.samples
        speed = [s if s is None else s * each for s in (found.float_seconds, found.integer_seconds)]
        table.add_row("per sample", *("-" if s is None else f"{s:,.0f} us" for s in speed))
        self._print(console, Text(f"{head}\n", "bold"), table, Text())
        if found.agreement is not None:
            self._print(console, _Entry("agree", f"{_percent(found.agreement)} of the samples"))
        if found.sqnr_db is not None:
            self._print(console, _Entry("SQNR", f"{found.sqnr_db:.1f} dB over all outputs"))
        if found.float_accuracy is None and found.agreement is None:
            self._print(console, _Entry("hint", "--model MODEL.onnx measures the float model too"))

    def profile(self, found: Profile, out: Path) -> None:
        """What a compiled model costs, layer by layer."""
        if self.verbosity < 0:
            return
        console = _console(self._stream)
        where = f"{found.target} on {found.board}, {found.engine}, {found.compiler}"
        head = Text(f"{short(found.name)} ({where})\n", "bold")
        self._print(console, head, _profile_table(found, console.width), Text())
        self._print(console, *_profile_totals(found, out))

    def diagnosis(self, found: Diagnosis, page: Path | None) -> None:
        """Where a model loses accuracy, and what helps."""
        if self.verbosity < 0:
            return
        console = _console(self._stream)
        head = Text(f"{short(found.model)} ({found.bits}, {found.scale})\n", "bold")
        self._print(console, head, _places(found, console.width), Text())
        self._print(console, *_findings(found, page))

    def export(self, found: Export, path: Path) -> None:
        """What was exported, and which layers are no QDQ patterns."""
        if self.verbosity < 0:
            return
        console = _console(self._stream)
        head = f"{short(str(path))}: opset {found.opset}, {found.layers} layers, bit-exact\n"
        self._print(console, Text(head, "bold"))
        grouped: dict[str, list[str]] = {}
        for name, why in found.integer_layers.items():
            grouped.setdefault(why, []).append(short(name, 40))
        for i, (why, names) in enumerate(grouped.items()):
            listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "")
            self._print(console, _Entry("" if i else "integer", f"{listed}: {why}"))

    def search(self, found: Search, model: Path, folder: Path | None) -> None:
        """The choices of widths that none beats, and which one keeps the limits."""
        if self.verbosity < 0:
            return
        console = _console(self._stream)
        head = Text(f"{short(found.model)} ({found.target}, {found.samples:,} samples)\n", "bold")
        self._print(console, head, _points(found), Text())
        self._print(console, *_search_ends(found, model, folder))

    def simulation(self, found: Simulation, path: Path) -> None:
        """What the reference computed, and where it is."""
        if self.verbosity < 0:
            return
        console = _console(self._stream)
        table = _table(
            ("output", "<"), ("shape", "<"), ("type", "<"), ("least", ">"), ("most", ">")
        )
        for name, y in found.outputs.items():
            ends = (f"{v:.6g}" for v in ((y.min(), y.max()) if y.size else ()))
            table.add_row(short(name, 40), _dims(y.shape, whole=True), str(y.dtype), *ends)
        count = f"{found.samples:,} sample{'s' if found.samples > 1 else ''}"
        head = f"{short(str(path))}: {count}, {_seconds(found.seconds)}\n"
        self._print(console, Text(head, "bold"), table)

    def targets(self, targets: Mapping[str, Target]) -> None:
        """``--list-targets``."""
        console = _console(self._stream)
        table = _table(("target", "<"), ("board", "<"), ("what", "<"))
        for target in targets.values():
            table.add_row(target.name, target.board, target.description)
        table.columns[2].no_wrap = False
        self._print(console, table)

    def _print(self, console: Console, *what: Text | Table | _Entry) -> None:
        """Through Python's own stream: rich ends the process when a pipe breaks."""
        with console.capture() as captured:
            for item in what:
                shown = item.text(console.width) if isinstance(item, _Entry) else item
                console.print(shown, soft_wrap=isinstance(item, _Entry))
        lines = (line.rstrip(" ") for line in captured.get().split("\n"))
        self._stream.write("\n".join(lines))


@dataclass(frozen=True, slots=True)
class _Entry:
    """``word     what``: a line under a table; *whole* ones, to be copied, are not wrapped."""

    word: str
    what: str
    style: str = ""
    whole: bool = False

    def text(self, width: int) -> Text:
        """The line, broken between words where it exceeds *width*."""
        lines = [self.what]
        if not self.whole:
            lines = textwrap.wrap(self.what, max(20, width - _LABEL), break_on_hyphens=False)
        joined = f"\n{' ' * _LABEL}".join(lines)
        return Text.assemble((f"{self.word:<{_LABEL}}", "dim"), (joined, self.style))


def _console(stream: IO[str]) -> Console:
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDE
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def _table(*columns: tuple[str, str]) -> Table:
    """A table of (header, "<" or ">") columns; the first gives way when space is short."""
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for i, (header, side) in enumerate(columns):
        table.add_column(
            header,
            justify="right" if side == ">" else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=8 if i == 0 and header else None,
        )
    return table


# -- the summary ----------------------------------------------------------------------------------


def _headline(done: Compilation, out: Path) -> str:
    p = done.program
    return f"{short(p.title)} -> {short(str(out))} ({done.target.name}, {done.config.bits})"


def _layers(done: Compilation, width: int) -> Table:
    """The table of layers in *width* columns: kernels and names give way, numbers do not."""
    from qcc.codegen.report import kernel_label, layer_label

    rows = [_layer_numbers(done, layer) for layer in done.program.layers]
    layers = done.program.layers
    rest = sum(max(map(len, column)) + _GAP for column in zip(*rows, _NUMBERS, strict=True))
    # Where there is a choice of kernels, which one; else how the portable ones rescale.
    kernels = [layer.kernel if done.trade else kernel_label(layer) for layer in layers]
    if rest + _longest(kernels) + _NAME > width:
        kernels = [_without_types(kernel) for kernel in kernels]
    if rest + _longest(kernels) + _NAME > width:
        kernels = []
    names = max(_NAME, width - rest - _longest(kernels))
    head = [("layer", "<"), ("op", "<"), ("output", "<"), *[("kernel", "<")][: len(kernels)]]
    table = _table(*head, ("MACs", ">"), ("bytes", ">"), ("SNR dB", ">"))
    for i, (layer, row) in enumerate(zip(layers, rows, strict=True)):
        db = done.sqnr_db.get(layer.output_tensor)
        low = db is not None and db < LOW_SQNR_DB
        cells = [layer_label(layer.name, min(names, 40)), *row[:2], *kernels[i : i + 1], *row[2:4]]
        table.add_row(*cells, Text(row[4], "red" if low else ""))
    return table


def _layer_numbers(done: Compilation, layer: Layer) -> tuple[str, ...]:
    """The columns that are never cut, as ``_NUMBERS`` names them."""
    return (
        layer.op,
        _dims(layer.output_shape),
        _count(layer.macs),
        _count(layer.weight_bytes),
        _decibel(done.sqnr_db.get(layer.output_tensor)),
    )


def _longest(texts: Sequence[str]) -> int:
    """Columns of a column, the gap after it included; none for no column."""
    return max(map(len, [*texts, "kernel"])) + _GAP if texts else 0


def _without_types(label: str) -> str:
    """``shift32`` of ``u8 s8 s8 s32 shift32``."""
    words = [w for w in label.split() if not re.fullmatch(r"[su]\d+,?", w)]
    return " ".join(words) or "-"


def _totals(done: Compilation, size: CodeSize | None) -> list[_Entry]:
    p = done.program
    lines = [_Entry("flash", _flash(p.weight_bytes, size))]
    ports = [_ports("input", p.inputs), _ports("output", p.outputs)]
    lines.append(_Entry("RAM", f"{', '.join([f'arena {p.arena_bytes:,}', *ports])} bytes"))
    if p.arena_bytes:
        lines.append(_Entry("arena", f"{p.arena_proof}{_room(p.ports_in_arena)}"))
    if p.bands:
        lines.append(_Entry("bands", _bands(p.bands, p.arena_bytes, p.macs_once)))
    lines.append(_Entry("work", f"{_macs(p.macs)} MACs, {p.parameters:,} parameters"))
    if done.trade:
        lines.append(_Entry("kernels", _trade(done)))
    if (p.macs_before, p.parameters_before) != (p.macs_once, p.parameters):
        saved = (
            f"constant channels: {_macs(p.macs_before)} -> {_macs(p.macs_once)} MACs, "
            f"weights {p.weight_bytes_before:,} -> {p.weight_bytes:,} bytes"
        )
        lines.append(_Entry("saved", saved, "green"))
    from qcc.codegen.report import layer_label

    if worst := _worst(done):
        layer, db = worst
        style = "red" if db < LOW_SQNR_DB else ""
        lines.append(_Entry("worst", f"{layer_label(layer.name, 40)}, {_decibel(db)} dB", style))
    return lines


def _trade(done: Compilation) -> str:
    """What the kernels take by estimate, and what the other profiles would."""
    instructions = sum(layer.instructions for layer in done.program.layers)
    own = done.trade[done.config.optimize].flash_bytes
    others = [
        f"{name} {_macs(c.instructions)}, {c.flash_bytes - own:+,} bytes"
        for name, c in done.trade.items()
        if name != done.config.optimize
    ]
    return f"about {_macs(instructions)} instructions; --optimize {'; '.join(others)} of flash"


def _flash(weights: int, size: CodeSize | None) -> str:
    if size is None:
        return f"weights {weights:,} bytes"
    total = size.text + size.rodata + size.data
    return f"{total:,} bytes: code {size.text:,}, tables {total - size.text:,} ({size.compiler})"


def _bands(bands: Banding, arena: int, macs: int) -> str:
    """What the bands of rows save and cost."""
    more = f", {100 * bands.macs_again / macs:.1f} %" if macs else ""
    return (
        f"the first {bands.layers} layers run in {bands.count} bands of rows: "
        f"arena {bands.arena_before:,} -> {arena:,} bytes, "
        f"{_macs(bands.macs_again)} MACs again{more}"
    )


def _room(ports: Sequence[Port]) -> str:
    """Which inputs and outputs may lie in the arena."""
    if not ports:
        return ""
    return f"; has room for {', '.join(short(p.name, 40) for p in ports[:3])}" + (
        f" and {len(ports) - 3} more" if len(ports) > 3 else ""
    )


def _ports(word: str, ports: Sequence[Port]) -> str:
    return f"{word}{'s' if len(ports) > 1 else ''} {sum(p.bytes for p in ports):,}"


def _worst(done: Compilation) -> tuple[Layer, float] | None:
    """The layer with the lowest signal-to-noise ratio."""
    known = [
        (layer, done.sqnr_db[layer.output_tensor])
        for layer in done.program.layers
        if layer.output_tensor in done.sqnr_db
    ]
    return min(known, key=lambda item: item[1], default=None)


def _advice(done: Compilation, out: Path) -> list[_Entry]:
    if done.calibrated:
        lines = [_Entry("note", note) for note in done.program.notes]
    else:
        first, *notes = done.program.notes or ("no calibration data; accuracy is not assured",)
        lines = [_Entry("warning", f"{first}: give --calib", "yellow")]
        lines += [_Entry("note", note) for note in notes]
    folder = shlex.quote(short(str(out), 200))
    lines.append(_Entry("next", f"make -C {folder} check", whole=True))
    if not done.target.native:
        lines.append(_Entry("", f"make -C {folder} firmware run", whole=True))
    lines.append(_Entry("", f"qcc eval {folder} --data LABELLED.npz", whole=True))
    lines.append(_Entry("", f"report in {folder}/report.html", whole=True))
    return lines


# -- a profile ------------------------------------------------------------------------------------


def _profile_table(found: Profile, width: int) -> Table:
    """Layers in *width* columns: kernels give way, then names, then the last columns of numbers."""
    from qcc.codegen.report import layer_label

    columns = _profile_columns(found)
    while sum(map(_wide, columns)) + _NAME > width and len(columns) > 3:
        columns.pop()
    rest = sum(map(_wide, columns)) + _GAP
    kernels = [x.kernel for x in found.layers]
    if rest + _longest(kernels) + _NAME > width:
        kernels = []
    names = max(_NAME, width - rest - _longest(kernels))
    heads = [(column[0], ">") for column in columns]
    table = _table(("layer", "<"), *[("kernel", "<")][: len(kernels)], *heads)
    for i, layer in enumerate(found.layers):
        cells = [layer_label(layer.name, min(names, 40)), *kernels[i : i + 1]]
        table.add_row(*cells, *(column[1 + i] for column in columns))
    return table


def _profile_columns(found: Profile) -> list[list[str]]:
    """Each column of numbers: its head, then a text for every layer."""
    layers = found.layers
    columns = [
        ["MACs", *(_count(x.macs) for x in layers)],
        ["instructions", *(f"{x.instructions:,}" for x in layers)],
        ["per MAC", *(_per_mac(x.per_mac) for x in layers)],
    ]
    if found.cycles is not None:
        columns.append(["cycles", *(_count(x.cycles or 0) for x in layers)])
    columns.append(["stack", *(_count(x.stack_bytes) for x in layers)])
    columns.append(["code", *(_count(x.code_bytes) for x in layers)])
    columns.append(["tables", *(_count(x.table_bytes) for x in layers)])
    return columns


def _wide(column: Sequence[str]) -> int:
    """Columns of the screen that *column* takes, the gap after it included."""
    return max(map(len, column)) + _GAP


def _profile_totals(found: Profile, out: Path) -> list[_Entry]:
    entries = [_Entry("run", _profile_run(found))]
    if found.cycle_model:
        entries.append(_Entry("cycles", f"modelled, no wait states: {found.cycle_model}"))
    else:
        entries.append(_Entry("cycles", f"no model for {found.core}; instructions are exact"))
    ram = f"stack {found.stack_bytes:,}, arena {found.arena_bytes:,} bytes"
    entries.append(_Entry("RAM", ram))
    f = found.flash
    flash = (
        f"model {f.model:,} bytes: code {f.code:,}, tables {f.tables:,}, library {f.library:,}; "
        f"with start-up code {f.firmware:,}"
    )
    entries.append(_Entry("flash", flash))
    entries += [
        _Entry("shared", f"{short(s.name)}, {s.bytes:,} bytes: {_users(s.layers)}")
        for s in found.shared
    ]
    entries.append(_Entry("written", f"{short(str(out), 200)}/profile.json, report.html"))
    return entries


def _profile_run(found: Profile) -> str:
    text = f"{found.instructions:,} instructions"
    if found.per_mac is not None:
        text += f", {_per_mac(found.per_mac)} per MAC"
    if found.cycles is not None:
        text += f", {found.cycles:,} cycles"
    runs = f"mean of {found.samples:,} samples" if found.samples > 1 else "1 sample"
    return f"{text}; {runs}, bit-exact"


def _per_mac(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _users(layers: Sequence[int]) -> str:
    if not layers:
        return "not run"
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"


# -- a diagnosis ----------------------------------------------------------------------------------


def _places(found: Diagnosis, width: int) -> Table:
    """The table of layers in *width* columns: the last columns give way, then names."""
    from qcc.codegen.report import layer_label

    columns = _place_columns(found)
    while sum(map(_wide, columns)) + _PLACE > width and len(columns) > 3:
        columns.pop()
    names = max(_NAME, width - sum(map(_wide, columns)) - _GAP)
    table = _table(("layer", "<"), *((column[0], ">") for column in columns))
    for i, place in enumerate(found.places):
        low = place.sqnr_db < LOW_SQNR_DB
        cells = [Text(column[1 + i], "red" if low else "") for column in columns]
        table.add_row(layer_label(place.label, min(names, 40)), *cells)
    return table


def _place_columns(found: Diagnosis) -> list[list[str]]:
    """Each column: its head, then a text for every place."""
    places = found.places
    columns = [
        ["bits", *map(_formats, places)],
        ["own dB", *(_decibel(p.own_db) for p in places)],
        ["SNR dB", *(_decibel(p.sqnr_db) for p in places)],
        ["alone", *(_decibel(p.alone.sqnr_db) for p in places)],
        ["all but it", *(_decibel(p.without.sqnr_db) for p in places)],
    ]
    if found.labelled:
        columns.insert(1, ["alone %", *(_percent(p.alone.accuracy)[:-2] for p in places)])
        columns.insert(2, ["but it %", *(_percent(p.without.accuracy)[:-2] for p in places)])
    columns.append(["clipped", *(_count(p.saturated) for p in places)])
    columns.append(["worst channel", *(_worst_channel(p) for p in places)])
    return columns


def _formats(place: Place) -> str:
    """``W4 u8``: bits of weights, format of results."""
    weights = "" if place.weight_bits is None else f"W{place.weight_bits} "
    return f"{weights}{place.format}"


def _worst_channel(place: Place) -> str:
    if not place.worst:
        return "-"
    return f"{place.worst[0].index}: {_decibel(place.worst[0].sqnr_db)} dB"


def _findings(found: Diagnosis, page: Path | None) -> list[_Entry]:
    whole, real = found.integer, found.real
    where = "calibration samples" if found.on_calibration else "samples"
    text = f"{found.samples:,} {where}: SNR {_decibel(whole.sqnr_db)} dB"
    if found.classifies and whole.agreement is not None:
        text += f", {_percent(whole.agreement)} agree with the float model"
    if found.labelled:
        text += f"; accuracy {_percent(whole.accuracy)}, float {_percent(real.accuracy)}"
    entries = [_Entry("outputs", text), *(_Entry("note", short(n, 400)) for n in found.notes)]
    if not found.suggestions:
        entries.append(_Entry("try", "nothing: no change that was tried gives more than chance"))
    for i, s in enumerate(found.suggestions):
        entries.append(_Entry("" if i else "try", s.text, "green"))
        entries.append(_Entry("", f"  {s.option}", "dim", whole=True))
    if page is not None:
        entries.append(_Entry("written", short(str(page), 200)))
    return entries


# -- a search -------------------------------------------------------------------------------------


def _points(found: Search) -> Table:
    from qcc.search_page import widths_text

    quality = "accuracy" if found.labelled else "SNR dB"
    table = _table(
        ("widths", "<"), ("point", ">"), ("flash", ">"), ("tables", ">"), ("arena", ">"),
        ("instructions", ">"), (quality, ">"), ("", "<"),
    )  # fmt: skip
    for i, p in enumerate(found.points):
        good = _percent(p.effect.accuracy) if found.labelled else _decibel(p.effect.sqnr_db)
        table.add_row(
            widths_text(p), str(i), f"{p.flash:,}", f"{p.tables:,}", f"{p.ram:,}",
            f"{p.instructions:,}", good, "fits" if p.fits else "",
            style="green" if i == found.chosen else "",
        )  # fmt: skip
    return table


def _search_ends(found: Search, model: Path, folder: Path | None) -> list[_Entry]:
    from qcc.search_page import point_file

    entries = []
    if found.labelled:
        entries.append(_Entry("float", f"accuracy {_percent(found.real.accuracy)}"))
    entries += [_Entry("refused", short(why, 200)) for why in found.refused[:3]]
    if found.chosen is None:
        entries.append(_Entry("none", "no point keeps all limits", "red"))
    if folder is None:
        entries.append(_Entry("hint", "-o DIR writes a --config file for every point"))
        return entries
    shown = found.chosen if found.chosen is not None else len(found.points) - 1
    file = shlex.quote(str(folder / point_file(shown)))
    command = f"qcc {shlex.quote(str(model))} -o OUT --config {file}"
    entries.append(_Entry("next", command, whole=True))
    entries.append(_Entry("written", f"{short(str(folder), 200)}: search.json, search.svg"))
    return entries


# -- values ---------------------------------------------------------------------------------------


def _dims(shape: Shape, whole: bool = False) -> str:
    """``14x14x16``; the batch axis of 1 is left out unless *whole*."""
    inner = shape if whole or len(shape) < 2 or shape[0] != 1 else shape[1:]
    return "x".join(map(str, inner)) or "scalar"


def _count(n: int) -> str:
    return f"{n:,}" if n else "-"


def _macs(n: int) -> str:
    """``7.49 M``; whole numbers below a million."""
    if n < 1_000_000:
        return f"{n:,}"
    return f"{n / 1e6:,.2f} M" if n < 10**10 else f"{n / 1e9:,.2f} G"


def _decibel(db: float | None) -> str:
    if db is None:
        return "-"
    return f"{db:.1f}" if math.isfinite(db) else "exact"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
