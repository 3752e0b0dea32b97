"""The command line as values: what may be written, and what a --config file says in its place.

Every option of the main form has its key in the file, the same word without the dashes; the file
is read as if its options stood before those of the command line, so one set of checks serves both
and the command line wins. Only the standard library is imported: help must be instant.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
import textwrap
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from qcc.config import (
    EQUALIZE,
    IO,
    KEEP8,
    OPTIMIZE,
    ROUNDINGS,
    SCALE_MODES,
    THRESHOLDS,
    WEIGHT_CLIPS,
    Config,
    Keep,
    parse_bits,
    parse_layer,
)
from qcc.errors import UsageError, short

COMMANDS = ("inspect", "debug", "eval", "export", "profile", "search", "simulate")

_DEFAULTS = Config()
_MAX_CONFIG_BYTES = 1 << 20
_MAX_DIM = (1 << 31) - 1
_PATHS = frozenset({"output", "calib", "dump-ir"})
_NOT_IN_FILE = frozenset({"config", "help", "version", "list-targets"})

_USAGE = """qcc MODEL.onnx -o OUT [--target T] [--calib DATA] [options]
       qcc inspect MODEL.onnx     what is in a model
       qcc debug MODEL.onnx --calib DATA   where it loses accuracy, and what helps
       qcc eval OUT --data DATA   what a compiled model is worth
       qcc export OUT -o M.onnx   the same as an ONNX model of integers (QDQ)
       qcc profile OUT            what it costs on its core, under emulation
       qcc search MODEL.onnx --calib DATA --flash 64K   bits of every layer within limits
       qcc simulate OUT --input X.npz --output Y.npz   what it computes, from the reference
       qcc COMMAND --help         options of a command"""

_EPILOG = """exit status: 0 OUT is complete; 1 bad model or data, 2 bad usage: one line says what is
wrong, and OUT is as it was."""


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """The main form. *out* is None only where nothing is to be written (--stop-after).

    Attributes:
        config: everything but the calibration samples, which *calib* holds.
        verbosity: -1 errors only, 0, 1 passes and timings, 2 tracebacks.
    """

    model: Path
    out: Path | None
    config: Config
    calib: Path | None
    force: bool
    json: bool
    verbosity: int


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """``qcc inspect``."""

    model: Path
    config: Config
    json: bool
    verbosity: int


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """``qcc eval``; mean and std of None are those of the compilation."""

    out: Path
    data: Path
    model: Path | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    limit: int | None
    jobs: int | None
    json: bool
    verbosity: int


@dataclass(frozen=True, slots=True)
class ProfileOptions:
    """``qcc profile``; target and board of None are those of the compilation."""

    out: Path
    target: str | None
    board: str | None
    engine: str
    samples: int
    json: bool
    verbosity: int


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """``qcc simulate``; *real*: inputs and outputs are real numbers in ONNX's layout."""

    out: Path
    input: Path
    output: Path
    real: bool
    force: bool
    json: bool
    verbosity: int


@dataclass(frozen=True, slots=True)
class DebugOptions:
    """``qcc debug``; *page* is the report, written over an older one with *force* only.

    Attributes:
        config: as for a compilation, without the calibration samples.
        data: samples to measure on, with labels or without; None: those of *calib*.
    """

    model: Path
    config: Config
    calib: Path | None
    data: Path | None
    limit: int
    jobs: int | None
    page: Path | None
    force: bool
    json: bool
    verbosity: int


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """``qcc search``; *folder* receives the points, and is None where nothing is to be written.

    Attributes:
        config: as for a compilation, without the calibration samples.
        data: samples to measure on, with labels or without; None: those of *calib*.
        flash, ram: bytes; *instructions*: of one inference.
        least: accuracy in percent, or where it is not above 0 points that may be lost.
        widths: that weights may have.
        points: budgets that are tried.
    """

    model: Path
    config: Config
    calib: Path | None
    data: Path | None
    flash: int | None
    ram: int | None
    instructions: int | None
    least: float | None
    widths: tuple[int, ...]
    points: int
    limit: int
    jobs: int | None
    folder: Path | None
    force: bool
    json: bool
    verbosity: int


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """``qcc export``; *integers*: inputs and outputs are those of the C."""

    out: Path
    output: Path
    opset: int
    integers: bool
    force: bool
    json: bool
    verbosity: int


