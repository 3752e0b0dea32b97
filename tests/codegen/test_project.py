"""The generated project around a small hand-written model: it must see every way to be wrong."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcc.codegen import project
from qcc.codegen.program import Layer, Port, Program, Vectors
from qcc.codegen.project import layer_hash, project_files
from qcc.codegen.render import c_array
from qcc.codegen.target import RUNTIME, load_boards, load_targets, resolve
from qcc.ir import QType, Quant, Shape
from tests.emulators import CROSS, last_line, make, need, need_board, run_on_board

SHAPE = (1, 2, 3)
EXACT = "qcc check: 3 samples, 2 outputs: bit-exact"
MISMATCH = "qcc check: 3 samples, 2 outputs: MISMATCH"

HEADER = """\
#ifndef TINY_H
#define TINY_H

#include <stdint.h>

#define TINY_ARENA_BYTES 16
#define TINY_ARENA_ALIGN 8

int tiny_run(const int8_t *a, const uint8_t *b, int16_t *sum, uint8_t *copy, void *arena);

#endif
"""

SOURCE = """\
#include "tiny.h"

#include <string.h>

#ifdef QCC_TRACE
extern void qcc_trace(int32_t layer, const void *data, uint32_t bytes);
#define TRACE(layer, data, bytes) qcc_trace((layer), (data), (bytes))
#else
#define TRACE(layer, data, bytes) ((void)0)
#endif

static void twice(const int8_t *a, int16_t *y)
{
    for (int32_t i = 0; i < 6; i++) {
        y[i] = (int16_t)(2 * a[i]);
    }
}

static void add(const int16_t *t, const uint8_t *b, int16_t *y)
{
    for (int32_t i = 0; i < 6; i++) {
        y[i] = (int16_t)(t[i] + b[i]);
    }
}

int tiny_run(const int8_t *a, const uint8_t *b, int16_t *sum, uint8_t *copy, void *arena)
{
    int16_t *const t = (int16_t *)arena;

    if ((a == 0) || (b == 0) || (sum == 0) || (copy == 0) || (arena == 0)) {
        return -1;
    }
    if (((uintptr_t)arena & 7u) != 0u) {
        return -2;
    }
    twice(a, t);
    TRACE(0, t, 12u);
    add(t, b, sum);
    TRACE(1, sum, 12u);
    memcpy(copy, b, 6u);
    TRACE(2, copy, 6u);
    return 0;
}
"""


def port(name: str, qtype: QType) -> Port:
    return Port(name, name, SHAPE, SHAPE, (0, 1, 2), "NC", Quant(qtype, 0.5))


def layer(index: int, name: str, output: QType, shape: Shape = SHAPE) -> Layer:
    return Layer(
        index=index, name=name, c_name=f"layer_{index}", op="test", sources=(name,), calls=(),
        inputs=(), output="", input_types=(), output_type=output, input_shapes=(),
        output_shape=shape, output_tensor=name, scale=0.5, macs=0, weight_bytes=0,
        weight_bits=None, parameters=0, scale_mode=None, shift=None, multiplier=None,
        acc_bound=None,
    )  # fmt: skip


PROGRAM = Program(
    name="tiny",
    title="tiny.onnx",
    inputs=(port("a", QType(8)), port("b", QType(8, signed=False))),
    outputs=(port("sum", QType(16)), port("copy", QType(8, signed=False))),
    layers=(
        layer(0, "twice", QType(16)),
        layer(1, 'add "??/*\nx', QType(16)),
        layer(2, "copy", QType(8, signed=False)),
    ),
    buffers=(),
    arena_bytes=16,
    arena_align=8,
    arena_bound=12,
    macs_before=0,
    parameters_before=0,
    weight_bytes_before=0,
)


def vectors(samples: int = 3) -> Vectors:
    rng = np.random.default_rng(7)
    a = rng.integers(-127, 128, (samples, *SHAPE))
    b = rng.integers(0, 256, (samples, *SHAPE))
    a.flat[0], b.flat[1] = -127, 255
    total = 2 * a + b
    return Vectors((a, b), (total, b), (2 * a[0], total[0], b[0]))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a project for a target: the model's source and the vectors may be changed."""

    def project_of(
        target: str = "generic", source: str = SOURCE, data: Vectors | None = None
    ) -> Path:
        out = tmp_path / "out"
        files = project_files(PROGRAM, data or vectors(), resolve(target))
        for path, text in {**files, "tiny.h": HEADER, "tiny.c": source}.items():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_text(text)
        return out

    return project_of


