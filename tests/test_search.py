"""``qcc search``: optimal choices, points that are what their configuration compiles to."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc import search_widths as module
from qcc.api import compile
from qcc.cli import main
from qcc.config import Config, LayerBits
from qcc.config_file import config_text
from qcc.driver import compile_proto
from qcc.errors import QccError, UsageError
from qcc.ops.examples import model, normal
from qcc.options import parse_compile, parse_search
from qcc.search_page import search_files, search_svg, widths_text
from qcc.search_widths import Limits, Point, Search, Sensitivity, choose, search


def sensitivity(rows: list[tuple[str, int, float, int, int]]) -> list[Sensitivity]:
    return [Sensitivity(layer, layer, bits, noise, size, work)
            for layer, bits, noise, size, work in rows]  # fmt: skip


def drawn(seed: int, layers: int = 6) -> list[Sensitivity]:
    """Noise falls with the width, bytes grow, instructions are anything."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(layers):
        weight, share = int(rng.integers(100, 4000)), float(rng.uniform(0.1, 3))
        rows += [
            (f"l{i}", bits, share * 4.0**-bits, -weight * (8 - bits), int(rng.integers(-99, 99)))
            for bits in (2, 4, 8)
        ]
    return sensitivity(rows)


def best(options: list[Sensitivity], size: float, work: float) -> float:
    """By trying everything."""
    layers = [[o for o in options if o.place == name] for name in dict.fromkeys(
        o.place for o in options)]  # fmt: skip
    fitting = [
        sum(o.noise for o in choice)
        for choice in itertools.product(*layers)
        if sum(o.bytes for o in choice) <= size and sum(o.instructions for o in choice) <= work
    ]
    return min(fitting, default=float("inf"))


@pytest.mark.parametrize("seed", range(12))
def test_the_choice_is_optimal(seed: int) -> None:
    options = drawn(seed)
    sizes = [o.bytes for o in options]
    rng = np.random.default_rng(seed + 100)
    for work in (float("inf"), 60.0):
        size = float(rng.uniform(0.3, 0.9)) * sum(sorted(sizes)[:6])
        found = choose(options, size, work)
        want = best(options, size, work)
        if found is None:
            assert want == float("inf")
            continue
        chosen = [o for o in options if found[o.place] == o.bits]
        assert len(chosen) == 6
        assert sum(o.bytes for o in chosen) <= size
        assert sum(o.instructions for o in chosen) <= work
        assert sum(o.noise for o in chosen) == pytest.approx(want, rel=1e-6)


def test_what_cannot_be_had_is_none() -> None:
    assert choose(drawn(1), -1e9) is None


# -- a network -------------------------------------------------------------------------------------


def chain() -> onnx.ModelProto:
    """Three dense layers; the second is the largest, the third sees few values."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"], name="one"),
        helper.make_node("Relu", ["h1"], ["r1"], name="relu1"),
        helper.make_node("Gemm", ["r1", "w2", "b2"], ["h2"], name="two"),
        helper.make_node("Relu", ["h2"], ["r2"], name="relu2"),
        helper.make_node("Gemm", ["r2", "w3", "b3"], ["y"], name="three"),
    ]
    constants = {
        "w1": normal((12, 24), 1, 0.3), "b1": normal((24,), 2, 0.1),
        "w2": normal((24, 32), 3, 0.3), "b2": normal((32,), 4, 0.1),
        "w3": normal((32, 6), 5, 0.3), "b3": normal((6,), 6, 0.1),
    }  # fmt: skip
    return model("chain", nodes, {"x": (1, 12)}, ["y"], constants)


DATA = {"x": normal((120, 1, 12), 9)}
PLAIN = Config(calibration=DATA, rounding="nearest", weight_clip="none")


@cache
def found() -> Search:
    return search(chain(), PLAIN, Limits(loss=20.0), points=6, title="chain.onnx")


def test_smaller_is_worse() -> None:
    points = found().points
    assert len(points) >= 3
    for a, b in itertools.pairwise(points):
        assert a.flash < b.flash
        assert a.quality < b.quality
    assert set(points[-1].widths) == set(points[0].widths)
    assert len(points[0].widths) == 3
    assert found().chosen is not None


def test_every_layer_was_tried_at_every_width() -> None:
    rows = {(s.label, s.bits): s for s in found().sensitivity}
    assert {bits for _, bits in rows} == {2, 4, 8}
    assert len(rows) == 9
    for label in {label for label, _ in rows}:
        two, four, eight = (rows[label, bits] for bits in (2, 4, 8))
        assert two.noise > four.noise > eight.noise == 0
        assert two.bytes < four.bytes < eight.bytes == 0


def test_a_point_is_what_its_configuration_compiles_to(tmp_path: Path) -> None:
    """From the written file, through the command line's own reader."""
    np.savez(tmp_path / "calib.npz", x=DATA["x"])
    files = search_files(found(), tmp_path / "calib.npz", tmp_path)
    for i, point in enumerate(found().points):
        file = tmp_path / f"point-{i}.toml"
        file.write_text(files[file.name])
        options = parse_compile(["m.onnx", "-o", "out", "--config", str(file)])
        assert options.calib is not None
        assert options.calib.resolve() == tmp_path / "calib.npz"
        assert replace(options.config, calibration=DATA) == point.config
        done = compile_proto(chain(), replace(options.config, calibration=DATA))
        assert done.program.weight_bytes == point.tables
        assert done.program.arena_bytes == point.ram


