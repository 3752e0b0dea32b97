"""Where tensors lie: views without code, the order of layers, inputs and outputs in the arena."""

from __future__ import annotations

import ctypes
import itertools
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.codegen.manifest import manifest
from qcc.codegen.storage import find_views
from qcc.codegen.write import write_files
from qcc.config import Config, Io
from qcc.driver import Compilation, output_files
from qcc.errors import UsageError
from qcc.ir import Array, Shape
from qcc.ops.examples import model, normal
from tests.build import SANITIZE, check_on_host, compiled


def made(
    lines: list[str], x: Shape, outputs: str, constants: dict[str, Any] | None = None
) -> onnx.ModelProto:
    """A model of lines like ``y = Conv w2x3x1x1 x``: constants by their names' shapes."""
    nodes, consts = [], dict(constants or {})
    for line in lines:
        left, right = line.split(" = ")
        op, *args = right.split()
        inputs = [a for a in args if "=" not in a]
        attrs: dict[str, Any] = {
            k: [int(n) for n in v.split(",")] if "," in v else int(v)
            for k, v in (a.split("=") for a in args if "=" in a)
        }
        for a in inputs:
            if a.startswith("w") and "x" in a:
                shape = tuple(map(int, a[1:].split("_")[0].split("x")))
                consts.setdefault(a, normal(shape, len(consts) + 1, 0.4))
        nodes.append(helper.make_node(op, inputs, left.split(","), name=left, **attrs))
    return model("stored", nodes, {"x": x}, outputs.split(), consts)


# Two halves of the rows, each through layers of its own, joined again: in NHWC both cuts and the
# joint are contiguous.
HALVES = made(
    [
        "r = Conv x w4x3x1x1",
        "top,bottom = Split r halves axis=2",
        "a = Conv top w4x4x3x3 pads=1,1,1,1",
        "b = Conv bottom w4x4x3x3_ pads=1,1,1,1",
        "joined = Concat a b axis=2",
        "y = Conv joined w2x4x1x1",
    ],
    (1, 3, 8, 8),
    "y",
    {"halves": np.array([4, 4], np.int64)},
)


def layers(done: Compilation) -> list[str]:
    return [layer.op for layer in done.program.layers]


def test_contiguous_parts_need_no_code(tmp_path: Path) -> None:
    done = compiled(HALVES, io="caller")
    assert layers(done) == ["conv2d"] * 4
    views = find_views(done.graph)
    roots = {t: views.root(t) for t in ("top", "bottom", "a", "b")}
    (cut,) = {root for root, _ in (roots["top"], roots["bottom"])}
    (joint,) = {root for root, _ in (roots["a"], roots["b"])}
    assert [at for _, at in roots.values()] == [0, 4 * 8 * 4, 0, 4 * 8 * 4]
    assert {b.tensor for b in done.program.buffers} == {cut, joint}
    assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=[*SANITIZE, "-O1"])


def test_parts_of_inputs_and_outputs_are_the_callers_bytes(tmp_path: Path) -> None:
    proto = made(
        [
            "top,bottom = Split x halves axis=2",
            "a = Conv top w4x3x3x3 pads=1,1,1,1",
            "b = Conv bottom w4x3x3x3_ pads=1,1,1,1",
            "y = Concat a b axis=2",
        ],
        (1, 3, 8, 8),
        "y",
        {"halves": np.array([4, 4], np.int64)},
    )
    done = compiled(proto)
    assert layers(done) == ["conv2d", "conv2d"]
    assert done.program.arena_bytes == 0
    assert [layer.inputs[0] for layer in done.program.layers] == ["x", "&x[96]"]
    assert [layer.output for layer in done.program.layers] == ["y", "&y[128]"]
    assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=[*SANITIZE, "-O1"])


