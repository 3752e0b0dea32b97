"""Histograms: exact counting, and thresholds that are what they say."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qcc.config import THRESHOLDS
from qcc.errors import QccError, UsageError
from qcc.histogram import BINS, ZERO_THRESHOLD, Histogram, mse, threshold
from qcc.ir import Array, QType

I8, U8 = QType(8), QType(8, signed=False)

values = arrays(
    np.float32,
    st.integers(0, 30),
    elements=st.one_of(
        st.floats(-8, 8, width=32), st.floats(-1e6, 1e6, width=32), st.sampled_from([0.0, -0.0])
    ),
)


def histogram(batches: Sequence[Array]) -> Histogram:
    hist = Histogram("t")
    for batch in batches:
        hist.update(batch)
    return hist


def state(hist: Histogram) -> tuple[object, ...]:
    """All but the sums, which are floats."""
    return hist.exponent, hist.counts.tolist(), hist.zeros, hist.count, hist.min, hist.max


def normal(size: int = 100_000, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def squared_error(x: Array, scale: float, qtype: QType) -> float:
    """By definition, value by value."""
    wide = x.astype(np.float64)
    level = np.clip(np.floor(wide / scale + 0.5), qtype.qmin, qtype.qmax)
    if qtype.bits == 1:
        level = np.where(wide < 0, -1, 1)
    return float(((wide - scale * level) ** 2).mean())


# -- counting -----------------------------------------------------------------------------------


@given(st.lists(values, max_size=5))
@settings(deadline=None)
def test_grouping_of_updates_does_not_matter(batches: list[Array]) -> None:
    at_once = histogram([np.concatenate([np.zeros(0, np.float32), *batches])])
    assert state(histogram(batches)) == state(at_once)
    merged = Histogram("t")
    for batch in batches:
        merged.merge(histogram([batch]))
    assert state(merged) == state(at_once)
    assert merged.total == pytest.approx(at_once.total, rel=1e-9, abs=1e-3)
    assert merged.squares == pytest.approx(at_once.squares, rel=1e-9)


def test_subnormal_values_keep_their_sign_in_any_range() -> None:
    tiny, large = np.array([-1e-45], np.float32), np.array([4096.0], np.float32)
    assert state(histogram([tiny, large])) == state(histogram([large, tiny]))


@given(values.filter(len))
@settings(deadline=None)
def test_every_value_is_counted_in_its_bin(x: Array) -> None:
    hist = histogram([x])
    assert hist.counts.sum() + hist.zeros == hist.count == x.size
    assert (hist.min, hist.max) == (x.min(), x.max())
    for v in x[x != 0].tolist():
        assert hist.counts[math.floor(v / hist.width) + BINS] > 0
    if hist.peak >= 2.0**-64:
        assert BINS / 2 <= hist.peak / hist.width < BINS


def test_merge_leaves_the_other_alone() -> None:
    one, other = (
        histogram([np.array([100.0], np.float32)]),
        histogram([np.array([1.0], np.float32)]),
    )
    before = state(other)
    one.merge(other)
    other.merge(histogram([np.array([7.0], np.float32)]))
    assert state(histogram([np.array([1.0], np.float32)])) == before
    assert one.count == 2
    assert one.counts.sum() == 2


def test_range_may_grow_by_any_factor() -> None:
    hist = histogram([np.array([1e-15, -1e-15], np.float32), np.array([3e38], np.float32)])
    assert hist.counts[BINS] == 1
    assert hist.counts[BINS - 1] == 1
    assert hist.counts.sum() == 3


def test_integers_and_any_shape_are_counted() -> None:
    hist = histogram([np.arange(-4, 4).reshape(2, 2, 2)])
    assert (hist.count, hist.zeros, hist.min, hist.max) == (8, 1, -4.0, 3.0)
    assert hist.mean_square == 5.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_the_name_of_the_tensor(bad: float) -> None:
    with pytest.raises(QccError, match=r"tensor 't'.* NaN or infinity"):
        histogram([np.array([1.0, bad], np.float32)])


# -- squared error ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "qtype", [I8, QType(4), QType(2), QType(1), QType(16), QType(8, narrow=False)]
)
@pytest.mark.parametrize("share", [0.2, 0.7, 1.0, 1.5])
def test_mse_is_the_squared_error(qtype: QType, share: float) -> None:
    x = normal()
    hist = histogram(np.array_split(x, 7))
    scale = share * hist.peak / qtype.qmax
    assert mse(hist, scale, qtype) == pytest.approx(squared_error(x, scale, qtype), rel=0.004)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_mse_of_unsigned_formats_counts_what_is_negative(bits: int) -> None:
    qtype = QType(bits, signed=False)
    x = np.maximum(normal(), -0.3)
    hist = histogram([x])
    scale = 3.0 / qtype.qmax
    assert mse(hist, scale, qtype) == pytest.approx(squared_error(x, scale, qtype), rel=0.004)


def test_binary_format_has_no_zero() -> None:
    hist = histogram([np.zeros(5, np.float32), np.array([3.0], np.float32)])
    assert mse(hist, 1.0, QType(1)) == pytest.approx((5 * 1 + 4) / 6, rel=1e-3)


def test_mse_of_zeros_is_zero() -> None:
    assert mse(histogram([np.zeros(5, np.float32)]), 0.1, I8) == 0.0
    assert mse(Histogram(), 0.1, I8) == 0.0


# -- thresholds ---------------------------------------------------------------------------------


def best_by_search(x: Array, qtype: QType) -> float:
    """Least squared error over a fine grid of thresholds, value by value."""
    grid = np.linspace(0.01, 1.0, 200) * float(np.abs(x).max())
    return min(squared_error(x, t / qtype.qmax, qtype) for t in grid)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", ["normal", "laplace", "relu", "outlier"])
def test_mse_threshold_is_as_good_as_a_search(bits: int, kind: str) -> None:
    x = normal(20_000)
    if kind == "laplace":
        x = np.random.default_rng(1).laplace(size=20_000).astype(np.float32)
    if kind == "relu":
        x = np.maximum(x, 0)
    if kind == "outlier":
        x[0] = 40.0
    qtype = QType(bits, signed=kind != "relu")
    t = threshold(histogram([x]), "mse", qtype)
    assert squared_error(x, t / qtype.qmax, qtype) <= 1.02 * best_by_search(x, qtype)


def test_mse_threshold_finds_the_grid_of_the_values() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, 50_000).astype(np.float32)
    assert threshold(histogram([pixels]), "mse", U8) == 255.0


def test_max_threshold_clips_nothing() -> None:
    hist = histogram([np.array([-3.0, 2.0], np.float32)])
    assert threshold(hist, "max", I8) == 3.0
    assert threshold(hist, "max", U8) == 2.0


@pytest.mark.parametrize("share", [50.0, 90.0, 99.0, 99.9])
def test_percentile_threshold_keeps_that_share(share: float) -> None:
    x = normal()
    x[:30_000] = 0.0
    hist = histogram(np.array_split(x, 3))
    signed = float(np.percentile(np.abs(x), share))
    assert threshold(hist, "percentile", I8, share) == pytest.approx(signed, rel=0.01, abs=2e-3)
    unsigned = float(np.percentile(x, share))
    if unsigned > 0.1:
        assert threshold(hist, "percentile", U8, share) == pytest.approx(unsigned, rel=0.01)


def test_percentile_threshold_is_finer_than_a_bin() -> None:
    hist = histogram([np.linspace(0.0, 1.0, 1_000_001, dtype=np.float32)])
    found = threshold(hist, "percentile", U8, 50.003)
    assert found == pytest.approx(0.50003, abs=hist.width / 20)


def test_percentile_of_all_is_the_maximum() -> None:
    hist = histogram([normal()])
    assert threshold(hist, "percentile", I8, 100.0) == pytest.approx(hist.peak, abs=hist.width)


def test_percentile_keeps_what_is_rare_among_zeros() -> None:
    x = np.zeros(1_000_000, np.float32)
    x[:3] = [1.0, 2.0, 5.0]
    assert threshold(histogram([x]), "percentile", U8, 99.99) == 5.0


@pytest.mark.parametrize("percentile", [0.0, -1.0, 100.5, math.nan])
def test_percentile_is_checked(percentile: float) -> None:
    with pytest.raises(UsageError, match="--percentile"):
        threshold(histogram([normal(10)]), "percentile", I8, percentile)


def divergence(x: Array, t: float, levels: int) -> float:
    """KL(P || Q) as ``_kl_threshold`` defines it, straight from the definition."""
    hist = histogram([x])
    counts = hist.counts[BINS:] + hist.counts[:BINS][::-1]
    kept = {i: int(counts[i]) for i in np.flatnonzero(counts).tolist() if i * hist.width <= t}
    if len(kept) <= levels:
        return math.inf
    at = {i: int(min(math.floor((i + 0.5) * hist.width / t * levels + 0.5), levels)) for i in kept}
    total, inside, result = int(counts.sum()), sum(kept.values()), 0.0
    for i, level in at.items():
        same = [j for j, other in at.items() if other == level]
        q = sum(kept[j] for j in same) / len(same) / inside
        p = (kept[i] + (total - inside if i == max(kept) else 0)) / total
        result += p * math.log(p / q)
    return result


def test_kl_threshold_has_the_least_divergence() -> None:
    x = np.random.default_rng(3).laplace(size=2_000).astype(np.float32)
    qtype = QType(4)
    t = threshold(histogram([x]), "kl", qtype)
    peak = float(np.abs(x).max())
    grid = [divergence(x, float(s) * peak, qtype.qmax) for s in np.linspace(0.05, 1.0, 24)]
    assert 0.0 <= divergence(x, t, qtype.qmax) <= min(grid) + 1e-9
    assert t < peak


@pytest.mark.parametrize("samples", [500, 3_000, 100_000])
@pytest.mark.parametrize("shape", ["uniform", "normal", "clusters"])
def test_kl_threshold_does_not_clip_what_is_common(shape: str, samples: int) -> None:
    rng = np.random.default_rng(samples)
    x = rng.uniform(-1, 1, samples) if shape == "uniform" else rng.normal(size=samples)
    if shape == "clusters":
        x = np.where(rng.random(samples) < 0.5, -3.0, 1.0) + 0.1 * x
    hist = histogram([x.astype(np.float32)])
    noise = mse(hist, threshold(hist, "kl", I8) / I8.qmax, I8)
    assert 10 * math.log10(hist.mean_square / noise) > 25


def test_kl_threshold_is_the_maximum_where_every_bin_has_a_level() -> None:
    hist = histogram([normal()])
    assert threshold(hist, "kl", QType(16)) == hist.peak


@pytest.mark.parametrize("method", THRESHOLDS)
@pytest.mark.parametrize("qtype", [I8, U8, QType(2), QType(16), QType(1)])
def test_every_threshold_is_positive_and_no_more_than_the_peak(method: str, qtype: QType) -> None:
    cases: list[Array] = [
        normal(1000),
        normal(1000) * 1e-12,
        normal(1000) * 1e12,
        np.array([5.0], np.float32),
    ]
    for x in cases:
        hist = histogram([x])
        found = threshold(hist, next(m for m in THRESHOLDS if m == method), qtype)
        assert 0.0 < found <= hist.peak


@pytest.mark.parametrize("method", THRESHOLDS)
def test_tensors_without_a_range_get_the_default(method: str) -> None:
    name = next(m for m in THRESHOLDS if m == method)
    assert threshold(histogram([np.zeros(9, np.float32)]), name, I8) == ZERO_THRESHOLD
    assert threshold(histogram([np.array([-1.0], np.float32)]), name, U8) == ZERO_THRESHOLD
    assert threshold(Histogram(), name, I8) == ZERO_THRESHOLD


def test_speed_is_far_from_being_a_concern() -> None:
    """Ten times slower than measured (4 ns a value, 2 ms a threshold) fails: the margin is load."""
    x, hist = normal(1_000_000), Histogram()
    start = time.process_time()
    for _ in range(5):
        hist.update(x)
    for method in THRESHOLDS:
        threshold(hist, method, I8)
    assert time.process_time() - start < 1.0
