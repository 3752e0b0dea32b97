"""What the tests of one operator need: a graph of one example, its integers, its compiled kernel.

Independent of the frontend, the passes and the emitter, so that a failure here is the operator's.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcc import reference
from qcc.builder import Builder
from qcc.config import SCALE_MODES, Config, ScaleMode
from qcc.ir import Array, Graph, Int, Node, QType, Quant
from qcc.ops import ONNX_OPS, OPS, Op
from qcc.ops.base import Arg, Call, CArray, In, Interval, Out, QuantContext

INCLUDE = Path(__file__).parents[2] / "runtime_c" / "include"
WARNINGS = (
    "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow",
    "-Wdouble-promotion", "-Werror",
)  # fmt: skip
BUILDS = {
    "gcc": ("gcc", "-O2"),
    "sanitized": ("gcc", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "clang": ("clang", "-fsyntax-only"),
}


# -- graphs ---------------------------------------------------------------------------------------


def read(proto: onnx.ModelProto) -> Graph:
    """The float graph of a small model, as the operators read it."""
    constants = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    values = [*proto.graph.input, *proto.graph.output, *proto.graph.value_info]
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
    shapes |= {name: data.shape for name, data in constants.items()}
    graph = Graph(proto.graph.name)
    builder = Builder(graph, proto.opset_import[0].version, constants, shapes)
    for value in proto.graph.input:
        builder.add_input(value.name, shapes[value.name])
    for i, node in enumerate(proto.graph.node):
        builder.begin(node, f"{node.op_type}_{i}")
        ONNX_OPS[node.op_type].read(builder, node)
    graph.outputs = [builder.tensor(value.name) for value in proto.graph.output]
    graph.verify()
    return graph


def samples(graph: Graph, count: int = 4, seed: int = 0) -> dict[str, Array]:
    """Normally distributed values of every graph input, (count, *shape)."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=(count, *graph.shape(name))).astype(np.float32)
        for name in graph.inputs
    }


def run_onnx(proto: onnx.ModelProto, inputs: dict[str, Array]) -> Array:
    """The model's first output by onnxruntime, (samples, *shape)."""
    import onnxruntime as ort

    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    count = len(next(iter(inputs.values())))
    feeds = [{name: x[i] for name, x in inputs.items()} for i in range(count)]
    return np.stack([np.asarray(session.run(None, feed)[0]) for feed in feeds])


def quantized(
    proto: onnx.ModelProto,
    mode: ScaleMode,
    bits: int = 8,
    *,
    honour: bool = True,
    unsigned: bool = False,
) -> Graph:
    """The integer graph of a small model; scales from the largest value seen.

    Args:
        proto: the model.
        mode: of rescaling.
        bits: of activations.
        honour: choose the output scales that ``Op.relation`` asks for in the shift modes.
        unsigned: feed values that are never negative, and hold them unsigned.
    """
    graph = read(proto)
    fed = samples(graph)
    if unsigned:
        fed = {name: np.abs(x) for name, x in fed.items()}
    values = reference.run_float(graph, fed)
    for name in graph.inputs:
        graph.tensor(name).quant = _fitting(values[name], bits)
    ctx = QuantContext(Config(scale=mode, act_bits=bits), 8)
    for node in list(graph.nodes()):
        y, op = graph.tensor(node.output), OPS[node.op]
        if op.same_scale:
            y.quant = graph.quant(node.inputs[0])
        else:
            y.quant = _fitting(values[y.name], bits)
            if honour and mode != "fixed-point":
                y.quant = _related(graph, node, y.quant)
        op.quantize(graph, node, ctx)
    graph.verify()
    return graph


def _fitting(values: Array, bits: int) -> Quant:
    qtype = QType(bits, signed=bool(values.min() < 0) or bits == 16)
    return Quant(qtype, float(np.abs(values).max()) / qtype.qmax)


def _related(graph: Graph, node: Node, wanted: Quant) -> Quant:
    relation = OPS[node.op].relation(graph, node)
    if relation is None:
        return wanted
    unit = relation.factor * graph.quant(node.inputs[0]).scalar
    return Quant(wanted.qtype, unit * 2.0 ** math.ceil(math.log2(wanted.scalar / unit)))


