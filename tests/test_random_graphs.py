"""Random graphs through the whole compiler: float meaning, bit-exact C, constant channels.

``QCC_SEEDS=17`` or ``QCC_SEEDS=100-250`` runs other seeds than the default ones; a failing test's
name holds its seed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qcc import reference
from qcc.config import SCALE_MODES, THRESHOLDS
from qcc.driver import Compilation
from qcc.errors import PassError, QccError
from qcc.frontend.float_model import FloatModel
from qcc.frontend.load import check_model
from qcc.frontend.onnx_reader import read_onnx
from qcc.ir import Array, Int
from qcc.passes.manager import run_passes
from qcc.passes.pipeline import FLOAT
from tests.build import SANITIZE, calibration, check_on_host, compiled
from tests.graphs import CONFIG, outputs_for
from tests.random_graphs import random_model


def _seeds(text: str) -> list[int]:
    """Seeds of a text like ``3,10-12``."""
    parts = [p.split("-") for p in text.split(",")]
    return [s for p in parts for s in range(int(p[0]), int(p[-1]) + 1)]


QUICK = _seeds(os.environ.get("QCC_SEEDS", "0-24"))
SLOW = range(1000, 1500)
ACCURACY = range(2000, 2160)


def samples_of(proto: onnx.ModelProto, seed: int) -> dict[str, Array]:
    """Calibration data: normal, or nowhere negative for one model in three."""
    data = calibration(proto, samples=16, seed=seed)
    return {k: np.abs(v) for k, v in data.items()} if seed % 3 == 0 else data


def options_of(seed: int) -> dict[str, Any]:
    """How the model of *seed* is compiled: every scaling and width gets its share."""
    rng = np.random.default_rng([seed, 1])
    options: dict[str, Any] = {
        "scale": SCALE_MODES[seed % 3],
        "per_channel": bool(rng.random() < 0.6),
        "threshold": str(rng.choice(THRESHOLDS, p=[0.3, 0.5, 0.1, 0.1])),
        "bias_correction": bool(rng.random() < 0.8),
    }
    draw = rng.random()
    if draw < 0.12:
        options["act_bits"] = 16
    elif draw < 0.24:
        options["weight_bits"] = int(rng.choice([2, 4]))
    elif draw < 0.3:
        options["act_bits"] = int(rng.choice([2, 3, 5]))
    return options


def check_float(proto: onnx.ModelProto, samples: dict[str, Array]) -> None:
    """The graph after the float passes computes what onnxruntime does."""
    names = [o.name for o in proto.graph.output]
    model = FloatModel(proto, names, {})
    rows = [model.run({k: v[i] for k, v in samples.items()}) for i in range(4)]
    graph = read_onnx(proto, "m")
    run_passes(graph, FLOAT, CONFIG)
    found = outputs_for(graph, {k: v[:4] for k, v in samples.items()})
    for name, got in zip(names, found, strict=True):
        want = np.stack([r[name] for r in rows])
        peak = max(1e-6, float(np.abs(want).max()))
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * peak, err_msg=name)


def integer_outputs(done: Compilation, seed: int) -> dict[str, Int]:
    """Outputs of the integer graph for noise over the whole range of the inputs."""
    rng = np.random.default_rng(seed)
    noise: dict[str, Int] = {}
    for name in done.graph.inputs:
        q = done.graph.quant(name).qtype
        noise[name] = rng.integers(q.qmin, q.qmax + 1, (20, *done.graph.shape(name)))
        noise[name][0], noise[name][1] = q.qmin, q.qmax
    return reference.run_int(done.graph, noise)


def check_random(seed: int, folder: Path) -> Compilation | None:
    """Compile and check the model of *seed*; None if qcc refuses it."""
    proto = check_model(random_model(seed))
    samples = samples_of(proto, seed)
    options = options_of(seed)
    try:
        check_float(proto, samples)
        done = compiled(proto, calibration=samples, **options)
    except PassError:
        raise
    except QccError as error:
        print(f"seed {seed} is refused: {error.message} {error.hints}")
        return None
    whole = compiled(proto, calibration=samples, constant_channels=False, **options)
    want = integer_outputs(whole, seed)
    for name, got in integer_outputs(done, seed).items():
        np.testing.assert_array_equal(got, want[name], err_msg=name)
    assert "bit-exact" in check_on_host(done, folder / "out", flags=["-O1", *SANITIZE])
    return done


@pytest.mark.parametrize("seed", QUICK)
def test_random_graph(seed: int, tmp_path: Path) -> None:
    check_random(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW)
def test_another_random_graph(seed: int, tmp_path: Path) -> None:
    check_random(seed, tmp_path)


def test_the_same_seed_gives_the_same_model() -> None:
    assert random_model(3).SerializeToString() == random_model(3).SerializeToString()
    assert random_model(3).SerializeToString() != random_model(4).SerializeToString()


def test_random_graphs_are_accurate_and_hardly_ever_refused() -> None:
    """At 8 bits in all modes; a graph that loses its signal has a cause that no scale can mend.

    What remains below 20 dB: biases a thousand times the signal, that later layers cut away;
    differences of nearly equal values; a softmax of hundreds of classes, or of values in the
    thousands.
    """
    sqnr: dict[int, float] = {}
    for seed in ACCURACY:
        proto = check_model(random_model(seed))
        options = options_of(seed) | {"act_bits": 8, "weight_bits": 8}
        try:
            done = compiled(proto, calibration=samples_of(proto, seed), **options)
        except PassError:
            raise
        except QccError:
            continue
        sqnr[seed] = min(done.sqnr_db[name] for name in done.graph.outputs)
    low = {seed: round(v, 1) for seed, v in sqnr.items() if v < 20}
    assert len(ACCURACY) - len(sqnr) <= 0.04 * len(ACCURACY)
    assert np.median(list(sqnr.values())) > 35, sqnr
    assert len(low) <= 0.06 * len(sqnr), low
