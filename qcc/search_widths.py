"""``qcc search``: how many bits every layer's weights need, within flash, RAM and instructions.

1. Sensitivity. Every layer alone gets every width, all others keep theirs: the noise that this adds
   to the outputs, the bytes of tables and the instructions that it saves. These trials round to the
   nearest integer, which is quick; they only have to compare layers.
2. Choice. Noise of independent errors adds up, and so do bytes and instructions. So the best widths
   for a given number of bytes are an integer program with one choice per layer, which HiGHS solves
   to optimality; one program for each of several budgets between the smallest and the largest.
3. Proof. Each solution is compiled and run, as ``qcc`` would with the written configuration: what
   is reported is what that gave. Points that another one beats in both respects are dropped.

Source of 2: Yao et al. 2021, HAWQ-v3 (arXiv 2011.10680), section 3.4, which takes a bound from
second derivatives where this takes the measured noise.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from qcc.codegen.select import Selector
from qcc.codegen.target import resolve
from qcc.config import Config, LayerBits
from qcc.debug_model import Lab, Task, label_of, outcome_of, rule_name, taken_samples, twins
from qcc.driver import Compilation, Progress, calibrate, compile_proto, quantized
from qcc.effects import Effect, effect_of, json_number
from qcc.errors import QccError, UsageError
from qcc.ir import Array, Graph
from qcc.parallel import run_tasks
from qcc.passes.choose_widths import node_names
from qcc.passes.fold_batchnorm import LINEAR
from qcc.reference import run_float

if TYPE_CHECKING:
    import onnx

WIDTHS = (2, 4, 8)
"""Widths that are tried unless others are given: those with kernels that unpack cheaply."""

POINTS = 10
"""Budgets between the smallest and the largest program that are tried."""

_SECONDS = 60.0
"""At most for one integer program; with tens of layers it takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a point may take; None: no limit.

    Attributes:
        flash: bytes of tables and kernels.
        ram: bytes of arena.
        instructions: of one inference, estimated.
        loss: points of accuracy below the float model that may be lost; without labels decibels of
            signal to noise below the best point.
        floor: accuracy in percent, or decibels, that must be kept.
    """

    flash: int | None = None
    ram: int | None = None
    instructions: int | None = None
    loss: float | None = None
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What one layer at one width does: noise at the outputs, and what it takes.

    Attributes:
        place: node of the graph; ``label`` is for people.
        noise: relative to the signal, beyond that of the network with the largest widths.
        bytes, instructions: more than that network takes; mostly negative.
    """

    place: str
    label: str
    bits: int
    noise: float
    bytes: int
    instructions: int


@dataclass(frozen=True, slots=True)
class Point:
    """One choice of widths, compiled and run.

    Attributes:
        config: what compiles it.
        widths: layer's name -> bits, in order of execution.
        flash: bytes of tables and kernels; ``tables`` of these in tables.
        ram: bytes of arena.
        instructions: of one inference, estimated.
        fits: it keeps all limits.
    """

    config: Config
    widths: Mapping[str, int]
    effect: Effect
    flash: int
    tables: int
    ram: int
    instructions: int
    fits: bool

    @property
    def quality(self) -> float:
        """Percent of accuracy, or decibels where there are no labels."""
        if self.effect.accuracy is not None:
            return 100 * self.effect.accuracy
        return min(self.effect.sqnr_db, 200.0)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "widths": dict(self.widths),
            "flash_bytes": self.flash,
            "table_bytes": self.tables,
            "arena_bytes": self.ram,
            "instructions": self.instructions,
            "fits": self.fits,
            **self.effect.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Search:
    """What ``qcc search`` found.

    Attributes:
        real: the float network.
        points: none better than another in both flash and quality; the smallest first.
        chosen: index of the best that keeps all limits where flash is one of them, else of the
            smallest; None if none does.
        dropped: points that others beat, for the picture.
        refused: what the compiler said of choices that it refused.
    """

    model: str
    target: str
    samples: int
    labelled: bool
    limits: Limits
    real: Effect
    sensitivity: tuple[Sensitivity, ...]
    points: tuple[Point, ...]
    chosen: int | None
    dropped: tuple[Point, ...]
    refused: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        limits = self.limits
        return {
            "model": self.model,
            "target": self.target,
            "samples": self.samples,
            "float_accuracy": json_number(self.real.accuracy),
            "limits": {
                "flash_bytes": limits.flash,
                "arena_bytes": limits.ram,
                "instructions": limits.instructions,
                "loss": limits.loss,
                "floor": limits.floor,
            },
            "points": [p.as_dict() for p in self.points],
            "chosen": self.chosen,
            "sensitivity": [
                {
                    "layer": s.label,
                    "bits": s.bits,
                    "noise": s.noise,
                    "bytes": s.bytes,
                    "instructions": s.instructions,
                }
                for s in self.sensitivity
            ],
            "refused": list(self.refused),
        }