def random_inputs(graph: Graph, node: Node, count: int = 6, seed: int = 0) -> Int:
    """Values of the node's first input over its whole format; the first two are its extremes."""
    q = graph.quant(node.inputs[0]).qtype
    shape = (count, *graph.shape(node.inputs[0]))
    x = np.random.default_rng(seed).integers(q.qmin, q.qmax + 1, shape)
    x[0], x[1] = q.qmin, q.qmax
    return x


def run_node(graph: Graph, node: Node, x: Int) -> Int:
    """The integer meaning of *node* on values of its first input."""
    constants = [graph.constant(t).astype(np.int64) for t in node.inputs[1:]]
    return OPS[node.op].run_int(graph, node, [x, *constants])


# -- what holds for every operator ----------------------------------------------------------------


def check_float(op: type[Op]) -> None:
    """Every example means what onnxruntime says, and its range holds."""
    for proto in op.examples():
        graph = read(proto)
        fed = samples(graph)
        expected = run_onnx(proto, fed)
        found = reference.run_float(graph, fed)[graph.outputs[0]]
        np.testing.assert_allclose(found, expected, 1e-4, 1e-5, err_msg=proto.graph.name)
        assert found.dtype == np.float32, proto.graph.name


@dataclass(frozen=True, slots=True)
class Case:
    """One layer to compile and compare."""

    name: str
    graph: Graph
    node: Node


def cases(op: type[Op]) -> Iterator[Case]:
    """Every example in every mode, at three widths, with and without honoured scales."""
    for proto in op.examples():
        for mode in SCALE_MODES:
            yield from _cases_of(op, proto, mode, 8)
        yield from _cases_of(op, proto, "single-shift", 8, honour=False)
        yield from _cases_of(op, proto, "single-shift", 8, unsigned=True)
        yield from _cases_of(op, proto, "double-shift", 4, honour=False)
        yield from _cases_of(op, proto, "fixed-point", 16)


def _cases_of(
    op: type[Op], proto: onnx.ModelProto, mode: ScaleMode, bits: int, **options: bool
) -> Iterator[Case]:
    graph = quantized(proto, mode, bits, **options)
    label = "-".join([proto.graph.name, mode, str(bits), *(f"{k}={v}" for k, v in options.items())])
    for node in graph.nodes():
        if node.op == op.name:
            yield Case(label, graph, node)


def check_rounding(case: Case) -> None:
    """The integers are the float meaning of the integer weights, rounded to nearest."""
    graph, node = case.graph, case.node
    x = random_inputs(graph, node)
    q = graph.quant(node.output)
    real = [x * graph.quant(node.inputs[0]).scalar]
    for name in node.inputs[1:]:
        quant, data = graph.quant(name), graph.constant(name)
        scale = np.asarray(quant.scale, np.float64).reshape(-1, *[1] * (data.ndim - 1))
        real.append(data * scale if quant.axis == 0 else data * float(scale.ravel()[0]))
    exact = np.asarray(_float64(node, real)) / q.scalar
    found = run_node(graph, node, x)
    error = np.abs(found - np.clip(exact, *node.attrs.clip))
    assert error.max() <= 0.51, f"{case.name}: {error.max()} steps off"


def _float64(node: Node, inputs: Sequence[Array]) -> Array:
    """The float meaning; float32 is exact enough for sums of 16-bit values only in part."""
    return OPS[node.op].run_float(node.attrs, [np.asarray(v, np.float64) for v in inputs])


def check_interval(case: Case, seed: int = 0) -> None:
    """Outputs of inputs within per-channel bounds stay within the bounds it derives."""
    graph, node = case.graph, case.node
    rng = np.random.default_rng(seed)
    q = graph.quant(node.inputs[0]).qtype
    channels = graph.shape(node.inputs[0])[-1]
    ends = np.sort(rng.integers(q.qmin, q.qmax + 1, (2, channels)), axis=0)
    ends[1, ::2] = ends[0, ::2]  # constant channels
    bounds = Interval(ends[0], ends[1])
    shape = (12, *graph.shape(node.inputs[0]))
    x = rng.integers(bounds.lo, bounds.hi + 1, shape)
    x[0], x[1] = bounds.lo, bounds.hi
    y = run_node(graph, node, x)
    out = OPS[node.op].interval(graph, node, [bounds]).expand(y.shape[-1])
    axes = tuple(range(y.ndim - 1))
    assert np.all(out.lo <= y.min(axis=axes)), case.name
    assert np.all(out.hi >= y.max(axis=axes)), case.name
    assert np.all(out.lo <= out.hi), case.name


