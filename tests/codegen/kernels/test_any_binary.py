"""Layers of bits, 32 channels an operation: bit-exact on every kind of core, small per product."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qcc.codegen.kernels import any_binary
from qcc.codegen.variants import Goal, offers
from qcc.config import SCALE_MODES
from qcc.driver import Compilation
from qcc.ir import QType
from qcc.ops.examples import normal
from qcc.profiling.profile import profile
from tests.build import check_on_host
from tests.codegen.kernels.armv6m_cases import (
    activated,
    check_builds,
    conv,
    kernels,
)
from tests.codegen.kernels.overlap import check_estimates, check_overlaps
from tests.codegen.kernels.table import check_table, compile_table, layers_of, prefer

KERNEL = "any/binary"

# Input CHW, weights OIHW, attributes. Channels: below, at and beyond 32.
SHAPES: tuple[Any, ...] = (
    ((1, 7, 9), (4, 1, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((2, 6, 5), (5, 2, 3, 3), {"pads": [0, 1, 2, 0]}),
    ((3, 9, 8), (33, 3, 3, 3), {"pads": [0, 0, 1, 1], "strides": [2, 2]}),
    ((16, 4, 4), (12, 16, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((4, 9, 9), (8, 4, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    ((3, 9, 11), (5, 3, 2, 3), {"dilations": [1, 3], "pads": [1, 2, 0, 3]}),
    ((8, 3, 5), (64, 8, 1, 1), {}),
    ((1, 5, 3), (32, 1, 1, 1), {}),
    ((70, 2, 3), (31, 70, 1, 1), {"strides": [2, 2]}),
    ((300, 1, 2), (70, 300, 1, 1), {}),
    ((3, 3, 3), (3, 3, 3, 3), {"pads": [3, 3, 3, 3]}),
    ((9, 1, 1), (5, 9, 1, 1), {}),
)


def models() -> list[onnx.ModelProto]:
    return [conv(x, w, a, "positive", i) for i, (x, w, a) in enumerate(SHAPES)]


def binary(cases: list[onnx.ModelProto], core: str = "cortex-m4", **options: Any) -> Compilation:
    bits = {"weight_bits": 1, "act_bits": 1, "keep8": (), "rounding": "nearest"}
    return compile_table(cases, core, **{**bits, **options})


@pytest.fixture(autouse=True)
def _preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, KERNEL)


@pytest.mark.parametrize("scale", SCALE_MODES)
def test_every_shape(scale: str, tmp_path: Path) -> None:
    done = binary(models(), scale=scale)
    assert kernels(done, "conv2d") == [KERNEL] * len(SHAPES)
    check_thresholds(done)
    check_table(done, tmp_path)


def check_thresholds(done: Compilation) -> None:
    """Of every sum of products there can be, the output is 1 from the threshold on."""
    for node in done.graph.nodes():
        if node.op != "conv2d":
            continue
        taps = int(np.prod(done.graph.shape(node.inputs[1])[1:]))
        sums = np.arange(-taps, taps + 1)[:, None]
        bias = done.graph.constant(node.inputs[2]).astype(np.int64)
        y = np.clip(node.attrs.rescale.apply(sums + bias), *node.attrs.clip)
        found = any_binary._thresholds(done.graph, node, taps)
        np.testing.assert_array_equal(y, sums >= found)


@pytest.mark.parametrize("core", ["cortex-m0", "riscv32"])
def test_every_core(core: str, tmp_path: Path) -> None:
    done = binary(models(), core)
    assert kernels(done, "conv2d") == [KERNEL] * len(SHAPES)
    check_table(done, tmp_path)


@pytest.mark.parametrize(
    "flags", ["-O0", pytest.param("-O3 -funroll-loops", marks=pytest.mark.slow)]
)
def test_other_ways_to_build(flags: str, tmp_path: Path) -> None:
    done = binary(models())
    check_builds(done, tmp_path, flags)
    check_on_host(done, tmp_path, "clang", ["-O2"])


def test_dense_layers(tmp_path: Path) -> None:
    cases = []
    for rows, n, m in ((1, 40, 33), (3, 7, 4)):
        matmul = onnx.helper.make_node("MatMul", ["x", "w"], ["c"])
        cases.append(activated([matmul], {"x": (rows, n)}, {"w": normal((n, m), n)}, "positive"))
    done = binary(cases)
    assert kernels(done, "dense") == [KERNEL] * 2
    check_table(done, tmp_path)


def test_outputs_over_inputs(tmp_path: Path) -> None:
    done = binary(models())
    check_overlaps(done, tmp_path, len(SHAPES))


def test_other_layers_are_left_and_say_why() -> None:
    signed = conv((4, 5, 5), (8, 4, 3, 3), {}, "", 0)
    grouped = conv((4, 5, 5), (8, 2, 3, 3), {"group": 2}, "positive", 0)
    for case, why in ((signed, "inputs other than 0 and 1"), (grouped, "several groups")):
        assert f"{KERNEL}: {why}" in _refusals(binary([case]))
    wider = binary([conv((4, 5, 5), (8, 4, 3, 3), {}, "positive", 0)], weight_bits=2)
    assert not _refusals(wider)
    assert layers_of(wider, 0)[-1].kernel != KERNEL


def _refusals(done: Compilation) -> list[str]:
    (node,) = (n for n in done.graph.nodes() if n.op == "conv2d")
    assert done.graph.quant(node.inputs[1]).qtype != QType(8)
    return [f"{r.kernel}: {r.why}" for r in offers(done.graph, node, [], Goal())[1]]


def test_a_quarter_of_an_instruction_per_product(tmp_path: Path) -> None:
    cases = [
        conv((64, 8, 8), (64, 64, 1, 1), {}, "positive", 0),
        conv((32, 8, 8), (64, 32, 3, 3), {"pads": [1, 1, 1, 1]}, "positive", 1),
    ]
    done = binary(cases)
    check_estimates(done, tmp_path, {KERNEL}, within=0.4)
    counted = profile(tmp_path, json.loads((tmp_path / "manifest.json").read_text())).layers
    for layer, found in zip(done.program.layers, counted, strict=True):
        if layer.kernel == KERNEL:
            assert found.instructions < 0.25 * layer.macs