@pytest.mark.parametrize(
    ("lines", "x", "outputs"),
    [
        # Not contiguous: channels are the last axis.
        (["r = Conv x w4x3x1x1", "a,b = Split r two axis=1", "y = Sub a b"], (1, 3, 4, 4), "y"),
        # 3 bytes into a word.
        (["r = LeakyRelu x", "a,b = Split r odd axis=1", "c = Sigmoid a", "d = Sigmoid b",
          "y = Concat d c axis=1"], (1, 9), "y"),
        # An output has a place of its own.
        (["r = LeakyRelu x", "a,b = Split r two4 axis=1", "y = Sigmoid a"], (1, 8), "b y"),
        # One tensor in two places, an input, a part that is an output.
        (["r = LeakyRelu x", "j = Concat r r axis=1", "y = Sigmoid j"], (1, 8), "y"),
        (["j = Concat x x axis=1", "y = Sigmoid j"], (1, 8), "y"),
        (["r = LeakyRelu x", "s = Tanh x", "j = Concat r s axis=1", "y = Sigmoid j"],
         (1, 8), "y r"),
    ],
)  # fmt: skip
def test_other_parts_are_copied(lines: list[str], x: Shape, outputs: str, tmp_path: Path) -> None:
    constants = {
        "two": np.array([2, 2], np.int64), "odd": np.array([3, 6], np.int64),
        "two4": np.array([4, 4], np.int64),
    }  # fmt: skip
    used = {a for line in lines for a in line.split()}
    proto = made(lines, x, outputs, {k: v for k, v in constants.items() if k in used})
    done = compiled(proto)
    assert {"slice", "concat"} & set(layers(done))
    assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=[*SANITIZE, "-O1"])


def test_a_small_part_that_keeps_a_large_tensor_alive_is_copied(tmp_path: Path) -> None:
    proto = made(
        [
            "r = Conv x w8x3x1x1",
            "top,bottom = Split r rows axis=2",
            "a = Conv bottom w64x8x1x1",
            "d = Conv a w8x64x15x1",
            "y = Add top d",
        ],
        (1, 3, 16, 16),
        "y",
        {"rows": np.array([1, 15], np.int64)},
    )
    done = compiled(proto, io="caller")
    assert layers(done).count("slice") == 2
    assert done.program.arena_bytes < 16 * 16 * 8 + 15 * 16 * 64  # r, were it alive beside a
    assert "bit-exact" in check_on_host(done, tmp_path / "out")


# Two branches that widen and narrow; the nodes come level by level, so that both wide tensors
# would live at once.
BRANCHES = made(
    [
        "r = Conv x w4x3x1x1",
        "wide_a = Conv r w32x4x3x3",
        "wide_b = Conv r w32x4x3x3_",
        "thin_a = Conv wide_a w4x32x3x3",
        "thin_b = Conv wide_b w4x32x3x3_",
        "y = Add thin_a thin_b",
    ],
    (1, 3, 12, 12),
    "y",
)


def test_layers_run_in_the_order_that_takes_least(tmp_path: Path) -> None:
    done = compiled(BRANCHES, io="caller")
    p = done.program
    wide = [b for b in p.buffers if b.bytes == 32 * 10 * 10]
    assert len(wide) == 2
    first, second = sorted(wide, key=lambda b: b.first)
    assert first.last < second.first
    assert p.arena_bytes < 2 * 3200
    assert p.arena_bytes == p.arena_bound == p.arena_bound_any_order
    assert [layer.name for layer in p.layers] == ["r", "wide_a", "thin_a", "wide_b", "thin_b", "y"]
    given = [n.name.split(":")[0] for n in done.graph.nodes()]
    assert given.index("wide_b") < given.index("thin_a")
    assert "bit-exact" in check_on_host(done, tmp_path / "out")


CHAIN = made(
    [
        "a = Conv x w8x3x3x3 pads=1,1,1,1",
        "b = Conv a w16x8x3x3 pads=1,1,1,1 strides=2,2",
        "c = GlobalAveragePool b",
        "y = Flatten c",
    ],
    (1, 3, 12, 12),
    "y",
)


