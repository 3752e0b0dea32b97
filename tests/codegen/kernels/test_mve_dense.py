"""Fully connected layers with Helium, eight outputs at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qcc.config import SCALE_MODES
from tests.build import check_on_host
from tests.codegen.kernels.mve_cases import (
    BUILDS,
    CORE,
    check_builds,
    clang_compiles,
    conv,
    dense,
    kernels,
)
from tests.codegen.kernels.overlap import check_estimates, check_overlaps
from tests.codegen.kernels.table import check_table, compile_table, prefer

KERNELS = ("mve/dot8x1", "mve/dot4x2")
SHAPES = (
    (1, 1, "relu"), (7, 5, "relu"), (16, 8, "positive"), (33, 9, "relu"), (128, 16, "positive"),
    (64, 10, ""), (130, 24, "six"), (30, 13, "relu"), (4, 8, ""), (101, 7, "six"), (48, 17, "relu"),
    (272, 3, "positive"), (640, 12, ""),
)  # fmt: skip
MODELS = [dense(n, m, act, i) for i, (n, m, act) in enumerate(SHAPES)]
MODELS.append(conv((20, 1, 1), (9, 20, 1, 1), {}, "positive", 3))


@pytest.mark.parametrize("scale", SCALE_MODES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_shape(
    kernel: str, scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, kernel)
    done = compile_table(MODELS, CORE, scale=scale)
    assert set(kernels(done, "dense", "conv2d")) == {kernel}
    check_table(done, tmp_path)


@pytest.mark.parametrize("options", [{"per_channel": False}, {"weight_bits": 4, "act_bits": 4}])
def test_other_formats(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, KERNELS[0])
    done = compile_table(MODELS, CORE, optimize="speed", **options)
    assert set(kernels(done, "dense")) == {KERNELS[0]}
    check_table(done, tmp_path)


@pytest.mark.parametrize("flags", BUILDS)
def test_every_way_to_build(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNELS[0])
    done = compile_table(MODELS, CORE, scale="fixed-point" if "-Os" in flags else "single-shift")
    check_builds(done, tmp_path, flags)


@pytest.mark.parametrize("scale", ["single-shift", "fixed-point"])
def test_clang_builds_it(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNELS[0])
    done = compile_table(MODELS, CORE, scale=scale)
    check_on_host(done, tmp_path, "clang", ["-O2"])
    for flags in (["-O2"], ["-O2", "-fno-omit-frame-pointer"], ["-O1", "-DQCC_NO_ASM"]):
        clang_compiles(done, tmp_path, *flags)


def test_outputs_over_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the input is copied first, anything goes."""
    prefer(monkeypatch, KERNELS[0])
    copied = [m for m, s in zip(MODELS, SHAPES, strict=False) if s[0] % 16]
    check_overlaps(compile_table(copied, CORE), tmp_path, len(copied))


def test_estimates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNELS[0])
    cases = [dense(n, m, act, 1) for n, m, act in ((640, 128, ""), (128, 128, "positive"))]
    cases += [dense(64, 10, "relu", 2), dense(30, 64, "relu", 3)]
    check_estimates(compile_table(cases, CORE), tmp_path, {KERNELS[0]})
