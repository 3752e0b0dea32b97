"""Pooling of the DSP extension: bit-exact for every window, over its input where rows allow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.codegen.write import write_files
from qcc.driver import Compilation, output_files
from qcc.ir import Shape
from qcc.ops.examples import model
from tests.codegen.kernels.overlap import (
    check_estimates,
    check_overlaps,
    clang_builds,
    prefer_kernels,
)
from tests.codegen.kernels.table import (
    check_on_board,
    check_table,
    compile_table,
    layers_of,
)

AVG, MAX, PORTABLE = "dsp/avg-pool", "dsp/max-pool", "portable"


@pytest.fixture(autouse=True)
def _portable_only_where_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer_kernels(monkeypatch)


def pool(op: str, x: Shape, seed: int = 0, **attrs: Any) -> onnx.ModelProto:
    """*op* on x (c, h, w); odd seeds make the input unsigned."""
    nodes = [helper.make_node("Relu", ["x"], ["r"])] if seed % 2 else []
    nodes.append(helper.make_node(op, ["r" if nodes else "x"], ["y"], **attrs))
    return model("pool", nodes, {"x": (1, *x)}, ["y"], opset=19)


WINDOWS: list[tuple[Shape, dict[str, Any]]] = [
    *(((c, 5, 6), {"kernel_shape": [2, 2], "strides": [2, 2]}) for c in range(4, 10)),
    ((4, 6, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((5, 7, 9), {"kernel_shape": [3, 3], "strides": [2, 3]}),
    ((7, 5, 6), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ((6, 7, 5), {"kernel_shape": [4, 3], "pads": [3, 0, 1, 2], "strides": [2, 1]}),
    ((8, 9, 8), {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [2, 1, 1, 1]}),
    ((5, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ((4, 17, 16), {"kernel_shape": [17, 16]}),  # more values than lanes of 16 bits hold
    ((6, 3, 300), {"kernel_shape": [2, 290]}),
    ((9, 33, 31), {"kernel_shape": [32, 30], "strides": [1, 1]}),
    ((12, 25, 5), {"kernel_shape": [25, 5]}),
]


def models(op: str) -> list[onnx.ModelProto]:
    return [pool(op, x, i, **attrs) for i, (x, attrs) in enumerate(WINDOWS)]


def kernels(done: Compilation, cases: int, ops: Sequence[str]) -> list[str]:
    """The kernel of every case's pooling layer."""
    return [next(x.kernel for x in layers_of(done, i) if x.op in ops) for i in range(cases)]


@pytest.mark.parametrize(
    ("scale", "core"),
    [("single-shift", "cortex-m4"), ("double-shift", "cortex-m7"), ("fixed-point", "cortex-m33")],
)
def test_averages(scale: str, core: str, tmp_path: Path) -> None:
    done = compile_table(models("AveragePool"), core, scale=scale, io="caller")
    assert set(kernels(done, len(WINDOWS), ["avg_pool2d", "reduce_mean"])) == {AVG}
    check_table(done, tmp_path)


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_maxima(core: str, tmp_path: Path) -> None:
    done = compile_table(models("MaxPool"), core, io="caller")
    assert set(kernels(done, len(WINDOWS), ["max_pool2d"])) == {MAX}
    check_table(done, tmp_path)


def test_the_largest_sums(tmp_path: Path) -> None:
    """Every value at one end of its range: lanes of 16 bits hold 255 of them, and not many more."""
    cases = [
        pool("AveragePool", (5, *kernel), seed, kernel_shape=list(kernel))
        for kernel in ((15, 17), (16, 16), (2, 600), (600, 2), (40, 40))
        for seed in (0, 1)
    ]
    inputs = {
        f"c{i}_x": np.concatenate([np.full((1, *shape), v, np.float32) for v in (1, -1, 1, -1)])
        for i, case in enumerate(cases)
        for shape in [tuple(d.dim_value for d in case.graph.input[0].type.tensor_type.shape.dim)]
    }
    done = compile_table(cases, "cortex-m4", io="caller", calibration=inputs)
    assert set(kernels(done, len(cases), ["avg_pool2d"])) == {AVG}
    check_table(done, tmp_path)


