"""What ``qcc inspect`` counts: layers after the float passes, in ONNX's and C's order of axes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from qcc.cli import main
from qcc.config import Config
from qcc.errors import QccError
from qcc.frontend.load import check_model
from qcc.inspect_model import Inspection, inspect_file, inspect_proto
from qcc.ops.examples import model, normal


def network() -> onnx.ModelProto:
    """Batch normalization, activations and a reshape, which end in two convolutions and a dense."""
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "s", "b", "m", "v"], ["n1"], name="bn"),
        helper.make_node("Relu", ["n1"], ["r1"], name="relu"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="second", group=4, strides=[2, 2]),
        helper.make_node("Flatten", ["c2"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "d"], ["scores"], name="dense"),
    ]
    constants = {
        "w1": normal((4, 3, 3, 3), 1),
        "s": normal((4,), 2),
        "b": normal((4,), 3),
        "m": normal((4,), 4),
        "v": np.abs(normal((4,), 5)),
        "w2": normal((4, 1, 2, 2), 6),
        "d": normal((48, 5), 7),
    }
    return model("network", nodes, {"image": (1, 3, 6, 8)}, ["scores"], constants)


@pytest.fixture
def found() -> Inspection:
    return inspect_proto(check_model(network()), "network.onnx", Config())


def test_layers_are_those_that_have_code(found: Inspection) -> None:
    assert [layer.op for layer in found.layers] == ["conv2d", "conv2d", "dense"]
    assert found.layers[0].shape == (1, 6, 8, 4)
    assert found.layers[1].shape == (1, 3, 4, 4)


def test_a_layer_names_the_nodes_that_it_does_the_work_of(found: Inspection) -> None:
    assert set(found.layers[0].onnx_nodes) >= {"first", "relu"}
    assert found.layers[1].onnx_nodes == ("second",)


def test_work_and_parameters_are_counted(found: Inspection) -> None:
    assert [layer.macs for layer in found.layers] == [6 * 8 * 4 * 27, 3 * 4 * 4 * 4, 48 * 5]
    assert found.macs == 6 * 8 * 4 * 27 + 3 * 4 * 4 * 4 + 48 * 5
    # The folded batch normalization leaves a bias.
    assert found.layers[0].parameters == 4 * 27 + 4
    assert found.parameters == sum(layer.parameters for layer in found.layers)


def test_inputs_and_outputs_are_in_the_order_of_the_model(found: Inspection) -> None:
    assert [(p.name, p.shape) for p in found.inputs] == [("image", (1, 3, 6, 8))]
    assert [(p.name, p.shape) for p in found.outputs] == [("scores", (1, 5))]
    assert (found.model, found.opset) == ("network.onnx", 17)


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(network(), tmp_path / "network.onnx")
    assert main(["inspect", str(tmp_path / "network.onnx"), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    want = inspect_file(tmp_path / "network.onnx", Config()).as_dict()
    assert json.loads(printed.out) == json.loads(json.dumps(want))
    assert json.loads(printed.out)["layers"][2] == {
        "name": want["layers"][2]["name"],
        "op": "dense",
        "onnx_nodes": ["dense"],
        "shape": [1, 5],
        "macs": 240,
        "parameters": want["layers"][2]["parameters"],
    }


def test_the_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(network(), tmp_path / "network.onnx")
    assert main(["inspect", str(tmp_path / "network.onnx")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "network.onnx (opset 17)"
    assert lines[2].split() == ["layer", "op", "output", "MACs", "params"]
    assert lines[3].split()[1:] == ["conv2d", "6x8x4", "5,184", "112"]
    assert "input    image 1x3x6x8" in lines
    assert lines[-1].startswith("total    3 layers, 5,616 MACs, ")


def test_quiet_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(network(), tmp_path / "network.onnx")
    assert main(["inspect", "-q", str(tmp_path / "network.onnx")]) == 0
    assert capsys.readouterr() == ("", "")


def open_model() -> onnx.ModelProto:
    """A model whose height is a symbol."""
    proto = model("open", [helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 2, 4, 4)}, ["y"])
    shape: list[str | int | None] = ["N", 2, "height", 4]
    del proto.graph.input[:]
    proto.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, shape))
    return proto


def test_an_open_shape_is_given_by_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(open_model(), tmp_path / "open.onnx")
    assert main(["inspect", str(tmp_path / "open.onnx")]) in (1, 2)
    assert "--shape" in capsys.readouterr().err
    args = ["inspect", str(tmp_path / "open.onnx"), "--shape", "x=1,2,9,4", "--json"]
    assert main(args) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == [{"name": "y", "shape": [1, 2, 9, 4]}]


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("hello")
    with pytest.raises(QccError, match=r"x\.onnx"):
        inspect_file(tmp_path / "x.onnx", Config())
