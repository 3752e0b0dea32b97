"""Put files on disk: all or nothing.

A new folder appears by one rename. Into an existing one (empty, or ``--force``) each file is moved
whole, with interrupts held back; files of an earlier compilation that are not written again go.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from qcc.errors import QccError, UsageError

PROFILE = "profile.json"
"""What ``qcc profile`` adds to a folder: of one compilation, so it goes with the next."""


def check_writable(folder: Path, force: bool) -> None:
    """Refuse an output folder before any work is done.

    Raises:
        UsageError: it exists and is not empty, and *force* is not set.
        QccError: it is no folder, or cannot be written.
    """
    parent = folder.absolute()
    try:
        if folder.exists() and not folder.is_dir():
            raise QccError(f"output {folder}: a file of that name exists; choose another folder")
        if folder.is_dir() and any(folder.iterdir()) and not force:
            raise UsageError(f"output {folder}: the folder is not empty; --force overwrites it")
        while not parent.exists():
            parent = parent.parent
    except OSError as e:
        raise QccError(f"output {folder}: {e.strerror or e}") from e
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise QccError(f"output {folder}: no permission to write in {parent}")


def write_files(files: Mapping[str, str], folder: Path) -> None:
    """Write *files* (relative path -> text) under *folder*.

    Raises:
        QccError: the disk is full, or similar; *folder* is then as it was.
    """
    target = folder.absolute()
    made: Path | None = None
    try:
        made = _make_parents(target)
        # In an existing folder, which may be a file system of its own, else beside the new one.
        where = target if target.exists() else target.parent
        staged = Path(tempfile.mkdtemp(prefix=".qcc-", dir=where))
        try:
            _stage(files, staged)
            with _uninterrupted():
                _commit(files, staged, target)
            made = None
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as e:
        raise QccError(f"output {folder}: {e.strerror or e}") from e
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _make_parents(target: Path) -> Path | None:
    """Make the parents of *target*; the topmost new one, to be removed on failure."""
    parent, top = target.parent, None
    while not parent.exists():
        top, parent = parent, parent.parent
    target.parent.mkdir(parents=True, exist_ok=True)
    return top


def _stage(files: Mapping[str, str], staged: Path) -> None:
    staged.chmod(0o755)
    for name, text in files.items():
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def _commit(files: Mapping[str, str], staged: Path, target: Path) -> None:
    if not target.exists():
        staged.rename(target)
        return
    stale = set(_earlier_files(target)) - set(files)
    for name in files:  # whatever is in the way shows before anything is replaced
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (target / name).is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{name} is a folder there; remove it")
    for name in files:
        (staged / name).replace(target / name)
    for name in stale:
        path = target / name
        if path.is_file() and path.resolve().is_relative_to(target.resolve()):
            path.unlink()


def _earlier_files(target: Path) -> list[str]:
    """What the manifest of an earlier compilation says it wrote, and its profile."""
    try:
        names = json.loads((target / "manifest.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [PROFILE, *(n for n in names if isinstance(n, str))] if isinstance(names, list) else []


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block is done."""
    held = {signal.SIGINT, signal.SIGTERM}
    old = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
