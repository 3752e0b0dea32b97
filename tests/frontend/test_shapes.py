"""The fixed shapes that inputs get, and what is said where they cannot be fixed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from qcc.errors import QccError, UsageError
from qcc.frontend.shapes import check_batch, static_inputs
from qcc.ir import Shape


def parse(inputs: str, body: str = "y = Relu(x)") -> onnx.ModelProto:
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    return parser.parse_model(f"{header}\ng ({inputs}) => (float y) {{ {body} }}")


def fixed(inputs: str, **shapes: Shape) -> dict[str, Shape]:
    return static_inputs(parse(inputs), shapes)


@pytest.mark.parametrize(
    ("declared", "shape"),
    [
        ("float[1,3,8,8] x", (1, 3, 8, 8)),
        ("float[N,3,8,8] x", (1, 3, 8, 8)),
        ("float[unk__259,640] x", (1, 640)),
        ("float[?,640] x", (1, 640)),
        ("float[0,640] x", (1, 640)),
        ("float[N] x", (1,)),
        ("float[7,2] x", (7, 2)),
        ("float[] x", None),
    ],
)
def test_an_unknown_first_axis_is_a_batch_of_one(declared: str, shape: Shape | None) -> None:
    if shape is None:  # the parser's "no shape"
        with pytest.raises(QccError, match="input 'x' has no shape; give one, such as --shape x="):
            fixed(declared)
        return
    assert fixed(declared) == {"x": shape}


def test_minus_one_is_unknown_and_a_scalar_stays_one() -> None:
    model = parse("float[1,4] x")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert static_inputs(model) == {"x": (1, 4)}
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    assert static_inputs(model) == {"x": ()}


def test_weights_listed_as_inputs_are_none() -> None:
    """Before IR version 4 every initializer had to be listed as an input."""
    model = parse("float[N,4] x, float[4] w")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    assert static_inputs(model) == {"x": (1, 4)}
    with pytest.raises(UsageError, match="--shape w: the model has no such input; it has x"):
        static_inputs(model, {"w": (4,)})


def test_other_unknown_dimensions_are_asked_for_with_the_exact_option() -> None:
    with pytest.raises(QccError) as caught:
        fixed("float[N,3,height,?] x")
    assert caught.value.message == (
        "input 'x' has the shape [N, 3, height, ?], which is not fixed;"
        " give it with --shape x=1,3,<height>,<axis3>"
    )
    assert caught.value.exit_code == 1
    assert fixed("float[N,3,height,?] x", x=(1, 3, 32, 48)) == {"x": (1, 3, 32, 48)}
    assert fixed("float[] x", x=(1, 4)) == {"x": (1, 4)}


def test_a_symbol_has_one_value_in_all_inputs() -> None:
    assert fixed("float[N,4] x, float[2,N,L] s, float[L] t", x=(1, 4), t=(9,)) == {
        "x": (1, 4),
        "s": (2, 1, 9),
        "t": (9,),
    }


def test_a_name_that_exporters_give_to_different_dimensions_says_nothing() -> None:
    assert fixed("float[N,3,d,d] x", x=(1, 3, 48, 192)) == {"x": (1, 3, 48, 192)}
    with pytest.raises(QccError, match="input 's' has the shape"):
        fixed("float[N,3,d,d] x, float[1,d] s", x=(1, 3, 48, 192))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 3, 32), "--shape x=1,3,32: the input has 4 dimensions, [N, 3, h, 32]"),
        ((1, 4, 32, 32), "--shape x=1,4,32,32: axis 1 is fixed to 3 in the model"),
        ((1, 3, 0, 32), "every dimension must be at least 1"),
        ((1, 3, -1, 32), "every dimension must be at least 1"),
    ],
)
def test_a_shape_that_contradicts_the_model_is_a_usage_error(shape: Shape, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        fixed("float[N,3,h,32] x", x=shape)
    assert words in caught.value.message
    assert caught.value.exit_code == 2


def test_a_shape_for_an_unknown_input_names_the_inputs_there_are() -> None:
    with pytest.raises(UsageError, match="--shape z: the model has no such input; it has x"):
        fixed("float[N,4] x", z=(1, 4))


def test_a_fixed_batch_is_refused_with_the_option_that_overrides_it() -> None:
    conv = parse("float[8,3,9,9] x, float[4,3,3,3] w", "y = Conv(x, w)")
    conv.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w"))
    with pytest.raises(QccError, match=r"input 'x' has a fixed batch of 8 .* --shape x=1,3,9,9"):
        check_batch(conv, static_inputs(conv))
    overridden = static_inputs(conv, {"x": (1, 3, 9, 9)})
    assert overridden == {"x": (1, 3, 9, 9)}
    check_batch(conv, overridden)
    with pytest.raises(UsageError, match="axis 0 is fixed to 8 in the model"):
        static_inputs(conv, {"x": (4, 3, 9, 9)})


def test_axis_0_is_no_batch_where_no_operator_says_so() -> None:
    check_batch(parse("float[2,3,4] x"), {"x": (2, 3, 4)})


def test_size_bombs_are_refused() -> None:
    with pytest.raises(QccError, match="input 'x' has 1073741824 elements"):
        fixed("float[N,1024,1024,1024] x")
    with pytest.raises(QccError, match="elements"):
        fixed("float[N,a,b] x", x=(1, 1 << 40, 1 << 40))


def test_inputs_that_are_no_tensors_and_models_without_inputs_are_refused() -> None:
    with pytest.raises(QccError, match="input 'x' is a sequence; only tensors"):
        fixed("seq(float[4]) x")
    with pytest.raises(QccError, match="the model has no input"):
        fixed("")


def test_hostile_names_stay_short_and_on_one_line() -> None:
    for name in ("a\nb*/", "n" * 10_000):
        model = parse("float[N,3,h,w] x")
        model.graph.input[0].name = name
        with pytest.raises(QccError) as caught:
            static_inputs(model)
        assert caught.value.message.isprintable()
        assert len(caught.value.message) < 300
