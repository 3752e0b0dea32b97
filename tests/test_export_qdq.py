"""The QDQ export: onnxruntime computes the bits of the reference, which are those of the C."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcc import export_qdq as module
from qcc import reference
from qcc.api import compile
from qcc.cli import main
from qcc.config import Config
from qcc.driver import calibrate, quantized
from qcc.errors import QccError, UsageError
from qcc.export_qdq import Export, export_qdq
from qcc.frontend.load import check_model
from qcc.ir import Array, Graph, Int, QType
from qcc.onnx_writer import element_type, storage
from qcc.ops import OPS
from qcc.ops.examples import model, normal
from qcc.packing import unpack
from tests.build import calibration
from tests.networks import NAMES, network, samples
from tests.random_graphs import random_model

LEVELS = ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_ALL")


def integer_graph(
    proto: onnx.ModelProto, data: Mapping[str, Array] | None = None, **options: Any
) -> Graph:
    settings: dict[str, Any] = {"rounding": "nearest", "weight_clip": "none", "keep8": ()}
    config = Config(calibration=data or calibration(proto, 4), **{**settings, **options})
    return quantized(calibrate(proto, config), config)


def session(proto: onnx.ModelProto, level: str = "DISABLE_ALL") -> Any:
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def onnx_name(graph: Graph, tensor: str) -> str:
    origin = graph.tensor(tensor).origin
    return origin.name if origin else tensor


def random_inputs(graph: Graph, count: int, seed: int = 0) -> dict[str, Int]:
    """Integers over the whole of every input's format."""
    rng = np.random.default_rng(seed)
    qtypes = {t: graph.quant(t).qtype for t in graph.inputs}
    return {
        t: rng.integers(q.qmin, q.qmax + 1, (count, *graph.shape(t))) for t, q in qtypes.items()
    }


def differences(graph: Graph, found: Export, count: int = 3, level: str = "DISABLE_ALL") -> int:
    """Outputs that differ from the reference's, the model exported with integer ports."""
    running = session(found.model, level)
    inputs = random_inputs(graph, count)
    want = reference.run_int(graph, inputs)
    wrong = 0
    for i in range(count):
        feed = {
            onnx_name(graph, t): x[i].astype(graph.quant(t).qtype.dtype) for t, x in inputs.items()
        }
        for t, y in zip(graph.outputs, running.run(None, feed), strict=True):
            assert y.dtype == graph.quant(t).qtype.dtype
            wrong += int((y.astype(np.int64) != want[t][i]).sum())
    return wrong


# -- the same bits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "weights", "acts"),
    [
        ("single-shift", 8, 8),
        ("double-shift", 4, 4),
        ("fixed-point", 8, 8),
        ("single-shift", 8, 16),
    ],
)
@pytest.mark.parametrize("op", sorted(OPS))
def test_every_operator(op: str, scale: str, weights: int, acts: int) -> None:
    for proto in OPS[op].examples():
        graph = integer_graph(proto, scale=scale, weight_bits=weights, act_bits=acts)
        found = export_qdq(graph, integer_ports=True)
        assert differences(graph, found) == 0, proto.graph.name


WIDTHS = ((8, 8), (4, 4), (2, 8), (1, 8), (3, 5), (8, 16), (16, 16), (8, 2), (8, 1))


@pytest.mark.parametrize("seed", range(27))
def test_random_graphs(seed: int) -> None:
    proto = check_model(random_model(seed))
    weights, acts = WIDTHS[seed % len(WIDTHS)]
    scale = ("single-shift", "double-shift", "fixed-point")[seed // 9]
    graph = integer_graph(proto, weight_bits=weights, act_bits=acts, scale=scale)
    for opset in (21, 25):
        assert differences(graph, export_qdq(graph, opset, integer_ports=True)) == 0


@cache
def networks(name: str) -> tuple[Graph, Export]:
    graph = integer_graph(network(name), samples(name))
    return graph, export_qdq(graph, integer_ports=True)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NAMES)
def test_networks_whatever_onnxruntime_optimizes(name: str, level: str) -> None:
    graph, found = networks(name)
    assert differences(graph, found, 6, level) == 0


