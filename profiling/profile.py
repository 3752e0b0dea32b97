"""Profiling, start to end: choose, build, run, count, share out."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcc.codegen.target import load_boards, resolve
from qcc.errors import QccError, UsageError, short
from qcc.profiling import qemu, unicorn
from qcc.profiling.build import OPT, Built, Model, build_profile, build_size, check_samples
from qcc.profiling.counts import Step, regions, steps
from qcc.profiling.cycles import CycleModel, classify, model_of
from qcc.profiling.disassembly import disassemble
from qcc.profiling.elf import Elf, read_elf
from qcc.profiling.engine import Engine, Execution, choose, find_marks
from qcc.profiling.flash import FlashOfLayers, functions_run, measure_flash
from qcc.profiling.result import LayerProfile, Profile
from qcc.profiling.tools import core_of, need

_CALL = 1
"""The region of the model's function outside its layers; layer i is region 2 + i."""

_STACK = re.compile(r"^stack: (\d+) (\d+)$", re.M)
_FAULT = 99


@dataclass(frozen=True, slots=True)
class _Cost:
    """What one region took: instructions, cycles, instructions by kind; means over the samples."""

    instructions: int
    cycles: int | None
    classes: dict[str, int]


def profile(
    out: Path,
    manifest: Mapping[str, Any],
    *,
    target: str | None = None,
    board: str | None = None,
    engine: str = "auto",
    samples: int = 1,
) -> Profile:
    """Build the model in *out* for an emulated board, run it there, and count.

    Args:
        out: a folder that qcc wrote; it is only read.
        manifest: its manifest.
        target: build for this one; default: what it was compiled for.
        board: one of the target's; default: its first.
        engine: ``auto``, ``qemu`` or ``unicorn``.
        samples: runs, on samples of OUT/check; numbers are the mean.

    Raises:
        UsageError: an option that does not fit.
        QccError: a tool is missing, the model cannot be built, or it computes something else than
            the reference.
    """
    model = _model(out, manifest, target, board)
    chosen = choose(engine, model.target, model.board)
    need(model.target.cc, model.target.package)
    available = check_samples(out)
    if not 1 <= samples <= available:
        raise UsageError(f"--samples {samples}: {out} holds {available}; choose 1 to {available}")
    with tempfile.TemporaryDirectory(prefix="qcc-") as temporary:
        folder = Path(temporary)
        built = build_profile(model, folder, samples)
        elf = read_elf(built.elf)
        done = _execute(chosen, model, built, elf, folder)
        _check(done, model)
        code = disassemble(built.elf, model.target)
        counted = regions(done.blocks, code, model.regions)
        cycle_model = model_of(core_of(model.target))
        costs = [_cost(steps(r, code), cycle_model, model, samples) for r in counted]
        users = functions_run(model, built, counted[_CALL + 1 :])
        flash = measure_flash(model, build_size(model, folder), users)
    stacks = {int(region): int(used) for region, used in _STACK.findall(done.console)}
    total = sum(c.instructions for c in costs)
    return Profile(
        name=model.name,
        target=model.target.name,
        board=model.board.name,
        core=core_of(model.target),
        engine=chosen,
        compiler=f"{model.target.cc} {OPT}",
        samples=samples,
        cycle_model=cycle_model.source if cycle_model else None,
        macs=manifest["macs"],
        instructions=total,
        cycles=_sum(c.cycles for c in costs[_CALL:]),
        call_instructions=costs[_CALL].instructions,
        call_cycles=costs[_CALL].cycles,
        stack_bytes=stacks[0],
        arena_bytes=manifest["arena_bytes"],
        flash=flash.total,
        layers=tuple(_layers(manifest["layers"], costs, stacks, flash)),
        shared=flash.shared,
    )


def _model(
    out: Path, manifest: Mapping[str, Any], target_name: str | None, board_name: str | None
) -> Model:
    """What is to be built, and where it is to run."""
    target = resolve(target_name or str(manifest["target"]))
    if target.native:
        if target_name is None:
            raise UsageError(
                f"{out} is compiled for {target.name}, which no emulator counts: name a core, "
                "for example --target cortex-m4"
            )
        raise UsageError(f"--target {target.name}: it runs on this machine, not in an emulator")
    name = board_name or target.board
    if name not in target.boards:
        choices = ", ".join(target.boards)
        raise UsageError(
            f"--board {short(name)}: {target.name} does not run there; choose one of {choices}"
        )
    return Model(out, manifest, target, load_boards()[name])


def _execute(engine: Engine, model: Model, built: Built, elf: Elf, folder: Path) -> Execution:
    marks = find_marks(elf, model.regions)
    if engine == "unicorn":
        return unicorn.execute(elf, core_of(model.target), marks)
    return qemu.execute(built.elf, model.board, marks, folder)


def _check(done: Execution, model: Model) -> None:
    """Refuse to report counts of a program that computes something else.

    Raises:
        QccError: what the program said.
    """
    if done.status == 0 and _STACK.search(done.console):
        return
    lines = [line for line in done.console.splitlines() if not line.startswith("stack:")]
    said = short((lines or ["it says nothing"])[-1].removeprefix("wrong: "), 200)
    what = "fails" if done.status == _FAULT else "computes something else than the reference"
    raise QccError(f"{model.name} on {model.board.name} {what}: {said}")


def _cost(found: Sequence[Step], model: CycleModel | None, built: Model, samples: int) -> _Cost:
    total = sum(s.executed for s in found)
    classes: dict[str, int] = defaultdict(int)
    if core_of(built.target).startswith("cortex-m"):
        for s in found:
            classes[classify(s.instruction)] += s.executed
    return _Cost(
        instructions=round(total / samples),
        cycles=None if model is None else round(model.cycles(found) / samples),
        classes={
            kind: round(n / samples) for kind, n in sorted(classes.items(), key=lambda i: -i[1])
        },
    )


def _sum(values: Any) -> int | None:
    found = list(values)
    return None if None in found else sum(found)


def _layers(
    described: Sequence[Mapping[str, Any]],
    costs: Sequence[_Cost],
    stacks: Mapping[int, int],
    flash: FlashOfLayers,
) -> list[LayerProfile]:
    found = []
    for i, layer in enumerate(described):
        cost = costs[_CALL + 1 + i]
        found.append(
            LayerProfile(
                index=i,
                name=layer["name"],
                op=layer["op"],
                kernel=layer.get("kernel_family") or layer["kernel"],
                macs=layer["macs"],
                instructions=cost.instructions,
                cycles=cost.cycles,
                classes=cost.classes,
                stack_bytes=stacks[_CALL + 1 + i],
                code_bytes=flash.code[i],
                table_bytes=flash.tables[i],
            )
        )
    return found
