"""Depthwise convolutions of the DSP extension: bit-exact on the cores, in place, and compact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.codegen.kernels import dsp_depthwise
from qcc.codegen.variants import Goal, Variant
from qcc.codegen.write import write_files
from qcc.driver import Compilation, output_files
from qcc.ops.examples import model, normal
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

THREE, ANY, PORTABLE = "dsp/depthwise-3x3", "dsp/depthwise", "portable"


@dataclass(frozen=True)
class Case:
    """x (c, h, w) through a depthwise convolution, and which kernel is to compute it."""

    x: tuple[int, int, int]
    k: tuple[int, int] = (3, 3)
    s: tuple[int, int] = (1, 1)
    p: tuple[int, int, int, int] = (1, 1, 1, 1)
    d: tuple[int, int] = (1, 1)
    m: int = 1
    after: str = "Relu"
    kernel: str = THREE

    def model(self, seed: int) -> onnx.ModelProto:
        """Odd seeds make the input unsigned."""
        c, h, w = self.x
        nodes = [helper.make_node("Relu", ["x"], ["r"])] if seed % 2 else []
        nodes.append(
            helper.make_node(
                "Conv", ["r" if nodes else "x", "w", "b"], ["c" if self.after else "y"], group=c,
                strides=self.s, pads=self.p, dilations=self.d,
            )
        )  # fmt: skip
        consts = {
            "w": normal((c * self.m, 1, *self.k), seed=seed),
            "b": normal((c * self.m,), seed=seed + 1),
        }
        if self.after == "Relu":
            nodes.append(helper.make_node("Relu", ["c"], ["y"]))
        elif self.after == "Clip":
            consts |= {"lo": np.full((), -0.7, np.float32), "hi": np.full((), 1.1, np.float32)}
            nodes.append(helper.make_node("Clip", ["c", "lo", "hi"], ["y"]))
        return model("dw", nodes, {"x": (1, c, h, w)}, ["y"], consts)


SAME5, SAME7 = (2, 2, 2, 2), (3, 3, 3, 3)

CASES = [
    *(Case((c, 5, 6)) for c in range(2, 10)),
    *(Case((5, h, w)) for h, w in ((1, 1), (1, 2), (2, 1), (3, 3), (7, 5), (4, 11), (25, 5))),
    *(Case((5, h, w), s=(2, 2)) for h, w in ((2, 2), (3, 3), (7, 5), (8, 8), (9, 12), (4, 13))),
    *(Case((3, 6, 7), s=s) for s in ((1, 2), (2, 1), (3, 1), (4, 2))),
    Case((6, 48, 48)),  # more rows than fit the planes at once
    Case((5, 47, 49), s=(2, 2)),
    Case((4, 40, 61), s=(3, 2), p=(0, 2, 1, 0)),
    Case((4, 64, 40), p=(0, 0, 0, 0)),
    Case((5, 90, 40), s=(5, 1)),  # rows between strips that no window reads
    Case((4, 64, 40), d=(3, 1), p=(3, 1, 3, 1)),
    Case((5, 6, 7), p=(0, 0, 0, 0)),
    Case((5, 6, 7), p=(2, 0, 0, 2), after=""),
    Case((5, 6, 7), p=(0, 2, 2, 1), after="Clip"),
    Case((4, 8, 8), p=(0, 0, 1, 1), s=(2, 2)),
    Case((4, 7, 6), p=(2, 2, 2, 2), d=(2, 1)),
    Case((3, 6, 6), m=2),
    Case((5, 7, 6), m=3, s=(2, 2)),
    Case((7, 6, 9), after=""),
    Case((8, 6, 9), after="Clip"),
    Case((4, 3, 200)),
    *(Case((5, 9, 11), k=(5, 5), p=SAME5, s=(s, s), kernel=ANY) for s in (1, 2)),
    *(Case((6, 8, w), k=(5, 5), p=SAME5, kernel=ANY) for w in (1, 2, 3, 6, 8)),
    *(Case((2, 8, w), k=(5, 5), p=SAME5, s=(2, 2), kernel=ANY) for w in (5, 8, 9, 13)),
    *(Case((4, 10, 10), k=(7, 7), p=SAME7, s=(s, s), kernel=ANY) for s in (1, 2)),
    *(Case((4, 9, 9), k=(k, k), p=(0, 0, 0, 0), kernel=ANY) for k in (1, 2, 4, 6, 8)),
    *(Case((4, 9, 9), k=(k, k), p=(1, 0, 0, 1), s=(2, 2), kernel=ANY) for k in (1, 2, 4, 6)),
    Case((5, 6, 20), k=(1, 9), p=(0, 4, 0, 4), kernel=ANY),
    Case((5, 20, 6), k=(9, 1), p=(4, 0, 4, 0), kernel=ANY),
    Case((5, 12, 12), k=(4, 3), p=(2, 1, 1, 1), d=(2, 1), s=(1, 2), after="", kernel=ANY),
    Case((3, 60, 30), k=(5, 5), p=SAME5, after="Clip", kernel=ANY),
    Case((3, 5, 300), kernel=ANY, d=(5, 1), p=(5, 1, 5, 1)),
    Case((4, 6, 6), k=(5, 5), p=SAME5, m=2, kernel=ANY),
    Case((4, 9, 9), d=(1, 2), p=(1, 2, 1, 2), kernel=PORTABLE),
    Case((4, 9, 9), s=(1, 3), kernel=PORTABLE),
    Case((4, 4, 20), k=(1, 17), p=(0, 8, 0, 8), kernel=PORTABLE),
]


@pytest.fixture(autouse=True)
def _portable_only_where_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer_kernels(monkeypatch)


def compiled_cases(cases: Sequence[Case], core: str, **options: Any) -> Compilation:
    """One program of all *cases*, each computed by the kernel that it is there to test."""
    models = [case.model(seed) for seed, case in enumerate(cases)]
    done = compile_table(models, core, io="caller", **options)
    for i, case in enumerate(cases):
        (layer,) = (x for x in layers_of(done, i) if x.op == "conv2d")
        assert layer.kernel == case.kernel, f"{case}: {layer.kernel} ({layer.why})"
    return done


TURNS = (
    ("single-shift", "balanced", "cortex-m4"),
    ("fixed-point", "speed", "cortex-m33"),
    ("single-shift", "size", "cortex-m7"),
    ("double-shift", "balanced", "cortex-m33"),
    ("single-shift", "speed", "cortex-m33"),
    ("fixed-point", "size", "cortex-m4"),
)


@pytest.mark.parametrize("turn", range(len(TURNS)))
def test_every_shape(turn: int, tmp_path: Path) -> None:
    """Cores, modes and profiles take turns; every second input is unsigned."""
    scale, optimize, core = TURNS[turn]
    cases = CASES[turn :: len(TURNS)]
    check_table(compiled_cases(cases, core, scale=scale, optimize=optimize), tmp_path)


MIXED = [
    Case((6, 9, 7)), Case((7, 8, 8), s=(2, 2), after="Clip"), Case((3, 5, 4), after=""),
    Case((5, 7, 6), m=2), Case((4, 9, 9), k=(5, 5), p=SAME5, kernel=ANY),
    Case((5, 9, 9), k=(4, 4), s=(2, 2), kernel=ANY), Case((4, 30, 33)),
]  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"per_channel": False},
        {"weight_bits": 4, "act_bits": 4, "keep8": ()},
        {"weight_bits": 2, "keep8": ()},
        {"weight_bits": 4, "keep8": (), "scale": "fixed-point"},
    ],
)
def test_other_formats(options: dict[str, Any], tmp_path: Path) -> None:
    """One shift for a layer; few bits, whose clip is a narrower saturation."""
    check_table(compiled_cases(MIXED, "cortex-m4", **options), tmp_path)


def test_extreme_values(tmp_path: Path) -> None:
    """The largest weights and inputs that the accumulator is proved for, both signs."""
    case = Case((5, 6, 7), after="")
    proto = case.model(0)
    for tensor in proto.graph.initializer:
        size = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        values = np.frombuffer(tensor.raw_data, np.float32).copy()
        assert size == 4
        tensor.raw_data = (np.sign(values) * 3).astype(np.float32).tobytes()
    rng = np.random.default_rng(3)
    extreme = np.sign(rng.normal(size=(12, 1, 5, 6, 7))).astype(np.float32)
    done = compile_table([proto], "cortex-m4", calibration={"c0_x": extreme})
    assert layers_of(done, 0)[0].kernel == THREE
    check_table(done, tmp_path)


def test_the_output_may_lie_over_the_input(tmp_path: Path) -> None:
    """Where the input is not exactly below the output, it moves there first."""
    cases = [
        *(Case((c, 8, 7)) for c in (2, 4, 7)),
        *(Case((c, 9, 8), s=(2, 2)) for c in (3, 6)),
        Case((5, 40, 60)), Case((5, 41, 60), s=(2, 2)), Case((4, 9, 9), p=(2, 2, 0, 0)),
        Case((5, 50, 40), s=(3, 2)), Case((4, 70, 30), p=(0, 1, 2, 1)),
        *(Case((5, 30, 20), k=(5, 5), p=SAME5, s=(s, s), kernel=ANY) for s in (1, 2)),
    ]  # fmt: skip
    check_overlaps(compiled_cases(cases, "cortex-m4"), tmp_path, len(cases))


def test_outputs_that_would_overtake_their_inputs_keep_apart() -> None:
    """More outputs above than rows read: a large padding on top, or several outputs a channel."""
    for case in (Case((5, 64, 40), p=(40, 1, 1, 1)), Case((3, 6, 6), m=2)):
        done = compiled_cases([case], "cortex-m4")
        node = done.graph.producer(done.graph.outputs[0])
        assert node is not None
        offers = list(dsp_depthwise.variants(done.graph, node, Goal("balanced")))
        assert offers
        assert all(isinstance(o, Variant) and not o.leads for o in offers)


@pytest.mark.parametrize(
    "flags",
    ["-O2 -DQCC_NO_ASM", "-O0", "-O3 -funroll-loops", "-Os -fno-omit-frame-pointer", "-Og"],
)
def test_every_way_to_build(flags: str, tmp_path: Path) -> None:
    done = compiled_cases(MIXED, "cortex-m4")
    write_files(output_files(done), tmp_path)
    check_on_board(done, tmp_path, f"OPT={flags}")


@pytest.mark.parametrize("flags", [["-O2"], ["-O2", "-DQCC_NO_ASM"], ["-O0"]])
def test_clang_builds_it(flags: list[str], tmp_path: Path) -> None:
    clang_builds(compiled_cases(MIXED, "cortex-m4"), tmp_path, flags)


def test_estimates_are_near_what_emulation_counts(tmp_path: Path) -> None:
    cases = [
        Case((16, 25, 5)), Case((8, 24, 24)), Case((13, 12, 12), s=(2, 2)), Case((27, 6, 6)),
        Case((8, 14, 14), k=(5, 5), p=SAME5, kernel=ANY),
        Case((8, 14, 14), k=(5, 5), p=SAME5, s=(2, 2), kernel=ANY),
    ]  # fmt: skip
    for scale in ("single-shift", "fixed-point"):
        done = compiled_cases(cases, "cortex-m4", scale=scale)
        check_estimates(done, tmp_path / scale, {THREE, ANY})
