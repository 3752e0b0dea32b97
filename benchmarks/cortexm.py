"""The four MLPerf Tiny models on Cortex-M cores: what `qcc profile` counts, beside others' figures.

    python -m benchmarks.cortexm --shared ../shared                   every model on every core
    python -m benchmarks.cortexm --models kws --cores m4 --layers     layer by layer
    python -m benchmarks.cortexm --optimize size balanced speed --json cortexm.json
    python -m benchmarks.cortexm --cores m4 --bits W8A8 W4A8 W2A8 --keep8

*shared* holds ``models/mlperf_tiny`` and ``data`` (not part of this repository). Each model is
compiled for its core, built as its own Makefile would, and run on evaluation samples under
emulation; a count is shown only if every output is bit-exact. Figures of others, and the limits
that the counts are held against, are in ``benchmarks/peers.toml`` with their sources.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.mlperf_tiny import MAIN, TASKS, Task, _load, _onnx, on_samples
from qcc.api import profile
from qcc.codegen.target import load_targets
from qcc.codegen.write import write_files
from qcc.config import KEEP8, OPTIMIZE, SCALE_MODES, Config, Keep, Optimize, ScaleMode, parse_bits
from qcc.driver import compile_file, output_files
from qcc.errors import QccError
from qcc.frontend.load import load_model
from qcc.profiling.result import LayerProfile, Profile

PEERS = Path(__file__).with_name("peers.toml")
CORES = ("m0", "m4", "m7", "m33", "m55")
_PEER_COLUMNS = ("m0", "m4", "m7", "m55")
"""Order of the counts in a layer of peers.toml; it has none for the M33."""

M0_SHARE, M55_SHARE = 1 / 2, 2 / 3
"""Of CMSIS-NN's instructions, what the limits are on these cores."""

LIKE_M4_SHARE = 1.005
"""Of the M4's instructions, the limit on M7 and M33: the compiler schedules a bit differently."""

FIXED_POINT_SHARE = 1.1
"""Of single-shift's instructions, the limit of fixed-point."""

WIDTH_SHARES = {("m4", 4, 8): 1.0, ("m4", 2, 8): 1.1, ("m0", 4, 4): 0.7}
"""Core, bits of weights and of activations -> of W8A8's instructions, the limit."""

WIDE = "W8A8"

_KINDS = {
    "CONV_2D": "conv", "DEPTHWISE_CONV_2D": "conv", "conv2d": "conv", "FULLY_CONNECTED": "dense",
    "dense": "dense", "ADD": "add", "add": "add", "AVERAGE_POOL_2D": "mean",
    "avg_pool2d": "mean", "reduce_mean": "mean", "SOFTMAX": "softmax", "softmax": "softmax",
}  # fmt: skip
"""Operators of CMSIS-NN's layers and of ours that do the same."""


@dataclass(frozen=True, slots=True)
class PeerLayer:
    """A layer of CMSIS-NN: its work, and its instructions by core."""

    op: str
    output: str
    macs: int
    instructions: dict[str, int]


