"""Compiled networks on every target: built by their own Makefile, run, bit-exact layer by layer."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from qcc.codegen.manifest import stack_bytes
from qcc.codegen.select import PORTABLE
from qcc.codegen.target import load_boards, load_targets
from qcc.codegen.write import write_files
from qcc.driver import output_files
from qcc.ops import OPS
from tests.emulators import CROSS, last_line, need, need_board, run_on_board
from tests.networks import NAMES, compilation

NATIVE = [t.name for t in load_targets().values() if t.native]
ALIASES = [(t, b) for t, b in CROSS if load_targets()[t].alias_of]
CORES = [pair for pair in CROSS if pair not in ALIASES]
MULTIPLIER = ("cortex-m0", "riscv32")
"""Targets on which a wide product is the compiler's own library function."""


def check(name: str, target: str, board: str, scale: str, folder: Path) -> None:
    """Compile, build and run; every output of every sample and every layer must be equal."""
    done = compilation(name, target, scale)
    out = folder / "out"
    write_files(output_files(done), out)
    ran = run_on_board(out, board, "LAYERS=1")
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    vectors = done.vectors
    layers = len(vectors.layers)
    assert f"layers equal: {layers} of {layers}" in ran.stdout.splitlines()
    assert re.fullmatch(
        rf"qcc check: {vectors.samples} samples?, {len(vectors.outputs)} outputs?: bit-exact",
        last_line(ran),
    ), ran.stdout
    assert_stack(ran.stdout, target)


def assert_stack(console: str, target: str) -> None:
    """The manifest's bound on the stack holds, even with the check program's own frames."""
    if not load_targets()[target].native:
        used = re.search(r"^stack: (\d+) of", console, re.M)
        assert used is not None
        assert int(used[1]) <= stack_bytes(load_targets()[target])


def default_boards() -> list[tuple[str, str]]:
    return [(t, b) for t, b in CROSS if b == load_targets()[t].board]


def test_the_networks_use_nearly_every_operator() -> None:
    used = {node.op for name in NAMES for node in compilation(name).graph.nodes()}
    assert set(OPS) - used <= {"scale_shift"}  # it becomes a convolution


def test_every_target_runs_somewhere() -> None:
    assert {t for t, _ in default_boards()} | set(NATIVE) == set(load_targets())
    assert {b for _, b in CROSS} | {"host"} == set(load_boards())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", NATIVE)
def test_native_targets(name: str, target: str, tmp_path: Path) -> None:
    need("make", "gcc")
    check(name, target, "host", "single-shift", tmp_path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("target", "board"), CORES)
def test_every_core(name: str, target: str, board: str, tmp_path: Path) -> None:
    need_board(target, board)
    check(name, target, board, "single-shift", tmp_path)


@pytest.mark.parametrize(("target", "board"), ALIASES)
def test_code_of_an_alias_runs_on_every_board(target: str, board: str, tmp_path: Path) -> None:
    need_board(target, board)
    check("medley", target, board, "single-shift", tmp_path)


@pytest.mark.parametrize("scale", ["double-shift", "fixed-point"])
@pytest.mark.parametrize("target", MULTIPLIER)
def test_other_scalings(target: str, scale: str, tmp_path: Path) -> None:
    board = load_targets()[target].board
    need_board(target, board)
    check("medley", target, board, scale, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["double-shift", "fixed-point"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("target", "board"), CROSS)
def test_other_scalings_on_every_board(
    name: str, target: str, board: str, scale: str, tmp_path: Path
) -> None:
    need_board(target, board)
    check(name, target, board, scale, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("opt", ["-O0", "-O1", "-O3", "-Os"])
@pytest.mark.parametrize(("target", "board"), default_boards())
def test_every_optimization_level(target: str, board: str, opt: str, tmp_path: Path) -> None:
    need_board(target, board)
    write_files(output_files(compilation("medley", target)), tmp_path / "out")
    ran = run_on_board(tmp_path / "out", board, f"OPT={opt}")
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert last_line(ran).endswith("bit-exact")
    assert_stack(ran.stdout, target)


@pytest.mark.parametrize(("target", "board"), [("generic", "host"), ("cortex-m4", "mps2-an386")])
def test_a_changed_weight_is_found_and_its_layer_named(
    target: str, board: str, tmp_path: Path
) -> None:
    """What the other tests rest on: one bias off by some steps is a mismatch, in that layer."""
    if board == "host":
        need("make", "gcc")
    else:
        need_board(target, board)
    done = compilation("digits", target)
    layer = done.program.layers[2]
    files = output_files(done)
    tables = "b" if layer.kernel == PORTABLE else "w"  # the first word of a stream is a bias too
    table = re.compile(rf"(_{layer.c_name}_{tables}\[\d+\] = \{{\s*)(-?\d+)")
    path = "digits_weights.h"

    def off(found: re.Match[str]) -> str:
        bias = int(found[2])  # of 32 bits, in a stream as an unsigned word
        return f"{found[1]}{bias - 4000 if bias >= 1 << 31 else bias + 4000}"

    changed = table.sub(off, files[path])
    assert changed != files[path]
    write_files({**files, path: changed}, tmp_path / "out")
    ran = run_on_board(tmp_path / "out", board, "LAYERS=1")
    assert ran.returncode != 0
    assert "MISMATCH" in ran.stdout
    assert f"sample 0, layer 2 {layer.name}: index " in ran.stdout


def test_risc_v_calls_the_emulator_from_any_address(tmp_path: Path) -> None:
    """QEMU knows the three instructions of a call only where no page ends between them."""
    need_board("riscv32", "virt")
    out = tmp_path / "out"
    files = output_files(compilation("digits", "riscv32"))
    write_files(files, out)
    path, head = "boards/common/riscv.c", "int32_t semihost_call("
    assert files[path].count(head) == 1

    def moved_by(filler: int) -> str:
        section = '.section .text.semihost_call,\\"ax\\",@progbits'
        skip = f'__asm__("{section}\\n.option norelax\\n.skip {filler}\\n.text");\n'
        (out / path).write_text(files[path].replace(head, skip + head))
        ran = run_on_board(out, "virt", "RUN_TIMEOUT=20")
        assert ran.returncode == 0, ran.stdout[-1000:] + ran.stderr[-1000:]
        return last_line(ran)

    assert moved_by(4096).endswith("bit-exact")
    before = _address(out, "semihost_call")
    assert moved_by(4096 + (-before - 8) % 4096).endswith("bit-exact")
    assert _address(out, "semihost_call") % 4096 == 4096 - 8


def _address(out: Path, symbol: str) -> int:
    elf = out / "build" / "virt" / f"{json.loads((out / 'manifest.json').read_text())['name']}.elf"
    listed = subprocess.run(
        ["riscv64-unknown-elf-nm", str(elf)], capture_output=True, text=True, check=True
    )
    return int(re.findall(rf"^([0-9a-f]+) \w {symbol}$", listed.stdout, re.M)[0], 16)
