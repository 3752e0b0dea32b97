"""ARMv6-M has no unaligned accesses, but the board that tests run on has: count them instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qcc.codegen.write import write_files
from qcc.driver import Compilation, output_files
from qcc.profiling import unicorn as engine
from qcc.profiling.elf import Elf
from qcc.profiling.profile import profile
from tests.codegen.kernels.armv6m_cases import CORES, conv, dense, depthwise
from tests.codegen.kernels.table import compile_table, prefer
from tests.codegen.kernels.test_armv6m_pool import mean, pool
from tests.emulators import need_board

unicorn = pytest.importorskip("unicorn")
arm_const = pytest.importorskip("unicorn.arm_const")

KERNELS = (
    "armv6m/conv-joined", "armv6m/dense", "armv6m/depthwise", "armv6m/mean", "armv6m/max_pool",
    "armv6m/avg_pool",
)  # fmt: skip


class Watch:
    """How wide and how aligned the accesses to memory of an emulator are."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.words = 0
        self.unaligned: list[tuple[int, int]] = []
        kinds = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
        machine.hook_add(kinds, self._access)

    def _access(self, uc: Any, kind: int, address: int, size: int, value: int, data: Any) -> None:
        self.words += size == 4
        if address % size:
            self.unaligned.append((address, size))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Watch]:
    """The emulators of a profile."""
    made: list[Watch] = []
    load = engine._load

    def load_and_watch(machine: Any, elf: Elf) -> None:
        load(machine, elf)
        made.append(Watch(machine))

    monkeypatch.setattr(engine, "_load", load_and_watch)
    return made


def run(done: Compilation, folder: Path) -> None:
    """Three samples of odd sizes, so that inputs lie at addresses of all kinds."""
    need_board(CORES[0], "mps2-an385")
    write_files(output_files(done), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    profile(folder, manifest, engine="unicorn", samples=3)


@pytest.mark.parametrize("scale", ["single-shift", "fixed-point"])
def test_every_access_is_aligned(
    scale: str, watched: list[Watch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, *KERNELS)
    same = {"pads": [1, 1, 1, 1]}
    cases = [
        conv((3, 5, 5), (5, 3, 3, 3), same, "relu", 0),
        conv((7, 3, 3), (6, 7, 1, 1), {}, "", 1),
        depthwise((5, 5, 7), (3, 3), 1, same, "relu", 2),
        depthwise((3, 7, 5), (5, 5), 2, {"strides": [2, 2]}, "", 3),
        dense(33, 7, "relu", 4),
        dense(131, 3, "", 5),
        pool("MaxPool", (3, 5, 5), {"kernel_shape": [3, 3]}, True),
        pool("AveragePool", (3, 5, 5), {"kernel_shape": [3, 3]}, False),
        mean((1, 5, 3, 3), [1, 2]),
    ]
    done = compile_table(cases, CORES[0], scale=scale)
    assert set(KERNELS) <= {layer.kernel for layer in done.program.layers}
    run(done, tmp_path)
    assert sum(w.words for w in watched) > 10_000
    assert [w.unaligned for w in watched] == [[]] * len(watched)


def test_an_unaligned_access_is_seen() -> None:
    uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    watch = Watch(uc)
    uc.mem_map(0, 0x1000)
    uc.mem_write(0, b"\x08\x68\x00\xbf")  # ldr r0, [r1]; nop
    for address in (0x100, 0x102):
        uc.reg_write(arm_const.UC_ARM_REG_R1, address)
        uc.emu_start(1, 4)
    assert watch.unaligned == [(0x102, 4)]
