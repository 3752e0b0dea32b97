"""What moves bits: transpose, reshape, slice, pad, concat, resize_nearest; and ``Op.permute``.

Float meaning and C, bit for bit, are tested on the operators' examples in test_every_op.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from qcc import arith
from qcc.config import Config
from qcc.errors import QccError, UnsupportedError
from qcc.frontend.onnx_reader import read_onnx
from qcc.ir import Array, Graph, Node, QType, Quant, Shape, Tensor
from qcc.ops import OPS, copy_nd, pad, resize_nearest, transpose
from qcc.ops import slice as slice_op
from qcc.ops.base import In, Interval, Out, QuantContext
from qcc.ops.examples import model, normal

MOVERS = ("concat", "pad", "reshape", "resize_nearest", "slice", "transpose")
EXAMPLES = {m.graph.name: m for op in OPS.values() for m in op.examples()}


def nodes_of(proto: onnx.ModelProto) -> tuple[Graph, list[Node]]:
    graph = read_onnx(proto, "m")
    return graph, list(graph.nodes())


# -- Op.permute ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_permute_says_how_an_operator_commutes(name: str) -> None:
    """op(T(x), T(c)) = T(op'(x, c)) for every node of every example, constants of full rank too."""
    graph, nodes = nodes_of(EXAMPLES[name])
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for node in nodes:
        rank = len(graph.shape(node.output))
        if any(len(graph.shape(t)) != rank for t in graph.activations(node)):
            continue
        for _ in range(4):
            perm = tuple(int(p) for p in rng.permutation(rank))
            attrs = OPS[node.op].permute(node.attrs, perm, rank)
            if attrs is None:
                continue
            want = OPS[node.op].run_float(node.attrs, operands(graph, node))
            moved = operands(graph, node, transpose.inverse(perm))
            got = OPS[node.op].run_float(attrs, moved).transpose(0, *(p + 1 for p in perm))
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5, err_msg=node.name)


def operands(graph: Graph, node: Node, perm: Sequence[int] | None = None) -> list[Array]:
    """Two samples of every activation and the constants, transposed by *perm*."""
    values = []
    for i, name in enumerate(node.inputs):
        data = graph.tensor(name).data
        x = normal((2, *graph.shape(name)), seed=i) if data is None else data
        axes = x.ndim - (data is None)
        if perm is not None and axes == len(perm):
            lead = () if data is not None else (0,)
            x = x.transpose(*lead, *(p + len(lead) for p in perm))
        values.append(x)
    return values


def test_permute_of_what_is_bound_to_axes() -> None:
    taken = slice_op.Attrs((0, 1, 2), (1, 2, 3), (1, 1, 2))
    moved = slice_op.Slice.permute(taken, (0, 2, 1), 3)  # T axis 1 is axis 2 of x
    assert moved == slice_op.Attrs((0, 2, 1), (1, 3, 2), (1, 2, 1))
    assert pad.Pad.permute(pad.Attrs(((0, 0), (1, 2), (3, 4))), (0, 2, 1), 3).pads == (
        (0, 0),
        (3, 4),
        (1, 2),
    )


# -- intervals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_intervals_hold_per_channel(name: str) -> None:
    graph, nodes = nodes_of(EXAMPLES[name])
    for t in graph.tensors():
        if t.data is None:
            t.quant = Quant(QType(8), 0.02)
    for node in nodes:
        if node.op in MOVERS:
            OPS[node.op].quantize(graph, node, QuantContext(Config(), 8))
            check_interval(graph, node)


def check_interval(graph: Graph, node: Node) -> None:
    rng = np.random.default_rng(5)
    bounds, values = [], []
    for name in node.inputs:
        shape = graph.shape(name)
        if graph.is_constant(name):
            data = graph.constant(name)
            flat = data.reshape(-1, shape[-1])
            bounds.append(Interval(flat.min(axis=0), flat.max(axis=0)))
            values.append(data)
            continue
        ends = np.sort(rng.integers(-127, 128, (2, shape[-1])), axis=0)
        bounds.append(Interval(ends[0], ends[1]))
        x = rng.integers(ends[0], ends[1] + 1, (40, *shape))
        x[0], x[1] = ends
        values.append(x)
    y = OPS[node.op].run_int(graph, node, values)
    found = OPS[node.op].interval(graph, node, bounds).expand(y.shape[-1])
    axes = tuple(range(y.ndim - 1))
    assert np.all(found.lo <= y.min(axis=axes)), node.name
    assert np.all(found.hi >= y.max(axis=axes)), node.name


def node_of(op: str, attrs: object, shape: Shape, quant: Quant) -> tuple[Graph, Node]:
    """A graph of one operator on one input."""
    graph = Graph("g", inputs=["x"], outputs=["y"])
    graph.add_tensor(Tensor("x", shape, quant=quant))
    graph.add_tensor(Tensor("y", OPS[op].infer(attrs, [shape]), quant=quant))
    return graph, graph.add_node(Node("n", op, ("x",), ("y",), attrs))


