"""``qcc debug``: where a model loses accuracy when it is quantized, and what would help.

Every place where an error can arise (``qcc.mixed``) is measured four ways on the same samples: what
it does to its own result; what it does to the outputs alone, all else float; what they gain if it
alone is float; and how far the quantized network has drifted from the float one when it gets there.
The places that cost most are then really given more bits, and so are a few options that concern the
whole network really changed: every suggestion is a network that was quantized and run.
"""

from __future__ import annotations

import copy
import glob
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qcc.codegen.lower import totals
from qcc.config import Config, LayerBits
from qcc.driver import Calibrated, Progress, calibrate, quantized
from qcc.effects import Effect, decibel, effect_of, json_number
from qcc.errors import QccError, short
from qcc.ir import Array, Graph
from qcc.mixed import Mixed, Values
from qcc.ops import OPS
from qcc.parallel import run_tasks
from qcc.passes.choose_widths import node_names
from qcc.passes.fold_batchnorm import LINEAR
from qcc.reference import quantize_tensor, run_int, to_memory

if TYPE_CHECKING:
    import onnx

_VALUES = 1 << 22
"""Values of activations that one piece of the samples may have."""

_MOST_PIECE = 64
_OUTPUTS = 1 << 25
"""Values of outputs that are kept for all samples together."""

_WORST = 3
"""Channels that are named."""

_TRIED = 5
"""Layers that get more bits to see what it gives."""

_LONG_NAME = 40
"""Converters chain names of nodes: beyond this, those of tensors are handier."""

_LEAST_DB = 1.0
_LEAST_SAMPLES = 2
_LEAST_SHARE = 0.001
"""Gains below these are not worth a suggestion: they may be chance."""