class ListTargets(Exception):
    """``--list-targets``: not an error."""


def parse_compile(argv: Sequence[str]) -> CompileOptions:
    """The options of the main form, those of ``--config`` merged in.

    Raises:
        UsageError: naming the option, or the file and its key.
        ListTargets: that is all the user wants.
    """
    args = _merged(_compile_parser(), argv)
    if args.list_targets:
        raise ListTargets
    if args.model is None:
        raise UsageError("no model given", ["usage: qcc MODEL.onnx -o OUT", "see qcc --help"])
    if args.output is None and args.stop_after is None:
        raise UsageError("no output folder given: -o OUT names it")
    return CompileOptions(
        args.model, args.output, _config(args), args.calib, args.force, args.json, args.verbosity
    )


def _merged(parser: _Parser, argv: Sequence[str], skip: Sequence[str] = ()) -> argparse.Namespace:
    """What is typed, after what a --config file says of a compilation, its options *skip* aside."""
    argv = _joined_numbers(argv)
    typed = parser.parse_args(argv)
    args = typed
    if typed.config is not None and not typed.list_targets:
        found = _file_tokens(_compile_parser(), typed.config)
        kept = [token for token in found if token.partition("=")[0] not in skip]
        args = parser.parse_args([*kept, *argv])
    if typed.percentile is not None and args.threshold != "percentile":
        raise UsageError("--percentile: it needs --threshold percentile")
    return args


def parse_debug(argv: Sequence[str]) -> DebugOptions:
    """The options of ``qcc debug``: those of a compilation, and what it is measured on.

    Raises:
        UsageError: naming the option, or the file and its key.
    """
    parser = _study_parser(
        "debug",
        "[--eval DATA] [--bits W4A8] [-o REPORT.html] [options]",
        "Measure where a model loses accuracy when it is quantized, layer by layer, and try what\n"
        "would help. The options are those of a compilation, which this is not: no C is made.",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=_count("--limit"),
        default=256,
        help="measure on the first N samples (default: 256)",
    )
    args = _merged(parser, argv, _WRITING)
    _check_study("debug", args)
    return DebugOptions(
        args.model, _config(args), args.calib, args.eval, args.limit, args.jobs,
        args.output, args.force, args.json, args.verbosity,
    )  # fmt: skip


def parse_search(argv: Sequence[str]) -> SearchOptions:
    """The options of ``qcc search``: those of a compilation, and the limits.

    Raises:
        UsageError: naming the option, or the file and its key.
    """
    parser = _study_parser(
        "search",
        "[--eval DATA] [--flash 64K] [--ram 32K] [--min-accuracy -1.0] [-o DIR] [options]",
        "Find out how many bits the weights of every layer need: the smallest programs for every\n"
        "accuracy, each compiled and measured. The other options are those of a compilation.",
        ("DIR", "folder for the points: a --config file for each, search.json, search.svg"),
    )
    add = parser.add_argument
    add("--flash", metavar="BYTES", type=_bytes("--flash"), help="for tables and kernels at most")
    add("--ram", metavar="BYTES", type=_bytes("--ram"), help="of arena at most: see --ram-budget")
    add(
        "--instructions",
        metavar="N",
        type=_amount("--instructions"),
        help="of one inference at most, as 5000000 or 5M, as kernel selection estimates them",
    )
    add(
        "--min-accuracy",
        metavar="X",
        type=_least,
        help="percent right at least; -1.0: at most one point less than the float model. Without "
        "labels in decibels, negative ones from the best point",
    )
    add(
        "--widths",
        metavar="2,4,8",
        type=_widths,
        default=(2, 4, 8),
        help="bits that the weights of a layer may have (default: 2,4,8)",
    )
    add(
        "--points",
        metavar="N",
        type=_count("--points"),
        default=10,
        help="sizes between the smallest and the largest that are tried (default: 10)",
    )
    add(
        "--limit",
        metavar="N",
        type=_count("--limit"),
        default=256,
        help="measure on the first N samples (default: 256)",
    )
    args = _merged(parser, argv, _WRITING)
    _check_study("search", args)
    return SearchOptions(
        args.model, _config(args), args.calib, args.eval, args.flash, args.ram, args.instructions,
        args.min_accuracy, args.widths, args.points, args.limit, args.jobs, args.output, args.force,
        args.json, args.verbosity,
    )  # fmt: skip


