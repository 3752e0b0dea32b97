"""Pooling and means with Helium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from qcc.config import SCALE_MODES
from qcc.ir import Shape
from qcc.ops.examples import model
from tests.codegen.kernels.mve_cases import BUILDS, CORE, check_builds, clang_compiles, kernels
from tests.codegen.kernels.overlap import check_estimates, check_overlaps
from tests.codegen.kernels.table import check_table, compile_table, layers_of, prefer

MAX, MEAN = "mve/max", "mve/mean"
OPS = ("max_pool2d", "avg_pool2d", "reduce_mean")

# Input CHW, attributes.
WINDOWS: tuple[tuple[Shape, dict[str, Any]], ...] = (
    ((1, 6, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((3, 7, 9), {"kernel_shape": [3, 3], "strides": [2, 3]}),
    ((7, 5, 6), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ((8, 7, 5), {"kernel_shape": [4, 3], "pads": [3, 0, 1, 2], "strides": [2, 1]}),
    ((16, 5, 6), {"kernel_shape": [3, 2], "pads": [1, 0, 2, 1]}),
    ((21, 8, 7), {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1}),
    ((33, 4, 4), {"kernel_shape": [1, 1]}),
    ((5, 9, 8), {"kernel_shape": [1, 2]}),
)  # fmt: skip


def pool(op: str, x: Shape, attrs: dict[str, Any], positive: bool) -> onnx.ModelProto:
    nodes = [helper.make_node(op, ["p" if positive else "x"], ["y"], **attrs)]
    if positive:
        nodes.insert(0, helper.make_node("Relu", ["x"], ["p"]))
    return model("pool", nodes, {"x": (1, *x)}, ["y"])


def mean(shape: Shape, axes: list[int]) -> onnx.ModelProto:
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=1)
    return model("mean", [node], {"x": shape}, ["y"])


MODELS = [
    *(pool(op, x, a, positive) for op in ("MaxPool", "AveragePool") for x, a in WINDOWS
      for positive in (False, True)),
    pool("MaxPool", (6, 9, 8), {"kernel_shape": [3, 2], "dilations": [2, 3]}, True),
    pool("AveragePool", (9, 13, 12), {"kernel_shape": [12, 12]}, True),
    pool("AveragePool", (4, 5, 6), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1],
                                    "count_include_pad": 1}, False),
    mean((1, 8, 8, 24), [1, 2]), mean((1, 9, 15, 5), [1, 2]), mean((1, 7, 3), [1]),
    mean((1, 2, 3), [1]),
]  # fmt: skip


@pytest.mark.parametrize("scale", SCALE_MODES)
def test_every_window(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, MAX, MEAN)
    done = compile_table(MODELS, CORE, scale=scale)
    assert "portable" not in kernels(done, *OPS)
    check_table(done, tmp_path)


@pytest.mark.parametrize("flags", BUILDS)
def test_every_way_to_build(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, MAX, MEAN)
    check_builds(compile_table(MODELS, CORE), tmp_path, flags)


def test_clang_builds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, MAX, MEAN)
    clang_compiles(compile_table(MODELS, CORE), tmp_path, "-O2")


def test_outputs_over_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, MAX, MEAN)
    check_overlaps(compile_table(MODELS, CORE), tmp_path, len(MODELS))


def test_estimates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, MAX, MEAN)
    cases = [  # two of each instance: the compiler makes a special one of a kernel called once
        mean((1, 8, 8, 64), [1, 2]),
        mean((1, 25, 5, 64), [1, 2]),
        pool("MaxPool", (32, 12, 12), {"kernel_shape": [2, 2], "strides": [2, 2]}, False),
        pool("MaxPool", (24, 9, 9), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, False),
        pool("AveragePool", (32, 12, 12), {"kernel_shape": [3, 3], "strides": [2, 2]}, True),
        pool("AveragePool", (16, 12, 12), {"kernel_shape": [2, 4], "strides": [1, 2]}, True),
    ]
    check_estimates(compile_table(cases, CORE), tmp_path, {MAX, MEAN})


def test_means_that_it_leaves_say_why() -> None:
    done = compile_table([mean((1, 4, 5), [2])], CORE)
    assert "other axes" in layers_of(done, 0)[-1].why
