"""What ``qcc search`` leaves in its folder: the front as a picture, JSON, and a file per point."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from qcc.config_file import config_text
from qcc.errors import short
from qcc.search_widths import Point, Search

_WIDTH, _HEIGHT = 760.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 24.0, 60.0, 56.0
_TICKS = 5


def search_files(found: Search, calib: Path | None, folder: Path) -> dict[str, str]:
    """Path in *folder* -> text: search.json, search.svg, point-N.toml."""
    files = {
        "search.json": json.dumps(found.as_dict(), indent=1, allow_nan=False) + "\n",
        "search.svg": search_svg(found),
    }
    for i, point in enumerate(found.points):
        files[point_file(i)] = config_text(point.config, calib, folder)
    return files


def point_file(index: int) -> str:
    """The name of a point's configuration."""
    return f"point-{index}.toml"


def search_svg(found: Search) -> str:
    """Flash against quality: the front as a line, what it beats as dots, the limits dashed."""
    every = [*found.points, *found.dropped]
    x = _Axis([p.flash / 1000 for p in every], _LEFT, _WIDTH - _RIGHT)
    y = _Axis([p.quality for p in every], _HEIGHT - _BOTTOM, _TOP)
    unit = "accuracy, %" if found.labelled else "signal to noise, dB"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH:g}" height="{_HEIGHT:g}" fill="#ffffff"/>',
        _text(_LEFT, 24, f"{found.model} for {found.target}: widths of weights", size=15),
        _text((_LEFT + _WIDTH) / 2, _HEIGHT - 14, "flash for tables and kernels, kB", "middle"),
        _text(_LEFT, _TOP - 8, unit),
    ]
    for value in x.ticks():
        parts.append(_line(x.at(value), y.first, x.at(value), y.last, "#e3e7ec"))
        parts.append(_text(x.at(value), y.first + 18, f"{value:.4g}", "middle"))
    for value in y.ticks():
        parts.append(_line(x.first, y.at(value), x.last, y.at(value), "#e3e7ec"))
        parts.append(_text(x.first - 8, y.at(value) + 4, f"{value:.4g}", "end"))
    limit = found.limits.flash
    if limit is not None and x.low <= limit / 1000 <= x.high:
        at = x.at(limit / 1000)
        parts.append(_line(at, y.first, at, y.last, "#b03a2e", "6 4"))
    path = " ".join(f"{x.at(p.flash / 1000):.1f},{y.at(p.quality):.1f}" for p in found.points)
    parts.append(f'<polyline points="{path}" fill="none" stroke="#2a6fb0" stroke-width="2"/>')
    parts += [_dot(x, y, p, "#b8c2cc", 3.5) for p in found.dropped]
    for i, p in enumerate(found.points):
        color = "#2e8b57" if i == found.chosen else "#2a6fb0"
        parts.append(_dot(x, y, p, color, 7 if i == found.chosen else 5))
        parts.append(_text(x.at(p.flash / 1000) + 8, y.at(p.quality) + 16, str(i)))
    return "\n".join([*parts, "</svg>", ""])


class _Axis:
    """Values to places between *first* and *last*, with a margin."""

    def __init__(self, values: Sequence[float], first: float, last: float) -> None:
        low, high = min(values), max(values)
        margin = (high - low) * 0.06 or max(abs(high) * 0.05, 1.0)
        self.low, self.high = low - margin, high + margin
        self.first, self.last = first, last

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Round numbers: steps of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / _TICKS
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough)
        first = math.ceil(self.low / step)
        return [i * step for i in range(first, math.floor(self.high / step) + 1)]


def _dot(x: _Axis, y: _Axis, point: Point, color: str, radius: float) -> str:
    hint = f"{point.flash:,} bytes, {point.quality:.2f}: {widths_text(point)}"
    return (
        f'<circle cx="{x.at(point.flash / 1000):.1f}" cy="{y.at(point.quality):.1f}" '
        f'r="{radius:g}" fill="{color}"><title>{escape(hint)}</title></circle>'
    )


def widths_text(point: Point) -> str:
    """``9 x W4, 1 x W8``."""
    counts: dict[int, int] = {}
    for bits in point.widths.values():
        counts[bits] = counts.get(bits, 0) + 1
    return ", ".join(f"{n} x W{bits}" for bits, n in sorted(counts.items()))


def _line(x1: float, y1: float, x2: float, y2: float, color: str, dashes: str = "") -> str:
    style = f' stroke-dasharray="{dashes}"' if dashes else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{color}"{style}/>'


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text {place} fill="#1c2530">{escape(short(text, 120))}</text>'
