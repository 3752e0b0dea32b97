"""The operators of the IR, found by looking: one file, one subclass of ``Op``.

To add one: a file here with a subclass of ``Op``, and its kernel in ``runtime_c/include``.
Nothing else has to change: the reader, the verifier, the reference, the emitter and the per-op
tests all go through ``OPS``. docs/adding-an-operator.md walks through one.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from qcc.ops.base import Op

__all__ = ["ONNX_OPS", "OPS", "Op"]

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

OPS: dict[str, type[Op]] = {op.name: op for op in Op.__subclasses__()}
"""Every operator, by its IR name."""

ONNX_OPS: dict[str, type[Op]] = {t: op for op in OPS.values() for t in op.onnx_types}
"""The operator that reads each ONNX op type."""
