"""qcc as its users see it: compile, call, evaluate; and what the manifest says holds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qcc
from qcc.api import CompiledModel
from qcc.codegen.target import load_targets
from qcc.config import SCALE_MODES
from qcc.errors import QccError, UsageError
from qcc.frontend.float_model import FloatModel
from qcc.ir import Array
from qcc.ops import OPS
from tests.emulators import need
from tests.networks import DIGITS, NAMES, medley, network, samples

BATCH = 5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The networks as ONNX files."""
    path = tmp_path_factory.mktemp("onnx") / "medley.onnx"
    onnx.save(medley(), path)
    return {"medley": path, "digits": DIGITS}


@pytest.fixture(scope="module", params=[(n, s) for n in NAMES for s in SCALE_MODES], ids="-".join)
def model(
    request: pytest.FixtureRequest,
    files: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[CompiledModel]:
    """A network, compiled with one scaling."""
    name, scale = request.param
    out = tmp_path_factory.mktemp(f"{name}-{scale}") / "out"
    done = qcc.compile(files[name], out, calibration=samples(name, 16), scale=scale)
    yield done
    done.close()


def inputs(model: CompiledModel, count: int = BATCH) -> list[Array]:
    drawn = samples(model.manifest["name"], count, seed=99)
    return [drawn[p["name"]] for p in model.manifest["inputs"]]


def several(y: Array | tuple[Array, ...]) -> tuple[Array, ...]:
    return y if isinstance(y, tuple) else (y,)


def float_outputs(model: CompiledModel, real: list[Array]) -> list[Array]:
    names = [p["name"] for p in model.manifest["outputs"]]
    ports = model.manifest["inputs"]
    shapes = {p["name"]: tuple(p["onnx_shape"]) for p in ports}
    session = FloatModel(network(model.manifest["name"]), names, shapes)
    rows = [
        session.run({p["name"]: x[i] for p, x in zip(ports, real, strict=True)})
        for i in range(len(real[0]))
    ]
    return [np.stack([r[name] for r in rows]) for name in names]


# -- calling --------------------------------------------------------------------------------------


def test_a_batch_is_close_to_the_float_model(model: CompiledModel) -> None:
    need("gcc")
    real = inputs(model, 32)
    for want, got in zip(float_outputs(model, real), several(model(*real)), strict=True):
        assert got.shape == want.shape
        assert got.dtype == np.float32
        noise = float(((want - got).astype(np.float64) ** 2).sum())
        assert 10 * np.log10(float((want.astype(np.float64) ** 2).sum()) / noise) > 22


def test_a_sample_is_a_row_of_its_batch(model: CompiledModel) -> None:
    need("gcc")
    real = inputs(model)
    together = several(model(*real))
    for i in range(BATCH):
        alone = several(model(*(x[i] for x in real)))
        for whole, one, port in zip(together, alone, model.manifest["outputs"], strict=True):
            assert list(one.shape) == port["onnx_shape"]
            assert np.array_equal(whole[i], one)


def test_backends_agree(model: CompiledModel) -> None:
    need("gcc")
    real = inputs(model, 20)
    for a, b in zip(several(model(*real)), several(model(*real, backend="reference")), strict=True):
        assert np.array_equal(a, b)
    rng = np.random.default_rng(3)
    drawn = [
        rng.integers(QMIN[p["dtype"]], QMAX[p["dtype"]] + 1, (20, *p["shape"]))
        for p in model.manifest["inputs"]
    ]
    for a, b in zip(model.run(drawn), model.run(drawn, backend="reference"), strict=True):
        assert np.array_equal(a, b)


QMIN = {"int8": -127, "uint8": 0}
QMAX = {"int8": 127, "uint8": 255}


def test_a_folder_can_be_opened_later(model: CompiledModel) -> None:
    need("gcc")
    again = CompiledModel(model.out)
    real = inputs(model)
    for a, b in zip(several(model(*real)), several(again(*real)), strict=True):
        assert np.array_equal(a, b)
    again.close()


def test_wrong_calls_are_refused(model: CompiledModel) -> None:
    real = inputs(model)
    with pytest.raises(UsageError, match=r"inputs given, the model has"):
        model(*real, real[0])
    with pytest.raises(UsageError, match=r"shape .* expected"):
        model(*(x[..., :-1] for x in real))
    with pytest.raises(UsageError, match="'host' or 'reference'"):
        model(*real, backend="gpu")


def test_a_bad_model_or_option_writes_nothing(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(QccError):
        qcc.compile(tmp_path / "absent.onnx", out)
    with pytest.raises(UsageError, match="--target z80"):
        qcc.compile(files["digits"], out, target="z80")
    with pytest.raises(UsageError, match="--bits W9A8"):
        qcc.compile(files["digits"], out, bits="W9A8")
    assert list(tmp_path.iterdir()) == []
    out.mkdir()
    (out / "mine").write_text("kept")
    with pytest.raises(UsageError, match="not empty"):
        qcc.compile(files["digits"], out)
    assert (out / "mine").read_text() == "kept"


# -- evaluating -----------------------------------------------------------------------------------


def test_evaluation_counts_what_calls_show(files: dict[str, Path], tmp_path: Path) -> None:
    need("gcc")
    done = qcc.compile(files["digits"], tmp_path / "out", calibration=samples("digits", 16))
    real = inputs(done, 40)
    (want,), got = float_outputs(done, real), several(done(*real))[0]
    labels = want.reshape(40, -1).argmax(axis=1)
    labels[:10] = (labels[:10] + 1) % 10  # the float model errs on these
    data = {"image": real[0]}
    found = qcc.evaluate(done, data, labels, model=files["digits"])
    top = got.reshape(40, -1).argmax(axis=1)
    assert found.samples == 40
    assert found.float_accuracy == 0.75
    assert found.integer_accuracy == float((top == labels).mean())
    assert found.agreement == float((top == want.reshape(40, -1).argmax(axis=1)).mean())
    assert found.agreement >= 0.9
    noise = ((want.astype(np.float64) - got) ** 2).sum()
    signal = (want.astype(np.float64) ** 2).sum()
    assert found.sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=1e-6)
    assert found.integer_seconds > 0
    few = qcc.evaluate(tmp_path / "out", data, labels, limit=7)
    assert (few.samples, few.agreement, few.float_accuracy) == (7, None, None)
    np.savez(tmp_path / "eval.npz", x=real[0], y=labels)
    from_file = qcc.evaluate(done, tmp_path / "eval.npz")
    assert from_file.integer_accuracy == found.integer_accuracy


# -- the manifest ---------------------------------------------------------------------------------

TOP: dict[str, Any] = {
    "qcc": str, "name": str, "target": str, "entry": str, "header": str, "sources": list,
    "include_dirs": list, "inputs": list, "outputs": list, "arena_bytes": int, "arena_align": int,
    "stack_bytes": int, "flash_bytes": dict, "macs": int, "macs_before": int, "parameters": int,
    "layers": list, "options": dict, "source_sha256": str,
}  # fmt: skip
PORT: dict[str, Any] = {
    "name": str, "shape": list, "layout": str, "onnx_shape": list, "dtype": str, "bits": int,
    "signed": bool, "scale": float, "zero_point": int, "axis": (int, type(None)),
}  # fmt: skip
LAYER: dict[str, Any] = {
    "name": str, "op": str, "onnx_nodes": list, "kernel": str, "macs": int,
    "weight_bits": (int, type(None)), "act_bits": int, "weight_bytes": int,
    "scale_mode": (str, type(None)), "shift": (list, type(None)),
    "multiplier": (list, type(None)), "acc_bound": (int, type(None)),
    "sqnr_db": (float, type(None)),
}  # fmt: skip


def test_the_manifest_has_what_the_contract_names(
    model: CompiledModel, files: dict[str, Path]
) -> None:
    m = model.manifest
    for keys, entries in ((TOP, [m]), (PORT, m["inputs"] + m["outputs"]), (LAYER, m["layers"])):
        for entry in entries:
            for key, kind in keys.items():
                assert key in entry, f"{entry.get('name')}: {key}"
                assert isinstance(entry[key], kind), f"{entry.get('name')}: {key}: {entry[key]!r}"
    assert m["qcc"] == qcc.__version__
    assert m["target"] in load_targets()
    assert m["entry"] == f"{m['name']}_run"
    assert set(m["flash_bytes"]) >= {"code", "weights"}
    assert m["options"]["bits"] == "W8A8"
    assert m["source_sha256"] == hashlib.sha256(files[m["name"]].read_bytes()).hexdigest()
    for layer in m["layers"]:
        assert (layer["shift"] is None) == (layer["scale_mode"] is None)
        multiplied = layer["scale_mode"] in ("double-shift", "fixed-point")
        assert (layer["multiplier"] is not None) == multiplied
    assert m == json.loads((model.out / "manifest.json").read_text())


def test_ports_are_those_of_the_onnx_model(model: CompiledModel) -> None:
    proto = network(model.manifest["name"])
    for ports, infos in (
        (model.manifest["inputs"], proto.graph.input),
        (model.manifest["outputs"], proto.graph.output),
    ):
        assert [p["name"] for p in ports] == [i.name for i in infos]
        for p, info in zip(ports, infos, strict=True):
            dims = [d.dim_value or 1 for d in info.type.tensor_type.shape.dim]
            assert p["onnx_shape"] == dims
            assert [dims[a] for a in p["axes"]] == p["shape"]
            assert (p["dtype"], p["bits"]) == ("int8" if p["signed"] else "uint8", 8)
            assert (p["layout"] == "NHWC") == (len(dims) == 4 and p["axes"] == [0, 2, 3, 1])


def test_every_file_is_listed_and_there(model: CompiledModel) -> None:
    on_disk = {p.relative_to(model.out).as_posix() for p in model.out.rglob("*") if p.is_file()}
    assert set(model.manifest["files"]) == on_disk
    for name in (model.manifest["header"], *model.manifest["sources"]):
        assert name in on_disk
    for line in re.findall(r'#include "([^"]+)"', (model.out / f"{_name(model)}.c").read_text()):
        assert line in on_disk


def test_every_onnx_node_is_the_work_of_a_layer(model: CompiledModel) -> None:
    m = model.manifest
    assert m["macs"] == sum(layer["macs"] for layer in m["layers"])
    assert m["macs"] <= m["macs_before"]
    named = {n.name for n in network(m["name"]).graph.node if n.name}
    told = {source for layer in m["layers"] for source in layer["onnx_nodes"]}
    if named:
        assert told <= named | {n.output[0] for n in network(m["name"]).graph.node}
    assert all(layer["onnx_nodes"] for layer in m["layers"])


def test_header_states_the_arena_of_the_manifest(model: CompiledModel) -> None:
    text, m = (model.out / f"{_name(model)}.h").read_text(), model.manifest
    macro = _name(model).upper()
    assert f"#define {macro}_ARENA_BYTES {m['arena_bytes']}" in text
    assert f"#define {macro}_ARENA_ALIGN {m['arena_align']}" in text


def test_the_report_shows_the_figures(model: CompiledModel) -> None:
    assert model.report.lstrip().lower().startswith("<!doctype html>")
    for layer in model.manifest["layers"]:
        assert layer["kernel"] in model.report or layer["op"] in model.report
    assert f"{model.manifest['macs']:,}" in model.report


def _name(model: CompiledModel) -> str:
    return str(model.manifest["name"])


# -- the arena ------------------------------------------------------------------------------------


def test_live_buffers_do_not_overlap(model: CompiledModel) -> None:
    """Two buffers that share bytes: one ends where the other begins, and lies its lead above it."""
    m = model.manifest
    buffers = m["buffers"]
    assert buffers
    shared = 0
    for b in buffers:
        assert b["offset"] % m["arena_align"] == 0
        assert b["offset"] >= 0
        assert b["offset"] + b["bytes"] <= m["arena_bytes"]
        assert 0 <= b["layers"][0] <= b["layers"][1] < len(m["layers"])
    for i, a in enumerate(buffers):
        for b in buffers[:i]:
            apart = a["offset"] >= b["offset"] + b["bytes"] or b["offset"] >= (
                a["offset"] + a["bytes"]
            )
            early, late = sorted((a, b), key=lambda v: (v["layers"][0], v["kind"] != "input"))
            if apart or early["layers"][1] < late["layers"][0]:
                continue
            assert early["layers"][1] == late["layers"][0], (a, b)
            (lead,) = (o["lead"] for o in late["over"] if o["tensor"] == early["tensor"])
            assert early["offset"] >= late["offset"] + lead, (a, b)
            assert (lead == 0) == OPS[m["layers"][late["layers"][0]]["op"]].elementwise, (a, b)
            shared += 1
    assert shared


def test_the_arena_is_between_what_must_live_and_what_there_is(model: CompiledModel) -> None:
    m = model.manifest
    held = [
        sum(b["bytes"] for b in m["buffers"] if b["layers"][0] <= i < b["layers"][1])
        for i in range(len(m["layers"]))
    ]
    assert max(held) <= m["arena_lower_bound"] <= m["arena_bytes"]
    assert m["arena_bytes"] <= 1.1 * m["arena_lower_bound"]
    padded = (-(-b["bytes"] // m["arena_align"]) * m["arena_align"] for b in m["buffers"])
    assert m["arena_bytes"] < sum(padded)


# -- the accumulators, from the generated C alone --------------------------------------------------

_TABLE = re.compile(r"static const (\w+) (\w+)\[(\d+)\] = \{([^}]*)\};")
_WEIGHTED = ("conv2d", "dense", "conv_transpose2d")


def tables(out: Path, name: str) -> dict[str, tuple[str, Array]]:
    """C name -> (C type, values) of every constant table."""
    found = {}
    for ctype, table, size, text in _TABLE.findall((out / f"{name}_weights.h").read_text()):
        values = np.array([int(v) for v in re.findall(r"-?\d+", text)], np.int64)
        assert len(values) == int(size)
        found[table] = ctype, values
    return found


def test_accumulators_cannot_overflow(model: CompiledModel) -> None:
    """sum |w| * max|x| + |b| per channel, recomputed from the text of the weights."""
    m, name = model.manifest, _name(model)
    known = tables(model.out, name)
    text = (model.out / f"{name}.c").read_text()
    unsigned, blocks = {}, {}
    for block in text.split("/**\n * Layer ")[1:]:
        same = re.search(r"The same for layers? ([\d, ]+)\.", block)
        for index in (block.split(":")[0], *(same[1].split(", ") if same else ())):
            blocks[int(index)] = block
            if x := re.search(r"@param\[in\]  x  \S+ (u?)int8_t\n", block):
                unsigned[int(index)] = bool(x[1])
    checked = 0
    for index, layer in enumerate(m["layers"]):
        if layer["op"] not in _WEIGHTED:
            continue

        def table(suffix: str, index: int = index) -> tuple[str, Array] | None:
            """What the layer calls its own, or what an earlier layer has as well."""
            found = re.search(rf"{name}_\w+_{suffix}(?=[,)])", blocks[index])
            return known[found[0]] if found else None

        weights, bias, shifts = table("w"), table("b"), table("shift")
        assert weights is not None
        assert bias is not None
        assert shifts is not None
        (_, w), (acc_type, b), (_, shift) = weights, bias, shifts
        assert acc_type == "int32_t"
        taps_first = "_depthwise_" in layer["kernel"]
        rows = w.reshape(-1, len(b)).T if taps_first else w.reshape(len(b), -1)
        reach = np.abs(rows).sum(axis=1) * (255 if unsigned[index] else 128)
        assert (reach + np.abs(b)).max() < 1 << 31, layer["name"]
        half = (1 << shift) >> 1 if table("mult") is None else np.zeros_like(shift)
        proved = np.abs(rows).sum(axis=1) * (255 if unsigned[index] else 127)
        assert (proved + np.abs(b - half)).max() <= layer["acc_bound"], layer["name"]
        checked += 1
    assert checked == sum(layer["op"] in _WEIGHTED for layer in m["layers"])
    assert checked >= 6


def test_weights_are_as_many_bytes_as_the_manifest_says(model: CompiledModel) -> None:
    m = model.manifest
    width = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4, "uint32_t": 4}
    known = tables(model.out, _name(model))
    total = sum(width[ctype] * len(values) for ctype, values in known.values())
    assert total == m["flash_bytes"]["weights"] == sum(v["weight_bytes"] for v in m["layers"])
