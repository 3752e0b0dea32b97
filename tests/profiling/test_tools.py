"""What is missing or does not fit is one sentence that says what to do."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

import qcc
from qcc.cli import main
from qcc.errors import QccError, UsageError
from qcc.profiling import engine
from tests.emulators import need
from tests.profiling.programs import loops


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of nothing but what a test puts into this folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    return folder


def stub(folder: Path, *names: str) -> None:
    """Programs that are there, and do nothing."""
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)


def refusal(out: Path, **options: str) -> QccError:
    with pytest.raises(QccError) as e:
        qcc.profile(out, **options)  # type: ignore[arg-type]
    assert "\n" not in e.value.message
    return e.value


def without_unicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "unicorn", None)


@pytest.mark.parametrize(
    ("target", "compiler", "package"),
    [
        ("cortex-m4", "arm-none-eabi-gcc", "gcc-arm-none-eabi"),
        ("riscv32", "riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf"),
    ],
)
def test_a_missing_compiler(
    only: Path, tmp_path: Path, target: str, compiler: str, package: str
) -> None:
    stub(only, "qemu-system-arm", "qemu-system-riscv32", "gcc")
    said = refusal(loops(tmp_path / "out", target)).message
    assert said == f"{compiler} is not installed; on Debian or Ubuntu: apt install {package}"


@pytest.mark.parametrize("chosen", ["auto", "qemu"])
def test_a_missing_emulator(
    only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    without_unicorn(monkeypatch)
    stub(only, "arm-none-eabi-gcc", "gcc")
    error = refusal(loops(tmp_path / "out"), engine=chosen)
    assert error.message == (
        "qemu-system-arm is not installed; on Debian or Ubuntu: apt install qemu-system-arm"
    )
    assert any("pip install 'qcc[profile]'" in hint for hint in error.hints) == (chosen == "auto")


def test_a_missing_emulator_that_nothing_replaces(only: Path, tmp_path: Path) -> None:
    stub(only, "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc", "gcc")
    for target, package in (("cortex-m55", "qemu-system-arm"), ("riscv32", "qemu-system-misc")):
        error = refusal(loops(tmp_path / target, target))
        assert error.message.endswith(f"apt install {package}")
        assert error.hints == ()


def test_a_missing_host_compiler(
    only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_unicorn(monkeypatch)
    stub(only, "arm-none-eabi-gcc", "qemu-system-arm")
    assert "plugin of QEMU; on Debian or Ubuntu: apt install gcc" in (
        refusal(loops(tmp_path / "out")).message
    )


def test_unicorn_takes_the_place_of_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the cross compiler and the Python package are installed."""
    pytest.importorskip("unicorn")
    need("arm-none-eabi-gcc")
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("gcc", "objdump", "addr2line"):
        real = shutil.which(f"arm-none-eabi-{tool}")
        assert real is not None
        # Not a link: gcc looks for its parts beside the file that is run.
        stub(folder, f"arm-none-eabi-{tool}")
        (folder / f"arm-none-eabi-{tool}").write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    assert qcc.profile(loops(tmp_path / "out")).engine == "unicorn"


def test_missing_unicorn_names_the_pip_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_unicorn(monkeypatch)
    said = refusal(loops(tmp_path), engine="unicorn").message
    assert said == "the emulator Unicorn is not installed: pip install 'qcc[profile]'"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"engine": "bochs"}, "--engine bochs: choose one of auto, qemu, unicorn"),
        ({"target": "cortex-m55", "engine": "unicorn"}, "it has no Helium instructions"),
        ({"target": "riscv32", "engine": "unicorn"}, "only for Cortex-M"),
        ({"target": "host"}, "--target host: it runs on this machine"),
        ({"target": "z80"}, "--target z80: no such target"),
        ({"board": "virt"}, "--board virt: cortex-m4 does not run there; choose one of mps2-an386"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, str], says: str) -> None:
    error = refusal(loops(tmp_path), **options)
    assert isinstance(error, UsageError)
    assert says in error.message


def test_code_for_no_core_needs_one(tmp_path: Path) -> None:
    error = refusal(loops(tmp_path, "generic"))
    assert isinstance(error, UsageError)
    assert "name a core, for example --target cortex-m4" in error.message


def test_more_samples_than_there_are(only: Path, tmp_path: Path) -> None:
    stub(only, "arm-none-eabi-gcc", "qemu-system-arm", "gcc")
    out = loops(tmp_path / "out")
    with pytest.raises(UsageError, match=r"--samples 3: .* holds 2; choose 1 to 2"):
        qcc.profile(out, samples=3)


def test_a_folder_without_samples(only: Path, tmp_path: Path) -> None:
    stub(only, "arm-none-eabi-gcc", "qemu-system-arm", "gcc")
    out = loops(tmp_path / "out")
    (out / "check" / "vectors.h").write_text("nothing\n")
    assert "holds no samples; compile the model again" in refusal(out).message
    (out / "check" / "vectors.h").unlink()
    assert "no check/vectors.h; compile the model again" in refusal(out).message


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["profile"], 2, "OUT"),
        (["profile", "nowhere"], 1, "no manifest.json of qcc"),
        (["profile", ".", "--samples", "0"], 2, "--samples 0: expected a whole number above 0"),
        (["profile", ".", "--fast"], 2, "--fast"),
    ],
)
def test_the_command_line_refuses(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, says: str
) -> None:
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("qcc: error: ")
    assert says in captured.err