@dataclass(frozen=True, slots=True)
class Peers:
    """What is known of others on one model; byte figures are of the Cortex-M4 build."""

    layers: tuple[PeerLayer, ...]
    cycles: dict[str, int]
    flash: int
    arena: int
    stack: int
    records: dict[str, int]
    limits: dict[str, int]

    def instructions(self, core: str) -> int | None:
        """CMSIS-NN's instructions on *core*, if they were counted."""
        if core not in _PEER_COLUMNS:
            return None
        return sum(layer.instructions[core] for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Setting:
    """One cell of the benchmark."""

    model: str
    core: str
    optimize: Optimize
    scale: ScaleMode
    bits: str = WIDE

    def __str__(self) -> str:
        return f"{self.model} {self.core} {self.optimize} {self.scale} {self.bits}"


@dataclass(frozen=True, slots=True)
class Check:
    """A figure and the limit it is held against; *below*: it must be less, not equal."""

    what: str
    value: int
    limit: int
    below: bool

    @property
    def met(self) -> bool:
        return self.value < self.limit if self.below else self.value <= self.limit


Results = dict[Setting, Profile]


def load_peers() -> dict[str, Peers]:
    """peers.toml, by model."""
    raw = tomllib.loads(PEERS.read_text(encoding="utf-8"))
    return {name: _peers(entry) for name, entry in raw.items()}


def _peers(entry: dict[str, Any]) -> Peers:
    cmsisnn = entry["cmsisnn"]
    layers = tuple(
        PeerLayer(op, output, macs, dict(zip(_PEER_COLUMNS, counts, strict=True)))
        for op, output, macs, *counts in cmsisnn["layers"]
    )
    return Peers(
        layers, cmsisnn["cycles"], cmsisnn["flash"], cmsisnn["arena"], cmsisnn["stack"],
        entry["records"], entry["limits"],
    )  # fmt: skip


def measure(
    shared: Path, task: Task, setting: Setting, samples: int, engine: str, keep8: tuple[Keep, ...]
) -> Profile:
    """Compile *task* as *setting* says and profile it on evaluation samples.

    Raises:
        QccError: it does not compile, build or run, or is not bit-exact.
    """
    path = _onnx(shared, task)
    calibration, _ = _load(shared, task, "calib")
    evaluation, _ = _load(shared, task, "eval")
    name = load_model(path).graph.input[0].name
    weight_bits, act_bits = parse_bits(setting.bits)
    config = Config(
        target=f"cortex-{setting.core}",
        weight_bits=weight_bits,
        act_bits=act_bits,
        keep8=keep8,
        optimize=setting.optimize,
        scale=setting.scale,
        calibration={name: calibration[: task.calibration]},
    )
    done = on_samples(compile_file(path, config), evaluation[:samples])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        write_files(output_files(done), out)
        return profile(out, engine=engine, samples=samples)


# -- limits ---------------------------------------------------------------------------------------


def checks(setting: Setting, found: Profile, results: Results, peers: Peers) -> list[Check]:
    """What *found* is held against; needs the other *results* where one limits another."""
    made = [
        Check("arena", found.arena_bytes, peers.limits["arena"], False),
        Check("stack", found.stack_bytes, peers.limits["stack"], True),
    ]
    plain = setting.scale == "single-shift"  # multipliers of the other scalings take flash
    if setting.core == "m4" and setting.optimize != "speed" and plain:
        made.append(Check("flash", found.flash.firmware, peers.limits["flash"], False))
    limit = _instruction_limit(setting, results, peers)
    if limit is not None:
        equal = (
            setting.core in ("m7", "m33") or setting.scale != "single-shift" or setting.bits != WIDE
        )
        made.append(Check("instructions", found.instructions, limit, not equal))
    return made


def _instruction_limit(setting: Setting, results: Results, peers: Peers) -> int | None:
    """None where nothing is asked for."""
    if setting.bits != WIDE:
        share = WIDTH_SHARES.get((setting.core, *parse_bits(setting.bits)))
        wide = results.get(replace(setting, bits=WIDE))
        return None if share is None or wide is None else int(share * wide.instructions)
    if setting.scale != "single-shift":
        plain = results.get(Setting(setting.model, setting.core, setting.optimize, "single-shift"))
        return None if plain is None else int(FIXED_POINT_SHARE * plain.instructions)
    if setting.optimize == "size":
        return None
    m4 = peers.limits["must"]
    if setting.optimize == "speed":
        m4 = peers.limits.get("speed", m4)
    if setting.core == "m4":
        return m4
    if setting.core in ("m7", "m33"):
        beside = results.get(Setting(setting.model, "m4", setting.optimize, setting.scale))
        return m4 if beside is None else int(LIKE_M4_SHARE * beside.instructions)
    counted = peers.instructions(setting.core)
    if counted is None:
        return None
    return int(counted * (M0_SHARE if setting.core == "m0" else M55_SHARE))


# -- layers ---------------------------------------------------------------------------------------


def matched(ours: Sequence[LayerProfile], theirs: Sequence[PeerLayer]) -> list[PeerLayer | None]:
    """For each of our layers the one of CMSIS-NN that does the same; None where there is none.

    Both are in order of execution, but branches may be the other way round, and qcc may have made
    a layer smaller: first layers of the same kind and work are paired, then the rest in order.
    """
    left = list(theirs)
    found: list[PeerLayer | None] = [None] * len(ours)
    for exact in (True, False):
        for i, layer in enumerate(ours):
            if found[i] is not None:
                continue
            kind = _KINDS.get(layer.op, layer.op)
            fits = (
                p
                for p in left
                if _KINDS.get(p.op) == kind and (not exact or (p.macs and p.macs == layer.macs))
            )
            peer = next(fits, None)
            if peer is not None:
                found[i] = peer
                left.remove(peer)
    return found


# -- tables ---------------------------------------------------------------------------------------

_COLUMNS = (
    "model", "core", "optimize", "scale", "bits", "instructions", "per MAC", "cycles", "flash",
    "tables", "arena", "stack", "CMSIS-NN", "ratio", "record", "limit", "met",
)  # fmt: skip
_LAYER_COLUMNS = (
    "#", "op", "kernel", "MACs", "instructions", "per MAC", "cycles", "stack", "code", "CMSIS-NN",
    "instructions", "per MAC", "ratio",
)  # fmt: skip


def _print(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], left: int) -> None:
    """A table whose first *left* columns are words."""
    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=180).print(table)


def _result_row(setting: Setting, found: Profile, made: list[Check], peers: Peers) -> list[str]:
    theirs = peers.instructions(setting.core)
    limits = {check.what: check for check in made}

    def held(what: str, value: int) -> str:
        check = limits.get(what)
        return f"{value:,}" if check is None or check.met else f"{value:,} (> {check.limit:,})"

    instructions = limits.get("instructions")
    record = peers.records.get(setting.core)
    return [
        setting.model, setting.core, setting.optimize, setting.scale, setting.bits,
        f"{found.instructions:,}", _two(found.per_mac), _millions(found.cycles),
        held("flash", found.flash.firmware), f"{found.flash.tables:,}",
        held("arena", found.arena_bytes), held("stack", found.stack_bytes),
        "" if theirs is None else f"{theirs:,}",
        "" if theirs is None else f"{theirs / found.instructions:.2f}",
        "" if record is None else _millions(record),
        "" if instructions is None else f"{instructions.limit:,}",
        "yes" if all(check.met for check in made) else "NO",
    ]  # fmt: skip