@dataclass(frozen=True, slots=True)
class Channel:
    """Signal to noise of one output channel, the last axis of the layer's output."""

    index: int
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class Place:
    """One place where errors arise: a layer, or an input of the model.

    Attributes:
        name: node of the graph, or input; ``label`` is for people.
        kind: IR operator, or "input".
        onnx_nodes: ONNX nodes that the layer does the work of.
        weight_bits: None where there are no weights.
        act_bits: of what it writes; ``format`` says with which sign.
        weight_bytes: its constants at their width, dense.
        own_db: signal to noise of its result, its inputs float.
        sqnr_db, cosine: of its result in the quantized network, errors of all before included.
        alone: the network with this place quantized and all else float.
        without: the quantized network with this place float.
        saturated, values: values beyond its format, of so many in all samples.
        worst: the channels with the least signal to noise of its own, the worst first.
    """

    name: str
    label: str
    kind: str
    onnx_nodes: tuple[str, ...]
    weight_bits: int | None
    act_bits: int
    format: str
    weight_bytes: int
    own_db: float
    sqnr_db: float
    cosine: float
    alone: Effect
    without: Effect
    saturated: int
    values: int
    worst: tuple[Channel, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; null decibels are no error at all."""
        return {
            "name": self.label,
            "op": self.kind,
            "onnx_nodes": list(self.onnx_nodes),
            "weight_bits": self.weight_bits,
            "act_bits": self.act_bits,
            "weight_bytes": self.weight_bytes,
            "own_sqnr_db": json_number(self.own_db),
            "sqnr_db": json_number(self.sqnr_db),
            "cosine": round(self.cosine, 6),
            "alone": self.alone.as_dict(),
            "all_but_it": self.without.as_dict(),
            "saturated": self.saturated,
            "values": self.values,
            "worst_channels": [
                {"channel": c.index, "sqnr_db": json_number(c.sqnr_db)} for c in self.worst
            ],
        }


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A change that was tried, and what it gave.

    Attributes:
        what: the change in words.
        option: how it is written on the command line.
        gain: in points of accuracy, or decibels at the output where there are no labels.
        unit: "points" or "dB".
        flash: bytes of constants more; negative: fewer.
        effect: of the network with it.
    """

    what: str
    option: str
    gain: float
    unit: str
    flash: int
    effect: Effect

    @property
    def text(self) -> str:
        """``conv_5: keep 8 bits: +1.9 points for +2.3 kB``."""
        return f"{self.what}: {self.gain:+.1f} {self.unit} for {_kilobytes(self.flash)}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "option": self.option,
            "gain": round(self.gain, 4),
            "unit": self.unit,
            "flash_bytes": self.flash,
            **self.effect.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What ``qcc debug`` found out.

    Attributes:
        on_calibration: measured on the calibration samples: there were no others.
        real: the float network (its accuracy).
        integer: the quantized network.
        places: inputs, then layers in order of execution.
        suggestions: the best first.
        classifies: the first output is a choice: there are labels, or it ends in a softmax.
        notes: what else the user must know.
    """

    model: str
    bits: str
    scale: str
    samples: int
    on_calibration: bool
    real: Effect
    integer: Effect
    places: tuple[Place, ...]
    suggestions: tuple[Suggestion, ...]
    classifies: bool
    notes: tuple[str, ...]

    @property
    def labelled(self) -> bool:
        return self.real.accuracy is not None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "model": self.model,
            "bits": self.bits,
            "scale": self.scale,
            "samples": self.samples,
            "classifies": self.classifies,
            "on_calibration": self.on_calibration,
            "float_accuracy": json_number(self.real.accuracy),
            "integer": self.integer.as_dict(),
            "layers": [p.as_dict() for p in self.places],
            "suggestions": [s.as_dict() for s in self.suggestions],
            "notes": list(self.notes),
        }


def diagnose(
    proto: onnx.ModelProto,
    config: Config,
    data: tuple[Mapping[str, Array], Array | None] | None = None,
    *,
    title: str = "model",
    limit: int = 256,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Diagnosis:
    """Find out where the model in *proto* loses accuracy.

    Args:
        proto: a checked model.
        config: as it would be compiled; its calibration samples serve as data where there are none.
        data: samples, ONNX input name -> (N, *ONNX shape) float32, and labels (N,) or None.
        title: how the model is called.
        limit: samples that are used at most.
        jobs: processes.
        progress: called with (stage, done, total).

    Raises:
        QccError: bad model, data or option, or no data at all.
    """
    on_calibration = data is None
    if data is None:
        if config.calibration is None:
            raise QccError(
                "qcc debug needs samples: give --calib, and --eval where there are labels"
            )
        data = config.calibration, None
    seen = calibrate(proto, config, progress)
    twin, graph = twins(seen, config, progress)
    inputs, labels = taken_samples(graph, *data, limit)
    mixed = Mixed(graph, twin)
    pieces = _pieces(graph, inputs, labels)
    parts = run_tasks(_measure, mixed, pieces, jobs, progress and _stage(progress, "measuring"))
    found = parts[0]
    for part in parts[1:]:
        found = found.plus(part)
    places = tuple(_place(graph, name, found) for name in mixed.places)
    want = {t: np.concatenate([p.outputs[t] for p in parts]) for t in graph.outputs}
    tried = _try(seen, config, Task(inputs, want, labels), graph, places, found, jobs, progress)
    return Diagnosis(
        model=title,
        bits=config.bits,
        scale=config.scale,
        samples=found.integer.samples,
        on_calibration=on_calibration,
        real=found.real,
        integer=found.integer,
        places=places,
        suggestions=tried,
        classifies=labels is not None or _ends_in_softmax(graph),
        notes=tuple(seen.notes),
    )


def twins(
    seen: Calibrated, config: Config, progress: Progress | None = None
) -> tuple[Graph, Graph]:
    """(float, integer) graph of the same nodes and tensors: the last one before ``quantize``."""
    kept: list[Graph] = []
    done: list[str] = []

    def watch(name: str, graph: Graph, changes: int) -> None:
        done.append(name)
        if "quantize" not in done:
            kept[:] = [copy.deepcopy(graph)]

    graph = quantized(seen, config, watch, progress)
    return kept[0], graph


def _ends_in_softmax(graph: Graph) -> bool:
    producer = graph.producer(graph.outputs[0])
    while producer is not None and OPS[producer.op].same_scale:
        producer = graph.producer(producer.inputs[0])
    return producer is not None and producer.op == "softmax"


def _stage(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


# -- samples --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some samples: graph input -> real (n, *shape); labels (n,) or None."""

    inputs: Mapping[str, Array]
    labels: Array | None


def taken_samples(
    graph: Graph, samples: Mapping[str, Array], labels: Array | None, limit: int
) -> tuple[dict[str, Array], Array | None]:
    """The first samples by graph input in memory order, and their labels."""
    room = _OUTPUTS // max(1, sum(graph.tensor(t).size for t in graph.outputs))
    count = max(1, min(limit, room))
    inputs: dict[str, Array] = {}
    for name in graph.inputs:
        origin = graph.tensor(name).origin
        assert origin is not None
        inputs[name] = to_memory(np.asarray(samples[origin.name][:count]), origin.perm)
    return inputs, None if labels is None else labels[:count]


def _pieces(graph: Graph, inputs: Mapping[str, Array], labels: Array | None) -> list[_Piece]:
    size = sum(t.size for t in graph.tensors() if t.data is None)
    step = max(1, min(_MOST_PIECE, _VALUES // max(1, size)))
    count = len(next(iter(inputs.values())))
    return [
        _Piece(
            {name: x[at : at + step] for name, x in inputs.items()},
            None if labels is None else labels[at : at + step],
        )
        for at in range(0, count, step)
    ]


# -- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over the values of one tensor, float and quantized.

    Attributes:
        power, noise: of squares, per channel: the float values, and what the place itself adds.
        drift: squares of what the whole quantized network differs by.
        dot, other: products of both networks' values, and squares of the quantized one's.
        saturated, values: how many lie beyond the format, of how many.
    """

    power: Array
    noise: Array
    drift: float
    dot: float
    other: float
    saturated: int
    values: int

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(
            self.power + other.power,
            self.noise + other.noise,
            self.drift + other.drift,
            self.dot + other.dot,
            self.other + other.other,
            self.saturated + other.saturated,
            self.values + other.values,
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """What was measured on some samples; everything but the *outputs* adds up.

    Attributes:
        outputs: output -> real values of the float network.
    """

    real: Effect
    integer: Effect
    alone: Mapping[str, Effect]
    without: Mapping[str, Effect]
    sums: Mapping[str, _Sums]
    outputs: Mapping[str, Array]

    def plus(self, other: _Found) -> _Found:
        return _Found(
            self.real + other.real,
            self.integer + other.integer,
            {k: v + other.alone[k] for k, v in self.alone.items()},
            {k: v + other.without[k] for k, v in self.without.items()},
            {k: v.plus(other.sums[k]) for k, v in self.sums.items()},
            {},
        )


def _measure(mixed: Mixed, piece: _Piece) -> _Found:
    """All places on some samples."""
    graph = mixed.graph
    floats = mixed.run(piece.inputs, integer=False)
    integers = mixed.run(piece.inputs, integer=True)
    want = {t: floats[t].data for t in graph.outputs}

    def effect(base: Values, changed: Values) -> Effect:
        got = {t: mixed.real(t, changed.get(t, base[t])) for t in graph.outputs}
        return effect_of(graph, want, got, piece.labels)

    alone: dict[str, Effect] = {}
    without: dict[str, Effect] = {}
    sums: dict[str, _Sums] = {}
    for place in mixed.places:
        tensor = tensor_of(graph, place)
        changed = mixed.switched(place, floats, piece.inputs)
        alone[place] = effect(floats, changed)
        sums[place] = _sums(
            graph, tensor, floats[tensor].data,
            mixed.real(tensor, changed[tensor]), mixed.real(tensor, integers[tensor]),
        )  # fmt: skip
        without[place] = effect(integers, mixed.switched(place, integers, piece.inputs))
    return _Found(effect(floats, {}), effect(integers, {}), alone, without, sums, want)


def _sums(graph: Graph, tensor: str, real: Array, own: Array, whole: Array) -> _Sums:
    """Of the float values, those with the place's own error, and the quantized network's."""
    quant = graph.quant(tensor)
    flat = real.astype(np.float64).reshape(-1, real.shape[-1])
    mine = own.astype(np.float64).reshape(flat.shape)
    other = whole.astype(np.float64).reshape(flat.shape)
    steps = flat / quant.scalar + quant.zero_point
    beyond = (steps > quant.qtype.qmax + 0.5) | (steps < quant.qtype.qmin - 0.5)
    return _Sums(
        power=np.square(flat).sum(axis=0),
        noise=np.square(flat - mine).sum(axis=0),
        drift=float(np.square(flat - other).sum()),
        dot=float((flat * other).sum()),
        other=float(np.square(other).sum()),
        saturated=int(beyond.sum()),
        values=flat.size,
    )


def tensor_of(graph: Graph, place: str) -> str:
    """What a place writes: a layer's output; an input is its own."""
    return place if place in graph.inputs else graph.node(place).output


# -- places ---------------------------------------------------------------------------------------


def _place(graph: Graph, name: str, found: _Found) -> Place:
    s, tensor = found.sums[name], tensor_of(graph, name)
    node = None if name in graph.inputs else graph.node(name)
    weighted = node is not None and node.op in LINEAR
    width = graph.quant(node.inputs[1]).qtype.bits if node is not None and weighted else None
    power = float(s.power.sum())
    scale = (power * s.other) ** 0.5
    q = graph.quant(tensor).qtype
    return Place(
        name=name,
        label=label_of(graph, name),
        kind="input" if node is None else node.op,
        onnx_nodes=() if node is None else node.sources,
        weight_bits=width,
        act_bits=q.bits,
        format=str(q),
        weight_bytes=0 if node is None else _constant_bytes(graph, name),
        own_db=decibel(power, float(s.noise.sum())),
        sqnr_db=decibel(power, s.drift),
        cosine=s.dot / scale if scale else float(power == s.other),
        alone=found.alone[name],
        without=found.without[name],
        saturated=s.saturated,
        values=s.values,
        worst=_worst(s),
    )


def label_of(graph: Graph, place: str) -> str:
    """The model's own name of a place."""
    if place not in graph.inputs:
        return place.rsplit(":", 1)[0]
    origin = graph.tensor(place).origin
    return origin.name if origin else place


def _constant_bytes(graph: Graph, name: str) -> int:
    """The constants that a layer reads, at their widths."""
    bits = (
        graph.tensor(t).size * graph.quant(t).qtype.bits
        for t in graph.node(name).inputs
        if graph.is_constant(t)
    )
    return sum((n + 7) // 8 for n in bits)


def _worst(s: _Sums) -> tuple[Channel, ...]:
    """Channels with a signal, the noisiest first."""
    if len(s.power) < 2:
        return ()
    pairs = zip(s.power.tolist(), s.noise.tolist(), strict=True)
    all_db = [Channel(i, decibel(p, n)) for i, (p, n) in enumerate(pairs) if p > 0 and n > 0]
    return tuple(sorted(all_db, key=lambda c: (c.sqnr_db, c.index))[:_WORST])


# -- suggestions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """What a trial is measured on.

    Attributes:
        inputs: graph input -> real values (N, *shape), in memory order.
        want: output -> real values of the float network.
        labels: (N,) or None.
    """

    inputs: Mapping[str, Array]
    want: Mapping[str, Array]
    labels: Array | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial gave: the effect, and bytes of constant tables."""

    effect: Effect
    flash: int


@dataclass(frozen=True, slots=True)
class Lab:
    """What all trials share."""

    seen: Calibrated
    task: Task


def run_trial(lab: Lab, config: Config) -> Outcome:
    """Quantize as *config* says, and run the integers."""
    return outcome_of(quantized(lab.seen, config), lab.task)


def outcome_of(graph: Graph, task: Task) -> Outcome:
    """What an integer graph does with the samples of *task*."""
    fed = {name: quantize_tensor(graph, name, x) for name, x in task.inputs.items()}
    got: dict[str, Array] = {}
    for name, y in run_int(graph, fed).items():
        quant = graph.quant(name)
        got[name] = ((y - quant.zero_point) * quant.scalar).astype(np.float32)
    return Outcome(effect_of(graph, task.want, got, task.labels), totals(graph).weight_bytes)


@dataclass(frozen=True, slots=True)
class _Idea:
    """A change that may help."""

    what: str
    option: str
    config: Config


def _try(
    seen: Calibrated,
    config: Config,
    task: Task,
    graph: Graph,
    places: Sequence[Place],
    found: _Found,
    jobs: int,
    progress: Progress | None,
) -> tuple[Suggestion, ...]:
    """Ideas that were tried and paid, the best first."""
    ideas = [*_local_ideas(graph, config, places, found.integer), *_global_ideas(config)]
    now = totals(graph).weight_bytes
    outcomes = run_tasks(
        run_trial,
        Lab(seen, task),
        [idea.config for idea in ideas],
        jobs,
        progress and _stage(progress, "trying"),
    )
    suggestions = [
        Suggestion(
            idea.what, idea.option, gain(found.integer, made.effect), unit_of(found.integer),
            made.flash - now, made.effect,
        )
        for idea, made in zip(ideas, outcomes, strict=True)
        if _worth(found.integer, made.effect)
    ]  # fmt: skip
    return tuple(sorted(suggestions, key=lambda s: (-s.gain, s.flash, s.what)))


def unit_of(effect: Effect) -> str:
    return "dB" if effect.accuracy is None else "points"


def gain(now: Effect, then: Effect) -> float:
    """Points of accuracy, or decibels where there are no labels; at most 100."""
    if now.accuracy is not None and then.accuracy is not None:
        return 100 * (then.accuracy - now.accuracy)
    return min(then.sqnr_db, 100.0) - min(now.sqnr_db, 100.0)


def _worth(now: Effect, then: Effect) -> bool:
    if now.correct is None or then.correct is None:
        return gain(now, then) >= _LEAST_DB
    return then.correct - now.correct >= max(_LEAST_SAMPLES, _LEAST_SHARE * now.samples)


def _local_ideas(graph: Graph, config: Config, places: Sequence[Place], now: Effect) -> list[_Idea]:
    """More bits for the places that cost most: decibels tell more finely than accuracy."""
    ranked = sorted(places, key=lambda p: -(min(p.without.sqnr_db, 100.0) - now.sqnr_db))
    ideas = []
    for place in ranked[:_TRIED]:
        if min(place.without.sqnr_db, 100.0) - now.sqnr_db < _LEAST_DB / 4:
            break
        bits = _more(place)
        if bits is not None:
            rule = LayerBits(glob.escape(rule_name(graph, place.name)), *bits)
            words = "keep 8 bits" if bits in ((8, 8), (8, None), (None, 8)) else "16-bit results"
            changed = replace(config, layers=(*config.layers, rule))
            ideas.append(_Idea(f"{short(place.label)}: {words}", _written(rule), changed))
    return ideas


def rule_name(graph: Graph, place: str) -> str:
    """One of the model's own names that only this place has: its label, or the shortest."""
    label = label_of(graph, place)
    if place in graph.inputs:
        return label
    node = graph.node(place)
    names = sorted(dict.fromkeys(node_names(graph, node)), key=lambda name: (len(name), name))
    others = {x for n in graph.nodes() if n.name != place for x in node_names(graph, n)}
    others |= {label_of(graph, x) for x in graph.inputs}
    if label in names and label not in others and len(label) <= _LONG_NAME:
        return label
    return next((name for name in names if name not in others), place)


def _more(place: Place) -> tuple[int | None, int | None] | None:
    """(bits of weights, of results) to try; None where it has all that there are."""
    weights = 8 if place.weight_bits is not None and place.weight_bits < 8 else None
    if place.act_bits < 8 or weights is not None:
        return weights, 8 if place.act_bits < 8 else None
    return (None, 16) if place.act_bits < 16 else None


def _written(rule: LayerBits) -> str:
    widths = (("W", rule.weight_bits), ("A", rule.act_bits))
    bits = "".join(f"{letter}{n}" for letter, n in widths if n is not None)
    return f"--layer {shlex.quote(f'{rule.match}={bits}')}"


def _global_ideas(config: Config) -> list[_Idea]:
    """Options for the whole network that are not as they are by default, or cost speed."""
    ideas = []
    for method in ("max", "mse"):
        if method != config.threshold:
            changed = replace(config, threshold=method)
            ideas.append(_Idea(f"ranges by {method}", f"--threshold {method}", changed))
    if config.scale != "fixed-point":
        changed = replace(config, scale="fixed-point")
        ideas.append(_Idea("multipliers instead of shifts", "--scale fixed-point", changed))
    if not config.per_channel:
        changed = replace(config, per_channel=True)
        ideas.append(_Idea("weight scales per channel", "without --per-layer", changed))
    if not config.bias_correction:
        changed = replace(config, bias_correction=True)
        ideas.append(_Idea("corrected biases", "without --keep-biases", changed))
    return ideas


def _kilobytes(count: int) -> str:
    """``+2.3 kB``; bytes below a thousand."""
    if count == 0:
        return "no flash"
    return f"{count / 1000:+.1f} kB" if abs(count) >= 1000 else f"{count:+d} bytes"
