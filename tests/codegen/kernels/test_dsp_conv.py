"""Convolutions and fully connected layers on the DSP extension: bit-exact for every shape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.codegen.program import Layer
from qcc.config import OPTIMIZE, SCALE_MODES
from qcc.ir import Shape
from qcc.ops.examples import model, normal
from tests.build import check_on_host
from tests.codegen.kernels.overlap import check_overlaps
from tests.codegen.kernels.table import (
    check_on_board,
    check_table,
    compile_table,
    layers_of,
    prefer,
)
from tests.emulators import need

CORES = ("cortex-m4", "cortex-m7", "cortex-m33")

WHERE = [
    pytest.param(c, s, marks=() if c == CORES[0] or s == SCALE_MODES[0] else pytest.mark.slow)
    for c in CORES
    for s in SCALE_MODES
]
"""The cores share their instructions; all modes on one of them are enough for every day."""

# Input CHW, weights OIHW, attributes, activation, kernels that take it.
SHAPES: tuple[tuple[Shape, Shape, dict[str, Any], str, str], ...] = (
    ((1, 7, 9), (4, 1, 3, 3), {"pads": [1, 1, 1, 1]}, "relu", "both"),
    ((2, 6, 5), (5, 2, 3, 3), {"pads": [0, 1, 2, 0]}, "", "both"),
    ((3, 9, 8), (8, 3, 3, 3), {"pads": [0, 0, 1, 1], "strides": [2, 2]}, "relu", "both"),
    ((3, 8, 8), (6, 3, 3, 3), {"pads": [1, 1, 1, 1]}, "six", "both"),
    ((4, 6, 7), (7, 4, 3, 3), {"pads": [1, 1, 1, 1]}, "relu", "both"),
    ((5, 5, 6), (9, 5, 3, 3), {"pads": [1, 1, 1, 1], "strides": [1, 2]}, "", "both"),
    ((6, 4, 4), (10, 6, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 1]}, "relu", "both"),
    ((7, 5, 5), (3, 7, 3, 3), {"pads": [1, 1, 1, 1]}, "six", "both"),
    ((16, 6, 6), (12, 16, 3, 3), {"pads": [1, 1, 1, 1]}, "relu", "both"),
    ((24, 4, 5), (8, 24, 3, 3), {"pads": [1, 1, 1, 1]}, "relu", "both"),
    ((2, 9, 9), (4, 2, 5, 5), {"pads": [2, 2, 2, 2]}, "relu", "both"),
    ((1, 13, 7), (6, 1, 10, 4), {"pads": [4, 1, 5, 2], "strides": [2, 2]}, "relu", "both"),
    ((3, 6, 9), (4, 3, 1, 5), {"pads": [0, 2, 0, 2]}, "", "both"),
    ((3, 20, 4), (4, 3, 17, 1), {"pads": [8, 0, 8, 0]}, "relu", "patches"),
    ((4, 9, 9), (8, 4, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, "relu", "patches"),
    ((3, 9, 11), (5, 3, 2, 3), {"dilations": [1, 3], "pads": [1, 2, 0, 3]}, "", "patches"),
    ((8, 5, 5), (16, 8, 1, 1), {}, "relu", "patches"),
    ((1, 5, 3), (4, 1, 1, 1), {}, "relu", "patches"),
    ((5, 3, 7), (6, 5, 1, 1), {}, "", "patches"),
    ((7, 7, 3), (13, 7, 1, 1), {}, "six", "patches"),
    ((13, 3, 3), (15, 13, 1, 1), {}, "relu", "patches"),
    ((33, 3, 5), (11, 33, 1, 1), {"strides": [2, 2]}, "relu", "patches"),
    ((70, 3, 3), (8, 70, 1, 1), {}, "relu", "patches"),
    ((6, 4, 4), (5, 6, 1, 1), {"pads": [1, 0, 0, 1]}, "relu", "patches"),
)  # fmt: skip
MATRICES = (
    (7, 5, "relu"), (16, 8, ""), (33, 9, "relu"), (128, 16, "relu"), (64, 10, ""),
    (130, 24, "six"), (30, 13, "relu"), (4, 8, ""), (101, 7, "six"), (66, 17, "relu"),
)  # fmt: skip


def conv(x: Shape, w: Shape, attrs: dict[str, Any], act: str, seed: int) -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w", "b"], ["c"], **attrs)
    return activated([node], {"x": (1, *x)}, {"w": normal(w, seed), "b": normal(w[:1], 1)}, act)


def dense(n: int, m: int, act: str, seed: int) -> onnx.ModelProto:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["c"], transB=1)
    return activated([node], {"x": (1, n)}, {"w": normal((m, n), seed), "b": normal((m,), 1)}, act)


def activated(
    nodes: list[onnx.NodeProto], inputs: dict[str, Shape], consts: dict[str, Any], act: str
) -> onnx.ModelProto:
    """The layer with a ReLU, a clip to -0.3..2.9, or none."""
    if act == "relu":
        nodes.append(helper.make_node("Relu", ["c"], ["y"]))
    elif act == "six":
        nodes.append(helper.make_node("Clip", ["c", "lo", "hi"], ["y"]))
        consts |= {"lo": np.float32(-0.3), "hi": np.float32(2.9)}
    return model("layer", nodes, inputs, ["y" if act else "c"], consts)


def convolutions() -> list[onnx.ModelProto]:
    return [conv(x, w, a, act, i) for i, (x, w, a, act, _) in enumerate(SHAPES)]


def kernels(layers: Sequence[Layer]) -> list[str]:
    return [layer.kernel for layer in layers if layer.op in ("conv2d", "dense")]


@pytest.mark.parametrize(("core", "scale"), WHERE)
@pytest.mark.parametrize("kind", ["lines", "patches"])
def test_convolutions(
    kind: str, core: str, scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kernel on all shapes that it takes; every profile has its turn."""
    prefer(monkeypatch, f"dsp/conv-{kind}", "dsp/conv-patches")
    optimize = OPTIMIZE[(CORES.index(core) + SCALE_MODES.index(scale)) % len(OPTIMIZE)]
    done = compile_table(convolutions(), core, scale=scale, optimize=optimize)
    chosen = [kernels(layers_of(done, i))[0] for i in range(len(SHAPES))]
    assert set(chosen) <= {"dsp/conv-lines", "dsp/conv-patches"}
    for found, (*_, only) in zip(chosen, SHAPES, strict=True):
        assert found == f"dsp/conv-{kind if only == 'both' or kind == 'patches' else only}"
    check_table(done, tmp_path)


