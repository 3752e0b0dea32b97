"""The command line as users see it: exit status, what is printed where, what is written."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc import __version__, driver
from qcc.api import evaluate
from qcc.cli import MAX_LINES, main
from qcc.code_size import CodeSize, measure
from qcc.codegen.target import load_targets, resolve
from qcc.config import LayerBits
from qcc.errors import QccError
from qcc.ops.examples import model, normal
from qcc.options import ListTargets, parse_compile, parse_eval

SHAPE = (1, 2, 6, 5)
CLASSES = 4


def tiny() -> onnx.ModelProto:
    """Convolution, activation, dense: 2 channels of 6 x 5 to 4 classes."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Flatten", ["r"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "d", "b"], ["scores"], name="dense"),
    ]
    constants = {
        "w": normal((3, 2, 3, 3), 1, 0.3),
        "d": normal((90, CLASSES), 2, 0.2),
        "b": normal((CLASSES,), 3),
    }
    return model("tiny", nodes, {"image": SHAPE}, ["scores"], constants)


class Result:
    """What one call of ``main`` did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def error(self) -> str:
        """The message of a failure, which has the form that the contract states."""
        lines = self.err.splitlines()
        assert lines, "nothing on stderr"
        assert len(lines) <= MAX_LINES
        assert lines[0].startswith("qcc: error: ")
        assert all(line.startswith("  ") for line in lines[1:])
        assert "Traceback" not in self.err
        assert self.out == ""
        return self.err


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*args: object) -> Result:
        code = main([str(a) for a in args])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The model's file, alone in a folder."""
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(tiny(), folder / "tiny.onnx")
    return folder / "tiny.onnx"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- the main form ---------------------------------------------------------------------------------


def test_a_model_is_compiled_and_summed_up(run: Run, path: Path, out: Path) -> None:
    done = run(path, "-o", out)
    assert done.code == 0
    assert done.err == ""
    manifest = json.loads((out / "manifest.json").read_text())
    for text in ("conv", "dense", "flash", f"arena {manifest['arena_bytes']:,}", "no calibration",
                 "accuracy is not assured", "--calib", f"make -C {out} check", "qcc eval",
                 f"{manifest['macs']:,} MACs"):  # fmt: skip
        assert text in done.out
    assert {p.name for p in out.iterdir()} >= {"tiny.h", "tiny.c", "Makefile", "report.html"}