def broken(old: str, new: str) -> str:
    """The model with one change, which must be possible."""
    assert SOURCE.count(old) == 1
    return SOURCE.replace(old, new)


Write = Callable[..., Path]


# -- on this machine ------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["generic", "host", "cortex-m4"])
def test_check_is_bit_exact_on_the_host(write: Write, target: str) -> None:
    need("make", "gcc")
    done = make(write(target), "check")
    assert done.returncode == 0, done.stderr
    assert last_line(done) == EXACT


@pytest.mark.parametrize("arguments", [["SANITIZE=1"], ["CC=clang"]])
def test_sanitizers_and_clang_find_nothing(write: Write, arguments: list[str]) -> None:
    need("make", "gcc", "clang")
    done = make(write(), "check", "LAYERS=1", *arguments)
    assert done.returncode == 0, done.stderr
    assert "layers equal: 3 of 3" in done.stdout
    assert last_line(done) == EXACT


def test_a_sanitizer_stops_a_model_that_writes_outside(write: Write) -> None:
    need("make", "gcc")
    source = broken("memcpy(copy, b, 6u);", "memcpy(copy, b, 6u); copy[(b[0] | 64) + 6] = 1u;")
    done = make(write(source=source), "check", "SANITIZE=1")
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr


def test_first_difference_is_named(write: Write) -> None:
    need("make", "gcc")
    data = vectors()
    wrong = data.outputs[0].copy()
    wrong[1].flat[4] += 1
    out = write(data=replace(data, outputs=(wrong, data.outputs[1])))
    done = make(out, "check")
    assert done.returncode != 0
    expected = int(wrong[1].flat[4])
    line = f"sample 1, output sum: index 4, expected {expected}, got {expected - 1}"
    assert line in done.stdout.splitlines()
    assert last_line(done) == MISMATCH


def test_first_layer_that_differs_is_named(write: Write) -> None:
    need("make", "gcc")
    out = write(source=broken("t[i] + b[i]", "t[i] + b[i] + (i == 5)"))
    done = make(out, "check", "LAYERS=1")
    assert done.returncode != 0
    value = int(vectors().layers[1].flat[5])
    line = f'sample 0, layer 1 add "??/*?x: index 5, expected {value}, got {value + 1}'
    assert line in done.stdout.splitlines()
    assert last_line(done) == MISMATCH


def test_a_layer_that_heals_is_seen_only_with_layers(write: Write) -> None:
    need("make", "gcc")
    out = write(source=broken("TRACE(0, t, 12u);", "t[3]++; TRACE(0, t, 12u); t[3]--;"))
    assert make(out, "check").returncode == 0
    done = make(out, "check", "LAYERS=1")
    assert done.returncode != 0
    assert re.search(r"sample 0, layer 0 twice: index 3, expected -?\d+, got -?\d+\n", done.stdout)


