"""Fully connected layers on ARMv6-M, two products a multiply: bit-exact for every shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.config import SCALE_MODES
from qcc.ops.examples import model
from tests.codegen.kernels.armv6m_cases import (
    BUILDS,
    CORES,
    activated,
    check_builds,
    clang_compiles,
    dense,
    kernels,
)
from tests.codegen.kernels.overlap import check_estimates
from tests.codegen.kernels.table import check_table, compile_table, layers_of, prefer

KERNEL = "armv6m/dense"

# Inputs, outputs, activation: chunks of 128 inputs and blocks of 32 outputs, full and not.
SHAPES = (
    (1, 1, ""), (2, 3, "relu"), (3, 4, "six"), (4, 5, "positive"), (5, 7, ""), (6, 2, "relu"),
    (7, 31, "positive"), (8, 32, "six"), (9, 33, ""), (33, 70, "relu"), (127, 6, "positive"),
    (128, 9, ""), (129, 40, "relu"), (300, 10, "positive"), (515, 34, "six"),
)  # fmt: skip


def models() -> list[onnx.ModelProto]:
    return [dense(n, m, act, i) for i, (n, m, act) in enumerate(SHAPES)]


@pytest.mark.parametrize("scale", SCALE_MODES)
@pytest.mark.parametrize("core", CORES)
def test_every_shape(
    core: str, scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, KERNEL)
    done = compile_table(models(), core, scale=scale)
    assert kernels(done, "dense") == [KERNEL] * len(SHAPES)
    functions = {call.kernel.function for x in done.program.layers for call in x.calls}
    assert any("short1" in f for f in functions) == (scale == "single-shift")
    check_table(done, tmp_path)


@pytest.mark.parametrize(
    "options",
    [{"per_channel": False, "weight_bits": 6}, {"weight_bits": 4, "act_bits": 4}],
)
def test_other_formats(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, KERNEL)
    done = compile_table(models(), CORES[0], **options)
    assert set(kernels(done, "dense")) == {KERNEL}
    check_table(done, tmp_path)


def test_large_biases_have_long_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["c"], transB=1)
    w, b = np.full((5, 12), 0.001, np.float32), np.full(5, 5000.0, np.float32)
    w[:, 0] = 1.0
    b[0] = -5000.0
    done = compile_table([activated([node], {"x": (1, 12)}, {"w": w, "b": b}, "")], CORES[0])
    (layer,) = layers_of(done, 0)
    assert layer.kernel == KERNEL
    assert "short0" in layer.calls[0].kernel.function
    check_table(done, tmp_path)


def test_extreme_weights_and_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All weights at the ends of their range, all inputs too: the sums that just fit."""
    prefer(monkeypatch, KERNEL)
    rng = np.random.default_rng(3)
    cases, samples = [], {}
    for i, (n, lowest) in enumerate(((20, 0.0), (150, -1.0), (150, 0.0))):
        w = rng.choice([-1.0, 1.0], (n, 6)).astype(np.float32)
        w[:, 0], w[:, 1] = 1.0, -1.0
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        cases.append(model("extremes", [node], {"x": (1, n)}, ["y"], {"w": w}))
        values = rng.choice([lowest, 1.0], (12, 1, n)).astype(np.float32)
        values[0], values[1] = 1.0, lowest
        samples[f"c{i}_x"] = values
    done = compile_table(cases, CORES[0], calibration=samples)
    assert kernels(done, "dense") == [KERNEL] * 3
    check_table(done, tmp_path)


@pytest.mark.parametrize("flags", BUILDS)
def test_every_way_to_build(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    scale = "fixed-point" if "-Os" in flags else "single-shift"
    check_builds(compile_table(models(), CORES[0], scale=scale), tmp_path, flags)


def test_clang_builds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    for core in CORES:
        done = compile_table(models()[:6], core)
        for flags in (["-O2"], ["-O2", "-fno-omit-frame-pointer"], ["-O1", "-DQCC_NO_ASM"]):
            clang_compiles(done, tmp_path / core, *flags)


def test_estimates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    sizes = (
        (640, 128, "relu"),
        (128, 128, "relu"),
        (128, 8, ""),
        (64, 10, ""),
        (300, 50, "positive"),
    )
    cases = [dense(*size, i) for i, size in enumerate(sizes)]
    for scale in SCALE_MODES:
        check_estimates(compile_table(cases, CORES[0], scale=scale), tmp_path / scale, {KERNEL})


def test_layers_that_it_leaves_say_why() -> None:
    done = compile_table([dense(5, 4, "", 0)], CORES[0], act_bits=16)
    assert "more than 8 bits" in layers_of(done, 0)[0].why
