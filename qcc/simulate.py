"""``qcc simulate``: the numpy reference of a compiled model, on arrays of one file into another.

Integers in C memory order by default, the model's own quantized values; with *real*, real numbers
in ONNX's layout. Samples are stacked along an axis of their own or along a batch axis of 1; outputs
are stacked as the inputs are.
"""

from __future__ import annotations

import os
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qcc.api import CompiledModel
from qcc.errors import QccError, UsageError, short
from qcc.frontend.calibration import LABEL_NAMES, Entries, open_arrays
from qcc.graph_file import REFERENCE
from qcc.ir import Array, Int, QType, Shape

_DAMAGED = ("compile the model again; report it if that does not help",)

_LONGEST_KEY = 60_000
"""Bytes; an archive has 16 bits for the length of a name."""

Port = Mapping[str, Any]
"""An input or output as the manifest describes it."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What the reference made of some samples.

    Attributes:
        samples: how many.
        outputs: ONNX name -> values, in the type of the C (float32 where inputs were real).
        seconds: time of all inferences.
    """

    samples: int
    outputs: Mapping[str, Array]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        outputs = [
            {"name": name, "shape": list(y.shape), "dtype": str(y.dtype)}
            for name, y in self.outputs.items()
        ]
        return {"samples": self.samples, "seconds": self.seconds, "outputs": outputs}


def simulate(model: CompiledModel, data: Path, real: bool = False) -> Simulation:
    """Run the reference of *model* on the arrays in *data* (.npz, or .npy for one input).

    Args:
        model: the compiled model.
        data: one array per input, under its ONNX name or its C name; for a model with one input,
            a single array under any name.
        real: *data* holds real numbers in ONNX's layout, and so will the outputs.

    Raises:
        QccError: an array is missing, or has the wrong shape, type or values.
    """
    graph = model.graph  # says first whether the folder is sound
    ports: list[Port] = model.manifest["inputs"]
    entries = open_arrays(data)
    names = _choose(data, entries, ports)
    qtypes = [graph.quant(name).qtype for name in graph.inputs]
    stacks = [
        _stack(entries, name, port, None if real else qtype)
        for name, port, qtype in zip(names, ports, qtypes, strict=True)
    ]
    samples = len(stacks[0].values)
    for port, stack in zip(ports, stacks, strict=True):
        if len(stack.values) != samples:
            raise QccError(
                f"{data.name}: every input needs as many samples, but {_name(ports[0])} has "
                f"{samples} and {_name(port)} has {len(stack.values)}"
            )
    inputs = [stack.values for stack in stacks]
    start = time.perf_counter()
    outputs = _run(model, model.quantize(inputs) if real else inputs)
    seconds = time.perf_counter() - start
    results = model.dequantize(outputs) if real else outputs
    own_axis = any(stack.own_axis for stack in stacks)
    return Simulation(
        samples,
        {
            _key(p): _unstacked(y if real else y.astype(p["dtype"]), own_axis)
            for p, y in zip(model.manifest["outputs"], results, strict=True)
        },
        seconds,
    )


def _run(model: CompiledModel, inputs: Sequence[Int]) -> list[Int]:
    try:
        return model.run(inputs, backend="reference")
    # The inputs fit, so the graph does not: sound in form, its numbers do not belong together.
    except (ValueError, TypeError, LookupError, ArithmeticError, AssertionError) as e:
        why = short(str(e), 120) or type(e).__name__
        raise QccError(f"{model.out}: {REFERENCE} cannot be run: {why}", _DAMAGED) from e


def check_output(path: Path, force: bool) -> None:
    """Refuse the name of an output file before any work is done.

    Raises:
        UsageError: it exists, and *force* is not set.
        QccError: it cannot be written.
    """
    try:
        if path.is_symlink() or path.exists():
            if not path.is_file():
                raise QccError(f"--output {path}: this is no file; choose another name")
            if not force:
                raise UsageError(f"--output {path}: the file exists; --force replaces it")
        if not path.absolute().parent.is_dir():
            raise QccError(f"--output {path}: there is no such folder")
    except OSError as e:
        raise QccError(f"--output {short(str(path))}: {e.strerror or e}") from e
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise QccError(f"--output {path}: no permission to write in its folder")


