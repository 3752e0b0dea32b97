"""Single layers of any operands and formats, their integer meaning and their compiled kernels.

Where tests/ops/kernel_harness.py starts from an operator's ONNX examples, this starts from formats
and scales: the tests of elementwise operators sweep those.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcc.config import Config, ScaleMode
from qcc.ir import Array, Graph, Int, Node, QType, Quant, Shape, Tensor
from qcc.ops import OPS
from qcc.ops.base import Arg, CArray, In, Interval, Out, QuantContext
from tests.ops.kernel_harness import INCLUDE, WARNINGS

BUILDS = {
    "gcc": ("gcc", "-O2"),
    "sanitized": ("gcc", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "clang": ("clang", "-O1"),
}

SAMPLES = 6

Operand = tuple[Shape, Quant]
"""An activation; a constant is given by its real values."""

S8, U8, S16, U16 = QType(8), QType(8, signed=False), QType(16), QType(16, signed=False)


@dataclass(frozen=True, slots=True)
class Layer:
    """A graph of one quantized node."""

    name: str
    graph: Graph
    node: Node

    @property
    def activations(self) -> tuple[str, ...]:
        return self.graph.activations(self.node)


def layer(
    op: str,
    attrs: Any,
    operands: Sequence[Operand | Array],
    y: Quant,
    mode: ScaleMode = "single-shift",
) -> Layer:
    """A layer whose formats are given; it is quantized and verified."""
    graph = Graph("g")
    names = []
    for i, operand in enumerate(operands):
        if isinstance(operand, np.ndarray):
            names.append(graph.add_constant(f"c{i}", operand.astype(np.float32)))
            continue
        names.append(graph.add_tensor(Tensor(f"x{i}", operand[0], quant=operand[1])).name)
        graph.inputs.append(names[-1])
    shape = OPS[op].infer(attrs, [graph.shape(t) for t in names])
    graph.add_tensor(Tensor("y", shape, quant=y))
    node = graph.add_node(Node("n", op, tuple(names), ("y",), attrs))
    graph.outputs = ["y"]
    OPS[op].quantize(graph, node, QuantContext(Config(scale=mode), 8))
    graph.verify()
    formats = "-".join(str(graph.quant(t)) for t in (*node.inputs, "y"))
    shapes = "-".join("x".join(map(str, graph.shape(t))) for t in node.inputs)
    return Layer(f"{op}-{mode}-{formats}-{shapes}", graph, node)


def feeds(case: Layer, count: int = SAMPLES, seed: int = 0) -> list[Int]:
    """Values of every activation over its whole format; the first two samples are its extremes."""
    rng = np.random.default_rng(seed)
    out = []
    for name in case.activations:
        q = case.graph.quant(name).qtype
        x = rng.integers(q.qmin, q.qmax + 1, (count, *case.graph.shape(name)))
        x[0], x[1] = q.qmin, q.qmax
        out.append(x)
    return out


def run(case: Layer, activations: Sequence[Int]) -> Int:
    """The integer meaning."""
    values = list(activations)
    inputs = [
        case.graph.constant(t).astype(np.int64) if case.graph.is_constant(t) else values.pop(0)
        for t in case.node.inputs
    ]
    return OPS[case.node.op].run_int(case.graph, case.node, inputs)


def real(case: Layer, activations: Sequence[Int]) -> list[Array]:
    """The activations' real values, in float64."""
    scales = [case.graph.quant(t).scalar for t in case.activations]
    return [x * s for x, s in zip(activations, scales, strict=True)]


def steps_off(case: Layer, found: Int, exact: Array) -> float:
    """The largest distance of *found* from the real values *exact*, saturated, in output steps."""
    y = case.graph.quant("y")
    return float(np.abs(found - np.clip(exact / y.scalar, y.qtype.qmin, y.qtype.qmax)).max())


def constant_error(case: Layer, c: Array) -> float:
    """How far the integers of the constant operand *c* are from it."""
    (name,) = (t for t in case.node.inputs if case.graph.is_constant(t))
    found = case.graph.constant(name) * case.graph.quant(name).scalar
    return float(np.abs(found - c).max())


def check_interval(case: Layer, seed: int = 0) -> None:
    """Outputs of inputs within per-channel bounds stay within the bounds that it derives."""
    graph, node = case.graph, case.node
    rng = np.random.default_rng(seed)
    bounds, values = [], []
    for name in node.inputs:
        shape = graph.shape(name)
        if graph.is_constant(name):
            rows = graph.constant(name).reshape(-1, shape[-1]).astype(np.int64)
            bounds.append(Interval(rows.min(axis=0), rows.max(axis=0)))
            continue
        q = graph.quant(name).qtype
        ends = np.sort(rng.integers(q.qmin, q.qmax + 1, (2, shape[-1])), axis=0)
        ends[1, ::2] = ends[0, ::2]  # constant channels
        bounds.append(Interval(ends[0], ends[1]))
        x = rng.integers(ends[0], ends[1] + 1, (12, *shape))
        x[0], x[1] = ends
        values.append(x)
    y = run(case, values)
    out = OPS[node.op].interval(graph, node, bounds).expand(y.shape[-1])
    axes = tuple(range(y.ndim - 1))
    assert np.all(out.lo <= y.min(axis=axes)), case.name
    assert np.all(out.hi >= y.max(axis=axes)), case.name


# -- compiled -------------------------------------------------------------------------------------