def search(
    proto: onnx.ModelProto,
    config: Config,
    limits: Limits,
    data: tuple[Mapping[str, Array], Array | None] | None = None,
    *,
    widths: Sequence[int] = WIDTHS,
    title: str = "model",
    limit: int = 256,
    points: int = POINTS,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Search:
    """Find the widths of all weights in *proto*.

    Args:
        proto: a checked model.
        config: everything but the widths of weights; its ``layers`` are rules that stand.
        limits: what a point may take.
        data: samples, ONNX input name -> (N, *ONNX shape) float32, and labels (N,) or None; None:
            the calibration samples.
        widths: that a layer may have; the largest is where the search starts.
        title: how the model is called.
        limit: samples to measure on at most.
        points: budgets to try.
        jobs: processes.
        progress: called with (stage, done, total).

    Raises:
        QccError: bad model, data or option.
    """
    if data is None:
        if config.calibration is None:
            raise QccError("qcc search needs samples: give --calib, and --eval for labels")
        data = config.calibration, None
    widths = sorted(set(widths))
    ram = config.ram_budget if limits.ram is None else limits.ram
    base = replace(config, weight_bits=widths[-1], ram_budget=ram, flash_budget=None)
    quick = replace(base, rounding="nearest", weight_clip="mse", equalize="off")
    seen = calibrate(proto, base, progress)
    twin, graph = twins(seen, quick)
    inputs, labels = taken_samples(graph, *data, limit)
    floats = run_float(twin, inputs, keep=graph.outputs)
    lab = Lab(seen, Task(inputs, floats, labels))
    layers = _free_layers(graph, config)
    options = _sensitivities(lab, quick, graph, layers, widths, jobs, progress)
    found = _points(proto, base, limits, lab.task, graph, options, points, jobs, progress)
    real = effect_of(graph, floats, floats, labels)
    made = [p for p in found if isinstance(p, Point)]
    if not made:
        raise QccError(f"no choice of widths compiles: {next(iter(map(str, found)), 'none')}")
    best = max(p.quality for p in made)
    made = [_judged(p, limits, real, best) for p in made]
    front = _front(made)
    return Search(
        model=title,
        target=config.target,
        samples=real.samples,
        labelled=labels is not None,
        limits=limits,
        real=real,
        sensitivity=tuple(options),
        points=tuple(front),
        chosen=_chosen(front, limits),
        dropped=tuple(p for p in made if p not in front),
        refused=tuple(dict.fromkeys(p for p in found if isinstance(p, str))),
    )


def _free_layers(graph: Graph, config: Config) -> list[str]:
    """The layers with weights that no rule of the user's decides."""
    rules = [r.match for r in config.layers if r.weight_bits is not None]
    free = []
    for node in graph.nodes():
        names = tuple(node_names(graph, node))
        fixed = any(fnmatchcase(name, rule) for name in names for rule in rules)
        if node.op in LINEAR and not fixed:
            free.append(node.name)
    if not free:
        raise UsageError("no layer is left to choose a width for: all of them have one by --layer")
    return free


# -- sensitivity ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Measured:
    effect: Effect
    tables: int
    instructions: int


def _measure(lab: Lab, config: Config) -> _Measured:
    """Quantize, run, and estimate."""
    graph = quantized(lab.seen, config)
    made = outcome_of(graph, lab.task)
    chosen = Selector(graph, resolve(config.target).isa).choose(config.optimize)
    return _Measured(made.effect, made.flash, chosen.instructions)


def _sensitivities(
    lab: Lab,
    config: Config,
    graph: Graph,
    layers: Sequence[str],
    widths: Sequence[int],
    jobs: int,
    progress: Progress | None,
) -> list[Sensitivity]:
    """Every layer at every width; zeros at the largest."""
    pairs = [(layer, bits) for layer in layers for bits in widths[:-1]]
    configs = [config, *(_with(config, {rule_name(graph, x): b}) for x, b in pairs)]
    first, *rest = run_tasks(_measure, lab, configs, jobs, _stage(progress, "sensitivity"))
    found = {(layer, widths[-1]): (0.0, 0, 0) for layer in layers}
    for pair, made in zip(pairs, rest, strict=True):
        noise = (made.effect.noise - first.effect.noise) / max(first.effect.power, 1e-30)
        found[pair] = (
            max(noise, 0.0),
            made.tables - first.tables,
            made.instructions - first.instructions,
        )
    return [
        Sensitivity(layer, label_of(graph, layer), bits, *found[layer, bits])
        for layer in layers
        for bits in widths
    ]


def _with(config: Config, widths: Mapping[str, int]) -> Config:
    """*config* with these widths of weights, by name; the user's rules still win."""
    rules = tuple(LayerBits(glob.escape(name), bits) for name, bits in widths.items())
    return replace(config, layers=(*rules, *config.layers))


def _stage(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


# -- choice ---------------------------------------------------------------------------------------


def choose(
    options: Sequence[Sensitivity], most_bytes: float, most_instructions: float = math.inf
) -> dict[str, int] | None:
    """Layer -> bits with the least sum of noise within both budgets; None if there is none.

    Args:
        options: every layer at every width.
        most_bytes: that the sum of ``bytes`` may reach.
        most_instructions: that the sum of ``instructions`` may reach.
    """
    milp, bounds, constraint = _solver()
    layers = list(dict.fromkeys(o.place for o in options))
    noise = np.array([o.noise for o in options])
    # HiGHS stops at a relative gap and absolute tolerances: noise in units of the largest. The
    # bytes, as the second aim, decide among equals.
    size = np.array([o.bytes for o in options], np.float64)
    aim = noise / max(float(noise.max(initial=0.0)), 1e-300)
    aim = aim + 1e-9 * size / max(1.0, float(np.abs(size).max(initial=0.0)))
    one = np.array([[float(o.place == layer) for o in options] for layer in layers])
    rows = [constraint(one, 1, 1), constraint(size[None], -np.inf, most_bytes)]
    if math.isfinite(most_instructions):
        work = np.array([[float(o.instructions) for o in options]])
        rows.append(constraint(work, -np.inf, most_instructions))
    found = milp(
        aim, integrality=np.ones(len(options)), bounds=bounds(0, 1), constraints=rows,
        options={"mip_rel_gap": 0.0, "time_limit": _SECONDS},
    )  # fmt: skip
    if found.x is None:
        return None
    return {o.place: o.bits for o, x in zip(options, found.x, strict=True) if x > 0.5}


def _solver() -> tuple[Any, Any, Any]:
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ImportError as e:
        hint = "pip install 'qcc[search]'"
        raise QccError("qcc search needs scipy, whose solver chooses the widths", [hint]) from e
    return milp, Bounds, LinearConstraint


def _budgets(options: Sequence[Sensitivity], count: int) -> list[float]:
    """Bytes between the smallest and the largest program, evenly spread."""
    by_layer: dict[str, list[int]] = {}
    for o in options:
        by_layer.setdefault(o.place, []).append(o.bytes)
    least = sum(min(sizes) for sizes in by_layer.values())
    most = sum(max(sizes) for sizes in by_layer.values())
    return [least + (most - least) * i / max(1, count - 1) for i in range(count)]


# -- proof ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Common:
    """What all compilations share."""

    proto: bytes
    task: Task


@dataclass(frozen=True, slots=True)
class _Order:
    """One compilation, and its widths by the names that people know."""

    config: Config
    widths: Mapping[str, int]


def _points(
    proto: onnx.ModelProto,
    base: Config,
    limits: Limits,
    task: Task,
    graph: Graph,
    options: Sequence[Sensitivity],
    count: int,
    jobs: int,
    progress: Progress | None,
) -> list[Point | str]:
    """The solutions of all budgets, compiled; or why the compiler refused one."""
    start = Selector(graph, resolve(base.target).isa).choose(base.optimize)
    slack = math.inf
    if limits.instructions is not None:
        slack = limits.instructions - start.instructions
    budgets = _budgets(options, count)
    if limits.flash is not None:  # what just fits, if the code stays as large
        budgets.append(limits.flash - start.flash_bytes)
    solutions = [choose(options, budget, slack) for budget in budgets]
    if all(s is None for s in solutions):  # none is fast enough: show what there is
        solutions = [choose(options, budget) for budget in budgets]
    distinct = {tuple(s.items()): s for s in solutions if s is not None}
    names = {o.place: rule_name(graph, o.place) for o in options}
    orders = []
    for widths in distinct.values():
        below = {names[x]: bits for x, bits in widths.items() if bits != base.weight_bits}
        shown = {label_of(graph, x): bits for x, bits in widths.items()}
        orders.append(_Order(_with(base, below), shown))
    common = _Common(proto.SerializeToString(), task)
    made = run_tasks(_compiled, common, orders, jobs, _stage(progress, "compiling"))
    sizes = [p.flash for p in made if isinstance(p, Point)]
    if limits.flash is None or not sizes or min(sizes) <= limits.flash:
        return made
    # Smaller, slower kernels may do; where they do not either, the compiler says so.
    smaller = [replace(o, config=replace(o.config, flash_budget=limits.flash)) for o in orders]
    return [
        *made, *run_tasks(_compiled, common, smaller, jobs, _stage(progress, "compiling again"))
    ]  # fmt: skip


def _compiled(common: _Common, order: _Order) -> Point | str:
    """One choice as ``qcc`` compiles it; what it says where it refuses."""
    import onnx

    proto, config = onnx.load_model_from_string(common.proto), order.config
    try:
        done = compile_proto(proto, config)
    except UsageError:
        raise
    except QccError as e:
        return e.message
    made = outcome_of(done.graph, common.task)
    return Point(
        config=config,
        widths=order.widths,
        effect=made.effect,
        flash=_flash(done),
        tables=done.program.weight_bytes,
        ram=done.program.arena_bytes,
        instructions=sum(layer.instructions for layer in done.program.layers),
        fits=True,
    )


def _flash(done: Compilation) -> int:
    """Tables and kernels, as kernel selection estimates them."""
    selector = Selector(done.graph, done.target.isa)
    return selector.choose(done.config.optimize, done.config.flash_budget).flash_bytes


def _judged(point: Point, limits: Limits, real: Effect, best: float) -> Point:
    """Whether it keeps the limits; decibels count from the best point, accuracy from float."""
    top = best if real.accuracy is None else 100 * real.accuracy
    kept = (
        (limits.flash is None or point.flash <= limits.flash)
        and (limits.ram is None or point.ram <= limits.ram)
        and (limits.instructions is None or point.instructions <= limits.instructions)
        and (limits.loss is None or point.quality >= top - limits.loss - 1e-9)
        and (limits.floor is None or point.quality >= limits.floor - 1e-9)
    )
    return replace(point, fits=kept)


def _chosen(front: Sequence[Point], limits: Limits) -> int | None:
    fitting = [i for i, p in enumerate(front) if p.fits]
    if not fitting:
        return None
    return fitting[0] if limits.flash is None else fitting[-1]


def _front(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats in flash and quality, the smallest first."""
    front: list[Point] = []
    for p in sorted(points, key=lambda p: (p.flash, -p.quality, p.instructions)):
        if not front or p.quality > front[-1].quality:
            front.append(p)
    return front
