"""One file on disk: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from qcc.errors import QccError


def write_whole(path: Path, data: bytes) -> None:
    """Write *data* to *path*, in place of what is there.

    Raises:
        QccError: the disk is full, or similar; *path* is then as it was.
    """
    target = path.absolute()
    staged: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=".qcc-", dir=target.parent)
        staged = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        staged.chmod(0o644)
        staged.replace(target)
        staged = None
    except OSError as e:
        raise QccError(f"--output {path}: {e.strerror or e}") from e
    finally:
        if staged is not None:
            with suppress(OSError):
                staged.unlink()