def mean(x: Shape, axes: list[int], seed: int = 0) -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", ["x"], ["r"])] if seed % 2 else []
    nodes.append(
        helper.make_node("ReduceMean", ["r" if nodes else "x"], ["y"], axes=axes, keepdims=0)
    )
    return model("mean", nodes, {"x": x}, ["y"])


MEANS: list[tuple[Shape, list[int], str]] = [
    ((1, 7, 5), [1], AVG),
    ((1, 300, 4), [1], AVG),
    ((1, 1000, 6), [1], AVG),
    ((1, 3, 9, 11), [2], AVG),
    ((1, 3, 4, 5, 6), [2, 3], AVG),
    ((1, 2, 3, 5), [1, 2], AVG),
    ((1, 7, 5), [2], PORTABLE),
    ((1, 2, 3, 4, 5), [1, 3], PORTABLE),
    ((1, 9, 3), [1], PORTABLE),
]


@pytest.mark.parametrize("scale", ["single-shift", "fixed-point"])
def test_means(scale: str, tmp_path: Path) -> None:
    cases = [mean(x, axes, i) for i, (x, axes, _) in enumerate(MEANS)]
    done = compile_table(cases, "cortex-m4", scale=scale, io="caller")
    found = kernels(done, len(cases), ["reduce_mean"])
    assert found == [kernel for _, _, kernel in MEANS]
    check_table(done, tmp_path)


def test_few_channels_are_left_to_the_portable_kernel() -> None:
    done = compile_table([pool("MaxPool", (3, 4, 4), kernel_shape=[2, 2])], "cortex-m4")
    (layer,) = layers_of(done, 0)
    assert layer.kernel == PORTABLE
    assert "fewer than four channels" in layer.why


def test_the_output_may_lie_over_the_input(tmp_path: Path) -> None:
    cases = [
        pool(op, x, i, **attrs)
        for op in ("MaxPool", "AveragePool")
        for i, (x, attrs) in enumerate(WINDOWS[:12])
    ]
    check_overlaps(compile_table(cases, "cortex-m4", io="caller"), tmp_path, len(cases))


@pytest.mark.parametrize("flags", ["-O2 -DQCC_NO_ASM", "-O0", "-O3"])
def test_every_way_to_build(flags: str, tmp_path: Path) -> None:
    cases = [*models("AveragePool")[3:9], *models("MaxPool")[3:9]]
    done = compile_table(cases, "cortex-m4", io="caller")
    write_files(output_files(done), tmp_path)
    check_on_board(done, tmp_path, f"OPT={flags}")


@pytest.mark.parametrize("flags", [["-O2"], ["-O2", "-DQCC_NO_ASM"]])
def test_clang_builds_it(flags: list[str], tmp_path: Path) -> None:
    cases = [*models("AveragePool")[3:7], *models("MaxPool")[3:7]]
    clang_builds(compile_table(cases, "cortex-m4", io="caller"), tmp_path, flags)


def test_estimates_are_near_what_emulation_counts(tmp_path: Path) -> None:
    cases = [
        pool(op, x, i, **attrs)
        for op in ("MaxPool", "AveragePool")
        for i, (x, attrs) in enumerate(
            [
                ((16, 12, 12), {"kernel_shape": [2, 2], "strides": [2, 2]}),
                ((13, 9, 9), {"kernel_shape": [3, 3], "strides": [2, 2]}),
                ((64, 25, 5), {"kernel_shape": [25, 5]}),
                ((30, 8, 8), {"kernel_shape": [8, 8]}),
            ]
        )
    ]
    check_estimates(compile_table(cases, "cortex-m4", io="caller"), tmp_path, {AVG, MAX})
