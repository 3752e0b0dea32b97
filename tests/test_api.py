"""The Python API: what it takes, what it refuses, and that the C answers as the reference."""

from __future__ import annotations

import gc
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qcc
from qcc.api import CompiledModel
from qcc.cli import main
from qcc.errors import QccError, UsageError
from qcc.host import HostLibrary
from qcc.ir import Array
from qcc.ops.examples import model, normal
from tests.graphs import node

X = normal((12, 1, 6), 3) + 2.0
"""Samples far from symmetric: the input takes a zero point."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    constants = {"w": normal((4, 6), 1), "b": normal((4,), 2)}
    net = model("net", [node("Gemm", "x w b", "y", transB=1)], {"x": (1, 6)}, ["y"], constants)
    onnx.save(net, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def net(path: Path, tmp_path: Path) -> CompiledModel:
    return qcc.compile(path, tmp_path / "out", calibration={"x": X})


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go in this test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_c_answers_as_the_reference(net: CompiledModel) -> None:
    np.testing.assert_array_equal(net(X), net(X, backend="reference"))
    np.testing.assert_array_equal(net(X[0]), net(X)[0])  # one sample
    net.close()


def test_an_input_with_a_zero_point_is_near_the_float_model(net: CompiledModel, path: Path) -> None:
    assert net.manifest["inputs"][0]["zero_point"] != 0
    found = qcc.evaluate(net, {"x": X}, model=path)
    assert found.sqnr_db is not None
    assert found.sqnr_db > 30


def test_the_command_line_gives_the_same_files(
    net: CompiledModel, path: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=X)
    assert main([str(path), "-o", str(tmp_path / "cli"), "--calib", str(tmp_path / "x.npz"), "-q"])\
        == 0  # fmt: skip
    for file in json.loads((tmp_path / "cli" / "manifest.json").read_text())["files"]:
        assert (tmp_path / "cli" / file).read_bytes() == (net.out / file).read_bytes(), file


@pytest.mark.parametrize("data", [X, {"any": X}, {"x": X[:, 0]}, {"x": X.astype(np.float64)}])
def test_calibration_takes_what_an_npz_may_hold(
    net: CompiledModel, path: Path, tmp_path: Path, data: Any
) -> None:
    other = qcc.compile(path, tmp_path / "other", calibration=data)
    assert other.manifest == net.manifest


def test_a_shape_may_be_a_list(path: Path, tmp_path: Path) -> None:
    found = qcc.compile(path, tmp_path / "o", calibration=X, shapes={"x": [1, 6]})
    assert found.manifest["options"]["shapes"] == {"x": [1, 6]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": {}}, "no array"),
        ({"calibration": {"x": X[:0]}}, "no samples"),
        ({"calibration": {"x": X[..., :5]}}, "has shape"),
        ({"calibration": {"x": X * np.nan}}, "NaN"),
        ({"calibration": {"x": X.astype(object)}}, "Python objects"),
        ({"scale": "shift"}, "--scale shift: choose one of single-shift"),
        ({"threshold": "best"}, "--threshold best: choose one of"),
        ({"optimize": "all"}, "--optimize all: choose one of"),
        ({"vectors": 0}, "vectors 0"),
        ({"bits": "8"}, "--bits 8"),
        ({"target": "abacus"}, "--target abacus"),
    ],
)
def test_bad_arguments_are_one_sentence(
    path: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(QccError, match=message):
        qcc.compile(path, tmp_path / "refused", **options)
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "0 inputs given"),
        ([np.zeros((3, 1, 5), np.int64)], r"shape \(3, 1, 5\); expected \(3, 1, 6\)"),
        ([np.zeros((1, 6), np.int64)], "expected"),
        ([np.full((1, 1, 6), 300)], "values outside"),
    ],
)
def test_the_c_reads_nothing_that_does_not_fit(
    net: CompiledModel, inputs: list[Array], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        net.run(inputs)


def test_labels_are_counted(net: CompiledModel) -> None:
    with pytest.raises(UsageError, match="5 labels for 12 samples"):
        qcc.evaluate(net, {"x": X}, np.zeros(5, np.int64))


# -- the library on this machine ------------------------------------------------------------------


def test_the_library_leaves_nothing_behind(net: CompiledModel, temporary: Path) -> None:
    with HostLibrary(net.out, net.manifest):
        assert len(list(temporary.iterdir())) == 1
    assert not list(temporary.iterdir())
    net(X)
    assert len(list(temporary.iterdir())) == 1
    net.close()
    assert not list(temporary.iterdir())


def test_a_forgotten_model_leaves_nothing_behind(net: CompiledModel, temporary: Path) -> None:
    other = CompiledModel(net.out)
    other(X)
    del other
    gc.collect()
    assert not list(temporary.iterdir())


def test_an_interrupted_build_leaves_nothing_behind(
    net: CompiledModel, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("qcc.host.build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        HostLibrary(net.out, net.manifest)
    assert not list(temporary.iterdir())


def test_cc_may_hold_options(net: CompiledModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc -O1")
    np.testing.assert_array_equal(net(X), net(X, backend="reference"))
    net.close()


def test_a_missing_compiler_is_named(net: CompiledModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(QccError, match="no-such-compiler -O2 is not installed"):
        net(X)
