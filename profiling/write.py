"""A profile in the folder it is of: profile.json, and its section of report.html."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from qcc.codegen.render import render
from qcc.codegen.report import layer_label
from qcc.codegen.write import PROFILE
from qcc.errors import QccError, short
from qcc.profiling.result import LayerProfile, Profile, SharedCode

_REPORT = "report.html"
_BEGIN = "<!-- qcc profile: begin -->"
_END = "<!-- qcc profile: end -->"


@dataclass(frozen=True, slots=True)
class _Figure:
    label: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True, slots=True)
class _Row:
    """A layer or a shared function in the table, as text."""

    index: str
    name: str
    kernel: str
    macs: str
    instructions: str
    bar: str
    per_mac: str
    cycles: str
    stack: str
    code: str
    tables: str


def write_profile(found: Profile, out: Path) -> None:
    """Write OUT/profile.json, and put the figures into OUT/report.html where that is.

    Raises:
        QccError: *out* cannot be written.
    """
    try:
        _replace(out / PROFILE, json.dumps(found.as_dict(), indent=1, allow_nan=False) + "\n")
        report = out / _REPORT
        if report.is_file():
            page = report.read_text(encoding="utf-8")
            changed = with_section(page, section(found))
            if changed != page:
                _replace(report, changed)
    except (OSError, UnicodeDecodeError) as e:
        reason = getattr(e, "strerror", None) or e
        raise QccError(f"{out}: the profile cannot be written: {reason}") from e


def with_section(page: str, html: str) -> str:
    """*page* with *html* between its two comments; as it is, where it has none."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    return f"{before}{begin}\n{html}{end}{after}" if begin and end else page


def section(found: Profile) -> str:
    """The figures and the table as HTML."""
    rows = [*(_layer(found, x) for x in found.layers), *map(_shared, found.shared), _call(found)]
    return render("profile_section.html.j2", p=found, figures=_figures(found), rows=rows)


def _figures(found: Profile) -> list[_Figure]:
    per_mac = "" if found.per_mac is None else f"{found.per_mac:.2f} per multiply-accumulate"
    figures = [_Figure("Instructions", f"{found.instructions:,}", "", per_mac)]
    if found.cycles is not None:
        figures.append(_Figure("Cycles", f"{found.cycles:,}", "", "modelled"))
    f = found.flash
    parts = f"code {f.code:,}, tables {f.tables:,}, library {f.library:,}"
    figures.append(_Figure("Flash", f"{f.model:,}", "bytes", parts))
    figures.append(_Figure("Firmware", f"{f.firmware:,}", "bytes", "with start-up code"))
    figures.append(_Figure("Stack", f"{found.stack_bytes:,}", "bytes", "below the caller"))
    return figures


def _layer(found: Profile, x: LayerProfile) -> _Row:
    most = max(layer.instructions for layer in found.layers)
    return _Row(
        index=str(x.index),
        name=_text(layer_label(x.name, 40)),
        kernel=_text(x.kernel),
        macs=_count(x.macs),
        instructions=f"{x.instructions:,}",
        bar=f"{100 * x.instructions / most:.1f}" if most else "",
        per_mac="" if x.per_mac is None else f"{x.per_mac:.2f}",
        cycles="" if x.cycles is None else f"{x.cycles:,}",
        stack=_count(x.stack_bytes),
        code=_count(x.code_bytes),
        tables=_count(x.table_bytes),
    )


def _shared(s: SharedCode) -> _Row:
    users = ", ".join(map(str, s.layers))
    where = f"layers {users}" if users else "not run"
    return _Row("", where, s.name, "", "", "", "", "", "", f"{s.bytes:,}", "")


def _call(found: Profile) -> _Row:
    """What the model's function does itself: checks, calls, return."""
    cycles = "" if found.call_cycles is None else f"{found.call_cycles:,}"
    return _Row(
        "", "between layers", "", "", f"{found.call_instructions:,}", "", "", cycles, "",
        _count(found.flash.call), _count(found.flash.other),
    )  # fmt: skip


def _count(n: int) -> str:
    return f"{n:,}" if n else ""


def _text(text: str) -> str:
    return short(text, 80).encode("utf-8", "replace").decode()


def _replace(path: Path, text: str) -> None:
    """Write *path* whole or not at all."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="\n", dir=path.parent, prefix=".qcc-", delete=False
    ) as file:
        made = Path(file.name)
        try:
            file.write(text)
            file.close()
            made.chmod(0o644)
            made.replace(path)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
