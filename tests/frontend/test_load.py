"""Hostile and broken model files: each is refused with one sentence, never a traceback."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper, numpy_helper, parser

from qcc.errors import QccError
from qcc.frontend.load import check_model, load_model
from qcc.frontend.tensors import to_array
from qcc.ir import Array

RELU = "g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }"


def parse(graph: str, opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}]>'
    return parser.parse_model(f"{header}\n{graph}")


def weighted(value: TensorProto | Array) -> onnx.ModelProto:
    """y = x + w."""
    model = parse("g (float[1,4] x) => (float[1,4] y) { y = Add(x, w) }")
    tensor = value if isinstance(value, TensorProto) else numpy_helper.from_array(value, "w")
    tensor.name = "w"
    model.graph.initializer.append(tensor)
    return model


def message(path: Path) -> str:
    """What ``load_model`` says of *path*, which it has to refuse with one printable sentence."""
    with pytest.raises(QccError) as caught:
        load_model(path)
    text = caught.value.message
    assert text.isprintable()
    assert len(text) < 400
    return text


def refusal(model: onnx.ModelProto, folder: Path) -> str:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    text = message(path)
    assert text.startswith("m.onnx: ")
    return text


# -- files -----------------------------------------------------------------------------------------


def test_a_valid_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(parse(RELU).SerializeToString())
    assert [n.op_type for n in load_model(path).graph.node] == ["Relu"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert message(tmp_path / "none.onnx") == "none.onnx: there is no such file"


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"x")
    assert "folder" in message(tmp_path)
    assert "not a regular file" in message(tmp_path / "fifo")
    assert "not a regular file" in message(Path("/dev/zero"))
    assert "cannot be read" in message(tmp_path / "loop")
    assert "cannot be read" in message(tmp_path / "file" / "m.onnx")
    assert "cannot be read" in message(tmp_path / ("n" * 5000))
    assert "zero byte" in message(tmp_path / "a\0b")


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 33)
    assert "8192 MiB" in message(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"hello, this is no model\n",
        b"\xff" * 100,
        b"PK\x03\x04" + bytes(100),
        b"\x08\x08",  # a ModelProto with an IR version and nothing else
        b"\x3a\x00",  # an empty graph
    ],
)
def test_what_is_no_model_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    assert message(tmp_path / "m.onnx").startswith("m.onnx: ")


def test_every_truncation_and_flipped_byte_is_survived(tmp_path: Path) -> None:
    """Whether a damaged file is refused or still a model, nothing but QccError comes out."""
    data = weighted(np.ones(4, np.float32)).SerializeToString()
    path = tmp_path / "m.onnx"
    refused = 0
    for i in range(len(data)):
        for damaged in (data[:i], data[:i] + bytes([data[i] ^ 0x5A]) + data[i + 1 :]):
            path.write_bytes(damaged)
            refused += not _is_read(path)
    assert refused > len(data)


def _is_read(path: Path) -> bool:
    try:
        load_model(path)
    except QccError:
        return False
    return True


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    data = b""
    for _ in range(300):
        inner = b"\x32" + _varint(len(data)) + data  # AttributeProto.g
        node_bytes = b"\x2a" + _varint(len(inner)) + inner  # NodeProto.attribute
        data = b"\x0a" + _varint(len(node_bytes)) + node_bytes  # GraphProto.node
    (tmp_path / "m.onnx").write_bytes(b"\x3a" + _varint(len(data)) + data)
    assert "not an ONNX model" in message(tmp_path / "m.onnx")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


# -- versions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [7, 13, defs.onnx_opset_version()])
def test_opsets_from_7_to_the_newest_are_read(opset: int) -> None:
    check_model(parse(RELU, opset))


@pytest.mark.parametrize("opset", [-1, 0, 1, 6, defs.onnx_opset_version() + 1, 99])
def test_other_opsets_are_refused_with_the_range(opset: int) -> None:
    model = parse(RELU)
    model.opset_import[0].version = opset
    with pytest.raises(QccError, match=rf"opset {opset}.* 7 to {defs.onnx_opset_version()}"):
        check_model(model)


def test_a_model_without_or_with_contradicting_opsets_is_refused() -> None:
    model = parse(RELU)
    model.opset_import.append(helper.make_opsetid("ai.onnx", 13))
    with pytest.raises(QccError, match="several versions"):
        check_model(model)
    del model.opset_import[:]
    with pytest.raises(QccError, match="no version"):
        check_model(model)


@pytest.mark.parametrize(("version", "words"), [(2, "3 and later"), (99, "newer than")])
def test_other_file_formats_are_refused(version: int, words: str) -> None:
    with pytest.raises(QccError, match=words):
        check_model(parse(RELU, ir_version=version))


def test_the_long_name_of_the_default_domain_is_understood() -> None:
    model = parse(RELU)
    model.opset_import[0].domain = model.graph.node[0].domain = "ai.onnx"
    checked = check_model(model)
    assert (checked.opset_import[0].domain, checked.graph.node[0].domain) == ("", "")
    assert model.graph.node[0].domain == "ai.onnx", "check_model works on a copy"


def test_unknown_operators_pass_here_but_their_neighbours_are_checked() -> None:
    text = "g (float[1,4] x) => (float[1,4] y) {{ t = other.Magic(x)  y = {} }}"
    check_model(parse(text.format("Relu(t)")))
    with pytest.raises(QccError, match=r"node of y \(Relu\): not valid ONNX"):
        check_model(parse(text.format("Relu(t, t)")))


def test_a_wrong_attribute_is_refused() -> None:
    with pytest.raises(QccError, match=r"not valid ONNX: .*kernel_shape"):
        check_model(parse("g (float[1,1,4,4] x) => (float[1,1,4,4] y) { y = MaxPool(x) }"))


# -- structure -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ("g (float[4] x) => (float[4] y) { a = Add(x, b) b = Abs(a) y = Abs(b) }", "cycle .*[ab]"),
        ("g (float[4] x) => (float[4] y) { a = Add(x, a) y = Relu(x) }", "cycle through node of a"),
        ("g (float[4] x) => (float[4] y) { y = Add(x, z) }", "reads 'z', which nothing computes"),
        ("g (float[4] x) => (float[4] z) { y = Relu(x) }", "nothing computes the output 'z'"),
        ("g (float[4] x) => (float[4] y) { y = Relu(x) y = Neg(x) }", r"writes 'y'.*Relu"),
        ("g (float[4] x) => (float[4] x) { x = Relu(x) }", "writes 'x', which an input is"),
        ("g (float[4] x, float[4] x) => (float[4] y) { y = Relu(x) }", "two inputs named 'x'"),
        ("g (float[4] x) => (float[4] y, float[4] y) { y = Relu(x) }", "two outputs named 'y'"),
        ("g (float[4] x) => () { y = Relu(x) }", "no output"),
    ],
)  # fmt: skip
def test_broken_graphs_are_refused(graph: str, words: str) -> None:
    with pytest.raises(QccError, match=words):
        check_model(parse(graph))


def test_duplicate_and_unnamed_weights_are_refused() -> None:
    model = weighted(np.ones(4, np.float32))
    model.graph.initializer.append(model.graph.initializer[0])
    with pytest.raises(QccError, match="two weights named 'w'"):
        check_model(model)
    model.graph.initializer[1].name = ""
    with pytest.raises(QccError, match="a weight without a name"):
        check_model(model)


def test_nodes_are_brought_into_execution_order_and_kept_in_it_otherwise() -> None:
    unsorted = "g (float[4] x) => (float[4] y) { y = Add(b, a) b = Neg(a) a = Relu(x) }"
    assert [n.op_type for n in check_model(parse(unsorted)).graph.node] == ["Relu", "Neg", "Add"]
    inorder = "g (float[4] x) => (float[4] y) { c = Abs(x) a = Relu(x) b = Neg(x) y = Sum(c,a,b) }"
    assert [n.op_type for n in check_model(parse(inorder)).graph.node] == [
        "Abs", "Relu", "Neg", "Sum",
    ]  # fmt: skip


def test_hostile_names_come_out_short_and_on_one_line(tmp_path: Path) -> None:
    for name in ("*/ int x;\n\x1b[31m", "n" * 10_000, "日本\u2028語", 'a"b\\'):
        model = parse(RELU)
        model.graph.node[0].name = name
        model.graph.node[0].input[0] = name + "?"
        assert "which nothing computes" in refusal(model, tmp_path)


# -- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (math.nan, "weight 'w' holds 1 NaN value"),
        (math.inf, "weight 'w' holds 1 infinite value"),
        (-math.inf, "weight 'w' holds 1 infinite value"),
    ],
)
def test_weights_that_are_not_finite_are_refused(bad: float, words: str) -> None:
    with pytest.raises(QccError, match=words):
        check_model(weighted(np.array([1, bad, 2, 3], np.float32)))


def test_an_infinite_bound_of_clip_is_no_bound_but_nan_is_an_error() -> None:
    model = parse("g (float[1,4] x) => (float[1,4] y) { y = Clip(x, lo, hi) }")
    for name, value in (("lo", 0.0), ("hi", math.inf)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    check_model(model)
    model.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(np.array(math.nan, np.float32), "hi")
    )
    with pytest.raises(QccError, match="'hi' holds 1 NaN"):
        check_model(model)


def test_constants_and_attributes_that_are_not_finite_are_refused() -> None:
    constant = parse(
        "g (float[1,4] x) => (float[1,4] y) { w = Constant <value = float {0}> () y = Add(x, w) }"
    )
    constant.graph.node[0].attribute[0].t.CopyFrom(
        numpy_helper.from_array(np.array(math.nan, np.float32))
    )
    with pytest.raises(QccError, match=r"node of w \(Constant\): attribute 'value' holds 1 NaN"):
        check_model(constant)
    leaky = parse("g (float[1,4] x) => (float[1,4] y) { y = LeakyRelu <alpha = 0.5> (x) }")
    leaky.graph.node[0].attribute[0].f = math.nan
    with pytest.raises(QccError, match="attribute 'alpha' is nan"):
        check_model(leaky)


@pytest.mark.parametrize(
    ("dims", "data", "words"),
    [
        ([4], b"\0" * 15, "does not fit its shape"),
        ([5], b"\0" * 16, "does not fit its shape"),
        ([-4], b"\0" * 16, "negative dimension"),
        ([1 << 40], b"", "1099511627776 elements"),
        ([1 << 62, 1 << 62], b"", "elements"),
        ([0, 3, 3], b"", "dimension of zero"),
    ],
)
def test_weights_whose_shape_is_nonsense_are_refused(
    dims: list[int], data: bytes, words: str
) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=dims, raw_data=data)
    with pytest.raises(QccError, match=f"weight 'w'.*{words}"):
        check_model(weighted(tensor))


@pytest.mark.parametrize("data_type", [0, 77])
def test_weights_of_no_type_are_refused(data_type: int) -> None:
    tensor = TensorProto(data_type=data_type, dims=[4], raw_data=b"\0" * 16)
    with pytest.raises(QccError, match="weight 'w' has no known element type"):
        check_model(weighted(tensor))


@pytest.mark.parametrize(
    "data_type", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE]
)
def test_other_floats_become_float32_everywhere(data_type: int) -> None:
    values = np.array([0.5, -1.25, 3, 0], np.float32)
    model = parse(
        "g (float[1,4] x) => (float[1,4] y) { a = Add(x, w) y = Cast <to = 1> (a) }", opset=21
    )
    model.graph.initializer.append(helper.make_tensor("w", data_type, [4], values))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = data_type
    model.graph.node[1].attribute[0].i = data_type
    graph = check_model(model).graph
    assert graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert graph.node[1].attribute[0].i == TensorProto.FLOAT
    weight = to_array(graph.initializer[0], "w")
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, values)


def test_a_double_beyond_float32_is_refused() -> None:
    tensor = numpy_helper.from_array(np.array([1, 1e300, 0, 0]))
    with pytest.raises(QccError, match="weight 'w' holds values beyond the range of float32"):
        check_model(weighted(tensor))


@pytest.mark.parametrize("indices", [[1, 3], [[0, 1], [1, 1]]])
def test_sparse_weights_become_dense(indices: list[int]) -> None:
    index = np.array(indices, np.int64)
    dims = [4] if index.ndim == 1 else [2, 2]
    values = numpy_helper.from_array(np.array([5, 7], np.float32), "w")
    model = parse("g (float[1,4] x) => (float[1,4] y) { y = Add(x, w) }")
    if index.ndim == 2:
        model = parse("g (float[1,2,2] x) => (float[1,2,2] y) { y = Add(x, w) }")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(index, "i"), dims)
    model.graph.sparse_initializer.append(sparse)
    graph = check_model(model).graph
    assert not graph.sparse_initializer
    assert to_array(graph.initializer[0], "w").ravel().tolist() == [0, 5, 0, 7]
    sparse.indices.CopyFrom(numpy_helper.from_array(index + 4, "i"))
    model.graph.sparse_initializer[0].CopyFrom(sparse)
    with pytest.raises(QccError, match="indices do not fit"):
        check_model(model)


# -- external data ---------------------------------------------------------------------------------


def external(location: str, **info: object) -> onnx.ModelProto:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **info}.items():
        tensor.external_data.add(key=key, value=str(value))
    return weighted(tensor)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, with weights.bin = 1, 2, 3, 4, 5 beside the model and a secret above."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    data = np.arange(1, 6, dtype=np.float32).tobytes()
    (folder / "weights.bin").write_bytes(data)
    (folder / "sub" / "weights.bin").write_bytes(data)
    (tmp_path / "secret.bin").write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("location", "info", "expected"),
    [
        ("weights.bin", {}, [1, 2, 3, 4]),
        ("weights.bin", {"offset": 4, "length": 16}, [2, 3, 4, 5]),
        ("sub/weights.bin", {"offset": 0}, [1, 2, 3, 4]),
        ("./weights.bin", {"checksum": "x"}, [1, 2, 3, 4]),
    ],
)
def test_external_data_in_the_models_folder_is_read(
    location: str, info: dict[str, object], expected: list[int], folder: Path
) -> None:
    path = folder / "m.onnx"
    path.write_bytes(external(location, **info).SerializeToString())
    weight = load_model(path).graph.initializer[0]
    assert weight.data_location == TensorProto.DEFAULT
    assert to_array(weight, "w").tolist() == expected


@pytest.mark.parametrize(
    ("location", "info", "words"),
    [
        ("../secret.bin", {}, "leaves the model's folder"),
        ("sub/../../secret.bin", {}, "leaves the model's folder"),
        ("sub\\..\\..\\secret.bin", {}, "leaves the model's folder"),
        ("/etc/passwd", {}, "only files in the model's folder"),
        ("C:\\secret.bin", {}, "only files in the model's folder"),
        ("", {}, "no usable file name"),
        (".", {}, "not a regular file"),
        ("sub", {}, "not a regular file"),
        ("a\0b", {}, "no usable file name"),
        ("none.bin", {}, "No such file"),
        ("n" * 5000, {}, "File name too long"),
        ("weights.bin", {"offset": 8}, "needs bytes 8 to 24 of 'weights.bin', which has 20"),
        ("weights.bin", {"offset": -4}, "bad offset: '-4'"),
        ("weights.bin", {"offset": "9" * 30}, "bad offset"),
        ("weights.bin", {"offset": "٣"}, "bad offset"),
        ("weights.bin", {"length": 12}, "length of 12 bytes, but its shape needs 16"),
        ("weights.bin", {"length": "x"}, "bad length: 'x'"),
    ],
)
def test_external_data_elsewhere_or_beyond_the_file_is_refused(
    location: str, info: dict[str, object], words: str, folder: Path
) -> None:
    text = refusal(external(location, **info), folder)
    assert "weight 'w': external data" in text
    assert words in text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.symlink_to("weights.bin"), "symbolic link"),
        (lambda p: p.symlink_to("../secret.bin"), "symbolic link"),
        (lambda p: p.symlink_to("/dev/zero"), "symbolic link"),
        (lambda p: p.hardlink_to(p.parent.parent / "secret.bin"), "hard links"),
        (lambda p: os.mkfifo(p), "not a regular file"),
    ],
)
def test_external_data_through_links_and_fifos_is_refused(
    make: Callable[[Path], None], words: str, folder: Path
) -> None:
    make(folder / "data")
    assert words in refusal(external("data"), folder)


def test_external_data_in_a_linked_folder_is_refused(folder: Path) -> None:
    (folder / "up").symlink_to("..")
    assert "symbolic link" in refusal(external("up/secret.bin"), folder)


def test_external_data_of_constants_and_subgraphs_is_checked_too(folder: Path) -> None:
    model = parse(
        "g (float[1,4] x) => (float[1,4] y) { w = Constant <value = float {0}> () y = Add(x, w) }"
    )
    model.graph.node[0].attribute[0].t.CopyFrom(external("../secret.bin").graph.initializer[0])
    assert "leaves the model's folder" in refusal(model, folder)
    branch = helper.make_graph([], "b", [], [], [external("/dev/zero").graph.initializer[0]])
    model = parse("g (bool c, float[1,4] x) => (float[1,4] y) { y = If(c) }")
    model.graph.node[0].attribute.append(helper.make_attribute("then_branch", branch))
    assert "only files in the model's folder" in refusal(model, folder)


def test_a_model_that_reads_one_file_many_times_is_refused(folder: Path) -> None:
    """Few bytes on disk must not become many in memory."""
    with (folder / "big.bin").open("wb") as file:
        file.truncate(1 << 28)
    model = external("big.bin")
    tensor = model.graph.initializer[0]
    tensor.dims[:] = [1 << 26]
    for i in range(8):
        copy = model.graph.initializer.add()
        copy.CopyFrom(tensor)
        copy.name = f"w{i}"
    assert "too large" in refusal(model, folder)


def test_external_data_without_a_file_is_refused() -> None:
    with pytest.raises(QccError, match="load the model from its file"):
        check_model(external("weights.bin"))
