"""From a model to the float graph, and the one message that lists all that is not supported."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper, numpy_helper, parser

from qcc.builder import Builder
from qcc.errors import QccError, UnsupportedError
from qcc.frontend.load import check_model, load_model
from qcc.frontend.onnx_reader import MAX_HINTS, read_onnx
from qcc.ir import Array, Graph, Shape
from qcc.ops import ONNX_OPS, OPS

NEWEST = defs.onnx_opset_version()
MODELS = Path(__file__).parents[3] / "shared" / "models"


def parse(graph: str, opset: int = 17, /, **constants: Array) -> onnx.ModelProto:
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    model = parser.parse_model(f"{header}\n{graph}")
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def read(graph: str, opset: int = 17, /, **constants: Array) -> Graph:
    return read_onnx(check_model(parse(graph, opset, **constants)), "m")


def refusal(graph: str, opset: int = 17, /, **constants: Array) -> UnsupportedError:
    with pytest.raises(UnsupportedError) as caught:
        read(graph, opset, **constants)
    assert 1 <= len(caught.value.hints) <= MAX_HINTS
    for line in (caught.value.message, *caught.value.hints):
        assert line.isprintable()
        assert len(line) < 400
    return caught.value


def f32(*shape: int) -> Array:
    return np.ones(shape, np.float32)


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [7, 13, NEWEST])
def test_a_small_network_is_read(opset: int) -> None:
    graph = read(
        """g (float[N,3,8,8] x) => (float[N,5] y) {
            c = Conv <pads = [1, 1, 1, 1]> (x, w)
            r = Relu(c)
            f = Flatten(r)
            y = Gemm(f, v, b)
        }""",
        opset,
        w=f32(2, 3, 3, 3),
        v=f32(128, 5),
        b=f32(5),
    )
    assert [n.op for n in graph.nodes()] == [
        "transpose", "conv2d", "transpose", "unary", "reshape", "dense",
    ]  # fmt: skip
    assert graph.inputs == ["x"]
    assert graph.outputs == ["y"]
    assert graph.shape("x") == (1, 3, 8, 8)
    assert graph.shape("y") == (1, 5)
    origin = graph.tensor("y").origin
    assert origin is not None
    assert (origin.name, origin.perm) == ("y", (0, 1))


def test_no_constant_is_left_unused() -> None:
    graph = read(
        """g (float[N,2,6] x) => (float[N,m] y) {
            s = Shape(x) n = Slice(s, zero, one) t = Concat <axis = 0> (n, rest) y = Reshape(x, t)
        }""",
        zero=np.array([0], np.int64),
        one=np.array([1], np.int64),
        rest=np.array([-1], np.int64),
    )
    assert [t.name for t in graph.tensors()] == ["x", "y"]


def test_a_constant_that_an_operator_adds_in_vain_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    relu = ONNX_OPS["Relu"]

    class Wasteful:
        @staticmethod
        def read(b: Builder, node: onnx.NodeProto) -> None:
            b.const("waste", f32(3))
            relu.read(b, node)

    monkeypatch.setitem(cast("dict[str, object]", ONNX_OPS), "Relu", Wasteful)
    graph = read("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
    assert [t.name for t in graph.tensors()] == ["x", "y"]


def test_weights_listed_as_inputs_are_constants() -> None:
    graph = read(
        "g (float[N,4] x, float[4,3] w) => (float[N,3] y) { y = MatMul(x, w) }", w=f32(4, 3)
    )
    assert graph.inputs == ["x"]
    assert [n.op for n in graph.nodes()] == ["dense"]


def test_an_input_that_nothing_reads_stays_an_input() -> None:
    graph = read("g (float[N,4] x, float[N,2] z) => (float[N,4] y) { y = Relu(x) }")
    assert graph.inputs == ["x", "z"]


def test_layers_have_readable_unique_names() -> None:
    model = parse(
        """g (float[1,4] x) => (float[1,4] e) {
            a = Relu(x) b = Relu(a) c = Relu(b) d = Relu(c) e = Relu(d)
        }"""
    )
    long = "n" * 10_000
    for node, name in zip(model.graph.node, ["same", "same", "", long, long], strict=True):
        node.name = name
    graph = read_onnx(check_model(model), "m")
    names = [n.name.rpartition(":")[0] for n in graph.nodes()]
    cut = f"{'n' * 28}...{'n' * 28}"
    assert names == ["same", "same.1", "c", cut, f"{cut}.1"]


def test_names_that_look_like_generated_ones_do_not_collide() -> None:
    model = parse("g (float[1,4] x) => (float[1,4] c) { a = Relu(x) b = Relu(a) c = Relu(b) }")
    for node, name in zip(model.graph.node, ["r", "r.1", "r"], strict=True):
        node.name = name
    graph = read_onnx(check_model(model), "m")
    assert len({n.name for n in graph.nodes()}) == 3


@pytest.mark.parametrize(
    "name", ["*/ int x; /*", "a\nb", "x.relu", "x:unary", "日本語", "-", "0", 'q"\\']
)
def test_hostile_names_are_read(name: str) -> None:
    model = parse("g (float[1,4] x) => (float[1,4] y) { t = Relu(x) y = Relu(t) }")
    model.graph.node[0].name = name
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = name
    graph = read_onnx(check_model(model), "m")
    assert [n.op for n in graph.nodes()] == ["unary", "unary"]


def test_a_chain_of_5000_nodes_is_read() -> None:
    body = " ".join(f"t{i + 1} = Relu({f't{i}' if i else 'x'})" for i in range(5000))
    graph = read(f"g (float[1,4] x) => (float[1,4] t5000) {{ {body} }}")
    assert sum(1 for _ in graph.nodes()) == 5000


def test_the_model_stays_as_it_is() -> None:
    model = check_model(parse("g (float[N,4] x) => (float[N,4] y) { y, m = Dropout(x) }"))
    before = model.SerializeToString(deterministic=True)
    read_onnx(model, "m")
    assert model.SerializeToString(deterministic=True) == before


def test_a_double_constant_becomes_float32() -> None:
    model = parse("g (float[1,4] x) => (float[1,4] y) { y = Mul(x, k) }")
    model.graph.initializer.append(helper.make_tensor("k", TensorProto.DOUBLE, [], [2.0]))
    graph = read_onnx(check_model(model), "m")
    (constant,) = [t for t in graph.tensors() if t.data is not None]
    assert constant.data is not None
    assert constant.data.dtype == np.float32


# -- what is not supported -------------------------------------------------------------------------


def test_everything_unsupported_is_listed_at_once() -> None:
    """Unknown operators, foreign domains, refused attributes, integer values: one message."""
    error = refusal(
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y) {
            a = Det(x)
            b = other.Magic(x)
            c, i = MaxPool <kernel_shape = [1, 1]> (x)
            d = ArgMax(c)
            e = Cast <to = 1> (d)
            f = Cast <to = 1> (i)
            g = Softmax(c)
            h = Mul(e, f)
            k = other.Magic(g)
            s = Sum(a, b, h, k)
            y = CumSum(s, one)
        }""",
        one=np.array(1, np.int64),
    )
    assert error.message == "6 nodes are not supported"
    assert error.hints[0] == "Det: the operator is not supported (a)"
    assert error.hints[1] == "Magic: the operators of domain 'other' are not supported (b, k)"
    assert [hint.split(":")[0] for hint in error.hints] == [
        "Det", "Magic", "MaxPool", "ArgMax", "CumSum",
    ]  # fmt: skip


