"""Constant folding on ONNX nodes: what disappears, what must stay, and what it may cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, defs, helper, numpy_helper, parser

from qcc.errors import QccError
from qcc.frontend.load import check_model
from qcc.frontend.shapes import static_inputs
from qcc.frontend.simplify import SimplifiedModel, simplify
from qcc.ir import Array, Shape

NEWEST = defs.onnx_opset_version()


def parse(graph: str, opset: int = 17, /, **constants: Array) -> onnx.ModelProto:
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    model = parser.parse_model(f"{header}\n{graph}")
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def run(model: onnx.ModelProto, **shapes: Shape) -> SimplifiedModel:
    checked = check_model(model)
    return simplify(checked, static_inputs(checked, shapes))


def ops(simple: SimplifiedModel) -> list[str]:
    return [node.op_type for node in simple.nodes]


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


def i64s(value: int) -> Array:
    return np.array(value, np.int64)


def i8(values: npt.ArrayLike) -> Array:
    return np.array(values, np.int8)


def f32(values: npt.ArrayLike) -> Array:
    return np.array(values, np.float32)


# -- shape arithmetic ------------------------------------------------------------------------------


def test_the_shape_arithmetic_of_a_flatten_disappears() -> None:
    """What PyTorch writes for x.view(x.shape[0], -1)."""
    simple = run(
        parse(
            """g (float[N,3,4,5] x) => (float[N,m] y) {
                r = Relu(x)
                s = Shape(r)
                n = Gather <axis = 0> (s, zero)
                u = Unsqueeze(n, axes)
                t = Concat <axis = 0> (u, rest)
                y = Reshape(r, t)
            }""",
            zero=np.array(0, np.int64),
            axes=i64(0),
            rest=i64(-1),
        )
    )
    assert ops(simple) == ["Relu", "Reshape"]
    assert {name: value.tolist() for name, value in simple.constants.items()} == {"t": [1, -1]}
    assert simple.shapes == {"x": (1, 3, 4, 5), "r": (1, 3, 4, 5), "y": (1, 60), "t": (2,)}
    assert simple.types["y"] == TensorProto.FLOAT
    assert (simple.inputs, simple.outputs, simple.opset) == (("x",), ("y",), 17)


def test_arithmetic_that_follows_a_reshape_of_computed_shape_is_folded_too() -> None:
    """Each Shape needs the Reshape before it, so one round of inference would not do."""
    stages = "\n".join(
        f"s{i} = Shape(x{i}) r{i} = Slice(s{i}, one, two, zero) q{i} = Slice(s{i}, zero, one, zero)"
        f" p{i} = Concat <axis = 0> (r{i}, q{i}) x{i + 1} = Reshape(x{i}, p{i})"
        for i in range(5)
    )
    model = parse(
        f"g (float[6,35] x0) => (float[a,b] x5) {{ {stages} }}",
        zero=i64(0),
        one=i64(1),
        two=i64(2),
    )
    simple = run(model)
    assert ops(simple) == ["Reshape"] * 5
    assert simple.shapes["x5"] == (35, 6)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("", [1, 3, 4, 5]),
        ("<start = 1>", [3, 4, 5]),
        ("<start = -2>", [4, 5]),
        ("<start = 1, end = -1>", [3, 4]),
        ("<end = 99>", [1, 3, 4, 5]),
        ("<start = -99, end = 0>", []),
        ("<start = 3, end = 1>", []),
    ],
)
def test_shape_with_bounds(attributes: str, expected: list[int]) -> None:
    body = f"r = Relu(x) s = Shape {attributes} (r) y = Cast <to = 1> (s)"
    simple = run(parse(f"g (float[N,3,4,5] x) => (float[k] y) {{ {body} }}"))
    assert ops(simple) == []
    assert simple.constants["y"].tolist() == expected


def test_size_is_a_constant() -> None:
    body = "s = Size(x) f = Cast <to = 1> (s) y = Div(x, f)"
    simple = run(parse(f"g (float[N,3,4] x) => (float[N,3,4] y) {{ {body} }}"))
    assert ops(simple) == ["Div"]
    assert simple.constants["f"] == 12


# -- constants -------------------------------------------------------------------------------------


def constant(**attribute: Any) -> Array:
    """What a Constant node of one attribute is folded to, seen through its use."""
    node = helper.make_node("Constant", [], ["c"], **attribute)
    model = parse("g (float[1,3] x) => (float[1,3] y, float[m] c) { y = Relu(x) }")
    model.graph.node.append(node)
    return run(model).constants["c"]


@pytest.mark.parametrize(
    ("attribute", "expected", "dtype"),
    [
        ({"value": numpy_helper.from_array(f32([[1, 2]]))}, [[1, 2]], np.float32),
        ({"value": numpy_helper.from_array(np.array([3], np.int8))}, [3], np.int8),
        ({"value": numpy_helper.from_array(np.array([0.5]))}, [0.5], np.float32),
        ({"value_float": 2.5}, 2.5, np.float32),
        ({"value_floats": [0.5, 1.5]}, [0.5, 1.5], np.float32),
        ({"value_int": -7}, -7, np.int64),
        ({"value_ints": [1, 2, 3]}, [1, 2, 3], np.int64),
    ],
)
def test_every_spelling_of_a_constant_is_read(
    attribute: dict[str, Any], expected: object, dtype: type[np.generic]
) -> None:
    value = constant(**attribute)
    assert value.tolist() == expected
    assert value.dtype == dtype


def test_sparse_and_text_constants_are_read() -> None:
    values = numpy_helper.from_array(np.array([5, 7], np.float32), "v")
    index = numpy_helper.from_array(i64(0, 3), "i")
    sparse = helper.make_sparse_tensor(values, index, [4])
    assert constant(sparse_value=sparse).tolist() == [5, 0, 0, 7]
    assert constant(value_string="text").tolist() == b"text"
    assert constant(value_strings=["a", "b"]).tolist() == [b"a", b"b"]


def test_an_operator_on_text_is_left_alone() -> None:
    node = helper.make_node("Constant", [], ["c"], value_strings=["a", "b"])
    model = parse("g (float[1,3] x) => (string[2] z) { z = Identity(c) }")
    model.graph.node.insert(0, node)
    assert ops(run(model)) == ["Identity"]


# Every version of the operators whose attributes became inputs, or whose meaning changed.
CASES: list[tuple[int, str, dict[str, Array], Any]] = [
    (7, "c = Clip <min = 0.0, max = 1.0> (a)", {}, [[0, 1, 0], [1, 0, 1]]),
    (13, "c = Clip(a, lo)", {"lo": f32(1)}, [[1, 2, 1], [4, 1, 6]]),
    (7, "c = Slice <axes = [1], starts = [-2], ends = [99]> (a)", {}, [[2, -3], [-5, 6]]),
    (
        10,
        "c = Slice(a, b, e, k, s)",
        {"b": i64(2), "e": i64(-9), "k": i64(1), "s": i64(-2)},
        [[-3, -1], [6, 4]],
    ),
    (7, "t = Unsqueeze <axes=[0]> (a) c = Squeeze <axes=[0]> (t)", {}, [[-1, 2, -3], [4, -5, 6]]),
    (7, "c = Unsqueeze <axes = [0]> (a)", {}, [[[-1, 2, -3], [4, -5, 6]]]),
    (13, "c = Unsqueeze(a, k)", {"k": i64(0)}, [[[-1, 2, -3], [4, -5, 6]]]),
    (7, "c = ReduceSum <axes = [1], keepdims = 0> (a)", {}, [-2, 5]),
    (13, "c = ReduceSum <keepdims = 0> (a, k)", {"k": i64(1)}, [-2, 5]),
    (13, "c = ReduceMax <axes = [0]> (a)", {}, [[4, 2, 6]]),
    (18, "c = ReduceMax(a, k)", {"k": i64(0)}, [[4, 2, 6]]),
    (7, "c = ReduceProd(a)", {}, [[-720]]),
    (7, "c = ReduceMean <axes = [1]> (a)", {}, [[-2 / 3], [5 / 3]]),
    (7, "c = ReduceMin <axes = [1]> (a)", {}, [[-3], [-5]]),
    (
        7,
        "c = Pad <pads = [0, 1, 0, 0], value = 9.0> (a)",
        {},
        [[9, -1, 2, -3], [9, 4, -5, 6]],
    ),
    (11, "c = Pad(a, p)", {"p": i64(0, 0, 0, 1)}, [[-1, 2, -3, 0], [4, -5, 6, 0]]),
    (18, "c = Pad(a, p, v, k)", {"p": i64(1, 0), "v": f32(7), "k": i64(1)},
     [[7, -1, 2, -3], [7, 4, -5, 6]]),
    (7, "d, c = Split <axis = 1, split = [2, 1]> (a)", {}, [[-3], [6]]),
    (13, "d, c = Split <axis = 1> (a, s)", {"s": i64(1, 2)}, [[2, -3], [-5, 6]]),
    (7, "c = Gather <axis = 1> (a, k)", {"k": i64(2, 0)}, [[-3, -1], [6, 4]]),
    (11, "c = Gather <axis = 1> (a, k)", {"k": np.array(-1, np.int64)}, [-3, 6]),
    (7, "c = Flatten <axis = 0> (a)", {}, [[-1, 2, -3, 4, -5, 6]]),
    (7, "c = Transpose(a)", {}, [[-1, 4], [2, -5], [-3, 6]]),
    (7, "c = Concat <axis = 0> (a, a)", {}, [[-1, 2, -3], [4, -5, 6]] * 2),
    (8, "c = Expand(k, s)", {"k": f32([3]), "s": i64(2, 2)}, [[3, 3], [3, 3]]),
    (9, "c = ConstantOfShape <value = float[1] {2}> (s)", {"s": i64(1, 2)}, [[2, 2]]),
    (7, "c = Tile(k, s)", {"k": f32([1, 2]), "s": i64(2)}, [1, 2, 1, 2]),
    (11, "r = Range(b, e, s) c = Cast <to = 1> (r)",
     {"b": i64s(1), "e": i64s(8), "s": i64s(3)}, [1, 4, 7]),
    (9, "m = Greater(a, z) c = Where(m, a, z)", {"z": f32(0)}, [[0, 2, 0], [4, 0, 6]]),
    (7, "c = Sum(a, a, k)", {"k": f32([1, 1, 1])}, [[-1, 5, -5], [9, -9, 13]]),
    (7, "c = MatMul(a, k)", {"k": f32([[1], [0], [2]])}, [[-7], [16]]),
    (7, "c = Gemm <transB = 1, alpha = 2.0> (a, k, z)",
     {"k": f32([[1, 0, 2]]), "z": f32([1])}, [[-13], [33]]),
    (10, "c = DequantizeLinear(q, s, z)",
     {"q": i8([1, 4]), "s": f32(0.5), "z": i8(2)}, [-0.5, 1]),
    (13, "c = DequantizeLinear <axis = 0> (q, s, z)",
     {"q": i8([[2], [4]]), "s": f32([0.5, 2]), "z": i8([0, 1])}, [[1], [6]]),
    (NEWEST, "c = DequantizeLinear(q, s)", {"q": i8([2]), "s": f32(3)}, [6]),
    (13, "n = NonZero(a) c = Cast <to = 1> (n)", {}, [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]),
    (NEWEST, "c = Softplus(k)", {"k": f32([0])}, [math.log(2)]),
]  # fmt: skip


@pytest.mark.parametrize(("opset", "body", "constants", "expected"), CASES)
def test_what_reads_constants_only_is_computed(
    opset: int, body: str, constants: dict[str, Array], expected: npt.ArrayLike
) -> None:
    graph = f"g (float[1,3] x) => (float[1,3] y, float c) {{ y = Relu(x) {body} }}"
    a = f32([[-1, 2, -3], [4, -5, 6]])
    simple = run(parse(graph, opset, a=a, **constants))
    assert ops(simple) == ["Relu"]
    np.testing.assert_allclose(simple.constants["c"], f32(expected), rtol=1e-6)
    assert simple.constants["c"].shape == np.shape(expected)
    assert simple.constants["c"].dtype == np.float32


@pytest.mark.parametrize(
    "body",
    [
        "c = RandomNormal <shape = [2]> ()",
        "c = RandomUniformLike(a)",
        "c = Bernoulli(a)",
        "c, m = Dropout(a, r, t)",
    ],
)
def test_random_numbers_are_no_constants(body: str) -> None:
    graph = f"g (float[1,3] x) => (float[1,3] y, float c) {{ y = Relu(x) {body} }}"
    constants = {"a": f32([1, 2]), "r": f32(0.5), "t": np.array(True)}
    simple = run(parse(graph, NEWEST, **constants))
    assert len(simple.nodes) == 2
    assert "c" not in simple.constants


def test_an_old_softmax_is_not_computed_as_a_new_one() -> None:
    """Before opset 13 it worked over all axes from *axis* on; the evaluator knows the new one."""
    graph = "g (float[1,3] x) => (float[1,3] y, float c) { y = Relu(x) c = Softmax <axis = 0> (a) }"
    assert ops(run(parse(graph, 11, a=f32([[1, 2], [3, 4]])))) == ["Relu", "Softmax"]
    assert ops(run(parse(graph, 13, a=f32([[1, 2], [3, 4]])))) == ["Relu"]


def test_constants_that_work_out_to_nan_are_refused() -> None:
    graph = "g (float[1,3] x) => (float[1,3] y) { c = Div(z, z) y = Add(x, c) }"
    with pytest.raises(QccError, match="constant 'c' works out to NaN or infinity"):
        run(parse(graph, z=f32(0)))


# -- what stays and what goes ----------------------------------------------------------------------


def test_dead_nodes_weights_and_unread_optional_outputs_go() -> None:
    simple = run(
        parse(
            """g (float[1,1,4,4] x) => (float[1,1,2,2] y) {
                p, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
                y, mask = Dropout(p)
                dead = other.Magic(x)
                deader = Add(dead, w)
            }""",
            w=np.ones(1, np.float32),
        )
    )
    assert [(n.op_type, list(n.output)) for n in simple.nodes] == [
        ("MaxPool", ["p"]),
        ("Dropout", ["y"]),
    ]
    assert simple.constants == {}


def test_outputs_that_count_stay() -> None:
    """Without a split, the number of outputs of Split says how large they are."""
    simple = run(parse("g (float[1,4] x) => (float[1,2] y) { y, rest = Split <axis = 1> (x) }", 13))
    assert list(simple.nodes[0].output) == ["y", "rest"]
    graph = """g (float[1,1,4,4] x) => (float[1,1,2,2] y, int64[1,1,2,2] i) {
        y, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) }"""
    assert list(run(parse(graph)).nodes[0].output) == ["y", "i"]


def test_the_model_stays_as_it_is() -> None:
    model = check_model(
        parse("g (float[N,4] x) => (float[N,4] y) { s = Shape(x) y, m = Dropout(x) }")
    )
    before = model.SerializeToString(deterministic=True)
    simplify(model, static_inputs(model))
    assert model.SerializeToString(deterministic=True) == before


def test_what_an_unknown_operator_makes_has_no_shape_and_its_neighbours_have() -> None:
    simple = run(
        parse(
            """g (float[1,4] x) => (float[m] y, float[m] z) {
                r = Relu(x) t = other.Magic(r) y = Relu(t) z = Neg(r)
            }"""
        )
    )
    assert ops(simple) == ["Relu", "Magic", "Relu", "Neg"]
    assert set(simple.shapes) == {"x", "r", "z"}
    assert simple.faults == {}


def test_a_subgraph_is_not_entered_but_what_it_reads_is_kept() -> None:
    branch = parser.parse_graph("b () => (float[1,4] o) { o = Neg(r) }")
    model = parse("g (float[1,4] x, bool c) => (float[1,4] y) { r = Relu(x) }")
    model.graph.node.append(
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    )
    assert ops(run(model)) == ["Relu", "If"]


# -- shapes that do not work out -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("y = MatMul(x, x)", "Incompatible dimensions"),
        ("y = Reshape(x, s)", "1x6 does not have the elements of 8x5"),
        ("y = Transpose <perm = [0, 0]> (x)", "perm"),
    ],
)
def test_a_shape_that_does_not_work_out_is_a_fault_of_its_node(body: str, words: str) -> None:
    simple = run(parse(f"g (float[1,6] x) => (float y) {{ {body} }}", s=i64(8, 5)))
    assert words in simple.faults["y"]
    assert "y" not in simple.shapes


# -- bombs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("c = ConstantOfShape(s) y = Add(x, c)", {"s": i64(1 << 20, 1 << 20)}),
        ("y = Expand(x, s)", {"s": i64(1 << 30, 4)}),
        ("y = Tile(x, s)", {"s": i64(1, 1 << 40)}),
        ("y = Resize(x, , f)", {"f": f32([1e5, 1e5])}),
        ("y = Pad(x, s)", {"s": i64(0, 0, 0, 1 << 40)}),
        ("r = Range(b, e, d) f = Cast <to = 1> (r) y = Add(x, f)",
         {"b": i64s(0), "e": i64s(1 << 60), "d": i64s(1)}),
    ],
)  # fmt: skip
def test_size_bombs_are_refused_before_they_are_computed(
    body: str, constants: dict[str, Array]
) -> None:
    with pytest.raises(QccError, match=r"node of .* makes \d+ elements"):
        run(parse(f"g (float[1,4] x) => (float y) {{ {body} }}", **constants))


def test_many_large_constants_are_refused_together() -> None:
    steps = [f"c{i} = ConstantOfShape(s)" for i in range(20)]
    total = f"t = Sum({', '.join(f'c{i}' for i in range(20))})"
    graph = f"g (float[1,4] x) => (float y) {{ {' '.join(steps)} {total} y = Add(x, t) }}"
    with pytest.raises(QccError, match="take too much to compute"):
        run(parse(graph, s=i64(1 << 23)))


def test_what_is_too_much_work_for_one_node_is_left_to_later_stages() -> None:
    body = "y = Relu(x) c = MatMul(a, b)"
    big = np.zeros((1 << 11, 1 << 10), np.float32)
    model = parse(f"g (float[1,3] x) => (float[1,3] y, float c) {{ {body} }}", a=big, b=big.T)
    assert ops(run(model)) == ["Relu", "MatMul"]


def _chain(n: int, op: str, first: str) -> Sequence[str]:
    return [f"t{i + 1} = {op}({f't{i}' if i else first})" for i in range(n)]


def test_five_thousand_nodes_are_walked_without_recursion() -> None:
    nodes = " ".join(_chain(5000, "Relu", "x"))
    simple = run(parse(f"g (float[1,4] x) => (float[1,4] t5000) {{ {nodes} }}"))
    assert len(simple.nodes) == 5000
    assert simple.shapes["t5000"] == (1, 4)
