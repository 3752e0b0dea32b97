"""The command line: ``qcc MODEL.onnx -o OUT``, ``qcc inspect``, ``eval``, ``profile``, and so on.

Whatever happens ends here as an exit status and at most ten lines on stderr. Nothing heavy is
imported before the arguments are known to be good.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from qcc.errors import PassError, QccError, UsageError, short
from qcc.options import (
    COMMANDS,
    CompileOptions,
    DebugOptions,
    ListTargets,
    SearchOptions,
    parse_compile,
    parse_debug,
    parse_eval,
    parse_export,
    parse_inspect,
    parse_profile,
    parse_search,
    parse_simulate,
)

if TYPE_CHECKING:
    import onnx

    from qcc.console import Screen
    from qcc.driver import Compilation
    from qcc.ir import Array

MAX_LINES = 10
"""What an error prints at most."""

_MAX_LINE = 800
_INTERRUPTED = 128
"""Plus the signal's number, as shells have it: 130, 143."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``qcc`` with *argv* (default: the process's own); the exit status."""
    # onnxruntime reads this when it is imported, and talks to the network without it.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    args = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    with _Signals() as signals:
        try:
            code = _run(args, signals)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader had enough: `qcc ... | head`
            _silence_stdout()
            return 0
        except (KeyboardInterrupt, Exception) as error:
            signals.held = True
            return _report(error, args, signals)
    return code


def _run(args: list[str], signals: _Signals) -> int:
    command = args[0] if args and args[0] in COMMANDS else None
    try:
        if command == "inspect":
            return _inspect(args[1:])
        if command == "debug":
            return _debug(args[1:], signals)
        if command == "eval":
            return _evaluate(args[1:])
        if command == "export":
            return _export(args[1:], signals)
        if command == "profile":
            return _profile(args[1:], signals)
        if command == "search":
            return _search(args[1:], signals)
        if command == "simulate":
            return _simulate(args[1:], signals)
        return _compile(parse_compile(args), signals)
    except ListTargets:
        return _list_targets()
    except SystemExit as e:  # --help and --version have printed
        return e.code if isinstance(e.code, int) else 0


# -- commands -------------------------------------------------------------------------------------


def _compile(options: CompileOptions, signals: _Signals) -> int:
    from qcc.codegen.target import resolve
    from qcc.codegen.write import check_writable
    from qcc.console import Screen

    resolve(options.config.target)
    _check_stop_after(options)
    writing = options.config.stop_after is None
    if writing and options.out is not None:
        check_writable(options.out, options.force)
    _check_dump(options.config.dump_ir)
    screen = Screen(options.verbosity, options.json)
    done = _compiled(options, screen)
    if done is None or options.out is None:
        return 0
    manifest = _write(done, options.out, signals)
    if options.json:
        _print_json(manifest)
    screen.summary(done, options.out)
    return 0


def _compiled(options: CompileOptions, screen: Screen) -> Compilation | None:
    """The compiled model; None after ``--stop-after``."""
    from qcc.driver import compile_proto
    from qcc.frontend.load import load_model
    from qcc.passes.manager import Stopped

    path = options.model
    stages: dict[str, str] = {}

    def watch(name: str, graph: Any, changes: int) -> None:
        screen.stage(name, changes)
        if options.config.dump_ir or options.config.stop_after:
            head = f"// after {name}: {changes} changes"
            stages[f"{len(stages):02d}-{name}.txt"] = f"{head}\n{graph}\n"

    with screen.progress() as progress:
        try:
            proto = load_model(path)
            samples = _samples(proto, options)
            name = options.config.name or path.stem
            config = replace(options.config, name=name, calibration=samples)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            return compile_proto(proto, config, path.name, digest, progress, watch)
        except Stopped:
            pass
        finally:  # also after a failure: that is when they are read
            _dump(stages, options.config.dump_ir)
    if options.json:
        _print_json({"stage": options.config.stop_after, "graph": list(stages.values())[-1]})
    elif options.config.dump_ir is None:
        print(list(stages.values())[-1], end="")
    return None


def _samples(
    proto: onnx.ModelProto, options: CompileOptions | DebugOptions | SearchOptions
) -> dict[str, Array] | None:
    from qcc.frontend.calibration import load_samples
    from qcc.frontend.shapes import static_inputs

    if options.calib is None:
        return None
    shapes = static_inputs(proto, options.config.shapes)
    mean, std = options.config.mean or (0.0,), options.config.std or (1.0,)
    return load_samples(options.calib, shapes, _scalar(mean), _scalar(std))


def _scalar(values: tuple[float, ...]) -> float | tuple[float, ...]:
    """One number serves all channels."""
    return values[0] if len(values) == 1 else values


def _write(done: Compilation, out: Path, signals: _Signals) -> dict[str, Any]:
    """Write OUT, whole or not at all; its manifest."""
    from qcc.codegen.write import write_files
    from qcc.driver import output_files

    files = output_files(done)
    # A signal from here on comes too late: OUT will be complete, and the exit status says so.
    with signals.hold():
        write_files(files, out)
    manifest = json.loads(files["manifest.json"])
    assert isinstance(manifest, dict)
    return manifest


def _check_stop_after(options: CompileOptions) -> None:
    from qcc.passes.manager import check_stop_after
    from qcc.passes.pipeline import NAMES

    check_stop_after(NAMES, options.config)


def _check_dump(folder: Path | None) -> None:
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--dump-ir {short(str(folder))}: it is a file; give a folder")


def _dump(stages: dict[str, str], folder: Path | None) -> None:
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in stages.items():
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as e:
        raise QccError(f"--dump-ir {short(str(folder))}: {e.strerror or e}") from e


def _inspect(args: list[str]) -> int:
    options = parse_inspect(args)
    from qcc.console import Screen
    from qcc.inspect_model import inspect_file

    found = inspect_file(options.model, options.config)
    if options.json:
        _print_json(found.as_dict())
    else:
        Screen(options.verbosity, options.json).inspection(found)
    return 0


def _debug(args: list[str], signals: _Signals) -> int:
    options = parse_debug(args)
    from qcc.console import Screen
    from qcc.debug_model import diagnose
    from qcc.debug_page import debug_html
    from qcc.frontend.load import load_model
    from qcc.one_file import write_whole
    from qcc.parallel import default_jobs
    from qcc.simulate import check_output

    if options.page is not None:
        check_output(options.page, options.force)
    screen = Screen(options.verbosity, options.json)
    with screen.progress() as progress:
        proto = load_model(options.model)
        config = replace(
            options.config,
            name=options.config.name or options.model.stem,
            calibration=_samples(proto, options),
        )
        found = diagnose(
            proto,
            config,
            _data(proto, options),
            title=options.model.name,
            limit=options.limit,
            jobs=options.jobs or default_jobs(),
            progress=progress,
        )
    if options.page is not None:
        with signals.hold():
            write_whole(options.page, debug_html(found).encode())
    if options.json:
        _print_json(found.as_dict())
    else:
        screen.diagnosis(found, options.page)
    return 0


def _data(
    proto: onnx.ModelProto, options: DebugOptions | SearchOptions
) -> tuple[dict[str, Array], Array | None] | None:
    """The samples of --eval and their labels; None where there is none."""
    from qcc.frontend.calibration import load_labelled
    from qcc.frontend.shapes import static_inputs

    if options.data is None:
        return None
    shapes = static_inputs(proto, options.config.shapes)
    mean, std = options.config.mean or (0.0,), options.config.std or (1.0,)
    return load_labelled(options.data, shapes, _scalar(mean), _scalar(std))


def _evaluate(args: list[str]) -> int:
    options = parse_eval(args)
    from qcc.api import evaluate, read_manifest
    from qcc.console import Screen

    manifest = read_manifest(options.out)
    found = evaluate(
        options.out,
        options.data,
        model=options.model,
        mean=None if options.mean is None else _scalar(options.mean),
        std=None if options.std is None else _scalar(options.std),
        limit=options.limit,
        jobs=options.jobs,
    )
    if options.json:
        _print_json(found.as_dict())
    else:
        Screen(options.verbosity, options.json).evaluation(found, manifest)
    return 0


def _export(args: list[str], signals: _Signals) -> int:
    options = parse_export(args)
    from qcc.api import CompiledModel
    from qcc.console import Screen
    from qcc.export_qdq import export_qdq
    from qcc.one_file import write_whole
    from qcc.simulate import check_output

    check_output(options.output, options.force)
    found = export_qdq(CompiledModel(options.out).graph, options.opset, options.integers)
    with signals.hold():
        write_whole(options.output, found.model.SerializeToString(deterministic=True))
    if options.json:
        _print_json(found.as_dict())
    else:
        Screen(options.verbosity, options.json).export(found, options.output)
    return 0


def _profile(args: list[str], signals: _Signals) -> int:
    options = parse_profile(args)
    from qcc.api import profile
    from qcc.console import Screen
    from qcc.profiling.write import write_profile

    found = profile(
        options.out,
        target=options.target,
        board=options.board,
        engine=options.engine,
        samples=options.samples,
    )
    with signals.hold():
        write_profile(found, options.out)
    if options.json:
        _print_json(found.as_dict())
    else:
        Screen(options.verbosity, options.json).profile(found, options.out)
    return 0


def _search(args: list[str], signals: _Signals) -> int:
    options = parse_search(args)
    from qcc.codegen.target import resolve
    from qcc.codegen.write import check_writable, write_files
    from qcc.console import Screen
    from qcc.frontend.load import load_model
    from qcc.parallel import default_jobs
    from qcc.search_page import search_files
    from qcc.search_widths import Limits, search

    resolve(options.config.target)
    if options.folder is not None:
        check_writable(options.folder, options.force)
    least = options.least
    limits = Limits(
        options.flash, options.ram, options.instructions,
        loss=-least if least is not None and least <= 0 else None,
        floor=least if least is not None and least > 0 else None,
    )  # fmt: skip
    screen = Screen(options.verbosity, options.json)
    with screen.progress() as progress:
        proto = load_model(options.model)
        config = replace(
            options.config,
            name=options.config.name or options.model.stem,
            calibration=_samples(proto, options),
        )
        found = search(
            proto, config, limits, _data(proto, options), widths=options.widths,
            title=options.model.name, limit=options.limit, points=options.points,
            jobs=options.jobs or default_jobs(), progress=progress,
        )  # fmt: skip
    if options.folder is not None:
        files = search_files(found, options.calib, options.folder)
        with signals.hold():
            write_files(files, options.folder)
    if options.json:
        _print_json(found.as_dict())
    else:
        screen.search(found, options.model, options.folder)
    return 0


def _simulate(args: list[str], signals: _Signals) -> int:
    options = parse_simulate(args)
    from qcc.api import CompiledModel
    from qcc.console import Screen
    from qcc.simulate import check_output, simulate, write_npz

    check_output(options.output, options.force)
    found = simulate(CompiledModel(options.out), options.input, options.real)
    with signals.hold():
        write_npz(found.outputs, options.output)
    if options.json:
        _print_json(found.as_dict())
    else:
        Screen(options.verbosity, options.json).simulation(found, options.output)
    return 0


def _list_targets() -> int:
    from qcc.codegen.target import load_targets
    from qcc.console import Screen

    Screen(0, False).targets(load_targets())
    return 0


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


# -- how it ends ----------------------------------------------------------------------------------


def _report(error: BaseException, args: Sequence[str], signals: _Signals) -> int:
    """Say what went wrong; the exit status."""
    # A library may turn an interrupt, of its own import say, into an error of another kind.
    if isinstance(error, KeyboardInterrupt) or signals.received is not None:
        return _INTERRUPTED + (signals.received or signal.SIGINT)
    if _wants_traceback(args):
        traceback.print_exception(error)
    if isinstance(error, QccError):
        _print_error(error.message, error.hints)
        if isinstance(error, PassError):
            _print_lines(["  this is a defect of qcc; please report it"])
        return error.exit_code
    if isinstance(error, MemoryError):
        _print_error("out of memory", ["the model or the samples are too large for this machine"])
        return 1
    if isinstance(error, OSError):  # of stdout or the temporary folder
        _silence_stdout()
        where = f" ({short(str(error.filename))})" if error.filename else ""
        _print_error(f"{error.strerror or error}{where}")
        return 1
    text = short(f"{type(error).__name__}: {error}", 200)
    _print_error(f"internal error: {text} (please report; -vv shows the traceback)")
    return 1


def _print_error(message: str, hints: Sequence[str] = ()) -> None:
    lines = [f"qcc: error: {_line(message)}", *(f"  {_line(h)}" for h in hints)]
    if len(lines) > MAX_LINES:
        rest = len(lines) - MAX_LINES + 1
        lines = [*lines[: MAX_LINES - 1], f"  ... and {rest} more"]
    _print_lines(lines)


def _print_lines(lines: Sequence[str]) -> None:
    with suppress(OSError, ValueError):  # nobody listens; the exit status remains
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()


def _line(text: str) -> str:
    return short(re.sub(r"\s+", " ", text).strip(), _MAX_LINE)


def _wants_traceback(args: Sequence[str]) -> bool:
    """Whether -v was given twice; asked for even where the options could not be read."""
    loud = sum(a == "--verbose" or re.fullmatch("-v+", a) is not None for a in args)
    return loud > 1 or any(re.fullmatch("-vv+", a) for a in args)


def _prepare_streams() -> None:
    """Make writing safe: closed streams lead nowhere, odd characters are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _silence_stdout() -> None:
    """Keep the interpreter from complaining when it flushes a broken pipe at exit."""
    with suppress(OSError, ValueError):  # no file behind it: nothing to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Signals:
    """SIGINT and SIGTERM as KeyboardInterrupt, unless held; remembers the last one.

    Attributes:
        received: the signal's number.
        held: whether signals are only remembered.
    """

    _NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self.held = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number in self._NUMBERS:
            if signal.getsignal(number) is signal.SIG_IGN:  # nohup: stay deaf
                continue
            try:
                self._old[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread: signals go elsewhere
                break
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Only remember signals while the block runs, and forget them after it."""
        if self.received is not None:  # something swallowed the interrupt
            raise KeyboardInterrupt
        self.held = True
        try:
            yield
            self.received = None
        finally:
            self.held = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if not self.held:
            raise KeyboardInterrupt