def check_compiled(cases: Sequence[Layer], folder: Path) -> None:
    """Each layer's C equals its integer meaning bit for bit, in every build, in place too."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    source = folder / "layers.c"
    runs = [(i, place) for i, case in enumerate(cases) for place in _places(case)]
    source.write_text(_program(cases, runs))
    values = [feeds(case, SAMPLES, seed=i) for i, case in enumerate(cases)]
    expected = [run(case, x) for case, x in zip(cases, values, strict=True)]
    fed = b"".join(_bytes(cases[i], values[i]) for i, _ in runs)
    for build, command in BUILDS.items():
        if shutil.which(command[0]) is None:
            continue
        program = folder / build
        args = [*command, *WARNINGS, f"-I{INCLUDE}", str(source), "-o", str(program)]
        made = subprocess.run(args, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr[:4000]
        done = subprocess.run([program], input=fed, capture_output=True, check=False)
        _compare(cases, runs, expected, done.stdout, build)
        assert done.returncode == 0, f"{build}: {done.stderr.decode()[:2000]}"


def _bytes(case: Layer, values: Sequence[Int]) -> bytes:
    """Sample by sample, every activation of each."""
    dtypes = [case.graph.quant(t).qtype.dtype for t in case.activations]
    return b"".join(
        x[i].astype(d).tobytes()
        for i in range(SAMPLES)
        for x, d in zip(values, dtypes, strict=True)
    )


def _compare(
    cases: Sequence[Layer],
    runs: Sequence[tuple[int, int]],
    expected: Sequence[Int],
    found: bytes,
    build: str,
) -> None:
    at = 0
    for i, place in runs:
        dtype = np.dtype(cases[i].graph.quant("y").qtype.dtype)
        end = at + expected[i].size * dtype.itemsize
        what = f"{cases[i].name} ({build}, place {place})"
        assert end <= len(found), f"{what}: the program stopped"
        y = np.frombuffer(found[at:end], dtype).reshape(expected[i].shape)
        np.testing.assert_array_equal(y, expected[i], err_msg=what)
        at = end


def _places(case: Layer) -> list[int]:
    """Where y goes: 0 its own memory, k + 1 over activation k."""
    if not OPS[case.node.op].elementwise:
        return [0]
    return [0, *(k + 1 for k, x in enumerate(case.activations) if _fits(case, x))]


def _fits(case: Layer, x: str) -> bool:
    """The memory plan may let y overwrite *x*."""
    graph = case.graph
    widths = (graph.quant(t).qtype.storage_bits for t in ("y", x))
    return graph.shape(x) == graph.shape("y") and next(widths) <= next(widths)


def _program(cases: Sequence[Layer], runs: Sequence[tuple[int, int]]) -> str:
    """Maps stdin to stdout: every run on its samples, y over operand place - 1."""
    calls = [OPS[c.node.op].calls(c.graph, c.node) for c in cases]
    lines = ["#include <stdio.h>", "#include <stdlib.h>", '#include "qcc_arith.h"', ""]
    for kernel in dict.fromkeys(call.kernel for group in calls for call in group):
        lines.append(f"#define QCC_FN {kernel.function}")
        lines += [f"#define {name} {value}" for name, value in kernel.macros]
        lines += [f'#include "{kernel.header}"', ""]
    for i, (case, (call,)) in enumerate(zip(cases, calls, strict=True)):
        lines += _layer(i, case, call.kernel.function, call.args)
    lines += ["int main(void)", "{"]
    for i, place in runs:
        lines += [
            f"    for (int i = 0; i < {SAMPLES}; i++) {{",
            f"        run{i}({place});",
            "    }",
        ]
    return "\n".join([*lines, "    return fflush(stdout);", "}"]) + "\n"


def _layer(i: int, case: Layer, function: str, args: Sequence[Arg]) -> list[str]:
    lines = []
    for arg in args:
        if isinstance(arg, CArray):
            body = ", ".join(str(int(v)) for v in np.asarray(arg.data).ravel())
            lines.append(f"static const {arg.ctype} l{i}_{arg.suffix}[] = {{ {body} }};")
    lines += [f"static void run{i}(int place)", "{"]
    sizes = {}
    for k, name in enumerate(case.activations):
        t = case.graph.tensor(name)
        sizes[f"x{k}"] = t.size
        ctype = case.graph.quant(name).qtype.ctype
        lines.append(f"    {ctype} *x{k} = malloc({t.size}U * sizeof *x{k});")
    n, ctype = case.graph.tensor("y").size, case.graph.quant("y").qtype.ctype
    lines += [f"    {ctype} *out = malloc({n}U * sizeof *out);", f"    {ctype} *y = out;"]
    for x, size in sizes.items():
        lines += [
            f"    if ((out == NULL) || ({x} == NULL) || "
            f"(fread({x}, sizeof *{x}, {size}U, stdin) != {size}U)) {{",
            "        exit(3);",
            "    }",
        ]
    for k, x in enumerate(sizes):
        lines += [f"    if (place == {k + 1}) {{", f"        y = (void *){x};", "    }"]
    lines += [
        f"    {function}({', '.join(_argument(i, arg) for arg in args)});",
        f"    (void)fwrite(y, sizeof *y, {n}U, stdout);",
        *(f"    free({x});" for x in (*sizes, "out")),
        "}",
        "",
    ]
    return lines


def _argument(i: int, arg: Arg) -> str:
    if isinstance(arg, In):
        return f"x{arg.index}"
    if isinstance(arg, Out):
        return "y"
    if isinstance(arg, CArray):
        return f"l{i}_{arg.suffix}"
    return str(arg)
