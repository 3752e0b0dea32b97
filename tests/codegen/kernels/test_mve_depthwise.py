"""Depthwise convolutions with Helium, from planes and with channels in the lanes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from qcc.config import SCALE_MODES
from qcc.ir import Shape
from tests.build import check_on_host
from tests.codegen.kernels.mve_cases import (
    BUILDS,
    CORE,
    check_builds,
    clang_compiles,
    depthwise,
    kernels,
)
from tests.codegen.kernels.overlap import check_estimates, check_overlaps
from tests.codegen.kernels.table import check_table, compile_table, layers_of, prefer

PLANES, LANES = "mve/planes", "mve/channels"
ONE = [1, 1, 1, 1]

# Input CHW, window, outputs per channel, attributes, activation, whether planes take it.
SHAPES: tuple[tuple[Shape, Shape, int, dict[str, Any], str, bool], ...] = (
    ((2, 6, 8), (3, 3), 1, {"pads": [0, 1, 2, 0]}, "", True),
    ((3, 9, 8), (3, 3), 1, {"pads": [0, 0, 1, 1], "strides": [2, 2]}, "positive", True),
    ((4, 6, 17), (3, 3), 1, {"pads": ONE}, "six", True),
    ((5, 5, 6), (3, 3), 1, {"pads": ONE, "strides": [1, 2]}, "positive", True),
    ((6, 4, 33), (3, 3), 1, {"pads": ONE, "strides": [2, 1]}, "relu", True),
    ((7, 12, 5), (3, 3), 1, {"pads": ONE, "strides": [2, 2]}, "relu", True),
    ((8, 6, 6), (3, 3), 1, {"pads": ONE}, "positive", True),
    ((19, 3, 3), (3, 3), 1, {"pads": ONE}, "relu", True),
    ((16, 5, 7), (5, 5), 1, {"pads": [2, 2, 2, 2]}, "positive", True),
    ((3, 9, 20), (5, 5), 1, {"pads": [2, 2, 2, 2], "strides": [2, 2]}, "", True),
    ((9, 6, 6), (4, 4), 1, {"pads": [1, 1, 2, 2]}, "relu", True),
    ((2, 6, 9), (1, 7), 1, {"pads": [0, 3, 0, 3]}, "positive", True),
    ((4, 14, 6), (11, 1), 1, {"pads": [5, 0, 5, 0]}, "relu", True),
    ((4, 9, 9), (2, 3), 1, {"strides": [3, 2]}, "relu", True),  # rows that no window reads
    ((3, 4, 5), (3, 3), 1, {"pads": [4, 3, 4, 3]}, "positive", True),  # windows in the padding
    ((3, 6, 6), (3, 3), 2, {}, "positive", True),
    ((5, 6, 11), (3, 3), 3, {"pads": ONE, "strides": [2, 1]}, "", True),
    ((2, 5, 5), (5, 5), 9, {"pads": [2, 2, 2, 2]}, "relu", True),
    ((3, 9, 9), (7, 7), 1, {"pads": [3, 3, 3, 3]}, "positive", False),
    ((9, 11, 9), (3, 2), 1, {"dilations": [2, 3], "pads": [2, 1, 0, 2]}, "", False),
    ((4, 9, 9), (3, 3), 2, {"dilations": [2, 2]}, "positive", False),
    ((2, 9, 9), (3, 3), 1, {"strides": [1, 6]}, "relu", False),
    ((12, 13, 230), (3, 3), 1, {"pads": ONE, "strides": [6, 1]}, "relu", False),
)  # fmt: skip


def models(count: int | None = None) -> list[onnx.ModelProto]:
    return [depthwise(x, w, n, a, act, i) for i, (x, w, n, a, act, _) in enumerate(SHAPES[:count])]


@pytest.mark.parametrize("scale", SCALE_MODES)
def test_planes(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, PLANES, LANES)
    done = compile_table(models(), CORE, scale=scale)
    for i, (*_, planes) in enumerate(SHAPES):
        assert layers_of(done, i)[-1].kernel == (PLANES if planes else LANES)
    check_table(done, tmp_path)


@pytest.mark.parametrize(
    "scale",
    [pytest.param(s, marks=() if s == "single-shift" else pytest.mark.slow) for s in SCALE_MODES],
)
def test_channels_in_the_lanes(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, LANES)
    done = compile_table(models(), CORE, scale=scale)
    assert set(kernels(done, "conv2d")) == {LANES}
    check_table(done, tmp_path)


@pytest.mark.parametrize("kernel", [PLANES, LANES])
@pytest.mark.parametrize("options", [{"per_channel": False}, {"weight_bits": 4, "act_bits": 4}])
def test_other_formats(
    options: dict[str, Any], kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, kernel)
    done = compile_table(models(12), CORE, **options)
    assert set(kernels(done, "conv2d")) == {kernel}
    check_table(done, tmp_path)


@pytest.mark.parametrize("flags", BUILDS)
def test_every_way_to_build(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, PLANES, LANES)
    done = compile_table(models(), CORE, scale="fixed-point" if "-Os" in flags else "single-shift")
    check_builds(done, tmp_path, flags)


@pytest.mark.parametrize("scale", ["single-shift", "fixed-point"])
def test_clang_builds_it(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, PLANES, LANES)
    done = compile_table(models(), CORE, scale=scale)
    check_on_host(done, tmp_path, "clang", ["-O2"])
    for flags in (["-O2"], ["-O2", "-fno-omit-frame-pointer"], ["-O1", "-DQCC_NO_ASM"]):
        clang_compiles(done, tmp_path, *flags)


@pytest.mark.parametrize("kernel", [PLANES, LANES])
def test_outputs_over_inputs(kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, kernel, LANES)
    single = [m for m, s in zip(models(), SHAPES, strict=True) if s[2] == 1]
    check_overlaps(compile_table(single, CORE), tmp_path, len(single))


@pytest.mark.parametrize("kernel", [PLANES, LANES])
def test_estimates(kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, kernel)
    cases = [
        depthwise((64, 12, 5), (3, 3), 1, {"pads": ONE}, "positive", 0),
        depthwise((24, 24, 24), (3, 3), 1, {"pads": ONE, "strides": [2, 2]}, "relu", 1),
        depthwise((30, 6, 6), (3, 3), 1, {"pads": ONE}, "relu", 2),
        depthwise((16, 14, 14), (5, 5), 1, {"pads": [2, 2, 2, 2]}, "", 3),
        depthwise((32, 9, 12), (3, 5), 1, {"pads": [1, 2, 1, 2]}, "positive", 4),
    ]
    check_estimates(compile_table(cases, CORE), tmp_path, {kernel})
