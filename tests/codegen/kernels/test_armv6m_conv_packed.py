"""Convolutions with packed weights on ARMv6-M, eight pixels a weight: bit-exact for every shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.codegen.tables import tables
from qcc.codegen.variants import Goal, offers
from qcc.config import SCALE_MODES
from qcc.driver import Compilation
from qcc.ops.examples import model, normal
from tests.build import check_on_host
from tests.codegen.kernels.armv6m_cases import (
    BUILDS,
    CORES,
    TABLE_OF_SHAPES,
    check_builds,
    clang_compiles,
    conv,
    kernels,
)
from tests.codegen.kernels.overlap import check_estimates, check_overlaps
from tests.codegen.kernels.table import check_table, compile_table, layers_of, prefer

KERNEL = "armv6m/conv-packed"

# Input CHW, weights OIHW, attributes, activation. Pixels: below, at and beyond multiples of 8.
SHAPES: TABLE_OF_SHAPES = (
    ((1, 7, 9), (4, 1, 3, 3), {"pads": [1, 1, 1, 1]}, "relu"),
    ((2, 6, 5), (5, 2, 3, 3), {"pads": [0, 1, 2, 0]}, ""),
    ((3, 9, 8), (8, 3, 3, 3), {"pads": [0, 0, 1, 1], "strides": [2, 2]}, "relu"),
    ((4, 6, 7), (7, 4, 3, 3), {"pads": [1, 1, 1, 1]}, "positive"),
    ((5, 5, 6), (1, 5, 3, 3), {"pads": [1, 1, 1, 1], "strides": [1, 2]}, ""),
    ((7, 5, 5), (3, 7, 3, 3), {"pads": [1, 1, 1, 1]}, "six"),
    ((16, 4, 4), (12, 16, 3, 3), {"pads": [1, 1, 1, 1]}, "positive"),
    ((1, 13, 7), (6, 1, 10, 4), {"pads": [4, 1, 5, 2], "strides": [2, 2]}, "positive"),
    ((4, 9, 9), (8, 4, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, "positive"),
    ((3, 9, 11), (5, 3, 2, 3), {"dilations": [1, 3], "pads": [1, 2, 0, 3]}, ""),
    ((8, 5, 5), (16, 8, 1, 1), {}, "positive"),
    ((1, 5, 3), (4, 1, 1, 1), {}, "relu"),
    ((33, 3, 5), (11, 33, 1, 1), {"strides": [2, 2]}, "relu"),
    ((64, 2, 4), (8, 64, 1, 1), {}, "positive"),
    ((2, 3, 2), (3, 2, 1, 1), {"pads": [2, 3, 1, 4], "strides": [3, 2]}, "relu"),
    ((3, 3, 3), (3, 3, 3, 3), {"pads": [3, 3, 3, 3]}, "positive"),  # windows in the padding only
    ((9, 1, 1), (5, 9, 1, 1), {}, "relu"),  # a single pixel
)  # fmt: skip


def models(count: int | None = None) -> list[onnx.ModelProto]:
    return [conv(x, w, a, act, i) for i, (x, w, a, act) in enumerate(SHAPES[:count])]


def packed(cases: list[onnx.ModelProto], core: str = CORES[0], **options: Any) -> Compilation:
    """The table with narrow weights and activations; rounding to nearest is enough here."""
    narrow = {"weight_bits": 4, "act_bits": 4, "keep8": (), "rounding": "nearest"}
    return compile_table(cases, core, **{**narrow, **options})


def check_taken(done: Compilation) -> None:
    """Every layer gets the kernel, but those whose multipliers it has no form for."""
    left = [x.why for x in done.program.layers if x.op == "conv2d" and x.kernel != KERNEL]
    assert all(f"{KERNEL}: factors of 1/2 or more" in why for why in left), left
    assert len(left) <= (len(SHAPES) // 2 if done.config.scale == "fixed-point" else 0)


@pytest.fixture(autouse=True)
def _preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)


@pytest.mark.parametrize(
    ("bits", "scale"),
    [
        (4, "single-shift"),
        (4, "fixed-point"),
        pytest.param(4, "double-shift", marks=pytest.mark.slow),
        (2, "single-shift"),
        pytest.param(2, "double-shift", marks=pytest.mark.slow),
    ],
)
def test_every_shape(bits: int, scale: str, tmp_path: Path) -> None:
    done = packed(models(), weight_bits=bits, scale=scale)
    check_taken(done)
    check_table(done, tmp_path)


@pytest.mark.parametrize(
    "scale", ["single-shift", pytest.param("fixed-point", marks=pytest.mark.slow)]
)
def test_every_shape_with_instructions_of_armv7m(scale: str, tmp_path: Path) -> None:
    done = packed(models(), CORES[1], scale=scale)
    check_taken(done)
    check_table(done, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"per_channel": False}, marks=pytest.mark.slow),
        pytest.param({"weight_bits": 3, "act_bits": 2}, marks=pytest.mark.slow),
        {"weight_bits": 2, "act_bits": 8},
        {"weight_bits": 4, "act_bits": 6, "scale": "double-shift"},
    ],
)
def test_other_formats(options: dict[str, Any], tmp_path: Path) -> None:
    done = packed(models(13), **options)
    assert set(kernels(done, "conv2d")) == {KERNEL}
    check_table(done, tmp_path)


def test_extreme_weights_and_inputs(tmp_path: Path) -> None:
    """Weights and inputs at the ends of their ranges: with 312 of them, sums of 7 * 15 * 312."""
    rng = np.random.default_rng(3)
    cases, samples = [], {}
    for i, c in enumerate((8, 9, 312)):
        w = rng.choice([-1.0, 1.0], (6, c, 1, 1)).astype(np.float32)
        w[0], w[1] = 1.0, -1.0
        node = helper.make_node("Conv", ["x", "w"], ["y"])
        cases.append(model("extremes", [node], {"x": (1, c, 3, 3)}, ["y"], {"w": w}))
        lowest = 0.0 if i % 2 == 0 else -1.0
        values = rng.choice([lowest, 1.0], (12, 1, c, 3, 3)).astype(np.float32)
        values[0], values[1] = 1.0, lowest
        samples[f"c{i}_x"] = values
    for scale in SCALE_MODES:
        done = packed(cases, calibration=samples, scale=scale)
        assert kernels(done, "conv2d") == [KERNEL] * 3
        check_table(done, tmp_path / scale)


def test_sums_that_leave_16_bits_are_refused() -> None:
    w = np.ones((2, 700, 1, 1), np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    case = model("large", [node], {"x": (1, 700, 2, 2)}, ["y"], {"w": w})
    done = packed([case], calibration={"c0_x": np.ones((3, 1, 700, 2, 2), np.float32)})
    (layer,) = done.graph.nodes()
    _, refused = offers(done.graph, layer, ["armv6m"], Goal())
    assert "sums of more than 16 bits" in [r.why for r in refused if r.kernel == KERNEL]


def test_dense_layers_over_several_vectors(tmp_path: Path) -> None:
    cases = [
        model("rows", [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (1, rows, n)}, ["y"],
              {"w": normal((n, m), rows)})
        for rows, n, m in ((2, 5, 7), (9, 12, 4), (1, 9, 6))
    ]  # fmt: skip
    done = packed(cases)
    assert [k == KERNEL for k in kernels(done, "dense")] == [True, True, False]
    check_table(done, tmp_path)


@pytest.mark.parametrize("flags", BUILDS)
def test_every_way_to_build(flags: str, tmp_path: Path) -> None:
    fixed = "-Os" in flags or "-O3" in flags
    done = packed(
        models(),
        weight_bits=2 if "-Og" in flags else 4,
        scale="fixed-point" if fixed else "single-shift",
    )
    check_builds(done, tmp_path, flags)


@pytest.mark.parametrize("core", CORES)
def test_clang_builds_it(core: str, tmp_path: Path) -> None:
    done = packed(models(), core, scale="fixed-point")
    check_on_host(done, tmp_path, "clang", ["-O2"])
    for flags in (["-O2"], ["-O2", "-fno-omit-frame-pointer"], ["-O1", "-DQCC_NO_ASM"]):
        clang_compiles(done, tmp_path, *flags)


def test_outputs_over_inputs(tmp_path: Path) -> None:
    thin = [conv((9, 5, 4), (o, 9, 1, 1), {}, "relu", o) for o in (3, 9, 22)]
    done = packed([*models(), *thin])
    check_overlaps(done, tmp_path, len(SHAPES) + len(thin))


@pytest.mark.parametrize("bits", [2, 4])
def test_estimates(bits: int, tmp_path: Path) -> None:
    cases = [
        conv((3, 32, 32), (8, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}, "relu", 0),
        conv((16, 16, 16), (16, 16, 3, 3), {"pads": [1, 1, 1, 1]}, "positive", 1),
        conv((64, 8, 8), (24, 64, 1, 1), {}, "positive", 2),
        conv((7, 12, 12), (18, 7, 1, 1), {}, "", 3),
        conv((8, 12, 12), (8, 8, 3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}, "relu", 4),
    ]
    for scale in SCALE_MODES if bits == 4 else SCALE_MODES[:2]:
        done = packed(cases, weight_bits=bits, scale=scale)
        assert kernels(done, "conv2d") == [KERNEL] * len(cases)
        check_estimates(done, tmp_path / scale, {KERNEL})


def test_weights_take_the_bits_they_have() -> None:
    case = [conv((64, 8, 8), (32, 64, 1, 1), {}, "positive", 2)]
    words = {}
    for bits in (2, 4):
        layer = layers_of(packed(case, weight_bits=bits), 0)[-1]
        words[bits] = next(int(t.data.size) for t in tables(layer.calls) if t.suffix == "w")
    assert words == {2: 32 * 64 * 2 // 32, 4: 32 * 64 * 4 // 32}
