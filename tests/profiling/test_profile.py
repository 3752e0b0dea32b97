"""What qcc profile says is true: known counts, two engines, sums, stack, flash."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import qcc
from qcc.codegen.target import load_boards, load_targets, resolve
from qcc.errors import QccError
from qcc.profiling.build import Model, build_profile, compile_flags
from qcc.profiling.elf import read_elf
from qcc.profiling.result import Profile
from tests.emulators import CROSS, make, need, need_board
from tests.profiling.programs import FRAME, PER_TURN, TURNS, compiled, loops

CALLS = 24
"""Instructions around a loop, at most: calls, their arguments, returns, the frames."""

FRAME_LOOP = 20 * FRAME
"""Instructions that fill the second layer's stack, at most."""


def need_profile(target: str, engine: str = "qemu") -> None:
    need(load_targets()[target].cc)
    if engine == "unicorn":
        pytest.importorskip("unicorn")
    else:
        need_board(target, load_targets()[target].board)
        need("gcc")


ENGINES = ["qemu", "unicorn"]


def spoiled(tmp_path: Path, old: str, new: str, file: str = "loops.c") -> Path:
    out = loops(tmp_path)
    text = (out / file).read_text()
    assert old in text
    (out / file).write_text(text.replace(old, new))
    return out


@pytest.fixture(scope="module")
def spinning(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """The hand-written loops on a Cortex-M4."""
    need_profile("cortex-m4")
    return qcc.profile(loops(tmp_path_factory.mktemp("loops")), engine="qemu")


# -- counts that are known beforehand -------------------------------------------------------------


@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "cortex-m55", "riscv32"])
def test_a_loop_of_known_length_is_counted_exactly(tmp_path: Path, target: str) -> None:
    need_profile(target)
    found = qcc.profile(loops(tmp_path, target), engine="qemu")
    first, second = (layer.instructions for layer in found.layers)
    assert 0 < first - PER_TURN * TURNS[0] <= CALLS
    assert 0 < second - PER_TURN * TURNS[1] <= CALLS + FRAME_LOOP
    assert found.instructions == first + second + found.call_instructions
    assert 0 < found.call_instructions <= 2 * CALLS


def test_modelled_cycles_of_a_loop(spinning: Profile) -> None:
    """On the M4 a turn takes nop 1, subs 1, taken branch 3; the last branch is not taken."""
    found = spinning
    cycles = found.layers[0].cycles
    assert cycles is not None
    assert 0 < cycles - (5 * TURNS[0] - 2) <= 3 * CALLS
    assert found.cycle_model is not None
    assert found.call_cycles is not None
    assert found.cycles == found.call_cycles + sum(layer.cycles or 0 for layer in found.layers)


def test_cores_without_a_model_have_no_cycles(tmp_path: Path) -> None:
    need_profile("cortex-m33")
    found = qcc.profile(loops(tmp_path, "cortex-m33"))
    assert (found.cycle_model, found.cycles, found.call_cycles) == (None, None, None)
    assert {layer.cycles for layer in found.layers} == {None}


def test_the_stack_of_every_layer_is_measured(spinning: Profile) -> None:
    first, second = (layer.stack_bytes for layer in spinning.layers)
    assert first < 64
    assert FRAME <= second < FRAME + 64
    assert second < spinning.stack_bytes < second + 64


STACKING = """
void loops_first(const uint8_t *x, uint8_t *y);
__asm__(".section .text.loops_first, \\"ax\\", %progbits\\n .syntax unified\\n .thumb_func\\n"
        "loops_first: push {r4-r7}\\n ldrb r2, [r0]\\n strb r2, [r1]\\n pop {r4-r7}\\n bx lr\\n"
        ".type loops_first, %function\\n .size loops_first, . - loops_first\\n .text");
__attribute__((noinline, unused)) static void unused_first(const uint8_t *x, uint8_t *y)
"""


