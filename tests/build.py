"""Compile small models in tests, build what comes out, and run its own check."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from qcc.codegen.write import write_files
from qcc.config import Config
from qcc.driver import Compilation, compile_proto, output_files
from qcc.ir import Array, Shape

WARNINGS = [
    "-std=c99",
    "-pedantic",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wshadow",
    "-Wdouble-promotion",
    "-Wstrict-prototypes",
    "-Wvla",
    "-Werror",
]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]


def calibration(proto: onnx.ModelProto, samples: int = 12, seed: int = 7) -> dict[str, Array]:
    """Normally distributed samples for every input of a model with static shapes."""
    rng = np.random.default_rng(seed)
    constants = {c.name for c in proto.graph.initializer}
    return {
        i.name: rng.normal(size=(samples, *_shape(i))).astype(np.float32)
        for i in proto.graph.input
        if i.name not in constants
    }


def _shape(info: onnx.ValueInfoProto) -> Shape:
    return tuple(d.dim_value or 1 for d in info.type.tensor_type.shape.dim)


def compiled(proto: onnx.ModelProto, **options: Any) -> Compilation:
    """Compile *proto*, on random calibration data unless given."""
    options.setdefault("calibration", calibration(proto))
    options.setdefault("name", proto.graph.name)
    options.setdefault("vectors", 9)
    return compile_proto(proto, Config(**options))


def check_on_host(
    done: Compilation, folder: Path, cc: str = "gcc", flags: list[str] | None = None
) -> str:
    """Build the model and its check program, layer by layer, and run it; its output.

    Raises:
        AssertionError: a warning, an error, or a difference from the reference.
    """
    write_files(output_files(done), folder)
    name = done.program.name
    sources = [f"{name}.c", *(str(p) for p in sorted(folder.glob("check/*.c")))]
    command = [cc, *WARNINGS, *(flags or ["-O1"]), "-DQCC_TRACE", "-I.", "-Iboards/common"]
    command += [*sources, "boards/host/board.c", "-o", "check.elf"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[:4000]
    run = subprocess.run(["./check.elf"], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[:4000]
    return run.stdout
