"""choose_widths: what keeps 8 bits, exceptions by name, and models of mixed widths in C."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcc.config import KEEP8, Config, Keep, LayerBits, parse_layer
from qcc.driver import Compilation
from qcc.errors import UsageError
from qcc.ops.examples import normal
from qcc.passes.fold_batchnorm import LINEAR
from tests.build import SANITIZE, check_on_host, compiled
from tests.graphs import node, proto


def network() -> onnx.ModelProto:
    """Five layers: the first, a depthwise one, two beside an addition, the last."""
    constants = {
        "w1": normal((6, 3, 3, 3), 1, 0.3), "w2": normal((6, 1, 3, 3), 2),
        "w3": normal((6, 6, 1, 1), 3, 0.4), "w4": normal((6, 6, 3, 3), 4, 0.2),
        "w5": normal((6, 4), 5), "shape": np.array([1, 6], np.int64),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w1", "a", pads=[1] * 4), node("Relu", "a", "first"),
        node("Conv", "first w2", "b", pads=[1] * 4, group=6), node("Relu", "b", "deep"),
        node("Conv", "deep w3", "c"), node("Relu", "c", "skip"),
        node("Conv", "skip w4", "branch", pads=[1] * 4), node("Add", "skip branch", "sum"),
        node("GlobalAveragePool", "sum", "mean"), node("Reshape", "mean shape", "flat"),
        node("MatMul", "flat w5", "y"),
    ]  # fmt: skip
    return proto(nodes, (1, 3, 8, 8), constants=constants)


def weight_bits(done: Compilation) -> dict[str, int]:
    """Of the weights' formats, by the ONNX name of the convolution or product."""
    return {
        n.sources[0]: done.graph.quant(n.inputs[1]).qtype.bits
        for n in done.graph.nodes()
        if n.op in LINEAR
    }


def act_bits(done: Compilation, name: str) -> int:
    """Of the tensor that is the ONNX value *name*."""
    found = {
        done.graph.quant(t.name).qtype.bits
        for t in done.graph.tensors()
        if t.data is None and (t.name == name or (t.origin and t.origin.name == name))
    }
    (bits,) = found
    return bits


W = ("Conv_a", "Conv_b", "Conv_c", "Conv_branch", "MatMul_y")


def four(**options: object) -> Compilation:
    options = {"weight_bits": 4, "act_bits": 4, "equalize": "off", **options}
    return compiled(network(), **options)


def test_first_last_and_depthwise_layers_keep_eight_bits() -> None:
    bits = weight_bits(four())
    assert {bits[name] for name in ("Conv_a", "Conv_b", "MatMul_y")} == {8}
    assert all(bits[name] <= 4 for name in ("Conv_c", "Conv_branch"))


def test_inputs_outputs_and_sums_keep_eight_bits_others_do_not() -> None:
    done = four()
    assert [act_bits(done, t) for t in ("x", "y", "branch", "sum", "mean")] == [8] * 5
    assert [act_bits(done, t) for t in ("first", "deep", "skip")] == [4] * 3


@pytest.mark.parametrize("without", KEEP8)
def test_each_of_them_can_be_left_out(without: Keep) -> None:
    done = four(keep8=tuple(k for k in KEEP8 if k != without))
    bits = weight_bits(done)
    low = {"first": "Conv_a", "last": "MatMul_y", "depthwise": "Conv_b"}
    for kept, name in low.items():
        assert (bits[name] <= 4) == (kept == without), name
    assert act_bits(done, "x") == (4 if without == "first" else 8)
    assert act_bits(done, "branch") == (4 if without == "sums" else 8)


def test_none_of_them_gives_all_the_width_asked_for() -> None:
    done = four(keep8=())
    assert max(weight_bits(done).values()) <= 4
    assert {act_bits(done, t) for t in ("x", "first", "branch", "mean", "y")} == {4}
    assert not [n for n in done.program.notes if "8 bits kept" in n]