def test_large_layers_are_compared_by_hash(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    need("make", "gcc")
    monkeypatch.setattr(project, "STORED_ELEMENTS", 17)  # the three layers have 18 elements
    out = write()
    assert "layer_0" not in (out / "check/layers.c").read_text()
    done = make(out, "check", "LAYERS=1")
    assert done.returncode == 0, done.stdout
    assert "layers equal: 3 of 3" in done.stdout
    (out / "tiny.c").write_text(broken("t[i] + b[i]", "t[i] + b[i] + (i == 5)"))
    done = make(out, "check", "LAYERS=1")
    assert done.returncode != 0
    assert 'sample 0, layer 1 add "??/*?x: differs (too large' in done.stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    TRACE(2, copy, 6u);\n", ""),
        ("TRACE(2, copy, 6u);", "TRACE(2, copy, 5u);"),
        ("TRACE(2, copy, 6u);", "TRACE(2, copy, 6u); TRACE(3, copy, 6u); t[0] = 0; return 1;"),
    ],
    ids=["missing", "short", "failing"],
)
def test_a_wrong_trace_fails(write: Write, old: str, new: str) -> None:
    need("make", "gcc")
    done = make(write(source=broken(old, new)), "check", "LAYERS=1")
    assert done.returncode != 0
    assert last_line(done) == MISMATCH


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(b == 0) || ", "", "tiny_run accepts a null pointer for b"),
        ("(copy == 0) || ", "", "tiny_run accepts a null pointer for copy"),
        ("& 7u", "& 0u", "tiny_run accepts a misaligned arena"),
        ("return -2", "return 2", "tiny_run accepts a misaligned arena"),
    ],
)
def test_a_mistake_that_is_accepted_fails(write: Write, old: str, new: str, message: str) -> None:
    """The body is not run for it: a check that is gone would dereference the pointer."""
    need("make", "gcc")
    source = broken(old, new).replace("    twice(a, t);", "    if ((b == 0) || (copy == 0)) {\n"
                                      "        return 0;\n    }\n    twice(a, t);")  # fmt: skip
    done = make(write(source=source), "check")
    assert done.returncode != 0
    assert message in done.stdout.splitlines()
    assert last_line(done) == MISMATCH


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("((uint8_t *)arena)[16] = 0u;", "the model writes behind its arena"),
        ("copy[0] = (uint8_t)(t[7] + b[0]);", "sample 0, output copy: index 0"),
        ("return 3;", "tiny_run returns 3"),
    ],
    ids=["overrun", "uninitialised", "code"],
)
def test_a_model_that_misbehaves_fails(write: Write, change: str, message: str) -> None:
    need("make", "gcc")
    source = broken("memcpy(copy, b, 6u);", f"memcpy(copy, b, 6u);\n    {change}")
    done = make(write(source=source), "check")
    assert done.returncode != 0
    assert message in done.stdout


def test_an_output_that_is_never_written_is_not_taken_for_zeros(write: Write) -> None:
    need("make", "gcc")
    a, b = vectors().inputs[0], np.zeros((3, *SHAPE), np.int64)
    data = Vectors((a, b), (2 * a, b), (2 * a[0], 2 * a[0], b[0]))
    done = make(write(source=broken("    memcpy(copy, b, 6u);\n", ""), data=data), "check")
    assert done.returncode != 0
    assert "sample 0, output copy: index 0, expected 0, got " in done.stdout


def test_differences_of_every_type_are_printed(write: Write, tmp_path: Path) -> None:
    need("gcc")
    out = write()
    lines, expected = [], []
    for bits, sign in ((8, ""), (8, "u"), (16, ""), (16, "u"), (32, ""), (32, "u"), (64, "")):
        info = np.iinfo(f"{sign}int{bits}")
        values = c_array(np.array([0, info.min], info.dtype)), c_array(np.array([0, info.max]))
        names = f"e{sign}{bits}", f"g{sign}{bits}"
        for name, value in zip(names, values, strict=True):
            lines.append(f"static const {sign}int{bits}_t {name}[2] = {{{value}}};")
        kind = f"CHECK_{sign.upper()}INT{bits}"
        expected.append(f": index 1, expected {info.min}, got {info.max}")
        lines.append(f"#define SHOW_{kind} put_difference({kind}, {names[0]}, {names[1]}, "
                     f"first_difference({kind}, {names[0]}, {names[1]}, 2u))")  # fmt: skip
    calls = [f"    {line.split()[1]};" for line in lines if line.startswith("#define")]
    main = tmp_path / "main.c"
    main.write_text("\n".join(['#include "compare.h"', *lines, "int main(void)", "{", *calls,
                               "    return 0;", "}", ""]))  # fmt: skip
    program, sources = tmp_path / "main", ["check/compare.c", "boards/host/board.c"]
    command = ["gcc", "-std=c99", "-Icheck", "-Iboards/common", str(main), *sources]
    subprocess.run([*command, "-o", str(program)], cwd=out, check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == expected


def test_shared_library_is_callable(write: Write) -> None:
    need("make", "gcc")
    out = write()
    done = make(out, "shared")
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(out / "build/libtiny.so"))
    data = vectors()
    a, b = (v[2].astype(t) for v, t in zip(data.inputs, (np.int8, np.uint8), strict=True))
    total, copy, arena = np.zeros(6, np.int16), np.zeros(6, np.uint8), np.zeros(2, np.int64)
    pointers = [ctypes.c_void_p(v.ctypes.data) for v in (a, b, total, copy, arena)]
    assert library.tiny_run(*pointers) == 0
    assert np.array_equal(total, data.outputs[0][2].ravel())
    assert np.array_equal(copy, data.outputs[1][2].ravel())


