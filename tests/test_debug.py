"""``qcc debug``: layers float or integer one by one, and suggestions that hold their promise."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc import reference
from qcc.cli import main
from qcc.codegen.lower import totals
from qcc.config import Config, LayerBits
from qcc.debug_model import Diagnosis, diagnose, twins
from qcc.debug_page import debug_html
from qcc.driver import calibrate
from qcc.effects import Effect, decibel, effect_of
from qcc.errors import QccError
from qcc.ir import Array, Graph
from qcc.mixed import Mixed, Value
from qcc.ops import OPS
from qcc.ops.examples import model, normal
from qcc.options import parse_compile, parse_debug
from tests.build import calibration
from tests.networks import NAMES, network, samples

CLASSES = 5


def chain() -> onnx.ModelProto:
    """Three dense layers, 12 to 16 to 16 to 5."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"], name="one"),
        helper.make_node("Relu", ["h1"], ["r1"], name="relu1"),
        helper.make_node("Gemm", ["r1", "w2", "b2"], ["h2"], name="two"),
        helper.make_node("Relu", ["h2"], ["r2"], name="relu2"),
        helper.make_node("Gemm", ["r2", "w3", "b3"], ["y"], name="three"),
    ]
    constants = {
        "w1": normal((12, 16), 1, 0.3), "b1": normal((16,), 2, 0.1),
        "w2": normal((16, 16), 3, 0.3), "b2": normal((16,), 4, 0.1),
        "w3": normal((16, CLASSES), 5, 0.3), "b3": normal((CLASSES,), 6, 0.1),
    }  # fmt: skip
    return model("chain", nodes, {"x": (1, 12)}, ["y"], constants)


DATA = {"x": normal((200, 1, 12), 9)}
PLAIN = Config(calibration=DATA, rounding="nearest", weight_clip="none", keep8=())


def labels(proto: onnx.ModelProto, data: Mapping[str, Array]) -> Array:
    """What the float network says: so its accuracy is 1."""
    graph = calibrate(proto, PLAIN).graph
    (name,), (output,) = graph.inputs, graph.outputs
    return np.asarray(reference.run_float(graph, {name: data["x"]})[output].argmax(axis=-1).ravel())


@cache
def pair(name: str, scale: str = "single-shift") -> tuple[Graph, Graph]:
    """(float, integer) graph of a network of ``tests.networks``."""
    config = replace(PLAIN, calibration=samples(name), scale=scale)  # type: ignore[arg-type]
    return twins(calibrate(network(name), config), config)


def inputs(graph: Graph, data: Mapping[str, Array]) -> dict[str, Array]:
    out = {}
    for name in graph.inputs:
        origin = graph.tensor(name).origin
        assert origin is not None
        out[name] = reference.to_memory(data[origin.name], origin.perm)
    return out


# -- mixed networks --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_all_layers_integer_is_the_reference(name: str) -> None:
    twin, graph = pair(name)
    fed = inputs(graph, samples(name, 3, seed=2))
    values = Mixed(graph, twin).run(fed, integer=True)
    quantized = {t: reference.quantize_tensor(graph, t, x) for t, x in fed.items()}
    activations = [t.name for t in graph.tensors() if t.data is None]
    for tensor, want in reference.run_int(graph, quantized, keep=activations).items():
        assert values[tensor].integer
        np.testing.assert_array_equal(values[tensor].data, want)


@pytest.mark.parametrize("name", NAMES)
def test_all_layers_float_is_the_float_graph(name: str) -> None:
    twin, graph = pair(name)
    fed = inputs(graph, samples(name, 3, seed=2))
    values = Mixed(graph, twin).run(fed, integer=False)
    for tensor in graph.outputs:
        want = reference.run_float(twin, fed)[tensor]
        np.testing.assert_array_equal(values[tensor].data, want)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["single-shift", "fixed-point"])