def test_the_summary_fits_eighty_columns(
    run: Run, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    done = run(path, "-o", "out", "--target", "cortex-m4")
    assert max(map(len, done.out.splitlines())) <= 80
    assert "make -C out firmware run" in done.out
    assert "…" not in done.out


def test_calibration_takes_the_warning_away(run: Run, path: Path, out: Path) -> None:
    np.savez(path.parent / "calib.npz", image=normal((8, *SHAPE[1:])))
    done = run(path, "-o", out, "--calib", path.parent / "calib.npz")
    assert done.code == 0
    assert "warning" not in done.out
    assert json.loads((out / "manifest.json").read_text())["calibrated"] is True


def test_quiet_says_nothing(run: Run, path: Path, out: Path) -> None:
    done = run(path, "-o", out, "-q")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_verbose_times_the_passes_on_stderr(run: Run, path: Path, out: Path) -> None:
    done = run(path, "-o", out, "-v")
    assert re.search(r"^ +[0-9.]+ ms  fuse-activations, 1 changes$", done.err, re.MULTILINE)
    assert re.search(r"ms  calibrating, \d+ samples$", done.err, re.MULTILINE)
    assert "fuse-activations" not in done.out


def test_json_is_the_manifest_and_nothing_else(run: Run, path: Path, out: Path) -> None:
    done = run(path, "-o", out, "--json")
    assert done.code == 0
    assert json.loads(done.out) == json.loads((out / "manifest.json").read_text())
    assert "flash" in done.err


def test_options_reach_the_manifest(run: Run, path: Path, out: Path) -> None:
    np.save(path.parent / "calib.npy", normal((4, *SHAPE[1:])))
    done = run(
        path, "-o", out, "-q", "--target", "cortex-m0", "--name", "net", "--scale", "fixed-point",
        "--threshold", "percentile", "--percentile", "99.5", "--per-layer", "--optimize", "size",
        "--keep-constant-channels", "--keep-biases", "--mean", "-1", "0.5", "--std", "2,3",
        "--shape", "image=1,2,6,5", "--bits", "w8a8", "--calib", path.parent / "calib.npy",
        "--io", "arena", "--ram-budget", "1M", "--io-bits", "16", "--layer", "con*=W4",
        "--keep8", "sums,first", "--rounding", "learned", "--rounding-sweeps", "3",
        "--weight-clip", "kl", "--equalize", "on",
    )  # fmt: skip
    assert done.code == 0, done.err
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["name"], manifest["target"]) == ("net", "cortex-m0")
    assert manifest["options"] == {
        "bits": "W8A8",
        "io_bits": 16,
        "layers": [{"match": "con*", "weight_bits": 4, "act_bits": None}],
        "keep8": ["first", "sums"],
        "rounding": "learned",
        "rounding_sweeps": 3,
        "weight_clip": "kl",
        "equalize": "on",
        "scale": "fixed-point",
        "threshold": "percentile",
        "percentile": 99.5,
        "per_channel": False,
        "optimize": "size",
        "io": "arena",
        "ram_budget": 1 << 20,
        "constant_channels": False,
        "bias_correction": False,
        "mean": [-1.0, 0.5],
        "std": [2.0, 3.0],
        "shapes": {"image": [1, 2, 6, 5]},
    }


def test_force_replaces_a_compilation(run: Run, path: Path, out: Path) -> None:
    assert run(path, "-o", out, "-q").code == 0
    refused = run(path, "-o", out, "-q", "--name", "other")
    assert refused.code == 2
    assert "--force" in refused.error
    assert run(path, "-o", out, "-q", "--name", "other", "--force").code == 0
    assert (out / "other.c").exists()
    assert not (out / "tiny.c").exists()


