"""The Python API: compile a model, run what came out, measure it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qcc.arith import quantize
from qcc.codegen.write import check_writable, write_files
from qcc.config import Config, parse_bits
from qcc.driver import Compilation, Progress, compile_proto, output_files
from qcc.errors import QccError, UsageError
from qcc.frontend.calibration import check_samples, load_labelled, load_samples
from qcc.frontend.float_model import FloatModel
from qcc.frontend.load import load_model
from qcc.frontend.shapes import static_inputs
from qcc.graph_file import REFERENCE, load_graph
from qcc.host import HostLibrary
from qcc.ir import Array, Graph, Int, QType, Shape
from qcc.reference import run_int, to_memory, to_onnx

if TYPE_CHECKING:
    from qcc.profiling.result import Profile


class CompiledModel:
    """A compiled model in a folder, callable on real numbers.

    Attributes:
        out: the folder.
        manifest: its manifest.json.
        compilation: what the compiler knew, when this process compiled it; else None.
    """

    def __init__(self, out: str | Path, compilation: Compilation | None = None) -> None:
        self.out = Path(out)
        self.compilation = compilation
        self.manifest = read_manifest(self.out)
        self._library: HostLibrary | None = None
        self._graph: Graph | None = None if compilation is None else compilation.graph

    @property
    def graph(self) -> Graph:
        """The integer graph; from the folder, where another process compiled the model."""
        if self._graph is None:
            self._graph = read_reference(self.out, self.manifest)
        return self._graph

    @property
    def report(self) -> str:
        """The report page (HTML)."""
        return (self.out / "report.html").read_text(encoding="utf-8")

    def __call__(self, *inputs: Array, backend: str = "host") -> Array | tuple[Array, ...]:
        """Real outputs for real inputs.

        Args:
            inputs: per model input, one sample (ONNX shape) or a batch (N, *ONNX shape).
            backend: "host" runs the C, "reference" the numpy reference; both give the same bits.

        Returns:
            Per model output (N, *ONNX shape); without the leading axis for one sample.
        """
        single, real = self._batched(inputs)
        outputs = self.dequantize(self.run(self.quantize(real), backend))
        if single:
            outputs = [y[0] for y in outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(self, inputs: Sequence[Int], backend: str = "host") -> list[Int]:
        """Integer outputs (N, *C shape) of integer inputs (N, *C shape)."""
        if backend == "reference":
            return self._run_reference(inputs)
        if backend != "host":
            raise UsageError(f"backend {backend!r}: 'host' or 'reference'")
        if self._library is None:
            self._library = HostLibrary(self.out, self.manifest)
        return self._library.run(inputs)

    def _run_reference(self, inputs: Sequence[Int]) -> list[Int]:
        values = run_int(self.graph, dict(zip(self.graph.inputs, inputs, strict=True)))
        return [values[name] for name in self.graph.outputs]

    def quantize(self, real: Sequence[Array]) -> list[Int]:
        """Integers in C memory order from real inputs (N, *ONNX shape)."""
        return quantize_ports(self.manifest["inputs"], real)

    def dequantize(self, outputs: Sequence[Int]) -> list[Array]:
        """Real outputs (N, *ONNX shape) from integers (N, *C shape)."""
        return dequantize_ports(self.manifest["outputs"], outputs)

    def close(self) -> None:
        """Remove the temporary host library."""
        if self._library is not None:
            self._library.close()
            self._library = None

    def __del__(self) -> None:
        if getattr(self, "_library", None) is not None:
            self.close()

    def _batched(self, inputs: Sequence[Array]) -> tuple[bool, list[Array]]:
        ports = self.manifest["inputs"]
        if len(inputs) != len(ports):
            raise UsageError(f"{len(inputs)} inputs given, the model has {len(ports)}")
        single = np.ndim(inputs[0]) == len(ports[0]["onnx_shape"])
        real = [np.asarray(x)[None] if single else np.asarray(x) for x in inputs]
        for x, p in zip(real, ports, strict=True):
            if list(x.shape[1:]) != p["onnx_shape"]:
                raise UsageError(
                    f"input {p['name']}: shape {x.shape}; expected {tuple(p['onnx_shape'])} "
                    "or a batch of those"
                )
        return single, real


def compile(
    model: str | Path,
    out: str | Path,
    *,
    target: str = "generic",
    calibration: str | Path | Array | Mapping[str, Array] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    bits: str = "W8A8",
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> CompiledModel:
    """Compile the ONNX file *model* into the folder *out*.

    Args:
        model: path of the ONNX file.
        out: folder to write; must be absent or empty unless *force*.
        target: a name of ``qcc --list-targets``.
        calibration: path as for ``--calib``, or ONNX input name -> (N, *ONNX shape) float32; the
            array alone will do for a model with one input.
        mean: ``(raw - mean) / std`` is applied to calibration data read from a path; default 0.
        std: see *mean*; default 1.
        bits: widths of weights and activations, ``W8A8``.
        force: write into a folder that is not empty.
        progress: called with (stage, done, total).
        options: the other fields of ``qcc.config.Config``.

    Raises:
        QccError: bad model, data or option; nothing has been written then.
    """
    path, folder = Path(model), Path(out)
    check_writable(folder, force)
    weight_bits, act_bits = parse_bits(bits)
    proto = load_model(path)
    chosen = {k: tuple(map(int, v)) for k, v in options.pop("shapes", {}).items()}
    config = Config(
        target=target,
        name=options.pop("name", None) or path.stem,
        weight_bits=weight_bits,
        act_bits=act_bits,
        shapes=chosen,
        mean=_numbers(mean),
        std=_numbers(std),
        **options,
    )
    if calibration is not None:
        inputs = static_inputs(proto, chosen)
        config = replace(config, calibration=_samples(calibration, inputs, mean, std))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    done = compile_proto(proto, config, path.name, digest, progress)
    write_files(output_files(done), folder)
    return CompiledModel(folder, done)


def _samples(
    data: str | Path | Array | Mapping[str, Array],
    inputs: Mapping[str, Shape],
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
) -> Mapping[str, Array]:
    """Float samples for each input, from a path or from memory."""
    if isinstance(data, str | Path):
        return load_samples(
            Path(data), inputs, 0.0 if mean is None else mean, 1.0 if std is None else std
        )
    return check_samples(data if isinstance(data, Mapping) else {"samples": data}, inputs)


def _numbers(value: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    return tuple(float(v) for v in np.atleast_1d(np.asarray(value, np.float64)))


def read_manifest(out: Path) -> dict[str, Any]:
    """manifest.json of a folder that qcc wrote.

    Raises:
        QccError: there is none, or it is none of qcc's.
    """
    try:
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or "entry" not in manifest:
            raise ValueError
    except (OSError, ValueError) as e:
        raise QccError(f"{out}: no manifest.json of qcc; give a folder that qcc wrote") from e
    return manifest


def read_reference(out: Path, manifest: Mapping[str, Any]) -> Graph:
    """The integer graph of a folder that qcc wrote, which has *manifest*.

    Raises:
        QccError: it is missing, damaged, or not the graph of this manifest.
    """
    path = out / REFERENCE
    if not path.is_file():
        raise QccError(f"{out}: no {REFERENCE}; compile the model again with this qcc")
    try:
        graph = load_graph(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise QccError(f"{path}: it cannot be read") from e
    except QccError as e:
        raise QccError(f"{path}: {e.message}", e.hints) from e
    for key, names in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        ports = manifest.get(key)
        found = [_described(p) for p in ports] if isinstance(ports, list) else []
        if found != [(list(graph.shape(n)), graph.quant(n).qtype.dtype) for n in names]:
            raise QccError(f"{out}: manifest.json and {REFERENCE} are of different compilations")
    return graph


def _described(port: Any) -> tuple[Any, Any]:
    return (port.get("shape"), port.get("dtype")) if isinstance(port, dict) else (None, None)


def quantize_ports(ports: Sequence[Mapping[str, Any]], real: Sequence[Array]) -> list[Int]:
    """Integers in C memory order from reals (N, *ONNX shape), per port of a manifest."""
    out: list[Int] = []
    for p, x in zip(ports, real, strict=True):
        qtype = QType(p["bits"], p["signed"])
        out.append(quantize(to_memory(x, p["axes"]), p["scale"], qtype, p["zero_point"]))
    return out


def dequantize_ports(ports: Sequence[Mapping[str, Any]], values: Sequence[Int]) -> list[Array]:
    """Reals (N, *ONNX shape) from integers (N, *C shape), per port of a manifest."""
    return [
        to_onnx((q - p["zero_point"]) * p["scale"], p["axes"]).astype(np.float32)
        for p, q in zip(ports, values, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a compiled model does on data.

    Attributes:
        samples: how many.
        float_accuracy, integer_accuracy: top-1 share, if there are labels (and a float model).
        agreement: share of samples with the same top-1 in float and integer.
        sqnr_db: signal of the float outputs to what the integer ones differ by, over everything.
        float_seconds, integer_seconds: time of all inferences.
    """

    samples: int
    float_accuracy: float | None
    integer_accuracy: float | None
    agreement: float | None
    sqnr_db: float | None
    float_seconds: float | None
    integer_seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    compiled: CompiledModel | str | Path,
    data: str | Path | Mapping[str, Array],
    labels: Array | None = None,
    *,
    model: str | Path | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    limit: int | None = None,
    jobs: int | None = None,
) -> Evaluation:
    """Measure a compiled model: its C, built for this machine, on every sample.

    Args:
        compiled: the model or its folder.
        data: a labelled .npz (as ``--calib``, with labels under y, label, labels or target), or
            ONNX input name -> (N, *ONNX shape) float32.
        labels: (N,) class indices, where *data* is a mapping.
        model: the source ONNX file, to measure the float model beside it.
        mean: preprocessing of data read from a file; default: what calibration used.
        std: see *mean*.
        limit: use the first samples only.
        jobs: threads; default: one per core.
    """
    out = compiled.out if isinstance(compiled, CompiledModel) else Path(compiled)
    manifest = read_manifest(out)
    shapes = {p["name"]: tuple(p["onnx_shape"]) for p in manifest["inputs"]}
    if isinstance(data, Mapping):
        samples: Mapping[str, Array] = check_samples(data, shapes)
    else:
        recorded = manifest["options"]
        mean = (recorded.get("mean") or 0.0) if mean is None else mean
        std = (recorded.get("std") or 1.0) if std is None else std
        samples, labels = load_labelled(Path(data), shapes, mean, std)
    samples = {k: v[:limit] for k, v in samples.items()}
    real = [samples[p["name"]] for p in manifest["inputs"]]
    truth = None if labels is None else np.asarray(labels).reshape(-1)[: len(real[0])]
    if truth is not None and len(truth) != len(real[0]):
        raise UsageError(f"{len(truth)} labels for {len(real[0])} samples")
    jobs = jobs or min(os.cpu_count() or 1, 8)
    quantized = quantize_ports(manifest["inputs"], real)
    with HostLibrary(out, manifest, jobs) as library:
        start = time.perf_counter()
        integers = dequantize_ports(manifest["outputs"], library.run(quantized))
        integer_seconds = time.perf_counter() - start
    floats, float_seconds = None, None
    if model is not None:
        floats, float_seconds = _run_float(Path(model), manifest, samples)
    return Evaluation(
        samples=len(real[0]),
        float_accuracy=_accuracy(floats, truth),
        integer_accuracy=_accuracy(integers, truth),
        agreement=None if floats is None else _accuracy(integers, _top1(floats[0])),
        sqnr_db=None if floats is None else _sqnr(floats, integers),
        float_seconds=float_seconds,
        integer_seconds=integer_seconds,
    )