@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4"])
def test_the_stack_is_measured_to_the_byte(tmp_path: Path, target: str) -> None:
    """The first layer pushes four registers and calls nothing."""
    need_profile(target)
    head = "__attribute__((noinline)) static void loops_first(const uint8_t *x, uint8_t *y)\n"
    out = spoiled(tmp_path, head, STACKING)
    assert qcc.profile(out, target=target).layers[0].stack_bytes == 16


def test_samples_are_averaged(spinning: Profile, tmp_path: Path) -> None:
    two = qcc.profile(loops(tmp_path), engine="qemu", samples=2)
    assert [x.instructions for x in spinning.layers] == [x.instructions for x in two.layers]
    assert (spinning.samples, two.samples) == (1, 2)


def test_what_does_no_work_has_no_figure_per_unit_of_it(spinning: Profile) -> None:
    first, second = spinning.layers
    assert first.per_mac is None
    assert second.per_mac == second.instructions / 100


def test_flash_is_shared_out(spinning: Profile) -> None:
    (shared,) = spinning.shared
    assert (shared.name, shared.layers) == ("shared_spin", (0, 1))
    assert 6 <= shared.bytes <= 16
    assert [x.table_bytes for x in spinning.layers] == [0, 8]
    assert all(0 < x.code_bytes < 100 for x in spinning.layers)
    check_flash(spinning)


def test_a_function_of_two_layers_belongs_to_both(tmp_path: Path) -> None:
    need_profile("cortex-m4")
    out = spoiled(tmp_path, "    loops_second(x, y);", "    loops_first(x, y); loops_second(x, y);")
    found = qcc.profile(out)
    assert {s.name: s.layers for s in found.shared} == {
        "loops_first": (0, 1),
        "shared_spin": (0, 1),
    }
    assert found.layers[0].code_bytes == 0
    assert found.layers[1].code_bytes > 0
    check_flash(found)


def check_flash(found: Profile) -> None:
    """Everything belongs somewhere, once."""
    f = found.flash
    code = sum(x.code_bytes for x in found.layers) + sum(s.bytes for s in found.shared)
    tables = sum(x.table_bytes for x in found.layers)
    assert f.model == f.code + f.tables + f.library
    assert f.code + f.tables == code + tables + f.call + f.other
    assert 0 <= f.other < 64
    assert f.model < f.firmware < f.model + 2000


# -- programs that go wrong -----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_wrong_answer_is_an_error_and_no_count(tmp_path: Path, engine: str) -> None:
    need_profile("cortex-m4", engine)
    out = spoiled(tmp_path, "{7, 4,", "{7, 5,", "check/vectors.c")
    with pytest.raises(
        QccError, match="something else than the reference: sample 0, output y"
    ) as e:
        qcc.profile(out, engine=engine)
    assert "index 1, expected 5, got 4" in e.value.message


def test_an_error_code_is_an_error(tmp_path: Path) -> None:
    need_profile("cortex-m4")
    with pytest.raises(QccError, match="loops_run returns -3"):
        qcc.profile(spoiled(tmp_path, "return 0;", "return -3;"))


@pytest.mark.parametrize(("engine", "says"), [("qemu", "processor fault"), ("unicorn", "stops at")])
def test_a_fault_is_an_error(tmp_path: Path, engine: str, says: str) -> None:
    need_profile("cortex-m4", engine)
    out = spoiled(
        tmp_path, "y[0] = x[0];", "y[0] = *(const volatile uint8_t *)0xd0000000u; (void)x;"
    )
    with pytest.raises(QccError, match=says):
        qcc.profile(out, engine=engine)


def test_what_does_not_compile_is_one_sentence(tmp_path: Path) -> None:
    need_profile("cortex-m4")
    out = spoiled(tmp_path, "(void)arena;", "vadd(arena);")
    with pytest.raises(QccError, match=r"loops.c cannot be compiled for cortex-m4: .*vadd") as e:
        qcc.profile(out)
    assert "\n" not in e.value.message


