"""patch_rows: bands of rows give the same bits, fit the budget, repeat as little as they can."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcc import reference
from qcc.codegen.emit import emit_model
from qcc.codegen.manifest import manifest
from qcc.codegen.report import report_html
from qcc.codegen.select import select
from qcc.codegen.storage import arena_size
from qcc.driver import Compilation
from qcc.errors import QccError
from qcc.ir import Array, Graph, Int
from qcc.ops import OPS
from qcc.ops.examples import normal
from qcc.passes.patch_rows import Bands, _divide, _divisions, patch_rows
from tests.build import SANITIZE, check_on_host, compiled
from tests.graphs import node, ops, proto


def arena(graph: Graph) -> int:
    return arena_size(graph, select(graph, (), "balanced").variants)


def image_network() -> onnx.ModelProto:
    """A stem, a depthwise block, a residual block and a classifier."""
    constants = {
        "w1": normal((8, 3, 3, 3), 1, 0.3), "w2": normal((8, 1, 3, 3), 2, 0.4),
        "w3": normal((16, 8, 1, 1), 3, 0.3), "w4": normal((16, 16, 3, 3), 4, 0.1),
        "w5": normal((4, 16, 3, 3), 5, 0.2), "w6": normal((4, 5), 6, 0.5),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w1", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "ar"),
        node("Conv", "ar w2", "b", pads=[1, 1, 1, 1], group=8),
        node("Conv", "b w3", "c"),
        node("Conv", "c w4", "d", pads=[1, 1, 1, 1]),
        node("Add", "c d", "e"),
        node("MaxPool", "e", "f", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "f w5", "g", strides=[2, 2]),
        node("GlobalAveragePool", "g", "h"),
        node("Flatten", "h", "i"),
        node("Gemm", "i w6", "y"),
    ]
    return proto(nodes, (1, 3, 24, 20), "y", constants)


@pytest.fixture(scope="module")
def whole() -> Compilation:
    return compiled(image_network())


def random_inputs(graph: Graph, samples: int = 4) -> dict[str, Int]:
    rng = np.random.default_rng(5)
    inputs: dict[str, Int] = {}
    for name in graph.inputs:
        q = graph.quant(name).qtype
        inputs[name] = rng.integers(q.qmin, q.qmax + 1, (samples, *graph.shape(name)))
    return inputs


def assert_same(before: Graph, after: Graph) -> None:
    inputs = random_inputs(before)
    want, got = (reference.run_int(g, inputs) for g in (before, after))
    for name in before.outputs:
        np.testing.assert_array_equal(want[name], got[name])


def assert_every_division_is_exact(graph: Graph) -> int:
    """How many there are."""
    divisions = _divisions(graph)
    macs = sum(OPS[n.op].macs(graph, n) for n in graph.nodes())
    for d in divisions:
        divided = copy.deepcopy(graph)
        parts = _divide(divided, d)
        divided.verify()
        assert_same(graph, divided)
        assert all(part in divided for part in parts)
        again = sum(OPS[n.op].macs(divided, n) for n in divided.nodes()) - macs
        assert again == d.macs_again >= 0
    return len(divisions)


def test_every_division_gives_the_same_bits(whole: Compilation) -> None:
    assert assert_every_division_is_exact(whole.graph) > 30


@pytest.mark.parametrize("seed", range(12))
def test_bands_of_random_layers_give_the_same_bits(seed: int) -> None:
    rng = random.Random(seed)
    channels, constants, nodes = 2, dict[str, Array](), list[onnx.NodeProto]()
    x, size = "x", 15
    for i in range(rng.randrange(2, 5)):
        kernel = [rng.randrange(1, 4), rng.randrange(1, 4)]
        dilation = rng.choice([1, 1, 2])
        window = {
            "pads": [rng.randrange(k) for k in (*kernel, *kernel)],
            "strides": [rng.choice([1, 1, 2]), 1],
        }
        reach = (max(kernel) - 1) * dilation + 1
        op = rng.choice(
            ["Conv", "Conv", "depthwise", "MaxPool", "AveragePool", "Add", "Tanh", "Pad"]
        )
        if reach > size - 3 and op not in ("Add", "Tanh"):
            op = "Tanh"
        y = f"t{i}"
        if op in ("Conv", "depthwise"):
            group = channels if op == "depthwise" else 1
            out = channels if group > 1 else rng.randrange(1, 5)
            constants[f"w{i}"] = normal((out, channels // group, *kernel), i, 0.5)
            window["dilations"] = [dilation, 1]
            nodes.append(node("Conv", f"{x} w{i}", y, group=group, **window))
            channels = out
        elif op in ("MaxPool", "AveragePool"):
            if op == "AveragePool":
                window["pads"][0] = window["pads"][2] = 0
            nodes.append(node(op, x, y, kernel_shape=kernel, **window))
        elif op == "Add":
            nodes += [node("Sigmoid", x, f"s{i}"), node("Add", f"{x} s{i}", y)]
        elif op == "Pad":
            constants[f"p{i}"] = np.array([0, 0, 1, 2, 0, 0, 2, 0], np.int64)
            nodes.append(node("Pad", f"{x} p{i}", y))
        else:
            nodes.append(node(op, x, y))
        size = -(-size // 2) - 1 if window["strides"][0] == 2 else size - reach + 1
        x = y
    nodes.append(node("Neg", x, "y"))
    done = compiled(proto(nodes, (1, 2, 15, 6), "y", constants))
    assert_every_division_is_exact(done.graph)


def test_a_budget_is_met_with_the_least_work(whole: Compilation) -> None:
    graph = whole.graph
    before = arena(graph)
    budget = before * 2 // 3
    divided = copy.deepcopy(graph)
    bands = patch_rows(divided, budget, arena)
    assert isinstance(bands, Bands)
    assert arena(divided) <= budget
    assert bands.arena_before == before
    assert_same(graph, divided)
    for d in _divisions(graph):
        if d.macs_again < bands.macs_again:
            other = copy.deepcopy(graph)
            _divide(other, d)
            assert arena(other) > budget
    # Again: it fits now.
    text = str(divided)
    assert patch_rows(divided, budget, arena) is None
    assert str(divided) == text


def test_what_fits_stays(whole: Compilation) -> None:
    graph = copy.deepcopy(whole.graph)
    assert patch_rows(graph, arena(graph), arena) is None
    assert str(graph) == str(whole.graph)


def test_a_budget_out_of_reach_names_the_lowest_arena(whole: Compilation) -> None:
    graph = copy.deepcopy(whole.graph)
    with pytest.raises(QccError, match="--ram-budget 64: the lowest arena found takes") as caught:
        patch_rows(graph, 64, arena)
    assert str(graph) == str(whole.graph)
    lowest = int(str(caught.value).split("takes ")[1].split()[0])
    assert lowest < arena(graph)
    assert patch_rows(graph, lowest, arena) is not None


def test_the_rewritten_graph() -> None:
    constants = {"w1": normal((4, 1, 3, 3), 1), "w2": normal((4, 4, 1, 1), 2)}
    nodes = [
        node("Conv", "x w1", "a", pads=[1, 1, 1, 1]),
        node("Conv", "a w2", "b"),
        node("GlobalMaxPool", "b", "y"),
    ]
    graph = compiled(proto(nodes, (1, 1, 8, 4), "y", constants)).graph
    (d,) = (d for d in _divisions(graph) if len(d.bands) == 2 and len(d.stage) == 2)
    _divide(graph, d)
    assert ops(graph) == [
        "reshape", "slice", "conv2d", "conv2d", "slice", "conv2d", "conv2d", "concat",
        "max_pool2d", "reshape",
    ]  # fmt: skip
    slices = [n for n in graph.nodes() if n.op == "slice"]
    assert [(n.attrs.starts[1], n.attrs.sizes[1]) for n in slices] == [(0, 5), (3, 5)]
    convs = [n.attrs.pads for n in graph.nodes() if n.op == "conv2d" and any(n.attrs.pads)]
    assert convs == [(1, 1, 0, 1), (0, 1, 1, 1)]


@pytest.mark.parametrize(
    "nodes",
    [
        # Inside the stage, something else reads a tensor, or it is an output.
        [node("Conv", "x w", "a"), node("Tanh", "a", "b"), node("GlobalMaxPool", "b", "c"),
         node("GlobalMaxPool", "a", "d"), node("Add", "c d", "y")],
        # Rows are mixed.
        [node("Softmax", "x", "a", axis=2), node("Tanh", "a", "b"), node("Conv", "b w", "y")],
        # How many values a window counts depends on the row.
        [node("AveragePool", "x", "a", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
         node("Conv", "a w", "y")],
    ],
)  # fmt: skip
def test_other_beginnings_stay_whole(nodes: list[onnx.NodeProto]) -> None:
    used = {"w": normal((3, 3, 1, 1), 1)}
    done = compiled(proto(nodes, (1, 3, 8, 8), "y", used))
    assert not _divisions(done.graph)
    with pytest.raises(QccError, match="no layers at the beginning of this model can run in bands"):
        patch_rows(done.graph, 1, lambda graph: 2)


@pytest.mark.parametrize("share", [0.7, 0.5])
@pytest.mark.parametrize("target", ["generic", "cortex-m4"])
def test_the_c_of_bands_is_exact_and_shares_tables_and_functions(
    target: str, share: float, tmp_path: Path
) -> None:
    undivided = compiled(image_network(), target=target).program
    budget = int(share * undivided.arena_bytes)
    done = compiled(image_network(), target=target, ram_budget=budget)
    p = done.program
    assert p.bands is not None
    assert p.arena_bytes <= budget
    assert p.arena_bytes == arena_size(
        done.graph, select(done.graph, done.target.isa, "balanced").variants
    )
    assert (p.macs_once, p.macs) == (undivided.macs, undivided.macs + p.bands.macs_again)
    assert p.parameters == undivided.parameters
    # Rows of the input are views; others may be copies where that saves memory.
    assert all(layer.name.startswith("c rows") for layer in p.layers if layer.op == "slice")
    if target == "generic":
        assert p.weight_bytes <= undivided.weight_bytes
        assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=[*SANITIZE, "-O1"])
    weights = emit_model(p, done.target)[f"{p.name}_weights.h"]
    bodies = [part.split("=", 1)[1] for part in weights.split("static const")[1:]]
    kinds = [part.split()[0] for part in weights.split("static const")[1:]]
    assert len(set(zip(kinds, bodies, strict=True))) == len(bodies)


def test_bands_alike_share_one_function(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w1", "a"), node("Conv", "a w2", "b"),
        node("MaxPool", "b", "c", kernel_shape=[8, 8]), node("Tanh", "c", "y"),
    ]  # fmt: skip
    constants = {"w1": normal((16, 3, 1, 1), 1), "w2": normal((3, 16, 1, 1), 2)}
    done = compiled(proto(nodes, (1, 3, 16, 8), "y", constants), ram_budget=1024)
    p = done.program
    assert p.bands is not None
    source = emit_model(p, done.target)[f"{p.name}.c"]
    functions = source.count(f"static void {p.name}_")
    assert functions < len(p.layers)
    assert p.bands.macs_again == 0
    assert not {"slice", "concat"} & {layer.op for layer in p.layers}
    assert f"The same for layer{'s' if p.bands.count > 2 else ''} " in source
    assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=[*SANITIZE, "-O1"])


def test_a_zero_point_is_padded_band_by_band(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    samples = rng.uniform(-1, 6, (12, 1, 3, 24, 20)).astype(np.float32)
    whole = compiled(image_network(), calibration={"x": samples})
    assert whole.program.inputs[0].quant.zero_point
    assert "pad" in ops(whole.graph)
    done = compiled(
        image_network(), calibration={"x": samples},
        ram_budget=whole.program.arena_bytes * 3 // 4,
    )  # fmt: skip
    assert done.program.bands is not None
    assert "bit-exact" in check_on_host(done, tmp_path / "out", flags=[*SANITIZE, "-O1"])


def test_bands_are_in_the_manifest_and_the_report(whole: Compilation) -> None:
    assert manifest(whole)["bands"] is None
    assert "Bands of rows" not in report_html(whole)
    budget = whole.program.arena_bytes * 2 // 3
    done = compiled(image_network(), ram_budget=budget)
    entry, bands = manifest(done), done.program.bands
    assert bands is not None
    assert entry["options"]["ram_budget"] == budget
    assert entry["bands"]["count"] == bands.count
    assert entry["bands"]["macs_again"] == bands.macs_again
    assert "Bands of rows" in report_html(done)
    parts = [layer for layer in done.program.layers if " band " in layer.name]
    assert parts
    assert all(layer.output_tensor in done.sqnr_db for layer in parts)
