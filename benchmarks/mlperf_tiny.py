"""The four MLPerf Tiny models: accuracy, bit-exactness, size and compile time.

    python benchmarks/mlperf_tiny.py --shared ../shared                 accuracy of every variant
    python benchmarks/mlperf_tiny.py --models ic kws --bits W4A8 --scales single-shift
                                     --calibration 500                  other widths and methods
    python benchmarks/mlperf_tiny.py --shared ../shared --boards        20 samples each under QEMU
    python benchmarks/mlperf_tiny.py --shared ../shared --compile-time  seconds and peak memory

*shared* holds ``models`` and ``data`` (not part of this repository). Calibration uses
``*_calib.npz``, accuracy ``*_eval.npz``. Every evaluation sample goes through the generated C and
through the numpy reference, and the two are compared bit by bit.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from qcc.api import CompiledModel, compile, dequantize_ports, quantize_ports
from qcc.codegen.program import Vectors
from qcc.codegen.write import write_files
from qcc.config import (
    EQUALIZE,
    KEEP8,
    ROUNDINGS,
    SCALE_MODES,
    WEIGHT_CLIPS,
    Config,
    ScaleMode,
)
from qcc.driver import Compilation, compile_file, output_files
from qcc.frontend.float_model import FloatModel
from qcc.frontend.load import load_model
from qcc.host import HostLibrary
from qcc.ir import Array
from qcc.reference import run_int

Prepare = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Task:
    """A model and its data; *prepare* makes float32 samples (N, 1, ...) of the stored array."""

    name: str
    file: str
    data: str
    prepare: Prepare
    mean: str = "0"
    std: str = "1"
    calibration: int = 100


def _float(x: Array) -> Array:
    return x.astype(np.float32)[:, None]


def _nchw(prepare: Prepare) -> Prepare:
    return lambda x: np.ascontiguousarray(prepare(x).transpose(0, 1, 4, 2, 3))


def _unit(x: Array) -> Array:
    return _float(x) / np.float32(255)


def _mfcc(x: Array) -> Array:
    return (_float(x) - np.float32(83)) * np.float32(0.5847029)


TASKS = (
    Task("ic", "ic_float", "ic", _float),
    Task("ic nchw", "ic_float_nchw", "ic", _nchw(_float)),
    Task("ic bn", "ic_float_bn", "ic", _float),
    Task("kws", "kws_float", "kws", _mfcc, "83", str(1 / 0.5847029)),
    Task("kws bn", "kws_float_bn", "kws", _mfcc, "83", str(1 / 0.5847029)),
    Task("vww", "vww_float", "vww", _unit, "0", "255"),
    Task("vww nchw", "vww_float_nchw", "vww", _nchw(_unit), "0", "255"),
    Task("vww bn", "vww_float_bn", "vww", _unit, "0", "255"),
    Task("ad", "ad_float", "ad", _float),
    Task("ad bn", "ad_float_bn", "ad", _float),
)
IMAGENET = Task(
    "mobilenet", "../zoo/mobilenet_v1_025_224_imagenet_float_bn", "imagenet1000",
    lambda x: _float(x) / np.float32(127.5) - np.float32(1), "127.5", "127.5",
)  # fmt: skip
"""MobileNet-v1 0.25, 224 x 224: only where it is asked for by name; it needs Pillow."""

MAIN = ("ic", "kws", "vww", "ad")


@dataclass(frozen=True, slots=True)
class Row:
    """What one model, compiled one way, does on its evaluation set."""

    model: str
    bits: str
    scale: str
    samples: int
    float_accuracy: float | None
    integer_accuracy: float | None
    agreement: float | None
    sqnr_db: float
    score_correlation: float | None
    bit_exact: bool
    macs_before: int
    macs: int
    weights_before: int
    weights: int
    arena: int


def _load(shared: Path, task: Task, part: str) -> tuple[Array, Array | None]:
    with np.load(shared / "data" / f"{task.data}_{part}.npz") as data:
        labels = data.get("y")
        if "blob" in data:
            return task.prepare(_pictures(data["blob"], data["off"])), labels
        return task.prepare(data["x"]), labels


def _pictures(blob: Array, offsets: Array) -> Array:
    """JPEG files one after the other in *blob*, as uint8 (N, height, width, 3)."""
    from PIL import Image

    files = [blob[a:b].tobytes() for a, b in pairwise(offsets)]
    return np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])


def _onnx(shared: Path, task: Task) -> Path:
    return shared / "models" / "mlperf_tiny" / f"{task.file}.onnx"


def _float_outputs(path: Path, samples: Array) -> Array:
    proto = load_model(path)
    name, output = proto.graph.input[0].name, proto.graph.output[0].name
    model = FloatModel(proto, [output], {})
    return np.stack([model.run({name: x})[output] for x in samples]).reshape(len(samples), -1)


def measure(
    shared: Path,
    task: Task,
    scale: ScaleMode,
    floats: dict[str, Array],
    **options: Any,
) -> Row:
    """Compile *task* with *options* and measure it; *floats* caches the float outputs per model."""
    path = _onnx(shared, task)
    calib, _ = _load(shared, task, "calib")
    samples, labels = _load(shared, task, "eval")
    name = load_model(path).graph.input[0].name
    if task.file not in floats:
        floats[task.file] = _float_outputs(path, samples)
    want = floats[task.file]
    with tempfile.TemporaryDirectory() as folder:
        out, data = Path(folder) / "out", {name: calib[: task.calibration]}
        model = compile(path, out, calibration=data, scale=scale, **options)
        m = model.manifest
        integers = quantize_ports(m["inputs"], [samples])
        with HostLibrary(model.out, m, jobs=2) as library:
            made = library.run(integers)
        got = dequantize_ports(m["outputs"], made)[0].reshape(len(samples), -1)
        exact = _equals_reference(model, integers, made)
    return Row(
        model=task.name,
        bits=options.get("bits", Config().bits),
        scale=scale,
        samples=len(samples),
        float_accuracy=_accuracy(want, labels),
        integer_accuracy=_accuracy(got, labels),
        agreement=_accuracy(got, want.argmax(axis=1)) if task.data != "ad" else None,
        sqnr_db=_sqnr(want, got),
        score_correlation=_score_correlation(samples, want, got) if task.data == "ad" else None,
        bit_exact=exact,
        macs_before=m["macs_before"],
        macs=m["macs"],
        weights_before=m["weights_before"],
        weights=m["flash_bytes"]["weights"],
        arena=m["arena_bytes"],
    )


def _equals_reference(model: CompiledModel, inputs: list[Array], outputs: list[Array]) -> bool:
    assert model.compilation is not None
    graph = model.compilation.graph
    values = run_int(graph, dict(zip(graph.inputs, inputs, strict=True)))
    return all(np.array_equal(values[n], y) for n, y in zip(graph.outputs, outputs, strict=True))


def _accuracy(outputs: Array, labels: Array | None) -> float | None:
    return None if labels is None else float((outputs.argmax(axis=1) == labels).mean())


def _sqnr(want: Array, got: Array) -> float:
    w = want.astype(np.float64)
    return float(10 * np.log10((w**2).sum() / ((w - got) ** 2).sum()))


def _score_correlation(samples: Array, want: Array, got: Array) -> float:
    """Spearman correlation of the windows' reconstruction errors, float against integer."""
    x = samples.reshape(len(samples), -1)
    ranks = [
        np.argsort(np.argsort(((x - y) ** 2).mean(axis=1), kind="stable"), kind="stable")
        for y in (want, got)
    ]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


