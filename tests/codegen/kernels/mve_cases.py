"""Small models for the tests of Helium kernels, and what those tests have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.codegen.target import resolve
from qcc.codegen.write import write_files
from qcc.driver import Compilation, output_files
from qcc.ir import Shape
from qcc.ops.examples import model, normal
from tests.build import check_on_host
from tests.codegen.kernels.table import check_on_board

CORE = "cortex-m55"

BUILDS = tuple(
    pytest.param(flags, marks=pytest.mark.slow if slow else ())
    for flags, slow in (
        ("-O2 -DQCC_NO_ASM", False),
        ("-O0", True),
        ("-O1 -fno-omit-frame-pointer", True),
        ("-O3 -funroll-loops", False),
        ("-Os -fno-omit-frame-pointer", False),
        ("-Og", True),
    )
)
"""Ways to build: intrinsics, and assembly whatever the compiler does around it."""

TABLE_OF_SHAPES = tuple[tuple[Shape, Shape, dict[str, Any], str], ...]


def conv(x: Shape, w: Shape, attrs: dict[str, Any], act: str, seed: int) -> onnx.ModelProto:
    """A convolution of x, CHW, with weights OIHW."""
    node = helper.make_node("Conv", ["x", "w", "b"], ["c"], **attrs)
    return activated([node], {"x": (1, *x)}, {"w": normal(w, seed), "b": normal(w[:1], 1)}, act)


def depthwise(x: Shape, window: Shape, times: int, attrs: dict[str, Any], act: str, seed: int
              ) -> onnx.ModelProto:  # fmt: skip
    """A depthwise convolution with *times* outputs per channel."""
    w = (x[0] * times, 1, *window)
    return conv(x, w, {**attrs, "group": x[0]}, act, seed)


def dense(n: int, m: int, act: str, seed: int) -> onnx.ModelProto:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["c"], transB=1)
    return activated([node], {"x": (1, n)}, {"w": normal((m, n), seed), "b": normal((m,), 1)}, act)


def activated(
    nodes: list[onnx.NodeProto], inputs: dict[str, Shape], consts: dict[str, Any], act: str
) -> onnx.ModelProto:
    """The layer with a ReLU, a clip to -0.3..2.9, or none; "positive" has a ReLU before it too."""
    if act == "positive":
        nodes[0].input[0] = "p"
        nodes.insert(0, helper.make_node("Relu", ["x"], ["p"]))
    if act in ("relu", "positive"):
        nodes.append(helper.make_node("Relu", ["c"], ["y"]))
    elif act == "six":
        nodes.append(helper.make_node("Clip", ["c", "lo", "hi"], ["y"]))
        consts |= {"lo": np.float32(-0.3), "hi": np.float32(2.9)}
    return model("layer", nodes, inputs, ["y" if act else "c"], consts)


def kernels(done: Compilation, *ops: str) -> list[str]:
    """What computes the layers of these operators."""
    return [layer.kernel for layer in done.program.layers if layer.op in ops]


def check_builds(done: Compilation, folder: Path, flags: str) -> None:
    """Bit-exact on this machine and on the core, built with *flags*."""
    check_on_host(done, folder)
    check_on_board(done, folder, f"OPT={flags}")


def clang_compiles(done: Compilation, folder: Path, *flags: str) -> None:
    """clang makes code for the core without a warning."""
    import subprocess

    from tests.emulators import need

    need("clang")
    write_files(output_files(done), folder)
    target = [f for f in resolve(CORE).cflags if f.startswith("-m")]
    command = ["clang", "--target=thumbv8.1m.main-none-eabihf", *target, "-ffreestanding"]
    command += ["-std=c99", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-Iboards/common/libc"]
    built = subprocess.run(
        [*command, *flags, "-c", f"{done.program.name}.c", "-o", "clang.o"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[:2000]