def test_a_model_called_like_a_command_is_compiled(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    path.rename(path.parent / "inspect")
    assert run("./inspect", "-o", "out", "-q").code == 0
    assert (path.parent / "out" / "inspect.c").exists()


# -- graphs ----------------------------------------------------------------------------------------


def test_dump_ir_writes_every_stage(run: Run, path: Path, out: Path, tmp_path: Path) -> None:
    assert run(path, "-o", out, "-q", "--dump-ir", tmp_path / "ir").code == 0
    names = sorted(p.name for p in (tmp_path / "ir").iterdir())
    assert names[0] == "00-read.txt"
    assert names[-1].endswith("-patch-rows.txt")
    assert "conv2d(" in (tmp_path / "ir" / names[-1]).read_text()


def test_stop_after_prints_the_graph_and_writes_nothing(run: Run, path: Path, out: Path) -> None:
    done = run(path, "-o", out, "--stop-after", "fold-constants")
    assert done.code == 0
    assert done.out.startswith("// after fold-constants: ")
    assert "graph tiny(" in done.out
    assert not out.exists()


def test_stop_after_with_dump_ir_leaves_stdout_alone(run: Run, path: Path, tmp_path: Path) -> None:
    done = run(path, "--stop-after", "fold-constants", "--dump-ir", tmp_path / "ir")
    assert (done.code, done.out) == (0, "")
    assert sorted(p.name for p in (tmp_path / "ir").iterdir()) == [
        "00-read.txt",
        "01-fold-constants.txt",
    ]


def test_stages_are_dumped_when_a_pass_fails(
    run: Run, path: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise QccError("no histogram")

    monkeypatch.setattr(driver, "observe", broken)
    assert run(path, "-o", out, "--dump-ir", tmp_path / "ir").code == 1
    assert (tmp_path / "ir" / "00-read.txt").exists()
    assert not out.exists()


# -- bad usage -------------------------------------------------------------------------------------

USAGE = [
    ([], "no model given"),
    (["m.onnx"], "-o OUT"),
    (["m.onnx", "-o"], "expected one argument"),
    (["m.onnx", "n.onnx", "-o", "o"], "unrecognized arguments: n.onnx"),
    (["m.onnx", "-o", "o", "--wrong"], "unrecognized arguments: --wrong"),
    (["m.onnx", "-o", "o", "--targ", "host"], "unrecognized"),
    (["m.onnx", "-o", ""], "--output: not the name"),
    (["", "-o", "o"], "MODEL: not the name"),
    (["m.onnx", "-o", "o", "--target", "pdp11"], "--target pdp11: no such target; choose one of"),
    (["m.onnx", "-o", "o", "--bits", "8"], "--bits 8: expected W<bits>A<bits>"),
    (["m.onnx", "-o", "o", "--bits", "W9A8"], "weights of 9 bits"),
    (["m.onnx", "-o", "o", "--bits", "W8A12"], "activations of 12 bits"),
    (["m.onnx", "-o", "o", "--bits", "W0A8"], "weights of 0 bits; 1 to 8 and 16"),
    (["m.onnx", "-o", "o", "--io-bits", "4"], "--io-bits 4: choose 8 or 16"),
    (["m.onnx", "-o", "o", "--layer", "conv=8"], "expected a name or pattern and bits"),
    (["m.onnx", "-o", "o", "--layer", "conv="], "expected a name or pattern and bits"),
    (["m.onnx", "-o", "o", "--layer", "W4A8"], "expected a name or pattern and bits"),
    (["m.onnx", "-o", "o", "--layer", "conv=W9"], "--layer conv=W9: weights of 9 bits"),
    (["m.onnx", "-o", "o", "--keep8", "first,middle"], "--keep8 first,middle: choose some of"),
    (["m.onnx", "-o", "o", "--rounding", "up"], "--rounding up: choose one of auto"),
    (["m.onnx", "-o", "o", "--rounding-sweeps", "0"], "expected a whole number above 0"),
    (["m.onnx", "-o", "o", "--weight-clip", "max"], "--weight-clip max: choose one of"),
    (["m.onnx", "-o", "o", "--equalize", "yes"], "--equalize yes: choose one of"),
    (["m.onnx", "-o", "o", "--scale", "shift"], "--scale shift: choose one of single-shift"),
    (["m.onnx", "-o", "o", "--threshold", "min"], "--threshold min: choose one of max, mse"),
    (["m.onnx", "-o", "o", "--optimize", "all"], "--optimize all: choose one of size"),
    (["m.onnx", "-o", "o", "--io", "stack"], "--io stack: choose one of auto"),
    (["m.onnx", "-o", "o", "--ram-budget", "64KB"], "--ram-budget 64KB: expected bytes"),
    (["m.onnx", "-o", "o", "--ram-budget", "0"], "--ram-budget 0: expected bytes"),
    (["m.onnx", "-o", "o", "--percentile", "99"], "--threshold percentile"),
    (["m.onnx", "-o", "o", "--percentile", "nan"], "from 50 to 100"),
    (["m.onnx", "-o", "o", "--percentile", "101"], "from 50 to 100"),
    (["m.onnx", "-o", "o", "--mean", "one"], "--mean one: expected a number"),
    (["m.onnx", "-o", "o", "--mean=1,,2"], "expected a number"),
    (["m.onnx", "-o", "o", "--mean", "inf"], "expected a number"),
    (["m.onnx", "-o", "o", "--std", "0"], "above 0"),
    (["m.onnx", "-o", "o", "--std", "1", "-2"], "above 0"),
    (["m.onnx", "-o", "o", "--name", "9 lives"], "--name '9 lives'"),
    (["m.onnx", "-o", "o", "--name", "int"], "not usable as a prefix"),
    (["m.onnx", "-o", "o", "--shape", "1,2"], "expected NAME=1,3,32,32"),
    (["m.onnx", "-o", "o", "--shape", "x=1,-2"], "expected NAME=1,3,32,32"),
    (["m.onnx", "-o", "o", "--shape", "x=1,0"], "dimensions must be"),
    (["m.onnx", "-o", "o", "--shape", "x=1,9999999999"], "dimensions must be"),
    (["m.onnx", "-o", "o", "--stop-after", "lunch"], "--stop-after lunch: the passes are"),
    (["m.onnx", "-o", "o", "--config", "no.toml"], "there is no such file"),
    (["m.onnx", "-o", "o", "--dump-ir", __file__], "it is a file"),
    (["inspect"], "required: MODEL.onnx"),
    (["inspect", "m.onnx", "--shape", "x"], "expected NAME="),
    (["inspect", "m.onnx", "-o", "o"], "unrecognized"),
    (["eval", "out"], "required: --data"),
    (["eval", "out", "--data", "d.npz", "--limit", "0"], "--limit 0: expected a whole number"),
    (["eval", "out", "--data", "d.npz", "--jobs", "-1"], "--jobs -1: expected a whole number"),
    (["eval", "out", "--data", "d.npz", "--std", "-1"], "above 0"),
]


@pytest.mark.parametrize(("args", "message"), USAGE, ids=[" ".join(a) for a, _ in USAGE])
def test_bad_usage_is_one_line_and_exit_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*args)
    assert done.code == 2
    assert message in done.error
    assert list(tmp_path.iterdir()) == []


def test_long_and_hostile_arguments_are_shortened(run: Run) -> None:
    name = "\x1b[31m\n" + "x" * 10_000
    done = run("m.onnx", "-o", "o", "--" + name)
    assert done.code == 2
    assert len(done.error) < 500
    assert "\x1b" not in done.err


# -- bad models and data ---------------------------------------------------------------------------


def test_a_missing_model_is_exit_1(run: Run, out: Path) -> None:
    done = run("no/such.onnx", "-o", out)
    assert done.code == 1
    assert "such.onnx: there is no such file" in done.error
    assert not out.exists()


def test_a_broken_model_leaves_out_as_it_was(run: Run, path: Path, out: Path) -> None:
    assert run(path, "-o", out, "-q").code == 0
    before = snapshot(out)
    path.write_bytes(path.read_bytes()[:100])
    done = run(path, "-o", out, "--force")
    assert done.code == 1
    assert "tiny.onnx: " in done.error
    assert snapshot(out) == before


def test_unsupported_nodes_are_listed(run: Run, path: Path, out: Path) -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["d"], name="determinant"),
        helper.make_node("CumSum", ["x", "k"], ["z"], name="running"),
    ]
    onnx.save(model("m", nodes, {"x": (1, 3, 3)}, ["d", "z"], {"k": np.array(1, np.int64)}), path)
    done = run(path, "-o", out)
    assert done.code == 1
    assert "determinant" in done.error
    assert "running" in done.error
    assert not out.exists()