# -- on emulated boards ---------------------------------------------------------------------------

BOARD_SAMPLES = 20

BOARD_TARGETS = {
    "cortex-m0": "mps2-an385",
    "cortex-m4": "mps2-an386",
    "cortex-m7": "mps2-an500",
    "cortex-m33": "mps2-an505",
    "cortex-m55": "mps3-an547",
    "riscv32": "virt",
}


def on_samples(done: Compilation, samples: Array) -> Compilation:
    """*done* with other vectors: what the reference makes of *samples* (N, *ONNX shape)."""
    ports = [
        {"bits": p.quant.qtype.bits, "signed": p.quant.qtype.signed, "axes": p.perm,
         "scale": p.quant.scalar, "zero_point": p.quant.zero_point}
        for p in done.program.inputs
    ]  # fmt: skip
    inputs = quantize_ports(ports, [samples])
    values = run_int(done.graph, dict(zip(done.graph.inputs, inputs, strict=True)))
    outputs = tuple(values[n] for n in done.graph.outputs)
    return replace(done, vectors=Vectors(tuple(inputs), outputs, done.vectors.layers))


def run_on_boards(
    shared: Path, task: Task, count: int, targets: Iterable[str] = tuple(BOARD_TARGETS)
) -> Iterator[tuple[str, bool, str]]:
    """Per target: (name, bit-exact on *count* evaluation samples, last line of the check)."""
    path = _onnx(shared, task)
    calib, _ = _load(shared, task, "calib")
    samples, _ = _load(shared, task, "eval")
    name = load_model(path).graph.input[0].name
    for target in targets:
        config = Config(target=target, calibration={name: calib[: task.calibration]})
        files = output_files(on_samples(compile_file(path, config), samples[:count]))
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            write_files(files, out)
            run = subprocess.run(
                ["make", "-s", "-C", str(out), "run"], capture_output=True, text=True, check=False
            )
        last = (run.stdout.strip() or run.stderr.strip() or "no output").splitlines()[-1]
        yield target, run.returncode == 0 and "bit-exact" in run.stdout, last


