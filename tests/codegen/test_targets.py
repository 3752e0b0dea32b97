"""Targets, boards and the rendering that all generated files share."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest

from qcc.codegen.render import c_array, c_float, dims, render
from qcc.codegen.target import RUNTIME, load_boards, load_targets, resolve
from qcc.errors import UsageError
from tests.emulators import need


def test_the_targets_of_the_contract_exist() -> None:
    assert set(load_targets()) >= {
        "generic", "host", "cortex-m", "cortex-m0", "cortex-m4", "cortex-m7", "cortex-m33",
        "cortex-m55", "riscv32",
    }  # fmt: skip
    assert list(load_targets()) == sorted(load_targets())


def test_every_folder_is_a_target_or_board_and_complete() -> None:
    folders = {p.name for p in (RUNTIME / "targets").iterdir() if p.is_dir()}
    assert folders == set(load_targets())
    boards = {p.name for p in (RUNTIME / "boards").iterdir() if p.is_dir()}
    assert boards == {*load_boards(), "common"}
    for target in load_targets().values():
        assert target.board in target.boards
        assert set(target.boards) <= set(load_boards())
        assert "\n" not in target.description
        assert all((RUNTIME / "isa" / isa).is_dir() for isa in target.isa)
    reachable = {b for t in load_targets().values() for b in t.boards}
    assert reachable == set(load_boards())


def test_every_file_of_a_board_is_used_by_one() -> None:
    used = {path for board in load_boards().values() for path in board.texts()}
    found = {
        p.relative_to(RUNTIME / "boards").as_posix()
        for p in (RUNTIME / "boards").rglob("*")
        if p.suffix in {".c", ".h", ".ld"}
    }
    assert used == found


def test_an_alias_has_the_settings_of_what_it_stands_for() -> None:
    alias, core = resolve("cortex-m"), resolve("cortex-m0")
    assert alias.name == "cortex-m"
    assert alias.alias_of == core.name
    assert (alias.cc, alias.cflags, alias.isa) == (core.cc, core.cflags, core.isa)
    assert core.name in alias.description
    assert set(core.boards) < set(alias.boards)


def test_an_unknown_target_lists_the_choices() -> None:
    with pytest.raises(UsageError, match="--target z80: no such target; choose one of") as e:
        resolve("z80")
    assert e.value.exit_code == 2
    assert all(name in e.value.message for name in load_targets())


@pytest.mark.parametrize("target", [t.name for t in load_targets().values() if not t.native])
def test_the_compiler_knows_the_flags(target: str) -> None:
    t = load_targets()[target]
    need(t.cc)
    command = [t.cc, *t.cflags, "-Werror", "-ffreestanding", "-fsyntax-only", "-xc", "-"]
    source = "#include <stdint.h>\nint32_t f(int32_t v);\nint32_t f(int32_t v) { return v; }\n"
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_alias_has_no_dsp_instructions() -> None:
    need("arm-none-eabi-gcc")
    command = ["arm-none-eabi-gcc", *resolve("cortex-m").cflags, "-dM", "-E", "-xc", "/dev/null"]
    macros = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "__ARM_ARCH_6M__" in macros
    assert "__ARM_FEATURE_DSP" not in macros


# -- rendering ------------------------------------------------------------------------------------


def test_a_template_gets_exactly_its_variables() -> None:
    text = render("CMakeLists.txt.j2", name="m", target="generic", sources=("m.c", "w.c"))
    assert "add_library(m STATIC m.c w.c)" in text
    with pytest.raises(ValueError, match=r"missing variables \['sources', 'target'\]"):
        render("CMakeLists.txt.j2", name="m")
    with pytest.raises(ValueError, match=r"unused variables \['more'\]"):
        render("CMakeLists.txt.j2", name="m", target="t", sources=(), more=1)


def test_c_array_breaks_lines() -> None:
    assert c_array(np.array([[1, -2], [3, 4], [5, 6]]), 4) == "1, -2, 3, 4,\n    5, 6"


def test_int64_minimum_is_a_literal() -> None:
    assert c_array(np.array([-(2**63), 2**63 - 1])) == (
        "(-9223372036854775807 - 1), 9223372036854775807"
    )


@pytest.mark.parametrize("value", [1.0, 0.1, 1e-12, 3e20, 0.00392156862745098, 123456.0])
def test_c_float_is_the_nearest_float(value: float) -> None:
    text = c_float(value)
    assert re.fullmatch(r"\d+(\.\d+)?(e[+-]\d+)?f", text)
    assert re.search(r"[.e]", text)
    assert np.float32(text[:-1]) == np.float32(value)


def test_dims_leave_out_a_batch_of_one() -> None:
    assert dims((1, 14, 16)) == "[14][16]"
    assert dims((2, 3)) == "[2][3]"
    assert dims((1,)) == "[1]"
    assert dims(()) == "[1]"
