"""A proof that generated C is what qcc promises: integers only, no heap, no state, bounded.

pycparser reads the preprocessed text, and every rule is checked on the syntax tree. The standard
headers are replaced by small ones of our own: the compiler's are full of extensions, and the code
needs nothing else of them.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pycparser import c_ast, c_parser

from qcc.errors import QccError, short

_STDINT = "\n".join(
    [
        "#ifndef FAKE_STDINT_H",
        "#define FAKE_STDINT_H",
        *(
            f"typedef {sign}{base} {prefix}int{bits}_t, {prefix}int_least{bits}_t, "
            f"{prefix}int_fast{bits}_t;"
            for bits, base in ((8, "char"), (16, "short"), (32, "int"), (64, "long long"))
            for sign, prefix in (("signed ", ""), ("unsigned ", "u"))
        ),
        "typedef long long intmax_t, intptr_t; typedef unsigned long long uintmax_t, uintptr_t;",
        *(
            f"#define INT{b}_MAX {(1 << (b - 1)) - 1}{s}\n#define INT{b}_MIN (-INT{b}_MAX - 1)\n"
            f"#define UINT{b}_MAX {(1 << b) - 1}u{s}\n#define INT{b}_C(v) v{s}\n"
            f"#define UINT{b}_C(v) v##u{s}"
            for b, s in ((8, ""), (16, ""), (32, ""), (64, "ll"))
        ),
        "#define SIZE_MAX UINT64_MAX\n#define INTPTR_MAX INT64_MAX\n#define UINTPTR_MAX UINT64_MAX",
        "#endif\n",
    ]
)
_STDDEF = """#ifndef FAKE_STDDEF_H
#define FAKE_STDDEF_H
typedef unsigned long long size_t;
typedef long long ptrdiff_t;
#define NULL ((void *)0)
#endif
"""
_STRING = """#ifndef FAKE_STRING_H
#define FAKE_STRING_H
#include <stddef.h>
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
#endif
"""
_HEADERS = {"stdint.h": _STDINT, "stddef.h": _STDDEF, "string.h": _STRING}

ALLOWED_CALLS = frozenset({"memcpy", "memset"})

_TABLE = re.compile(r"\{[-\d,\s]{64,}\}")


def preprocess(
    path: Path,
    include_dirs: Sequence[Path] = (),
    defines: Mapping[str, str] | None = None,
    compiler: str = "gcc",
) -> str:
    """The text of a C file after its directives, the standard headers replaced.

    No macro of a compiler or a machine is set, so what is read is the portable path.

    Raises:
        QccError: if the compiler is missing or refuses the file, e.g. for a header that is not
            among the run-time's and not one of stdint.h, stddef.h and string.h.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, text in _HEADERS.items():
            (Path(folder) / name).write_text(text)
        folders = [f"-I{d}" for d in (*include_dirs, folder)]
        macros = [f"-D{name}={value}" for name, value in (defines or {}).items()]
        # -w: whether the code compiles cleanly is another check, with the real headers.
        flags = ["-E", "-P", "-w", "-std=c99", "-undef", "-nostdinc", "-ffreestanding"]
        command = [compiler, *flags, *folders, *macros, str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise QccError(f"{compiler}: cannot be run to preprocess {path.name}") from error
    if done.returncode:
        first = next(iter(done.stderr.splitlines()), "no message")
        raise QccError(f"{path.name}: {compiler} cannot preprocess it: {short(first, 200)}")
    return done.stdout


def check_purity(preprocessed_c: str, externals: Collection[str] = ()) -> list[str]:
    """What *preprocessed_c* does that generated code must not do; empty: it is pure.

    Args:
        preprocessed_c: one translation unit.
        externals: functions of other checked units that this one may call.

    Rules: no floating type or constant; no call but of functions defined here, *externals*,
    memcpy and memset, and none through a pointer; no recursion; division and remainder by constants
    other than 0 only; no array of variable size; no object with static storage that is not const,
    here or elsewhere; no goto.
    """
    # Tables of integers prove nothing and would take most of the time.
    text = _TABLE.sub("{0}", preprocessed_c)
    try:
        tree = c_parser.CParser().parse(text)
    except Exception as error:  # the parser's own class moved between its versions
        return [f"not C99 as pycparser reads it: {short(str(error), 200)}"]
    functions = {f.decl.name: f for f in _children(tree, c_ast.FuncDef)}
    constants = {e.name for e in _walk(tree) if isinstance(e, c_ast.Enumerator)}
    found: list[str] = []
    for top in tree.ext:
        checked = _Checker(_title(top), constants, {*functions, *ALLOWED_CALLS, *externals})
        checked.top_level(top)
        found += checked.violations
    return [*found, *_recursion(functions)]


def _title(top: Any) -> str:
    """How messages name a part of the file."""
    if isinstance(top, c_ast.FuncDef):
        return f"function {top.decl.name}"
    return f"declaration of {getattr(top, 'name', None) or 'a type'}"


def _children(node: Any, kind: type) -> Iterator[Any]:
    return (child for _, child in node.children() if isinstance(child, kind))


def _walk(node: Any) -> Iterator[Any]:
    """*node* and all below it, without recursion: the tree may be deep."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(child for _, child in reversed(top.children()))


class _Checker:
    """The rules on one top-level part of the file."""

    def __init__(self, title: str, constants: Collection[str], callable_: Collection[str]) -> None:
        self.title = title
        self.constants = constants
        self.callable = callable_
        self.violations: list[str] = []

    def report(self, what: str) -> None:
        message = f"{self.title}: {what}"
        if message not in self.violations:
            self.violations.append(message)

    def top_level(self, top: Any) -> None:
        if isinstance(top, c_ast.Decl):
            self.storage(top)
        for node in _walk(top):
            self.node(node)
            if isinstance(node, c_ast.Decl) and {"static", "extern"} & set(node.storage or ()):
                self.storage(node)

    def node(self, node: Any) -> None:
        if isinstance(node, c_ast.IdentifierType):
            self.type_names(node.names)
        elif isinstance(node, c_ast.Constant) and node.type.split()[-1] in ("float", "double"):
            self.report(f"floating constant {short(node.value)}")
        elif isinstance(node, c_ast.FuncCall):
            self.call(node)
        elif isinstance(node, c_ast.BinaryOp) and node.op in ("/", "%"):
            self.divisor(node.op, node.right)
        elif isinstance(node, c_ast.Assignment) and node.op in ("/=", "%="):
            self.divisor(node.op, node.rvalue)
        elif isinstance(node, c_ast.ArrayDecl) and node.dim is not None:
            if not self.is_constant(node.dim):
                self.report("array of variable size")
        elif isinstance(node, c_ast.Goto):
            self.report(f"goto {node.name}")

    def type_names(self, names: Iterable[str]) -> None:
        floating = {"float", "double", "_Complex", "_Imaginary"} & set(names)
        if floating:
            self.report(f"floating type {' '.join(names)}")

    def call(self, node: Any) -> None:
        if not isinstance(node.name, c_ast.ID):
            self.report("call through a pointer")
        elif node.name.name not in self.callable:
            self.report(f"call of {node.name.name}, which is not defined here")

    def divisor(self, op: str, right: Any) -> None:
        if not self.is_constant(right):
            self.report(f"{op} by something that is not a constant")
        elif isinstance(right, c_ast.Constant) and set(right.value) <= set("0xXuUlL"):
            self.report(f"{op} by zero")

    def is_constant(self, node: Any) -> bool:
        """Whether *node* is an integer constant expression."""
        if isinstance(node, c_ast.Constant):
            return "int" in node.type.split()
        if isinstance(node, c_ast.ID):
            return node.name in self.constants
        if isinstance(node, c_ast.UnaryOp):
            return node.op == "sizeof" or (node.op in "+-~!" and self.is_constant(node.expr))
        if isinstance(node, c_ast.BinaryOp):
            return self.is_constant(node.left) and self.is_constant(node.right)
        if isinstance(node, c_ast.Cast):
            return self.is_constant(node.expr)
        if isinstance(node, c_ast.TernaryOp):
            return all(self.is_constant(n) for n in (node.cond, node.iftrue, node.iffalse))
        return False

    def storage(self, decl: Any) -> None:
        """An object with static storage has to be const, all of it."""
        kind = decl.type
        while isinstance(kind, c_ast.ArrayDecl):
            kind = kind.type
        if decl.name is None or isinstance(kind, c_ast.FuncDecl):
            return
        if "const" not in (kind.quals or ()):
            self.report(f"writable object {decl.name} with static storage")


def _recursion(functions: Mapping[str, Any]) -> list[str]:
    """One message per function that can call itself, directly or not."""
    calls = {
        name: {
            n.name.name
            for n in _walk(function)
            if isinstance(n, c_ast.FuncCall) and isinstance(n.name, c_ast.ID)
        }
        for name, function in functions.items()
    }
    return [f"function {name}: recursion" for name in functions if _reaches(calls, name)]


def _reaches(calls: Mapping[str, set[str]], start: str) -> bool:
    seen: set[str] = set()
    todo = set(calls[start])
    while todo:
        name = todo.pop()
        if name == start:
            return True
        if name not in seen:
            seen.add(name)
            todo |= calls.get(name, set())
    return False
