"""How many bytes the generated C takes on its target, where the target's compiler is installed.

A measurement of the machine that runs qcc: it is shown, and never written into OUT.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcc.codegen.target import Target

_FLAGS = ("-std=c99", "-O2")
_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class CodeSize:
    """Bytes of one build.

    Attributes:
        text: machine code.
        rodata: constant tables.
        data: initialized and zeroed variables; qcc generates none.
        compiler: how it was built, to be shown.
    """

    text: int
    rodata: int
    data: int
    compiler: str


def measure(out: Path, sources: Sequence[str], target: Target) -> CodeSize | None:
    """The size of the objects of *sources* in *out*; None where it cannot be measured."""
    if not (shutil.which(target.cc) and shutil.which(target.size)):
        return None
    folder = out.resolve()
    try:
        with tempfile.TemporaryDirectory(prefix="qcc-") as temporary:
            command = [target.cc, *_FLAGS, *target.cflags, "-I", str(folder), "-c"]
            _run([*command, *(str(folder / s) for s in sources)], temporary)
            objects = sorted(str(p) for p in Path(temporary).glob("*.o"))
            table = _run([target.size, "-A", *objects], temporary)
    except (OSError, subprocess.SubprocessError):
        return None
    return _parse(table, f"{target.cc} {' '.join(_FLAGS[1:])}")


def _run(command: list[str], folder: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, timeout=_SECONDS
    )
    return done.stdout


def _parse(table: str, compiler: str) -> CodeSize:
    """Sums over the lines ``section size address`` of ``size -A``."""
    total = {".text": 0, ".rodata": 0, ".data": 0, ".bss": 0}
    for line in table.splitlines():
        words = line.split()
        section = next((s for s in total if words and f"{words[0]}.".startswith(f"{s}.")), None)
        if section and len(words) == 3 and words[1].isdigit():
            total[section] += int(words[1])
    return CodeSize(total[".text"], total[".rodata"], total[".data"] + total[".bss"], compiler)