def _layer_rows(setting: Setting, found: Profile, peers: Peers) -> Iterator[list[str]]:
    for layer, peer in zip(found.layers, matched(found.layers, peers.layers), strict=True):
        theirs = peer.instructions.get(setting.core) if peer else None
        yield [
            str(layer.index), layer.op, layer.kernel, f"{layer.macs:,}", f"{layer.instructions:,}",
            _two(layer.per_mac), "" if layer.cycles is None else f"{layer.cycles:,}",
            f"{layer.stack_bytes:,}", f"{layer.code_bytes:,}",
            f"{peer.op} {peer.output}" if peer else "",
            "" if theirs is None else f"{theirs:,}",
            _two(theirs / peer.macs) if peer and theirs and peer.macs else "",
            _two(theirs / layer.instructions) if theirs and layer.instructions else "",
        ]  # fmt: skip


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _millions(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:.2f} M"


def _show(results: Results, peers: dict[str, Peers], layers: bool) -> bool:
    """Print the tables; whether every limit is met."""
    if layers:
        for setting, found in results.items():
            _print(
                str(setting), _LAYER_COLUMNS, _layer_rows(setting, found, peers[setting.model]), 3
            )
    held = {s: checks(s, found, results, peers[s.model]) for s, found in results.items()}
    rows = [_result_row(s, found, held[s], peers[s.model]) for s, found in results.items()]
    _print("instructions of one run; bit-exact on the board", _COLUMNS, rows, 5)
    return all(check.met for made in held.values() for check in made)


def _as_json(results: Results, peers: dict[str, Peers]) -> list[dict[str, Any]]:
    return [
        {
            "model": s.model, "core": s.core, "optimize": s.optimize, "scale": s.scale,
            "bits": s.bits,
            "cmsisnn": peers[s.model].instructions(s.core),
            "record_cycles": peers[s.model].records.get(s.core),
            "checks": [
                {"what": c.what, "value": c.value, "limit": c.limit, "met": c.met}
                for c in checks(s, found, results, peers[s.model])
            ],
            "profile": found.as_dict(),
        }
        for s, found in results.items()
    ]  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    cores = [t.removeprefix("cortex-") for t in load_targets() if t.startswith("cortex-m")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--shared", type=Path, default=Path("../shared"), help="where models and data are")
    add("--models", nargs="+", default=list(MAIN), choices=MAIN)
    add("--cores", nargs="+", default=list(CORES), choices=[c for c in cores if c != "m"])
    add("--optimize", nargs="+", default=["balanced"], choices=OPTIMIZE)
    add("--scale", nargs="+", default=["single-shift"], choices=SCALE_MODES)
    add("--bits", nargs="+", default=[WIDE], help="as of qcc")
    add("--keep8", nargs="*", default=list(KEEP8), choices=KEEP8, help="nothing: all have --bits")
    add("--samples", type=int, default=1, help="evaluation samples to run; counts are the mean")
    add("--engine", default="auto", help="as for qcc profile")
    add("--layers", action="store_true", help="every layer beside CMSIS-NN's")
    add("--json", type=Path, help="write everything there too")
    add("--strict", action="store_true", help="exit 1 also where a limit is not met")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the options ask for; exit 1 if anything fails or is not bit-exact."""
    args = _parser().parse_args(argv)
    tasks = {t.name: t for t in TASKS}
    missing = [m for m in args.models if not _onnx(args.shared, tasks[m]).is_file()]
    if missing:
        print(
            f"no models in {args.shared / 'models' / 'mlperf_tiny'}: they are not part of qcc; "
            "--shared names the folder that holds models/mlperf_tiny and data",
            file=sys.stderr,
        )
        return 2
    peers, results, failed = load_peers(), Results(), False
    for setting in (
        Setting(model, core, optimize, scale, bits)
        for model in args.models
        for optimize in args.optimize
        for scale in sorted(args.scale, key=SCALE_MODES.index)
        for bits in sorted(args.bits, key=lambda b: b != WIDE)
        for core in args.cores
    ):
        try:
            results[setting] = measure(
                args.shared, tasks[setting.model], setting, args.samples, args.engine,
                tuple(args.keep8),
            )  # fmt: skip
        except QccError as error:
            failed = True
            print(f"{setting}: {error.message}", file=sys.stderr)
    met = _show(results, peers, args.layers)
    if args.json:
        args.json.write_text(json.dumps(_as_json(results, peers), indent=1) + "\n")
    return 1 if failed or (args.strict and not met) else 0


if __name__ == "__main__":
    sys.exit(main())
