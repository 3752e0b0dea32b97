"""Convolutions by Helium dot products: bit-exact for every shape, however it is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from qcc.config import OPTIMIZE, SCALE_MODES
from tests.build import check_on_host
from tests.codegen.kernels.mve_cases import (
    BUILDS,
    CORE,
    TABLE_OF_SHAPES,
    check_builds,
    clang_compiles,
    conv,
    kernels,
)
from tests.codegen.kernels.overlap import check_estimates, check_overlaps
from tests.codegen.kernels.table import check_table, compile_table, layers_of, prefer

KERNEL = "mve/dot4x2"
LAYOUTS = ("strip of columns", "windows by rows", "windows by taps")

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
    ((16, 6, 6), (12, 16, 3, 3), {"pads": [1, 1, 1, 1]}, "positive"),
    ((24, 4, 5), (8, 24, 3, 3), {"pads": [1, 1, 1, 1]}, "relu"),
    ((2, 9, 9), (4, 2, 5, 5), {"pads": [2, 2, 2, 2]}, "relu"),
    ((1, 13, 7), (6, 1, 10, 4), {"pads": [4, 1, 5, 2], "strides": [2, 2]}, "positive"),
    ((3, 6, 9), (4, 3, 1, 5), {"pads": [0, 2, 0, 2]}, ""),
    ((3, 20, 4), (4, 3, 17, 1), {"pads": [8, 0, 8, 0]}, "relu"),
    ((4, 9, 9), (8, 4, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, "positive"),
    ((3, 9, 11), (5, 3, 2, 3), {"dilations": [1, 3], "pads": [1, 2, 0, 3]}, ""),
    ((5, 9, 6), (5, 5, 3, 2), {"dilations": [3, 1], "pads": [1, 1, 2, 3]}, "six"),
    ((8, 5, 5), (16, 8, 1, 1), {}, "positive"),
    ((1, 5, 3), (4, 1, 1, 1), {}, "relu"),
    ((5, 3, 7), (6, 5, 1, 1), {}, ""),
    ((7, 7, 3), (13, 7, 1, 1), {}, "six"),
    ((33, 3, 5), (11, 33, 1, 1), {"strides": [2, 2]}, "relu"),
    ((70, 3, 3), (8, 70, 1, 1), {}, "positive"),
    ((6, 4, 4), (5, 6, 1, 1), {"pads": [1, 0, 0, 1]}, "relu"),
    ((2, 3, 2), (3, 2, 1, 1), {"pads": [2, 3, 1, 4], "strides": [3, 2]}, "relu"),
    ((3, 3, 3), (3, 3, 3, 3), {"pads": [3, 3, 3, 3]}, "positive"),  # windows in the padding only
    ((6, 5, 6), (4, 3, 2, 2), {"group": 2, "pads": [0, 1, 1, 0]}, "positive"),
    ((10, 4, 4), (15, 2, 3, 3), {"group": 5, "pads": [1, 1, 1, 1]}, ""),
    ((40, 6, 37), (5, 40, 1, 1), {}, "relu"),  # chunks of a long row
    ((24, 3, 40), (4, 24, 3, 3), {"pads": [1, 1, 1, 1], "strides": [1, 2]}, "relu"),  # chunks
)  # fmt: skip


def models(count: int | None = None) -> list[onnx.ModelProto]:
    return [conv(x, w, a, act, i) for i, (x, w, a, act) in enumerate(SHAPES[:count])]


WAYS = [
    pytest.param(o, s, marks=() if i == k else pytest.mark.slow)
    for i, o in enumerate(OPTIMIZE)
    for k, s in enumerate(SCALE_MODES)
]


@pytest.mark.parametrize(("optimize", "scale"), WAYS)
def test_every_shape(
    optimize: str, scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each profile has a way of unrolling of its own."""
    prefer(monkeypatch, KERNEL)
    done = compile_table(models(), CORE, scale=scale, optimize=optimize)
    assert kernels(done, "conv2d") == [KERNEL] * len(SHAPES)
    check_table(done, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a layer can do by several layouts, it does by each."""
    from qcc.codegen.kernels import mve_conv

    wanted = LAYOUTS.index(layout)
    layouts = mve_conv._layouts

    def only(shape: mve_conv._Shape) -> list[int]:
        return [wanted] if wanted in [*layouts(shape), 2] else layouts(shape)

    monkeypatch.setattr(mve_conv, "_layouts", only)
    prefer(monkeypatch, KERNEL)
    done = compile_table(models(), CORE)
    assert sum(layer.why == layout for layer in done.program.layers) >= 14
    check_table(done, tmp_path)


UNROLLED = [
    pytest.param(n, marks=() if n in (1, 9, 12) else pytest.mark.slow) for n in range(1, 13)
]


@pytest.mark.parametrize("unroll", UNROLLED)
def test_every_unrolling(unroll: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks at once, and twice as many in a loop."""
    prefer(monkeypatch, KERNEL)
    cases = [conv((16 * unroll * turns, 1, 3), (6, 16 * unroll * turns, 1, 1), {}, "relu", turns)
             for turns in (1, 2)]  # fmt: skip
    done = compile_table(cases, CORE, optimize="speed")
    functions = [c.kernel.function for i in range(2) for x in layers_of(done, i) for c in x.calls]
    assert f"blocks{unroll}_loop0" in functions[0]
    assert "_loop1" in functions[1] or unroll <= 6
    check_table(done, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"per_channel": False},
        {"weight_bits": 4, "act_bits": 4},
        pytest.param({"weight_bits": 2}, marks=pytest.mark.slow),
    ],
)
def test_other_formats(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, KERNEL)
    done = compile_table(models(16), CORE, **options)
    assert set(kernels(done, "conv2d")) == {KERNEL}
    check_table(done, tmp_path)


