"""``qcc simulate``: the bits of the C from a folder alone, and what it refuses."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import qcc
from qcc.api import CompiledModel
from qcc.cli import MAX_LINES, main
from qcc.codegen.write import write_files
from qcc.driver import output_files
from qcc.errors import QccError
from qcc.graph_file import REFERENCE
from qcc.ir import Array
from qcc.ops.examples import model, normal
from qcc.simulate import write_npz
from tests.build import compiled

DIGITS = Path(__file__).parents[1] / "examples" / "digits"


def convolution() -> onnx.ModelProto:
    """NCHW in ONNX, NHWC in C; every size differs."""
    nodes = [
        helper.make_node("Conv", ["in/image:0", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["out/maps:0"]),
    ]
    constants = {"w": normal((3, 2, 3, 3), 1, 0.3)}
    return model("net", nodes, {"in/image:0": (1, 2, 6, 5)}, ["out/maps:0"], constants)


def two_inputs() -> onnx.ModelProto:
    """Two inputs and two outputs; one output is called as np.savez calls its first parameter."""
    nodes = [
        helper.make_node("Add", ["a.b", "c"], ["file"]),
        helper.make_node("Sub", ["a.b", "c"], ["d"]),
    ]
    return model("pair", nodes, {"a.b": (1, 4), "c": (1, 4)}, ["file", "d"])


def written(proto: onnx.ModelProto, folder: Path, **options: Any) -> Path:
    write_files(output_files(compiled(proto, **options)), folder)
    return folder


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(convolution(), tmp_path_factory.mktemp("net") / "out")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(two_inputs(), tmp_path_factory.mktemp("pair") / "out")


class Result:
    """What one call of ``qcc simulate`` did."""

    def __init__(self, code: int, out: str, err: str, file: Path) -> None:
        self.code, self.out, self.err, self.file = code, out, err, file

    @property
    def arrays(self) -> dict[str, Array]:
        assert self.code == 0, self.err
        with np.load(self.file, allow_pickle=False) as found:
            return dict(found)

    @property
    def error(self) -> str:
        """One error in the form that the contract states, and nothing written."""
        assert self.code in (1, 2)
        lines = self.err.splitlines()
        assert lines
        assert len(lines) <= MAX_LINES
        assert lines[0].startswith("qcc: error: ")
        assert all(line.startswith("  ") for line in lines[1:])
        assert "Traceback" not in self.err
        assert "internal error" not in self.err
        assert self.out == ""
        assert not [p for p in self.file.parent.glob(".*") if p.name.startswith(".qcc")]
        return self.err


Simulate = Callable[..., Result]


@pytest.fixture
def simulate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Simulate:
    def call(out: Path, arrays: Mapping[str, Array] | Path, *args: object) -> Result:
        data = arrays if isinstance(arrays, Path) else tmp_path / "x.npz"
        if not isinstance(arrays, Path):
            write_npz(arrays, data)
        file = tmp_path / "y.npz"
        command = ["simulate", out, "--input", data, "--output", file, *args]
        code = main([str(a) for a in command])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err, file)

    return call


def integers(out: Path, samples: int = 7) -> dict[str, Array]:
    """Random samples over the whole format of every input, (N, *C shape)."""
    rng = np.random.default_rng(2)
    graph = CompiledModel(out).graph
    found: dict[str, Array] = {}
    for name in graph.inputs:
        q, origin = graph.quant(name).qtype, graph.tensor(name).origin
        assert origin is not None
        shape = (samples, *graph.shape(name))
        found[origin.name] = rng.integers(q.qmin, q.qmax + 1, shape).astype(q.dtype)
    return found


def host(out: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The same from the C on this machine."""
    model = CompiledModel(out)
    values = model.run([inputs[p["name"]] for p in model.manifest["inputs"]])
    model.close()
    return {p["name"]: y for p, y in zip(model.manifest["outputs"], values, strict=True)}


def assert_equal(found: Mapping[str, Array], want: Mapping[str, Array]) -> None:
    assert list(found) == list(want)
    for name, y in want.items():
        assert np.array_equal(found[name], y), name


# -- the same bits as the C ------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["net", "pair"])
def test_it_computes_what_the_c_computes(
    simulate: Simulate, which: str, request: pytest.FixtureRequest
) -> None:
    out: Path = request.getfixturevalue(which)
    x = integers(out, samples=70)
    found = simulate(out, x).arrays
    assert_equal(found, host(out, x))
    manifest = json.loads((out / "manifest.json").read_text())
    assert [str(y.dtype) for y in found.values()] == [p["dtype"] for p in manifest["outputs"]]
    assert all(len(np.unique(y)) > 5 for y in found.values())


