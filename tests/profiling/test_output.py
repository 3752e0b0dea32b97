"""What a profile becomes: JSON, the section of the report, the table on the screen."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from qcc.cli import main
from qcc.codegen.write import write_files
from qcc.console import Screen
from qcc.errors import QccError
from qcc.profiling.result import Flash, LayerProfile, Profile, SharedCode
from qcc.profiling.write import section, with_section, write_profile
from tests.emulators import need, need_board
from tests.profiling.programs import compiled, loops
from tests.test_report import HOSTILE, Reader

FLASH = Flash(
    firmware=5000, model=4321, code=1234, tables=3000, library=87, call=100, other=4
)  # fmt: skip


def layer(index: int, name: str, macs: int, instructions: int) -> LayerProfile:
    return LayerProfile(
        index, name, "conv2d", "dsp/conv", macs, instructions, 2 * instructions,
        {"load": instructions}, 48, 400, 1500,
    )  # fmt: skip


FOUND = Profile(
    name="net", target="cortex-m4", board="mps2-an386", core="cortex-m4", engine="qemu",
    compiler="arm-none-eabi-gcc -O2", samples=1, cycle_model="a table", macs=90_000,
    instructions=123_476, cycles=246_952, call_instructions=20, call_cycles=40, stack_bytes=212,
    arena_bytes=4096, flash=FLASH, layers=(layer(0, "stem", 80_000, 100_000),
    layer(1, "pool", 0, 3_456), layer(2, "head", 10_000, 20_000)),
    shared=(SharedCode("qcc_tile", 330, (0, 2)), SharedCode("qcc_never", 4, ())),
)  # fmt: skip

PAGE = "<h2>A</h2>\n<!-- qcc profile: begin -->\nold\n<!-- qcc profile: end -->\n<h2>B</h2>\n"

NUMBER = (int, float, type(None))


# -- JSON -----------------------------------------------------------------------------------------


def test_json_has_the_documented_keys_and_types() -> None:
    found = json.loads(json.dumps(FOUND.as_dict(), allow_nan=False))
    text = (Path(__file__).parents[2] / "docs" / "profile.md").read_text()
    table = text[text.index("\n## profile.json\n") : text.index("\n## Beside others\n")]
    documented = set(re.findall(r"`([a-z_]+)`", table))
    assert set(found) <= documented
    assert set(found["flash"]) | set(found["layers"][0]) | set(found["shared"][0]) <= documented
    for key in ("macs", "instructions", "stack_bytes", "arena_bytes", "samples"):
        assert isinstance(found[key], int)
    assert isinstance(found["cycles"], NUMBER)
    assert all(isinstance(v, int) for v in found["flash"].values())
    first, second, _ = found["layers"]
    assert (first["per_mac"], second["per_mac"]) == (1.25, None)
    assert first["classes"] == {"load": 100_000}
    assert found["shared"][0] == {"name": "qcc_tile", "bytes": 330, "layers": [0, 2]}
    assert found["per_mac"] == round(123_476 / 90_000, 4)


# -- the report -----------------------------------------------------------------------------------


def test_the_section_replaces_what_was_there() -> None:
    once = with_section(PAGE, "<p>new</p>\n")
    assert once == PAGE.replace("old", "<p>new</p>")
    assert with_section(once, "<p>new</p>\n") == once
    assert (
        with_section("<p>a page of another version</p>", "x") == "<p>a page of another version</p>"
    )


def test_the_section_shows_every_layer_and_nests() -> None:
    reader = Reader(section(FOUND))
    for text in ("stem", "pool", "head", "100,000", "1.25", "212", "4,321", "between layers"):
        assert text in reader.text
    assert "layers 0, 2" in reader.text
    assert "not run" in reader.text
    assert "a table" in reader.text
    assert "246,952" in reader.text


def test_a_core_without_cycles_has_no_such_column() -> None:
    layers = tuple(replace(x, cycles=None) for x in FOUND.layers)
    plain = replace(FOUND, cycle_model=None, cycles=None, call_cycles=None, layers=layers)
    text = Reader(section(plain)).text
    assert "no cycle model" in text
    assert "246,952" not in text
    assert "cycles" not in re.findall(r"<th[^>]*>([^<]*)</th>", section(plain))
    assert "cycles" in re.findall(r"<th[^>]*>([^<]*)</th>", section(FOUND))


@pytest.mark.parametrize("name", [*HOSTILE, "<!-- qcc profile: end -->"])
def test_hostile_names_are_text(name: str) -> None:
    hostile = replace(FOUND, layers=(layer(0, name, 1, 1),))
    html = section(hostile)
    plain = Reader(section(replace(FOUND, layers=(layer(0, "x", 1, 1),))))
    assert [tag for tag, _ in Reader(html).tags] == [tag for tag, _ in plain.tags]
    page = with_section(PAGE, html)
    assert with_section(page, html) == page
    assert page.endswith("<h2>B</h2>\n")


# -- files ----------------------------------------------------------------------------------------


def test_a_profile_goes_with_the_compilation_that_it_is_of(tmp_path: Path) -> None:
    files = {"report.html": PAGE, "manifest.json": '{"files": ["report.html"]}'}
    write_files(files, tmp_path)
    write_profile(FOUND, tmp_path)
    assert json.loads((tmp_path / "profile.json").read_text()) == FOUND.as_dict()
    assert "stem" in (tmp_path / "report.html").read_text()
    assert {p.name for p in tmp_path.iterdir()} == {*files, "profile.json"}
    write_files(files, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(files)
    assert (tmp_path / "report.html").read_text() == PAGE


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "profile.json").mkdir()
    with pytest.raises(QccError, match="the profile cannot be written"):
        write_profile(FOUND, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["profile.json"]


# -- the screen -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_table_fits_and_keeps_its_numbers(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    Screen(0, False).profile(FOUND, Path("out"))
    shown = capsys.readouterr().out
    for text in ("stem", "100,000", "200,000", "1.25", "run", "qcc_tile", "layers 0, 2"):
        assert text in shown
    assert ("dsp/conv" in shown) == (width >= 100)
    table = shown.split("\n\n")[1]
    assert all(len(line) <= width for line in table.splitlines())
    assert ("tables" in table) == (width >= 100)


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(-1, False).profile(FOUND, Path("out"))
    assert capsys.readouterr().out == ""


def test_the_command_prints_and_writes_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_board("cortex-m4", "mps2-an386")
    need("gcc")
    out = compiled(tmp_path, "digits", "cortex-m4")
    placeholder = (out / "report.html").read_text()
    assert "run <code>qcc profile</code>" in placeholder
    assert main(["profile", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "profile.json").read_text())
    page = (out / "report.html").read_text()
    assert f"{printed['instructions']:,}" in Reader(page).text
    assert "run <code>qcc profile</code>" not in page
    assert page.count("<h2>Profile</h2>") == placeholder.count("<h2>Profile</h2>") == 1


def test_the_command_shows_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of a folder without a report."""
    need_board("cortex-m4", "mps2-an386")
    need("gcc")
    assert main(["profile", str(loops(tmp_path))]) == 0
    shown = capsys.readouterr().out
    assert "loops (cortex-m4 on mps2-an386, " in shown
    assert re.search(r"^first layer .* 3,0\d\d ", shown, re.M)
    assert re.search(r"^run  .* instructions, .* cycles; 1 sample, bit-exact$", shown, re.M)
    assert not (tmp_path / "report.html").exists()
