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
    from qcc.codegen.program import Layer, Port
    from qcc.codegen.target import Target
    from qcc.driver import Compilation
    from qcc.inspect_model import Inspection
    from qcc.ir import Shape
    from qcc.simulate import Simulation

Progress = Callable[[str, int, int], None]

_WIDE = 100
"""Columns where the output is no terminal."""

_GAP = 2
"""Columns between two columns of a table."""

_NAME = 14
"""Columns that names of layers have at least."""

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
    kernels = [kernel_label(layer) for layer in layers]
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
    arena = f"arena {p.arena_bytes:,}"
    if p.arena_bytes:
        arena += f" (lower bound {p.arena_bound:,})"
    ports = [_ports("input", p.inputs), _ports("output", p.outputs)]
    lines.append(_Entry("RAM", f"{', '.join([arena, *ports])} bytes"))
    lines.append(_Entry("work", f"{_macs(p.macs)} MACs, {p.parameters:,} parameters"))
    if (p.macs_before, p.weight_bytes_before) != (p.macs, p.weight_bytes):
        saved = (
            f"constant channels: {_macs(p.macs_before)} -> {_macs(p.macs)} MACs, "
            f"weights {p.weight_bytes_before:,} -> {p.weight_bytes:,} bytes"
        )
        lines.append(_Entry("saved", saved, "green"))
    from qcc.codegen.report import layer_label

    if worst := _worst(done):
        layer, db = worst
        style = "red" if db < LOW_SQNR_DB else ""
        lines.append(_Entry("worst", f"{layer_label(layer.name, 40)}, {_decibel(db)} dB", style))
    return lines


def _flash(weights: int, size: CodeSize | None) -> str:
    if size is None:
        return f"weights {weights:,} bytes"
    total = size.text + size.rodata + size.data
    return f"{total:,} bytes: code {size.text:,}, tables {total - size.text:,} ({size.compiler})"


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
        notes = done.program.notes or ("no calibration data; accuracy is not assured",)
        lines = [_Entry("warning", f"{note}: give --calib", "yellow") for note in notes]
    folder = shlex.quote(short(str(out), 200))
    lines.append(_Entry("next", f"make -C {folder} check", whole=True))
    if not done.target.native:
        lines.append(_Entry("", f"make -C {folder} firmware run", whole=True))
    lines.append(_Entry("", f"qcc eval {folder} --data LABELLED.npz", whole=True))
    lines.append(_Entry("", f"report in {folder}/report.html", whole=True))
    return lines


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
