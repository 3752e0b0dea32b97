"""Whole networks under the eyes of compilers: warnings, sanitizers, objects, stack, C++."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qcc.api import dequantize_ports, quantize_ports
from qcc.arith import round_half_up
from qcc.codegen.manifest import manifest
from qcc.codegen.purity import check_purity, preprocess
from qcc.codegen.target import load_targets
from qcc.codegen.write import write_files
from qcc.config import SCALE_MODES
from qcc.driver import output_files
from qcc.ir import Array
from tests.build import SANITIZE, WARNINGS, check_on_host
from tests.emulators import need
from tests.networks import NAMES, compilation

LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os")
CROSS = [t.name for t in load_targets().values() if not t.native]
STACK_GOAL = 1024
"""Bytes that kernels may take on a Cortex-M, the longest chain of calls."""

STRICT = ["-fsanitize=undefined,implicit-conversion,local-bounds", "-fsanitize-trap=all"]
"""clang's: conversions that change a value too. Traps, so no run-time library has to be there."""

FREESTANDING = ["-ffreestanding", "-fbuiltin", "-Iboards/common/libc", "-I."]
MEMORY = r"(__aeabi_)?mem(cpy|set|clr|move)[48]?"
WIDE = r"__(aeabi_(lmul|llsl|llsr|lasr)|muldi3|ashldi3|ashrdi3|lshrdi3)"
"""64-bit products and shifts, which small processors have as functions of the compiler's own."""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a compiled network and returns its folder."""

    def call(name: str, target: str = "generic", scale: str = "single-shift") -> Path:
        out = tmp_path / f"{name}-{target}-{scale}"
        write_files(output_files(compilation(name, target, scale)), out)
        return out

    return call


def run(command: list[str], folder: Path) -> str:
    """What *command* prints; it must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, " ".join(command) + "\n" + done.stderr[:4000]
    return done.stdout


# -- host compilers -------------------------------------------------------------------------------


@pytest.mark.parametrize(("cc", "level"), [("gcc", "-O0"), ("gcc", "-O3"), ("clang", "-O2")])
def test_compilers_agree(cc: str, level: str, tmp_path: Path) -> None:
    need(cc)
    said = check_on_host(compilation("medley"), tmp_path / "out", cc, [level])
    assert said.rstrip().endswith("bit-exact")


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALE_MODES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_compilers_agree_at_every_level(
    cc: str, level: str, name: str, scale: str, tmp_path: Path
) -> None:
    need(cc)
    said = check_on_host(compilation(name, scale=scale), tmp_path / "out", cc, [level])
    assert said.rstrip().endswith("bit-exact")


@pytest.mark.parametrize("flags", [SANITIZE, STRICT], ids=["gcc", "clang-strict"])
def test_sanitizers_find_nothing(flags: list[str], tmp_path: Path) -> None:
    cc = "clang" if flags is STRICT else "gcc"
    need(cc)
    done = compilation("medley", scale="fixed-point")
    assert "bit-exact" in check_on_host(done, tmp_path / "out", cc, ["-O1", *flags])


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALE_MODES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("flags", [SANITIZE, STRICT], ids=["gcc", "clang-strict"])
def test_sanitizers_find_nothing_in_any_scaling(
    flags: list[str], name: str, scale: str, tmp_path: Path
) -> None:
    cc = "clang" if flags is STRICT else "gcc"
    need(cc)
    done = compilation(name, scale=scale)
    assert "bit-exact" in check_on_host(done, tmp_path / "out", cc, ["-O1", *flags])


@pytest.mark.parametrize("name", ["digits", pytest.param("medley", marks=pytest.mark.slow)])
def test_the_analyzer_finds_nothing(name: str, write: Write) -> None:
    need("gcc")
    command = ["gcc", *WARNINGS, "-fanalyzer", "-O1", "-I.", "-c", f"{name}.c", "-o", "model.o"]
    run(command, write(name))


@pytest.mark.parametrize("scale", SCALE_MODES)
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_model_is_pure(name: str, scale: str, write: Write) -> None:
    need("gcc")
    out = write(name, scale=scale)
    assert check_purity(preprocess(out / f"{name}.c", [out])) == []


# -- C++ ------------------------------------------------------------------------------------------

CPP = """\
#include "medley_float.h"
#include "medley.h"
#include <cstdint>

alignas(MEDLEY_ARENA_ALIGN) static std::uint8_t arena[MEDLEY_ARENA_BYTES];
static decltype(medley_quantize_image(0.0f)) image[4 * 12 * 12];
static decltype(medley_quantize_vector(0.0f)) vec[6];
static decltype(MAP_TYPE) map[3 * 12 * 12];
static decltype(CLASSES_TYPE) classes[7];

int main()
{
    int (*const entry)(decltype(&image[0]), int) = nullptr;
    (void)entry;
    image[0] = medley_quantize_image(0.5f);
    vec[0] = medley_quantize_vector(-0.25f);
    const int answer = medley_run(image, vec, map, classes, arena);
    float sum = 0.0f;
    for (int i = 0; i < 7; i++) {
        sum += medley_dequantize_classes(classes[i]);
    }
    const bool sane = (sum > 0.9f) && (sum < 1.1f);
    return ((answer == 0) && sane && (medley_run(image, nullptr, map, classes, arena) < 0)) ? 0 : 1;
}
"""