def _least(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -200 <= value <= 200:
        raise UsageError(f"--min-accuracy {short(text)}: expected a number, as 85 or -1.0")
    return value


def _widths(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[0-9]{1,2}(,[0-9]{1,2})*", text):
        raise UsageError(f"--widths {short(text)}: expected bits with commas, as 2,4,8")
    widths = tuple(int(part) for part in text.split(","))
    if not all(1 <= bits <= 8 or bits == 16 for bits in widths) or len(set(widths)) < 2:
        raise UsageError(f"--widths {short(text)}: expected two or more of 1 to 8 and 16")
    return widths


def _amount(option: str) -> Callable[[str], int]:
    def convert(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([kKmMgG]?)", text)
        value = float(match[1]) * 1000 ** " kmg".index(match[2].lower() or " ") if match else 0
        if value < 1:
            raise UsageError(f"{option} {short(text)}: expected a number, such as 5000000 or 5M")
        return round(value)

    return convert


_WRITING = ("--output", "--dump-ir", "--stop-after", "--force")
"""What a --config file may say for a compilation and means nothing to a study of the model."""


def _study_parser(
    command: str, rest: str, about: str, output: tuple[str, str] = ("REPORT.html", "page to write")
) -> _Parser:
    """The options of a compilation, and those that all studies of a model have.

    *output*: what -o takes, and what that is.
    """
    parser = _compile_parser()
    parser.prog = f"qcc {command}"
    parser.usage = f"{parser.prog} MODEL.onnx --calib DATA {rest}"
    parser.description, parser.epilog = about, None
    said = {
        "output": output[1],
        "force": "replace what is there",
        "json": "the result as JSON on stdout, all else on stderr",
    }
    for action in parser._actions:  # argparse has no other way to find one
        if action.help != argparse.SUPPRESS:
            action.help = said.get(action.dest, action.help)
        if action.dest == "output":
            action.metavar = output[0]
        if action.dest in ("dump_ir", "stop_after", "list_targets"):
            action.help = argparse.SUPPRESS
    parser.add_argument(
        "--eval",
        metavar="DATA",
        type=_path("--eval"),
        help="samples to measure on, as for --calib, with labels in an array y, label or target "
        "(default: the calibration samples, without labels)",
    )
    parser.add_argument(
        "--jobs", metavar="N", type=_count("--jobs"), help="processes (default: one per core)"
    )
    return parser


def _check_study(command: str, args: argparse.Namespace) -> None:
    if args.model is None:
        raise UsageError("no model given", [f"see qcc {command} --help"])
    if args.calib is None and args.eval is None:
        raise UsageError("no samples given: --calib DATA, and --eval DATA where there are labels")
    for option, value in (("--dump-ir", args.dump_ir), ("--stop-after", args.stop_after)):
        if value is not None:
            raise UsageError(f"{option}: qcc {command} compiles nothing; leave it out")
    if args.list_targets:
        raise UsageError("--list-targets: it stands alone, as in qcc --list-targets")


def parse_export(argv: Sequence[str]) -> ExportOptions:
    """The options of ``qcc export``."""
    about = (
        "Write a compiled model as ONNX with QuantizeLinear and DequantizeLinear: onnxruntime\n"
        "computes with it what the C computes, bit for bit."
    )
    parser = _parser("qcc export", about)
    parser.add_argument("out", metavar="OUT", type=_path("OUT"), help="a folder that qcc wrote")
    parser.add_argument(
        "-o",
        "--output",
        metavar="MODEL.onnx",
        type=_path("--output"),
        required=True,
        help="file to write",
    )
    parser.add_argument(
        "--opset",
        metavar="N",
        type=_count("--opset"),
        default=21,
        help="21, or 25, which has types of 2 bits (default: 21)",
    )
    _add_flag(parser, "integers", "inputs and outputs are the C's integers, not real numbers")
    _add_flag(parser, "force", "replace the file")
    _add_talk(parser, "what was written as JSON on stdout")
    args = parser.parse_args(argv)
    return ExportOptions(
        args.out, args.output, args.opset, args.integers, args.force, args.json, args.verbosity
    )


def parse_inspect(argv: Sequence[str]) -> InspectOptions:
    """The options of ``qcc inspect``."""
    parser = _parser("qcc inspect", "Show the layers of a model: shapes, work and parameters.")
    parser.add_argument("model", metavar="MODEL.onnx", type=_path("MODEL"))
    _add_shape(parser)
    _add_talk(parser, "the layers as JSON on stdout")
    args = parser.parse_args(argv)
    return InspectOptions(args.model, Config(shapes=dict(args.shape)), args.json, args.verbosity)


def parse_eval(argv: Sequence[str]) -> EvalOptions:
    """The options of ``qcc eval``."""
    about = "Build a compiled model for this machine and measure it on labelled samples."
    parser = _parser("qcc eval", about)
    parser.add_argument("out", metavar="OUT", type=_path("OUT"), help="a folder that qcc wrote")
    parser.add_argument(
        "--data",
        metavar="DATA",
        type=_path("--data"),
        required=True,
        help="samples as for --calib, with labels in an array y, label or target",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL.onnx",
        type=_path("--model"),
        help="the float model, to measure it beside the compiled one",
    )
    _add_affine(parser, "default: as the model was compiled")
    parser.add_argument(
        "--limit", metavar="N", type=_count("--limit"), help="only the first N samples"
    )
    parser.add_argument(
        "--jobs", metavar="N", type=_count("--jobs"), help="processes (default: one per core)"
    )
    _add_talk(parser, "the result as JSON on stdout")
    args = parser.parse_args(_joined_numbers(argv))
    return EvalOptions(
        args.out, args.data, args.model, args.mean, args.std, args.limit, args.jobs,
        args.json, args.verbosity,
    )  # fmt: skip


def parse_profile(argv: Sequence[str]) -> ProfileOptions:
    """The options of ``qcc profile``."""
    about = (
        "Run a compiled model under emulation: instructions, modelled cycles, stack and flash of\n"
        "every layer. OUT/profile.json and OUT/report.html then hold them."
    )
    parser = _parser("qcc profile", about)
    parser.add_argument("out", metavar="OUT", type=_path("OUT"), help="a folder that qcc wrote")
    parser.add_argument(
        "--target", metavar="T", help="build for this one (default: what OUT was compiled for)"
    )
    parser.add_argument(
        "--board", metavar="B", help="run on this one of the target's (default: its first)"
    )
    parser.add_argument(
        "--engine",
        metavar="ENGINE",
        default="auto",
        help="auto, qemu (which counts by a plugin), or unicorn (which pip installs, but has no "
        "Helium); default: auto",
    )
    parser.add_argument(
        "--samples",
        metavar="N",
        type=_count("--samples"),
        default=1,
        help="runs, each on a sample of OUT/check; numbers are the mean (default: 1)",
    )
    _add_talk(parser, "the profile as JSON on stdout")
    args = parser.parse_args(argv)
    return ProfileOptions(
        args.out, args.target, args.board, args.engine, args.samples, args.json, args.verbosity
    )


def parse_simulate(argv: Sequence[str]) -> SimulateOptions:
    """The options of ``qcc simulate``."""
    about = "Run the integer reference of a compiled model: the bits that its C computes."
    parser = _parser("qcc simulate", about)
    parser.add_argument("out", metavar="OUT", type=_path("OUT"), help="a folder that qcc wrote")
    parser.add_argument(
        "--input",
        metavar="X.npz",
        type=_path("--input"),
        required=True,
        help="integers in C's memory order, one array per input; one sample, or N along a first "
        "axis",
    )
    parser.add_argument(
        "--output",
        metavar="Y.npz",
        type=_path("--output"),
        required=True,
        help="file to write, one array per output",
    )
    _add_flag(parser, "float", "real numbers in ONNX's layout, quantized by the model's scales")
    _add_flag(parser, "force", "replace the output file")
    _add_talk(parser, "what was computed as JSON on stdout")
    args = parser.parse_args(argv)
    return SimulateOptions(
        args.out, args.input, args.output, args.float, args.force, args.json, args.verbosity
    )


def _config(args: argparse.Namespace) -> Config:
    weight_bits, act_bits = args.bits
    return Config(
        target=args.target,
        name=args.name,
        weight_bits=weight_bits,
        act_bits=act_bits,
        io_bits=args.io_bits,
        layers=tuple(args.layer),
        keep8=args.keep8,
        rounding=args.rounding,
        rounding_sweeps=args.rounding_sweeps,
        weight_clip=args.weight_clip,
        equalize=args.equalize,
        scale=args.scale,
        threshold=args.threshold,
        percentile=_DEFAULTS.percentile if args.percentile is None else args.percentile,
        per_channel=not args.per_layer,
        mean=args.mean,
        std=args.std,
        shapes=dict(args.shape),
        optimize=args.optimize,
        io=args.io,
        ram_budget=args.ram_budget,
        flash_budget=args.flash_budget,
        constant_channels=not args.keep_constant_channels,
        bias_correction=not args.keep_biases,
        dump_ir=args.dump_ir,
        stop_after=args.stop_after,
    )


# -- parsers --------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Errors are exceptions, so that all of them leave by one door."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(short(message, 200), [f"see {self.prog} --help"])


class _Help(argparse.RawDescriptionHelpFormatter):
    """Does not break a line at a hyphen: single-shift is one word."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


def _parser(prog: str, about: str, **settings: Any) -> _Parser:
    return _Parser(
        prog=prog,
        description=about,
        allow_abbrev=False,
        formatter_class=_Help,
        **settings,
    )


def _compile_parser() -> _Parser:
    parser = _parser(
        "qcc", "Compile an ONNX model to portable, integer-only C.", usage=_USAGE, epilog=_EPILOG
    )
    parser.add_argument(
        "model", metavar="MODEL.onnx", nargs="?", type=_path("MODEL"), help="a trained float model"
    )
    add = parser.add_argument
    add("-o", "--output", metavar="OUT", type=_path("--output"), help="folder to write")
    add(
        "--target",
        metavar="T",
        default=_DEFAULTS.target,
        help=f"processor (default: {_DEFAULTS.target}); see --list-targets",
    )
    add(
        "--calib",
        metavar="DATA",
        type=_path("--calib"),
        help="samples to calibrate with: an .npz, or a folder of .npy files or images",
    )
    _add_affine(parser, "default: 0 and 1")
    add(
        "--name",
        metavar="NAME",
        type=_identifier,
        help="prefix of the C names (default: from MODEL)",
    )
    add(
        "--shape",
        metavar="NAME=1,3,32,32",
        type=_shape,
        action="append",
        default=[],
        help="shape of an input whose dimensions are open; once per input",
    )
    _add_quantization(parser)
    _add_choice(
        parser,
        "--optimize",
        "GOAL",
        OPTIMIZE,
        _DEFAULTS.optimize,
        "what kernels are chosen for: least flash, fewest instructions, or both in balance",
    )
    _add_flash_budget(parser)
    _add_memory(parser)
    add(
        "--config",
        metavar="FILE",
        type=_path("--config"),
        help="read options from a TOML file; the command line wins",
    )
    _add_flag(parser, "force", "write into a folder that is not empty, over what qcc wrote there")
    add(
        "--dump-ir",
        metavar="DIR",
        type=_path("--dump-ir"),
        help="write the graph after every pass, as text",
    )
    add("--stop-after", metavar="PASS", help="stop after a pass, print the graph, write no OUT")
    add("--list-targets", action="store_true", help="list the targets")
    from qcc import __version__

    add("--version", action="version", version=f"qcc {__version__}")
    _add_talk(parser, "the manifest as JSON on stdout, all else on stderr")
    return parser


def _add_quantization(parser: _Parser) -> None:
    parser.add_argument(
        "--bits",
        metavar="W8A8",
        type=parse_bits,
        default=(_DEFAULTS.weight_bits, _DEFAULTS.act_bits),
        help=f"bits of weights and of activations, 1 to 8 or 16 (default: {_DEFAULTS.bits})",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME=W4A8",
        type=parse_layer,
        action="append",
        default=[],
        help="bits of the layers or tensors of this name, which may be a pattern such as 'conv_*'; "
        "W8 or A16 alone will do; may be repeated, the last that fits counts",
    )
    parser.add_argument(
        "--io-bits",
        metavar="N",
        type=_io_bits,
        help="bits of inputs and outputs, 8 or 16, where they differ from --bits; of 16, an input "
        "whose samples lie on a grid of 8 stays there",
    )
    parser.add_argument(
        "--keep8",
        metavar="WHAT",
        type=_keep8,
        default=_DEFAULTS.keep8,
        help="what keeps 8 bits where --bits says less than 6: some of "
        f"{', '.join(KEEP8)}, with commas, or none (default: all of them)",
    )
    _add_choice(parser, "--scale", "MODE", SCALE_MODES, _DEFAULTS.scale, "how layers are rescaled")
    _add_choice(
        parser, "--threshold", "METHOD", THRESHOLDS, _DEFAULTS.threshold, "how ranges are chosen"
    )
    parser.add_argument(
        "--percentile",
        metavar="P",
        type=_percentile,
        help="share of values within the range, for --threshold percentile "
        f"(default: {_DEFAULTS.percentile})",
    )
    _add_choice(
        parser, "--rounding", "HOW", ROUNDINGS, _DEFAULTS.rounding, "how weights become integers, "
        "the nearest or those with the least error of the layer's output; auto: learned below "
        "8 bits with --calib",
    )  # fmt: skip
    parser.add_argument(
        "--rounding-sweeps",
        metavar="N",
        type=_count("--rounding-sweeps"),
        default=_DEFAULTS.rounding_sweeps,
        help="most passes over the weights of a layer, for learned rounding "
        f"(default: {_DEFAULTS.rounding_sweeps})",
    )
    _add_choice(
        parser, "--weight-clip", "METHOD", WEIGHT_CLIPS, _DEFAULTS.weight_clip,
        "how ranges of weights are narrowed; output: by the error of the layer's output; auto: "
        "output below 8 bits with --calib",
    )  # fmt: skip
    _add_choice(
        parser, "--equalize", "WHEN", EQUALIZE, _DEFAULTS.equalize, "scale channels of "
        "neighbouring layers to like ranges first; auto: below 6 bits of activations, with --calib",
    )  # fmt: skip
    _add_flag(parser, "per-layer", "one weight scale per layer, not one per channel")
    _add_flag(parser, "keep-constant-channels", "do not remove channels that never change")
    _add_flag(parser, "keep-biases", "do not correct biases by the mean error on calibration data")


def _add_memory(parser: _Parser) -> None:
    _add_choice(
        parser, "--io", "WHERE", IO, _DEFAULTS.io, "inputs and outputs that may lie in the arena: "
        "those for which it need not grow, all of them, or none",
    )  # fmt: skip
    parser.add_argument(
        "--ram-budget",
        metavar="BYTES",
        type=_bytes("--ram-budget"),
        help="most bytes of arena, as 65536, 64K or 1M: where it would take more, the first "
        "layers run band by band, some of their work twice",
    )


def _add_flash_budget(parser: _Parser) -> None:
    parser.add_argument(
        "--flash-budget",
        metavar="BYTES",
        type=_bytes("--flash-budget"),
        help="most bytes of flash for tables and kernels, as 65536, 64K or 1M: layers that gain "
        "most per byte get their faster kernels first",
    )


def _add_affine(parser: _Parser, default: str) -> None:
    parser.add_argument(
        "--mean",
        metavar="M",
        type=_numbers("--mean"),
        help="samples become (raw - mean) / std: a number, or one per channel, with commas",
    )
    parser.add_argument("--std", metavar="S", type=_deviations, help=f"see --mean ({default})")


def _add_shape(parser: _Parser) -> None:
    parser.add_argument(
        "--shape",
        metavar="NAME=1,3,32,32",
        type=_shape,
        action="append",
        default=[],
        help="shape of an input whose dimensions are open",
    )


def _add_choice(
    parser: _Parser, option: str, metavar: str, choices: Sequence[str], default: str, what: str
) -> None:
    def convert(text: str) -> str:
        if text not in choices:
            raise UsageError(f"{option} {short(text)}: choose one of {', '.join(choices)}")
        return text

    listed = ", ".join(choices)
    parser.add_argument(
        option,
        metavar=metavar,
        type=convert,
        default=default,
        help=f"{what}: {listed} (default: {default})",
    )


def _add_flag(parser: _Parser, name: str, what: str) -> None:
    """``--name``, and a hidden ``--no-name`` that takes back what a file says."""
    dest = name.replace("-", "_")
    parser.add_argument(f"--{name}", dest=dest, action="store_true", help=what)
    parser.add_argument(f"--no-{name}", dest=dest, action="store_false", help=argparse.SUPPRESS)


def _add_talk(parser: _Parser, json: str) -> None:
    _add_flag(parser, "json", json)
    parser.add_argument(
        "-q",
        "--quiet",
        dest="verbosity",
        action="store_const",
        const=-1,
        default=0,
        help="say nothing but errors",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        dest="verbosity",
        action=_Louder,
        nargs=0,
        help="passes and timings; -vv: tracebacks too",
    )


class _Louder(argparse.Action):
    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        namespace.verbosity = max(namespace.verbosity, 0) + 1


# -- values ---------------------------------------------------------------------------------------


def _path(option: str) -> Callable[[str], Path]:
    def convert(text: str) -> Path:
        if not text or "\0" in text:
            raise UsageError(f"{option}: not the name of a file or folder")
        return Path(text)

    return convert


def _identifier(text: str) -> str:
    from qcc.codegen.names import model_name

    if model_name(text) != text:
        hint = f"for example --name {model_name(text)}"
        raise UsageError(f"--name {short(text)!r}: not usable as a prefix of C names", [hint])
    return text


def _numbers(option: str) -> Callable[[str], tuple[float, ...]]:
    def convert(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = (math.nan,)
        if not all(map(math.isfinite, values)):
            raise UsageError(
                f"{option} {short(text)}: expected a number, or one per channel, with commas"
            )
        return values

    return convert


def _deviations(text: str) -> tuple[float, ...]:
    values = _numbers("--std")(text)
    if min(values) <= 0:
        raise UsageError(f"--std {short(text)}: it divides the samples; it must be above 0")
    return values


def _io_bits(text: str) -> int:
    if text not in ("8", "16"):
        raise UsageError(f"--io-bits {short(text)}: choose 8 or 16")
    return int(text)


def _keep8(text: str) -> tuple[Keep, ...]:
    names = [] if text == "none" else text.split(",")
    for name in names:
        if name not in KEEP8:
            raise UsageError(f"--keep8 {short(text)}: choose some of {', '.join(KEEP8)}, or none")
    return tuple(kept for kept in KEEP8 if kept in names)


def _percentile(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 50 <= value <= 100:
        raise UsageError(f"--percentile {short(text)}: expected a number from 50 to 100")
    return value


def _count(option: str) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
            raise UsageError(f"{option} {short(text)}: expected a whole number above 0")
        return int(text)

    return convert


def _bytes(option: str) -> Callable[[str], int]:
    def convert(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,10})([kKmM]?)", text)
        if not match or int(match[1]) == 0:
            raise UsageError(f"{option} {short(text)}: expected bytes, such as 65536, 64K or 1M")
        return int(match[1]) << {"": 0, "k": 10, "m": 20}[match[2].lower()]

    return convert


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, dims = text.rpartition("=")
    if not equals or not name or not re.fullmatch(r"[0-9]{1,10}(,[0-9]{1,10})*", dims):
        raise UsageError(f"--shape {short(text)}: expected NAME=1,3,32,32")
    shape = tuple(int(d) for d in dims.split(","))
    if not all(0 < d <= _MAX_DIM for d in shape):
        raise UsageError(f"--shape {short(text)}: dimensions must be from 1 to {_MAX_DIM}")
    return name, shape


_NUMBER = re.compile(
    r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?(,[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)*,?"
)


def _joined_numbers(argv: Sequence[str]) -> list[str]:
    """``--mean -1 0.5`` as ``--mean=-1,0.5``: argparse takes negative numbers for options."""
    out: list[str] = []
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        values: list[str] = []
        while token in ("--mean", "--std") and rest and _NUMBER.fullmatch(rest[0]):
            values.append(rest.pop(0).rstrip(","))
        out.append(f"{token}={','.join(values)}" if values else token)
        if token == "--":
            break
    return [*out, *rest]


# -- the file -------------------------------------------------------------------------------------


def _file_tokens(parser: _Parser, path: Path) -> list[str]:
    """The settings of a TOML file as options; relative paths in it start at its folder.

    Raises:
        UsageError: naming the file and the key.
    """
    where = f"--config {short(path.name)}"
    known = {
        option[2:]: action
        for action in parser._actions  # argparse has no other way to list them
        if action.help != argparse.SUPPRESS
        for option in action.option_strings
        if option.startswith("--") and option[2:] not in _NOT_IN_FILE
    }
    tokens: list[str] = []
    for key, value in _load_toml(path, where).items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hints = [f"did you mean {close[0]}?"] if close else []
            raise UsageError(f"{where}: no option is called {short(key)!r}", hints)
        if key in _PATHS and isinstance(value, str):
            value = str(path.parent / value)
        try:
            found = _tokens(key, known[key].nargs == 0, value)
            parser.parse_args(found)
        except UsageError as e:
            raise UsageError(f"{where}: {e.message}", e.hints) from e
        tokens += found
    return tokens


def _load_toml(path: Path, where: str) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise UsageError(f"{where}: there is no such file")
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise UsageError(f"{where}: the file is too large for settings")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"{where}: {e.strerror or e}") from e
    except (ValueError, RecursionError) as e:  # not TOML, or not UTF-8
        raise UsageError(f"{where}: not a TOML file: {short(str(e), 100)}") from e


def _tokens(key: str, flag: bool, value: Any) -> list[str]:
    """One setting as options."""
    if flag:
        return _flag_tokens(key, value)
    if key == "shape" and isinstance(value, dict):
        return [f"--shape={name}={_text(key, dims)}" for name, dims in value.items()]
    if key == "shape" and isinstance(value, list):
        return [f"--shape={_text(key, one)}" for one in value]
    if key == "layer":
        return _layer_tokens(value)
    return [f"--{key}={_text(key, value)}"]


def _layer_tokens(value: Any) -> list[str]:
    """``[[layer]]`` tables with *match* and *bits*, a table of both, or texts as typed."""
    rules: list[Any]
    if isinstance(value, dict):
        rules = [{"match": match, "bits": bits} for match, bits in value.items()]
    else:
        rules = value if isinstance(value, list) else [value]
    tokens: list[str] = []
    for rule in rules:
        text = rule
        if isinstance(rule, dict):
            if set(rule) != {"match", "bits"} or not all(isinstance(v, str) for v in rule.values()):
                raise UsageError('layer: every [[layer]] has match = "NAME" and bits = "W4A8"')
            text = f"{rule['match']}={rule['bits']}"
        tokens.append(f"--layer={_text('layer', text)}")
    return tokens


def _flag_tokens(key: str, value: Any) -> list[str]:
    if key == "verbose" and isinstance(value, int) and 0 <= value <= 2:
        return [f"--{key}"] * int(value)
    if not isinstance(value, bool):
        raise UsageError(f"{key} is true or false")
    if value:
        return [f"--{key}"]
    return [] if key in ("quiet", "verbose") else [f"--no-{key}"]


def _text(key: str, value: Any) -> str:
    """A text or number as it would be typed, a list of numbers with commas."""
    if isinstance(value, list) and value:
        return ",".join(_text(key, item) for item in value if not isinstance(item, list))
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise UsageError(f"{key}: expected a text, a number or a list of numbers")
