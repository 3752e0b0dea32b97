"""What the user chose: frozen, passed explicitly, never read from globals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from qcc.errors import UsageError

if TYPE_CHECKING:  # numpy and networkx come with it: `qcc --help` must not wait for them
    from qcc.ir import Array, Shape

ScaleMode = Literal["single-shift", "double-shift", "fixed-point"]
Threshold = Literal["max", "mse", "kl", "percentile"]
Optimize = Literal["size", "balanced", "speed"]
SCALE_MODES: tuple[ScaleMode, ...] = get_args(ScaleMode)
THRESHOLDS: tuple[Threshold, ...] = get_args(Threshold)
OPTIMIZE: tuple[Optimize, ...] = get_args(Optimize)


@dataclass(frozen=True, slots=True)
class Config:
    """One compilation's choices.

    Attributes:
        weight_bits: width of weights, 2 to 8.
        act_bits: width of activations, 2 to 8 or 16.
        scale: how accumulators are rescaled (the arithmetic contract, docs/arithmetic.md).
        threshold: how activation ranges are chosen from histograms.
        percentile: the share of values kept by ``threshold="percentile"``, in percent.
        per_channel: weights have one scale per output channel, otherwise one per layer.
        calibration: graph input (ONNX name) -> float32 samples, shape (N, *ONNX shape).
        mean, std: what made *calibration* from raw data, ``(raw - mean) / std``, one number or one
            per channel; recorded so that an evaluation does the same. None: 0 and 1.
        shapes: ONNX input name -> shape that replaces the model's own.
        optimize: what kernel selection prefers.
        flash_budget: bytes that tables and kernels may take together; None: no limit.
        constant_channels: remove channels that are provably constant.
        bias_correction: correct biases by the mean quantization error on calibration data.
        dump_ir: folder that receives the graph's text after every pass.
        stop_after: name of the pass to stop after (with *dump_ir*).
        vectors: samples for ``make check``, one of them of random integers; at least 2 are made.
    """

    target: str = "generic"
    name: str | None = None
    weight_bits: int = 8
    act_bits: int = 8
    scale: ScaleMode = "single-shift"
    threshold: Threshold = "mse"
    percentile: float = 99.99
    per_channel: bool = True
    calibration: Mapping[str, Array] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    shapes: Mapping[str, Shape] = field(default_factory=lambda: {})
    optimize: Optimize = "balanced"
    flash_budget: int | None = None
    constant_channels: bool = True
    bias_correction: bool = True
    dump_ir: Path | None = None
    stop_after: str | None = None
    vectors: int = 4

    def __post_init__(self) -> None:
        """Refuse what the command line cannot give.

        Raises:
            UsageError: naming the option and its choices.
        """
        choices: tuple[tuple[str, str, tuple[str, ...]], ...] = (
            ("scale", self.scale, SCALE_MODES),
            ("threshold", self.threshold, THRESHOLDS),
            ("optimize", self.optimize, OPTIMIZE),
        )
        for option, value, known in choices:
            if value not in known:
                raise UsageError(f"--{option} {value}: choose one of {', '.join(known)}")
        if self.vectors < 1:
            raise UsageError(f"vectors {self.vectors}: expected 1 or more")

    @property
    def bits(self) -> str:
        """The widths as written on the command line, e.g. W8A8."""
        return f"W{self.weight_bits}A{self.act_bits}"


def parse_bits(text: str) -> tuple[int, int]:
    """(weight bits, activation bits) of a text like ``W8A8``.

    Raises:
        UsageError: if the text is malformed or a width is not supported.
    """
    match = re.fullmatch(r"[wW](\d+)[aA](\d+)", text)
    if not match:
        raise UsageError(f"--bits {text}: expected W<bits>A<bits>, for example W8A8")
    weight, act = int(match[1]), int(match[2])
    if not 2 <= weight <= 8:
        raise UsageError(f"--bits {text}: weights of {weight} bits; 2 to 8 are supported")
    if not (2 <= act <= 8 or act == 16):
        raise UsageError(f"--bits {text}: activations of {act} bits; 2 to 8 and 16 are supported")
    return weight, act