@pytest.mark.parametrize("standard", ["c++11", "c++17"])
def test_headers_are_cpp_and_link_to_it(standard: str, write: Write) -> None:
    """The classes of a softmax add up to 1 for a C++ program that runs the C model."""
    need("gcc", "g++")
    out = write("medley")
    ports = {p.name: p.quant.qtype.ctype for p in compilation("medley").program.outputs}
    text = CPP.replace("decltype(MAP_TYPE)", f"std::{ports['map']}")
    text = text.replace("decltype(CLASSES_TYPE)", f"std::{ports['classes']}")
    (out / "main.cpp").write_text(text)
    warnings = [w for w in WARNINGS if not w.startswith(("-std", "-Wstrict-prototypes"))]
    run(["gcc", *WARNINGS, "-O1", "-I.", "-c", "medley.c", "-o", "model.o"], out)
    run(["g++", f"-std={standard}", *warnings, "-I.", "main.cpp", "model.o", "-o", "main"], out)
    run(["./main"], out)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_each_header_stands_alone(cc: str, name: str, write: Write) -> None:
    """Included first, alone, and twice."""
    need(cc)
    out = write(name)
    for header in (f"{name}.h", f"{name}_float.h"):
        source = out / "alone.c"
        source.write_text(f'#include "{header}"\n#include "{header}"\ntypedef int not_empty;\n')
        unused = ["-Wno-unused-function"]
        run([cc, *WARNINGS, *unused, "-I.", "-fsyntax-only", "alone.c"], out)


# -- objects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", CROSS)
def test_objects_import_no_library(target: str, write: Write) -> None:
    """What is called is memcpy and its like, and 64-bit arithmetic; nothing that knows floats."""
    t = load_targets()[target]
    nm = t.cc.removesuffix("gcc") + "nm"
    need(t.cc, nm)
    for name, scale in (("digits", "single-shift"), ("medley", "fixed-point")):
        out = write(name, target, scale)
        flags = [*WARNINGS, *t.cflags, *FREESTANDING, "-ffunction-sections", "-fdata-sections"]
        for level in ("-O2", "-Os"):
            run([t.cc, *flags, level, "-c", f"{name}.c", "-o", "model.o"], out)
            symbols = [line.split()[-2:] for line in run([nm, "model.o"], out).splitlines()]
            assert {s for kind, s in symbols if kind in "TDBRVWC"} == {f"{name}_run"}
            assert {kind for kind, _ in symbols} <= {"T", "t", "r", "U", "n"}, symbols
            imported = {s for kind, s in symbols if kind == "U"}
            helpers = r"__gnu_thumb1_case_\w+"
            strange = {s for s in imported if not re.fullmatch(f"{MEMORY}|{WIDE}|{helpers}", s)}
            assert not strange


def _frames(text: str) -> tuple[dict[str, int], dict[str, set[str]]]:
    """(function -> bytes of its frame, function -> what it calls), from -fcallgraph-info=su."""
    frames: dict[str, int] = {}
    for title, label in re.findall(r'node: \{ title: "([^"]+)" label: "([^"]*)"', text):
        if size := re.search(r"(\d+) bytes \((\w+)\)", label):
            assert size[2] == "static", label
            frames[title] = int(size[1])
    calls: dict[str, set[str]] = {}
    for source, called in re.findall(r'sourcename: "([^"]+)" targetname: "([^"]+)"', text):
        calls.setdefault(source, set()).add(called)
    return frames, calls


def _deepest(
    name: str, frames: dict[str, int], calls: dict[str, set[str]], above: tuple[str, ...] = ()
) -> int:
    assert name not in above, f"recursion: {(*above, name)}"
    below = (_deepest(c, frames, calls, (*above, name)) for c in calls.get(name, ()))
    return frames.get(name, 0) + max(below, default=0)


def test_frames_of_a_known_program_add_up() -> None:
    text = (
        'node: { title: "f" label: "f\\na.c:1\\n24 bytes (static)" }\n'
        'node: { title: "g" label: "g\\na.c:2\\n8 bytes (static)" }\n'
        'edge: { sourcename: "f" targetname: "g" label: "a.c:1" }\n'
    )
    assert _deepest("f", *_frames(text)) == 32
    with pytest.raises(AssertionError, match="recursion"):
        _deepest("f", *_frames(text + 'edge: { sourcename: "g" targetname: "f" }\n'))
    with pytest.raises(AssertionError, match="dynamic"):
        _frames('node: { title: "f" label: "f\\na.c:1\\n24 bytes (dynamic)" }\n')