def test_sixteen_bits(simulate: Simulate, tmp_path: Path) -> None:
    out = written(convolution(), tmp_path / "out", act_bits=16)
    x = integers(out)
    found = simulate(out, x).arrays
    assert found["out/maps:0"].dtype.itemsize == 2
    assert_equal(found, host(out, x))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Array]:
    """The example compiled, and real samples: its own where scikit-learn is installed."""
    folder = tmp_path_factory.mktemp("digits")
    try:
        import sklearn  # noqa: F401
    except ImportError:
        samples = normal((60, 1, 1, 8, 8), 4)
    else:
        subprocess.run([sys.executable, str(DIGITS / "data.py"), str(folder)], check=True)
        with np.load(folder / "digits_eval.npz") as found:
            samples = found["x"].reshape(-1, 1, 1, 8, 8)
    calibration = {"image": samples[:50].astype(np.float32)}
    qcc.compile(DIGITS / "digits.onnx", folder / "out", calibration=calibration).close()
    return folder / "out", samples


def test_digits_equal_the_c_bit_for_bit(simulate: Simulate, digits: tuple[Path, Array]) -> None:
    out, samples = digits
    compiled = CompiledModel(out)
    (x,) = compiled.quantize([samples])
    x = x.astype(compiled.manifest["inputs"][0]["dtype"])
    found = simulate(out, {"image": x}).arrays
    assert_equal(found, host(out, {"image": x}))
    assert len(np.unique(found["logits"].reshape(len(x), -1).argmax(axis=1))) > 1


def test_digits_from_real_numbers(simulate: Simulate, digits: tuple[Path, Array]) -> None:
    out, samples = digits
    found = simulate(out, {"image": samples}, "--float").arrays["logits"]
    compiled = CompiledModel(out)
    assert np.array_equal(found, compiled(samples))
    assert np.array_equal(found, compiled(samples, backend="reference"))
    compiled.close()
    assert found.dtype == np.float32


def test_real_numbers_are_in_the_layout_of_onnx(simulate: Simulate, net: Path) -> None:
    x = normal((5, 1, 2, 6, 5), 9)
    found = simulate(net, {"x": x}, "--float").arrays["out/maps:0"]
    assert found.shape == (5, 1, 3, 6, 5)
    model = CompiledModel(net)
    assert np.array_equal(found, model(x))
    (q,) = model.quantize([x])
    again = simulate(net, {"x": q}, "--force").arrays["out/maps:0"]
    assert again.shape == (5, 1, 6, 5, 3)
    scale = model.manifest["outputs"][0]["scale"]
    want = (again.astype(np.float64) * scale).astype(np.float32)
    assert np.array_equal(found, want.transpose(0, 1, 4, 2, 3))
    model.close()


def test_a_model_opened_from_disk_runs_the_reference(net: Path) -> None:
    x = normal((4, 1, 2, 6, 5), 3)
    opened = CompiledModel(net)
    assert opened.compilation is None
    assert np.array_equal(opened(x, backend="reference"), opened(x))
    assert opened(x[0], backend="reference").shape == (1, 3, 6, 5)  # type: ignore[union-attr]
    opened.close()


# -- names and shapes ------------------------------------------------------------------------------


def test_arrays_go_by_onnx_name_or_c_name(simulate: Simulate, pair: Path) -> None:
    x = integers(pair)
    want = simulate(pair, x).arrays
    assert set(want) == {"file", "d"}
    by_c_name = {"a_b": x["a.b"], "c": x["c"]}
    assert_equal(simulate(pair, by_c_name, "--force").arrays, want)
    swapped = {"c": x["c"], "y": np.zeros(3), "a.b": x["a.b"]}
    assert_equal(simulate(pair, swapped, "--force").arrays, want)


@pytest.mark.parametrize("name", ["in/image:0", "in_image_0", "anything"])
def test_one_input_takes_any_name(simulate: Simulate, net: Path, name: str) -> None:
    x = integers(net)
    want = simulate(net, x).arrays
    arrays = {name: x["in/image:0"], "y": np.arange(7)}
    assert_equal(simulate(net, arrays, "--force").arrays, want)


def test_a_npy_serves_one_input(simulate: Simulate, net: Path, tmp_path: Path) -> None:
    x = integers(net)
    np.save(tmp_path / "x.npy", x["in/image:0"])
    assert_equal(simulate(net, tmp_path / "x.npy").arrays, host(net, x))


def test_outputs_are_stacked_as_inputs_are(simulate: Simulate, net: Path) -> None:
    x = integers(net, samples=3)["in/image:0"]
    want = simulate(net, {"x": x}).arrays["out/maps:0"]
    assert want.shape == (3, 1, 6, 5, 3)
    batch = simulate(net, {"x": x[:, 0]}, "--force").arrays["out/maps:0"]
    assert np.array_equal(batch, want[:, 0])
    one = simulate(net, {"x": x[1]}, "--force").arrays["out/maps:0"]
    assert np.array_equal(one, want[1])