# -- compiled networks ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4"])
def test_both_engines_agree_exactly(tmp_path: Path, target: str) -> None:
    """Instructions, cycles, stack, flash: everything but the name of the engine."""
    need_profile(target)
    need_profile(target, "unicorn")
    out = compiled(tmp_path, "medley", "generic")
    by_qemu, by_unicorn = (qcc.profile(out, target=target, engine=e) for e in ENGINES)
    assert (by_qemu.engine, by_unicorn.engine) == ("qemu", "unicorn")
    assert replace(by_unicorn, engine="qemu") == by_qemu


PAGE_END = """
    uint32_t a, b;
    __asm__ volatile(".syntax unified\\n .balign 1024\\n .rept 510\\n nop\\n .endr\\n"
                     "ldr %0, [%2]\\n ldr.w %1, [%2, #4]" : "=&l"(a), "=l"(b) : "l"(x));
    (void)a;
    (void)b;
    y[0] = x[0];
"""


def test_the_end_of_a_page_is_no_branch(tmp_path: Path) -> None:
    """QEMU ends a block before an instruction that lies on two pages, and counts some of it."""
    need_profile("cortex-m4")
    need_profile("cortex-m4", "unicorn")
    plain = qcc.profile(loops(tmp_path / "plain"), engine="qemu")
    out = spoiled(tmp_path / "page", "    y[0] = x[0];\n", PAGE_END)
    by_qemu, by_unicorn = (qcc.profile(out, engine=e) for e in ENGINES)
    assert by_qemu.layers == by_unicorn.layers
    found, before = by_qemu.layers[0], plain.layers[0]
    assert found.cycles is not None
    assert before.cycles is not None
    # 510 times nop; two loads, of which the second overlaps with the first, and the layer's own
    # with the second; and what aligns.
    padding = found.instructions - before.instructions - 512
    assert 0 <= padding < 520
    assert found.cycles - before.cycles - padding == 510 + 2 + 1 - 1


def test_a_compiled_network(tmp_path: Path) -> None:
    need_profile("cortex-m4")
    out = compiled(tmp_path, "digits", "cortex-m4")
    found = qcc.profile(out, samples=2)
    manifest = json.loads((out / "manifest.json").read_text())
    assert (found.target, found.board) == ("cortex-m4", "mps2-an386")
    assert [x.name for x in found.layers] == [x["name"] for x in manifest["layers"]]
    assert all(x.instructions > 0 for x in found.layers)
    total = sum(x.instructions for x in found.layers) + found.call_instructions
    assert found.instructions == total
    assert found.per_mac == total / manifest["macs"]
    assert all(
        sum(x.classes.values()) == pytest.approx(x.instructions, abs=20) for x in found.layers
    )
    assert found.layers[0].classes["load"] > 0
    assert 0 < found.stack_bytes <= manifest["stack_bytes"]
    for x, layer in zip(found.layers, manifest["layers"], strict=True):
        # A table of one element may have become part of an instruction.
        assert layer["weight_bytes"] - 8 <= x.table_bytes <= layer["weight_bytes"]
        assert x.stack_bytes <= found.stack_bytes
    check_flash(found)


def test_riscv_has_stack_and_flash_too(tmp_path: Path) -> None:
    need_profile("riscv32")
    found = qcc.profile(compiled(tmp_path, "digits", "generic"), target="riscv32")
    assert (found.board, found.cycles, found.layers[0].classes) == ("virt", None, {})
    assert 0 < found.stack_bytes < 1000
    check_flash(found)


# -- agreement with what else there is ------------------------------------------------------------


