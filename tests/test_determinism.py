"""The same model, data and options give the same bytes, wherever and however qcc runs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcc.config import SCALE_MODES
from tests.networks import medley, samples

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What must not matter: the environment, the working folder, how paths are written."""

    variables: dict[str, str] = field(default_factory=dict[str, str])
    relative: bool = False
    depth: str = "."


CASES = {
    "hash seed": Surroundings({"PYTHONHASHSEED": "4242"}),
    "locale": Surroundings({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "time zone and home": Surroundings({"TZ": "Asia/Tokyo", "HOME": "/", "LC_ALL": "C.UTF-8"}),
    "relative paths": Surroundings({"PYTHONHASHSEED": "7"}, relative=True),
    "another folder": Surroundings({"COLUMNS": "40"}, relative=True, depth="a b/ü"),
    "one thread": Surroundings({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}),
    "optimized Python": Surroundings({"PYTHONOPTIMIZE": "1"}),
}
EVERY_DAY = ("hash seed", "locale", "another folder")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with medley.onnx and calib.npz."""
    folder = tmp_path_factory.mktemp("source")
    onnx.save(medley(), folder / "medley.onnx")
    image, vector = (samples("medley")[name] for name in ("image", "vector"))
    np.savez(folder / "calib.npz", image=image, vector=vector)
    return folder


def compile_in(source: Path, folder: Path, around: Surroundings, *options: str) -> dict[str, bytes]:
    """Run qcc in a process of its own; every file of OUT by path."""
    cwd = folder / around.depth
    cwd.mkdir(parents=True, exist_ok=True)
    out = folder / "out"

    def path(p: Path) -> str:
        return os.path.relpath(p, cwd) if around.relative else str(p)

    command = [sys.executable, "-m", "qcc", path(source / "medley.onnx"), "-o", path(out), "-q"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1", **around.variables}
    done = subprocess.run(
        [*command, *options], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return contents(out)


def contents(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def assert_same(first: dict[str, bytes], second: dict[str, bytes]) -> None:
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []


@pytest.fixture(scope="module")
def usual(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    calib = ["--calib", str(source / "calib.npz")]
    return compile_in(source, tmp_path_factory.mktemp("usual"), Surroundings(), *calib)


@pytest.mark.parametrize(
    "case", [c if c in EVERY_DAY else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)
def test_surroundings_do_not_matter(
    case: str, source: Path, usual: dict[str, bytes], tmp_path: Path
) -> None:
    around = CASES[case]
    calib = source / "calib.npz"
    path = os.path.relpath(calib, tmp_path / around.depth) if around.relative else str(calib)
    assert_same(usual, compile_in(source, tmp_path, around, "--calib", path))


def test_nothing_of_this_machine_is_written(
    source: Path, usual: dict[str, bytes], tmp_path: Path
) -> None:
    assert len(usual) > 15
    for name, data in usual.items():
        for private in (str(source), str(ROOT), str(tmp_path.parent)):
            assert private.encode() not in data, f"{name}: {private}"
        assert b"\r" not in data
        data.decode("utf-8" if name.endswith(".html") else "ascii")


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALE_MODES[1:])
def test_every_scaling_is_repeatable(scale: str, source: Path, tmp_path: Path) -> None:
    options = ["--scale", scale, "--calib", str(source / "calib.npz"), "--target", "cortex-m4"]
    first, second = (
        compile_in(source, tmp_path / seed, Surroundings({"PYTHONHASHSEED": seed}), *options)
        for seed in ("11", "12")
    )
    assert_same(first, second)


def test_synthetic_inputs_are_repeatable(source: Path, tmp_path: Path) -> None:
    first, second = (
        compile_in(source, tmp_path / seed, Surroundings({"PYTHONHASHSEED": seed}))
        for seed in ("21", "22")
    )
    assert_same(first, second)


def test_other_options_do_change_the_files(
    source: Path, usual: dict[str, bytes], tmp_path: Path
) -> None:
    """The comparison sees a difference where there is one."""
    calib = ["--calib", str(source / "calib.npz")]
    other = compile_in(source, tmp_path, Surroundings(), *calib, "--threshold", "max")
    assert other["medley_weights.h"] != usual["medley_weights.h"]
