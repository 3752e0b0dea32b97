"""The example model is small, accurate, and measured on samples that it was not calibrated on."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

DIGITS = Path(__file__).parents[1] / "examples" / "digits"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with digits_calib.npz and digits_eval.npz, as the example's script writes them."""
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("digits")
    subprocess.run([sys.executable, str(DIGITS / "data.py"), str(folder)], check=True)
    return folder


def test_model_is_small_and_keeps_its_batch_normalization() -> None:
    model = onnx.load(DIGITS / "digits.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (DIGITS / "digits.onnx").stat().st_size < 100_000
    count = Counter(node.op_type for node in model.graph.node)
    assert count["BatchNormalization"] == count["Conv"] == 5
    assert {"Relu", "MaxPool", "Add", "GlobalAveragePool", "Gemm"} <= set(count)


def test_float_accuracy(data: Path) -> None:
    samples = np.load(data / "digits_eval.npz")
    session = onnxruntime.InferenceSession(
        DIGITS / "digits.onnx", providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(None, {"image": samples["x"]})
    assert len(samples["y"]) == 450
    assert (np.asarray(logits).argmax(1) == samples["y"]).mean() >= 0.98


def test_calibration_and_evaluation_samples_are_disjoint(data: Path) -> None:
    calib, held_out = (np.load(data / f"digits_{part}.npz") for part in ("calib", "eval"))
    assert len(calib["x"]) == 200
    assert set(calib["y"].tolist()) == set(held_out["y"].tolist()) == set(range(10))
    assert not {x.tobytes() for x in calib["x"]} & {x.tobytes() for x in held_out["x"]}


def test_data_is_the_same_every_time(data: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(DIGITS / "data.py"), str(tmp_path)], check=True)
    for part in ("calib", "eval"):
        first, second = (np.load(f / f"digits_{part}.npz") for f in (data, tmp_path))
        assert np.array_equal(first["x"], second["x"])
        assert np.array_equal(first["y"], second["y"])