def test_flags_are_those_of_the_makefile(tmp_path: Path) -> None:
    """The firmware of ``make`` and what is measured are built alike, but for -g."""
    need_profile("cortex-m4")
    need("make")
    out = compiled(tmp_path, "digits", "cortex-m4")
    printed = make(out, "-n", "V=1", "firmware").stdout
    (line,) = [x for x in printed.splitlines() if x.endswith("/digits.o") and " -c " in x]
    flags = {w for w in line.split()[1:-4] if not w.startswith("-I")}
    assert flags == set(compile_flags(resolve("cortex-m4"))) - {"-g"}


@pytest.mark.parametrize("target", ["cortex-m4", "riscv32"])
def test_the_elf_reader_agrees_with_pyelftools(tmp_path: Path, target: str) -> None:
    need(load_targets()[target].cc)
    elffile = pytest.importorskip("elftools.elf.elffile")
    out = loops(tmp_path / "out", target)
    found = resolve(target)
    manifest = json.loads((out / "manifest.json").read_text())
    model = Model(out, manifest, found, load_boards()[found.board])
    built = build_profile(model, tmp_path, 1)
    elf = read_elf(built.elf)
    thumb = target != "riscv32"
    with built.elf.open("rb") as file:
        theirs = elffile.ELFFile(file)
        assert elf.entry == theirs["e_entry"] & ~int(thumb)
        assert [(s.name, s.address, s.size) for s in elf.sections] == [
            (s.name, s["sh_addr"], s["sh_size"]) for s in theirs.iter_sections()
        ]
        loaded = [s for s in theirs.iter_segments() if s["p_type"] == "PT_LOAD"]
        assert [(s.load_address, s.memory_size, s.data) for s in elf.segments] == [
            (s["p_paddr"], s["p_memsz"], s.data()) for s in loaded
        ]
        symbols = [s for s in theirs.get_section_by_name(".symtab").iter_symbols() if s.name]
        assert [(s.name, s.size) for s in elf.symbols] == [(s.name, s["st_size"]) for s in symbols]
        assert elf.symbol("loops_run").address == (
            next(s["st_value"] for s in symbols if s.name == "loops_run") & ~int(thumb)
        )


def test_no_elf_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.elf"
    path.write_bytes(b"MZ")
    with pytest.raises(QccError, match="not a 32-bit"):
        read_elf(path)


def test_the_marks_are_in_profiling_builds_only(tmp_path: Path) -> None:
    need("gcc")
    out = compiled(tmp_path, "digits", "generic")
    for defines, marked in (([], False), (["-DQCC_PROFILE"], True)):
        command = ["gcc", "-std=c99", *defines, "-c", "digits.c", "-o", "x.o"]
        subprocess.run(command, cwd=out, check=True)
        names = subprocess.run(["nm", "x.o"], cwd=out, check=True, capture_output=True, text=True)
        assert ("qcc_mark" in names.stdout) == marked


def test_a_newer_qemu_gets_the_plugin_version_that_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in refuses version 1 in the words of QEMU 9, and wants 2; then runs the real one."""
    need_profile("cortex-m4")
    real = shutil.which("qemu-system-arm")
    stand_in = tmp_path / "bin" / "qemu-system-arm"
    stand_in.parent.mkdir()
    stand_in.write_text(
        "#!/bin/sh\n"
        'case "$*" in *insncount-2.so*) ;; *) echo "Could not load plugin: plugin requires API '
        'version 1, but this QEMU supports only a minimum version of 2" >&2; exit 1;; esac\n'
        "# The real one here may know version 1 only.\n"
        "cp insncount-1.so insncount-2.so\n"
        f'exec {real} "$@"\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}")
    found = qcc.profile(loops(tmp_path / "out"), engine="qemu")
    assert found.layers[0].instructions > PER_TURN * TURNS[0]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "board"), CROSS)
def test_every_target_on_every_board(tmp_path: Path, target: str, board: str) -> None:
    need_board(target, board)
    found = qcc.profile(compiled(tmp_path, "medley", target), board=board)
    assert found.board == board
    check_flash(found)
