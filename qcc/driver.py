"""The compiler as one flat sequence: read, tidy, calibrate, quantize, shrink, lower, emit, write.

Nothing is written before everything has succeeded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from qcc import reference
from qcc.codegen.emit import emit_model, model_sources
from qcc.codegen.lower import lower, totals
from qcc.codegen.manifest import manifest_text
from qcc.codegen.names import c_identifier
from qcc.codegen.program import Program, Vectors
from qcc.codegen.project import project_files
from qcc.codegen.report import report_html
from qcc.codegen.target import Target, resolve
from qcc.config import Config
from qcc.errors import PassError
from qcc.frontend.float_model import FloatModel
from qcc.frontend.load import load_model
from qcc.frontend.onnx_reader import read_onnx
from qcc.frontend.synthetic import synthetic_samples
from qcc.ir import Array, Graph, Int
from qcc.passes.manager import Observer, Pass, check_stop_after, run_passes
from qcc.passes.observe import float_values, observe, source_names
from qcc.passes.pipeline import FLOAT, NAMES, SHRINK, integer_passes

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

SQNR_SAMPLES = 8
"""Calibration samples on which every layer is compared with the float model."""

_VECTOR_BYTES = 1 << 18
"""Check vectors are fewer where the inputs and outputs would exceed this."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """Everything known of a compiled model, before anything is written.

    Attributes:
        graph: the final integer graph: the reference runs it.
        sqnr_db: signal to quantization noise per activation tensor, against the float model.
        calibrated: whether the user gave calibration data.
    """

    config: Config
    target: Target
    graph: Graph
    program: Program
    vectors: Vectors
    sqnr_db: Mapping[str, float]
    calibrated: bool
    source_sha256: str


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
    target = resolve(config.target)
    check_stop_after([Pass(n, lambda g, c: 0) for n in NAMES], config)
    graph = read_onnx(proto, c_identifier(config.name or "model"), config.shapes)
    if watch:
        watch("read", graph, 0)
    run_passes(graph, FLOAT, config, watch)
    model = FloatModel(proto, source_names(graph), config.shapes)
    notes: list[str] = []
    samples = config.calibration
    if samples is None:
        samples, how = synthetic_samples(proto, graph)
        notes.append(f"no calibration data: ranges come from {how}; accuracy is not assured")

    def calibrated(done: int, total: int) -> None:
        if progress:
            progress("calibrating", done, total)

    stats = observe(graph, model, samples, calibrated)
    few = {k: v[:SQNR_SAMPLES] for k, v in samples.items()}
    real = list(float_values(graph, model, few))
    run_passes(graph, integer_passes(stats), config, watch)
    q_inputs = reference.quantize_inputs(graph, few)
    values = reference.run_int(graph, q_inputs, keep=_activations(graph))
    sqnr = _sqnr(graph, real, values)
    before = totals(graph)
    outputs = {name: values[name] for name in graph.outputs}
    run_passes(graph, SHRINK, config, watch)
    _same_outputs(graph, q_inputs, outputs)
    program = lower(graph, c_identifier(config.name or "model"), title, before, notes)
    vectors = _vectors(graph, program, config, samples)
    calibrated_by_user = config.calibration is not None
    return Compilation(config, target, graph, program, vectors, sqnr, calibrated_by_user, digest)


def output_files(done: Compilation) -> dict[str, str]:
    """The text of every file of OUT, by path."""
    files = emit_model(done.program, done.target)
    files |= project_files(done.program, done.vectors, done.target, model_sources(done.program))
    files["report.html"] = report_html(done)
    files["manifest.json"] = manifest_text(done, list(files))
    return files


def _activations(graph: Graph) -> list[str]:
    return [t.name for t in graph.tensors() if t.data is None]


def _sqnr(
    graph: Graph, real: list[dict[str, Array]], values: Mapping[str, Int]
) -> dict[str, float]:
    """Per tensor, 10 log10(signal power / noise power) over the samples."""
    out: dict[str, float] = {}
    for name, q in values.items():
        quant = graph.quant(name)
        if any(name not in v for v in real):
            continue
        want = np.concatenate([v[name] for v in real]).astype(np.float64)
        noise = want - (q - quant.zero_point) * quant.scalar
        power, error = float((want**2).sum()), float((noise**2).sum())
        out[name] = float("inf") if error == 0 else 10 * np.log10(max(power, 1e-30) / error)
    return out


def _same_outputs(graph: Graph, inputs: Mapping[str, Int], want: Mapping[str, Int]) -> None:
    """Removing constant channels must not change a bit; checked on every compilation."""
    got = reference.run_int(graph, inputs)
    for name, value in want.items():
        if not np.array_equal(got[name], value):
            raise PassError(f"internal error: removing constant channels changed output {name}")


def _vectors(
    graph: Graph, program: Program, config: Config, samples: Mapping[str, Array]
) -> Vectors:
    """Samples for ``make check``: calibration samples and one of random integers."""
    per_sample = sum(p.bytes for p in (*program.inputs, *program.outputs))
    count = max(1, min(config.vectors - 1, _VECTOR_BYTES // per_sample - 1))
    chosen = reference.quantize_inputs(graph, {k: v[:count] for k, v in samples.items()})
    rng = np.random.default_rng(0)
    inputs: dict[str, Int] = {}
    for name, x in chosen.items():
        q = graph.quant(name).qtype
        noise = rng.integers(q.qmin, q.qmax + 1, (1, *x.shape[1:]))
        inputs[name] = np.concatenate([x, noise])
    keep = [layer.output_tensor for layer in program.layers]
    values = reference.run_int(graph, inputs, keep={*keep, *graph.outputs})
    return Vectors(
        tuple(inputs[n] for n in graph.inputs),
        tuple(values[n] for n in graph.outputs),
        tuple(values[n][0] for n in keep),
    )


__all__ = ["Compilation", "compile_file", "compile_proto", "output_files"]