@pytest.mark.parametrize("name", NAMES)
def test_real_inputs_and_outputs(name: str, tmp_path: Path) -> None:
    """In the order and under the names of the source model; compared after quantizing."""
    path = tmp_path / "m.onnx"
    onnx.save(network(name), path)
    compiled = compile(path, tmp_path / "out", calibration=samples(name))
    found = export_qdq(compiled.graph)
    source = network(name).graph
    for ours, theirs in ((found.model.graph.input, source.input),
                         (found.model.graph.output, source.output)):  # fmt: skip
        assert [v.name for v in ours] == [v.name for v in theirs]
        for a, b in zip(ours, theirs, strict=True):
            dims = [[d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in (a, b)]
            assert dims[0] == dims[1]
    running = session(found.model)
    fresh = samples(name, 5, seed=3)
    real = [fresh[p["name"]] for p in compiled.manifest["inputs"]]
    want = compiled.run(compiled.quantize(real), backend="reference")
    for i in range(5):
        feed = {p["name"]: x[i] for p, x in zip(compiled.manifest["inputs"], real, strict=True)}
        got = running.run(None, feed)
        for port, y, integers in zip(compiled.manifest["outputs"], got, want, strict=True):
            steps = y.transpose(port["axes"]) / port["scale"] + port["zero_point"]
            np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
            np.testing.assert_array_equal(np.round(steps).astype(np.int64), integers[i])


def dense(weights: Array, bias: Array, relu: bool = False) -> onnx.ModelProto:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h" if relu else "y"], transB=1)]
    if relu:
        nodes.append(helper.make_node("Relu", ["h"], ["y"]))
    constants = {"w": weights.astype(np.float32), "b": bias.astype(np.float32)}
    return model("dense", nodes, {"x": (1, weights.shape[1])}, ["y"], constants)


def test_without_the_half_ties_go_wrong() -> None:
    """What the odd bias is for: taken away, results that were ties are off by one."""
    proto = dense(normal((16, 6), 1), normal((16,), 2))
    graph = integer_graph(proto)
    found = export_qdq(graph, integer_ports=True)
    assert differences(graph, found, 50) == 0
    (bias,) = (t for t in found.model.graph.initializer if t.data_type == TensorProto.INT32)
    doubled = numpy_helper.to_array(bias)
    assert (doubled % 2 == 1).all()
    bias.CopyFrom(numpy_helper.from_array(doubled - 1, bias.name))
    assert differences(graph, found, 50) > 0


def test_a_real_input_between_two_integers_may_go_either_way() -> None:
    """The stated difference: QuantizeLinear rounds to even, the C rounds up."""
    proto = dense(np.eye(4), np.zeros(4))
    peak = 127 / 128  # so that the scale is a power of two, and halves are halves
    data = {"x": np.linspace(-peak, peak, 4 * 301).reshape(301, 1, 4).astype(np.float32)}
    graph = integer_graph(proto, data)
    (x,) = graph.inputs
    q = graph.quant(x)
    assert q.scalar == 1 / 128
    between = (np.array([[0.5, 1.5, 2.5, 3.5]]) * q.scalar).astype(np.float32)
    ours = reference.quantize_tensor(graph, x, between.astype(np.float64))
    assert ours.tolist() == [[1, 2, 3, 4]]
    found = export_qdq(graph)
    (got,) = session(found.model).run(None, {"x": between})
    steps = np.round(got / graph.quant(graph.outputs[0]).scalar)
    want = reference.run_int(graph, {x: ours[None]})[graph.outputs[0]][0]
    assert np.abs(steps - want).max() == 1


def test_large_sums_are_split() -> None:
    """Beyond what float32 holds exactly: 16-bit values times 8-bit weights, 700 of them."""
    proto = dense(normal((3, 700), 1) + 1, normal((3,), 2))
    graph = integer_graph(proto, act_bits=16)
    node = next(n for n in graph.nodes() if n.op == "dense")
    assert node.attrs.acc_bound > 1 << 28
    found = export_qdq(graph, integer_ports=True)
    assert next(iter(found.integer_layers.values())).startswith("sums up to")
    assert differences(graph, found, 20) == 0


def test_too_many_taps_are_refused() -> None:
    proto = dense(np.ones((1, 40_000)), np.zeros(1))
    graph = integer_graph(proto, weight_bits=8)
    with pytest.raises(QccError, match="float32"):
        export_qdq(graph)


# -- what it looks like ----------------------------------------------------------------------------


def test_a_layer_is_a_qdq_pattern() -> None:
    found = export_qdq(integer_graph(dense(normal((3, 4)), normal((3,), 1), relu=True)))
    ops = [n.op_type for n in found.model.graph.node]
    assert ops == ["Clip", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear",
                   "DequantizeLinear", "Gemm", "QuantizeLinear", "DequantizeLinear",
                   "DequantizeLinear"]  # fmt: skip
    assert found.integer_layers == {}
    assert found.layers == 1
    onnx.checker.check_model(found.model, full_check=True)


def test_scales_are_powers_of_two_inside() -> None:
    _, found = networks("digits")
    for constant in found.model.graph.initializer:
        if constant.name.split(".")[-1] in ("scale", "weight_scale", "bias_scale"):
            mantissa, _ = np.frexp(numpy_helper.to_array(constant))
            assert (mantissa == 0.5).all(), constant.name


@pytest.mark.parametrize(
    ("bits", "opset", "kind"),
    [(8, 21, TensorProto.INT8), (4, 21, TensorProto.INT4), (3, 21, TensorProto.INT4),
     (2, 21, TensorProto.INT4), (2, 25, TensorProto.INT2), (1, 25, TensorProto.INT2),
     (6, 21, TensorProto.INT8)],
)  # fmt: skip
def test_weights_take_the_narrowest_type(bits: int, opset: int, kind: int) -> None:
    graph = integer_graph(dense(normal((3, 5)), normal((3,), 1)), weight_bits=bits)
    found = export_qdq(graph, opset, integer_ports=True)
    (weights,) = (t for t in found.model.graph.initializer if list(t.dims) == [3, 5])
    assert weights.data_type == kind
    node = next(n for n in graph.nodes() if n.op == "dense")
    want = graph.constant(node.inputs[1])
    if kind in (TensorProto.INT4, TensorProto.INT2):
        width = 4 if kind == TensorProto.INT4 else 2
        got = unpack(np.frombuffer(weights.raw_data, np.uint8), width, 15).reshape(3, 5)
    else:
        got = numpy_helper.to_array(weights).astype(np.int64)
    np.testing.assert_array_equal(got, want)
    assert differences(graph, found, 10) == 0


def test_the_narrowest_types() -> None:
    assert storage(QType(1, signed=False), 25).bits == 2
    assert storage(QType(5), 21).bits == 8
    assert element_type(storage(QType(3, signed=False), 21)) == TensorProto.UINT4


def test_metadata_tell_scales_and_exceptions() -> None:
    graph = integer_graph(network("medley"), samples("medley"), scale="fixed-point")
    found = export_qdq(graph)
    held = {p.key: p.value for p in found.model.metadata_props}
    assert held["qcc.rounding"] == "half_up"
    scales = json.loads(held["qcc.scales"])
    assert set(scales) == {"image", "vector", "map", "classes"}
    assert scales["image"]["scale"] == graph.quant(graph.inputs[0]).scalar
    layers = json.loads(held["qcc.integer_layers"])
    assert layers == dict(found.integer_layers)
    assert "multipliers" in layers.values()


def test_an_operator_without_a_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = networks("digits")
    monkeypatch.delitem(module._LAYERS, "conv2d")
    with pytest.raises(QccError, match="operator conv2d has no form"):
        export_qdq(graph)


def test_every_operator_of_a_quantized_graph_has_a_form() -> None:
    assert set(OPS) - set(module._LAYERS) == {"scale_shift"}


def test_other_opsets_are_refused() -> None:
    graph, _ = networks("digits")
    with pytest.raises(UsageError, match="21, 25"):
        export_qdq(graph, 22)


def test_the_same_graph_gives_the_same_bytes() -> None:
    graph, found = networks("medley")
    again = export_qdq(graph, integer_ports=True)
    one, other = (f.model.SerializeToString(deterministic=True) for f in (found, again))
    assert one == other


# -- the command -----------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(network("digits"), tmp_path / "digits.onnx")
    compile(tmp_path / "digits.onnx", tmp_path / "out", calibration=samples("digits"))
    target = tmp_path / "qdq.onnx"
    words = ["export", str(tmp_path / "out"), "-o", str(target)]
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["opset"] == 21
    assert session(onnx.load(target))
    assert main(words) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*words, "--force", "--opset", "25", "--integers"]) == 0
    assert "opset 25" in capsys.readouterr().out
    assert onnx.load(target).graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8


def test_a_folder_that_is_none_of_qccs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), "-o", str(tmp_path / "m.onnx")]) == 1
    assert capsys.readouterr().err.startswith("qcc: error: ")
    assert not (tmp_path / "m.onnx").exists()