@pytest.mark.parametrize("scale", SCALE_MODES)
def test_matrices(scale: str, tmp_path: Path) -> None:
    models = [dense(n, m, act, i) for i, (n, m, act) in enumerate(MATRICES)]
    done = compile_table(models, "cortex-m4", scale=scale, optimize="speed")
    assert set(kernels(done.program.layers)) == {"dsp/dense"}
    check_table(done, tmp_path)


# Input CHW, output channels, padding, activation.
WINOGRAD: tuple[tuple[Shape, int, list[int], str], ...] = (
    ((16, 8, 8), 16, [1, 1, 1, 1], "relu"), ((16, 7, 9), 7, [1, 1, 1, 1], ""),
    ((8, 6, 6), 7, [0, 0, 0, 0], "six"), ((12, 3, 3), 4, [2, 1, 0, 1], "relu"),
    ((36, 6, 5), 8, [1, 1, 1, 1], "relu"), ((40, 4, 4), 6, [1, 1, 1, 1], "relu"),
    ((76, 3, 6), 8, [1, 1, 1, 1], "relu"),
)  # fmt: skip


@pytest.mark.parametrize("scale", SCALE_MODES)
def test_winograd(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, "dsp/conv-winograd")
    models = [
        conv(x, (out, x[0], 3, 3), {"pads": pads}, act, i)
        for i, (x, out, pads, act) in enumerate(WINOGRAD)
    ]
    done = compile_table(models, "cortex-m4", scale=scale, optimize="speed")
    assert kernels(done.program.layers) == ["dsp/conv-winograd"] * len(models)
    check_table(done, tmp_path)
    balanced = compile_table(models, "cortex-m4", scale=scale)
    assert "dsp/conv-winograd" not in kernels(balanced.program.layers)


def test_winograd_is_chosen_for_speed() -> None:
    model_ = conv((16, 8, 8), (16, 16, 3, 3), {"pads": [1, 1, 1, 1]}, "relu", 0)
    done = compile_table([model_], "cortex-m4", optimize="speed")
    assert kernels(done.program.layers) == ["dsp/conv-winograd"]


@pytest.mark.parametrize(
    "options", [{"per_channel": False}, {"weight_bits": 4, "act_bits": 4, "keep8": ()}]
)
def test_other_formats(options: dict[str, Any], tmp_path: Path) -> None:
    """One shift for a layer; few bits, whose clip is a narrower saturation."""
    models = [*convolutions()[:9], dense(33, 9, "relu", 0), dense(20, 16, "", 1)]
    done = compile_table(models, "cortex-m4", optimize="speed", **options)
    assert "portable" not in kernels(done.program.layers)
    check_table(done, tmp_path)


@pytest.mark.parametrize(
    "flags",
    ["-O2 -DQCC_NO_ASM", "-O0", "-O3 -funroll-loops", "-Os -fno-omit-frame-pointer", "-Og"],
)
def test_every_way_to_build(flags: str, tmp_path: Path) -> None:
    """The assembly needs nothing of the compiler's registers; intrinsics give the same bits."""
    models = [*convolutions()[:6], *convolutions()[16:20], dense(30, 13, "relu", 0)]
    done = compile_table(models, "cortex-m4", optimize="speed")
    check_on_host(done, tmp_path)
    check_on_board(done, tmp_path, f"OPT={flags}")


@pytest.mark.parametrize("flags", [["-O2"], ["-O2", "-DQCC_NO_ASM"]])
def test_clang_builds_it(flags: list[str], tmp_path: Path) -> None:
    import subprocess

    need("clang")
    models = [*convolutions()[:6], *convolutions()[16:20], dense(30, 13, "relu", 0)]
    done = compile_table(models, "cortex-m4", optimize="speed")
    check_on_host(done, tmp_path, "clang", ["-O2"])
    command = ["clang", "--target=thumbv7em-none-eabihf", "-mcpu=cortex-m4", "-ffreestanding"]
    command += ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Iboards/common/libc", *flags]
    built = subprocess.run(
        [*command, "-c", "table.c", "-o", "table.o"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[:2000]


@pytest.mark.parametrize("kind", ["lines", "patches", "winograd"])
def test_outputs_over_inputs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every distance that the memory planner may choose."""
    prefer(monkeypatch, f"dsp/conv-{kind}", "dsp/conv-patches")
    wide = [conv((8, 6, 7), (o, 8, 3, 3), {"pads": [1, 1, 1, 1]}, "relu", o) for o in (4, 8, 20)]
    thin = [conv((9, 5, 4), (o, 9, 1, 1), {}, "relu", o) for o in (3, 9, 22)]
    models = [*convolutions(), *wide, *thin]
    done = compile_table(models, "cortex-m4", optimize="speed")
    check_overlaps(done, tmp_path, len(models))