def _run_float(
    path: Path, manifest: Mapping[str, Any], samples: Mapping[str, Array]
) -> tuple[list[Array], float]:
    shapes = {p["name"]: tuple(p["onnx_shape"]) for p in manifest["inputs"]}
    names = [p["name"] for p in manifest["outputs"]]
    model = FloatModel(load_model(path), names, shapes)
    start = time.perf_counter()
    rows = [
        model.run({k: v[i] for k, v in samples.items()})
        for i in range(len(next(iter(samples.values()))))
    ]
    seconds = time.perf_counter() - start
    return [np.stack([r[n] for r in rows]) for n in names], seconds


def _top1(y: Array) -> Int:
    return np.asarray(y.reshape(len(y), -1).argmax(axis=1), np.int64)


def _accuracy(outputs: Sequence[Array] | None, truth: Array | None) -> float | None:
    """Share of samples whose first output has its maximum at the label."""
    if outputs is None or truth is None:
        return None
    return float((_top1(outputs[0]) == truth).mean())


def _sqnr(want: Sequence[Array], got: Sequence[Array]) -> float | None:
    power = sum(float((w.astype(np.float64) ** 2).sum()) for w in want)
    noise = sum(
        float(((w.astype(np.float64) - g) ** 2).sum()) for w, g in zip(want, got, strict=True)
    )
    return None if noise == 0 or power == 0 else float(10 * np.log10(power / noise))


def profile(
    compiled: CompiledModel | str | Path,
    *,
    target: str | None = None,
    board: str | None = None,
    engine: str = "auto",
    samples: int = 1,
) -> Profile:
    """Measure what a compiled model costs on its core, under emulation.

    The folder is only read; ``qcc.profiling.write.write_profile`` puts the result into it, as the
    command does.

    Args:
        compiled: the model or its folder.
        target: build for this one; default: what it was compiled for.
        board: one of the target's emulated boards; default: its first.
        engine: "qemu", "unicorn" or "auto", which takes the first of these that is installed.
        samples: runs, each on a sample of OUT/check; numbers are the mean.

    Raises:
        UsageError: an option that does not fit.
        QccError: a tool is missing, or the model computes something else than the reference there.
    """
    from qcc.profiling.profile import profile as measure

    out = compiled.out if isinstance(compiled, CompiledModel) else Path(compiled)
    return measure(
        out, read_manifest(out), target=target, board=board, engine=engine, samples=samples
    )
