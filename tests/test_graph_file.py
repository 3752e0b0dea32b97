"""The saved graph: the same text, the same bits, and nothing believed of a damaged file."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcc import graph_file
from qcc.config import Config
from qcc.driver import compile_file
from qcc.errors import QccError
from qcc.frontend.onnx_reader import read_onnx
from qcc.functions import Apply, Const, X
from qcc.graph_file import load_graph, save_graph
from qcc.ir import Graph, Int, IRError, Node, QType, Quant, Tensor
from qcc.ops import OPS, unary
from qcc.ops.examples import normal
from qcc.reference import run_int
from tests.build import compiled
from tests.graphs import node, proto

DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx"
MODELS = {m.graph.name: m for op in OPS.values() for m in op.examples()}
WIDTHS = [
    pytest.param((8, 8), id="W8A8"),
    pytest.param((8, 16), id="W8A16", marks=pytest.mark.slow),
    pytest.param((3, 4), id="W3A4", marks=pytest.mark.slow),
]


def random_inputs(graph: Graph, samples: int = 4) -> dict[str, Int]:
    rng = np.random.default_rng(11)
    found: dict[str, Int] = {}
    for name in graph.inputs:
        q = graph.quant(name).qtype
        found[name] = rng.integers(q.qmin, q.qmax + 1, (samples, *graph.shape(name)))
    return found


def assert_same(graph: Graph, other: Graph) -> None:
    """The same text, the same data, the same values of every tensor."""
    assert str(other) == str(graph)
    assert (other.inputs, other.outputs) == (graph.inputs, graph.outputs)
    for t in graph.tensors():
        loaded = other.tensor(t.name)
        assert (loaded.quant, loaded.origin) == (t.quant, t.origin)
        assert (loaded.data is None) == (t.data is None)
        if t.data is not None and loaded.data is not None:
            assert np.array_equal(loaded.data, t.data)
    assert [(n.name, n.attrs, n.sources) for n in other.nodes()] == [
        (n.name, n.attrs, n.sources) for n in graph.nodes()
    ]
    inputs = random_inputs(graph)
    every = [t.name for t in graph.tensors() if t.data is None]
    want, got = run_int(graph, inputs, keep=every), run_int(other, inputs, keep=every)
    for name in every:
        assert np.array_equal(got[name], want[name]), name


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_operator_computes_the_same_after_a_round_trip(
    name: str, bits: tuple[int, int]
) -> None:
    mode = "fixed-point" if bits[1] == 4 else "single-shift"
    graph = compiled(MODELS[name], weight_bits=bits[0], act_bits=bits[1], scale=mode).graph
    text = save_graph(graph)
    loaded = load_graph(text)
    assert_same(graph, loaded)
    assert save_graph(loaded) == text


def test_digits_compute_the_same_after_a_round_trip() -> None:
    graph = compile_file(DIGITS, Config()).graph
    text = save_graph(graph)
    assert text.isascii()
    assert_same(graph, load_graph(text))


def small() -> Graph:
    """Dense, with a fused Relu: infinity, a rescale, constants of several sizes."""
    w = np.arange(12, dtype=np.float32).reshape(3, 4) / 12 - 0.4
    nodes = [node("Gemm", "x w b", "c", transB=1), node("Relu", "c", "y")]
    return compiled(proto(nodes, (1, 4), constants={"w": w, "b": normal((3,))})).graph


@pytest.fixture(scope="module")
def text() -> str:
    return save_graph(small())


def test_the_text_is_the_same_every_time(text: str) -> None:
    assert save_graph(small()) == text


def test_constants_take_the_smallest_type(text: str) -> None:
    graph = load_graph(text)
    for item in json.loads(text)["tensors"]:
        if "data" in item:
            peak = int(np.abs(graph.constant(item["name"])).max())
            bits = 8 * len(base64.b64decode(item["data"])) // math.prod(item["shape"])
            assert item["dtype"] == f"int{bits}"
            assert bits == next(b for b in (8, 16, 32, 64) if peak < 1 << (b - 1))


@pytest.mark.parametrize("values", [[-128, 127], [-129, 0], [1 << 15, 0], [1 << 31, 0],
                                    [-(1 << 63), (1 << 63) - 1], []])  # fmt: skip
def test_extreme_constants_survive(values: list[int]) -> None:
    data = np.array(values, np.int64)
    item = graph_file._data("c", data)
    assert np.array_equal(graph_file._array("c", item, data.shape), data)


@pytest.mark.parametrize(
    "value",
    [None, 3, -0.0, 1e-310, math.inf, -math.inf, (1, (2.5, "x")), (), 2**63 - 1, -(2**63),
     Apply("clip", (X, Const(-math.inf), Const(0.1)))],
    ids=repr,
)  # fmt: skip
def test_attributes_survive(value: Any) -> None:
    written = json.dumps(graph_file._encode(value), allow_nan=False)
    read = graph_file._decode(json.loads(written))
    assert read == value
    assert type(read) is type(value)
    assert repr(read) == repr(value)


def test_numpy_scalars_become_numbers() -> None:
    assert graph_file._decode(graph_file._encode((np.int64(3), np.float32(0.5)))) == (3, 0.5)


# -- what is not saved -----------------------------------------------------------------------------


def test_a_float_graph_is_not_saved() -> None:
    m = proto([node("Gemm", "x w", "y")], (1, 4), constants={"w": normal((4, 3))})
    with pytest.raises(IRError, match="float32 constants"):
        save_graph(read_onnx(m, "m"))


def test_an_attribute_that_no_operator_declares_is_not_saved() -> None:
    @dataclass(frozen=True)
    class Attrs:
        secret: int

    graph = Graph("g", ["x"], ["y"])
    for name in ("x", "y"):
        graph.add_tensor(Tensor(name, (1, 2), quant=Quant(QType(8), 1.0)))
    graph.add_node(Node("n", "unary", ("x",), ("y",), Attrs(1)))
    with pytest.raises(IRError, match="no operator declares it"):
        save_graph(graph)


# -- damage ----------------------------------------------------------------------------------------

Damage = Callable[[dict[str, Any]], None]


def tensor(name: str, **changes: Any) -> Damage:
    def change(values: dict[str, Any]) -> None:
        next(t for t in values["tensors"] if t["name"] == name).update(changes)

    return change


def weights(**changes: Any) -> Damage:
    def change(values: dict[str, Any]) -> None:
        next(t for t in values["tensors"] if len(t["shape"]) == 2 and "data" in t).update(changes)

    return change


def quant(**changes: Any) -> Damage:
    def change(values: dict[str, Any]) -> None:
        values["tensors"][0]["quant"].update(changes)

    return change


def dense(**changes: Any) -> Damage:
    def change(values: dict[str, Any]) -> None:
        values["nodes"][0].update(changes)

    return change


def attrs(**changes: Any) -> Damage:
    def change(values: dict[str, Any]) -> None:
        values["nodes"][0]["attrs"].update(changes)

    return change


def head(**changes: Any) -> Damage:
    return lambda values: values.update(changes)


def no_field(values: dict[str, Any]) -> None:
    del values["nodes"][0]["attrs"]["clip"]


def twice(values: dict[str, Any]) -> None:
    values["tensors"].append(values["tensors"][0])


def rescaled(**changes: Any) -> Damage:
    def change(values: dict[str, Any]) -> None:
        values["nodes"][0]["attrs"]["rescale"].update(changes)

    return change


DAMAGE: dict[str, tuple[Damage, str]] = {
    "another version": (head(qcc_graph=2), "version 2, this qcc reads version 1"),
    "no tensors": (head(tensors=7), "a list is missing"),
    "no name": (head(name=None), "the graph's name is None"),
    "no inputs": (head(inputs=[]), "no inputs"),
    "no such output": (head(outputs=["z"]), "'z' is missing"),
    "an output twice": (head(outputs=["y", "y"]), "listed twice"),
    "a node as output": (head(outputs=["Gemm_c:dense"]), "Gemm_c:dense"),
    "a constant input": (head(inputs=["x", "w.q"]), "w.q"),
    "a tensor twice": (twice, "the name is taken"),
    "another op": (dense(op="os.system"), "no operator 'os.system'"),
    "another op's attributes": (dense(op="concat"), "are no attributes of concat"),
    "no attributes": (dense(attrs=None), "None are no attributes of dense"),
    "a missing input": (dense(inputs=["q"]), "'q' is missing"),
    "no node inputs": (dense(inputs=[]), "0 inputs"),
    "two outputs": (dense(outputs=["y", "x"]), "2 outputs"),
    "a cycle": (dense(inputs=["y"]), "cycle"),
    "too few inputs": (dense(inputs=["x"]), "the saved graph"),
    "sources": (dense(sources=[1]), "the sources"),
    "another class": (attrs(**{"class": "subprocess.Popen"}), "knows 'subprocess.Popen'"),
    "a class of qcc": (attrs(**{"class": "config.Config"}), "knows 'config.Config'"),
    "no class": (attrs(**{"class": ["ops.dense.Attrs"]}), "no operator of this qcc knows"),
    "one field more": (attrs(extra=1), "has the fields"),
    "one field less": (no_field, "has the fields"),
    "text for a number": (attrs(acc_bound="7"), "acc_bound is '7'"),
    "a bool for a number": (attrs(acc_bound=True), "acc_bound is True"),
    "a long number": (attrs(acc_bound=1 << 64), "exceeds 64 bits"),
    "three bounds": (attrs(bounds=[0, 1, 2]), "bounds is"),
    "no float": (attrs(bounds=[0, {"float": "1e3"}]), "is no number"),
    "no rescale": (attrs(rescale=[1]), "rescale is"),
    "another mode": (rescaled(mode="double-dutch"), "mode is"),
    "a long shift": (rescaled(shift=[63, 63, 63]), "outside -30..62"),
    "fewer shifts": (rescaled(shift=[1]), "as many multipliers"),
    "a negative size": (tensor("x", shape=[1, -4]), "the shape is"),
    "a giant": (tensor("x", shape=[1, 1 << 40]), "the shape is"),
    "another shape": (tensor("y", shape=[1, 4]), "should have shape"),
    "no shape": (tensor("y", shape="1x3"), "the shape is"),
    "no format": (tensor("y", quant=None), "has no format"),
    "an unwritten tensor": (lambda v: v["tensors"].append(dict(v["tensors"][0], name="lost")),
                            "'lost': nothing writes it"),
    "axes": (tensor("x", origin={"class": "ir.Origin", "name": "x", "perm": [0, 0]}), "the axes"),
    "a scale of 0": (quant(scale=0.0), "the format is"),
    "an infinite scale": (quant(scale={"float": "inf"}), "the format is"),
    "9 bits": (quant(qtype={"class": "ir.QType", "bits": 9, "signed": True, "narrow": True}),
               "the format is"),
    "an accumulator": (quant(qtype={"class": "ir.QType", "bits": 32, "signed": True,
                                    "narrow": False}), "an input or output in format"),
    "a zero point": (quant(zero_point=1000), "the format is"),
    "an axis": (quant(axis=0, scale=[1.0, 2.0]), "the format is"),
    "another type": (weights(dtype="float64"), "constants of type float64"),
    "an object": (weights(dtype="O"), "constants of type O"),
    "short data": (weights(data="AAAA"), "3 bytes of int8"),
    "no base64": (weights(data="!!!!"), "damaged"),
    "no data": (weights(data=[1, 2]), "the data is"),
    "data out of its format": (weights(data=base64.b64encode(b"\x80" * 12).decode()), "outside"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_refused_in_one_sentence(text: str, what: str) -> None:
    damage, message = DAMAGE[what]
    values = json.loads(text)
    damage(values)
    with pytest.raises(QccError) as caught:
        load_graph(json.dumps(values))
    assert message in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    "other",
    ["", "{", "[]", "null", '{"a": 1}', "NaN", '{"qcc_graph": 1}', "[" * 100_000, "9" * 10_000],
    ids=lambda t: t[:12],
)
def test_other_text_is_refused(other: str) -> None:
    with pytest.raises(QccError, match="graph"):
        load_graph(other)


def test_an_unknown_function_is_refused() -> None:
    graph = Graph("g", ["x"], ["y"])
    for name in ("x", "y"):
        graph.add_tensor(Tensor(name, (1, 2), quant=Quant(QType(8), 1.0)))
    fn = Apply("tanh", (X,))
    graph.add_node(Node("n", "unary", ("x",), ("y",), unary.Attrs(fn)))
    good = save_graph(graph)
    assert load_graph(good).node("n").attrs == unary.Attrs(fn)
    with pytest.raises(QccError, match="no function 'system'"):
        load_graph(good.replace('"tanh"', '"system"'))


def test_truncated_and_flipped_files_are_refused_or_read(text: str) -> None:
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(300):
        at = int(rng.integers(len(text)))
        end = len(text) if rng.random() < 0.7 else at + 1
        damaged = text[:at] + chr(int(rng.integers(32, 127))) + text[at + 1 : end]
        try:
            load_graph(damaged)
        except QccError:
            refused += 1
    assert refused > 150


def test_what_a_file_may_hold_is_what_operators_declare() -> None:
    assert {t for t in graph_file._classes() if not t.startswith("ops.")} == {
        "arith.Rescale", "functions.Apply", "functions.Const", "functions.Var", "ir.Origin",
        "ir.QType", "ir.Quant",
    }  # fmt: skip
    assert {t for t in graph_file._classes() if t.startswith("ops.")} == {
        f"ops.{op.__module__.rpartition('.')[2]}.Attrs" for op in OPS.values()
    }
