"""What tests need to build for boards and to run there: tools, or a reason to skip.

On a developer's machine a missing tool skips the test; in CI (``CI=true``) it fails, because there
``make setup-cross`` has installed all of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from qcc.codegen.target import load_boards, load_targets

CROSS = [(t.name, b) for t in load_targets().values() if not t.native for b in t.boards]
"""Every (target, board) that needs an emulator."""

TIMEOUT_S = 900
RUN_TIMEOUT_S = 600
"""Shorter: make must be there to end an emulator that hangs."""


def need(*tools: str) -> None:
    """Skip the calling test when a tool is missing; fail it in CI."""
    for tool in tools:
        if shutil.which(tool):
            continue
        reason = f"{tool} is not installed (make setup-cross)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def need_board(target: str, board: str) -> None:
    """Skip or fail unless code for *target* can be built and run on *board*."""
    need("make", load_targets()[target].cc, *load_boards()[board].run[:1])


def make(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``make -C out``: the result, whatever the exit status."""
    # A make around pytest must not hand down its flags (-j, -s) or its variables.
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    command = ["make", "-C", str(out), *arguments]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )


def run_on_board(out: Path, board: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Build the check program of the project *out* for *board* and run it there.

    The exit status is 0 if it is bit-exact. *arguments* go to make, e.g. ``LAYERS=1``. The tools
    must be there: call ``need_board`` first.
    """
    return make(out, "run", f"BOARD={board}", f"RUN_TIMEOUT={RUN_TIMEOUT_S}", *arguments)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The verdict of a check: its last line, make's own messages left out."""
    lines = [line for line in done.stdout.splitlines() if not line.startswith("make")]
    return lines[-1] if lines else ""
