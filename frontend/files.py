"""Open files that a user or a model names, without trusting what they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened(path: Path, flags: int = 0) -> Iterator[tuple[int, os.stat_result]]:
    """The file descriptor and the status of *path*, whatever it is, open for reading.

    Not blocking: a fifo would wait for a writer before it can be seen to be one.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    try:
        yield fd, os.fstat(fd)
    finally:
        os.close(fd)


def read_at(fd: int, offset: int, size: int) -> bytes:
    """Up to *size* bytes from *offset*; fewer only at the end of the file."""
    with os.fdopen(fd, "rb", closefd=False) as file:
        file.seek(offset)
        return file.read(size)
