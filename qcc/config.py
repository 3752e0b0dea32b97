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
Io = Literal["auto", "arena", "caller"]
Rounding = Literal["auto", "nearest", "learned"]
WeightClip = Literal["auto", "none", "mse", "kl", "output"]
Equalize = Literal["auto", "on", "off"]
Keep = Literal["first", "last", "depthwise", "sums"]
SCALE_MODES: tuple[ScaleMode, ...] = get_args(ScaleMode)
THRESHOLDS: tuple[Threshold, ...] = get_args(Threshold)
OPTIMIZE: tuple[Optimize, ...] = get_args(Optimize)
IO: tuple[Io, ...] = get_args(Io)
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
WEIGHT_CLIPS: tuple[WeightClip, ...] = get_args(WeightClip)
EQUALIZE: tuple[Equalize, ...] = get_args(Equalize)
KEEP8: tuple[Keep, ...] = get_args(Keep)


@dataclass(frozen=True, slots=True)
class LayerBits:
    """Widths for the layers and tensors whose name fits *match*, a pattern as of file names.

    Attributes:
        match: compared with names of ONNX nodes and tensors, and of the graph's nodes.
        weight_bits: of the weights of matching layers; None: as without this.
        act_bits: of what matching layers write, and of matching inputs; None: as without this.
    """

    match: str
    weight_bits: int | None = None
    act_bits: int | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """One compilation's choices.

    Attributes:
        weight_bits: width of weights, 1 to 8 or 16.
        act_bits: width of activations, 1 to 8 or 16.
        io_bits: width of the model's inputs and outputs, where it is not *act_bits*.
        layers: widths of single layers and tensors; the last that matches counts.
        keep8: what keeps 8 bits where *weight_bits* or *act_bits* is below 6
            (``qcc.passes.choose_widths``).
        rounding: of weights: to the nearest integer, or as the error of the layer's output is
            least ("learned"); "auto": learned below 8 bits where there is calibration data.
        rounding_sweeps: at most so often every weight is looked at ("learned").
        weight_clip: how far weight ranges may be narrowed: not at all, by the squared error of the
            weights, by divergence, or by the error of the layer's output; "auto": by the output
            below 8 bits where there is calibration data, by squared error below 6 bits otherwise.
        equalize: scale channels of neighbouring layers to like ranges first; "auto": for
            activations below 6 bits, where there is calibration data.
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
        io: whether inputs and outputs may be in the arena: all ("arena"), none ("caller"), or
            those for which the arena need not grow ("auto").
        ram_budget: bytes that the arena may take: layers at the beginning run in bands of rows
            where it would take more; None: no limit.
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
    io_bits: int | None = None
    layers: tuple[LayerBits, ...] = ()
    keep8: tuple[Keep, ...] = KEEP8
    rounding: Rounding = "auto"
    rounding_sweeps: int = 20
    weight_clip: WeightClip = "auto"
    equalize: Equalize = "auto"
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
    io: Io = "auto"
    ram_budget: int | None = None
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
            ("io", self.io, IO),
            ("rounding", self.rounding, ROUNDINGS),
            ("weight-clip", self.weight_clip, WEIGHT_CLIPS),
            ("equalize", self.equalize, EQUALIZE),
            *(("keep8", kept, KEEP8) for kept in self.keep8),
        )
        for option, value, known in choices:
            if value not in known:
                raise UsageError(f"--{option} {value}: choose one of {', '.join(known)}")
        if self.vectors < 1:
            raise UsageError(f"vectors {self.vectors}: expected 1 or more")
        if self.rounding_sweeps < 1:
            raise UsageError(f"--rounding-sweeps {self.rounding_sweeps}: expected 1 or more")
        _check_widths(self.bits, self.weight_bits, self.act_bits)
        _check_widths(f"io_bits {self.io_bits}", None, self.io_bits)
        for rule in self.layers:
            _check_widths(f"--layer {rule.match}", rule.weight_bits, rule.act_bits)

    @property
    def bits(self) -> str:
        """The widths as written on the command line, e.g. W8A8."""
        return f"W{self.weight_bits}A{self.act_bits}"


def parse_bits(text: str) -> tuple[int, int]:
    """(weight bits, activation bits) of a text like ``W8A8``.

    Raises:
        UsageError: if the text is malformed or a width is not supported.
    """
    match = re.fullmatch(r"[wW](\d{1,3})[aA](\d{1,3})", text)
    if not match:
        raise UsageError(f"--bits {text}: expected W<bits>A<bits>, for example W8A8")
    weight, act = int(match[1]), int(match[2])
    _check_widths(f"--bits {text}", weight, act)
    return weight, act


def parse_layer(text: str) -> LayerBits:
    """Widths of some layers, from a text like ``conv_*=W4A8``; either width may be left out.

    Raises:
        UsageError: if the text is malformed or a width is not supported.
    """
    pattern, equals, bits = text.rpartition("=")
    match = re.fullmatch(r"(?:[wW](\d{1,3}))?(?:[aA](\d{1,3}))?", bits)
    if not pattern or not equals or not bits or not match:
        raise UsageError(
            f"--layer {text}: expected a name or pattern and bits, for example conv_*=W4A8 or fc=W8"
        )
    weight, act = (int(found) if found else None for found in match.groups())
    _check_widths(f"--layer {text}", weight, act)
    return LayerBits(pattern, weight, act)


def _check_widths(where: str, weight: int | None, act: int | None) -> None:
    for what, bits in (("weights", weight), ("activations", act)):
        if bits is not None and not (1 <= bits <= 8 or bits == 16):
            raise UsageError(f"{where}: {what} of {bits} bits; 1 to 8 and 16 are supported")