# -- compile time ---------------------------------------------------------------------------------


def compile_time(shared: Path, task: Task) -> tuple[float, float]:
    """(seconds, peak MiB) of the whole command, Python's start included."""
    with tempfile.TemporaryDirectory() as folder:
        calib = Path(folder) / "calib.npz"
        with np.load(shared / "data" / f"{task.data}_calib.npz") as data:
            np.savez(calib, x=data["x"][: task.calibration])
        command = [sys.executable, "-m", "qcc", str(_onnx(shared, task)), "-q"]
        command += ["-o", str(Path(folder) / "out"), "--calib", str(calib)]
        command += ["--mean", task.mean, "--std", task.std]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(title=title)
    for c in columns:
        table.add_column(c, justify="left" if c in ("model", "scale", "target") else "right")
    for r in rows:
        table.add_row(*r)
    Console(width=170).print(table)


def _percent(v: float | None) -> str:
    return "" if v is None else f"{100 * v:.2f}"


def _accuracy_rows(rows: Iterable[Row]) -> Iterator[list[str]]:
    for r in rows:
        yield [
            r.model, r.bits, r.scale, str(r.samples), _percent(r.float_accuracy),
            _percent(r.integer_accuracy), _percent(r.agreement), f"{r.sqnr_db:.1f}",
            "" if r.score_correlation is None else f"{r.score_correlation:.4f}",
            "yes" if r.bit_exact else "NO", f"{r.macs_before:,}", f"{r.macs:,}",
            f"{r.weights_before:,}", f"{r.weights:,}", f"{r.arena:,}",
        ]  # fmt: skip


def main() -> int:
    """Run what the options ask for; exit 1 if anything is not bit-exact."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--models", nargs="*", default=[t.name for t in TASKS])
    parser.add_argument("--scales", nargs="*", default=list(SCALE_MODES), choices=SCALE_MODES)
    parser.add_argument("--bits", default="W8A8", help="as of qcc, and so are the next four")
    parser.add_argument("--rounding", default="auto", choices=ROUNDINGS)
    parser.add_argument("--weight-clip", default="auto", choices=WEIGHT_CLIPS)
    parser.add_argument("--equalize", default="auto", choices=EQUALIZE)
    parser.add_argument("--io-bits", type=int, choices=(8, 16))
    parser.add_argument("--keep8", nargs="*", default=list(KEEP8), choices=KEEP8)
    parser.add_argument("--per-layer", action="store_true")
    parser.add_argument("--calibration", type=int, help="calibration samples (default: 100)")
    parser.add_argument("--boards", action="store_true", help="only run 20 samples under QEMU")
    parser.add_argument("--compile-time", action="store_true", help="only time the compiler")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    args = parser.parse_args()
    tasks = [t for t in (*TASKS, IMAGENET) if t.name in args.models]
    if args.calibration is not None:
        tasks = [replace(t, calibration=args.calibration) for t in tasks]
    if args.compile_time:
        rows = [(t.name, *compile_time(args.shared, t)) for t in tasks]
        table = ((n, f"{s:.1f}", f"{m:.0f}") for n, s, m in rows)
        _table("compile time", ("model", "seconds", "peak MiB"), table)
        return 0
    if args.boards:
        exact = [_boards(args.shared, t) for t in tasks]
        return 0 if all(exact) else 1
    floats: dict[str, Array] = {}
    options = {
        "bits": args.bits, "rounding": args.rounding, "weight_clip": args.weight_clip,
        "equalize": args.equalize, "io_bits": args.io_bits, "keep8": tuple(args.keep8),
        "per_channel": not args.per_layer,
    }  # fmt: skip
    measured = [measure(args.shared, t, s, floats, **options) for t in tasks for s in args.scales]
    columns = ("model", "bits", "scale", "samples", "float %", "integer %", "agree %", "SQNR dB",
               "score r", "exact", "MACs before", "MACs", "weights before", "weights",
               "arena")  # fmt: skip
    _table("accuracy on the evaluation sets", columns, _accuracy_rows(measured))
    if args.json:
        args.json.write_text(json.dumps([asdict(r) for r in measured], indent=1) + "\n")
    return 0 if all(r.bit_exact for r in measured) else 1


def _boards(shared: Path, task: Task) -> bool:
    lines = list(run_on_boards(shared, task, BOARD_SAMPLES))
    rows = ((t, "yes" if exact else "NO", last) for t, exact, last in lines)
    title = f"{task.name}: {BOARD_SAMPLES} samples on emulated boards"
    _table(title, ("target", "exact", "says"), rows)
    return all(exact for _, exact, _ in lines)


if __name__ == "__main__":
    sys.exit(main())
