"""The compiler as one flat sequence: read, tidy, calibrate, quantize, shrink, lower, emit, write.

Nothing is written before everything has succeeded.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from qcc import reference
from qcc.codegen.emit import emit_model, model_sources
from qcc.codegen.lower import lower, totals
from qcc.codegen.manifest import manifest_text
from qcc.codegen.names import model_name
from qcc.codegen.program import Banding, Program, Vectors
from qcc.codegen.project import project_files
from qcc.codegen.report import report_html
from qcc.codegen.select import Choice, Selector, select
from qcc.codegen.storage import arena_size
from qcc.codegen.target import Target, resolve
from qcc.config import Config, Optimize
from qcc.errors import PassError
from qcc.frontend.float_model import FloatModel
from qcc.frontend.load import load_model
from qcc.frontend.onnx_reader import read_onnx
from qcc.frontend.synthetic import input_shapes, synthetic_samples
from qcc.graph_file import REFERENCE, save_graph
from qcc.histogram import Histogram
from qcc.ir import Array, Graph, Int
from qcc.ops import OPS
from qcc.passes.choose_widths import choose_widths
from qcc.passes.equalize import wanted as equalizing
from qcc.passes.manager import Observer, check_stop_after, run_passes
from qcc.passes.observe import float_values, observe, source_names
from qcc.passes.patch_rows import Bands
from qcc.passes.pipeline import (
    FLOAT,
    NAMES,
    SHRINK,
    equalize_passes,
    fit_passes,
    integer_passes,
)
from qcc.passes.tune_weights import tuned

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

SQNR_SAMPLES = 8
"""Calibration samples on which every layer is compared with the float model."""

MOST_SAMPLES = 256
"""Calibration samples for bias correction, fewer for large models (``_VALUES``, ``_MACS``)."""

TUNING_SAMPLES = 1024
"""The same where steps and rounding of weights are chosen by them too."""

_VALUES = 1 << 25
_MACS = 1 << 29
_TUNING_MACS = 1 << 32

_VECTOR_BYTES = 1 << 18
"""Check vectors are fewer where the inputs and outputs would exceed this."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """Everything known of a compiled model, before anything is written.

    Attributes:
        graph: the final integer graph: the reference runs it.
        sqnr_db: signal to quantization noise per activation tensor, against the float model.
        calibrated: whether the user gave calibration data.
        trade: what every profile of ``--optimize`` would take; empty where the target has
            no kernels to choose from.
    """

    config: Config
    target: Target
    graph: Graph
    program: Program
    vectors: Vectors
    sqnr_db: Mapping[str, float]
    calibrated: bool
    source_sha256: str
    trade: Mapping[Optimize, Choice]


def compile_file(
    path: Path,
    config: Config,
    progress: Progress | None = None,
    watch: Observer | None = None,
) -> Compilation:
    """Compile the model in *path*.

    Raises:
        QccError: the model, its data or an option is at fault.
        Stopped: ``config.stop_after`` was reached.
    """
    proto = load_model(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = config.name or path.stem
    return compile_proto(proto, replace(config, name=name), path.name, digest, progress, watch)


def compile_proto(
    proto: onnx.ModelProto,
    config: Config,
    title: str = "model",
    digest: str = "",
    progress: Progress | None = None,
    watch: Observer | None = None,
) -> Compilation:
    """Compile a checked model; *watch* sees the graph as it was read and after every pass."""
    target, name = resolve(config.target), model_name(config.name or "model")
    check_stop_after(NAMES, config)
    seen = calibrate(proto, config, progress, watch)
    graph, real, notes = quantized(seen, config, watch, progress), seen.real, seen.notes
    few = {tensor: x[:SQNR_SAMPLES] for tensor, x in real.items()}
    integers = {
        tensor: reference.quantize_tensor(graph, tensor, few[tensor]) for tensor in graph.inputs
    }
    values = reference.run_int(graph, integers, keep=_activations(graph))
    sqnr, before = _sqnr(graph, few, values), totals(graph)
    run_passes(graph, SHRINK, config, watch)
    _same_outputs(graph, integers, values, "removing constant channels")
    bands = _fit(graph, config, target, watch)
    if bands:
        _same_outputs(graph, integers, values, "dividing into bands of rows")
        sqnr |= {part: sqnr[whole] for part, whole in bands.parts.items() if whole in sqnr}
    selector = Selector(graph, target.isa)
    chosen = selector.choose(config.optimize, config.flash_budget)
    program = lower(graph, name, title, before, notes, chosen.variants, config.io, _banding(bands))
    vectors = _vectors(graph, program, config, real)
    calibrated = config.calibration is not None
    trade = selector.trade() if target.isa else {}
    return Compilation(config, target, graph, program, vectors, sqnr, calibrated, digest, trade)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A float graph and what calibration saw of it; ``quantized`` makes it integer.

    Attributes:
        graph: the float graph, tidied.
        stats: a histogram per activation.
        real: float values (N, *shape) of every activation for the first samples.
        notes: what the user must know.
    """

    graph: Graph
    stats: Mapping[str, Histogram]
    real: Mapping[str, Array]
    notes: Sequence[str]


def calibrate(
    proto: onnx.ModelProto,
    config: Config,
    progress: Progress | None = None,
    watch: Observer | None = None,
) -> Calibrated:
    """Read and tidy a checked model, and run it on the calibration samples."""
    graph = read_onnx(proto, model_name(config.name or "model"), config.shapes)
    if watch:
        watch("read", graph, 0)
    run_passes(graph, FLOAT, config, watch)
    samples, notes = _samples(proto, graph, config)
    model = FloatModel(proto, source_names(graph), input_shapes(graph))
    if equalizing(config):
        few = _float_values(graph, model, samples, tuned(config))
        run_passes(graph, equalize_passes(few), config, watch)
    stats = observe(graph, model, samples, progress and partial(progress, "calibrating"))
    real = _float_values(graph, model, samples, tuned(config))
    return Calibrated(graph, stats, real, [*notes, *choose_widths(graph, config).notes])