@pytest.mark.parametrize("io", ["auto", "arena", "caller"])
def test_inputs_and_outputs_in_the_arena(io: Io, tmp_path: Path) -> None:
    done = compiled(CHAIN, io=io)
    p = done.program
    caller = compiled(CHAIN, io="caller").program
    assert p.arena_bytes == caller.arena_bytes or io == "arena"
    header = output_files(done)[f"{p.name}.h"]
    for port in (*p.inputs, *p.outputs):
        macro = f"{p.name.upper()}_{port.name.upper()}_OFFSET"
        assert (f"#define {macro} {port.offset}\n" in header) == (port.offset is not None)
        assert port.offset is None or port.offset + port.bytes <= p.arena_bytes
    entry = manifest(done)
    ports = [*entry["inputs"], *entry["outputs"]]
    assert [e["arena_offset"] for e in ports] == [q.offset for q in (*p.inputs, *p.outputs)]
    assert entry["options"]["io"] == io
    if io == "caller":
        assert p.ports_in_arena == ()
    if io == "arena":
        assert p.ports_in_arena == (*p.inputs, *p.outputs)
    assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=[*SANITIZE, "-O1"])


def test_auto_takes_what_fits() -> None:
    p = compiled(CHAIN, io="auto").program
    assert p.outputs[0].offset is not None  # 16 bytes, when all else is gone


def test_arena_grows_where_all_must_lie_in_it() -> None:
    done = compiled(made(["y = Conv x w9x3x1x1"], (1, 3, 6, 6), "y"), io="arena")
    x, y = done.program.inputs[0], done.program.outputs[0]
    assert done.program.arena_bytes >= max(x.bytes, y.bytes)
    nothing = compiled(made(["y = Conv x w9x3x1x1"], (1, 3, 6, 6), "y"), io="auto")
    assert nothing.program.arena_bytes == 0
    assert nothing.program.ports_in_arena == ()


def test_every_mixture_of_places_gives_the_same_bits(tmp_path: Path) -> None:
    done = compiled(HALVES, io="arena")
    p = done.program
    write_files(output_files(done), tmp_path / "out")
    library = tmp_path / "model.so"
    command = ["gcc", "-O1", "-shared", "-fPIC", "-I.", f"{p.name}.c", "-o", str(library)]
    subprocess.run(command, cwd=tmp_path / "out", check=True)
    run = getattr(ctypes.CDLL(str(library)), f"{p.name}_run")
    run.argtypes = [ctypes.c_void_p] * 3
    (x_port,), (y_port,) = p.inputs, p.outputs
    assert x_port.offset is not None
    assert y_port.offset is not None
    rng = np.random.default_rng(3)
    q = x_port.quant.qtype
    x = rng.integers(q.qmin, q.qmax + 1, x_port.size).astype(q.dtype)
    results: list[Array] = []
    for x_inside, y_inside in itertools.product([False, True], repeat=2):
        arena = np.full(p.arena_bytes + 16, 0xA5, np.uint8)
        base = -arena.ctypes.data % 16
        data, out = x.copy(), np.full(y_port.bytes, 0x5A, np.uint8)
        at = arena.ctypes.data + base
        x_at, y_at = data.ctypes.data, out.ctypes.data
        if x_inside:
            arena[base + x_port.offset :][: x_port.bytes] = x.view(np.uint8)
            x_at = at + x_port.offset
        if y_inside:
            y_at = at + y_port.offset
        assert run(x_at, y_at, at) == 0
        assert np.array_equal(data, x)  # the caller's own input is never written
        results.append(arena[base + y_port.offset :][: y_port.bytes].copy() if y_inside else out)
    assert all(np.array_equal(r, results[0]) for r in results)
    assert not (results[0] == 0x5A).all()


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(UsageError, match="--io stack: choose one of auto, arena, caller"):
        Config(io="stack")  # type: ignore[arg-type]


def test_the_proof_is_in_words() -> None:
    p = compiled(CHAIN, io="caller").program
    assert p.arena_bytes == p.arena_bound == p.arena_bound_any_order
    assert p.arena_proof == "proved optimal, in any order of the layers"
