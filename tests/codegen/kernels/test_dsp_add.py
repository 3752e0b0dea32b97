"""Additions of the DSP extension: bit-exact, in place over either operand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc import arith
from qcc.codegen.kernels import dsp_add
from qcc.codegen.variants import Goal, Variant
from qcc.codegen.write import write_files
from qcc.driver import Compilation, output_files
from qcc.ir import Int, Node, QType
from qcc.ops.examples import model
from tests.codegen.kernels.overlap import (
    check_estimates,
    check_overlaps,
    clang_builds,
    prefer_kernels,
)
from tests.codegen.kernels.table import (
    check_on_board,
    check_table,
    compile_table,
    layers_of,
)

LANES, PORTABLE = "dsp/add-lanes", "portable"


@pytest.fixture(autouse=True)
def _portable_only_where_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer_kernels(monkeypatch)


SIGNED, UNSIGNED = "Tanh", "Relu"
"""What goes before an operand: a layer whose scale is free to be what the addition asks for."""


def add(
    n: int, op: str = "Add", kinds: tuple[str, str] = (SIGNED, UNSIGNED), after: str = "",
    gains: tuple[float, float] = (1.0, 1.0),
) -> onnx.ModelProto:  # fmt: skip
    """kind(p * gain) op kind(q * gain), clipped by *after*."""
    nodes = []
    for name, kind, _ in zip("pq", kinds, gains, strict=True):
        nodes.append(helper.make_node("Mul", [name, f"{name}gain"], [f"{name}scaled"]))
        nodes.append(helper.make_node(kind, [f"{name}scaled"], [f"{name}made"]))
    nodes.append(helper.make_node(op, ["pmade", "qmade"], ["s" if after else "y"]))
    consts = {
        f"{name}gain": np.full((), gain, np.float32) for name, gain in zip("pq", gains, strict=True)
    }
    if after == "Relu":
        nodes.append(helper.make_node("Relu", ["s"], ["y"]))
    elif after == "Clip":
        consts |= {"lo": np.full((), -0.4, np.float32), "hi": np.full((), 0.7, np.float32)}
        nodes.append(helper.make_node("Clip", ["s", "lo", "hi"], ["y"]))
    return model("add", nodes, {"p": (1, n), "q": (1, n)}, ["y"], consts)


KINDS = [(a, b) for a in (SIGNED, UNSIGNED) for b in (SIGNED, UNSIGNED)]
CASES = [
    *(add(n) for n in (1, 3, 4, 5, 7, 8, 9, 31)),
    *(
        add(37, op, kinds, after, gains)
        for op in ("Add", "Sub")
        for kinds in KINDS
        for after, gains in (("", (1.0, 1.0)), ("Relu", (1.0, 0.2)), ("Clip", (5.0, 0.5)))
    ),
]


def kernels(done: Compilation, cases: int) -> list[str]:
    """The kernel of the addition of every case."""
    return [next(x.kernel for x in layers_of(done, i) if x.op == "add") for i in range(cases)]


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_sums_and_differences(core: str, tmp_path: Path) -> None:
    done = compile_table(CASES, core, io="caller")
    assert set(kernels(done, len(CASES))) == {LANES}
    check_table(done, tmp_path)


@pytest.mark.parametrize("options", [{"act_bits": 4}, {"act_bits": 6, "scale": "double-shift"}])
def test_other_formats(options: dict[str, Any], tmp_path: Path) -> None:
    done = compile_table(CASES[8::2], "cortex-m4", io="caller", **options)
    assert kernels(done, len(CASES[8::2])).count(LANES) >= 10
    check_table(done, tmp_path)


def test_every_pair_of_bytes(tmp_path: Path) -> None:
    """All 65,536 pairs of operands, for clips and shifts of many kinds, without a core."""
    pairs = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1).reshape(-1, 2)
    done = compile_table(CASES[8:], "cortex-m4", io="caller")
    adds = [n for n in done.graph.nodes() if n.op == "add"]
    assert len(adds) == len(CASES[8:])
    for node in adds:
        a, b = (done.graph.quant(t).qtype for t in node.inputs)
        offers = list(dsp_add.variants(done.graph, node, Goal()))
        offer = offers[0]
        assert isinstance(offer, Variant)
        assert offer.kernel == LANES
        macros = {k.removeprefix("QCC_"): v for k, v in offer.calls[0].kernel.macros}
        u, v = (_values(q, pairs[:, i]) for i, q in enumerate((a, b)))
        want = dsp_add_reference(node, u, v)
        assert np.array_equal(_lanes(macros, u, v), want)


def _values(q: QType, byte: Int) -> Int:
    """Bytes as values of the format, the lowest of signed bytes included."""
    return byte - 128 if q.signed else byte


def dsp_add_reference(node: Node, a: Int, b: Int) -> Int:
    at = node.attrs
    acc = a.astype(np.int64) * at.mult[0] + b.astype(np.int64) * at.mult[1]
    return arith.saturate(at.rescale.apply(acc), *at.clip)


def _lanes(macros: dict[str, str], a: Int, b: Int) -> Int:
    """What qcc_dsp_add.h computes, in wide integers, with every lane checked for its range."""
    m = {k: int(v) for k, v in macros.items() if v.lstrip("-").isdigit()}
    total = (((a & 255) ^ m["FA"]) << m["KA"]) + (((b & 255) ^ m["FB"]) << m["KB"])
    assert total.max() <= 0xFFFF
    r = np.maximum(np.minimum(total + m["CAP"], 0xFFFF) - m["BASE"], 0)
    return np.asarray((r >> m["POST"]) + m["LO"])


def test_the_output_may_lie_over_either_operand(tmp_path: Path) -> None:
    cases = [*CASES[:8], *CASES[8:20]]
    check_overlaps(compile_table(cases, "cortex-m4", io="caller"), tmp_path, 2 * len(cases))


def test_sums_that_do_not_fit_get_the_portable_kernel() -> None:
    """General multipliers, and operands that repeat."""
    node = [helper.make_node("Add", ["p", "q"], ["y"])]
    shapes = {"p": (1, 3, 5), "q": (1, 1, 5)}
    cases = [
        model("general", node, {"p": (1, 9), "q": (1, 9)}, ["y"]),
        model("rows", node, shapes, ["y"]),
    ]
    done = compile_table(cases, "cortex-m4", scale="fixed-point")
    for i, why in enumerate(("not powers of two", "repeats")):
        (layer,) = layers_of(done, i)
        assert layer.kernel == PORTABLE
        assert why in layer.why


@pytest.mark.parametrize("flags", ["-O2 -DQCC_NO_ASM", "-O0", "-O3"])
def test_every_way_to_build(flags: str, tmp_path: Path) -> None:
    done = compile_table(CASES[4:16], "cortex-m4", io="caller")
    write_files(output_files(done), tmp_path)
    check_on_board(done, tmp_path, f"OPT={flags}")


@pytest.mark.parametrize("flags", [["-O2"], ["-O2", "-DQCC_NO_ASM"]])
def test_clang_builds_it(flags: list[str], tmp_path: Path) -> None:
    clang_builds(compile_table(CASES[4:16], "cortex-m4", io="caller"), tmp_path, flags)


def test_estimates_are_near_what_emulation_counts(tmp_path: Path) -> None:
    cases = [
        add(1024, "Add", kinds, after, (1.0, 0.3))
        for kinds, after in zip(KINDS, ("Relu", "", "Clip", "Relu"), strict=True)
    ]
    check_estimates(compile_table(cases, "cortex-m4", io="caller"), tmp_path, {LANES})
