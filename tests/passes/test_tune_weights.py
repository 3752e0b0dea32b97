"""tune_weights: the output errs less on data it has not seen, in every mode, and stays proved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qcc import reference
from qcc.config import SCALE_MODES, ScaleMode
from qcc.driver import Compilation
from qcc.frontend.float_model import FloatModel
from qcc.ir import Array
from qcc.ops.examples import normal
from qcc.passes.fold_batchnorm import LINEAR
from tests.build import SANITIZE, check_on_host, compiled
from tests.graphs import node, proto


def network() -> onnx.ModelProto:
    """Dense, depthwise and grouped layers; pads, a transposed convolution, a bias."""
    constants = {
        "w1": normal((8, 3, 3, 3), 1, 0.3), "b1": normal((8,), 5), "w2": normal((8, 1, 3, 3), 2),
        "w3": normal((8, 4, 1, 1), 3, 0.5), "w4": normal((8, 6, 2, 2), 4, 0.3),
        "w5": normal((6, 5), 6),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w1 b1", "a", pads=[1] * 4), node("Relu", "a", "ra"),
        node("Conv", "ra w2", "b", group=8), node("Relu", "b", "rb"),
        node("Conv", "rb w3", "c", group=2), node("ConvTranspose", "c w4", "d", strides=[2, 2]),
        node("GlobalAveragePool", "d", "m"), node("Flatten", "m", "f"),
        node("MatMul", "f w5", "y"),
    ]  # fmt: skip
    return proto(nodes, (1, 3, 8, 8), constants=constants, outputs="y d")


def samples(count: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(count, 1, 3, 8, 8)).cumsum(axis=3).cumsum(axis=4)
    return (1 + smooth / 6).astype(np.float32)


def sqnr(done: Compilation, x: Array) -> float:
    """Of all outputs together, in dB, each relative to its own power."""
    model = FloatModel(network(), ["y", "d"], {})
    rows = [model.run({"x": v}) for v in x]
    got = reference.run_int(done.graph, reference.quantize_inputs(done.graph, {"x": x}))
    noise = 0.0
    for name in done.graph.outputs:
        tensor = done.graph.tensor(name)
        assert tensor.origin is not None
        want = np.stack([r[tensor.origin.name] for r in rows])
        real = got[name] * done.graph.quant(name).scalar
        error = reference.to_onnx(real, tensor.origin.perm) - want
        noise += float((error**2).sum() / (want**2).sum())
    return -10 * float(np.log10(noise))


def made(calibration: Array | None = None, **options: Any) -> Compilation:
    x = samples(60, 0) if calibration is None else calibration
    return compiled(network(), calibration={"x": x}, keep8=(), **options)


@pytest.mark.parametrize("mode", SCALE_MODES)
@pytest.mark.parametrize("per_channel", [True, False])
def test_learned_rounding_errs_less_on_new_data(mode: ScaleMode, per_channel: bool) -> None:
    new = samples(40, 1)
    common: dict[str, Any] = {"scale": mode, "per_channel": per_channel, "weight_bits": 4}
    plain = sqnr(made(rounding="nearest", weight_clip="none", **common), new)
    learned = sqnr(made(rounding="learned", weight_clip="none", **common), new)
    both = sqnr(made(**common), new)
    assert learned > plain + 2.0
    assert both > plain + 3.0


def test_steps_by_output_error_are_neighbouring_shifts() -> None:
    plain, tuned = (
        made(weight_bits=4, rounding="nearest", weight_clip=clip) for clip in ("none", "output")
    )
    moved = 0
    for a, b in zip(plain.graph.nodes(), tuned.graph.nodes(), strict=True):
        if a.op in LINEAR:
            apart = np.array(b.attrs.rescale.shift) - np.array(a.attrs.rescale.shift)
            assert set(apart.tolist()) <= {0, 1, 2}
            assert b.attrs.rescale.mult == a.attrs.rescale.mult
            moved += int((apart > 0).sum())
    assert moved > 0


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_few_bits_gain_most(bits: int) -> None:
    new = samples(40, 1)
    plain = made(weight_bits=bits, rounding="nearest", weight_clip="none")
    assert sqnr(made(weight_bits=bits), new) > sqnr(plain, new) + 2.0


@pytest.mark.parametrize("correct", [True, False])
def test_it_composes_with_bias_correction(correct: bool) -> None:
    """With correction, means do not count in the moments; without, they do."""
    x = samples(60, 0) + 2
    new = samples(40, 1) + 2
    common: dict[str, Any] = {"weight_bits": 4, "bias_correction": correct}
    plain = made(x, rounding="nearest", weight_clip="none", **common)
    assert sqnr(made(x, **common), new) > sqnr(plain, new) + 2.0


def test_eight_bits_are_left_alone_unless_asked_for() -> None:
    plain, auto, learned = (made(rounding=how) for how in ("nearest", "auto", "learned"))
    assert str(plain.graph) == str(auto.graph)
    weights = [
        [g.graph.constant(n.inputs[1]) for n in g.graph.nodes() if n.op in LINEAR]
        for g in (plain, learned)
    ]
    assert any((a != b).any() for a, b in zip(*weights, strict=True))


def test_without_calibration_data_nothing_is_learned() -> None:
    auto, nearest = (
        compiled(network(), calibration=None, weight_bits=4, rounding=how)
        for how in ("auto", "nearest")
    )
    assert str(auto.graph) == str(nearest.graph)


@pytest.mark.parametrize("mode", SCALE_MODES)
@pytest.mark.parametrize("clip", ["mse", "kl"])
def test_clipped_ranges_work_with_and_without_learning(mode: ScaleMode, clip: str) -> None:
    done = made(weight_bits=3, weight_clip=clip, scale=mode)
    for n in done.graph.nodes():
        if n.op in LINEAR:
            assert np.abs(done.graph.constant(n.inputs[1])).max() <= 3
    plain = made(weight_bits=3, weight_clip=clip, scale=mode, rounding="nearest")
    assert sqnr(done, samples(40, 1)) > sqnr(plain, samples(40, 1))


@pytest.mark.parametrize("options", [{"weight_bits": 2}, {"weight_bits": 4, "act_bits": 16}])
def test_bounds_cover_the_new_weights_and_the_c_agrees(
    options: dict[str, Any], tmp_path: Path
) -> None:
    done = made(**options)
    for n in done.graph.nodes():
        if n.op not in LINEAR:
            continue
        q = done.graph.quant(n.inputs[0]).qtype
        w = np.abs(done.graph.constant(n.inputs[1]).astype(np.int64))
        reach = w.reshape(len(w), -1).sum(axis=1) * max(-q.qmin, q.qmax)
        bound = reach + np.abs(done.graph.constant(n.inputs[2]))
        assert bound.max() <= n.attrs.acc_bound
    assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=["-O1", *SANITIZE])


def test_the_same_data_give_the_same_bits() -> None:
    first, again = (made(weight_bits=3) for _ in range(2))
    for a, b in zip(first.graph.tensors(), again.graph.tensors(), strict=True):
        if a.data is not None:
            np.testing.assert_array_equal(a.data, b.data)


def test_progress_counts_layers() -> None:
    from qcc.config import Config
    from qcc.driver import compile_proto

    heard: list[tuple[str, int, int]] = []
    config = Config(weight_bits=4, calibration={"x": samples(8, 0)})
    compile_proto(network(), config, progress=lambda *what: heard.append(what))
    tuned = [h for h in heard if h[0] == "tuning weights"]
    assert tuned == [("tuning weights", i + 1, 5) for i in range(5)]