@pytest.mark.parametrize("flags", BUILDS)
def test_every_way_to_build(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    done = compile_table(models(), CORE, scale="fixed-point" if "-Os" in flags else "single-shift")
    check_builds(done, tmp_path, flags)


@pytest.mark.parametrize("scale", ["single-shift", "fixed-point"])
def test_clang_builds_it(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    done = compile_table(models(), CORE, scale=scale)
    check_on_host(done, tmp_path, "clang", ["-O2"])
    for flags in (["-O2"], ["-O2", "-fno-omit-frame-pointer"], ["-O1", "-DQCC_NO_ASM"]):
        clang_compiles(done, tmp_path, *flags)


def test_outputs_over_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    ungrouped = [m for m, s in zip(models(), SHAPES, strict=True) if "group" not in s[2]]
    thin = [conv((9, 5, 4), (o, 9, 1, 1), {}, "relu", o) for o in (3, 9, 22)]
    done = compile_table([*ungrouped, *thin], CORE)
    check_overlaps(done, tmp_path, len(ungrouped) + len(thin))


def test_estimates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    cases = [
        conv((3, 32, 32), (8, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}, "relu", 0),
        conv((16, 16, 16), (16, 16, 3, 3), {"pads": [1, 1, 1, 1]}, "relu", 1),
        conv((64, 8, 8), (24, 64, 1, 1), {}, "relu", 2),
        conv((7, 12, 12), (18, 7, 1, 1), {}, "", 3),
        conv((8, 12, 12), (8, 8, 3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}, "relu", 4),
        conv((32, 8, 8), (16, 8, 3, 3), {"pads": [1, 1, 1, 1], "group": 4}, "relu", 5),
    ]
    check_estimates(compile_table(cases, CORE), tmp_path, {KERNEL})


def test_layers_that_it_leaves_say_why() -> None:
    done = compile_table(models(1), CORE, act_bits=16)
    assert "more than 8 bits" in layers_of(done, 0)[0].why