def test_many_hints_are_cut_to_ten_lines(
    run: Run, path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise QccError("too much\nof everything", [f"hint {i}\n" + "h" * 5000 for i in range(40)])

    monkeypatch.setattr(driver, "compile_proto", refuse)
    done = run(path, "-o", out)
    assert done.code == 1
    lines = done.error.splitlines()
    assert lines[0] == "qcc: error: too much of everything"
    assert len(lines) == MAX_LINES
    assert lines[-1] == "  ... and 32 more"
    assert max(map(len, lines)) < 1000


def test_bad_calibration_data_is_exit_1(run: Run, path: Path, out: Path) -> None:
    np.savez(path.parent / "calib.npz", image=np.zeros((4, 7, 7), np.float32))
    done = run(path, "-o", out, "--calib", path.parent / "calib.npz")
    assert done.code == 1
    assert "calib.npz" in done.error
    assert not out.exists()


def test_an_unknown_shape_name_is_refused(run: Run, path: Path, out: Path) -> None:
    done = run(path, "-o", out, "--shape", "picture=1,2,6,5")
    assert done.code in (1, 2)
    assert "image" in done.error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_refused_before_any_work(
    run: Run, tmp_path: Path, out: Path
) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    done = run("no.onnx", "-o", out)
    tmp_path.chmod(stat.S_IRWXU)
    assert "no permission" in done.error


def test_out_is_checked_before_the_model_is_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = run("no.onnx", "-o", tmp_path / "file")
    assert "a file of that name exists" in done.error


# -- defects, interrupts, broken pipes -------------------------------------------------------------


def failing(error: BaseException) -> Callable[..., Any]:
    def raise_it(*args: object, **more: object) -> Any:
        raise error

    return raise_it


def test_a_defect_is_one_line(
    run: Run, path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "observe", failing(ZeroDivisionError("by\nzero")))
    done = run(path, "-o", out)
    assert done.code == 1
    assert "internal error: ZeroDivisionError: by?zero (please report; -vv" in done.error
    assert not out.exists()


def test_vv_shows_the_traceback_of_a_defect(
    run: Run, path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "observe", failing(ZeroDivisionError("x")))
    done = run(path, "-o", out, "-vv")
    assert done.code == 1
    assert "Traceback" in done.err
    assert "qcc: error: internal error: ZeroDivisionError: x" in done.err


def test_running_out_of_memory_is_said_plainly(
    run: Run, path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "observe", failing(MemoryError()))
    done = run(path, "-o", out)
    assert done.code == 1
    assert "out of memory" in done.error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_quiet_and_leaves_out_as_it_was(
    run: Run, path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(driver, "observe", lambda *args: signal.raise_signal(number))
    done = run(path, "-o", out)
    assert (done.code, done.out, done.err) == (128 + number, "", "")
    assert not out.exists()
    assert signal.getsignal(number) == before


def test_an_interrupt_that_a_library_turns_into_an_error_is_still_one(
    run: Run, path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow(*args: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("cannot import name") from None

    monkeypatch.setattr(driver, "observe", swallow)
    done = run(path, "-o", out)
    assert (done.code, done.err) == (130, "")


def test_an_interrupt_while_out_is_written_comes_too_late(
    run: Run, path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qcc.codegen import write

    stage = write._stage

    def interrupted(*args: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        stage(*args)

    monkeypatch.setattr(write, "_stage", interrupted)
    assert run(path, "-o", out, "-q").code == 0
    assert (out / "manifest.json").exists()


def qcc(*args: object, **settings: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "qcc", *map(str, args)]
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.Popen(command, text=True, env=environment, **settings)


def test_a_terminated_process_leaves_nothing(path: Path, out: Path) -> None:
    np.save(path.parent / "calib.npy", normal((20_000, *SHAPE[1:])))
    args = (path, "-o", out, "-v", "--calib", path.parent / "calib.npy")
    with qcc(*args, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert "read" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert printed == ""
    assert "Traceback" not in said
    assert "error" not in said
    assert [p.name for p in out.parent.iterdir()] == ["model"]


def test_a_broken_pipe_is_quiet(path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with qcc("inspect", path, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")


def test_a_full_disk_behind_stdout_is_one_line(path: Path) -> None:
    with (
        Path("/dev/full").open("w") as full,
        qcc("inspect", path, stdout=full, stderr=subprocess.PIPE) as process,
    ):
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said == "qcc: error: No space left on device\n"


def test_help_and_version_need_nothing_heavy() -> None:
    code = """
import sys
from qcc.cli import main
assert main(["--version"]) == 0
assert main(["--help"]) == 0
assert main(["--bits", "x"]) == 2
heavy = {"numpy", "onnx", "onnxruntime", "networkx", "jinja2", "rich"} & set(sys.modules)
assert not heavy, heavy
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"qcc {__version__}\nusage: qcc MODEL.onnx -o OUT")


@pytest.mark.parametrize("command", [[], ["inspect"], ["eval"]])
def test_help_is_printed_on_stdout(run: Run, command: list[str]) -> None:
    done = run(*command, "--help")
    assert (done.code, done.err) == (0, "")
    assert "--json" in done.out


def test_list_targets_names_all_and_what_cortex_m_is(run: Run) -> None:
    done = run("--list-targets")
    assert done.code == 0
    assert {line.split(" ")[0] for line in done.out.splitlines()} >= set(load_targets())
    assert "cortex-m0" in done.out


# -- the configuration file ------------------------------------------------------------------------

EVERYTHING = """
output = "o"
target = "cortex-m7"
calib = "data"
mean = [-0.5, 1]
std = 2
name = "net"
bits = "W8A8"
scale = "double-shift"
threshold = "percentile"
percentile = 99.5
per-layer = true
keep-constant-channels = true
keep-biases = true
optimize = "speed"
io = "caller"
ram-budget = "64K"
flash-budget = "1M"
shape = { x = [1, 3, 4, 4], "y=z" = [1, 2] }
layer = [{ match = "conv_*", bits = "W4A8" }, { match = "fc", bits = "A16" }]
io-bits = 16
keep8 = ["first", "depthwise"]
rounding = "learned"
rounding-sweeps = 7
weight-clip = "mse"
equalize = "off"
force = true
json = true
dump-ir = "ir"
stop-after = "quantize"
verbose = 1
quiet = false
"""


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "qcc.toml").write_text(text, encoding="utf-8")
        return tmp_path / "qcc.toml"

    return write


def test_a_file_says_what_options_say(config: Callable[[str], Path]) -> None:
    file = config(EVERYTHING)
    folder = file.parent
    typed = parse_compile(
        ["m.onnx", "-o", f"{folder}/o", "--target", "cortex-m7", "--calib", f"{folder}/data",
         "--mean", "-0.5", "1", "--std", "2", "--name", "net", "--bits", "W8A8", "--scale",
         "double-shift", "--threshold", "percentile", "--percentile", "99.5", "--per-layer",
         "--keep-constant-channels", "--keep-biases", "--optimize", "speed", "--io", "caller",
         "--ram-budget", "65536", "--flash-budget", "1048576", "--shape", "x=1,3,4,4",
         "--shape", "y=z=1,2", "--force",
         "--layer", "conv_*=W4A8", "--layer", "fc=A16", "--io-bits", "16", "--keep8",
         "first,depthwise", "--rounding", "learned", "--rounding-sweeps", "7", "--weight-clip",
         "mse", "--equalize", "off",
         "--json", "--dump-ir", f"{folder}/ir", "--stop-after", "quantize", "-v"]
    )  # fmt: skip
    assert typed.config.shapes == {"x": (1, 3, 4, 4), "y=z": (1, 2)}
    assert typed.config.mean == (-0.5, 1.0)
    assert typed.config.layers == (LayerBits("conv_*", 4, 8), LayerBits("fc", None, 16))
    assert parse_compile(["m.onnx", "--config", str(file)]) == typed


def test_every_option_has_its_key(run: Run) -> None:
    words = set(re.findall(r"--([a-z][a-z0-9-]+)", run("--help").out.split("options:")[1]))
    keys = {line.split(" = ")[0] for line in EVERYTHING.strip().splitlines()}
    assert words - keys == {"help", "config", "version", "list-targets"}


def test_the_command_line_wins(config: Callable[[str], Path]) -> None:
    file = config(EVERYTHING)
    args = ["m.onnx", "--config", str(file), "-o", "mine", "--scale", "fixed-point", "--no-force",
            "--no-per-layer", "--shape", "x=1,3,8,8", "-q", "--threshold", "max"]  # fmt: skip
    options = parse_compile(args)
    assert options.out == Path("mine")
    assert options.config.scale == "fixed-point"
    assert options.config.per_channel
    assert options.config.threshold == "max"
    assert options.config.shapes == {"x": (1, 3, 8, 8), "y=z": (1, 2)}
    assert not options.force
    assert options.verbosity == -1


def test_tables_of_layers_are_read_in_order(config: Callable[[str], Path]) -> None:
    tables = '[[layer]]\nmatch = "a=*"\nbits = "W2A4"\n[[layer]]\nmatch = "b"\nbits = "w1"\n'
    short = 'layer = { "a=*" = "W2A4", b = "W1" }\n'
    for text in (tables, short, 'layer = ["a=*=W2A4", "b=W1"]'):
        options = parse_compile(["m", "-o", "o", "--config", str(config(text)), "--layer", "c=A1"])
        assert options.config.layers == (
            LayerBits("a=*", 2, 4), LayerBits("b", 1, None), LayerBits("c", None, 1),
        )  # fmt: skip


def test_nothing_needs_to_keep_eight_bits() -> None:
    assert parse_compile(["m.onnx", "-o", "o", "--keep8", "none"]).config.keep8 == ()


BAD_FILES = [
    ('[[layer]]\nmatch = "a"', "every [[layer]] has match"),
    ('[[layer]]\nmatch = "a"\nbits = 4', "every [[layer]] has match"),
    ('layer = "a"', "--layer a: expected a name or pattern"),
    ('[[layer]]\nmatch = "a"\nbits = "W33"', "weights of 33 bits"),
    ('tarpet = "host"', "no option is called 'tarpet'"),
    ("no-force = true", "no option is called"),
    ('config = "other.toml"', "no option is called"),
    ('force = "yes"', "force is true or false"),
    ("verbose = 7", "verbose is true or false"),
    ('bits = "W99A8"', "weights of 99 bits"),
    ("mean = { a = 1 }", "mean: expected a text"),
    ("std = [1, 0]", "above 0"),
    ("scale = true", "scale: expected a text"),
    ("target = [", "not a TOML file"),
    ("[tool]\nx = 1", "no option is called 'tool'"),
    ("shape = [1, 2]", "expected NAME="),
    ("shape = 'x=1,2'\nshape = 'y=1'", "not a TOML file"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES, ids=[t for t, _ in BAD_FILES])
def test_a_bad_file_is_named_with_its_key(
    run: Run, config: Callable[[str], Path], out: Path, text: str, message: str
) -> None:
    done = run("m.onnx", "-o", out, "--config", config(text))
    assert done.code == 2
    assert done.error.startswith("qcc: error: --config qcc.toml: ")
    assert message in done.error


def test_a_misspelt_key_has_a_suggestion(run: Run, config: Callable[[str], Path]) -> None:
    assert "did you mean threshold?" in run("m", "--config", config('treshold = "max"')).error


def test_a_file_compiles_a_model(
    run: Run, config: Callable[[str], Path], path: Path, tmp_path: Path
) -> None:
    file = config('output = "built"\ntarget = "host"\nquiet = true\n')
    assert run(path, "--config", file).code == 0
    assert json.loads((tmp_path / "built" / "manifest.json").read_text())["target"] == "host"


# -- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "mean"),
    [
        (["--mean", "-1"], (-1.0,)),
        (["--mean", "-1,2e-3"], (-1.0, 0.002)),
        (["--mean", "1,", "-.5", "3"], (1.0, -0.5, 3.0)),
        (["--mean=-1,2"], (-1.0, 2.0)),
    ],
)
def test_numbers_may_be_negative_and_separate(args: list[str], mean: tuple[float, ...]) -> None:
    options = parse_compile([*args, "m.onnx", "-o", "o"])
    assert options.config.mean == mean
    assert options.model == Path("m.onnx")


def test_a_model_may_begin_with_a_dash() -> None:
    assert parse_compile(["-o", "o", "--", "-m.onnx"]).model == Path("-m.onnx")


def test_list_targets_wants_no_model() -> None:
    with pytest.raises(ListTargets):
        parse_compile(["--list-targets"])


# -- eval ------------------------------------------------------------------------------------------


@pytest.fixture
def compiled(run: Run, path: Path, out: Path) -> Path:
    """The model compiled on raw values 0..255 that mean (raw - 128) / 64, and data beside it."""
    rng = np.random.default_rng(5)
    raw = rng.integers(0, 256, (60, *SHAPE[1:])).astype(np.uint8)
    scores = float_scores((raw.astype(np.float32) - 128) / 64)
    np.savez(path.parent / "data.npz", image=raw, y=scores.argmax(axis=1))
    args = ["--calib", path.parent / "data.npz", "--mean", "128", "--std", "64"]
    assert run(path, "-o", out, "-q", *args).code == 0
    return out


def float_scores(x: Any) -> Any:
    from qcc.frontend.float_model import FloatModel

    runner = FloatModel(tiny())
    return np.stack([runner.run({"image": v[None]})["scores"][0] for v in x])


def test_eval_preprocesses_as_the_compilation_did(run: Run, path: Path, compiled: Path) -> None:
    data = path.parent / "data.npz"
    found = json.loads(run("eval", compiled, "--data", data, "--jobs", 1, "--json").out)
    assert found["samples"] == 60
    assert found["integer_accuracy"] > 0.9
    args = ["--data", data, "--jobs", 1, "--json", "--mean", 0, "--std", 1]
    other = json.loads(run("eval", compiled, *args).out)
    assert other["integer_accuracy"] < 0.9


def test_eval_shows_a_table(run: Run, path: Path, compiled: Path) -> None:
    args = ["--data", path.parent / "data.npz", "--model", path, "--limit", 20, "--jobs", 1]
    done = run("eval", compiled, *args)
    assert done.code == 0
    want = evaluate(compiled, path.parent / "data.npz", model=path, limit=20, jobs=1)
    assert want.float_accuracy == 1.0
    assert want.integer_accuracy is not None
    assert re.search(rf"accuracy +100\.00 % +{100 * want.integer_accuracy:.2f} %", done.out)
    assert "20 samples" in done.out
    assert "dB" in done.out


def test_eval_without_a_compiled_model_is_refused(run: Run, tmp_path: Path) -> None:
    done = run("eval", tmp_path, "--data", "d.npz")
    assert done.code == 1
    assert "manifest.json" in done.error


def test_eval_options() -> None:
    options = parse_eval(["out", "--data", "d", "--mean", "-1", "2", "--std", "3", "--limit", "7"])
    assert (options.mean, options.std, options.limit) == ((-1.0, 2.0), (3.0,), 7)
    assert parse_eval(["out", "--data", "d"]).mean is None


# -- code size -------------------------------------------------------------------------------------


def test_the_size_is_that_of_the_objects(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(
        "static const int t[100] = {1};\nint f(int i);\nint f(int i) { return t[i]; }\n"
    )
    (tmp_path / "b.c").write_text("int g(int i);\nint g(int i) { return i + 1; }\n")
    size = measure(tmp_path, ["a.c", "b.c"], resolve("generic"))
    assert isinstance(size, CodeSize)
    assert 400 <= size.rodata < 450
    assert 0 < size.text < 200
    assert size.data == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.c", "b.c"]


def test_no_size_without_a_compiler_or_with_bad_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.c").write_text("no C\n")
    assert measure(tmp_path, ["a.c"], resolve("generic")) is None
    (tmp_path / "a.c").write_text("int x;\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert measure(tmp_path, ["a.c"], resolve("generic")) is None