def test_a_layer_rounds_real_inputs_as_it_rounds_integers(name: str, scale: str) -> None:
    """Fed with the real values of integers, a layer must come out where its integers do."""
    twin, graph = pair(name, scale)
    mixed = Mixed(graph, twin)
    fed = inputs(graph, samples(name, 3, seed=2))
    integers = mixed.run(fed, integer=True)
    reals = {t: Value(mixed.real(t, v), False) for t, v in integers.items()}
    for place in mixed.places[len(graph.inputs) :]:
        tensor = graph.node(place).output
        made = mixed.switched(place, reals, fed)[tensor]
        assert made.integer
        steps = np.abs(made.data - integers[tensor].data)
        assert steps.max() <= 1, place
        assert (steps > 0).mean() < 0.1, place


@pytest.mark.parametrize("op", sorted(OPS))
def test_every_operator_can_be_of_either_kind(op: str) -> None:
    """Real inputs that are values of the formats: either way an integer layer says the same."""
    for proto in OPS[op].examples():
        data = calibration(proto, 3)
        config = replace(PLAIN, calibration=data)
        twin, graph = twins(calibrate(proto, config), config)
        mixed = Mixed(graph, twin)
        fed = inputs(graph, data)
        integers, floats = mixed.run(fed, integer=True), mixed.run(fed, integer=False)
        reals = {t: Value(mixed.real(t, v), False) for t, v in integers.items()}
        for place in mixed.places[len(graph.inputs) :]:
            tensor = graph.node(place).output
            made = mixed.switched(place, reals, fed)[tensor]
            assert made.integer
            assert np.abs(made.data - integers[tensor].data).max() <= 1, (proto.graph.name, place)
            exact = mixed.switched(place, integers, fed)[tensor]
            assert not exact.integer
            assert np.isfinite(exact.data).all()
        assert not any(v.integer for v in floats.values())


def test_what_changes_is_what_depends_on_the_place() -> None:
    twin, graph = pair("medley")
    mixed = Mixed(graph, twin)
    fed = inputs(graph, samples("medley", 2))
    base = mixed.run(fed, integer=True)
    for place in mixed.places:
        changed = mixed.switched(place, base, fed)
        reached = {place if place in graph.inputs else graph.node(place).output}
        for node in graph.nodes():
            if reached.intersection(node.inputs):
                reached.add(node.output)
        assert set(changed) == reached, place
        again = {t: v.data for t, v in mixed.run(fed, integer=True).items()}
        assert all(np.array_equal(base[t].data, x) for t, x in again.items())


def test_moves_round_nothing() -> None:
    """A float layer's result goes through a pool or a concatenation as it is."""
    twin, graph = pair("medley")
    mixed = Mixed(graph, twin)
    fed = inputs(graph, samples("medley", 2))
    base = mixed.run(fed, integer=True)
    for place in mixed.places:
        changed = mixed.switched(place, base, fed)
        for node in graph.nodes():
            moved = OPS[node.op].same_scale and node.output in changed
            if moved and any(x in changed and not changed[x].integer for x in node.inputs):
                assert not changed[node.output].integer, node.name


# -- effects ---------------------------------------------------------------------------------------


def test_effects_of_pieces_add_up() -> None:
    _, graph = pair("digits")
    (out,) = graph.outputs
    shape = (20, *graph.shape(out))
    want, got = {out: normal(shape, 1)}, {out: normal(shape, 2)}
    truth = np.arange(20) % 10
    whole = effect_of(graph, want, got, truth)
    first = effect_of(graph, {out: want[out][:7]}, {out: got[out][:7]}, truth[:7])
    rest = effect_of(graph, {out: want[out][7:]}, {out: got[out][7:]}, truth[7:])
    both = first + rest
    assert (both.samples, both.agree, both.correct) == (whole.samples, whole.agree, whole.correct)
    assert both.noise == pytest.approx(whole.noise)
    assert whole.sqnr_db == pytest.approx(decibel(whole.power, whole.noise))


def test_an_output_of_one_value_cannot_agree() -> None:
    assert Effect(3, 1.0, 0.5, 3, None, 1).agreement is None
    assert Effect(4, 1.0, 0.5, 3, 2, 2).agreement == 0.75


# -- findings --------------------------------------------------------------------------------------


@cache
def weak() -> Diagnosis:
    """The second of three layers has weights of 2 bits."""
    config = replace(PLAIN, layers=(LayerBits("two", 2),))
    data = {"x": normal((150, 1, 12), 10)}
    return diagnose(chain(), config, (data, labels(chain(), data)), title="chain.onnx")