def test_objects_follow_the_compiler_and_the_sources(write: Write) -> None:
    need("make", "gcc")
    out = write()
    compiled = re.compile(r"^gcc .* -c (\S+) ", re.M)
    assert "tiny.c" in compiled.findall(make(out, "check", "V=1").stdout)
    assert compiled.findall(make(out, "check", "V=1").stdout) == []
    assert "tiny.c" in compiled.findall(make(out, "check", "V=1", "OPT=-O1").stdout)
    header = out / "check/vectors.h"
    later = header.stat().st_mtime + 1000
    os.utime(header, (later, later))
    assert "check/check.c" in compiled.findall(make(out, "check", "V=1", "OPT=-O1").stdout)


def test_steps_are_short_lines_unless_asked_for(write: Write) -> None:
    need("make", "gcc")
    out = write()
    lines = [s for s in make(out, "check").stdout.splitlines() if not s.startswith("make")]
    assert "  CC      tiny.c" in lines
    assert "  RUN     build/host/tiny.elf" in lines
    assert not any("-Wall" in line for line in lines)
    loud = make(out, "check", "V=1", "OPT=-O1").stdout
    assert "  CC " not in loud
    assert loud.count("-Wall") == 6  # five files and the program


def test_clean_removes_what_make_made(write: Write) -> None:
    need("make", "gcc")
    out = write()
    before = sorted(p for p in out.rglob("*"))
    make(out, "check")
    assert (out / "build").is_dir()
    make(out, "clean")
    assert sorted(p for p in out.rglob("*")) == before


def test_warnings_are_errors(write: Write) -> None:
    need("make", "gcc")
    done = make(write(source=broken("(int16_t)(t[i] + b[i])", "t[i] + i")), "check")
    assert done.returncode != 0
    assert "Werror=conversion" in done.stderr


