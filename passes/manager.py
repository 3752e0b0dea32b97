"""Run passes in order, verifying the graph between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from qcc.config import Config
from qcc.errors import PassError, UsageError
from qcc.ir import Graph, IRError


class PassFn(Protocol):
    """A rewrite in place, idempotent; returns how many changes it made."""

    __name__: str

    def __call__(self, graph: Graph, config: Config, /) -> int: ...


Observer = Callable[[str, Graph, int], None]


@dataclass(frozen=True, slots=True)
class Pass:
    """A named step of the pipeline."""

    name: str
    run: Callable[[Graph, Config], int]


def named(function: PassFn) -> Pass:
    """The pass of a function, called as the function is, with dashes."""
    return Pass(function.__name__.replace("_", "-"), function)


class Stopped(Exception):
    """``--stop-after`` was reached; not an error."""


def run_passes(
    graph: Graph,
    passes: Sequence[Pass],
    config: Config,
    observe: Observer | None = None,
) -> None:
    """Apply *passes* to *graph* in place; *observe* sees the graph after each.

    Raises:
        PassError: a pass broke an invariant (a defect of qcc).
        Stopped: after the pass that ``config.stop_after`` names.
    """
    done: list[str] = []
    for p in passes:
        try:
            changes = p.run(graph, config)
            graph.verify()
        except (IRError, ValueError, KeyError) as e:
            before = ", ".join(done[-3:]) or "none"
            raise PassError(f"internal error in pass {p.name} (after {before}): {e}") from e
        done.append(p.name)
        if observe:
            observe(p.name, graph, changes)
        if p.name == config.stop_after:
            raise Stopped


def check_stop_after(names: Sequence[str], config: Config) -> None:
    """Refuse an unknown ``--stop-after``.

    Raises:
        UsageError: listing the passes.
    """
    if config.stop_after is not None and config.stop_after not in names:
        raise UsageError(f"--stop-after {config.stop_after}: the passes are {', '.join(names)}")