def test_the_weak_layer_is_found() -> None:
    found = weak()
    assert [p.kind for p in found.places] == ["input", "dense", "dense", "dense"]
    places = {p.onnx_nodes[0]: p for p in found.places[1:]}
    two = places["two"]
    assert (two.weight_bits, two.act_bits, two.weight_bytes) == (2, 8, 64 + 64)
    assert two.own_db == min(p.own_db for p in found.places)
    assert two.alone.sqnr_db < 15 < min(places[n].alone.sqnr_db for n in ("one", "three"))
    assert two.without.sqnr_db > found.integer.sqnr_db + 10
    for name in ("one", "three"):
        assert abs(places[name].without.sqnr_db - found.integer.sqnr_db) < 1
    assert found.real.accuracy == 1.0


def test_errors_grow_towards_the_end() -> None:
    one, two, three = weak().places[1:]
    assert one.sqnr_db > 30 > two.sqnr_db > three.sqnr_db - 6
    assert one.cosine > 0.999 > two.cosine


def test_a_suggestion_holds_what_it_promises() -> None:
    """Compiled with the option that it names, the network does what the suggestion says."""
    found = weak()
    best = found.suggestions[0]
    assert best.what.endswith("keep 8 bits")
    assert best.unit == "points"
    assert best.gain > 1
    assert best.text == f"{best.what}: +{best.gain:.1f} points for {best.flash:+d} bytes"
    words = shlex.split(best.option)
    assert words[0] == "--layer"
    rule = parse_compile(["m.onnx", "-o", "o", *words]).config.layers[0]
    config = replace(PLAIN, layers=(LayerBits("two", 2), rule))
    data = {"x": normal((150, 1, 12), 10)}
    again = diagnose(chain(), config, (data, labels(chain(), data)))
    assert again.integer == best.effect
    assert again.integer.accuracy is not None
    assert found.integer.accuracy is not None
    gained = 100 * (again.integer.accuracy - found.integer.accuracy)
    assert gained == pytest.approx(best.gain)
    before, after = (
        totals(twins(calibrate(chain(), c), c)[1]).weight_bytes
        for c in (replace(PLAIN, layers=(LayerBits("two", 2),)), config)
    )
    assert best.flash == after - before > 0


def test_without_labels_gains_are_decibels() -> None:
    found = diagnose(chain(), replace(PLAIN, layers=(LayerBits("two", 2),)))
    assert found.on_calibration
    assert not found.labelled
    assert {s.unit for s in found.suggestions} == {"dB"}
    assert found.suggestions[0].gain > 10


def test_nothing_is_suggested_where_nothing_is_lost() -> None:
    data = {"x": normal((100, 1, 12), 10)}
    config = replace(PLAIN, act_bits=16)
    found = diagnose(chain(), config, (data, labels(chain(), data)))
    assert found.integer.accuracy == 1.0
    assert found.suggestions == ()


def test_clipped_values_are_counted() -> None:
    """With ranges of 90 % of the values, what is left lies beyond the formats."""
    config = replace(PLAIN, threshold="percentile", percentile=90.0)
    found = diagnose(chain(), config, ({"x": DATA["x"]}, None))
    twin, graph = twins(calibrate(chain(), config), config)
    values = reference.run_float(twin, inputs(graph, DATA))
    for place in found.places[1:]:
        tensor = graph.node(place.name).output
        top = (graph.quant(tensor).qtype.qmax + 0.5) * graph.quant(tensor).scalar
        assert place.saturated == int((np.abs(values[tensor]) > top).sum())
        assert place.values == values[tensor].size
    hidden = found.places[1]
    assert 0.05 < hidden.saturated / hidden.values < 0.15


def test_the_worst_channel_is_the_one_that_was_made_bad() -> None:
    """Channel 7 a hundred times smaller than the rest: it has few of the 256 steps."""
    proto = chain()
    for constant in proto.graph.initializer:
        w = onnx.numpy_helper.to_array(constant).copy()
        if constant.name in ("w1", "b1"):
            w[..., 7] *= 0.01
            constant.CopyFrom(onnx.numpy_helper.from_array(w, constant.name))
    found = diagnose(proto, PLAIN)
    worst = found.places[1].worst
    assert worst[0].index == 7
    assert worst[0].sqnr_db < worst[1].sqnr_db - 10
    assert list(worst) == sorted(worst, key=lambda c: c.sqnr_db)