# -- compiled -------------------------------------------------------------------------------------


def check_compiled(layers: Sequence[Case], folder: Path, calls: Sequence[Call] = ()) -> None:
    """Each layer's C equals its integer meaning bit for bit, in every build.

    Args:
        layers: what to compare.
        folder: for the program.
        calls: one call per layer, in place of the operator's own.
    """
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    given = calls or [_only(OPS[c.node.op].calls(c.graph, c.node)) for c in layers]
    source = folder / "layers.c"
    source.write_text(_program(layers, given))
    for build, command in BUILDS.items():
        if shutil.which(command[0]) is None:
            continue
        program = folder / build
        args = [*command, *WARNINGS, f"-I{INCLUDE}", str(source), "-o", str(program)]
        made = subprocess.run(args, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr[:4000]
        if "-fsyntax-only" in command:  # for its warnings
            continue
        for i, case in enumerate(layers):
            _compare(program, i, case)


def _only(calls: Sequence[Call]) -> Call:
    (call,) = calls
    return call


def _compare(program: Path, index: int, case: Case) -> None:
    graph, node = case.graph, case.node
    x = random_inputs(graph, node, seed=index)
    expected = run_node(graph, node, x)
    raw = x.astype(graph.quant(node.inputs[0]).qtype.dtype).tobytes()
    run = subprocess.run(
        [program, str(index), str(len(x))], input=raw, capture_output=True, check=False
    )
    assert run.returncode == 0, f"{case.name} ({program.name}): {run.stderr.decode()[:2000]}"
    found = np.frombuffer(run.stdout, graph.quant(node.output).qtype.dtype)
    np.testing.assert_array_equal(
        found.reshape(expected.shape), expected, err_msg=f"{case.name} ({program.name})"
    )


def _program(layers: Sequence[Case], calls: Sequence[Call]) -> str:
    """A C program: ``layers INDEX SAMPLES`` maps standard input to standard output."""
    lines = ["#include <stdio.h>", "#include <stdlib.h>", '#include "qcc_arith.h"', ""]
    for kernel in dict.fromkeys(call.kernel for call in calls):
        lines.append(f"#define QCC_FN {kernel.function}")
        lines += [f"#define {name} {value}" for name, value in kernel.macros]
        lines += [f'#include "{kernel.header}"', ""]
    for i, (case, call) in enumerate(zip(layers, calls, strict=True)):
        lines += _layer(i, case, call)
    lines += [
        "int main(int argc, char **argv)",
        "{",
        "    const int layer = (argc > 2) ? atoi(argv[1]) : -1;",
        "    int samples = (argc > 2) ? atoi(argv[2]) : 0;",
        "    for (; samples > 0; samples--) {",
        "        switch (layer) {",
        *(f"        case {i}: run{i}(); break;" for i in range(len(layers))),
        "        default: return 2;",
        "        }",
        "    }",
        "    return 0;",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _layer(i: int, case: Case, call: Call) -> list[str]:
    graph, node = case.graph, case.node
    x, y = graph.tensor(node.inputs[0]), graph.tensor(node.output)
    lines = []
    for arg in call.args:
        if isinstance(arg, CArray):
            body = ", ".join(str(int(v)) for v in np.asarray(arg.data).ravel())
            lines.append(f"static const {arg.ctype} l{i}_{arg.suffix}[] = {{ {body} }};")
    x_type, y_type = (graph.quant(t.name).qtype.ctype for t in (x, y))
    args = ", ".join(_argument(i, arg) for arg in call.args)
    return [
        *lines,
        f"static void run{i}(void)",
        "{",
        f"    {x_type} *x = malloc({x.size}U * sizeof *x);",
        f"    {y_type} *y = malloc({y.size}U * sizeof *y);",
        "    if ((x == NULL) || (y == NULL) ||",
        f"        (fread(x, sizeof *x, {x.size}U, stdin) != {x.size}U)) {{",
        "        exit(3);",
        "    }",
        f"    {call.kernel.function}({args});",
        f"    (void)fwrite(y, sizeof *y, {y.size}U, stdout);",
        "    free(x);",
        "    free(y);",
        "}",
        "",
    ]


def _argument(i: int, arg: Arg) -> str:
    if isinstance(arg, In):
        return "x"
    if isinstance(arg, Out):
        return "y"
    if isinstance(arg, CArray):
        return f"l{i}_{arg.suffix}"
    return str(arg)