def test_any_integer_type_will_do(simulate: Simulate, net: Path) -> None:
    x = integers(net)["in/image:0"]
    want = simulate(net, {"x": x}).arrays
    for dtype in (np.int64, ">i4", np.int16):
        assert_equal(simulate(net, {"x": x.astype(dtype)}, "--force").arrays, want)


# -- what is printed and written -------------------------------------------------------------------


def test_the_same_inputs_give_the_same_file(simulate: Simulate, net: Path) -> None:
    first = simulate(net, integers(net)).file.read_bytes()
    assert simulate(net, integers(net), "--force").file.read_bytes() == first


def test_json_says_what_was_written(simulate: Simulate, net: Path) -> None:
    said = json.loads(simulate(net, integers(net), "--json").out)
    assert said["samples"] == 7
    assert said["outputs"] == [{"name": "out/maps:0", "shape": [7, 1, 6, 5, 3], "dtype": "uint8"}]


def test_a_table_shows_the_outputs(simulate: Simulate, pair: Path) -> None:
    done = simulate(pair, integers(pair))
    for text in ("7 samples", "file", "7x1x4", "int8", str(done.arrays["d"].min())):
        assert text in done.out


def test_quiet_says_nothing(simulate: Simulate, net: Path) -> None:
    done = simulate(net, integers(net), "-q")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_the_folder_is_only_read(simulate: Simulate, net: Path) -> None:
    before = {p: p.read_bytes() for p in net.rglob("*") if p.is_file()}
    assert simulate(net, integers(net)).code == 0
    assert {p: p.read_bytes() for p in net.rglob("*") if p.is_file()} == before


def test_an_existing_file_needs_force(simulate: Simulate, net: Path) -> None:
    file = simulate(net, integers(net)).file
    before = file.read_bytes()
    refused = simulate(net, integers(net, samples=2))
    assert refused.code == 2
    assert "--force replaces it" in refused.error
    assert file.read_bytes() == before
    assert simulate(net, integers(net, samples=2), "--force").code == 0
    assert file.read_bytes() != before


def test_the_output_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    for name in (tmp_path, tmp_path / "no" / "y.npz"):
        args = ["simulate", str(tmp_path), "--input", "x.npz", "--output", str(name), "--force"]
        assert main(args) == 1