def test_one_hint_names_a_few_nodes_and_counts_the_rest() -> None:
    body = " ".join(f"t{i + 1} = Erfinv({f't{i}' if i else 'x'})" for i in range(7))
    error = refusal(f"g (float[1,4] x) => (float[1,4] t7) {{ {body} }}")
    assert error.hints == ("Erfinv: the operator is not supported (t1, t2, t3 and 4 more)",)


def test_there_are_at_most_as_many_hints_as_fit() -> None:
    body = " ".join(f"t{i + 1} = Op{i}({f't{i}' if i else 'x'})" for i in range(20))
    error = refusal(f"g (float[1,4] x) => (float[1,4] t20) {{ {body} }}")
    assert error.message == "20 nodes are not supported"
    assert len(error.hints) == MAX_HINTS
    assert error.hints[-1] == "... and 12 more"


def test_nodes_behind_an_unsupported_one_are_still_judged() -> None:
    """Hardmax has a known shape, so the Conv behind it is read and refused for its own reason."""
    error = refusal(
        """g (float[1,1,4,4] x) => (float[1,1,4,4] y) {
            a = Hardmax(x) y = Conv(a, a)
        }"""
    )
    assert [h.split(":")[0] for h in error.hints] == ["Hardmax", "Conv"]
    error = refusal("g (float[1,4] x) => (float[1,4] y) { a = Hardmax(x) y = Relu(a) }")
    assert error.hints == ("Hardmax: the operator is not supported (a)",)


