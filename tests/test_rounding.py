"""rounding: the integers with the least error of the output, against all there are."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from qcc import rounding
from qcc.ir import Array, QType
from qcc.ops import OPS
from qcc.ops.linear import nearest
from qcc.passes.fold_batchnorm import LINEAR
from qcc.passes.manager import run_passes
from qcc.passes.pipeline import FLOAT
from qcc.reference import run_float
from tests.graphs import CONFIG
from tests.ops.test_every_op import MODELS


def layer(
    taps: int, groups: int = 1, out: int = 3, rows: int = 400, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Weights (groups, out, taps), correlated inputs (groups, rows, taps), outputs."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(groups, out, taps))
    x = rng.normal(size=(groups, rows, taps)) @ rng.normal(size=(groups, taps, taps)) + 1.0
    return w, x, x @ w.transpose(0, 2, 1)


def moments(x: Array, y: Array, centred: bool = False) -> rounding.Moments:
    total = rounding.MomentSum(centred)
    half = x.shape[1] // 3
    total.add(x[:, :half], y[:, :half])
    total.add(x[:, half:], y[:, half:])
    return total.moments()


@pytest.mark.parametrize("centred", [False, True])
def test_moments_are_those_of_all_rows(centred: bool) -> None:
    _, x, y = layer(4, groups=2)
    if centred:
        cx, cy = (v - v.mean(axis=1, keepdims=True) for v in (x, y))
    else:
        cx, cy = x, y
    m, n = moments(x, y, centred), x.shape[1]
    np.testing.assert_allclose(m.xx, cx.transpose(0, 2, 1) @ cx / n, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(m.yx, cy.transpose(0, 2, 1) @ cx / n, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(m.yy, (cy**2).mean(axis=1), rtol=1e-9)


def test_errors_are_mean_squares_of_the_output() -> None:
    w, x, y = layer(5, groups=2)
    v = np.round(w)
    want = ((x @ v.transpose(0, 2, 1) - y) ** 2).mean(axis=1)
    np.testing.assert_allclose(moments(x, y).errors(v), want, rtol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_learned_integers_are_nearly_the_best_there_are(bits: int) -> None:
    """Against every choice of a layer of 5 taps: on average within a tenth of the gain."""
    q, found, best, plain = QType(bits), 0.0, 0.0, 0.0
    levels = [-1, 1] if bits == 1 else range(q.qmin, q.qmax + 1)
    every = np.array(list(product(levels, repeat=5)), np.float64)
    for seed in range(12):
        w, x, y = layer(5, out=1, seed=seed)
        step = np.abs(w).max(axis=2) / q.qmax
        m = moments(x, y).damped(w)
        got = rounding.learned(w, step, q, m, sweeps=20)
        assert np.isin(got, levels).all()
        errors = m.errors((every * step[0, 0])[None])
        found += float(m.errors(got * step[:, :, None]).sum())
        best += float(errors.min())
        plain += float(m.errors(nearest(w / step[:, :, None], q) * step[:, :, None]).sum())
    assert best * (1 - 1e-9) <= found <= best + 0.1 * (plain - best)


def test_more_sweeps_never_err_more() -> None:
    w, x, y = layer(24, out=8)
    q, step = QType(3), np.abs(w).max(axis=2) / 3
    m = moments(x, y).damped(w)
    errors = [
        m.errors(rounding.learned(w, step, q, m, sweeps=n) * step[:, :, None]) for n in (1, 2, 50)
    ]
    assert (errors[1] <= errors[0] + 1e-9).all()
    assert (errors[2] <= errors[1] + 1e-9).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_inputs_that_never_vary_leave_weights_to_the_nearest(value: float) -> None:
    w = layer(6)[0]
    x = np.full((1, 50, 6), value, np.float32)
    step = np.abs(w).max(axis=2) / 7
    y = (x @ w.transpose(0, 2, 1)).astype(np.float32)
    m = moments(x, y, centred=True).damped(w)
    got = rounding.learned(w, step, QType(4), m, sweeps=5)
    assert np.abs(got - w / step[:, :, None]).max() <= 0.51


LAYERS = sorted(
    name for name, m in MODELS.items() if {n.op_type for n in m.graph.node} & {
        "Conv", "ConvTranspose", "Gemm", "MatMul",
    }
)  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_columns_times_weights_are_the_output(name: str) -> None:
    from qcc.frontend.onnx_reader import read_onnx

    graph = read_onnx(MODELS[name], "m")
    run_passes(graph, FLOAT, CONFIG)
    rng = np.random.default_rng(0)
    inputs = {t: rng.normal(size=(3, *graph.shape(t))).astype(np.float32) for t in graph.inputs}
    values = run_float(graph, inputs)
    layers = [n for n in graph.nodes() if n.op in LINEAR]
    assert layers
    for n in layers:
        w = graph.constant(n.inputs[1])
        x = OPS[n.op].columns(n.attrs, w.shape, values[n.inputs[0]])
        split = w.reshape(len(x), len(w) // len(x), -1)
        y = (x @ split.transpose(0, 2, 1)).transpose(1, 0, 2).reshape(-1, len(w))
        if len(n.inputs) > 2:
            y = y + graph.constant(n.inputs[2])
        want = values[n.output].reshape(-1, len(w))
        np.testing.assert_allclose(np.clip(y, *n.attrs.bounds), want, rtol=1e-4, atol=1e-4)
