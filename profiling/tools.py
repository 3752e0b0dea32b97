"""The tools of a target: is it there, what is it called, run it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from qcc.codegen.target import Target
from qcc.errors import QccError, short

SECONDS = 900.0
"""What one tool or one emulation may take."""


def core_of(target: Target) -> str:
    """The processor that *target* compiles for: ``cortex-m4``; else its architecture."""
    for flag in target.cflags:
        if flag.startswith("-mcpu="):
            return flag.removeprefix("-mcpu=").split("+")[0]
    for flag in target.cflags:
        if flag.startswith("-march="):
            return flag.removeprefix("-march=")
    return target.name


def binutil(target: Target, name: str) -> str:
    """``arm-none-eabi-objdump`` of ``arm-none-eabi-gcc``."""
    return re.sub(r"(gcc|clang|cc)$", name, target.cc)


def need(tool: str, package: str) -> None:
    """Refuse to go on without *tool*.

    Raises:
        QccError: it is not on the PATH; names the Debian package that has it.
    """
    if shutil.which(tool) is None:
        raise QccError(f"{tool} is not installed; on Debian or Ubuntu: apt install {package}")


def run(command: Sequence[str], text: str = "", folder: Path | None = None) -> str:
    """What *command* prints, given *text* as its input.

    Raises:
        QccError: it is missing, fails, or takes too long; says the first line of its complaint.
    """
    try:
        done = subprocess.run(
            command,
            input=text,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as e:
        raise QccError(f"{command[0]}: stopped after {SECONDS:.0f} s") from e
    except OSError as e:
        raise QccError(f"{command[0]}: {e.strerror or e}") from e
    if done.returncode:
        raise QccError(f"{command[0]} fails: {complaint(done.stderr)}")
    return done.stdout


def complaint(text: str) -> str:
    """The line of *text* that says what is wrong: the first error, else the first line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line]
    return short((errors or lines or ["no message"])[0], 200)
