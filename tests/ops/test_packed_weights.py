"""Weights of 1 to 7 bits lie densely packed in flash; the C reads them bit for bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcc.codegen.tables import table_bytes, tables
from qcc.config import SCALE_MODES, ScaleMode
from qcc.ir import Graph, Node, QType
from qcc.ops import OPS, Op
from qcc.ops.base import Call
from qcc.ops.kernels import CWeights
from qcc.packing import packed_size, unpack
from tests.ops.kernel_harness import Case, check_compiled, quantized

LINEAR = ("conv2d", "conv_transpose2d", "dense")
NARROW = range(1, 8)


def repacked(proto: onnx.ModelProto, op: type[Op], mode: ScaleMode, bits: int) -> Case:
    """The only layer of *op* in a small model, with random weights over all of *bits* bits."""
    graph = quantized(proto, mode, unsigned=bits % 2 == 0)
    (node,) = (n for n in graph.nodes() if n.op == op.name)
    tensor = graph.tensor(node.inputs[1])
    assert tensor.quant is not None
    q = QType(bits)
    rng = np.random.default_rng(bits)
    w = (
        rng.choice([-1, 1], tensor.shape)
        if bits == 1
        else rng.integers(q.qmin, q.qmax + 1, tensor.shape)
    )
    w.ravel()[0], w.ravel()[-1] = q.qmax, q.qmin
    tensor.data = w
    tensor.quant = dataclasses.replace(tensor.quant, qtype=q)
    _prove(graph, node)
    return Case(f"{proto.graph.name}-{mode}-w{bits}", graph, node)


def _prove(graph: Graph, node: Node) -> None:
    x = graph.quant(node.inputs[0]).qtype
    w, b = (graph.constant(t).astype(np.int64) for t in node.inputs[1:3])
    sums = np.abs(w).reshape(len(w), -1).sum(axis=1) * max(-x.qmin, x.qmax)
    node.update(acc_bound=int((sums + np.abs(b)).max()))


def call_of(case: Case) -> Call:
    (call,) = OPS[case.node.op].calls(case.graph, case.node)
    return call


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("bits", NARROW)
def test_c_equals_the_reference(name: str, bits: int, tmp_path: Path) -> None:
    op = OPS[name]
    cases = [
        repacked(proto, op, SCALE_MODES[i % len(SCALE_MODES)], bits)
        for i, proto in enumerate(op.examples())
        if any(node.op_type in op.onnx_types for node in proto.graph.node)
    ]
    assert all(call_of(c).kernel.header.endswith("_packed.h") for c in cases)
    check_compiled(cases, tmp_path)


@pytest.mark.parametrize("bits", NARROW)
def test_the_table_is_as_small_as_its_bits(bits: int) -> None:
    q = QType(bits)
    w = np.resize([q.qmin, q.qmax], (3, 5, 7))
    weights = CWeights(w, q, "[a][b][c]")
    assert weights.table.ctype == "uint8_t"
    spare = 0 if 8 % bits == 0 else 1
    assert weights.table.data.size == packed_size(w.size, bits) + spare
    found = unpack(weights.table.data, bits, w.size)
    np.testing.assert_array_equal(found.reshape(w.shape), w)


@pytest.mark.parametrize("bits", [8, 16])
def test_whole_bytes_stay_as_they_are(bits: int) -> None:
    q = QType(bits)
    w = np.array([[q.qmin, q.qmax]])
    weights = CWeights(w, q, "[a][b]")
    assert weights.table.data is w
    assert weights.table.ctype == f"int{bits}_t"
    assert weights.header("qcc_dense.h") == "qcc_dense.h"
    assert not weights.constants


def test_half_the_bits_take_half_the_flash() -> None:
    (proto,) = (m for m in OPS["dense"].examples() if m.graph.name == "gemm_nobias")
    bytes_of = {}
    for bits in (7, 4, 2, 1):
        call = call_of(repacked(proto, OPS["dense"], "single-shift", bits))
        others = sum(t.data.nbytes for t in tables([call]) if t.suffix != "w")
        assert others > 0
        bytes_of[bits] = next(int(t.data.size) for t in tables([call]) if t.suffix == "w")
        assert table_bytes([call]) > bytes_of[bits]
    assert bytes_of == {7: 290, 4: 165, 2: 83, 1: 42}
