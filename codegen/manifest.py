"""manifest.json: what a build system or a test kit has to know of a compiled model.

Follows the public contract (docs/guide.md, "manifest.json"); extend it, break it never.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qcc import __version__
from qcc.codegen.emit import model_sources
from qcc.codegen.program import Layer, Port
from qcc.codegen.target import Target

STACK_BYTES = 512
"""Most stack that a run takes below its caller, with the portable kernels, at any -O level of the
compilers that the tests use: they measure it, compiled and on every board."""

STACK_BYTES_ISA = 1024
"""The same with kernels for instruction sets, whose tiles are described on the stack."""

if TYPE_CHECKING:
    from qcc.driver import Compilation


def manifest(done: Compilation, files: Sequence[str] = ()) -> dict[str, Any]:
    """The manifest as JSON values; *files* is every path of OUT."""
    p = done.program
    return {
        "qcc": __version__,
        "name": p.name,
        "target": done.target.name,
        "entry": f"{p.name}_run",
        "header": f"{p.name}.h",
        "sources": list(model_sources(p)),
        "include_dirs": ["."],
        "inputs": [_port(port) for port in p.inputs],
        "outputs": [_port(port) for port in p.outputs],
        "arena_bytes": p.arena_bytes,
        "arena_lower_bound": p.arena_bound,
        "arena_bound": p.arena_bound,
        "arena_bound_any_order": p.arena_bound_any_order,
        "arena_align": p.arena_align,
        "bands": None if p.bands is None else asdict(p.bands),
        "stack_bytes": stack_bytes(done.target),
        "flash_bytes": {"code": None, "weights": p.weight_bytes},
        "weights_before": p.weight_bytes_before,
        "macs": p.macs,
        "macs_before": p.macs_before,
        "parameters": p.parameters,
        "parameters_before": p.parameters_before,
        "calibrated": done.calibrated,
        "notes": list(p.notes),
        "instructions_estimate": sum(x.instructions for x in p.layers) if done.trade else None,
        "trade": {
            profile: {"instructions": c.instructions, "flash_bytes": c.flash_bytes}
            for profile, c in done.trade.items()
        },
        "layers": [_layer(done, layer) for layer in p.layers],
        "buffers": [
            {
                "tensor": b.tensor,
                "kind": b.kind,
                "offset": b.offset,
                "bytes": b.bytes,
                "layers": [b.first, b.last],
                "over": [{"tensor": tensor, "lead": lead} for tensor, lead in b.over],
            }
            for b in p.buffers
        ],
        "options": _options(done),
        "files": sorted({*files, "manifest.json"}),
        "source_sha256": done.source_sha256,
    }


def stack_bytes(target: Target) -> int:
    """What a caller must leave below itself on *target*."""
    return STACK_BYTES_ISA if target.isa else STACK_BYTES


def manifest_text(done: Compilation, files: Sequence[str] = ()) -> str:
    """The file's text."""
    return json.dumps(manifest(done, files), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _port(p: Port) -> dict[str, Any]:
    q = p.quant.qtype
    return {
        "name": p.onnx_name,
        "c_name": p.name,
        "shape": list(p.shape),
        "layout": p.layout,
        "axes": list(p.perm),
        "onnx_shape": list(p.onnx_shape),
        "dtype": q.dtype,
        "bits": q.bits,
        "signed": q.signed,
        "scale": p.quant.scalar,
        "zero_point": p.quant.zero_point,
        "axis": None,
        "arena_offset": p.offset,
    }


def _layer(done: Compilation, layer: Layer) -> dict[str, Any]:
    sqnr = done.sqnr_db.get(layer.output_tensor)
    multiplier = layer.multiplier if layer.scale_mode != "single-shift" else None
    return {
        "name": layer.name,
        "c_name": layer.c_name,
        "op": layer.op,
        "onnx_nodes": list(layer.sources),
        "kernel": layer.calls[0].kernel.function if layer.calls else "",
        "kernel_family": layer.kernel,
        "kernel_why": layer.why,
        "instructions_estimate": layer.instructions,
        "scratch_bytes": layer.scratch_bytes,
        "shape": list(layer.output_shape),
        "macs": layer.macs,
        "weight_bits": layer.weight_bits,
        "act_bits": layer.output_type.bits,
        "weight_bytes": layer.weight_bytes,
        "scale": layer.scale,
        "zero_point": layer.zero_point,
        "scale_mode": layer.scale_mode,
        "shift": list(layer.shift) if layer.shift else None,
        "multiplier": list(multiplier) if multiplier else None,
        "acc_bound": layer.acc_bound,
        "sqnr_db": round(sqnr, 2) if sqnr is not None and math.isfinite(sqnr) else None,
    }


def _options(done: Compilation) -> dict[str, Any]:
    c = done.config
    return {
        "bits": c.bits,
        "io_bits": c.io_bits,
        "layers": [asdict(rule) for rule in c.layers],
        "keep8": list(c.keep8),
        "rounding": c.rounding,
        "rounding_sweeps": c.rounding_sweeps,
        "weight_clip": c.weight_clip,
        "equalize": c.equalize,
        "scale": c.scale,
        "threshold": c.threshold,
        "percentile": c.percentile,
        "per_channel": c.per_channel,
        "optimize": c.optimize,
        "io": c.io,
        "ram_budget": c.ram_budget,
        "constant_channels": c.constant_channels,
        "bias_correction": c.bias_correction,
        "mean": None if c.mean is None else list(c.mean),
        "std": None if c.std is None else list(c.std),
        "shapes": {k: list(v) for k, v in sorted(c.shapes.items())},
    }
