"""assign_scales: signs, shared scales, and the powers of two of the shift modes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from qcc.config import SCALE_MODES, ScaleMode
from qcc.ir import Array
from qcc.ops.examples import normal
from tests.build import calibration, compiled
from tests.graphs import node, proto

CONV = {"w": normal((4, 3, 3, 3), 1), "v": normal((4, 4, 3, 3), 2)}


def residual() -> onnx.ModelProto:
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]), node("Relu", "a", "r"),
        node("Conv", "r v", "b", pads=[1, 1, 1, 1]),
        node("Add", "r b", "s"), node("Relu", "s", "t"),
        node("GlobalAveragePool", "t", "y"),
    ]  # fmt: skip
    return proto(nodes, (1, 3, 7, 7), constants=CONV)


def scales(m: onnx.ModelProto, mode: ScaleMode) -> dict[str, float]:
    graph = compiled(m, scale=mode).graph
    return {t.name: graph.quant(t.name).scalar for t in graph.tensors() if t.data is None}


def octaves(a: float, b: float) -> float:
    """Distance of a / b from a power of two, in octaves."""
    v = math.log2(a / b)
    return abs(v - round(v))


@pytest.mark.parametrize("mode", ["single-shift", "double-shift"])
def test_operands_of_an_add_differ_by_powers_of_two(mode: ScaleMode) -> None:
    s = scales(residual(), mode)
    assert octaves(s["r"], s["t"]) < 1e-12
    assert octaves(s["b"], s["t"]) < 1e-12


def test_a_mean_over_49_differs_by_49_and_a_power_of_two() -> None:
    s = scales(residual(), "single-shift")
    (mean,) = {v for k, v in s.items() if k.startswith("y")}
    assert octaves(s["t"] / 49, mean) < 1e-12


def test_every_add_and_mean_is_a_pure_shift() -> None:
    done = compiled(residual(), scale="single-shift")
    for n in done.graph.nodes():
        rescale = getattr(n.attrs, "rescale", None)
        if rescale is not None:
            assert rescale.mode == "single-shift", n.op


def test_fixed_point_takes_the_thresholds_as_they_are() -> None:
    m = residual()
    done = compiled(m, scale="fixed-point", threshold="max")
    graph = done.graph
    t = graph.quant("t")
    peak = float(_float_values(m, "t").max())
    assert t.scalar == pytest.approx(peak / 255, rel=1e-6)


def _float_values(m: onnx.ModelProto, name: str) -> Array:
    from qcc.frontend.float_model import FloatModel

    model = FloatModel(m, [name], {})
    samples = calibration(m)["x"]
    return np.stack([model.run({"x": x})[name] for x in samples])


def test_what_cannot_be_negative_is_unsigned() -> None:
    graph = compiled(residual()).graph
    assert not graph.quant("t").qtype.signed
    assert not graph.quant("r").qtype.signed
    assert graph.quant("b").qtype.signed
    assert graph.quant("x").qtype.signed


def test_a_nonnegative_input_is_unsigned_and_keeps_its_own_scale() -> None:
    m = residual()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (10, 1, 3, 7, 7)).astype(np.float32)
    pixels[0, 0, 0, 0, 0] = 255
    for mode in SCALE_MODES:
        graph = compiled(m, calibration={"x": pixels}, scale=mode).graph
        x = graph.quant(graph.inputs[0])
        assert (x.qtype.signed, x.scalar) == (False, 1.0)


def test_a_concat_of_signed_and_unsigned_is_signed() -> None:
    nodes = [
        node("Conv", "x w", "a"), node("Relu", "a", "r"), node("Concat", "a r", "y", axis=1),
    ]  # fmt: skip
    graph = compiled(proto(nodes, (1, 3, 6, 6), constants=CONV)).graph
    quants = {graph.quant(t) for t in ("r", *graph.outputs)}
    assert len(quants) == 1
    assert quants.pop().qtype.signed


def test_softmax_beside_other_values_in_a_concat_is_rescaled() -> None:
    nodes = [
        node("Conv", "x w", "a"), node("Softmax", "a", "p", axis=1),
        node("Concat", "p a", "y", axis=1),
    ]  # fmt: skip
    done = compiled(proto(nodes, (1, 3, 6, 6), constants=CONV))
    assert "unary" in [n.op for n in done.graph.nodes()]
    assert done.sqnr_db[done.graph.outputs[0]] > 25


def test_softmax_behind_a_slice_is_rescaled_for_a_concat() -> None:
    """Random seed 735: the input took the softmax's 1/255, and saturated."""
    nodes = [
        node("Softmax", "x", "p", axis=1), node("Slice", "p lo hi ax", "q"),
        node("Concat", "q x", "y", axis=1),
    ]  # fmt: skip
    constants = {k: np.array([v], np.int64) for k, v in (("lo", 1), ("hi", 3), ("ax", 1))}
    done = compiled(proto(nodes, (1, 4), constants=constants), scale="fixed-point")
    assert done.sqnr_db[done.graph.inputs[0]] > 35


def test_a_small_operand_of_a_concat_keeps_its_scale_for_others() -> None:
    """Random seed 156: the input took the scale of values a thousand times as large."""
    nodes = [
        node("MatMul", "x w", "big"), node("Concat", "big x", "y", axis=1), node("Tanh", "x", "z"),
    ]  # fmt: skip
    constants = {"w": 1000 * normal((4, 4))}
    done = compiled(proto(nodes, (1, 4), "y z", constants))
    assert all(done.sqnr_db[t] > 30 for t in (*done.graph.inputs, *done.graph.outputs))


def test_operands_of_like_size_share_a_scale_without_a_copy() -> None:
    nodes = [
        node("MatMul", "x w", "a"), node("Concat", "a x", "y", axis=1), node("Tanh", "a", "z"),
    ]  # fmt: skip
    done = compiled(proto(nodes, (1, 4), "y z", {"w": normal((4, 4))}))
    assert [n.op for n in done.graph.nodes()].count("unary") == 1


def test_a_tensor_that_is_always_zero_leaves_the_scale_to_others() -> None:
    """Random seed 51: the threshold of nothing, 1, was taken for the group's."""
    nodes = [
        node("MatMul", "x w", "a"), node("Relu", "a", "r"),
        node("Slice", "r lo hi ax", "none"), node("Slice", "r hi end ax", "some"),
        node("Tanh", "none", "y"), node("Tanh", "some", "z"),
    ]  # fmt: skip
    constants = {
        "w": np.hstack([-np.ones((4, 2)), np.ones((4, 2))]).astype(np.float32) * 1e-4,
        **{k: np.array([v], np.int64) for k, v in (("lo", 0), ("hi", 2), ("end", 4), ("ax", 1))},
    }  # fmt: skip
    data = {"x": np.random.default_rng(0).uniform(0, 1, (16, 1, 4)).astype(np.float32)}
    done = compiled(proto(nodes, (1, 4), "y z", constants), calibration=data)
    assert done.sqnr_db[done.graph.outputs[1]] > 35


def test_sixteen_bit_activations_are_signed() -> None:
    graph = compiled(residual(), act_bits=16).graph
    assert {graph.quant(t.name).qtype.bits for t in graph.tensors() if t.data is None} == {16}
    assert graph.quant("t").qtype.signed
