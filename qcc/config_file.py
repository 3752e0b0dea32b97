"""A compilation's choices as a --config file: what ``qcc MODEL -o OUT --config FILE`` reads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from qcc.codegen.names import model_name
from qcc.config import Config

_DEFAULTS = Config()


def config_text(config: Config, calib: Path | None, folder: Path) -> str:
    """The TOML file, in *folder*, of all choices that are not the default.

    Args:
        config: the choices; ``dump_ir``, ``stop_after`` and ``vectors`` are none of a file's.
        calib: the calibration data that ``--calib`` names.
        folder: where the file will be: paths in it start there.
    """
    values: dict[str, Any] = {"target": config.target, "bits": config.bits}
    if calib is not None:
        values["calib"] = os.path.relpath(calib.absolute(), folder.absolute())
    if config.name and model_name(config.name) == config.name:
        values["name"] = config.name
    for key in ("mean", "std"):
        if (numbers := getattr(config, key)) is not None:
            values[key] = list(numbers)
    for key in (
        "io-bits", "rounding", "rounding-sweeps", "weight-clip", "equalize", "scale", "threshold",
        "optimize", "io", "ram-budget", "flash-budget",
    ):  # fmt: skip
        field = key.replace("-", "_")
        if getattr(config, field) != getattr(_DEFAULTS, field):
            values[key] = getattr(config, field)
    if config.threshold == "percentile":
        values["percentile"] = config.percentile
    if config.keep8 != _DEFAULTS.keep8:
        values["keep8"] = ",".join(config.keep8) or "none"
    for key, is_set in (
        ("per-layer", not config.per_channel),
        ("keep-constant-channels", not config.constant_channels),
        ("keep-biases", not config.bias_correction),
    ):
        if is_set:
            values[key] = True
    lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
    if config.shapes:
        shapes = ", ".join(f"{_toml(n)} = {_toml(list(s))}" for n, s in config.shapes.items())
        lines.append(f"shape = {{ {shapes} }}")
    for rule in config.layers:
        widths = (("W", rule.weight_bits), ("A", rule.act_bits))
        bits = "".join(f"{letter}{n}" for letter, n in widths if n is not None)
        lines += ["", "[[layer]]", f"match = {_toml(rule.match)}", f"bits = {_toml(bits)}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """JSON's texts, numbers and lists are TOML's too."""
    return json.dumps(value)
