"""Tables of shapes for optimised kernels: many layers in one program, checked where they run.

Every case is a small ONNX model. All cases of a table become one model with as many inputs and
outputs, compiled for a target; its check program compares every layer with the reference, on this
machine under the sanitizers (kernels fall back to portable C there) and on the core under QEMU.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import compose, helper

from qcc.codegen import select
from qcc.codegen.program import Layer
from qcc.codegen.target import resolve
from qcc.codegen.variants import Goal, Refusal, Variant, offers
from qcc.driver import Compilation
from qcc.ir import Graph, Node
from tests.build import SANITIZE, check_on_host, compiled
from tests.emulators import last_line, need_board, run_on_board


def merged(models: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """One model of independent parts; names of part i begin with ``c<i>_``."""
    parts = [compose.add_prefix(m, f"c{i}_") for i, m in enumerate(models)]
    graph = helper.make_graph(
        [n for m in parts for n in m.graph.node],
        "table",
        [v for m in parts for v in m.graph.input],
        [v for m in parts for v in m.graph.output],
        [t for m in parts for t in m.graph.initializer],
    )
    return helper.make_model(graph, opset_imports=models[0].opset_import, ir_version=8)


def compile_table(models: Sequence[onnx.ModelProto], target: str, **options: Any) -> Compilation:
    """The merged model, compiled for *target*."""
    return compiled(merged(models), target=target, name="table", vectors=3, **options)


def layers_of(done: Compilation, case: int) -> list[Layer]:
    """The layers that came from model *case* of the table."""
    return [x for x in done.program.layers if x.output_tensor.startswith(f"c{case}_")]


def prefer(monkeypatch: pytest.MonkeyPatch, *kernels: str) -> None:
    """Layers are computed by the first of *kernels* that can, whatever it costs."""

    def filtered(
        graph: Graph, node: Node, isa: Sequence[str], goal: Goal
    ) -> tuple[list[Variant], list[Refusal]]:
        found, refused = offers(graph, node, isa, goal)
        able = [[v for v in found if v.kernel == kernel] for kernel in kernels]
        wanted = next(filter(None, able), [])
        return (wanted + wanted[:1] if wanted else found), refused  # the last is for the portable

    monkeypatch.setattr(select, "offers", filtered)


def check_table(done: Compilation, folder: Path, cc: str = "gcc") -> None:
    """Every layer is bit-exact on this machine, sanitized, and on the target's board.

    Raises:
        AssertionError: naming the first layer that differs.
    """
    flags = ["-O1", *SANITIZE] if cc == "gcc" else ["-O2"]
    check_on_host(done, folder / "host", cc, flags)
    check_on_board(done, folder / "host")


def check_on_board(done: Compilation, out: Path, *arguments: str) -> None:
    """The project in *out* is bit-exact, layer by layer, on the target's default board."""
    target = resolve(done.config.target)
    need_board(target.name, target.board)
    run = run_on_board(out, target.board, "LAYERS=1", *arguments)
    assert run.returncode == 0, f"{last_line(run)}\n{run.stderr[:2000]}"
