"""What tests of ARMv6-M kernels have in common: small models, cores, ways to build."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from qcc.codegen.target import resolve
from qcc.codegen.write import write_files
from qcc.driver import Compilation, output_files
from tests.build import check_on_host
from tests.codegen.kernels.mve_cases import (
    TABLE_OF_SHAPES,
    activated,
    conv,
    dense,
    depthwise,
    kernels,
)
from tests.codegen.kernels.table import check_on_board
from tests.emulators import need

__all__ = [
    "BUILDS",
    "CORES",
    "TABLE_OF_SHAPES",
    "activated",
    "check_builds",
    "clang_compiles",
    "conv",
    "dense",
    "depthwise",
    "kernels",
]

CORES = ("cortex-m0", "cortex-m3")
"""The core, and one that runs the same kernels with instructions of its own."""

BUILDS = (
    "-O2 -DQCC_NO_ASM",
    "-Os -fno-omit-frame-pointer",
    *(pytest.param(flags, marks=pytest.mark.slow)
      for flags in ("-O0", "-O1 -fno-omit-frame-pointer", "-O3 -funroll-loops", "-Og")),
)  # fmt: skip
"""Ways to build: plain C, and assembly whatever the compiler does around it."""


def check_builds(done: Compilation, folder: Path, flags: str) -> None:
    """Bit-exact on this machine and on the core, built with *flags*."""
    check_on_host(done, folder)
    check_on_board(done, folder, f"OPT={flags}")


def clang_compiles(done: Compilation, folder: Path, *flags: str) -> None:
    """clang makes code for the core without a warning."""
    need("clang")
    write_files(output_files(done), folder)
    target = [f for f in resolve(done.config.target).cflags if f.startswith("-m")]
    command = ["clang", "--target=thumbv6m-none-eabi", *target, "-ffreestanding", "-std=c99"]
    command += ["-Wall", "-Wextra", "-Wshadow", "-Wcast-align", "-Werror", "-Iboards/common/libc"]
    built = subprocess.run(
        [*command, *flags, "-c", f"{done.program.name}.c", "-o", "clang.o"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[:2000]
