"""The MLPerf Tiny models keep their accuracy and their bits; figures through the benchmark."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks import mlperf_tiny
from benchmarks.mlperf_tiny import BOARD_TARGETS, MAIN, TASKS, Row, Task
from qcc.api import quantize_ports
from qcc.codegen.manifest import manifest
from qcc.codegen.write import write_files
from qcc.config import SCALE_MODES, Config, ScaleMode
from qcc.driver import Compilation, compile_file, output_files
from qcc.frontend.load import load_model
from qcc.host import HostLibrary
from qcc.ir import Array, Int
from qcc.reference import run_int
from tests.emulators import need, need_board
from tests.networks import need_shared

BY_NAME = {t.name: t for t in TASKS}
SAMPLES = 50
ON_BOARD = 8
FLOATS: dict[str, Array] = {}


def least_accuracy(task: Task) -> float:
    return {"ic": 0.869, "kws": 0.910, "vww": 0.84}[task.data]


def test_every_layout_and_variant_is_measured() -> None:
    assert {t.data for t in TASKS} == set(MAIN)
    assert {t.file for t in TASKS} == {
        "ic_float", "ic_float_nchw", "ic_float_bn", "kws_float", "kws_float_bn", "vww_float",
        "vww_float_nchw", "vww_float_bn", "ad_float", "ad_float_bn",
    }  # fmt: skip


# -- of every day: keyword spotting, a few samples ------------------------------------------------


@cache
def keywords() -> tuple[Compilation, list[Int], Array]:
    """The compiled model, integer samples, and their labels."""
    shared, task = need_shared(), BY_NAME["kws"]
    path = mlperf_tiny._onnx(shared, task)
    calib, _ = mlperf_tiny._load(shared, task, "calib")
    x, labels = mlperf_tiny._load(shared, task, "eval")
    assert labels is not None
    name = load_model(path).graph.input[0].name
    done = compile_file(path, Config(calibration={name: calib[: task.calibration]}))
    integers = quantize_ports(manifest(done)["inputs"], [x[:SAMPLES]])
    return done, integers, labels[:SAMPLES]


def test_keywords_on_this_machine_equal_the_reference(tmp_path: Path) -> None:
    need_shared()
    need("gcc")
    done, integers, labels = keywords()
    write_files(output_files(done), tmp_path / "out")
    with HostLibrary(tmp_path / "out", manifest(done)) as library:
        (got,) = library.run(integers)
    values = run_int(done.graph, dict(zip(done.graph.inputs, integers, strict=True)))
    (want,) = (values[name] for name in done.graph.outputs)
    assert np.array_equal(got, want)
    right = float((got.reshape(len(got), -1).argmax(axis=1) == labels).mean())
    assert right >= 0.85  # 50 samples: 0.91 less two standard deviations and some


def test_keywords_on_a_board_equal_the_reference() -> None:
    shared = need_shared()
    need_board("cortex-m4", BOARD_TARGETS["cortex-m4"])
    lines = list(mlperf_tiny.run_on_boards(shared, BY_NAME["kws"], ON_BOARD, ["cortex-m4"]))
    assert [(target, exact) for target, exact, _ in lines] == [("cortex-m4", True)]
    assert lines[0][2].startswith(f"qcc check: {ON_BOARD} samples, 1 output: bit-exact")


# -- all of it ------------------------------------------------------------------------------------


@pytest.fixture(params=[(t.name, s) for t in TASKS for s in SCALE_MODES], ids="-".join)
def row(request: pytest.FixtureRequest) -> tuple[Task, Row]:
    """One variant, compiled one way, on its whole evaluation set."""
    shared = need_shared()
    need("gcc")
    name, scale = request.param
    return BY_NAME[name], mlperf_tiny.measure(shared, BY_NAME[name], scale, FLOATS)


@pytest.mark.slow
def test_accuracy_is_kept_and_every_bit_is_the_reference(row: tuple[Task, Row]) -> None:
    task, r = row
    assert r.bit_exact
    assert r.samples >= 80
    if task.data == "ad":
        assert r.sqnr_db >= 28
        assert r.score_correlation is not None
        assert r.score_correlation >= 0.99
        return
    assert r.integer_accuracy is not None
    assert r.integer_accuracy >= least_accuracy(task)
    if task.data == "vww":
        assert r.agreement is not None
        assert r.agreement >= 0.975
        # Half of what it computes and most of what it stores are channels that never change.
        assert r.macs <= 0.55 * r.macs_before
        assert r.weights <= 0.25 * r.weights_before
    else:
        assert r.macs <= r.macs_before
        assert r.weights <= r.weights_before


@pytest.mark.slow
@pytest.mark.parametrize("target", BOARD_TARGETS)
@pytest.mark.parametrize("name", MAIN)
def test_boards_are_bit_exact_on_twenty_samples(name: str, target: str) -> None:
    shared = need_shared()
    need_board(target, BOARD_TARGETS[target])
    ((_, exact, said),) = mlperf_tiny.run_on_boards(shared, BY_NAME[name], 20, [target])
    assert exact, said
    assert said.startswith("qcc check: 20 samples, 1 output: bit-exact")


@pytest.mark.slow
@pytest.mark.parametrize("name", MAIN)
def test_compiling_is_quick_and_small(name: str) -> None:
    """The goals are 10 s and 1 GiB; machines differ, so only three times the time fails."""
    seconds, mebibytes = mlperf_tiny.compile_time(need_shared(), BY_NAME[name])
    assert seconds < 30
    assert mebibytes < 1024


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALE_MODES)
def test_removing_constant_channels_changes_no_output(scale: ScaleMode) -> None:
    """The same integers come out of the person detector with and without the saving."""
    shared, task = need_shared(), BY_NAME["vww"]
    path = mlperf_tiny._onnx(shared, task)
    calib, _ = mlperf_tiny._load(shared, task, "calib")
    x, _ = mlperf_tiny._load(shared, task, "eval")
    name = load_model(path).graph.input[0].name
    outputs = []
    for remove in (True, False):
        config = Config(
            calibration={name: calib[: task.calibration]}, scale=scale, constant_channels=remove
        )
        done = compile_file(path, config)
        integers = quantize_ports(manifest(done)["inputs"], [x[:16]])
        values = run_int(done.graph, dict(zip(done.graph.inputs, integers, strict=True)))
        outputs.append([values[o] for o in done.graph.outputs])
    for less, all_of_it in zip(*outputs, strict=True):
        assert np.array_equal(less, all_of_it)
