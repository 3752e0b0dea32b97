"""Every operator, through its own examples: float meaning, then the C bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcc.codegen.purity import check_purity, preprocess
from qcc.config import ScaleMode
from qcc.frontend.float_model import FloatModel
from qcc.frontend.onnx_reader import read_onnx
from qcc.ops import OPS
from qcc.passes.manager import run_passes
from qcc.passes.pipeline import FLOAT
from tests.build import SANITIZE, calibration, check_on_host, compiled
from tests.graphs import CONFIG, outputs_for

EXAMPLES = [m for op in OPS.values() for m in op.examples()]
MODELS = {m.graph.name: m for m in EXAMPLES}
MODES: tuple[ScaleMode, ...] = ("single-shift", "double-shift", "fixed-point")


@pytest.fixture(params=sorted(MODELS))
def proto(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return MODELS[str(request.param)]


def test_example_names_are_unique() -> None:
    assert len(MODELS) == len(EXAMPLES)


def test_every_op_has_examples_and_is_read_from_onnx() -> None:
    for op in OPS.values():
        assert list(op.examples())
        assert op.onnx_types


def test_float_matches_onnxruntime_before_and_after_the_passes(proto: onnx.ModelProto) -> None:
    samples = calibration(proto, samples=3)
    names = [o.name for o in proto.graph.output]
    model = FloatModel(proto, names, {})
    rows = [model.run({k: v[i] for k, v in samples.items()}) for i in range(3)]
    want = [np.stack([r[n] for r in rows]) for n in names]
    graph = read_onnx(proto, "m")
    for got, expected in zip(outputs_for(graph, samples), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    run_passes(graph, FLOAT, CONFIG)
    for got, expected in zip(outputs_for(graph, samples), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_c_equals_the_reference_layer_by_layer(proto: onnx.ModelProto, tmp_path: Path) -> None:
    done = compiled(proto)
    said = check_on_host(done, tmp_path / "out", flags=["-O1", *SANITIZE])
    assert "bit-exact" in said


def test_integer_outputs_are_close_to_float(proto: onnx.ModelProto) -> None:
    done = compiled(proto)
    for name in done.graph.outputs:
        assert done.sqnr_db[name] > 20, f"{name}: {done.sqnr_db[name]:.1f} dB"


@pytest.mark.parametrize("mode", MODES[1:])
def test_other_scalings_are_bit_exact_and_close(
    proto: onnx.ModelProto, mode: ScaleMode, tmp_path: Path
) -> None:
    done = compiled(proto, scale=mode, per_channel=mode == "double-shift")
    assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=["-O0"])
    for name in done.graph.outputs:
        assert done.sqnr_db[name] > 20, f"{name}: {done.sqnr_db[name]:.1f} dB"


@pytest.mark.slow
@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("opt", ["-O2", "-O3", "-Os"])
def test_every_compiler_and_level(
    proto: onnx.ModelProto, cc: str, opt: str, tmp_path: Path
) -> None:
    if shutil.which(cc) is None:
        pytest.skip(f"{cc} is not installed")
    assert "bit-exact" in check_on_host(compiled(proto), tmp_path / "out", cc, [opt])


@pytest.mark.slow
@pytest.mark.parametrize(
    "bits", [(8, 16), (4, 8), (4, 4), (2, 8), (3, 5), (1, 1), (16, 8), (16, 16)]
)
def test_other_widths_are_bit_exact(
    proto: onnx.ModelProto, bits: tuple[int, int], tmp_path: Path
) -> None:
    done = compiled(proto, weight_bits=bits[0], act_bits=bits[1])
    assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=["-O1", *SANITIZE])


@pytest.mark.slow
@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_weights_are_bit_exact(proto: onnx.ModelProto, bits: int, tmp_path: Path) -> None:
    done = compiled(proto, weight_bits=bits, keep8=(), rounding="nearest")
    if not any(layer.weight_bits for layer in done.program.layers):
        pytest.skip("no weights")
    assert all((x.weight_bits or bits) <= max(bits, 2) for x in done.program.layers)
    assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=["-O1", *SANITIZE])


def test_generated_code_is_pure(proto: onnx.ModelProto, tmp_path: Path) -> None:
    done = compiled(proto)
    check_on_host(done, tmp_path / "out")
    source = tmp_path / "out" / f"{done.program.name}.c"
    assert check_purity(preprocess(source, [tmp_path / "out"])) == []
