"""Convolutions on ARMv6-M, two pixels a multiply: bit-exact for every shape and build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.codegen.kernels.armv6m_common import rest_table, split, window_lead
from qcc.config import SCALE_MODES
from qcc.ops.examples import model, normal
from qcc.ops.window import Window
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

KERNELS = ("armv6m/conv-joined", "armv6m/conv")

# Input CHW, weights OIHW, attributes, activation.
SHAPES: TABLE_OF_SHAPES = (
    ((1, 7, 9), (4, 1, 3, 3), {"pads": [1, 1, 1, 1]}, "relu"),
    ((2, 6, 5), (5, 2, 3, 3), {"pads": [0, 1, 2, 0]}, ""),
    ((3, 9, 8), (8, 3, 3, 3), {"pads": [0, 0, 1, 1], "strides": [2, 2]}, "relu"),
    ((3, 8, 8), (6, 3, 3, 3), {"pads": [1, 1, 1, 1]}, "six"),
    ((4, 6, 7), (7, 4, 3, 3), {"pads": [1, 1, 1, 1]}, "positive"),
    ((5, 5, 6), (1, 5, 3, 3), {"pads": [1, 1, 1, 1], "strides": [1, 2]}, ""),
    ((6, 4, 4), (2, 6, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 1]}, "positive"),
    ((7, 5, 5), (3, 7, 3, 3), {"pads": [1, 1, 1, 1]}, "six"),
    ((16, 5, 5), (12, 16, 3, 3), {"pads": [1, 1, 1, 1]}, "positive"),
    ((2, 9, 9), (4, 2, 5, 5), {"pads": [2, 2, 2, 2]}, "relu"),
    ((1, 13, 7), (6, 1, 10, 4), {"pads": [4, 1, 5, 2], "strides": [2, 2]}, "positive"),
    ((3, 6, 9), (4, 3, 1, 5), {"pads": [0, 2, 0, 2]}, ""),
    ((4, 9, 9), (8, 4, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, "positive"),
    ((3, 9, 11), (5, 3, 2, 3), {"dilations": [1, 3], "pads": [1, 2, 0, 3]}, ""),
    ((5, 9, 6), (5, 5, 3, 2), {"dilations": [3, 1], "pads": [1, 1, 2, 3]}, "six"),
    ((8, 5, 5), (16, 8, 1, 1), {}, "positive"),
    ((1, 5, 3), (4, 1, 1, 1), {}, "relu"),
    ((5, 3, 7), (6, 5, 1, 1), {}, ""),
    ((7, 7, 3), (13, 7, 1, 1), {}, "six"),
    ((33, 3, 5), (11, 33, 1, 1), {"strides": [2, 2]}, "relu"),
    ((70, 3, 3), (8, 70, 1, 1), {}, "positive"),
    ((300, 1, 3), (5, 300, 1, 1), {}, "positive"),  # gaps of more than 255 between large weights
    ((6, 4, 4), (5, 6, 1, 1), {"pads": [1, 0, 0, 1]}, "relu"),
    ((2, 3, 2), (3, 2, 1, 1), {"pads": [2, 3, 1, 4], "strides": [3, 2]}, "relu"),
    ((3, 3, 3), (3, 3, 3, 3), {"pads": [3, 3, 3, 3]}, "positive"),  # windows in the padding only
    ((9, 1, 1), (5, 9, 1, 1), {}, "relu"),  # a single pixel
)  # fmt: skip


def models(count: int | None = None) -> list[onnx.ModelProto]:
    return [conv(x, w, a, act, i) for i, (x, w, a, act) in enumerate(SHAPES[:count])]


@pytest.mark.parametrize(
    ("core", "kernel", "scale"),
    [
        (CORES[0], KERNELS[0], "single-shift"),
        (CORES[0], KERNELS[0], "double-shift"),
        (CORES[0], KERNELS[0], "fixed-point"),
        (CORES[0], KERNELS[1], "single-shift"),
        (CORES[1], KERNELS[0], "fixed-point"),
        (CORES[1], KERNELS[1], "double-shift"),
        pytest.param(CORES[0], KERNELS[1], "double-shift", marks=pytest.mark.slow),
        pytest.param(CORES[0], KERNELS[1], "fixed-point", marks=pytest.mark.slow),
        pytest.param(CORES[1], KERNELS[0], "single-shift", marks=pytest.mark.slow),
    ],
)
def test_every_shape(
    core: str, kernel: str, scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On both cores: the second one has instructions of its own."""
    prefer(monkeypatch, kernel)
    done = compile_table(models(), core, scale=scale)
    assert kernels(done, "conv2d") == [kernel] * len(SHAPES)
    check_table(done, tmp_path)


@pytest.mark.parametrize(
    "options",
    [{"per_channel": False, "weight_bits": 6}, {"weight_bits": 4, "act_bits": 4}],
)
def test_other_formats(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, KERNELS[0])
    done = compile_table(models(16), CORES[0], **options)
    assert set(kernels(done, "conv2d")) == {KERNELS[0]}
    check_table(done, tmp_path)