def test_channels_added_by_padding_are_constant() -> None:
    around = pad.Attrs(((0, 0), (0, 0), (0, 0), (1, 2)), 0.5)
    graph, node = node_of("pad", around, (1, 2, 2, 3), Quant(QType(8), 0.1))
    y = OPS["pad"].interval(graph, node, [Interval.of(-7, 9)])
    assert y.lo.tolist() == [5, -7, -7, -7, 5, 5]
    assert y.hi.tolist() == [5, 9, 9, 9, 5, 5]


def test_flattening_keeps_what_is_known_of_channels() -> None:
    from qcc.ops.reshape import Attrs

    x = Interval(np.array([0, 1, 2]), np.array([5, 6, 7]))
    graph, node = node_of("reshape", Attrs((1, 12)), (1, 2, 2, 3), Quant(QType(8), 0.1))
    assert OPS["reshape"].interval(graph, node, [x]).hi.tolist() == [5, 6, 7] * 4
    graph, node = node_of("reshape", Attrs((4, 3)), (1, 12), Quant(QType(8), 0.1))
    wide = Interval(np.arange(12), np.arange(12))
    y = OPS["reshape"].interval(graph, node, [wide])
    assert (y.lo.tolist(), y.hi.tolist()) == ([0, 1, 2], [9, 10, 11])


# -- pad, concat ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "want"), [(-np.inf, -127), (np.inf, 127), (0.25, 3), (-0.25, -2), (-3.4e38, -127)]
)
def test_padding_is_rounded_half_up_and_saturated(value: float, want: int) -> None:
    y = Quant(QType(8), 0.1)
    assert pad.integer_value(pad.Attrs((), value), y) == want


def test_a_constant_operand_of_concat_takes_the_format_of_the_output() -> None:
    graph, nodes = nodes_of(EXAMPLES["concat_constant"])
    (join,) = (n for n in nodes if n.op == "concat")
    quant = Quant(QType(8, signed=False), 0.01)
    for t in graph.tensors():
        if t.data is None:
            t.quant = quant
    real = graph.constant(join.inputs[0])
    OPS["concat"].quantize(graph, join, QuantContext(Config(), 8))
    assert graph.quant(join.inputs[0]) == quant
    expected = arith.quantize(real, 0.01, quant.qtype)
    np.testing.assert_array_equal(graph.constant(join.inputs[0]), expected)


# -- copies --------------------------------------------------------------------------------------


def test_axes_that_continue_each_other_are_one_loop() -> None:
    assert copy_nd.merged((1, 4, 5, 6), (120, 30, 6, 1), (120, 30, 6, 1)) == [(120, 1, 1)]
    assert copy_nd.merged((4, 5, 6), (30, 6, 1), (60, 6, 1)) == [(4, 30, 60), (30, 1, 1)]
    assert copy_nd.merged((3, 4), (1, 3), (4, 1)) == [(3, 1, 4), (4, 3, 1)]
    assert copy_nd.merged((3, 4), (-4, -1), (4, 1)) == [(12, -1, 1)]
    assert copy_nd.merged((1, 1), (1, 1), (1, 1)) == [(1, 0, 0)]


def test_seven_axes_that_do_not_join_are_refused() -> None:
    shape = (2,) * 7
    graph, node = node_of("transpose", transpose.Attrs((6, 5, 4, 3, 2, 1, 0)), shape, _Q)
    with pytest.raises(QccError, match="along 7 axes; at most 6"):
        OPS["transpose"].calls(graph, node)


_Q = Quant(QType(8), 1.0)


def test_a_copy_reads_and_writes_where_it_says() -> None:
    graph, node = node_of("slice", slice_op.Attrs((3, 1), (2, 2), (-2, 1)), (5, 4), _Q)
    (call,) = OPS["slice"].calls(graph, node)
    assert call.args[:4] == (In(0), 3 * 4 + 1, Out(), 0)
    assert call.args[8:10] == (2, 2)  # loops
    assert call.args[14:16] == (-8, 1)  # strides of the source
    assert call.args[20:22] == (2, 1)


# -- resize --------------------------------------------------------------------------------------

COORDINATES = [*resize_nearest._COORDINATES]
ROUNDINGS = [*resize_nearest._ROUNDINGS]


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_resize_by_powers_of_two_picks_what_onnxruntime_picks(
    coordinates: str, rounding: str
) -> None:
    """Scales whose arithmetic float32 does exactly, ties included."""
    opset = 11 if coordinates == "tf_half_pixel_for_nn" else 19
    for scales in ([2.0, 4.0], [0.5, 0.25], [1.0, 2.0], [1.5, 0.75]):
        consts = {"roi": np.zeros(0, np.float32), "s": np.array([1, 1, *scales], np.float32)}
        attrs = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
        node = helper.make_node("Resize", ["x", "roi", "s"], ["y"], mode="nearest", **attrs)
        check_against_onnxruntime(model("m", [node], {"x": (1, 1, 8, 12)}, ["y"], consts, opset))


