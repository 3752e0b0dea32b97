"""The errors that a user sees as one line: ``qcc: error: ...``, exit 1 or 2.

Anything else that escapes is a defect of qcc.
"""

from __future__ import annotations

from collections.abc import Sequence


class QccError(Exception):
    """Bad model or data (exit 1): *message* is one sentence, *hints* follow it a line each."""

    exit_code = 1

    def __init__(self, message: str, hints: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hints = tuple(hints)


class UsageError(QccError):
    """Bad option or combination of options (exit 2)."""

    exit_code = 2


class UnsupportedError(QccError):
    """The model holds something that qcc does not compile; says which nodes and why."""


class PassError(QccError):
    """A pass failed or broke the graph: a defect of qcc, named with its pass and node."""


def short(name: str, limit: int = 60) -> str:
    """*name* on one printable line, the middle cut out when it is longer than *limit*."""
    clean = "".join(c if c.isprintable() else "?" for c in name)
    if len(clean) <= limit:
        return clean
    half = (limit - 3) // 2
    return f"{clean[:half]}...{clean[-half:]}"