def test_cmake_builds_and_tests(write: Write, tmp_path: Path) -> None:
    need("cmake", "ctest", "gcc", "make")
    out, build = write(), tmp_path / "cmake"
    for command in (
        ["cmake", "-S", str(out), "-B", str(build), "-G", "Unix Makefiles"],
        ["cmake", "--build", str(build)],
        ["ctest", "--test-dir", str(build), "--verbose"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert EXACT in done.stdout


# -- messages -------------------------------------------------------------------------------------


def test_an_unknown_board_lists_the_choices(write: Write) -> None:
    need("make")
    done = make(write("cortex-m4"), "firmware", "BOARD=toaster")
    assert done.returncode != 0
    message = "BOARD=toaster: no such board for cortex-m4; choose one of mps2-an386"
    assert message in done.stderr


@pytest.mark.parametrize(
    ("goal", "variable", "package"),
    [
        ("check", "CC", "gcc"),
        ("firmware", "TARGET_CC", "gcc-arm-none-eabi"),
        ("lib", "TARGET_CC", "gcc-arm-none-eabi"),
    ],
)
def test_a_missing_compiler_is_one_sentence(
    write: Write, goal: str, variable: str, package: str
) -> None:
    need("make")
    done = make(write("cortex-m4"), goal, f"{variable}=no-such-tool")
    assert done.returncode != 0
    line = done.stderr.splitlines()[0]
    assert line.startswith("qcc: no-such-tool is not installed; ")
    assert f"apt install {package} " in line


def test_a_missing_emulator_is_one_sentence(write: Write) -> None:
    need("make", "arm-none-eabi-gcc")
    done = make(write("cortex-m4"), "run", "RUN_mps2-an386=no-such-tool")
    assert done.returncode != 0
    assert "qcc: no-such-tool is not installed; " in done.stderr
    assert "apt install qemu-system-arm " in done.stderr


def test_flash_says_what_to_do_and_does_what_it_is_told(write: Write) -> None:
    need("make", "gcc")
    out = write()
    done = make(out, "flash")
    assert done.returncode != 0
    assert "nothing was written" in done.stderr
    done = make(out, "flash", "FLASH_CMD=echo flashing", "FLASH_ELF=tiny.c")
    assert done.returncode == 0
    assert "flashing" in done.stdout.splitlines()


# -- on emulated boards ---------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "board"), CROSS)
def test_check_is_bit_exact_on_the_board(write: Write, target: str, board: str) -> None:
    need_board(target, board)
    done = run_on_board(write(target), board, "LAYERS=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "layers equal: 3 of 3" in done.stdout
    stack = re.search(r"^stack: (\d+) of 16384 bytes$", done.stdout, re.M)
    assert stack is not None
    assert 16 < int(stack[1]) < 1024
    assert last_line(done) == EXACT


BOARDS = sorted({board: target for target, board in CROSS}.items())


@pytest.mark.parametrize(("board", "target"), BOARDS)
def test_a_difference_fails_on_the_board(write: Write, target: str, board: str) -> None:
    need_board(target, board)
    done = run_on_board(write(target, source=broken("t[i] + b[i]", "t[i] - b[i]")), board)
    assert done.returncode != 0
    assert "sample 0, output sum: index 0, expected " in done.stdout
    assert last_line(done) == MISMATCH


@pytest.mark.parametrize(("board", "target"), BOARDS)
def test_memory_is_set_up_on_the_board(write: Write, target: str, board: str) -> None:
    """Initialised and zeroed variables, and memory that a compiler copies on its own."""
    need_board(target, board)
    source = broken("    memcpy(copy, b, 6u);", "    counter += zero;\n"
                    "    for (int32_t i = 0; i < 6; i++) {\n"
                    "        copy[i] = (uint8_t)(b[i] + (counter - 1234567));\n    }")  # fmt: skip
    source = source.replace("static void twice", "static int32_t counter = 1234567;\n"
                            "static int32_t zero;\n\nstatic void twice")  # fmt: skip
    done = run_on_board(write(target, source=source), board)
    assert last_line(done) == EXACT


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"])
def test_vector_registers_are_enabled(write: Write, target: str) -> None:
    """A compiler may move integers through them."""
    board = load_targets()[target].board
    need_board(target, board)
    instruction = "vmov q0, q1" if target == "cortex-m55" else "vmov s0, r0"
    source = broken("    memcpy(copy, b, 6u);", f'    __asm__ volatile("{instruction}");\n'
                    "    memcpy(copy, b, 6u);")  # fmt: skip
    done = run_on_board(write(target, source=source), board)
    assert last_line(done) == EXACT, done.stdout + done.stderr


@pytest.mark.parametrize(("board", "target"), BOARDS)
def test_a_stack_overflow_is_reported(write: Write, target: str, board: str) -> None:
    """By a fault, or afterwards where what lies below the stack takes writes without a fault."""
    need_board(target, board)
    source = broken("    memcpy(copy, b, 6u);", "    volatile uint8_t large[17000];\n"
                    "    for (uint32_t i = 0u; i < 17000u; i++) {\n"
                    "        large[i] = b[0];\n    }\n    memcpy(copy, b, 6u);\n"
                    "    copy[0] = large[5];")  # fmt: skip
    done = run_on_board(write(target, source=source), board)
    assert done.returncode != 0
    assert re.search("^qcc board: .*stack overflow", done.stdout, re.M)
    assert "Error 99" in done.stderr


@pytest.mark.parametrize(("board", "target"), BOARDS)
def test_a_fault_ends_the_run(write: Write, target: str, board: str) -> None:
    need_board(target, board)
    source = broken("    memcpy(copy, b, 6u);", "    void (*const volatile nowhere)(void) = 0;\n"
                    "    nowhere();\n    memcpy(copy, b, 6u);")  # fmt: skip
    done = run_on_board(write(target, source=source), board)
    assert done.returncode != 0
    assert re.search("^qcc board: processor fault, cause 0x[0-9a-f]{8} at 0x", done.stdout, re.M)
    assert "Error 99" in done.stderr


def test_a_run_that_hangs_is_ended(write: Write) -> None:
    need_board("cortex-m0", "mps2-an385")
    source = broken("    memcpy(copy, b, 6u);", "    for (volatile int32_t on = 1; on != 0;) {\n"
                    "        on = 1;\n    }")  # fmt: skip
    done = run_on_board(write("cortex-m0", source=source), "mps2-an385", "RUN_TIMEOUT=1")
    assert done.returncode != 0
    assert "Error 124" in done.stderr


@pytest.mark.parametrize(("board", "target"), BOARDS)
def test_megabytes_of_vectors_fit_the_board(write: Write, target: str, board: str) -> None:
    need_board(target, board)
    samples = 45_000  # 12 bytes in, 18 bytes out: 1.35 MB
    done = run_on_board(write(target, data=vectors(samples)), board)
    assert last_line(done) == f"qcc check: {samples} samples, 2 outputs: bit-exact"


@pytest.mark.parametrize("target", [t.name for t in load_targets().values() if not t.native])
def test_lib_and_firmware_are_for_the_target(write: Write, target: str) -> None:
    t = load_targets()[target]
    need("make", t.cc, t.size)
    out = write(target)
    done = make(out, "lib", "firmware")
    assert done.returncode == 0, done.stderr
    assert (out / "build/libtiny.a").stat().st_size > 0
    elf = out / "build" / t.board / "tiny.elf"
    # ELF header: 32 bits, little-endian; machine 40 is Arm, 243 is RISC-V.
    head = elf.read_bytes()[:20]
    assert head[:6] == b"\x7fELF\x01\x01"
    assert head[18] == (243 if target == "riscv32" else 40)
    assert "tiny.elf" in done.stdout


def test_memory_functions_of_the_boards(tmp_path: Path) -> None:
    """Under other names on this machine: every alignment, length and overlap in 24 bytes."""
    need("gcc")
    names = ("memcpy", "memmove", "memset", "memcmp")
    library = tmp_path / "memory.so"
    command = ["gcc", "-O2", "-std=c99", "-ffreestanding", "-shared", "-fPIC", "-o", str(library)]
    renamed = [f"-D{name}=board_{name}" for name in names]
    source = RUNTIME / "boards/common/memory.c"
    subprocess.run([*command, *renamed, str(source)], check=True)
    copy, move, fill, compare = (ctypes.CDLL(str(library))[f"board_{name}"] for name in names)
    for function in (copy, move, fill):
        function.restype = ctypes.c_void_p
    start = np.arange(1, 25, dtype=np.uint8)
    for to, source_at, size in itertools.product(range(9), range(9), range(13)):
        expected = start.copy()
        expected[to : to + size] = start[source_at : source_at + size]
        moved, other = start.copy(), np.zeros(24, np.uint8)
        to_address = ctypes.c_void_p(moved.ctypes.data + to)
        from_address = ctypes.c_void_p(moved.ctypes.data + source_at)
        assert move(to_address, from_address, ctypes.c_size_t(size)) == to_address.value
        assert np.array_equal(moved, expected)

        to_address = ctypes.c_void_p(other.ctypes.data + to)
        from_address = ctypes.c_void_p(start.ctypes.data + source_at)
        assert copy(to_address, from_address, ctypes.c_size_t(size)) == to_address.value
        assert np.array_equal(other[to : to + size], start[source_at : source_at + size])
        assert np.count_nonzero(other) == size
        assert compare(to_address, from_address, ctypes.c_size_t(size)) == 0

        fill(to_address, 0x1FF, ctypes.c_size_t(size))
        assert np.count_nonzero(other == 255) == size
        order = compare(to_address, from_address, ctypes.c_size_t(size))
        assert order > 0 if size else order == 0


@pytest.mark.parametrize("board", sorted(load_boards()))
def test_board_code_is_clean_under_clang(board: str, tmp_path: Path) -> None:
    """The second opinion on code that otherwise only gcc sees."""
    need("clang")
    texts = load_boards()[board].texts()
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    triple = {"virt": ["--target=riscv32", "-march=rv32imac"], "host": []}.get(
        board, ["--target=arm-none-eabi", "-mcpu=cortex-m4"]
    )
    flags = [
        "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion",
        "-Wshadow", "-Wdouble-promotion", "-Werror", "-fsyntax-only",
    ]  # fmt: skip
    freestanding = [] if board == "host" else ["-ffreestanding", "-Icommon/libc"]
    sources = [p for p in texts if p.endswith(".c")]
    command = ["clang", *triple, *flags, *freestanding, "-Icommon", *sources]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", sorted(load_targets()))
def test_the_project_is_self_contained_and_repeatable(target: str) -> None:
    files = project_files(PROGRAM, vectors(), resolve(target))
    assert files == project_files(PROGRAM, vectors(), resolve(target))
    for board in resolve(target).boards:
        for path in (*load_boards()[board].sources, *load_boards()[board].files):
            assert f"boards/{path}" in files
    for path, text in files.items():
        assert text.endswith("\n"), path
        assert "{%" not in text, path


def test_vectors_that_do_not_fit_are_refused() -> None:
    data = vectors()
    a, b = data.inputs
    target = resolve("generic")
    for wrong, message in (
        (replace(data, inputs=data.inputs[:1]), "1 arrays for 2 inputs"),
        (replace(data, outputs=(data.outputs[0][:, :, :1], data.outputs[1])), "sum: "),
        (replace(data, layers=data.layers[:2]), "2 layer outputs for 3 layers"),
        (replace(data, inputs=(data.inputs[0] * 2, data.inputs[1])), "values outside int8"),
        (Vectors((a[:0], b[:0]), data.outputs, data.layers), "at least one sample"),
    ):
        with pytest.raises(ValueError, match=message):
            project_files(PROGRAM, wrong, target)


def test_a_model_without_arena_or_layers(tmp_path: Path) -> None:
    """Nothing to misalign, nothing to trace, and an empty array is no C."""
    need("make", "gcc")
    program = replace(
        PROGRAM, outputs=(port("copy", QType(8, signed=False)),), inputs=PROGRAM.inputs[1:],
        layers=(), arena_bytes=0, arena_align=1,
    )  # fmt: skip
    b = vectors().inputs[1]
    files = project_files(program, Vectors((b,), (b,), ()), resolve("generic"))
    header = "int tiny_run(const uint8_t *b, uint8_t *copy, void *arena);"
    files["tiny.h"] = re.sub("int tiny_run.*;", header, HEADER.replace("BYTES 16", "BYTES 0"))
    files["tiny.h"] = files["tiny.h"].replace("ALIGN 8", "ALIGN 1")
    files["tiny.c"] = (
        '#include "tiny.h"\n\n#include <string.h>\n\n' + header.replace(";", "\n{\n") +
        "    (void)arena;\n    if ((b == 0) || (copy == 0)) {\n        return -1;\n    }\n"
        "    memcpy(copy, b, 6u);\n    return 0;\n}\n"
    )  # fmt: skip
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    for arguments in (["check"], ["check", "LAYERS=1"]):
        done = make(tmp_path, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert last_line(done) == "qcc check: 3 samples, 1 output: bit-exact"


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
def test_layer_hash_is_the_loop_of_its_definition(dtype: str) -> None:
    info = np.iinfo(dtype)
    values = np.random.default_rng(3).integers(info.min, info.max, 97, dtype, endpoint=True)
    expected = 2166136261
    for byte in values.astype(np.dtype(dtype).newbyteorder("<")).tobytes():
        expected = (expected * 16777619 + byte) % 2**32
    assert layer_hash(values) == expected
    assert layer_hash(values[::-1]) != expected


def test_variables_of_the_environment_do_no_harm(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BOARD may be another build system's, and host flags mean nothing to a cross compiler."""
    need("make", "gcc", "arm-none-eabi-gcc")
    monkeypatch.setenv("BOARD", "nucleo_f429zi")
    monkeypatch.setenv("CFLAGS", "-march=native")
    out = write("cortex-m4")
    for goal in ("check", "lib"):
        done = make(out, goal, "LAYERS=0", "SANITIZE=0")
        assert done.returncode == 0, done.stderr
    assert (out / "build/host/tiny.elf").exists()


def test_gcc_is_the_default_compiler(write: Write) -> None:
    need("make", "gcc")
    if shutil.which("cc") is None:
        pytest.skip("no cc to tell apart")
    assert re.search(r"^gcc ", make(write(), "--dry-run", "check").stdout, re.M)