def test_a_note_says_what_was_kept_and_how_to_change_it() -> None:
    (note,) = [n for n in four().program.notes if "8 bits kept" in n]
    for part in ("first layers", "depthwise layers", "what the last layers read", "--keep8 none"):
        assert part in note
    assert not compiled(network(), weight_bits=6).program.notes


def test_layers_are_named_by_pattern_and_the_last_that_matches_counts() -> None:
    rules = tuple(map(parse_layer, ("Conv_*=W3A5", "Conv_b*=W2", "flat=A8", "x=A6")))
    done = four(layers=rules)
    bits = weight_bits(done)
    assert bits["Conv_a"] <= 3
    assert bits["Conv_b"] <= 2
    assert bits["Conv_branch"] <= 2
    assert bits["MatMul_y"] == 8
    assert act_bits(done, "x") == 6
    assert act_bits(done, "first") == 5
    assert act_bits(done, "deep") == 5


def test_a_layer_may_have_more_bits_than_the_rest() -> None:
    done = compiled(network(), layers=(LayerBits("Conv_c", 16, 16),))
    assert act_bits(done, "skip") == 16
    assert weight_bits(done)["Conv_c"] > 8
    assert act_bits(done, "deep") == 8


def test_a_rule_that_matches_nothing_is_refused_with_names() -> None:
    with pytest.raises(UsageError, match=r"--layer Conv_q: no layer, tensor or input") as e:
        four(layers=(LayerBits("Conv_q", 8),))
    assert "Conv_" in e.value.hints[0]


def test_inputs_and_outputs_have_widths_of_their_own() -> None:
    done = compiled(network(), io_bits=16)
    assert [act_bits(done, t) for t in ("x", "y", "first", "mean")] == [16, 16, 8, 8]
    pixels = np.random.default_rng(0).integers(0, 256, (8, 1, 3, 8, 8)).astype(np.float32)
    done = compiled(network(), io_bits=16, calibration={"x": pixels})
    assert [act_bits(done, t) for t in ("x", "y")] == [8, 16]


def test_sixteen_bits_at_the_ends_lose_less() -> None:
    low, high = (compiled(network(), io_bits=bits) for bits in (None, 16))
    assert high.sqnr_db[high.graph.outputs[0]] > low.sqnr_db[low.graph.outputs[0]] + 0.3


def test_one_bit_is_minus_one_or_one_and_signed_activations_have_two() -> None:
    done = four(weight_bits=1, act_bits=1, keep8=())
    for n in done.graph.nodes():
        if n.op in LINEAR:
            assert set(np.unique(done.graph.constant(n.inputs[1]))) <= {-1, 1}
    assert set(weight_bits(done).values()) == {1}
    assert act_bits(done, "first") == 1
    assert act_bits(done, "y") == 2


MIXED = [
    (1, 8, KEEP8), (1, 1, ()), (2, 1, KEEP8), (3, 7, ()), (16, 8, KEEP8), (16, 16, KEEP8),
    (5, 16, KEEP8), (4, 4, KEEP8), (4, 2, ("sums",)),
]  # fmt: skip


@pytest.mark.parametrize(("weights", "acts", "keep"), MIXED)
def test_every_mixture_is_bit_exact_in_c(
    weights: int, acts: int, keep: tuple[Keep, ...], tmp_path: Path
) -> None:
    done = four(weight_bits=weights, act_bits=acts, keep8=keep, io_bits=8 if acts == 2 else None)
    assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=["-O1", *SANITIZE])


def test_config_refuses_widths_that_do_not_exist() -> None:
    refused = "1 to 8 and 16 are supported"
    with pytest.raises(UsageError, match=refused):
        Config(weight_bits=9)
    with pytest.raises(UsageError, match=refused):
        Config(act_bits=0)
    with pytest.raises(UsageError, match=refused):
        Config(io_bits=12)
    with pytest.raises(UsageError, match="--layer a: weights of 12"):
        Config(layers=(LayerBits("a", 12),))