def quantized(
    seen: Calibrated,
    config: Config,
    watch: Observer | None = None,
    progress: Progress | None = None,
) -> Graph:
    """The integer graph, before constant channels are removed; *seen* stays as it is."""
    graph = copy.deepcopy(seen.graph)
    heard = progress and partial(progress, "tuning weights") if tuned(config) else None
    passes = integer_passes(seen.stats, seen.graph, seen.real, heard)
    run_passes(graph, passes, config, watch)
    return graph


def output_files(done: Compilation) -> dict[str, str]:
    """The text of every file of OUT, by path."""
    files = emit_model(done.program, done.target)
    files |= project_files(done.program, done.vectors, done.target, model_sources(done.program))
    files[REFERENCE] = save_graph(done.graph)
    files["report.html"] = report_html(done)
    files["manifest.json"] = manifest_text(done, list(files))
    return files


def _fit(graph: Graph, config: Config, target: Target, watch: Observer | None) -> Bands | None:
    """Rewrite *graph* so that it fits into memory; how, if it runs in bands of rows."""

    def arena(graph: Graph) -> int:
        chosen = select(graph, target.isa, config.optimize)
        return arena_size(graph, chosen.variants, config.io)

    found: list[Bands] = []
    run_passes(graph, fit_passes(arena, found.append), config, watch)
    return found[0] if found else None


def _banding(bands: Bands | None) -> Banding | None:
    if bands is None:
        return None
    return Banding(bands.count, bands.layers, bands.tensor, bands.macs_again, bands.arena_before)


def _activations(graph: Graph) -> list[str]:
    return [t.name for t in graph.tensors() if t.data is None]


def _samples(
    proto: onnx.ModelProto, graph: Graph, config: Config
) -> tuple[Mapping[str, Array], list[str]]:
    """What to calibrate on, and what the user must know of it."""
    if config.calibration is not None:
        return config.calibration, []
    samples, how = synthetic_samples(proto, graph)
    return samples, [f"no calibration data: ranges come from {how}; accuracy is not assured"]


def _float_values(
    graph: Graph, model: FloatModel, samples: Mapping[str, Array], tuning: bool
) -> dict[str, Array]:
    """Float values (N, *shape) of every activation for the first N samples, N as memory allows.

    *tuning* asks for more of them, at the price of time.
    """
    size = sum(graph.tensor(t).size for t in _activations(graph))
    macs = sum(OPS[n.op].macs(graph, n) for n in graph.nodes())
    most, work = (TUNING_SAMPLES, _TUNING_MACS) if tuning else (MOST_SAMPLES, _MACS)
    count = min(most, _VALUES // max(1, size), work // max(1, macs))
    few = {k: v[: max(2, count)] for k, v in samples.items()}
    number = len(next(iter(few.values())))
    kept: dict[str, Array] = {}
    for i, row in enumerate(float_values(graph, model, few)):
        for name, value in row.items():
            if name not in kept:
                kept[name] = np.empty((number, *value.shape[1:]), value.dtype)
            kept[name][i] = value[0]
    return kept


def _sqnr(graph: Graph, real: Mapping[str, Array], values: Mapping[str, Int]) -> dict[str, float]:
    """Per tensor, 10 log10(signal power / noise power) over the samples."""
    out: dict[str, float] = {}
    for name in filter(real.__contains__, values):
        quant = graph.quant(name)
        want = real[name].astype(np.float64)
        noise = want - (values[name] - quant.zero_point) * quant.scalar
        power, error = float((want**2).sum()), float((noise**2).sum())
        out[name] = math.inf if error == 0 else 10 * math.log10(max(power, 1e-30) / error)
    return out


def _same_outputs(
    graph: Graph, inputs: Mapping[str, Int], want: Mapping[str, Int], what: str
) -> None:
    """These passes must not change a bit; checked on every compilation."""
    for name, value in reference.run_int(graph, inputs).items():
        if not np.array_equal(value, want[name]):
            raise PassError(f"internal error: {what} changed output {name}")


def _vectors(graph: Graph, program: Program, config: Config, real: Mapping[str, Array]) -> Vectors:
    """Samples for ``make check``: calibration samples and one of random integers."""
    per_sample = sum(p.bytes for p in (*program.inputs, *program.outputs))
    count = max(1, min(config.vectors - 1, _VECTOR_BYTES // per_sample - 1))
    rng = np.random.default_rng(0)
    inputs: dict[str, Int] = {}
    for name in graph.inputs:
        x, q = reference.quantize_tensor(graph, name, real[name][:count]), graph.quant(name).qtype
        noise = rng.integers(q.qmin, q.qmax + 1, (1, *x.shape[1:]))
        inputs[name] = np.concatenate([x, noise])
    keep = [layer.output_tensor for layer in program.layers]
    values = reference.run_int(graph, inputs, keep={*keep, *graph.outputs})
    return Vectors(
        tuple(inputs[n] for n in graph.inputs),
        tuple(values[n] for n in graph.outputs),
        tuple(values[n][0] for n in keep),
    )


__all__ = [
    "Calibrated",
    "Compilation",
    "calibrate",
    "compile_file",
    "compile_proto",
    "output_files",
    "quantized",
]
