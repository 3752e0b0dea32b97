"""The repository's folders, the package map, the links, the README and the Makefile agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from qcc.codegen.target import load_targets
from qcc.ops import ONNX_OPS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUP = PROJECT["tool"]["setuptools"]
FOLDERS: dict[str, str] = SETUP["package-dir"]
STAGES = sorted(set(FOLDERS) - {"qcc"})

# Nothing of the machine that a file was written on, and no mirror of a registry. Put together from
# parts, because this file is searched as well.
HOME = "/"
MACHINE = {
    "a work folder": rf"(?<![\w.]){HOME}work/",
    "a virtual environment": rf"{HOME}tmp/venv",
    "a package mirror": rf"{HOME}opt/py{''}pi|py{''}pi-more",
    "a registry host": rf"python{''}hosted|py{''}pi\.org|deb\.{''}debian\.org|registry\.{''}npmjs",
    "a home folder": rf"{HOME}(root|home/\w+|Users/\w+){HOME}",
}


def project_files() -> list[Path]:
    """What git tracks or would track, links left out; skips outside a git checkout."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    paths = (ROOT / name for name in listed.decode().split("\0") if name)
    return [p for p in paths if p.is_file() and not p.is_symlink()]


# -- packages and links ---------------------------------------------------------------------------


def test_every_package_is_listed() -> None:
    found: set[str] = set()
    for package, folder in FOLDERS.items():
        home = ROOT / folder
        for init in home.rglob("__init__.py"):  # does not follow the links in qcc/
            found.add(".".join([package, *init.parent.relative_to(home).parts]))
    assert found == set(SETUP["packages"])


@pytest.mark.parametrize("package", STAGES)
def test_link(package: str) -> None:
    link = ROOT / "qcc" / package.removeprefix("qcc.")
    if not link.is_dir():
        pytest.skip("a clone without symbolic links")
    assert link.is_symlink()
    assert link.resolve() == (ROOT / FOLDERS[package]).resolve()
    assert not link.readlink().is_absolute()


@pytest.mark.parametrize("package", ["qcc.runtime_c", "qcc.templates"])
def test_all_data_is_shipped(package: str) -> None:
    home = ROOT / FOLDERS[package]
    shipped = {f for pattern in SETUP["package-data"][package] for f in home.glob(pattern)}
    present = {p for p in project_files() if home in p.parents and p.suffix != ".py"}
    assert present <= shipped


def test_stages_are_imported_under_the_package() -> None:
    top_level = "|".join(p.removeprefix("qcc.") for p in STAGES)
    wrong = re.compile(rf"^\s*(from|import) ({top_level})\b", re.M)
    offenders = [p for p in project_files() if p.suffix == ".py" and wrong.search(p.read_text())]
    assert offenders == []


@pytest.mark.slow
def test_built_distributions_are_complete(tmp_path: Path) -> None:
    """The wheel, made from the source distribution, holds every file and runs on its own."""
    source = tmp_path / "source"
    for path in project_files():
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path)]
    done = subprocess.run([*build, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        packed = {n for n in archive.namelist() if ".dist-info/" not in n}
        archive.extractall(site)
    assert packed == _expected_in_wheel()

    # -P: not the current folder; PYTHONPATH comes before an editable install of this checkout.
    env = {**os.environ, "PYTHONPATH": str(site)}
    where = "import qcc.arith, qcc.passes; print(qcc.arith.__file__, qcc.passes.__file__)"
    for command, expected in (
        (["-c", where], f"{site}/qcc/arith.py {site}/qcc/passes/__init__.py\n"),
        (["-m", "qcc", "--version"], f"qcc {PROJECT['project']['version']}\n"),
    ):
        run = [sys.executable, "-P", *command]
        out = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        assert out.stdout == expected


def _expected_in_wheel() -> set[str]:
    """Every module and every file of package data, under its name in the package."""
    names: set[str] = set()
    for package, folder in FOLDERS.items():
        home, inside = ROOT / folder, package.replace(".", "/")
        for path in project_files():
            if home in path.parents and (path.suffix == ".py" or package != "qcc"):
                names.add(f"{inside}/{path.relative_to(home).as_posix()}")
    return {*names, "qcc/py.typed"}


# -- command line ---------------------------------------------------------------------------------


def qcc(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qcc", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_module_runs_and_says_its_version() -> None:
    done = qcc("--version")
    assert (done.returncode, done.stdout) == (0, f"qcc {PROJECT['project']['version']}\n")


def test_readme_documents_the_options_of_the_command_line() -> None:
    done = qcc("--help")
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (`-.*?`) \|", (ROOT / "README.md").read_text(), re.M)
    options = {o for row in rows for o in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row)}
    assert len(options) > 10
    shown = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", done.stdout))
    assert options <= shown


# -- texts ----------------------------------------------------------------------------------------


def test_commands_of_the_readme_exist_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    rules = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    phony = set(re.findall(r"^\.PHONY:(.*)", makefile, re.M)[0].split())
    used: set[str] = set()
    for text in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / ".ci" / "run"):
        used |= set(re.findall(r"(?:^|`|\s)make ([a-z][a-z-]*)\b", _commands(text.read_text())))
    assert {"demo", "test", "setup-cross", "lint"} <= used
    assert used <= rules
    assert used <= phony


def _commands(markdown: str) -> str:
    """The code in a text: fenced blocks and spans; a whole script is code."""
    if markdown.startswith("#!"):
        return markdown
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", markdown, re.S))


def test_readme_lists_every_target_with_its_board() -> None:
    rows = _table("## Targets")
    assert {row[0].strip("`"): row[2] for row in rows} == {
        target.name: target.board for target in load_targets().values()
    }


def test_readme_lists_exactly_the_operators_that_are_read() -> None:
    words = {w for row in _table("## Operators") for w in re.findall(r"\b[A-Z]\w+", row[1])}
    no_code = {"Constant", "Dropout", "Identity"}
    assert words - {"ONNX"} - no_code == set(ONNX_OPS) - no_code


def _table(heading: str) -> list[list[str]]:
    """The cells of the first table below *heading* in the README, without its head."""
    _, text = (ROOT / "README.md").read_text().split(f"\n{heading}\n", 1)
    lines = text[text.index("|---") :].split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_links_of_the_texts_lead_somewhere() -> None:
    missing = [
        f"{text.relative_to(ROOT)}: {target}"
        for text in project_files()
        if text.suffix == ".md"
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text.read_text())
        if not target.startswith("http") and not (text.parent / target).exists()
    ]
    assert missing == []


def test_version_has_a_changelog_entry() -> None:
    assert f"## [{PROJECT['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("what", MACHINE)
def test_files_hold_nothing_of_the_machine(what: str) -> None:
    pattern = re.compile(MACHINE[what].encode())
    assert [
        str(p.relative_to(ROOT)) for p in project_files() if pattern.search(p.read_bytes())
    ] == []


def test_scripts_are_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
