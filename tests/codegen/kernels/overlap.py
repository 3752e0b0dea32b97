"""What tests of kernels check beside bit-exactness: overlaps, compilers, estimates.

Overlaps: the layers of a compiled table are called one by one from a small C program on this
machine, under the sanitizers: first with separate buffers, then with each input in turn `gap` bytes
above the output in one buffer. Both must give the same bytes.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from qcc.codegen.program import Layer
from qcc.codegen.select import select
from qcc.codegen.target import resolve
from qcc.codegen.variants import Refusal, Variant, offers
from qcc.codegen.write import write_files
from qcc.driver import Compilation, output_files
from qcc.profiling.profile import profile
from tests.build import SANITIZE, WARNINGS
from tests.emulators import need, need_board


def prefer_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that a provider takes never get the portable kernel, however small they are."""

    def without_portable(*args: Any) -> tuple[list[Variant], list[Refusal]]:
        found, refused = offers(*args)
        return (found[:-1] or found), refused

    monkeypatch.setattr("qcc.codegen.select.offers", without_portable)


_MAIN = """
#include "{name}.c"
#include <stdio.h>
#include <stdlib.h>

static uint32_t seed = 1u;

static int32_t draw(int32_t lo, int32_t hi)
{{
    seed = (seed * 1664525u) + 1013904223u;
    return lo + (int32_t)((seed >> 8) % (uint32_t)((hi - lo) + 1));
}}

static void differ(const char *what, int gap)
{{
    (void)printf("%s, input %d bytes above the output\\n", what, gap);
    exit(1);
}}

int main(void)
{{
{body}    (void)puts("alike");
    return 0;
}}
"""


def clang_builds(done: Compilation, folder: Path, flags: Sequence[str]) -> None:
    """clang compiles the program for the core without a warning."""
    need("clang")
    write_files(output_files(done), folder)
    target = [f for f in resolve(done.config.target).cflags if f.startswith("-m")]
    command = ["clang", "--target=thumbv7em-none-eabihf", *target, "-ffreestanding"]
    command += ["-std=c99", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-Iboards/common/libc"]
    command += [*flags, "-c", f"{done.program.name}.c", "-o", "clang.o"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[:2000]


def check_estimates(
    done: Compilation, folder: Path, kernels: set[str], within: float = 0.15
) -> None:
    """The instructions of layers computed by *kernels* are as emulation counts them, nearly."""
    target = resolve(done.config.target)
    need_board(target.name, target.board)
    files = output_files(done)
    write_files(files, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    counted = profile(folder, manifest).layers
    checked = 0
    for layer, found in zip(done.program.layers, counted, strict=True):
        if layer.kernel in kernels:
            ratio = layer.instructions / found.instructions
            text = f"{layer.name}: {layer.instructions} estimated, {found.instructions} counted"
            assert 1 - within <= ratio <= 1 + within, text
            checked += 1
    assert checked


def check_overlaps(done: Compilation, folder: Path, expected: int) -> None:
    """Every layer whose kernel allows it gives the same output over its inputs.

    Args:
        done: a compiled table.
        folder: where to build.
        expected: how many (layer, input) pairs there are at least.

    Raises:
        AssertionError: a difference, an access out of bounds, or too few pairs.
    """
    write_files(output_files(done), folder)
    isa = resolve(done.config.target).isa
    chosen = select(done.graph, isa, done.config.optimize).variants
    cases = []
    for layer in done.program.layers:
        node = done.graph.producer(layer.output_tensor)
        assert node is not None
        cases += _cases(done, layer, chosen[node.name])
    assert len(cases) >= expected, f"{len(cases)} pairs"
    main = folder / "overlaps.c"
    main.write_text(_MAIN.format(name=done.program.name, body="".join(cases)))
    flags = [f for f in WARNINGS if f != "-Wstrict-prototypes"]
    built = subprocess.run(
        ["gcc", *flags, "-O1", *SANITIZE, "-I.", "overlaps.c", "-o", "overlaps"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[:4000]
    run = subprocess.run(["./overlaps"], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[:4000]


def _cases(done: Compilation, layer: Layer, variant: Variant) -> list[str]:
    """C blocks, one per input that the output may lie over."""
    sizes = [math.prod(s) for s in layer.input_shapes]
    return [
        _case(done, layer, sizes, variant.scratch, i, lead)
        for i, lead in sorted(variant.leads.items())
    ]


def _case(
    done: Compilation, layer: Layer, sizes: list[int], scratch: int, index: int, lead: int
) -> str:
    out = math.prod(layer.output_shape)
    function = f"{done.program.name}_{layer.c_name}"
    pixel = layer.output_shape[-1]
    gaps = sorted(
        {g for extra in (0, 1, 4, 8, pixel, 3 * pixel + 8, out // 2) if (g := lead + extra) < out}
    )
    lines = ["    {"]
    args = []
    for i, (n, qtype) in enumerate(zip(sizes, layer.input_types, strict=True)):
        lines.append(f"        static {qtype.ctype} x{i}[{n}];")
        lines.append(f"        for (int k = 0; k < {n}; k++) {{")
        lines.append(f"            x{i}[k] = ({qtype.ctype})draw({qtype.qmin}, {qtype.qmax});")
        lines.append("        }")
        args.append(f"x{i}")
    y, x = layer.output_type.ctype, layer.input_types[index].ctype
    lines.append(f"        static {y} want[{out}];")
    if scratch:
        lines.append(f"        static uint64_t scratch[{-(-scratch // 8)}];")
    tail = ", scratch" if scratch else ""
    lines.append(f"        {function}({', '.join(args)}, want{tail});")
    over = [f"({x} *)(void *)&both[gap]" if i == index else a for i, a in enumerate(args)]
    lines += [
        f"        static const int gaps[] = {{{', '.join(map(str, gaps))}}};",
        "        for (size_t g = 0; g < (sizeof gaps / sizeof gaps[0]); g++) {",
        "            const int gap = gaps[g];",
        f"            const int end = ((gap + {sizes[index]}) > {out}) ? (gap + {sizes[index]}) "
        f": {out};",
        "            uint8_t *both = malloc((size_t)end);",
        "            if (both == NULL) {",
        "                return 1;",
        "            }",
        f"            memcpy(&both[gap], x{index}, {sizes[index]});",
        f"            {function}({', '.join(over)}, ({y} *)(void *)both{tail});",
        f"            if (memcmp(both, want, {out}) != 0) {{",
        f'                differ("{function}", gap);',
        "            }",
        "            free(both);",
        "        }",
        "    }",
        "",
    ]
    return "\n".join(lines)