def test_consequences_of_an_unsupported_node_are_not_listed() -> None:
    """A weight that an unsupported node would have made constant is no fault of its reader."""
    error = refusal(
        "g (float[1,4] x) => (float[1,3] y) { v = other.Magic(w) y = MatMul(x, v) }",
        w=f32(4, 3),
    )
    assert error.hints == ("Magic: the operators of domain 'other' are not supported (v)",)
    error = refusal(
        "g (float[1,4] x) => (float y) { i = ArgMax(x) n = Neg(i) y = Cast <to=1> (n) }"
    )
    assert [h.split(":")[0] for h in error.hints] == ["ArgMax"]


def test_control_flow_is_an_unsupported_operator() -> None:
    branch = parser.parse_graph("b () => (float[1,4] o) { o = Neg(r) }")
    model = parse("g (float[1,4] x) => (float[1,4] y) { r = Relu(x) }", c=np.array(True))
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)
    with pytest.raises(UnsupportedError) as caught:
        read_onnx(check_model(model), "m")
    assert caught.value.hints == ("If: the operator is not supported (y)",)


def test_models_that_are_quantized_are_refused_as_such() -> None:
    error = refusal(
        """g (int8[1,4] x) => (int8[1,4] y) {
            d = DequantizeLinear(x, s) r = Relu(d) y = QuantizeLinear(r, s, z)
        }""",
        s=np.array(0.5, np.float32),
        z=np.array(0, np.int8),
    )
    assert error.message == "1 input and 2 nodes are not supported"
    assert error.hints == (
        "input: it holds int8 values; only float inputs are supported (x)",
        "DequantizeLinear: models that are quantized already are not supported yet (d)",
        "QuantizeLinear: models that are quantized already are not supported yet (y)",
    )
    error = refusal("g (float[1,4] x) => (float[1,4] y) { y = qonnx.Quant(x) }")
    assert "quantized already" in error.hints[0]


@pytest.mark.parametrize("kind", ["int64", "uint8", "bool"])
def test_inputs_that_are_not_float_are_refused(kind: str) -> None:
    error = refusal(f"g ({kind}[1,4] x) => (float[1,4] y) {{ y = Cast <to = 1> (x) }}")
    assert error.message == "1 input is not supported"
    assert error.hints == (f"input: it holds {kind} values; only float inputs are supported (x)",)


def test_float16_and_double_inputs_are_read_as_float32() -> None:
    for kind in ("float16", "double"):
        graph = read(f"g ({kind}[1,4] x) => ({kind}[1,4] y) {{ y = Relu(x) }}")
        assert graph.shape("y") == (1, 4)


def test_a_shape_known_only_at_run_time_is_unsupported() -> None:
    error = refusal(
        "g (float[1,4] x) => (float y) { i = Cast <to = 7> (x) s = Squeeze(i) y = Reshape(x, s) }"
    )
    assert error.hints[0].startswith("Cast: ")
    error = refusal("g (float[4] x, float[2] s) => (float y) { y = Resize(x, , s) }", 13)
    assert error.message == "1 node is not supported"


# -- what is wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (
            "g (float[1,6] x) => (float y) { y = Reshape(x, s) }",
            r"node of y \(Reshape\): its shapes do not fit: 1x6 does not have .* of 8x5",
        ),
        ("g (float[1,6] x) => (float y) { y = Slice(x, a, a) }", r"\(Slice\): its output is empty"),
        ("g (float[1,6] x) => (float[1,6] x) { }", "output 'x' is an input passed on unchanged"),
        ("g (float[1,6] x) => (int64[2] s) { }", "output 's' is the same for every input"),
        (
            "g (float[1,6] x) => (int64[2] t) { t = Shape(x) }",
            "output 't' is the same for every input",
        ),
    ],
)
def test_what_cannot_be_compiled_is_named(graph: str, words: str) -> None:
    with pytest.raises(QccError, match=words):
        read(graph, s=np.array([8, 5], np.int64), a=np.array([0], np.int64))


def test_an_error_of_an_operator_names_the_node() -> None:
    """The checker does not compare the bias of a Conv with its weights."""
    with pytest.raises(QccError, match=r"node of y \(Conv\): conv2d: bias \(3,\) for 2 channels"):
        read(
            "g (float[1,1,4,4] x) => (float[1,2,4,4] y) { y = Conv(x, w, b) }",
            w=f32(2, 1, 1, 1),
            b=f32(3),
        )


class _Broken:
    @staticmethod
    def read(b: object, node: object) -> None:
        raise KeyError("nonsense")


def test_an_operator_that_stumbles_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cast("dict[str, object]", ONNX_OPS), "Relu", _Broken)
    with pytest.raises(QccError, match=r"node of y \(Relu\): the node cannot be read \(KeyError"):
        read("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }")


# -- batch -----------------------------------------------------------------------------------------

