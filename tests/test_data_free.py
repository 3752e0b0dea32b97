"""Without calibration data: the compiler works, says what that costs, and guesses well."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import qcc
from qcc.cli import main
from qcc.frontend.float_model import FloatModel
from qcc.frontend.onnx_reader import read_onnx
from qcc.frontend.synthetic import synthetic_samples
from qcc.ir import Array
from qcc.ops.examples import model, normal
from tests.build import compiled
from tests.graphs import node
from tests.networks import DIGITS, medley

WARNING = "accuracy is not assured"


def smooth_images(count: int, seed: int) -> Array:
    """(count, 1, 3, 16, 16) in [0, 1], made in another way than the compiler makes its own."""
    rng = np.random.default_rng(seed)
    coarse = rng.beta(2, 2, size=(count, 3, 4, 4))
    grown = coarse.repeat(4, axis=2).repeat(4, axis=3)
    return np.clip(grown + rng.normal(scale=0.05, size=grown.shape), 0, 1)[:, None]


INPUTS: dict[str, Callable[[], Array]] = {
    "a standard normal distribution": lambda: np.random.default_rng(1).normal(
        size=(64, 1, 3, 16, 16)
    ),
    "synthetic images in [0, 1]": lambda: smooth_images(64, 2),
    "synthetic images in [-1, 1]": lambda: 2 * smooth_images(64, 3) - 1,
    "synthetic images in [0, 16]": lambda: 16 * smooth_images(64, 5),
    "synthetic images in [0, 255]": lambda: 255 * smooth_images(64, 4),
}


def trained_on(images: Array) -> onnx.ModelProto:
    """A network whose batch normalization remembers the statistics of *images*."""
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c s b m v", "n"),
        node("Relu", "n", "r"),
        node("GlobalAveragePool", "r", "g"),
        node("Flatten", "g", "y"),
    ]
    constants = {
        "w": normal((8, 3, 3, 3), 5, 0.2), "s": np.ones(8, np.float32),
        "b": np.zeros(8, np.float32), "m": np.zeros(8, np.float32), "v": np.ones(8, np.float32),
    }  # fmt: skip
    proto = model("net", nodes, {"x": (1, 3, 16, 16)}, ["y"], constants)
    probe = FloatModel(proto, ["c"], {"x": (1, 3, 16, 16)})
    seen = np.concatenate([probe.run({"x": x.astype(np.float32)})["c"] for x in images])
    statistics = {"m": seen.mean(axis=(0, 2, 3)), "v": seen.var(axis=(0, 2, 3))}
    for constant in proto.graph.initializer:
        if constant.name in statistics:
            value = statistics[constant.name].astype(np.float32)
            constant.CopyFrom(numpy_helper.from_array(value, constant.name))
    return proto


@pytest.mark.parametrize("kind", INPUTS)
def test_batch_normalization_tells_the_distribution(kind: str) -> None:
    proto = trained_on(INPUTS[kind]())
    made, how = synthetic_samples(proto, read_onnx(proto, "net"))
    assert how == f"synthetic inputs ({kind}) chosen by batch-normalization statistics"
    lo, hi = float(made["x"].min()), float(made["x"].max())
    real = INPUTS[kind]()
    assert abs(hi - real.max()) <= 0.5 * abs(real.max())
    assert abs(lo - real.min()) <= 0.5 * max(abs(real.min()), 0.1 * real.max())


def test_ranges_fit_what_the_network_was_trained_on() -> None:
    """The guessed range of the input is about that of data which the compiler never saw."""
    images = INPUTS["synthetic images in [0, 255]"]()
    proto = trained_on(images)
    done = compiled(proto, calibration=None)
    port = done.program.inputs[0].quant
    assert 200 <= port.scalar * port.qtype.qmax <= 300
    told = compiled(proto, calibration={"x": images.astype(np.float32)})
    ratio = port.scalar / told.program.inputs[0].quant.scalar
    assert 0.7 <= ratio <= 1.5


def test_without_batch_normalization_inputs_are_normal() -> None:
    proto = medley()
    plain = [n for n in proto.graph.node if n.op_type == "BatchNormalization"]
    for n in plain:  # an identity in its place
        n.CopyFrom(node("Identity", n.input[0], n.output[0]))
    made, how = synthetic_samples(proto, read_onnx(proto, "m"))
    assert how == "synthetic inputs (a standard normal distribution)"
    assert set(made) == {"image", "vector"}
    assert made["image"].shape == (16, 1, 4, 12, 12)
    assert made["image"].dtype == np.float32
    assert abs(float(made["image"].mean())) < 0.05
    assert 0.9 < float(made["image"].std()) < 1.1


def test_synthetic_samples_are_the_same_every_time() -> None:
    proto = trained_on(INPUTS["synthetic images in [0, 1]"]())
    first, second = (synthetic_samples(proto, read_onnx(proto, "m"))[0]["x"] for _ in range(2))
    assert np.array_equal(first, second)


def test_the_warning_is_in_the_manifest_the_report_and_on_the_console(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(DIGITS), "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert WARNING in " ".join((said.out + said.err).split())
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["calibrated"] is False
    assert [n for n in manifest["notes"] if n.endswith(WARNING)] == manifest["notes"]
    assert "no calibration data" in manifest["notes"][0]
    assert WARNING in (out / "report.html").read_text()


def test_digits_without_data_keep_most_of_their_accuracy(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("digits_data", DIGITS.parent / "data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    digits = module.load()
    compiled_model = qcc.compile(DIGITS, tmp_path / "out")
    done = qcc.evaluate(
        compiled_model, {"image": digits.eval_x[:, None]}, digits.eval_y, model=DIGITS
    )
    assert done.samples == 450
    assert done.float_accuracy is not None
    assert done.float_accuracy >= 0.98
    assert done.integer_accuracy is not None
    assert done.integer_accuracy >= 0.90
