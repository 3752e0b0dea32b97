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

from qcc.config import OPTIMIZE, SCALE_MODES, THRESHOLDS, Config, parse_bits
from qcc.errors import UsageError, short

COMMANDS = ("inspect", "eval", "simulate")

_DEFAULTS = Config()
_MAX_CONFIG_BYTES = 1 << 20
_MAX_DIM = (1 << 31) - 1
_PATHS = frozenset({"output", "calib", "dump-ir"})
_NOT_IN_FILE = frozenset({"config", "help", "version", "list-targets"})

_USAGE = """qcc MODEL.onnx -o OUT [--target T] [--calib DATA] [options]
       qcc inspect MODEL.onnx     what is in a model
       qcc eval OUT --data DATA   what a compiled model is worth
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
class SimulateOptions:
    """``qcc simulate``; *real*: inputs and outputs are real numbers in ONNX's layout."""

    out: Path
    input: Path
    output: Path
    real: bool
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
    parser = _compile_parser()
    argv = _joined_numbers(argv)
    typed = parser.parse_args(argv)
    if typed.list_targets:
        raise ListTargets
    args = typed
    if typed.config is not None:
        args = parser.parse_args([*_file_tokens(parser, typed.config), *argv])
    if typed.percentile is not None and args.threshold != "percentile":
        raise UsageError("--percentile: it needs --threshold percentile")
    if args.model is None:
        raise UsageError("no model given", ["usage: qcc MODEL.onnx -o OUT", "see qcc --help"])
    if args.output is None and args.stop_after is None:
        raise UsageError("no output folder given: -o OUT names it")
    return CompileOptions(
        args.model, args.output, _config(args), args.calib, args.force, args.json, args.verbosity
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
        scale=args.scale,
        threshold=args.threshold,
        percentile=_DEFAULTS.percentile if args.percentile is None else args.percentile,
        per_channel=not args.per_layer,
        mean=args.mean,
        std=args.std,
        shapes=dict(args.shape),
        optimize=args.optimize,
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
        "what kernels are chosen for; recorded, but only portable ones exist in this version",
    )
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
        help="bits of weights, 2 to 8, and of activations, 2 to 8 or 16 "
        f"(default: {_DEFAULTS.bits})",
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
    _add_flag(parser, "per-layer", "one weight scale per layer, not one per channel")
    _add_flag(parser, "keep-constant-channels", "do not remove channels that never change")
    _add_flag(parser, "keep-biases", "do not correct biases by the mean error on calibration data")


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
    return [f"--{key}={_text(key, value)}"]


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
