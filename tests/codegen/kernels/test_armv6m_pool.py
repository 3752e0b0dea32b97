"""Pooling and means on ARMv6-M: bit-exact, and portable where that is as good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from qcc.ir import Shape
from qcc.ops.examples import model
from tests.codegen.kernels.armv6m_cases import CORES, check_builds, clang_compiles, kernels
from tests.codegen.kernels.overlap import check_estimates, check_overlaps
from tests.codegen.kernels.table import check_table, compile_table, prefer

NAMES = ("armv6m/mean", "armv6m/max_pool", "armv6m/avg_pool")

# ONNX operator, input CHW, attributes, whether the input is signed.
SHAPES: tuple[tuple[str, Shape, dict[str, Any], bool], ...] = (
    ("MaxPool", (3, 7, 9), {"kernel_shape": [3, 3], "strides": [2, 2]}, True),
    ("MaxPool", (5, 6, 5), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, False),
    ("MaxPool", (1, 9, 8), {"kernel_shape": [4, 5], "pads": [3, 0, 1, 4]}, True),
    ("MaxPool", (2, 9, 9), {"kernel_shape": [3, 2], "dilations": [2, 3],
                            "pads": [2, 1, 1, 1]}, True),
    ("AveragePool", (3, 7, 9), {"kernel_shape": [3, 3], "strides": [2, 3]}, True),
    ("AveragePool", (4, 6, 5), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, False),
    ("AveragePool", (2, 6, 7), {"kernel_shape": [4, 3], "pads": [3, 0, 1, 2],
                                "count_include_pad": 1}, True),
    ("AveragePool", (1, 5, 9), {"kernel_shape": [2, 5], "pads": [0, 1, 1, 3]}, False),
    ("AveragePool", (7, 5, 3), {"kernel_shape": [5, 3]}, False),
    ("AveragePool", (6, 4, 4), {"kernel_shape": [4, 4]}, True),
)  # fmt: skip


def pool(op: str, x: Shape, attrs: dict[str, Any], signed: bool) -> onnx.ModelProto:
    """A pooling layer after a transpose, so that the input is NHWC in memory."""
    before = "Identity" if signed else "Relu"
    nodes = [helper.make_node(before, ["x"], ["p"]), helper.make_node(op, ["p"], ["y"], **attrs)]
    return model("pool", nodes, {"x": (1, *x)}, ["y"])


def mean(shape: Shape, axes: list[int]) -> onnx.ModelProto:
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=axes)
    return model("mean", [node], {"x": shape}, ["y"])


def models() -> list[onnx.ModelProto]:
    means = [mean((1, 5, 4, 7), [1, 2]), mean((1, 9, 3), [1]), mean((1, 3, 4, 5), [1, 2, 3])]
    return [*(pool(*s) for s in SHAPES), *means]


@pytest.mark.parametrize("scale", ["single-shift", "fixed-point"])
def test_every_shape(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, *NAMES)
    done = compile_table(models(), CORES[0], scale=scale)
    chosen = kernels(done, "max_pool2d", "avg_pool2d", "reduce_mean")
    assert [chosen.count(name) for name in NAMES] == [5, 4, 4]
    check_table(done, tmp_path)


def test_other_builds_and_overlaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, *NAMES)
    done = compile_table(models(), CORES[0])
    check_builds(done, tmp_path, "-O3")
    clang_compiles(done, tmp_path, "-O2")
    windows = sum(len(layer.inputs) for layer in done.program.layers if layer.kernel in NAMES[1:])
    check_overlaps(done, tmp_path / "overlaps", windows)


def test_estimates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, *NAMES)
    cases = [
        pool("MaxPool", (8, 12, 12), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, False),
        pool("MaxPool", (16, 12, 12), {"kernel_shape": [5, 5], "strides": [5, 5]}, True),
        pool("AveragePool", (8, 12, 12), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, False),
        pool("AveragePool", (16, 25, 5), {"kernel_shape": [25, 5]}, False),
        mean((1, 8, 8, 64), [1, 2]),
    ]
    # A compiler that knows the shape of the only layer makes up to a quarter less of it.
    check_estimates(compile_table(cases, CORES[0]), tmp_path, set(NAMES), within=0.3)


def test_what_is_left_to_the_portable_kernel() -> None:
    small = pool("MaxPool", (8, 6, 6), {"kernel_shape": [2, 2]}, True)
    done = compile_table([small, mean((1, 4, 5, 6), [3])], CORES[0])
    whys = [x.why for x in done.program.layers if x.op in ("max_pool2d", "reduce_mean")]
    assert "a small window" in whys[0]
    assert "outer axes" in whys[1]
