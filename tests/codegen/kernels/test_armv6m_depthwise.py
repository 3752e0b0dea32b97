"""Depthwise convolutions on ARMv6-M, two rows a multiply: bit-exact for every shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.ops.examples import model
from tests.codegen.kernels.armv6m_cases import (
    BUILDS,
    CORES,
    check_builds,
    clang_compiles,
    depthwise,
    kernels,
)
from tests.codegen.kernels.overlap import check_estimates, check_overlaps
from tests.codegen.kernels.table import check_table, compile_table, layers_of, prefer

KERNEL = "armv6m/depthwise"

# Input CHW, window, outputs per channel, attributes, activation.
SHAPES: tuple[tuple[tuple[int, int, int], tuple[int, int], int, dict[str, Any], str], ...] = (
    ((1, 7, 6), (3, 3), 1, {"pads": [1, 1, 1, 1]}, "relu"),
    ((2, 5, 5), (3, 3), 1, {"pads": [1, 1, 1, 1]}, "positive"),
    ((3, 9, 8), (3, 3), 1, {"pads": [0, 0, 1, 1], "strides": [2, 2]}, "positive"),
    ((4, 6, 7), (3, 3), 1, {"strides": [1, 2], "pads": [1, 0, 0, 2]}, ""),
    ((5, 8, 3), (3, 3), 2, {"pads": [1, 1, 1, 1]}, "six"),
    ((6, 9, 9), (5, 5), 1, {"pads": [2, 2, 2, 2]}, "relu"),
    ((7, 10, 9), (5, 5), 1, {"pads": [1, 2, 2, 1], "strides": [2, 2]}, "positive"),
    ((8, 3, 3), (3, 3), 1, {"pads": [1, 1, 1, 1]}, "six"),
    ((3, 1, 9), (1, 4), 3, {"pads": [0, 2, 0, 1]}, "relu"),
    ((2, 13, 1), (7, 1), 1, {"pads": [3, 0, 3, 0]}, ""),
    ((4, 9, 8), (3, 3), 1, {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, "positive"),
    ((3, 9, 11), (2, 3), 1, {"dilations": [3, 3], "pads": [1, 2, 0, 3]}, ""),
    ((3, 4, 4), (3, 3), 1, {"pads": [3, 3, 3, 3]}, "positive"),  # windows in the padding only
    ((2, 6, 6), (1, 1), 1, {}, "relu"),
    ((5, 2, 2), (2, 2), 1, {}, "positive"),  # a single pixel
    ((3, 7, 7), (2, 2), 1, {"strides": [3, 3]}, "six"),  # not all of the input is read
)  # fmt: skip


def models(count: int | None = None) -> list[onnx.ModelProto]:
    return [depthwise(x, w, n, a, act, i) for i, (x, w, n, a, act) in enumerate(SHAPES[:count])]


@pytest.mark.parametrize("scale", ["single-shift", "double-shift", "fixed-point"])
def test_every_shape(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    done = compile_table(models(), CORES[0], scale=scale)
    assert kernels(done, "conv2d") == [KERNEL] * len(SHAPES)
    check_table(done, tmp_path)


@pytest.mark.parametrize("scale", ["single-shift", "fixed-point"])
def test_with_instructions_of_armv7m(
    scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, KERNEL)
    check_table(compile_table(models(), CORES[1], scale=scale), tmp_path)


@pytest.mark.parametrize("options", [{"per_channel": False}, {"weight_bits": 4, "act_bits": 4}])
def test_other_formats(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, KERNEL)
    done = compile_table(models(8), CORES[0], **options)
    assert set(kernels(done, "conv2d")) == {KERNEL}
    check_table(done, tmp_path)


def test_extreme_weights_and_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All weights at the ends of their range, all inputs too: the sums that just fit."""
    prefer(monkeypatch, KERNEL)
    rng = np.random.default_rng(3)
    cases, samples = [], {}
    for i, lowest in enumerate((0.0, -1.0)):
        w = rng.choice([-1.0, 1.0], (6, 1, 3, 3)).astype(np.float32)
        w[0], w[1] = 1.0, -1.0
        node = helper.make_node("Conv", ["x", "w"], ["y"], group=6, pads=[1, 1, 1, 1])
        cases.append(model("extremes", [node], {"x": (1, 6, 5, 5)}, ["y"], {"w": w}))
        values = rng.choice([lowest, 1.0], (12, 1, 6, 5, 5)).astype(np.float32)
        values[0], values[1] = 1.0, lowest
        samples[f"c{i}_x"] = values
    done = compile_table(cases, CORES[0], calibration=samples)
    assert kernels(done, "conv2d") == [KERNEL] * 2
    check_table(done, tmp_path)


@pytest.mark.parametrize("flags", BUILDS)
def test_every_way_to_build(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    scale = "fixed-point" if "-Os" in flags else "single-shift"
    check_builds(compile_table(models(), CORES[0], scale=scale), tmp_path, flags)


def test_clang_builds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    for core in CORES:
        done = compile_table(models(4), core, scale="fixed-point")
        for flags in (["-O2"], ["-O2", "-fno-omit-frame-pointer"], ["-O1", "-DQCC_NO_ASM"]):
            clang_compiles(done, tmp_path / core, *flags)


def test_outputs_over_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    tall = [
        depthwise((c, 13, w), (3, 3), n, {"pads": [1, 1, 1, 1], "strides": [s, s]}, "relu", c)
        for c, w, n, s in ((3, 5, 1, 1), (8, 4, 1, 1), (4, 9, 1, 2), (2, 5, 2, 1))
    ]
    check_overlaps(compile_table([*tall, *models()], CORES[0]), tmp_path, 8)


def test_estimates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    cases = [
        depthwise((8, 24, 24), (3, 3), 1, {"pads": [1, 1, 1, 1]}, "relu", 0),
        depthwise((16, 12, 12), (3, 3), 1, {"pads": [0, 0, 1, 1], "strides": [2, 2]}, "six", 1),
        depthwise((4, 10, 9), (5, 5), 1, {"pads": [2, 2, 2, 2]}, "relu", 2),
        depthwise((64, 25, 5), (3, 3), 1, {"pads": [1, 1, 1, 1]}, "positive", 3),
        depthwise((6, 9, 9), (3, 3), 2, {}, "relu", 4),
    ]  # fmt: skip
    for scale in ("single-shift", "fixed-point"):
        check_estimates(compile_table(cases, CORES[0], scale=scale), tmp_path / scale, {KERNEL})


def test_layers_that_it_leaves_say_why() -> None:
    from tests.codegen.kernels.armv6m_cases import conv

    groups = conv((6, 5, 6), (4, 3, 2, 2), {"group": 2}, "", 0)
    assert "groups of several channels" in layers_of(compile_table([groups], CORES[0]), 0)[0].why
    wide = compile_table(models(1), CORES[0], act_bits=16)
    assert "more than 8 bits" in layers_of(wide, 0)[0].why
