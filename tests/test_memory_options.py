"""--io and --ram-budget: what is printed, what is written, what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from qcc.cli import main
from qcc.ops.examples import normal
from tests.graphs import node, proto

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*args: object) -> tuple[int, str, str]:
        code = main([str(a) for a in args])
        captured = capsys.readouterr()
        return code, " ".join(captured.out.split()), captured.err

    return call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    nodes = [
        node("Conv", "x w1", "a", pads=[1, 1, 1, 1]), node("Conv", "a w2", "b"),
        node("MaxPool", "b", "c", kernel_shape=[4, 4], strides=[4, 4]),
        node("GlobalAveragePool", "c", "d"), node("Flatten", "d", "y"),
    ]  # fmt: skip
    constants = {"w1": normal((16, 3, 3, 3), 1, 0.3), "w2": normal((8, 16, 1, 1), 2, 0.3)}
    onnx.save(proto(nodes, (1, 3, 32, 16), "y", constants), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def manifest(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return found


def test_the_summary_says_how_good_the_plan_is(run: Call, path: Path, tmp_path: Path) -> None:
    code, text, _ = run(path, "-o", tmp_path / "out")
    assert code == 0
    assert "arena proved optimal, in any order of the layers; has room for" in text
    entry = manifest(tmp_path / "out")
    assert entry["arena_bytes"] == entry["arena_bound"] == entry["arena_bound_any_order"]
    assert entry["bands"] is None
    kinds = {b["kind"] for b in entry["buffers"]}
    assert "tensor" in kinds


def test_a_budget_is_met_and_its_price_printed(run: Call, path: Path, tmp_path: Path) -> None:
    code, text, err = run(path, "-o", tmp_path / "out", "--ram-budget", "4K")
    assert code == 0, err
    entry = manifest(tmp_path / "out")
    bands = entry["bands"]
    assert entry["arena_bytes"] <= 4096 < bands["arena_before"]
    assert entry["options"]["ram_budget"] == 4096
    expected = (
        f"the first {bands['layers']} layers run in {bands['count']} bands of rows: "
        f"arena {bands['arena_before']:,} -> {entry['arena_bytes']:,} bytes"
    )
    assert expected in text
    assert "MACs again" in text
    assert sum(layer["macs"] for layer in entry["layers"]) == entry["macs"]


def test_a_budget_out_of_reach_is_refused(run: Call, path: Path, tmp_path: Path) -> None:
    code, out, err = run(path, "-o", tmp_path / "out", "--ram-budget", "64")
    assert code == 1
    assert out == ""
    assert err.startswith("qcc: error: ")
    assert "--ram-budget 64: the lowest arena found takes " in err
    assert not (tmp_path / "out").exists()


def test_bands_can_be_dumped(run: Call, path: Path, tmp_path: Path) -> None:
    args = ["--ram-budget", "4K", "--dump-ir", tmp_path / "ir", "--stop-after", "patch-rows"]
    code, _, err = run(path, *args)
    assert code == 0, err
    (last,) = (p for p in (tmp_path / "ir").iterdir() if "patch-rows" in p.name)
    assert " band 1" in last.read_text()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("io", ["auto", "arena", "caller"])
def test_where_inputs_and_outputs_may_lie(run: Call, path: Path, tmp_path: Path, io: str) -> None:
    code, _, err = run(path, "-o", tmp_path / "out", "--io", io)
    assert code == 0, err
    entry = manifest(tmp_path / "out")
    offsets = [p["arena_offset"] for p in (*entry["inputs"], *entry["outputs"])]
    header = (tmp_path / "out" / "net.h").read_text()
    found = re.findall(r"^#define NET_[XY]_OFFSET (\d+)$", header, re.MULTILINE)
    assert [int(n) for n in found] == [o for o in offsets if o is not None]
    if io == "caller":
        assert offsets == [None, None]
    if io == "arena":
        assert None not in offsets