BATCH_8 = """g (float[8,1,4,4] x) => (float[8,16] y) {
    c = Conv(x, w) y = Reshape(c, s) }"""


def batched(target: list[int], shapes: dict[str, Shape] | None = None) -> Graph:
    model = parse(BATCH_8, w=f32(1, 1, 1, 1), s=np.array(target, np.int64))
    return read_onnx(check_model(model), "m", shapes)


def test_a_fixed_batch_is_refused_and_can_be_overridden() -> None:
    with pytest.raises(QccError, match=r"fixed batch of 8 .*; give --shape x=1,1,4,4"):
        batched([-1, 16])
    assert batched([-1, 16], {"x": (1, 1, 4, 4)}).shape("y") == (1, 16)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ([8, 16], "1x1x4x4 does not have the elements of 8x16"),
        ([8, -1], "output 'y' keeps the batch of 8 that the model was exported for"),
    ],
)
def test_a_batch_that_is_written_into_the_model_cannot_be_overridden(
    target: list[int], words: str
) -> None:
    with pytest.raises(QccError, match=words):
        batched(target, {"x": (1, 1, 4, 4)})


# -- many models -----------------------------------------------------------------------------------


def test_every_example_of_every_operator_is_read() -> None:
    for op in OPS.values():
        for model in op.examples():
            graph = read_onnx(check_model(model), model.graph.name)
            outputs = [graph.shape(o) for o in graph.outputs]
            declared = [
                tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in model.graph.output
            ]
            assert outputs == declared, model.graph.name


REAL = {
    "mlperf_tiny/ad_float": "dense 10",
    "mlperf_tiny/ad_float_bn": "dense 10",
    "mlperf_tiny/ic_float": "conv2d 9",
    "mlperf_tiny/ic_float_bn": "conv2d 9",
    "mlperf_tiny/ic_float_nchw": "conv2d 9",
    "mlperf_tiny/kws_float": "conv2d 9",
    "mlperf_tiny/kws_float_bn": "conv2d 9",
    "mlperf_tiny/kws_ref_hybrid": "conv2d 9",
    "mlperf_tiny/sww_float_bn": "conv2d 8",
    "mlperf_tiny/vww_float": "conv2d 27",
    "mlperf_tiny/vww_float_bn": "conv2d 27",
    "mlperf_tiny/vww_float_nchw": "conv2d 27",
    "zoo/espcn_x3_float": "conv2d 4",
    "zoo/fer_mini_xception_float_bn": "conv2d 23",
    "zoo/mediapipe_blazeface_short_range_float": "conv2d 37",
    "zoo/micro_kws_m_fp32": "conv2d 3",
    "zoo/mobilenet_v1_025_224_imagenet_float_bn": "conv2d 28",
    "zoo/onnxzoo_mnist8": "conv2d 2",
    "zoo/ppocr_mobile_v2_cls": "conv2d 53",
    "zoo/tflm_hello_world_float": "dense 3",
    "formats/float_dynamo": "conv2d 3",
    "formats/float_prep": "conv2d 3",
    "formats/float_ts_op13": "conv2d 3",
}
"""Model -> an operator and how often the graph has it."""

REFUSED = {
    "mlperf_tiny/ic_int8_qdq": "quantized already",
    "zoo/qonnx_tfc_2w2a_mnist": "quantized already",
    "formats/ort_qop_u8s8": "quantized already",
    "formats/native_op25_int2_uint2": "quantized already",
    "zoo/silero_vad_16k_op15": "If: the operator is not supported",
}
SHAPES: dict[str, dict[str, Shape]] = {
    "zoo/ppocr_mobile_v2_cls": {"x": (1, 3, 48, 192)},
    "zoo/silero_vad_16k_op15": {"input": (1, 576)},
}


def real(name: str) -> onnx.ModelProto:
    path = MODELS / f"{name}.onnx"
    if not path.exists():
        pytest.skip("the real models are not here")
    return load_model(path)


@pytest.mark.parametrize("name", REAL)
def test_real_float_models_are_read(name: str) -> None:
    graph = read_onnx(real(name), "m", SHAPES.get(name))
    counts = Counter(node.op for node in graph.nodes())
    op, number = REAL[name].split()
    assert counts[op] == int(number)
    assert all(graph.shape(t)[0] == 1 for t in (*graph.inputs, *graph.outputs))


@pytest.mark.parametrize("name", REFUSED)
def test_other_real_models_are_refused_for_the_true_reason(name: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        read_onnx(real(name), "m", SHAPES.get(name))
    assert any(REFUSED[name] in hint for hint in caught.value.hints)
    assert len(caught.value.hints) <= MAX_HINTS
