"""Cycle models of Cortex-M cores, and what kind of instruction each is.

A model gives cycles for memory without wait states and nobody else on the bus; it is arithmetic on
exact counts, not a measurement. docs/profile.md has the tables and what they leave out. Sources,
all by Arm:

- cortex-m0: DDI 0432C, Cortex-M0 TRM, table 3-1, with the single-cycle multiplier; cortex-m0plus:
  DDI 0484C, table 3-1, whose taken branches are a cycle shorter.
- cortex-m3: DDI 0337H, table 3-1; of a range, its middle.
- cortex-m4: DDI 0439B, table 3-1, and section 3.3.2 for loads that follow loads.
- cortex-m55: no table is published. Scalar code as on the M4; a vector instruction holds its unit
  (load and store, multiply, the rest) for two beats, of which one overlaps with an instruction
  before it on another unit, as the dual-beat pipeline of 101051 (TRM) has it.

For cortex-m7 (two instructions a cycle, caches) and cortex-m33 (no table published) there is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qcc.profiling.counts import Step
from qcc.profiling.disassembly import Instruction

_CONDITION = "eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al"
_CLASSES: tuple[tuple[str, str], ...] = (
    ("branch", rf"b(?:{_CONDITION})?|cbn?z|tb[bh]|le|letp|wls|wlstp(?:\.\d+)?"),
    ("loop", r"dls|dlstp(?:\.\d+)?|lctp"),
    ("call", rf"blx?(?:{_CONDITION})?"),
    ("return", rf"bx(?:{_CONDITION})?"),
    ("multiple", r"(?:push|pop|ldm|stm).*"),
    ("double", r"(?:ldrd|strd).*"),
    ("load", r"ldr.*"),
    ("store", r"str.*"),
    ("if-then", r"it[te]{0,3}"),
    ("vector load", r"(?:vld|vpop).*"),
    ("vector store", r"(?:vst|vpush).*"),
    ("vector multiply", r"v(?:r?ml|fma|q?r?dmu?l|qrdmul|qdmul|r?mul|nmul).*"),
    ("vector", r"v.*"),
    ("multiply-add", r"(?:smla|smuad|smusd|smlsd|mla|mls|umla|smmla|umaal).*"),
    ("multiply", r"(?:mul|smul|umul|smmul).*"),
    ("divide", r"[su]div.*"),
    ("saturate", r"(?:[su]sat|qadd|qsub|qd).*"),
    ("pack", r"(?:[su]xt|pkh|[su]add|[su]sub|sel).*"),
    ("system", r"nop|dsb|isb|dmb|bkpt|msr|mrs|cps.*|vmsr|vmrs"),
)
_PATTERNS = tuple((name, re.compile(pattern)) for name, pattern in _CLASSES)
_WIDTH = re.compile(r"\.[nw]$")

_REFILL = 2
"""Cycles to refill the pipeline after a taken branch: 1 to 3 in the manuals of M3 and M4."""

_DIVIDE = 6
"""2 to 12 in the manuals."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Cycles of one execution, and those that a taken branch adds."""

    cycles: int
    taken: int = 0


@dataclass(frozen=True, slots=True)
class CycleModel:
    """A core's cycles.

    Attributes:
        core: its name.
        source: where the numbers come from, for people.
        cost: of an instruction, given the one executed right before it where that is known.
    """

    core: str
    source: str
    cost: Callable[[Instruction, Instruction | None], Cost]

    def cycles(self, steps: Iterable[Step]) -> int:
        """The cycles of everything in *steps*."""
        total = 0
        for s in steps:
            alone = self.cost(s.instruction, None)
            total += s.after_jump * alone.cycles + s.taken * alone.taken
            if s.after_previous:
                total += s.after_previous * self.cost(s.instruction, s.previous).cycles
        return total


def classify(i: Instruction) -> str:
    """What kind of Arm instruction *i* is: load, multiply-add, branch, ...; else ``other``."""
    name = _WIDTH.sub("", i.mnemonic)
    for kind, pattern in _PATTERNS:
        if pattern.fullmatch(name):
            if kind == "multiple" and re.search(r"\bpc\b", i.operands):
                return "return"
            return kind
    return "other"


def registers(operands: str) -> int:
    """How many registers a list holds: ``{r4-r7, lr}`` 5."""
    found = re.search(r"\{(.*?)\}", operands)
    if found is None:
        return 1
    total = 0
    for part in found[1].split(","):
        first, _, last = part.strip().partition("-")
        total += _register(last) - _register(first) + 1 if last else 1
    return total


_NAMED = {"sl": 10, "fp": 11, "ip": 12, "sp": 13, "lr": 14, "pc": 15}


def _register(name: str) -> int:
    return _NAMED[name] if name in _NAMED else int(name.lstrip("rsdq"))


@dataclass(frozen=True, slots=True)
class _Address:
    """The operand ``[base, offset]!`` of a load or store."""

    base: str
    by_register: bool
    writeback: bool


def _address(operands: str) -> _Address:
    found = re.search(r"\[([^\]]*)\](!?)(.*)", operands)
    if found is None:
        return _Address("", False, False)
    parts = [part.strip() for part in found[1].split(",")]
    writeback = found[2] == "!" or found[3].strip().startswith(",")
    return _Address(parts[0], len(parts) > 1 and not parts[1].startswith("#"), writeback)