def test_a_full_disk_leaves_nothing(
    simulate: Simulate, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = simulate(net, integers(net)).file.read_bytes()

    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    data = simulate(net, integers(net), "--force").file.parent / "x.npz"
    monkeypatch.setattr(np.lib.format, "write_array", full)
    done = simulate(net, data, "--force")
    assert "No space left" in done.error
    assert done.file.read_bytes() == before


def test_an_interrupt_leaves_nothing(
    simulate: Simulate, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcc.api.run_int", lambda *a: signal.raise_signal(signal.SIGINT))
    done = simulate(net, integers(net))
    assert (done.code, done.out, done.err) == (130, "", "")
    assert not done.file.exists()


# -- refused ---------------------------------------------------------------------------------------

X = np.zeros((2, 1, 6, 5, 2), np.int8)

BAD: dict[str, tuple[dict[str, Array], str]] = {
    "real": ({"x": X.astype(np.float32)}, "--float takes real numbers"),
    "complex": ({"x": X.astype(np.complex64)}, "is complex64"),
    "shape": ({"x": X[..., :1]}, "takes (1, 6, 5, 2) in C's order (NHWC)"),
    "layout": ({"x": X.transpose(0, 1, 4, 2, 3)}, "transpose every sample by (0, 2, 3, 1)"),
    "no samples": ({"x": X[:0]}, "has no samples"),
    "above": ({"x": X.astype(np.int16) + 128}, "holds 128; input 'in/image:0' takes -127..127"),
    "below": (
        {"x": X - np.int8(127) - np.int8(1)},
        "holds -128; input 'in/image:0' takes -127..127",
    ),
    "huge": ({"x": np.full(X.shape, 2**64 - 1, np.uint64)}, f"holds {2**64 - 1}"),
    "two": ({"x": X, "z": X}, "no array for input 'in/image:0'; give it that name, or in_image_0"),
    "none": ({}, "it holds nothing"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arrays_are_refused(simulate: Simulate, net: Path, what: str) -> None:
    arrays, message = BAD[what]
    done = simulate(net, arrays)
    assert done.code == 1
    assert message in done.error
    assert not done.file.exists()


def test_bad_real_arrays_are_refused(simulate: Simulate, net: Path) -> None:
    x = np.zeros((2, 1, 2, 6, 5), np.float32)
    assert "in ONNX's layout" in simulate(net, {"x": x[:, :, :, :, 0]}, "--float").error
    x[1] = np.nan
    assert "NaN" in simulate(net, {"x": x}, "--float").error


def test_several_inputs_need_their_names_and_as_many_samples(
    simulate: Simulate, pair: Path
) -> None:
    x = integers(pair)
    assert "no array for input 'c'" in simulate(pair, {"a.b": x["a.b"], "e": x["c"]}).error
    assert "'c' has 2" in simulate(pair, {"a.b": x["a.b"], "c": x["c"][:2]}).error


def test_hostile_data_files_are_refused(simulate: Simulate, net: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "pickle.npz", x=np.array([{}], object))
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "pickle.npz").read_bytes()[:100])
    os.mkfifo(tmp_path / "fifo.npz")
    for name in ("pickle", "text", "cut", "fifo", "missing"):
        assert f"{name}.npz" in simulate(net, tmp_path / f"{name}.npz").error
    assert "this is no file" in simulate(net, tmp_path).error


def test_a_folder_without_the_graph_is_refused(
    simulate: Simulate, tmp_path: Path, net: Path
) -> None:
    assert "manifest.json" in simulate(tmp_path, integers(net)).error
    out = copied(net, tmp_path / "out")
    (out / REFERENCE).unlink()
    assert "compile the model again" in simulate(out, integers(net)).error
    with pytest.raises(QccError, match="no check/reference"):
        CompiledModel(out)(normal((1, 2, 6, 5)), backend="reference")


def test_a_damaged_graph_is_refused(simulate: Simulate, tmp_path: Path, net: Path) -> None:
    out = copied(net, tmp_path / "out")
    file = out / REFERENCE
    text = file.read_text()
    file.write_text(text[:-100])
    assert "reference.json: the saved graph is damaged" in simulate(out, integers(net)).error
    file.write_bytes(b"\xff\xfe")
    assert "cannot be read" in simulate(out, integers(net)).error


def test_the_graph_of_another_compilation_is_refused(
    simulate: Simulate, tmp_path: Path, net: Path, pair: Path
) -> None:
    out = copied(net, tmp_path / "out")
    (out / REFERENCE).write_bytes((pair / REFERENCE).read_bytes())
    assert "different compilations" in simulate(out, integers(net)).error
    (out / "manifest.json").write_text('{"entry": 1, "inputs": [3]}')
    assert "different compilations" in simulate(out, integers(net)).error


def test_a_graph_whose_numbers_do_not_fit_is_refused(
    simulate: Simulate, tmp_path: Path, net: Path
) -> None:
    out = copied(net, tmp_path / "out")
    values = json.loads((out / REFERENCE).read_text())
    attrs = next(n for n in values["nodes"] if n["op"] == "conv2d")["attrs"]
    attrs["rescale"] |= {"mult": [1, 1], "shift": [3, 3]}
    (out / REFERENCE).write_text(json.dumps(values))
    assert "reference.json cannot be run" in simulate(out, integers(net)).error
    attrs["rescale"] |= {"mult": [1], "shift": [-20]}
    attrs["clip"] = [-5, 1000]
    (out / REFERENCE).write_text(json.dumps(values))
    assert "cannot be run: node" in simulate(out, integers(net)).error


def test_changed_weights_change_the_outputs(simulate: Simulate, tmp_path: Path, net: Path) -> None:
    out = copied(net, tmp_path / "out")
    want = simulate(net, integers(net)).arrays["out/maps:0"]
    values = json.loads((out / REFERENCE).read_text())
    weights = next(t for t in values["tensors"] if len(t["shape"]) == 4 and "data" in t)
    weights["data"] = base64.b64encode(b"\1" * int(np.prod(weights["shape"]))).decode()
    (out / REFERENCE).write_text(json.dumps(values))
    found = simulate(out, integers(net), "--force").arrays["out/maps:0"]
    assert not np.array_equal(found, want)


def copied(folder: Path, to: Path) -> Path:
    for path in folder.rglob("*"):
        if path.is_file():
            (to / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (to / path.relative_to(folder)).write_bytes(path.read_bytes())
    return to


def test_help_is_printed_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--help"]) == 0
    said = capsys.readouterr()
    assert {"--input", "--output", "--float", "--force", "--json"} <= set(said.out.split())
    assert said.err == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["simulate"], "required: OUT, --input, --output"),
        (["simulate", "out", "--input", "x.npz"], "required: --output"),
        (["simulate", "out", "--input", "", "--output", "y"], "--input: not the name"),
        (["simulate", "out", "--inp", "x", "--output", "y"], "required: --input"),
    ],
)
def test_bad_usage_is_exit_2(
    capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert main(args) == 2
    assert message in capsys.readouterr().err
