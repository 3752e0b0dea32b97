"""The benchmark's own arithmetic: peers, limits, which layers are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import cortexm
from benchmarks.cortexm import CORES, Results, Setting, checks, load_peers, matched
from benchmarks.mlperf_tiny import MAIN
from qcc.config import Optimize, ScaleMode
from qcc.profiling.result import LayerProfile, Profile
from tests.profiling.test_output import FOUND, layer

PEERS = load_peers()


def setting(
    core: str, optimize: Optimize = "balanced", scale: ScaleMode = "single-shift"
) -> Setting:
    return Setting("ic", core, optimize, scale)


def limits(key: Setting, found: Profile, results: Results | None = None) -> dict[str, bool]:
    made = checks(key, found, results or {key: found}, PEERS["ic"])
    return {check.what: check.met for check in made}


def test_the_peers_figures_are_complete_and_add_up() -> None:
    assert set(PEERS) == set(MAIN)
    totals = {"ic": 29_859_145, "kws": 7_694_107, "vww": 24_092_233, "ad": 579_920}
    for name, peers in PEERS.items():
        assert peers.instructions("m4") == totals[name]
        assert peers.instructions("m33") is None
        assert {"must", "aim", "flash", "arena", "stack"} <= set(peers.limits)
        assert peers.limits["must"] < totals[name]
        assert all(set(x.instructions) < set(CORES) for x in peers.layers)
    assert sum(x.macs for x in PEERS["ic"].layers) == 12_501_632


@pytest.mark.parametrize(
    ("key", "limit"),
    [
        (setting("m4"), 14_500_000), (setting("m4", "speed"), 9_600_000),
        (setting("m0"), 97_552_449 // 2), (setting("m55"), 4_907_157 * 2 // 3),
        (setting("m7"), 14_500_000),
    ],
)  # fmt: skip
def test_limits_of_instructions(key: Setting, limit: int) -> None:
    assert limits(key, replace(FOUND, instructions=limit - 1))["instructions"]
    assert not limits(key, replace(FOUND, instructions=limit + 1))["instructions"]


def test_limits_that_follow_from_other_results() -> None:
    m4 = replace(FOUND, instructions=1_000_000)
    results: Results = {setting("m4"): m4}
    for more, met in ((4_000, True), (6_000, False)):
        found = replace(FOUND, instructions=1_000_000 + more)
        assert limits(setting("m33"), found, results)["instructions"] == met
    for more, met in ((100_000, True), (100_001, False)):
        found = replace(FOUND, instructions=1_000_000 + more)
        key = setting("m4", scale="fixed-point")
        assert limits(key, found, results)["instructions"] == met


def test_fewer_bits_are_held_against_8() -> None:
    results: Results = {setting("m4"): replace(FOUND, instructions=1_000_000)}
    for bits, limit in (("W4A8", 1_000_000), ("W2A8", 1_100_000)):
        key = replace(setting("m4"), bits=bits)
        for more, met in ((0, True), (1, False)):
            found = replace(FOUND, instructions=limit + more)
            assert limits(key, found, results)["instructions"] == met
        assert "instructions" not in limits(key, FOUND)
    assert "instructions" not in limits(replace(setting("m4"), bits="W3A3"), FOUND, results)


def test_limits_of_memory() -> None:
    assert limits(setting("m4"), FOUND) == {
        "arena": True, "stack": True, "flash": True, "instructions": True,
    }  # fmt: skip
    large = replace(
        FOUND, arena_bytes=49_729, stack_bytes=2048, flash=replace(FOUND.flash, firmware=103_025)
    )
    found = limits(setting("m4"), large)
    assert (found["arena"], found["stack"], found["flash"]) == (False, False, False)
    assert "flash" not in limits(setting("m4", "speed"), large)
    assert "instructions" not in limits(setting("m4", "size"), large)


def ours(op: str, macs: int) -> LayerProfile:
    return replace(layer(0, op, macs, 1), op=op)


def test_layers_are_paired_by_work_whatever_the_order_of_branches() -> None:
    """The 1x1 convolution of a shortcut may run before or after its branch."""
    theirs = PEERS["ic"].layers
    branch = [ours("conv2d", m) for m in (442_368, 2_359_296, 2_359_296)]
    pairs = matched(
        [*branch, ours("add", 0), ours("conv2d", 131_072), ours("conv2d", 1_179_648),
         ours("transpose", 0)],
        theirs,
    )  # fmt: skip
    assert pairs[:5] == [theirs[0], theirs[1], theirs[2], theirs[3], theirs[6]]
    assert pairs[5:] == [theirs[4], None]


def test_layers_that_were_made_smaller_are_paired_in_order() -> None:
    theirs = PEERS["vww"].layers
    assert matched([ours("conv2d", 7), ours("conv2d", 5), ours("dense", 3)], theirs) == [
        theirs[0], theirs[1], theirs[-2],
    ]  # fmt: skip


def test_without_the_models_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cortexm.main(["--shared", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "they are not part of qcc" in captured.err
    assert captured.out == ""


def test_results_are_shown_with_their_limits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = replace(FOUND, instructions=14_000_000), replace(FOUND, stack_bytes=5000)
    results: Results = {setting("m4"): good, setting("m7"): bad}
    assert not cortexm._show(results, PEERS, layers=True)
    shown = capsys.readouterr().out
    assert "14,500,000" in shown
    assert "29,859,145" in shown
    assert "5,000 (> 2,048)" in shown
    assert "NO" in shown
    (first, second) = cortexm._as_json(results, PEERS)
    assert all(c["met"] for c in first["checks"])
    assert [c["what"] for c in second["checks"] if not c["met"]] == ["stack"]
    assert first["profile"] == good.as_dict()