def test_processes_change_nothing() -> None:
    config = replace(PLAIN, calibration=samples("digits"), weight_bits=3)
    data = samples("digits", 130, seed=3), None
    seen: list[tuple[str, int, int]] = []
    alone = diagnose(network("digits"), config, data, jobs=1)
    both = diagnose(
        network("digits"), config, data, jobs=2, progress=lambda *what: seen.append(what)
    )
    assert alone.as_dict() == both.as_dict()
    assert {"measuring", "trying"} <= {stage for stage, _, _ in seen}


def test_samples_are_needed() -> None:
    with pytest.raises(QccError, match="--calib"):
        diagnose(chain(), Config())


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(chain(), tmp_path / "chain.onnx")
    np.savez(tmp_path / "calib.npz", x=DATA["x"][:40])
    data = {"x": DATA["x"][:60]}
    np.savez(tmp_path / "eval.npz", x=data["x"], y=labels(chain(), data))
    return tmp_path


def command(folder: Path, *more: str) -> list[str]:
    return ["debug", str(folder / "chain.onnx"), "--calib", str(folder / "calib.npz"), "--jobs",
            "1", *more]  # fmt: skip


def test_the_command_writes_json_and_a_page(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = folder / "page.html"
    data = ["--eval", str(folder / "eval.npz"), "--bits", "W2A8", "--limit", "50"]
    assert main(command(folder, *data, "--json", "-o", str(page))) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["samples"] == 50
    assert found["bits"] == "W2A8"
    assert found["float_accuracy"] == 1.0
    assert [layer["op"] for layer in found["layers"]] == ["input", "dense", "dense", "dense"]
    text = page.read_text()
    assert "chain.onnx" in text
    assert "<script" not in text
    for suggestion in found["suggestions"]:
        assert suggestion["text"].split(":")[0] in text


def test_the_command_prints_a_table(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(command(folder, "--eval", str(folder / "eval.npz"), "--bits", "W2A8")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "--layer" not in line) <= 80
    assert lines[0] == "chain.onnx (W2A8, single-shift)"
    assert "accuracy" in "\n".join(lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["debug"], "no model given"),
        (["debug", "m.onnx"], "no samples given"),
        (["debug", "m.onnx", "--calib", "c.npz", "--stop-after", "quantize"], "compiles nothing"),
        (["debug", "m.onnx", "--calib", "c.npz", "--limit", "0"], "above 0"),
        (["debug", "m.onnx", "--calib", "c.npz", "-o", "."], "this is no file"),
    ],
)
def test_bad_usage_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("qcc: error: ")
    assert said in error


def test_a_page_is_replaced_with_force_only(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = folder / "page.html"
    page.write_text("mine")
    assert main(command(folder, "-o", str(page))) == 2
    assert page.read_text() == "mine"
    assert main(command(folder, "-o", str(page), "--force", "-q")) == 0
    assert page.read_text().startswith("\n<!DOCTYPE html>") or "<!DOCTYPE" in page.read_text()


def test_the_config_file_of_a_compilation_serves(tmp_path: Path) -> None:
    """Where it says what to write, that is not meant here."""
    file = tmp_path / "qcc.toml"
    file.write_text(
        'bits = "W4A8"\noutput = "out"\ncalib = "c.npz"\nforce = true\ndump-ir = "ir"\n'
        '[[layer]]\nmatch = "fc"\nbits = "W8A8"\n'
    )
    options = parse_debug(["m.onnx", "--config", str(file)])
    assert options.config.bits == "W4A8"
    assert options.config.layers == (LayerBits("fc", 8, 8),)
    assert options.calib == tmp_path / "c.npz"
    assert (options.page, options.force) == (None, False)


def test_the_page_escapes_what_the_model_says() -> None:
    found = replace(weak(), model="<b>&.onnx", notes=("<i>note</i>",))
    text = debug_html(found)
    assert "<b>&.onnx" not in text
    assert "&lt;b&gt;&amp;.onnx" in text
    assert "<i>note" not in text