def test_limits_decide_what_fits() -> None:
    points = found().points
    middle = points[len(points) // 2]
    one = search(chain(), PLAIN, Limits(flash=middle.flash), points=6)
    assert [p.fits for p in one.points] == [p.flash <= middle.flash for p in one.points]
    assert one.chosen == max(i for i, p in enumerate(one.points) if p.fits)
    none = search(chain(), PLAIN, Limits(floor=190.0), points=3)
    assert none.chosen is None


def test_instructions_are_a_limit() -> None:
    least = min(p.instructions for p in found().points)
    made = search(chain(), PLAIN, Limits(instructions=least), points=6)
    assert any(p.fits for p in made.points)
    assert all(p.instructions <= least for p in made.points if p.fits)


def test_layers_with_a_rule_keep_it() -> None:
    config = replace(PLAIN, layers=(LayerBits("two", 3),))
    made = search(chain(), config, Limits(), points=4)
    assert all("two" not in s.label for s in made.sensitivity)
    assert all(rule in p.config.layers for p in made.points for rule in config.layers)
    with pytest.raises(UsageError, match="no layer is left"):
        search(chain(), replace(PLAIN, layers=(LayerBits("*", 4),)), Limits())


def test_labels_make_points_of_accuracy() -> None:
    data = {"x": normal((80, 1, 12), 10)}
    truth = np.arange(80) % 6
    made = search(chain(), PLAIN, Limits(loss=100.0), (data, truth), points=3)
    assert made.labelled
    assert made.real.accuracy is not None
    assert all(p.effect.accuracy is not None for p in made.points)
    assert made.chosen == 0


def test_processes_change_nothing() -> None:
    alone, both = (search(chain(), PLAIN, Limits(), points=2, jobs=jobs) for jobs in (1, 2))
    assert alone.as_dict() == both.as_dict()


def test_a_program_that_cannot_be_that_small() -> None:
    """Even the smallest kernels: the compiler says so, and what there is is shown."""
    made = search(chain(), PLAIN, Limits(flash=100), points=2)
    assert made.chosen is None
    assert made.points
    assert any("--flash-budget 100" in why for why in made.refused)


def test_without_samples_nothing_can_be_measured() -> None:
    with pytest.raises(QccError, match="--calib"):
        search(chain(), Config(), Limits())


def test_without_a_solver_the_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise QccError("qcc search needs scipy")

    monkeypatch.setattr(module, "_solver", missing)
    with pytest.raises(QccError, match="scipy"):
        search(chain(), PLAIN, Limits(), points=2)


# -- files -----------------------------------------------------------------------------------------


CONFIGS = (
    Config(),
    Config(target="cortex-m4", weight_bits=4, act_bits=16, name="abc", io_bits=16, keep8=()),
    Config(
        layers=(LayerBits("a [b]*", 4, None), LayerBits('q"\\', None, 16), LayerBits("c", 2, 8)),
        keep8=("first", "depthwise"), rounding="learned", rounding_sweeps=7, weight_clip="kl",
        scale="fixed-point", threshold="percentile", percentile=99.5, per_channel=False,
    ),
    Config(
        mean=(1.5, -2.0), std=(3.0,), shapes={"x y": (1, 3, 8, 8)}, optimize="speed", io="caller",
        ram_budget=1000, flash_budget=2000, constant_channels=False, bias_correction=False,
    ),
)  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_comes_back(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "sub" / "qcc.toml"
    file.parent.mkdir()
    file.write_text(config_text(config, tmp_path / "c.npz", file.parent))
    options = parse_compile(["m.onnx", "-o", "out", "--config", str(file)])
    assert options.config == config
    assert options.calib is not None
    assert options.calib.resolve() == (tmp_path / "c.npz").resolve()


def test_a_name_that_is_none_for_c_is_left_out(tmp_path: Path) -> None:
    assert "name" not in config_text(Config(name="my-model 2"), None, tmp_path)


def test_the_picture_is_svg() -> None:
    made = replace(found(), model="<a>&.onnx")
    root = ET.fromstring(search_svg(made))
    tags = [e.tag.rpartition("}")[2] for e in root.iter()]
    assert tags.count("circle") == len(made.points) + len(made.dropped)
    assert tags.count("polyline") == 1
    assert any("<a>&.onnx" in (e.text or "") for e in root.iter())


def test_widths_in_words() -> None:
    point: Point = replace(found().points[0], widths={"a": 4, "b": 8, "c": 4})
    assert widths_text(point) == "2 x W4, 1 x W8"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(chain(), tmp_path / "chain.onnx")
    np.savez(tmp_path / "calib.npz", x=DATA["x"])
    folder = tmp_path / "points"
    words = ["search", str(tmp_path / "chain.onnx"), "--calib", str(tmp_path / "calib.npz"),
             "--jobs", "1", "--points", "3", "--min-accuracy", "-6", "--rounding", "nearest",
             "-o", str(folder)]  # fmt: skip
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((folder / "search.json").read_text())
    assert printed["limits"]["loss"] == 6.0
    chosen = printed["chosen"]
    assert chosen is not None
    assert main(words) == 2  # the folder is not empty
    assert "--force" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    text = capsys.readouterr().out
    assert f"--config {folder}/point-{chosen}.toml" in text
    file = folder / f"point-{chosen}.toml"
    out = tmp_path / "out"
    assert main([str(tmp_path / "chain.onnx"), "-o", str(out), "--config", str(file), "-q"]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["flash_bytes"]["weights"] == printed["points"][chosen]["table_bytes"]
    assert manifest["arena_bytes"] == printed["points"][chosen]["arena_bytes"]


def test_options() -> None:
    options = parse_search(
        ["m.onnx", "--calib", "c.npz", "--flash", "64K", "--ram", "32K", "--instructions", "5M",
         "--min-accuracy", "-1.0", "--widths", "8,4"]
    )  # fmt: skip
    assert (options.flash, options.ram, options.instructions) == (65536, 32768, 5_000_000)
    assert (options.least, options.widths) == (-1.0, (8, 4))


@pytest.mark.parametrize(
    "words",
    [["--widths", "8"], ["--widths", "4,9"], ["--widths", "a"], ["--min-accuracy", "nan"],
     ["--instructions", "0"], ["--flash", "-1"], ["--points", "0"]],
)  # fmt: skip
def test_bad_options(words: list[str]) -> None:
    with pytest.raises(UsageError, match=words[0]):
        parse_search(["m.onnx", "--calib", "c.npz", *words])


def test_the_python_function_takes_a_point(tmp_path: Path) -> None:
    onnx.save(chain(), tmp_path / "m.onnx")
    point = found().points[0]
    made = compile(
        tmp_path / "m.onnx", tmp_path / "out", calibration=DATA, layers=point.config.layers,
        rounding="nearest", weight_clip="none",
    )  # fmt: skip
    assert made.manifest["flash_bytes"]["weights"] == point.tables
