"""The page of ``qcc debug``: self-contained, no scripts; the same findings give the same text."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qcc import __version__
from qcc.codegen.render import render
from qcc.codegen.report import layer_label
from qcc.debug_model import Diagnosis, Place
from qcc.effects import Effect
from qcc.errors import short

_FULL_DB = 40.0
_LOW_DB, _FAIR_DB = 10.0, 20.0


@dataclass(frozen=True, slots=True)
class _Figure:
    label: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True, slots=True)
class _Meter:
    """A number of decibels with its bar, in percent of a full one."""

    text: str
    bar: str
    grade: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    sources: str
    op: str
    bits: str
    bytes: str
    own: _Meter
    here: _Meter
    cosine: str
    alone: _Meter
    without: _Meter
    clipped: str
    share: str
    worst: str


@dataclass(frozen=True, slots=True)
class _Advice:
    text: str
    option: str


def debug_html(found: Diagnosis) -> str:
    """The page of *found*."""
    kind = "calibration samples" if found.on_calibration else "samples"
    return render(
        "debug.html.j2",
        title=_text(found.model),
        version=__version__,
        how=f"{found.bits}, {found.scale}",
        samples=f"{found.samples:,} {kind}",
        figures=_figures(found),
        notes=[_text(note, 400) for note in found.notes],
        suggestions=[_Advice(_text(s.text, 200), _text(s.option, 400)) for s in found.suggestions],
        layers=[_row(found, place) for place in found.places],
        whole=f"{_db(found.integer.sqnr_db)} dB",
    )


def _figures(found: Diagnosis) -> list[_Figure]:
    whole = found.integer
    figures = [_Figure("outputs", _db(whole.sqnr_db), "dB SNR", "against the float model")]
    if found.labelled:
        figures.append(_Figure("accuracy", _percent(whole.accuracy), "%", "quantized"))
        figures.append(_Figure("accuracy", _percent(found.real.accuracy), "%", "float"))
    if found.classifies and whole.agreement is not None:
        note = "same largest output as the float model"
        figures.append(_Figure("agreement", _percent(whole.agreement), "%", note))
    costly = max(found.places, key=lambda p: min(p.without.sqnr_db, 100.0))
    gained = min(costly.without.sqnr_db, 100.0) - min(whole.sqnr_db, 100.0)
    if gained > 0:
        note = _text(layer_label(costly.label, 40))
        figures.append(_Figure("costs most", f"{gained:.1f}", "dB", note))
    return figures


def _row(found: Diagnosis, place: Place) -> _Row:
    weights = "" if place.weight_bits is None else f"W{place.weight_bits} "
    share = place.saturated / place.values if place.values else 0.0
    label = layer_label(place.label, 40)
    others = [layer_label(s, 40) for s in place.onnx_nodes]
    return _Row(
        name=_text(label),
        sources=_text(", ".join(s for s in others if s != label), 120),
        op=place.kind,
        bits=f"{weights}{place.format}",
        bytes=f"{place.weight_bytes:,}" if place.weight_bytes else "",
        own=_meter(place.own_db),
        here=_meter(place.sqnr_db),
        cosine=f"{place.cosine:.4f}",
        alone=_outputs(found, place.alone),
        without=_outputs(found, place.without),
        clipped=f"{place.saturated:,}" if place.saturated else "",
        share=f"{100 * share:.2g} %" if place.saturated else "",
        worst=", ".join(f"{c.index} ({_db(c.sqnr_db)} dB)" for c in place.worst),
    )


def _outputs(found: Diagnosis, effect: Effect) -> _Meter:
    """Decibels at the outputs, and with labels the accuracy."""
    meter = _meter(effect.sqnr_db)
    if not found.labelled:
        return meter
    return _Meter(meter.text, meter.bar, meter.grade, f"{_percent(effect.accuracy)} % right")


def _meter(db: float) -> _Meter:
    length = min(max(db, 0.0), _FULL_DB)
    grade = "good" if db >= _FAIR_DB else "fair" if db >= _LOW_DB else "low"
    return _Meter(_db(db), f"{100 * length / _FULL_DB:.1f}", grade)


def _db(db: float) -> str:
    return f"{db:.1f}" if math.isfinite(db) else "exact"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _text(text: str, limit: int = 80) -> str:
    """Text of the model, on one line and short; the template escapes it."""
    return short(text, limit).encode("utf-8", "replace").decode()
