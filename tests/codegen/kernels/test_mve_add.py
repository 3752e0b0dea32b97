"""Additions with Helium, sums in 16 and in 32 bits."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from qcc.config import SCALE_MODES
from qcc.ir import Shape
from qcc.ops.examples import model
from tests.codegen.kernels.mve_cases import BUILDS, CORE, check_builds, clang_compiles, kernels
from tests.codegen.kernels.overlap import check_estimates, check_overlaps
from tests.codegen.kernels.table import check_table, compile_table, layers_of, prefer

KERNEL = "mve/add"
NARROW, WIDE = "sums in 16 bits", "sums in 32 bits"


def add(a: Shape, b: Shape, op: str = "Add", act: bool = False) -> onnx.ModelProto:
    nodes = [helper.make_node(op, ["p", "q"], ["s" if act else "y"])]
    if act:
        nodes.append(helper.make_node("Relu", ["s"], ["y"]))
    return model("sum", nodes, {"p": a, "q": b}, ["y"])


def residual(shape: Shape, first: str, second: str, op: str = "Add") -> onnx.ModelProto:
    """Operands whose scales the compiler chooses: they are powers of two apart."""
    nodes = [
        helper.make_node(first, ["x0"], ["p"]),
        helper.make_node(second, ["x1"], ["q"]),
        helper.make_node(op, ["p", "q"], ["y"]),
    ]
    return model("residual", nodes, {"x0": shape, "x1": shape}, ["y"])


MODELS = [
    *(add((1, n), (1, n), op) for n in (1, 2, 3, 4, 5, 7, 8, 9, 16, 31) for op in ("Add", "Sub")),
    add((1, 5, 4, 7), (1, 5, 4, 7), act=True),
    add((1, 3, 6), (3, 6)),
    add((1, 2, 5, 9), (9,)),
    *(residual((1, n, 3, 5), "Relu", "Tanh") for n in (1, 3, 8)),
    *(residual((1, n, 3, 5), "Tanh", "Sigmoid", "Sub") for n in (2, 8)),
    residual((1, 8, 4, 4), "Sigmoid", "Tanh"),
]


@pytest.mark.parametrize("scale", SCALE_MODES)
def test_every_shape(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    done = compile_table(MODELS, CORE, scale=scale)
    assert set(kernels(done, "add")) == {KERNEL}
    whys = {layer.why for layer in done.program.layers if layer.op == "add"}
    assert WIDE in whys
    assert NARROW in whys or scale != "single-shift"
    check_table(done, tmp_path)


@pytest.mark.parametrize("flags", BUILDS)
def test_every_way_to_build(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    check_builds(compile_table(MODELS, CORE), tmp_path, flags)


def test_clang_builds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    clang_compiles(compile_table(MODELS, CORE), tmp_path, "-O2")


def test_outputs_over_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    check_overlaps(compile_table(MODELS, CORE), tmp_path, 2 * len(MODELS) - 8)


def test_estimates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)
    cases = [add((1, 16, 12, 12), (1, 16, 12, 12)), residual((1, 16, 12, 12), "Relu", "Tanh")]
    check_estimates(compile_table(cases, CORE), tmp_path, {KERNEL})


def test_layers_that_it_leaves_say_why() -> None:
    done = compile_table([add((1, 4, 3, 5), (1, 4, 3, 1))], CORE)
    assert "repeats along the last axis" in layers_of(done, 0)[-1].why
