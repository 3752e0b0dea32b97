"""Packed weights of 4 and 2 bits on the DSP extension: bit-exact for every shape, and no slower."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.codegen import select
from qcc.codegen.kernels.dsp_common import Packing, even_odd_pairs, natural_pairs, weight_words
from qcc.codegen.program import Layer
from qcc.codegen.target import resolve
from qcc.codegen.variants import Goal, Refusal, Variant, offers
from qcc.codegen.write import write_files
from qcc.config import SCALE_MODES, LayerBits
from qcc.driver import Compilation, output_files
from qcc.ir import Graph, Int, Node
from qcc.ops.examples import model, normal
from qcc.profiling.profile import profile
from tests.build import check_on_host, compiled
from tests.codegen.kernels.overlap import check_estimates, check_overlaps, clang_builds
from tests.codegen.kernels.table import check_on_board, check_table, layers_of, merged
from tests.codegen.kernels.test_dsp_conv import MATRICES, SHAPES, conv, dense
from tests.emulators import need_board

LINES, PATCHES, DENSE = "dsp/conv-lines", "dsp/conv-patches", "dsp/dense"
Turn = tuple[int, str]
"""Bits of the weights, and the kernel that is preferred."""

TURNS: tuple[Turn, ...] = ((4, LINES), (2, LINES), (4, PATCHES), (2, PATCHES))


def macros(layer: Variant | Layer) -> dict[str, int]:
    """Numbers that the kernels are built with."""
    return {
        key: int(value)
        for call in layer.calls
        for key, value in call.kernel.macros
        if value.lstrip("-").isdigit()
    }


def table(
    monkeypatch: pytest.MonkeyPatch,
    models: Sequence[onnx.ModelProto],
    turns: Sequence[Turn],
    target: str = "cortex-m4",
    **options: Any,
) -> Compilation:
    """Model i with packed weights as ``turns[i]`` says, by its kernel if that takes the layer."""

    def filtered(
        graph: Graph, node: Node, isa: Sequence[str], goal: Goal
    ) -> tuple[list[Variant], list[Refusal]]:
        found, refused = offers(graph, node, isa, goal)
        bits, kernel = turns[int(node.output[1:].split("_", 1)[0])]
        mine = [v for v in found if v.kernel.startswith("dsp/")]
        packed = [v for v in mine if macros(v).get("QCC_BITS") == bits]
        wanted = [v for v in packed if v.kernel == kernel] or packed
        return (wanted + wanted[:1] if wanted else found), refused

    monkeypatch.setattr(select, "offers", filtered)
    layers = tuple(LayerBits(f"c{i}_*", weight_bits=bits) for i, (bits, _) in enumerate(turns))
    done = compiled(
        merged(models), target=target, name="table", vectors=3, layers=layers, keep8=(),
        rounding="nearest", weight_clip="none", **options,
    )  # fmt: skip
    for i, (bits, _) in enumerate(turns):
        for layer in linear(done, i):
            assert layer.kernel.startswith("dsp/"), f"model {i}: {layer.kernel}, {layer.why}"
            assert macros(layer)["QCC_BITS"] == bits
    return done


def linear(done: Compilation, case: int) -> list[Layer]:
    return [x for x in layers_of(done, case) if x.op in ("conv2d", "dense")]


def unsigned(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model behind a ReLU."""
    for node in proto.graph.node:
        for i, name in enumerate(node.input):
            if name == "x":
                node.input[i] = "r"
    proto.graph.node.insert(0, helper.make_node("Relu", ["x"], ["r"]))
    return proto