def write_npz(arrays: Mapping[str, Array], path: Path) -> None:
    """Write *arrays* as an .npz, whole or not at all; the same arrays give the same bytes.

    Raises:
        QccError: the disk is full, or similar; *path* is then as it was.
    """
    target = path.absolute()
    staged: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=".qcc-", dir=target.parent)
        staged = Path(name)
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for key, array in arrays.items():  # np.savez has no array called "file"
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
        staged.chmod(0o644)
        staged.replace(target)
        staged = None
    except OSError as e:
        raise QccError(f"--output {path}: {e.strerror or e}") from e
    finally:
        if staged is not None:
            with suppress(OSError):
                staged.unlink()


# -- inputs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stack:
    """*values* (N, *shape); *own_axis*: they came so, not stacked along a batch axis of 1."""

    values: Array
    own_axis: bool


def _name(port: Port) -> str:
    return repr(short(str(port["name"])))


def _choose(path: Path, entries: Entries, ports: Sequence[Port]) -> list[str]:
    """The name of each input's array."""
    chosen = [p["name"] if p["name"] in entries else None for p in ports]
    for i, p in enumerate(ports):
        if chosen[i] is None and p["c_name"] in entries and p["c_name"] not in chosen:
            chosen[i] = p["c_name"]
    if len(ports) == 1 and chosen[0] is None:
        others = [name for name in entries if name.lower() not in LABEL_NAMES]
        for names in (list(entries), others):
            if len(names) == 1:
                return names
    for name, p in zip(chosen, ports, strict=True):
        if name is None:
            held = ", ".join(short(n) for n in entries) or "nothing"
            raise QccError(
                f"{path.name}: no array for input {_name(p)}; give it that name"
                + ("" if p["c_name"] == p["name"] else f", or {p['c_name']}"),
                [f"it holds {short(held, 200)}"],
            )
    return [name for name in chosen if name is not None]


def _stack(entries: Entries, name: str, port: Port, qtype: QType | None) -> _Stack:
    """The samples of one input: integers of *qtype*, or finite reals."""
    entry = entries[name]
    entry.check()
    shape = tuple(port["onnx_shape"] if qtype is None else port["shape"])
    form = _form(entry.shape, shape)
    if form is None:
        order = "in ONNX's layout" if qtype is None else f"in C's order ({port['layout']})"
        hints = [] if qtype is None else [_layout_hint(entry.shape, port)]
        raise QccError(
            f"{entry.where} has shape {entry.shape}; input {_name(port)} takes {shape} {order}, "
            f"or N of them: ({', '.join(map(str, ('N', *shape)))})",
            [h for h in hints if h],
        )
    samples, own_axis = form
    if samples == 0:
        raise QccError(f"{entry.where} has no samples")
    if qtype is not None and entry.dtype.kind not in "iu":
        raise QccError(
            f"{entry.where} is {entry.dtype}; input {_name(port)} takes integers ({port['dtype']})",
            ["--float takes real numbers and quantizes them"],
        )
    values = entry.load().reshape(samples, *shape)
    if qtype is None:
        if not np.isfinite(values).all():
            raise QccError(f"{entry.where} holds NaN or infinity")
    elif values.size:
        lo, hi = int(values.min()), int(values.max())
        if lo < qtype.qmin or hi > qtype.qmax:
            raise QccError(
                f"{entry.where} holds {lo if lo < qtype.qmin else hi}; input {_name(port)} takes "
                f"{qtype.qmin}..{qtype.qmax}"
            )
    return _Stack(values, own_axis)


def _form(found: Shape, shape: Shape) -> tuple[int, bool] | None:
    """(samples, whether along an axis of their own) of an array; None if it does not fit."""
    if found[1:] == shape and len(found) == len(shape) + 1:
        return found[0], True
    if shape[:1] == (1,) and len(found) == len(shape) and found[1:] == shape[1:]:
        return found[0], False
    return (1, False) if found == shape else None


def _layout_hint(found: Shape, port: Port) -> str:
    """Said where an array seems to be in ONNX's layout."""
    if port["onnx_shape"] == port["shape"] or _form(found, tuple(port["onnx_shape"])) is None:
        return ""
    return f"the array is in ONNX's layout: transpose every sample by {tuple(port['axes'])}"


def _key(port: Port) -> str:
    """The name of an output's array: the model's own, where an archive can hold it."""
    name, c_name = str(port["name"]), str(port["c_name"])
    return c_name if "\0" in name or len(name.encode()) > _LONGEST_KEY else name


def _unstacked(y: Array, own_axis: bool) -> Array:
    """(N, *shape) as the inputs were stacked."""
    if own_axis:
        return y
    if y.shape[1:2] == (1,):
        return y.reshape(y.shape[0], *y.shape[2:])
    return y[0] if len(y) == 1 else y
