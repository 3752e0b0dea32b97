"""Weights to integers: steps, absorbed residues, proved bounds."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcc.config import SCALE_MODES, ScaleMode
from qcc.ir import QType, Quant
from qcc.ops.examples import normal
from qcc.ops.linear import RealLayer, Weights, quantize_weights

X = Quant(QType(8, signed=False), 0.02)
Y = Quant(QType(8), 0.05)
CASES = list(product(SCALE_MODES, [True, False], [8, 4, 2]))


def quantized(
    mode: ScaleMode, per_channel: bool = True, bits: int = 8, gain: float = 1.0
) -> Weights:
    w, b = normal((6, 3, 3, 4), 1, gain), normal((6,), 2, gain)
    return quantize_weights(w, b, X, Y, QType(bits), mode, per_channel)


@pytest.mark.parametrize(("mode", "per_channel", "bits"), CASES)
def test_the_factor_is_the_one_the_integers_stand_for(
    mode: ScaleMode, per_channel: bool, bits: int
) -> None:
    done = quantized(mode, per_channel, bits)
    for step, alpha in zip(done.scale, done.rescale.alphas, strict=True):
        assert alpha == pytest.approx(step * X.scalar / Y.scalar, rel=1e-8)


@pytest.mark.parametrize(("mode", "per_channel", "bits"), CASES)
def test_weights_use_their_range_and_stay_in_it(
    mode: ScaleMode, per_channel: bool, bits: int
) -> None:
    q = QType(bits)
    peaks = np.abs(quantized(mode, per_channel, bits).w).reshape(6, -1).max(axis=1)
    assert peaks.max() <= q.qmax
    # Absorbing the residue costs less than one bit.
    assert (peaks if per_channel else peaks.max()).min() >= math.floor(q.qmax / 2)


@pytest.mark.parametrize("mode", SCALE_MODES)
def test_the_weights_are_within_half_a_step(mode: ScaleMode) -> None:
    done, w = quantized(mode), normal((6, 3, 3, 4), 1)
    step = np.array(done.scale).reshape(-1, 1, 1, 1)
    assert (np.abs(done.w * step - w) <= step * (0.5 + 1e-9)).all()


def test_single_shift_has_no_multipliers_and_double_shift_two_bits() -> None:
    assert set(quantized("single-shift").rescale.mult) == {1}
    assert all(bin(m).count("1") <= 2 for m in quantized("double-shift").rescale.mult)


def test_double_shift_wastes_less_of_the_range_than_single_shift() -> None:
    single, double = (np.array(quantized(m).scale) for m in ("single-shift", "double-shift"))
    assert (double <= single * (1 + 1e-12)).all()


@pytest.mark.parametrize("mode", SCALE_MODES)
@pytest.mark.parametrize("zero_point", [0, 37, 255])
def test_the_bound_holds_for_the_worst_input(mode: ScaleMode, zero_point: int) -> None:
    x = Quant(QType(8, signed=False), 0.02, zero_point)
    w, b = normal((5, 40), 3), normal((5,), 4)
    done = quantize_weights(w, b, x, Y, QType(8), mode, True)
    worst = np.maximum(
        np.abs(done.bias + np.maximum(done.w, 0).sum(axis=1) * 255),
        np.abs(done.bias + np.minimum(done.w, 0).sum(axis=1) * 255),
    )
    assert worst.max() <= done.acc_bound < 2**31


@pytest.mark.parametrize("zero_point", [0, 100])
def test_a_zero_point_is_folded_into_the_bias(zero_point: int) -> None:
    x = Quant(QType(8, signed=False), 0.02, zero_point)
    w, b = normal((5, 40), 3), normal((5,), 4)
    done = quantize_weights(w, b, x, Y, QType(8), "fixed-point", True)
    q = np.random.default_rng(0).integers(0, 256, (40,))
    got = (done.w @ q + done.bias) * np.array(done.scale) * x.scalar
    want = w @ ((q - zero_point) * x.scalar) + b
    np.testing.assert_allclose(got, want, atol=0.5)


@given(
    gain=st.sampled_from([0.0, 1e-9, 1e-4, 1.0, 1e5]),
    offset=st.sampled_from([0.0, 1e-3, 1e3, -1e6]),
    mode=st.sampled_from(SCALE_MODES),
)
def test_wild_scales_keep_the_accumulator_proved(
    gain: float, offset: float, mode: ScaleMode
) -> None:
    w, b = normal((4, 12), 1, gain), np.full(4, offset)
    done = quantize_weights(w, b, X, Y, QType(8), mode, True)
    assert np.abs(done.w).max() <= 127
    assert done.rescale.max_product(done.acc_bound) < 2**63
    if abs(offset) <= 1e3:
        assert done.acc_bound < 2**31


def test_sixteen_bit_activations_take_a_wider_bound() -> None:
    x = Quant(QType(16), 1e-4)
    w = normal((3, 4000), 1)
    done = quantize_weights(
        w, np.zeros(3), x, Quant(QType(16), 1e-3), QType(8), "fixed-point", True
    )
    sums = np.abs(done.w).sum(axis=1) * 32767
    assert sums.max() <= done.acc_bound


@pytest.mark.parametrize("mode", SCALE_MODES)
def test_one_bit_takes_signs_at_the_nearest_step_to_the_mean_magnitude(mode: ScaleMode) -> None:
    w = normal((6, 3, 3, 4), 1)
    done = quantize_weights(w, np.zeros(6), X, Y, QType(1), mode, True)
    np.testing.assert_array_equal(done.w, np.where(w >= 0, 1, -1))
    mean = np.abs(w).reshape(6, -1).mean(axis=1)
    assert (np.abs(np.log2(np.array(done.scale) / mean)) <= 0.5 + 1e-9).all()


@pytest.mark.parametrize("mode", SCALE_MODES)
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_ranges_by_squared_error_err_no_more(mode: ScaleMode, per_channel: bool, bits: int) -> None:
    w = normal((6, 3, 3, 16), 1) ** 3  # heavy tails
    layer = RealLayer(w, np.zeros(6), X, Y, QType(bits), mode, per_channel)
    errors = []
    for clip in ("none", "mse"):
        done = layer.quantized(clip)
        step = np.array(done.scale).reshape(-1, 1, 1, 1)
        errors.append(float(((done.w * step - w) ** 2).sum()))
    assert errors[1] < 0.95 * errors[0]


@pytest.mark.parametrize("mode", SCALE_MODES)
def test_ranges_by_divergence_clip_the_tails(mode: ScaleMode) -> None:
    w = normal((4, 3, 3, 64), 1)
    w[0, 0, 0, 0] = 40.0
    layer = RealLayer(w, np.zeros(4), X, Y, QType(5), mode, True)
    whole, clipped = (layer.quantized(clip) for clip in ("none", "kl"))
    assert clipped.scale[0] < whole.scale[0]
    assert np.abs(clipped.w).max() <= QType(5).qmax


def test_sixteen_bit_weights_are_finer() -> None:
    w = normal((6, 3, 3, 4), 1)
    errors = []
    for bits in (8, 16):
        done = quantize_weights(w, np.zeros(6), X, Y, QType(bits), "single-shift", True)
        assert done.acc_bound < 1 << 31
        errors.append(np.abs(done.w * np.array(done.scale).reshape(-1, 1, 1, 1) - w).max())
    assert errors[1] < errors[0] / 64