def test_extreme_weights_and_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All weights at the ends of their range, all inputs too: the sums that just fit."""
    rng = np.random.default_rng(3)
    cases, samples = [], {}
    for i, c in enumerate((8, 9, 40)):
        w = rng.choice([-1.0, 1.0], (6, c, 1, 1)).astype(np.float32)
        w[0], w[1] = 1.0, -1.0
        conv_node = helper.make_node("Conv", ["x", "w"], ["y"])
        cases.append(model("extremes", [conv_node], {"x": (1, c, 3, 3)}, ["y"], {"w": w}))
        lowest = -1.0 if i else 0.0  # signed and unsigned
        values = rng.choice([lowest, 1.0], (12, 1, c, 3, 3)).astype(np.float32)
        values[0], values[1] = 1.0, lowest
        samples[f"c{i}_x"] = values
    for kernel in KERNELS:
        prefer(monkeypatch, kernel)
        done = compile_table(cases, CORES[0], calibration=samples)
        assert kernels(done, "conv2d") == [kernel] * 3
        check_table(done, tmp_path / kernel.replace("/", "_"))


def test_dense_layers_over_several_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, *KERNELS)
    cases = [
        model("rows", [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (1, rows, n)}, ["y"],
              {"w": normal((n, m), rows)})
        for rows, n, m in ((2, 5, 7), (3, 12, 4), (5, 1, 1), (1, 9, 6))
    ]  # fmt: skip
    done = compile_table(cases, CORES[0])
    assert [k in KERNELS for k in kernels(done, "dense")] == [True, True, True, False]
    check_table(done, tmp_path)


@pytest.mark.parametrize("flags", BUILDS)
def test_every_way_to_build(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNELS["3" in flags])
    done = compile_table(
        models(), CORES[0], scale="fixed-point" if "-Os" in flags else "single-shift"
    )
    check_builds(done, tmp_path, flags)


@pytest.mark.parametrize("core", CORES)
def test_clang_builds_it(core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNELS[0])
    done = compile_table(models(), core, scale="fixed-point")
    check_on_host(done, tmp_path, "clang", ["-O2"])
    for flags in (["-O2"], ["-O2", "-fno-omit-frame-pointer"], ["-O1", "-DQCC_NO_ASM"]):
        clang_compiles(done, tmp_path, *flags)


def test_outputs_over_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, *KERNELS)
    thin = [conv((9, 5, 4), (o, 9, 1, 1), {}, "relu", o) for o in (3, 9, 22)]
    done = compile_table([*models(), *thin], CORES[0])
    check_overlaps(done, tmp_path, len(SHAPES))


def test_a_layer_of_equal_channels_runs_in_place() -> None:
    one = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
    assert window_lead((1, 5, 5, 8), (1, 5, 5, 8), one.kernel, one) == 0
    assert window_lead((1, 5, 5, 8), (1, 5, 5, 10), one.kernel, one) == 24 * 2


def test_estimates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [
        conv((3, 32, 32), (8, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}, "relu", 0),
        conv((16, 16, 16), (16, 16, 3, 3), {"pads": [1, 1, 1, 1]}, "relu", 1),
        conv((64, 8, 8), (24, 64, 1, 1), {}, "relu", 2),
        conv((7, 12, 12), (18, 7, 1, 1), {}, "", 3),
        conv((8, 12, 12), (8, 8, 3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}, "relu", 4),
    ]
    for kernel, scale in zip((*KERNELS, KERNELS[0]), SCALE_MODES, strict=True):
        prefer(monkeypatch, kernel)
        check_estimates(compile_table(cases, CORES[0], scale=scale), tmp_path / scale, {kernel})


def test_layers_that_it_leaves_say_why() -> None:
    done = compile_table(models(1), CORES[0], act_bits=16)
    assert "more than 8 bits" in layers_of(done, 0)[0].why
    groups = conv((6, 5, 6), (4, 3, 2, 2), {"group": 2}, "", 0)
    assert "several groups" in layers_of(compile_table([groups], CORES[0]), 0)[0].why


@pytest.mark.parametrize("apart", [1, 2])
@pytest.mark.parametrize("limit", [254, 257, 300, 510])
def test_weights_are_split_without_loss(limit: int, apart: int) -> None:
    rng = np.random.default_rng(limit)
    w = np.concatenate([rng.integers(-127, 128, (20, 37)), np.full((1, 37), 127)])
    w = np.concatenate([w, np.full((1, 37), -127), rng.integers(-7, 8, (5, 37))])
    for joined in (False, True):
        s = split(w, joined, limit, apart)
        n = w.shape[1]
        np.testing.assert_array_equal((s.u - s.z[:, None] + s.q)[:, :n], w)
        for values, least, most in ((s.u, 0, 255), (s.z, 0, 128), (s.q, -127, 127)):
            assert values.min() >= least
            assert values.max() <= most
        pairs = s.u.reshape(len(w), -1, 2, apart).sum(axis=2)
        assert pairs.max() <= limit if joined else s.rest == 0


def test_what_is_left_of_weights_is_found_again() -> None:
    q = np.zeros((3, 900), np.int64)
    q[0, [0, 5, 700]], q[2, 899] = [3, -4, 127], -127
    found = rest_table(q, 255)
    assert not isinstance(found, str)
    counts, data = found
    again, at = np.zeros_like(q), 0
    for row, count in zip(again, counts.tolist(), strict=True):
        k = 0
        for skip, value in data[at : at + 2 * count].reshape(-1, 2).tolist():
            k += skip
            row[k] += (value ^ 0x80) - 0x80
        at += 2 * count
    np.testing.assert_array_equal(again, q)
    assert at == len(data)