def _first(operands: str) -> str:
    return operands.split(",")[0].strip()


def _base_name(i: Instruction) -> str:
    return _WIDTH.sub("", i.mnemonic)


# -- ARMv6-M --------------------------------------------------------------------------------------


def _m0_cost(branch: int) -> Callable[[Instruction, Instruction | None], Cost]:
    """*branch*: cycles of a taken one."""

    def cost(i: Instruction, previous: Instruction | None) -> Cost:
        kind, name = classify(i), _base_name(i)
        if kind in ("load", "store"):
            return Cost(2)
        if kind == "multiple":
            return Cost(1 + registers(i.operands))
        if kind == "return":
            return Cost(branch if name.startswith("bx") else branch + registers(i.operands))
        if kind == "call":
            return Cost(branch if name.startswith("blx") else branch + 1)
        if kind == "branch":
            return Cost(branch) if name == "b" else Cost(1, branch - 1)
        return Cost(1)

    return cost


# -- ARMv7-M and later ----------------------------------------------------------------------------


def _leads(i: Instruction | None) -> str | None:
    """The register that *i* loads, if a load or store behind it can overlap with it."""
    if i is None or classify(i) != "load" or _address(i.operands).writeback:
        return None
    target = _first(i.operands)
    return None if target == "pc" else target


def _load(i: Instruction, previous: Instruction | None) -> Cost:
    address = _address(i.operands)
    if _first(i.operands) == "pc":
        return Cost(2 + _REFILL)
    if address.writeback:
        return Cost(2)
    before = _leads(previous)
    return Cost(1 if before is not None and before != address.base else 2)


def _branch(i: Instruction) -> Cost:
    name = _base_name(i)
    if name in ("tbb", "tbh"):
        return Cost(2 + _REFILL)
    if name == "b":
        return Cost(1 + _REFILL)
    if name in ("le", "letp"):  # from the loop buffer: going round costs nothing more
        return Cost(1)
    return Cost(1, _REFILL)


def _scalar(i: Instruction, previous: Instruction | None) -> Cost:
    """Everything but multiplications and vectors, as on the M3 and M4."""
    kind = classify(i)
    if kind == "load":
        return _load(i, previous)
    if kind == "store":
        return Cost(2 if _address(i.operands).by_register and _leads(previous) is None else 1)
    if kind == "double":
        return Cost(3)
    if kind == "multiple":
        return Cost(1 + registers(i.operands))
    if kind == "return":
        alone = _base_name(i).startswith("bx")
        return Cost(1 + _REFILL if alone else 1 + registers(i.operands) + _REFILL)
    if kind == "call":
        return Cost(1 + _REFILL)
    if kind == "branch":
        return _branch(i)
    return Cost(_DIVIDE if kind == "divide" else 1)


def _m3(i: Instruction, previous: Instruction | None) -> Cost:
    kind, name = classify(i), _base_name(i)
    if kind == "multiply-add":  # MLA 2, SMLAL 4 to 7
        return Cost(5 if re.match(r"[su]mlal", name) else 2)
    if kind == "multiply":  # MUL 1, SMULL 3 to 5
        return Cost(4 if re.match(r"[su]mull", name) else 1)
    return _scalar(i, previous)


def _m4(i: Instruction, previous: Instruction | None) -> Cost:
    kind, name = classify(i), _base_name(i)
    if kind in ("vector load", "vector store"):
        return Cost(1 + registers(i.operands) if "{" in i.operands else 2)
    if kind == "vector multiply":
        return Cost(3 if re.match(r"vn?ml|vfma", name) else 1)
    if kind == "vector":
        return Cost(14 if re.match(r"vdiv|vsqrt", name) else 1)
    return _scalar(i, previous)


_UNITS = {
    "vector load": "memory", "vector store": "memory", "vector multiply": "multiply",
    "vector": "other",
}  # fmt: skip


def _beats(i: Instruction | None) -> tuple[str, int] | None:
    """The unit of a vector instruction and how long it holds it; None for scalar ones."""
    if i is None:
        return None
    kind = classify(i)
    if kind not in _UNITS:
        return None
    scalar = kind == "vector" and re.search(r"\bq\d", i.operands) is None
    return _UNITS[kind], 1 if scalar else 2


def _m55(i: Instruction, previous: Instruction | None) -> Cost:
    mine, before = _beats(i), _beats(previous)
    if mine is None:
        return _scalar(i, previous)
    overlaps = mine[1] == 2 and before is not None and before[0] != mine[0]
    return Cost(1 if overlaps else mine[1])


_MODELS = {
    m.core: m
    for m in (
        CycleModel("cortex-m0", "Arm DDI 0432C, table 3-1", _m0_cost(3)),
        CycleModel("cortex-m0plus", "Arm DDI 0484C, table 3-1", _m0_cost(2)),
        CycleModel("cortex-m3", "Arm DDI 0337H, table 3-1", _m3),
        CycleModel("cortex-m4", "Arm DDI 0439B, table 3-1", _m4),
        CycleModel("cortex-m55", "scalar as cortex-m4, dual-beat vectors", _m55),
    )
}


def model_of(core: str) -> CycleModel | None:
    """The cycle model of *core*; None where there is none, which leaves instructions."""
    return _MODELS.get(core)
