"""input_formats: grids of raw data, zero points, explicit padding."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from qcc.driver import output_files
from qcc.ir import Array, Quant
from qcc.ops.examples import normal
from tests.build import compiled
from tests.graphs import node, proto

CONV = {"w": normal((4, 1, 3, 3), 1), "b": normal((4,), 2)}


def padded() -> onnx.ModelProto:
    nodes = [node("Conv", "x w b", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "y")]
    return proto(nodes, (1, 1, 6, 6), constants=CONV)


def input_quant(m: onnx.ModelProto, samples: Array) -> Quant:
    graph = compiled(m, calibration={"x": samples.astype(np.float32)}).graph
    return graph.quant(graph.inputs[0])


def integers(lo: int, hi: int, count: int = 20) -> Array:
    """Raw samples with both ends present."""
    x = np.random.default_rng(0).integers(lo, hi + 1, (count, 1, 1, 6, 6))
    x[0, 0, 0, 0, :2] = lo, hi
    return x


def test_pixels_keep_their_grid_even_where_the_brightest_is_missing() -> None:
    q = input_quant(padded(), integers(0, 250))
    assert (q.scalar, q.zero_point, q.qtype.signed) == (1.0, 0, False)


def test_scaled_pixels_keep_their_grid() -> None:
    q = input_quant(padded(), integers(0, 255) / 255)
    assert q.scalar == pytest.approx(1 / 255, rel=1e-6)
    assert (q.zero_point, q.qtype.signed) == (0, False)


def test_shifted_bytes_take_a_zero_point_on_their_grid() -> None:
    raw = integers(-128, 127)
    q = input_quant(padded(), (raw - 83) * np.float32(0.5847029))
    assert q.scalar == pytest.approx(0.5847029, rel=1e-5)
    assert (q.zero_point, q.qtype.signed) == (211, False)


def test_signed_integers_stay_signed() -> None:
    q = input_quant(padded(), integers(-100, 100) * 0.25)
    assert (q.scalar, q.zero_point, q.qtype.signed) == (0.25, 0, True)


def test_a_lopsided_range_takes_a_zero_point() -> None:
    x = np.random.default_rng(1).uniform(-60, 10, (20, 1, 1, 6, 6))
    q = input_quant(padded(), x)
    assert q.zero_point > 200
    assert q.scalar == pytest.approx((x.max() - x.min()) / 255, rel=1e-5)


def test_a_balanced_range_is_symmetric() -> None:
    q = input_quant(padded(), np.random.default_rng(1).uniform(-1, 1, (20, 1, 1, 6, 6)))
    assert (q.zero_point, q.qtype.signed) == (0, True)


def test_an_input_that_an_add_reads_is_symmetric() -> None:
    nodes = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1]), node("Add", "c x", "y"),
    ]  # fmt: skip
    x = np.random.default_rng(1).uniform(-60, 10, (20, 1, 1, 6, 6))
    assert input_quant(proto(nodes, (1, 1, 6, 6), constants=CONV), x).zero_point == 0


def test_the_border_of_a_padded_convolution_reads_the_real_zero() -> None:
    x = np.random.default_rng(1).uniform(-60, 10, (20, 1, 1, 6, 6)).astype(np.float32)
    done = compiled(padded(), calibration={"x": x})
    assert [n.op for n in done.graph.nodes()][-2:] == ["pad", "conv2d"]
    assert done.sqnr_db[done.graph.outputs[0]] > 35


def test_every_text_of_out_states_the_zero_point() -> None:
    raw = integers(-128, 127)
    samples = ((raw - 83) * np.float32(0.5)).astype(np.float32)
    done = compiled(padded(), calibration={"x": samples})
    assert done.graph.quant(done.graph.inputs[0]).zero_point == 211
    files = output_files(done)
    assert "uint8_t [1][6][6], real = 0.5 * (q - 211)\n" in files["m.h"]
    assert "[8][8][1] uint8_t, real = 0.5 * (y - 211)\n" in files["m.c"]  # the padded input
    manifest = json.loads(files["manifest.json"])
    assert manifest["inputs"][0]["zero_point"] == 211
    assert [layer["zero_point"] for layer in manifest["layers"]] == [211, 0]


def test_inputs_with_a_zero_point_cost_no_accuracy_in_a_dense_network() -> None:
    constants = {"w": normal((8, 5), 1), "b": normal((5,), 2)}
    nodes = [node("Gemm", "x w b", "y")]
    x = np.random.default_rng(1).uniform(-60, 10, (20, 1, 8)).astype(np.float32)
    done = compiled(proto(nodes, (1, 8), constants=constants), calibration={"x": x})
    assert done.graph.quant("x").zero_point > 200
    assert done.sqnr_db["y"] > 38