def convolutions(first: int) -> tuple[list[onnx.ModelProto], list[Turn]]:
    """Every shape with its turn, beginning with turn *first*; half of the inputs are unsigned."""
    models = [conv(x, w, a, act, i) for i, (x, w, a, act, _) in enumerate(SHAPES)]
    models = [unsigned(m) if i % 3 else m for i, m in enumerate(models)]
    return models, [TURNS[(i + first + i // 4) % 4] for i in range(len(SHAPES))]


def matrices() -> tuple[list[onnx.ModelProto], list[Turn]]:
    models = [dense(n, m, act, i) for i, (n, m, act) in enumerate(MATRICES)]
    models = [unsigned(m) if i % 3 else m for i, m in enumerate(models)]
    return models, [((4, 2)[i // 2 % 2], DENSE) for i in range(len(MATRICES))]


def small() -> tuple[list[onnx.ModelProto], list[Turn]]:
    """A few of each kernel, width and rest of channels."""
    shapes = [SHAPES[i] for i in (0, 1, 4, 7, 9, 11, 14, 19)]
    models = [conv(x, w, a, act, i) for i, (x, w, a, act, _) in enumerate(shapes)]
    models += [dense(30, 13, "relu", 0), dense(33, 9, "", 1)]
    models = [unsigned(m) if i % 2 else m for i, m in enumerate(models)]
    return models, [*TURNS, *TURNS, (4, DENSE), (2, DENSE)]


def check_convolutions(
    cases: Sequence[int], first: int, folder: Path, patch: pytest.MonkeyPatch, **options: Any
) -> None:
    """Some of the shapes, each by the kernel of its turn."""
    models, turns = convolutions(first)
    done = table(patch, [models[i] for i in cases], [turns[i] for i in cases], **options)
    for at, i in enumerate(cases):
        wanted = turns[i][1] if SHAPES[i][-1] == "both" else PATCHES
        assert linear(done, at)[0].kernel == wanted
    check_table(done, folder)


@pytest.mark.parametrize("scale", SCALE_MODES)
def test_convolutions(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every shape once."""
    turn = SCALE_MODES.index(scale)
    core = ("cortex-m4", "cortex-m33", "cortex-m7")[turn]
    cases = range(turn, len(SHAPES), len(SCALE_MODES))
    check_convolutions(cases, turn, tmp_path, monkeypatch, target=core, scale=scale)


@pytest.mark.slow
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7", "cortex-m33"])
@pytest.mark.parametrize("scale", SCALE_MODES)
@pytest.mark.parametrize("first", range(len(TURNS)))
def test_every_turn(
    first: int, scale: str, core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every shape by both kernels at both widths."""
    cases = range(len(SHAPES))
    check_convolutions(cases, first, tmp_path, monkeypatch, target=core, scale=scale)


@pytest.mark.parametrize("scale", SCALE_MODES)
def test_matrices(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, turns = matrices()
    part = slice(SCALE_MODES.index(scale), None, 2)
    done = table(monkeypatch, models[part], turns[part], scale=scale)
    assert {layer.kernel for layer in done.program.layers if layer.op == "dense"} == {DENSE}
    check_table(done, tmp_path)


def extreme(proto: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Every weight is as large as its width allows, most of them positive."""
    for constant in proto.graph.initializer:
        if constant.name == "w":
            shape = onnx.numpy_helper.to_array(constant).shape
            sign = np.where(np.random.default_rng(seed).random(shape) < 0.8, 1, -1)
            constant.CopyFrom(onnx.numpy_helper.from_array(sign.astype(np.float32), "w"))
    return proto


@pytest.mark.parametrize("scale", ["single-shift", "fixed-point"])
def test_large_sums(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a channel shifted up by 12 bits would overflow, fields are shifted down first."""
    pad = {"pads": [1, 1, 1, 1]}
    models = [
        conv((72, 3, 4), (6, 72, 3, 3), pad, "relu", 0),
        conv((70, 4, 3), (5, 70, 3, 3), pad, "", 1),
        conv((430, 2, 3), (8, 430, 1, 1), {}, "relu", 2),
        dense(700, 10, "relu", 3),
        conv((72, 3, 4), (6, 72, 3, 3), pad, "relu", 4),
        dense(700, 10, "", 5),
    ]
    turns = [(4, LINES), (4, PATCHES), (4, PATCHES), (4, DENSE), (2, LINES), (2, DENSE)]
    models = [unsigned(extreme(m, i)) for i, m in enumerate(models)]
    done = table(monkeypatch, models, turns, scale=scale)
    assert [macros(linear(done, i)[0])["QCC_SPLIT"] for i in range(6)] == [1, 1, 1, 1, 0, 0]
    check_table(done, tmp_path)


@pytest.mark.parametrize("options", [{"per_channel": False}, {"act_bits": 4}])
def test_other_formats(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One shift for a layer; few bits, whose clip is a narrower saturation."""
    models, turns = small()
    check_table(table(monkeypatch, models, turns, **options), tmp_path)


def coarse(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Half of the channels have few weights that are not zero."""
    for constant in proto.graph.initializer:
        if constant.name == "w":
            w = onnx.numpy_helper.to_array(constant).copy()
            w[::2] = np.sign(w[::2]) * (np.abs(w[::2]) > 1.6)
            constant.CopyFrom(onnx.numpy_helper.from_array(w, "w"))
    return proto


@pytest.mark.parametrize(
    "scale",
    [pytest.param(s, marks=() if s == "fixed-point" else pytest.mark.slow) for s in SCALE_MODES],
)
def test_factors_above_one(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse weights and fine outputs want accumulators shifted up, packed or not."""
    models, turns = small()
    models = [coarse(m) for m in models]
    done = table(monkeypatch, models, turns, scale=scale)
    assert sum(macros(linear(done, i)[0])["QCC_UP"] > 0 for i in range(len(models))) >= 2
    check_table(done, tmp_path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Compilation, Path]:
    """A table in a folder, checked on this machine."""
    folder = tmp_path_factory.mktemp("built")
    models, turns = small()
    with pytest.MonkeyPatch.context() as patch:
        done = table(patch, models, turns)
    check_on_host(done, folder)
    return done, folder


@pytest.mark.parametrize(
    "flags",
    ["-O2 -DQCC_NO_ASM", "-O0", "-O3 -funroll-loops", "-Os -fno-omit-frame-pointer", "-Og"],
)
def test_every_way_to_build(flags: str, built: tuple[Compilation, Path]) -> None:
    """The assembly needs nothing of the compiler's registers; intrinsics give the same bits."""
    check_on_board(*built, f"OPT={flags}")


@pytest.mark.parametrize("flags", [["-O2"], ["-O2", "-DQCC_NO_ASM"]])
def test_clang_builds_it(flags: list[str], built: tuple[Compilation, Path], tmp_path: Path) -> None:
    clang_builds(built[0], tmp_path, flags)


@pytest.mark.parametrize(
    ("first", "full"),
    [(0, False), *(pytest.param(i, True, marks=pytest.mark.slow) for i in range(len(TURNS)))],
)
def test_outputs_over_inputs(
    first: int, full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every distance that the memory planner may choose."""
    models, turns = convolutions(first)
    cases = range(len(SHAPES)) if full else range(0, len(SHAPES), 3)
    done = table(monkeypatch, [models[i] for i in cases], [turns[i] for i in cases])
    check_overlaps(done, tmp_path, len(cases))


# A network whose layers have every kernel: 3x3 by lines, strided, 1x1, fully connected.
def network() -> onnx.ModelProto:
    def weights(shape: tuple[int, ...], seed: int) -> Any:
        return normal(shape, seed) / np.float32(np.sqrt(np.prod(shape[1:])))

    pad = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], pads=pad),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], pads=pad, strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Flatten", ["r2"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
    ]
    shapes = [(16, 16, 3, 3), (32, 16, 3, 3), (64, 32, 1, 1), (40, 64 * 36)]
    constants = {f"w{i}": weights(shape, i) for i, shape in enumerate(shapes)}
    constants |= {f"b{i}": normal(shape[:1], i) for i, shape in enumerate(shapes)}
    return model("network", nodes, {"x": (1, 16, 12, 12)}, ["y"], constants)


def test_fewer_bits_take_no_more_instructions(tmp_path: Path) -> None:
    """The limits of flash and of instructions, and estimates of every kernel."""
    need_board("cortex-m4", resolve("cortex-m4").board)
    counted: dict[int, int] = {}
    tables: dict[int, int] = {}
    for bits in (8, 4, 2):
        done = compiled(
            network(), target="cortex-m4", weight_bits=bits, keep8=(), rounding="nearest"
        )
        folder = tmp_path / str(bits)
        write_files(output_files(done), folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        found = profile(folder, manifest)
        counted[bits] = found.instructions
        tables[bits] = sum(layer["weight_bytes"] for layer in manifest["layers"])
        for layer, real in zip(done.program.layers, found.layers, strict=True):
            if layer.op in ("conv2d", "dense"):
                assert macros(layer)["QCC_BITS"] == bits
                assert real.instructions == pytest.approx(layer.instructions, rel=0.1)
    assert counted[4] <= counted[8]
    assert counted[2] <= 1.1 * counted[8]
    assert tables[4] <= 0.55 * tables[8]
    assert tables[2] <= 0.32 * tables[8]


def test_estimates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where layers are as large as in networks."""
    pad = {"pads": [1, 1, 1, 1]}
    models = [
        conv((3, 20, 20), (16, 3, 3, 3), {**pad, "strides": [2, 2]}, "relu", 0),
        conv((16, 12, 12), (16, 16, 3, 3), pad, "relu", 1),
        conv((16, 12, 13), (18, 16, 3, 3), pad, "", 2),
        conv((32, 6, 6), (32, 32, 3, 3), pad, "relu", 3),
        conv((8, 12, 12), (16, 8, 1, 1), {}, "relu", 4),
        conv((64, 6, 5), (63, 64, 1, 1), {}, "", 5),
        dense(640, 128, "relu", 6),
        dense(128, 10, "", 7),
    ]
    models = [m if i in (0, 7) else unsigned(m) for i, m in enumerate(models)]
    turns = [((4, 2)[i % 2], PATCHES if i > 2 else LINES) for i in range(len(models))]
    done = table(monkeypatch, models, turns, scale="fixed-point")
    check_estimates(done, tmp_path, {LINES, PATCHES, DENSE}, within=0.15)


# -- words ----------------------------------------------------------------------------------------


def signed(field: int, bits: int) -> int:
    return field - (1 << bits) if field >> (bits - 1) else field


@pytest.mark.parametrize("packing", [Packing(4), Packing(4, split=True), Packing(2)], ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 9])
def test_words_hold_every_weight(packing: Packing, count: int) -> None:
    """Fields less their offsets are the weights, wherever the words have them."""
    bits, half = packing.bits, 1 << (packing.bits - 1)
    w = np.random.default_rng(count).integers(-half, half, size=(4, 1, count))
    fields = packing.fields(w)
    orders: tuple[tuple[Int, Callable[[int], tuple[int, int]]], ...] = (
        (natural_pairs(fields, 2 * packing.unit), lambda k: (k // 2, k % 2)),
        (even_odd_pairs(fields), lambda k: (k // 4 * 2 + k % 2, k // 2 % 2)),
    )
    for pairs, order in orders:
        words = [int(v) for v in weight_words(pairs, bits)]
        assert max(words) < 1 << 32
        for lane in range(4):
            for k in range(count):
                pair, high = order(k)
                word, byte = divmod(pair, packing.unit)
                field = words[word] >> (16 * high + 8 * byte + bits * lane) & ((1 << bits) - 1)
                offset = packing.offsets[lane]
                assert (field - offset if offset else signed(field, bits)) == w[lane, 0, k]
