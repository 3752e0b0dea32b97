"""Which kernel computes each layer.

Every layer has variants with estimated instructions, code and tables. Code of one kernel instance
is paid once, however many layers call it, so layers are chosen in turns, alone and together, until
nothing gets better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qcc.codegen.tables import distinct_bytes, table_bytes
from qcc.codegen.variants import PORTABLE, Goal, Refusal, Variant, offers
from qcc.config import OPTIMIZE, Optimize
from qcc.errors import QccError
from qcc.ir import Graph, Node
from qcc.ops import OPS

_PRICE: Mapping[Optimize, float] = {"size": 300.0, "balanced": 10.0, "speed": 0.0}
"""Instructions of one inference that a byte of flash is worth."""

_SMALLEST = 1e12
"""The price at which only flash counts."""

_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """The kernels of a program.

    Attributes:
        variants: node name -> what computes it.
        instructions: of one inference, estimated.
        flash_bytes: tables, and kernel code as estimated.
    """

    variants: Mapping[str, Variant]
    instructions: int
    flash_bytes: int


class Selector:
    """The kernels that the layers of one integer graph may have, and choices among them.

    Args:
        graph: the integer graph.
        isa: kernel families of the target.
    """

    def __init__(self, graph: Graph, isa: Sequence[str]) -> None:
        self._graph, self._isa = graph, isa
        self._options: dict[bool, dict[str, list[Variant]]] = {}

    def choose(self, optimize: Optimize, flash_budget: int | None = None) -> Choice:
        """A variant for every node that has code.

        Args:
            optimize: what to prefer.
            flash_budget: bytes that tables and kernels may take together.

        Raises:
            QccError: when even the smallest choice exceeds *flash_budget*.
        """
        chosen = self._settle(Goal(optimize), _PRICE[optimize])
        if flash_budget is None or chosen.flash_bytes <= flash_budget:
            return chosen
        smallest = self._settle(Goal("size"), _SMALLEST)
        if smallest.flash_bytes > flash_budget:
            raise QccError(
                f"--flash-budget {flash_budget}: the smallest program takes about "
                f"{smallest.flash_bytes} bytes of tables and kernels; "
                "use fewer bits (--bits) or a smaller model"
            )
        candidates = [_upgrade(smallest, chosen, flash_budget)]
        if Goal(optimize).expand_weights:
            balanced = self._settle(Goal("balanced"), _PRICE["balanced"])
            if balanced.flash_bytes <= flash_budget:
                candidates.append(_upgrade(balanced, chosen, flash_budget))
        return min(candidates, key=lambda c: c.instructions)

    def trade(self) -> dict[Optimize, Choice]:
        """What every profile would take."""
        return {optimize: self.choose(optimize) for optimize in OPTIMIZE}

    def _settle(self, goal: Goal, price: float) -> Choice:
        """Each layer the cheapest, given what the others have chosen."""
        options = self._variants(goal)
        chosen = {
            name: min(variants, key=lambda v: _cost(v, v.code_bytes, price))
            for name, variants in options.items()
        }
        for _ in range(_ROUNDS):
            before = _total(chosen, price)
            _improve_each(chosen, options, price)
            _improve_together(chosen, options, price)
            if _total(chosen, price) >= before:
                break
        return _choice(chosen)

    def _variants(self, goal: Goal) -> dict[str, list[Variant]]:
        """Every node's variants, found once for each answer to what providers may trade."""
        key = goal.expand_weights
        if key not in self._options:
            self._options[key] = {
                n.name: _options(self._graph, n, self._isa, goal)
                for n in self._graph.nodes()
                if not OPS[n.op].alias
            }
        return self._options[key]


def _improve_each(
    chosen: dict[str, Variant], options: Mapping[str, Sequence[Variant]], price: float
) -> None:
    """Every layer alone: code that another layer has already is free."""
    for name, candidates in options.items():
        others = {_key(v) for other, v in chosen.items() if other != name}
        chosen[name] = min(
            candidates,
            key=lambda v: _cost(v, 0 if _key(v) in others else v.code_bytes, price),
        )


def _improve_together(
    chosen: dict[str, Variant], options: Mapping[str, Sequence[Variant]], price: float
) -> None:
    """One kernel for all layers that gain by it, where that pays for its code."""
    keys = dict.fromkeys(_key(v) for candidates in options.values() for v in candidates)
    best = _total(chosen, price)
    for key in keys:
        trial = dict(chosen)
        for name, candidates in options.items():
            for v in candidates:
                if _key(v) == key and _cost(v, 0, price) < _cost(trial[name], 0, price):
                    trial[name] = v
        total = _total(trial, price)
        if total < best:
            chosen.update(trial)
            best = total


def _total(chosen: Mapping[str, Variant], price: float) -> tuple[float, int]:
    """The whole program's cost."""
    done = _choice(chosen)
    return done.instructions + price * done.flash_bytes, done.flash_bytes


def select(
    graph: Graph, isa: Sequence[str], optimize: Optimize, flash_budget: int | None = None
) -> Choice:
    """``Selector(graph, isa).choose(optimize, flash_budget)``."""
    return Selector(graph, isa).choose(optimize, flash_budget)


def _options(graph: Graph, node: Node, isa: Sequence[str], goal: Goal) -> list[Variant]:
    """The variants of *node*; the portable one says why there is no other."""
    found, refused = offers(graph, node, isa, goal)
    *others, last = found
    return [*others, replace(last, why=_reason(isa, others, refused))]


def _reason(isa: Sequence[str], others: Sequence[Variant], refused: Sequence[Refusal]) -> str:
    if others:
        return "the layer is too small to pay for more code"
    if refused:
        return "; ".join(dict.fromkeys(f"{r.kernel}: {r.why}" for r in refused))
    return "no other kernel for this operator" if isa else "the target has no kernels of its own"


def _key(variant: Variant) -> tuple[str, ...]:
    return tuple(call.kernel.function for call in variant.calls)


def _cost(variant: Variant, code: int, price: float) -> tuple[float, int]:
    flash = code + table_bytes(variant.calls)
    return variant.instructions + price * flash, flash


def _choice(chosen: Mapping[str, Variant]) -> Choice:
    code = {_key(v): v.code_bytes for v in chosen.values()}
    tables = distinct_bytes([v.calls for v in chosen.values()])
    return Choice(
        dict(chosen),
        sum(v.instructions for v in chosen.values()),
        tables + sum(code.values()),
    )


def _upgrade(small: Choice, wanted: Choice, budget: int) -> Choice:
    """From *small* towards *wanted*, the layers that gain most per byte first, within *budget*."""
    now = dict(small.variants)

    def gain(name: str) -> float:
        old, new = small.variants[name], wanted.variants[name]
        saved = old.instructions - new.instructions
        grown = table_bytes(new.calls) + new.code_bytes - table_bytes(old.calls)
        return saved / max(1, grown)

    for name in sorted(now, key=lambda n: (-gain(n), n)):
        trial = {**now, name: wanted.variants[name]}
        if _choice(trial).flash_bytes <= budget:
            now = trial
    return _choice(now)


__all__ = ["PORTABLE", "Choice", "Selector", "select"]
