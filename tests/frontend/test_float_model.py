"""The float model: every tensor that is asked for, one sample at a time, silent and offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcc.errors import QccError
from qcc.frontend.float_model import FloatModel

ROOT = Path(__file__).parents[2]


def chain(batch: int | str = "N", width: int | str = 3) -> onnx.ModelProto:
    """y = relu(x + 1) * 2, named a, r, y."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Mul", ["r", "two"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "chain",
        [value("x", TensorProto.FLOAT, [batch, width])],
        [value("y", TensorProto.FLOAT, [batch, width])],
        [
            numpy_helper.from_array(np.array(1, np.float32), "one"),
            numpy_helper.from_array(np.array(2, np.float32), "two"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


X = np.array([[-3.0, 0.0, 2.0]], np.float32)


def test_outputs_and_intermediate_values_are_returned() -> None:
    values = FloatModel(chain(), ["a", "r"]).run({"x": X})
    assert set(values) == {"y", "a", "r"}
    np.testing.assert_array_equal(values["a"], X + 1)
    np.testing.assert_array_equal(values["r"], np.maximum(X + 1, 0))
    np.testing.assert_array_equal(values["y"], 2 * np.maximum(X + 1, 0))


def test_inputs_constants_and_outputs_may_be_asked_for_too() -> None:
    values = FloatModel(chain(), ["x", "one", "y", "a", "a"]).run({"x": X})
    assert set(values) == {"x", "one", "y", "a"}
    np.testing.assert_array_equal(values["x"], X)
    assert values["one"] == 1


def test_model_is_left_as_it_is() -> None:
    model = chain()
    before = model.SerializeToString()
    FloatModel(model, ["a"], {"x": (1, 3)})
    assert model.SerializeToString() == before


def test_open_batch_axis_is_one() -> None:
    model = FloatModel(chain(batch="N"))
    with pytest.raises(QccError, match="running the float model failed"):
        model.run({"x": np.zeros((2, 3), np.float32)})


def test_open_dimensions_take_the_given_shape() -> None:
    model = FloatModel(chain(width="W"), shapes={"x": (1, 5)})
    assert model.run({"x": np.zeros((1, 5), np.float32)})["y"].shape == (1, 5)
    with pytest.raises(QccError, match="running the float model failed"):
        model.run({"x": np.zeros((1, 4), np.float32)})


@pytest.mark.parametrize("stale", [[1, 3], [1, 3, 3], [7]])
def test_given_shape_may_contradict_the_declared_ones(stale: list[int]) -> None:
    proto = chain(batch=1, width=3)
    declared = [helper.make_tensor_value_info(n, TensorProto.FLOAT, stale) for n in ("a", "y")]
    proto.graph.value_info.append(declared[0])
    proto.graph.output[0].CopyFrom(declared[1])
    model = FloatModel(proto, ["a"], shapes={"x": (1, 5)})
    assert model.run({"x": np.zeros((1, 5), np.float32)})["y"].shape == (1, 5)


def test_samples_are_cast_to_the_type_of_the_input() -> None:
    model = chain(batch=1)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    assert FloatModel(model).run({"x": X})["y"].dtype == np.float64


def test_what_onnxruntime_refuses_is_one_sentence() -> None:
    model = chain()
    model.graph.node[1].op_type = "NoSuchOperator"
    with pytest.raises(QccError, match=r"onnxruntime does not load the model: .*NoSuchOp") as info:
        FloatModel(model)
    assert "\n" not in info.value.message
    with pytest.raises(QccError, match="onnxruntime does not load the model"):
        FloatModel(chain(), ["no such tensor"])


def test_telemetry_is_off_and_nothing_is_printed() -> None:
    """In a fresh process: the switch counts only when set before the first import."""
    code = (
        "import os, sys, onnx, numpy as np\n"
        "from qcc.frontend.float_model import FloatModel\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "import builtins\n"
        "real = builtins.__import__\n"
        "def spy(name, *rest, **more):\n"
        "    if name == 'onnxruntime':\n"
        "        assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = spy\n"
        f"model = FloatModel(onnx.load_from_string({chain().SerializeToString()!r}), ['a'])\n"
        "assert model.run({'x': np.zeros((1, 3), np.float32)})['a'].tolist() == [[1.0] * 3]\n"
        "assert 'onnxruntime' in sys.modules\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


MODELS = ROOT.parent / "shared" / "models" / "mlperf_tiny"


@pytest.mark.skipif(not MODELS.is_dir(), reason="the shared models are not here")
def test_real_model_exposes_every_tensor() -> None:
    model = onnx.load(MODELS / "kws_float.onnx")
    names = [o for n in model.graph.node for o in n.output]
    values = FloatModel(model, names).run({"input_1": np.ones((1, 49, 10, 1), np.float32)})
    assert set(names) <= set(values)
    (output,) = (o.name for o in model.graph.output)
    assert values[output].sum() == pytest.approx(1.0, abs=1e-5)
