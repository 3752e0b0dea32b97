"""The float model as onnxruntime computes it, one sample at a time, intermediate values included.

Memory is bounded by the activations of one sample; what has to be kept of many (histograms,
errors) the caller folds up as they come.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from qcc.errors import QccError, short
from qcc.ir import Array, Shape

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class FloatModel:
    """A model ready to run on single samples.

    Example:
        model = FloatModel(proto, ["relu_1"])
        model.run({"x": sample})["relu_1"]
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        extra_outputs: Sequence[str] = (),
        shapes: Mapping[str, Shape] | None = None,
    ) -> None:
        """Prepare *proto*, which stays as it is.

        Args:
            proto: a model that has been checked, external data loaded.
            extra_outputs: tensors of the main graph to return beside the outputs.
            shapes: graph input -> its shape, for those that the model leaves open; a batch axis
                that is still open after that is 1.

        Raises:
            QccError: where onnxruntime refuses the model.
        """
        self._constants = _constants(proto, extra_outputs)
        graph_inputs = {i.name for i in proto.graph.input}
        self._passed = [n for n in extra_outputs if n in graph_inputs and n not in self._constants]
        served = {*self._constants, *self._passed}
        computed = [name for name in extra_outputs if name not in served]
        exposed = _exposed(proto, computed, shapes or {})
        self._session = _session(exposed)
        self._types = {i.name: _DTYPES.get(i.type) for i in self._session.get_inputs()}
        self.outputs = tuple(o.name for o in self._session.get_outputs())

    def run(self, sample: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs and extra outputs for one *sample*, values in the model's own shapes (batch 1).

        Raises:
            QccError: where onnxruntime fails, e.g. for a sample of the wrong shape.
        """
        feeds = {name: np.asarray(x, self._types.get(name)) for name, x in sample.items()}
        try:
            values = self._session.run(None, feeds)
        except Exception as error:  # onnxruntime has a type per status code, without a base
            raise _failure("running the float model failed", error) from error
        results = dict(zip(self.outputs, values, strict=True))
        return {**results, **self._constants, **{name: feeds[name] for name in self._passed}}


def _constants(proto: onnx.ModelProto, names: Sequence[str]) -> dict[str, Array]:
    """Values of *names* that are initializers: onnxruntime would drop or refuse such outputs."""
    wanted = set(names) - {i.name for i in proto.graph.input}
    return {
        t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer if t.name in wanted
    }


def _exposed(
    proto: onnx.ModelProto, extra: Sequence[str], shapes: Mapping[str, Shape]
) -> onnx.ModelProto:
    """A copy of *proto* with fixed input shapes and *extra* among its outputs.

    Shapes declared elsewhere may contradict the fixed ones by now; onnxruntime lets its own
    inference win over them.
    """
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    initializers = {t.name for t in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in initializers:
            _fix_shape(value, shapes.get(value.name))
    present = {o.name for o in model.graph.output}
    for name in dict.fromkeys(extra):
        if name not in present:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    return model


def _fix_shape(value: onnx.ValueInfoProto, shape: Shape | None) -> None:
    dims = value.type.tensor_type.shape.dim
    if shape is not None:
        del dims[:]
        dims.extend(onnx.TensorShapeProto.Dimension(dim_value=d) for d in shape)
    elif dims and not dims[0].HasField("dim_value"):
        dims[0].dim_value = 1


def _session(model: onnx.ModelProto) -> Any:
    """An onnxruntime session for *model*, two threads, silent."""
    # onnxruntime reads this once, when it is imported, and talks to the network without it.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    # Layers last microseconds: threads that spin between them only burn the machine's time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The basic level only folds constants and drops no-ops: the float values stay those of the
    # model as written, and low-bit QDQ models load, which the levels above break.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        data = model.SerializeToString()
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as in run; a model over 2 GiB fails to serialize
        raise _failure("onnxruntime does not load the model", error) from error


def _failure(what: str, error: Exception) -> QccError:
    """One sentence of an onnxruntime message, without its status code and source location."""
    lines = str(error).splitlines() or [type(error).__name__]
    text = lines[0].split(" : ")[-1] if "[ONNXRuntimeError]" in lines[0] else lines[0]
    return QccError(f"{what}: {short(text, 240)}")