@pytest.mark.parametrize("target", CROSS)
def test_the_stack_is_static_and_small(target: str, write: Write) -> None:
    """No recursion, no frame of variable size, and the longest chain as the manifest says."""
    t = load_targets()[target]
    need(t.cc)
    for name, scale in (("digits", "single-shift"), ("medley", "fixed-point")):
        out = write(name, target, scale)
        flags = [*t.cflags, *FREESTANDING, "-std=c99", "-fcallgraph-info=su", "-fstack-usage"]
        for level in ("-O2", "-Os"):
            run([t.cc, *flags, level, "-c", f"{name}.c", "-o", "model.o"], out)
            frames, calls = _frames((out / "model.ci").read_text())
            assert f"{name}_run" in frames
            used = _deepest(f"{name}_run", frames, calls)
            stated = manifest(compilation(name, target, scale))["stack_bytes"]
            assert 0 < used <= stated <= STACK_GOAL, f"{used} bytes"


# -- float helpers --------------------------------------------------------------------------------

HELPERS = """\
#include "NAME_float.h"
void in_q(const float *x, INTYPE *q, int n);
void out_r(const OUTTYPE *q, float *x, int n);
void in_q(const float *x, INTYPE *q, int n)
{
    for (int i = 0; i < n; i++) { q[i] = NAME_quantize_INPORT(x[i]); }
}
void out_r(const OUTTYPE *q, float *x, int n)
{
    for (int i = 0; i < n; i++) { x[i] = NAME_dequantize_OUTPORT(q[i]); }
}
"""


def _values(scale: float, qmin: int, qmax: int) -> Array:
    """Random reals, every step and its neighbours, and what lies far outside."""
    rng = np.random.default_rng(5)
    steps = np.arange(qmin - 3, qmax + 4) * scale
    spread = rng.uniform(steps[0], steps[-1], 20000)
    far = np.array([0.0, -0.0, 1e30, -1e30, 3.4e38, -3.4e38, 1e-40])
    return np.concatenate([spread, steps, steps + 0.49 * scale, far]).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_float_helpers_agree_with_the_python_api(name: str, write: Write) -> None:
    """Equal everywhere, but for one step where float32 cannot tell on which side of a tie it is."""
    need("gcc")
    done = compilation(name)
    out, ports = write(name), manifest(done)
    port, made = done.program.inputs[0], done.program.outputs[0]
    qin, qout = port.quant.qtype, made.quant.qtype
    text = HELPERS.replace("NAME", name).replace("INPORT", port.name).replace("OUTPORT", made.name)
    text = text.replace("INTYPE", qin.ctype).replace("OUTTYPE", qout.ctype)
    (out / "helpers.c").write_text(text)
    flags = [*WARNINGS, "-Wno-unused-function", "-O1", "-fPIC", "-shared", "-I."]
    run(["gcc", *flags, "helpers.c", "-o", "helpers.so"], out)
    library = ctypes.CDLL(str(out / "helpers.so"))

    x = _values(port.quant.scalar, qin.qmin, qin.qmax)
    q = np.zeros(len(x), qin.dtype)
    library.in_q(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(q.ctypes.data), len(x))
    flat = {**ports["inputs"][0], "axes": [0]}
    (want,) = quantize_ports([flat], [x[:, None]])
    difference = np.abs(q.astype(np.int64) - want[:, 0])
    exact = x.astype(np.float64) / port.quant.scalar
    from_tie = np.abs(exact + 0.5 - round_half_up(np.clip(exact, -1e6, 1e6) + 0.0))
    near = from_tie <= 1e-6 * np.maximum(1.0, np.abs(exact))
    assert difference.max() <= 1
    assert not difference[~near].any()
    assert near.mean() < 0.01
    assert len(np.unique(q)) == qin.qmax - qin.qmin + 1

    every = np.arange(qout.qmin, qout.qmax + 1).astype(qout.dtype)
    real = np.zeros(len(every), np.float32)
    library.out_r(ctypes.c_void_p(every.ctypes.data), ctypes.c_void_p(real.ctypes.data), len(every))
    flat = {**ports["outputs"][0], "axes": [0]}
    (back,) = dequantize_ports([flat], [every.astype(np.int64)[:, None]])
    np.testing.assert_allclose(real, back[:, 0], rtol=3e-7, atol=0)


def test_not_a_number_is_a_number_of_the_range(write: Write) -> None:
    """Converting NaN or infinity to an integer is undefined in C; the helper never does."""
    need("gcc")
    out = write("digits")
    port = compilation("digits").program.inputs[0]
    (out / "nan.c").write_text(
        '#include "digits_float.h"\n#include <math.h>\nint main(void)\n{\n'
        f"    const int lo = digits_quantize_{port.name}(-INFINITY);\n"
        f"    const int hi = digits_quantize_{port.name}(INFINITY);\n"
        f"    const int none = digits_quantize_{port.name}(NAN);\n"
        f"    return ((lo == {port.quant.qtype.qmin}) && (hi == {port.quant.qtype.qmax}) &&\n"
        "            (none >= lo) && (none <= hi)) ? 0 : 1;\n}\n"
    )
    flags = ["-std=c99", "-Wno-unused-function", "-I.", "-fsanitize=undefined,float-cast-overflow"]
    run(["gcc", *flags, "-fno-sanitize-recover=all", "nan.c", "-o", "nan"], out)
    run(["./nan"], out)