def check_against_onnxruntime(proto: onnx.ModelProto) -> None:
    _, (_, node, *_) = nodes_of(proto)
    (n, c, h, w) = (int(d.dim_value) for d in proto.graph.input[0].type.tensor_type.shape.dim)
    x = np.arange(n * c * h * w, dtype=np.float32).reshape(n, c, h, w)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    want = np.asarray(session.run(None, {"x": x})[0])
    assert node.op == "resize_nearest"
    got = x[:, :, list(node.attrs.rows)][:, :, :, list(node.attrs.cols)]
    np.testing.assert_array_equal(got, want)


def test_an_axis_too_long_for_the_index_tables_is_refused() -> None:
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="nearest")
    scales = {"s": np.array([1, 1, 2], np.float32)}
    nodes_of(model("long", [node], {"x": (1, 1, 1 << 16)}, ["y"], scales))
    with pytest.raises(UnsupportedError) as caught:
        nodes_of(model("long", [node], {"x": (1, 1, (1 << 16) + 1)}, ["y"], scales))
    assert "65537 elements" in caught.value.hints[0]


def test_a_crop_region_is_resized() -> None:
    consts: dict[str, Array] = {
        "roi": np.array([0, 0, 0.25, 0.1, 1, 1, 0.75, 0.9], np.float32),
        "sizes": np.array([1, 1, 3, 4], np.int64),
    }
    node = helper.make_node(
        "Resize", ["x", "roi", "", "sizes"], ["y"], mode="nearest",
        coordinate_transformation_mode="tf_crop_and_resize",
    )  # fmt: skip
    check_against_onnxruntime(model("m", [node], {"x": (1, 1, 9, 11)}, ["y"], consts))


@pytest.mark.parametrize(
    ("scale", "meant"), [(2.4, (12, 5)), (2 / 3, (2, 3)), (0.5, (1, 2)), (1.71, (171, 100))]
)
def test_a_float32_scale_is_the_fraction_that_it_came_from(
    scale: float, meant: tuple[int, int]
) -> None:
    assert resize_nearest._meant(float(np.float32(scale))) == Fraction(*meant)


def test_a_tie_is_a_tie_whatever_float32_makes_of_it() -> None:
    """18 / 2.4 = 7.5, but 18 / float32(2.4) < 7.5."""
    scale = {"s": np.array([1, 1, 2.4], np.float32)}
    for rounding, want in (("round_prefer_floor", 7), ("round_prefer_ceil", 8)):
        attrs = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": rounding}
        node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="nearest", **attrs)
        _, nodes = nodes_of(model("m", [node], {"x": (1, 2, 10)}, ["y"], scale))
        (resize,) = (n for n in nodes if n.op == "resize_nearest")
        assert resize.attrs.cols[18] == want


# -- refusals ------------------------------------------------------------------------------------


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


ONE = np.array([1, 1, 2, 2], np.float32)
REFUSED: dict[str, tuple[tuple[str, list[str]], dict[str, Any], dict[str, Array]]] = {
    "mode linear": (("Resize", ["x", "", "s"]), {"mode": "linear"}, {"s": ONE}),
    "may change": (("Resize", ["x", "", "s"]), {"mode": "nearest"}, {"s": ONE[::-1]}),
    "it computes int64 values": (("Cast", ["x"]), {"to": TensorProto.INT64}, {}),
    "training_mode is set": (
        ("Dropout", ["x", "r", "t"]), {}, {"r": np.array(0.5, np.float32), "t": np.array(True)},
    ),
    "reflect pads 4, 0": (
        ("Pad", ["x", "p"]), {"mode": "reflect"}, {"p": i64(0, 0, 4, 0, 0, 0, 0, 0)},
    ),
    "a crop region that leaves": (
        ("Resize", ["x", "roi", "", "z"]),
        {"mode": "nearest", "coordinate_transformation_mode": "tf_crop_and_resize"},
        {"roi": np.array([0, 0, -0.5, 0, 1, 1, 1.5, 1], np.float32), "z": i64(1, 3, 4, 4)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_supported_is_refused(reason: str) -> None:
    (op, inputs), attrs, constants = REFUSED[reason]
    nodes = [helper.make_node(op, inputs, ["m"], **attrs)]
    last = "m"
    if op == "Cast":
        nodes.append(helper.make_node("Cast", ["m"], ["u"], to=TensorProto.FLOAT))
        last = "u"
    nodes.append(helper.make_node("Relu", [last], ["y"]))
    proto = model("m", nodes, {"x": (1, 3, 4, 4)}, ["y"], constants)
    with pytest.raises(QccError) as caught:
        read_onnx(proto, "m")
    assert any(reason in line for line in (caught.value.message, *caught.value.hints))
