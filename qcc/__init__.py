"""qcc: compile a trained neural network (ONNX) to portable, integer-only C."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from qcc import reference
    from qcc.api import CompiledModel, Evaluation, compile, evaluate, profile

__all__ = [
    "CompiledModel",
    "Evaluation",
    "__version__",
    "compile",
    "evaluate",
    "profile",
    "reference",
]


def __getattr__(name: str) -> Any:
    # Importing qcc must stay quick (qcc --version); the compiler is loaded on first use.
    if name == "reference":
        return import_module("qcc.reference")
    if name in __all__:
        from qcc import api

        return getattr(api, name)
    raise AttributeError(f"module 'qcc' has no attribute {name!r}")
