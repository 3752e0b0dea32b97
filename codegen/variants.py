"""Kernels that may compute a layer: what each takes, and why one cannot.

A *provider* is a module of ``codegen/kernels`` for one instruction set (a folder of
``runtime_c/isa``) and some operators. Asked about a layer, it yields ``Variant``s (ways to compute
it, bit-exact with the portable kernel) and ``Refusal``s (what stands in the way). The portable
kernel of ``Op.calls`` is always a variant. ``codegen/select.py`` chooses.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from qcc.codegen import kernels
from qcc.codegen.leads import portable_leads
from qcc.config import Optimize
from qcc.ir import Graph, Node
from qcc.ops import OPS
from qcc.ops.base import Call

PORTABLE = "portable"

ANY = "any"
"""``ISA`` of providers whose kernels run on every target: they are portable C."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a provider may trade: its fastest code, small code, or a balance.

    ``expand_weights``: constants may take more flash than the integers have bits for.
    """

    optimize: Optimize = "balanced"

    @property
    def expand_weights(self) -> bool:
        return self.optimize == "speed"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compute a layer.

    Attributes:
        kernel: name for people, ``<isa>/<what>``.
        why: one phrase, what made it applicable or preferable.
        calls: kernel calls, tables in the layout that the kernel reads.
        instructions: estimate for one inference.
        code_bytes: estimate for one instance of the kernels in *calls*; layers whose calls have
            the same ``Kernel`` share it.
        scratch: bytes of arena that the layer needs while it runs.
        leads: index of an activation input -> least distance, in bytes, by which that input must
            lie above the output for the kernel to be right although they overlap (0: in place).
            Inputs that are not named must not overlap the output.
    """

    kernel: str
    why: str
    calls: tuple[Call, ...]
    instructions: int
    code_bytes: int
    scratch: int = 0
    leads: Mapping[int, int] = field(default_factory=dict[int, int])


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a provider's kernel does not take a layer, one phrase."""

    kernel: str
    why: str


class Provider(Protocol):
    """A module of ``codegen/kernels``."""

    ISA: str
    OPERATORS: tuple[str, ...]

    @staticmethod
    def variants(graph: Graph, node: Node, goal: Goal) -> Iterator[Variant | Refusal]:
        """Ways to compute the integer *node*, and reasons against others."""
        ...


@cache
def providers() -> tuple[Provider, ...]:
    """Every provider, by module name."""
    names = sorted(m.name for m in pkgutil.iter_modules(kernels.__path__))
    modules = [importlib.import_module(f"{kernels.__name__}.{name}") for name in names]
    return tuple(m for m in modules if hasattr(m, "ISA"))  # type: ignore[misc]


def offers(
    graph: Graph, node: Node, isa: Sequence[str], goal: Goal
) -> tuple[list[Variant], list[Refusal]]:
    """All variants of *node*, the portable one last, and all refusals."""
    found: list[Variant] = []
    refused: list[Refusal] = []
    for name in (*isa, ANY):
        for provider in providers():
            if name != provider.ISA or node.op not in provider.OPERATORS:
                continue
            for offer in provider.variants(graph, node, goal):
                if isinstance(offer, Variant):
                    found.append(offer)
                else:
                    refused.append(offer)
    return [*found, portable(graph, node)], refused


_PER_MAC = 7
_PER_PACKED_MAC = {1: 16, 2: 14, 4: 14}
"""Where the weight has to be cut out of a byte first, ..."""

_PER_CROSSING_MAC = 20
"""... or out of two (3, 5, 6 and 7 bits)."""

_PER_WINDOW = 40
_PER_WIDE_PRODUCT = 60
_PER_ELEMENT = 14
_PORTABLE_CODE = 700


def portable(graph: Graph, node: Node) -> Variant:
    """The kernel that every target has; its cost is a rough figure that any other one beats."""
    op = OPS[node.op]
    size = max(math.prod(graph.shape(t)) for t in (node.output, *graph.activations(node)))
    macs = op.macs(graph, node)
    rest = _PER_WINDOW * math.prod(graph.shape(node.output)) if macs else _PER_ELEMENT * size
    calls = op.calls(graph, node)
    if any(("QCC_RESCALE", "qcc_rescale_mult64") in call.kernel.macros for call in calls):
        rest += _PER_WIDE_PRODUCT * math.prod(graph.shape(node.output))
    return Variant(
        kernel=PORTABLE,
        why="",
        calls=calls,
        instructions=_per_mac(graph, node) * macs + rest,
        code_bytes=_PORTABLE_CODE,
        leads=portable_leads(graph, node),
    )


def _per_mac(graph: Graph, node: Node) -> int:
    """Instructions of one multiply-accumulate of the portable kernel."""
    for t in node.inputs[1:2]:
        if graph.is_constant(t) and (bits := graph.quant(t).qtype.bits) < 8:
            return _PER_PACKED_MAC.get(bits, _PER_CROSSING_MAC)
    return _PER_MAC
