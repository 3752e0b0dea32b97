"""The purity check: every rule is seen to fail, and clean code passes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qcc.codegen.purity import check_purity, preprocess
from qcc.errors import QccError

ROOT = Path(__file__).parents[2]

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")

CLEAN = """
#include <stdint.h>
#include <stddef.h>
#include <string.h>
enum { WIDTH = 4 };
static const int8_t table[3][2] = {{1, -2}, {3, 4}, {5, INT8_MIN}};
static const int8_t *const rows[] = {table[0], table[1]};
typedef struct { int32_t a; int16_t b[WIDTH]; } pair_t;
static inline int32_t half(int32_t v) { return v / 2 + v % (1 << 3) + v / WIDTH; }
int model_run(const int8_t *x, int8_t *y, void *arena)
{
    int32_t acc[2 * WIDTH] = {0};
    pair_t p = {1, {2, 3, 4, 5}};
    if ((x == NULL) || (arena == NULL)) { return -1; }
    memset(arena, 0, sizeof(acc));
    memcpy(y, rows[1], 2u);
    for (int32_t i = 0; i < WIDTH; i++) { acc[i] += half(p.b[i]) * x[i]; }
    acc[0] /= 3;
    y[0] = (int8_t)acc[0];
    return 0;
}
"""


@needs_gcc
def test_clean_code_passes(tmp_path: Path) -> None:
    source = tmp_path / "clean.c"
    source.write_text(CLEAN)
    assert check_purity(preprocess(source)) == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("void f(float x) { (void)x; }", "function f: floating type float"),
        ("typedef long double real;", "declaration of real: floating type long double"),
        ("int f(int x) { return (int)(double)x; }", "function f: floating type double"),
        ("int f(int x) { return x * 2.0; }", "function f: floating constant 2.0"),
        ("int f(int x) { return x * 1e3f; }", "function f: floating constant 1e3f"),
        ("int f(int x) { return x * 0x1p3; }", "function f: floating constant 0x1p3"),
        (
            "void *malloc(unsigned long n); void *f(void) { return malloc(4); }",
            "function f: call of malloc, which is not defined here",
        ),
        ("int f(void) { return rand(); }", "function f: call of rand, which is not defined here"),
        ("int f(int (*g)(void)) { return (*g)(); }", "function f: call through a pointer"),
        ("int f(int x, int y) { return x / y; }", "function f: / by something that is not a const"),
        ("int f(int x, int y) { return x % (y + 1); }", "function f: % by something that is not"),
        ("int f(int x, int y) { x /= y; return x; }", "function f: /= by something that is not"),
        ("int f(int x, int y) { x %= y; return x; }", "function f: %= by something that is not"),
        ("int f(int x) { return x / 0x0u; }", "function f: / by zero"),
        (
            "static const int n = 3; int f(int x) { return x / n; }",
            "function f: / by something that is not a constant",
        ),
        ("int f(int n) { return n ? f(n - 1) : 0; }", "function f: recursion"),
        ("int f(int n) { int a[n]; return a[0]; }", "function f: array of variable size"),
        ("int state;", "declaration of state: writable object state with static storage"),
        ("static int a[2][2];", "declaration of a: writable object a with static storage"),
        ("static const int *p;", "declaration of p: writable object p with static storage"),
        ("extern int state;", "declaration of state: writable object state with static storage"),
        ("int f(void) { static int n; return n++; }", "function f: writable object n with static"),
        ("int f(void) { extern int n; return n; }", "function f: writable object n with static"),
        ("int f(int x) { if (x) goto end; x = 1; end: return x; }", "function f: goto end"),
        ("int f(void) { return __builtin_abs(1); }", "function f: call of __builtin_abs, which is"),
    ],
)
def test_violation_is_found_and_is_the_only_one(code: str, message: str) -> None:
    (found,) = check_purity(code)
    assert found.startswith(message)


def test_mutual_recursion_names_every_function_of_the_cycle() -> None:
    code = "int g(int); int f(int n) { return g(n); } int g(int n) { return f(n); } " + (
        "int h(int n) { return f(n); }"
    )
    assert check_purity(code) == ["function f: recursion", "function g: recursion"]


def test_functions_of_other_units_may_be_allowed() -> None:
    code = "int g(int x); int f(int x) { return g(x); }"
    assert check_purity(code, externals=["g"]) == []


def test_text_that_is_no_c_is_a_violation() -> None:
    (found,) = check_purity("int f( {")
    assert found.startswith("not C99")


def test_large_tables_are_skipped_but_not_what_is_in_them() -> None:
    numbers = ", ".join(["-1, 2"] * 200)
    assert check_purity(f"static const int t[] = {{{numbers}}};") == []
    (found,) = check_purity(f"static const int t[] = {{{numbers}, 1.5}};")
    assert "floating constant 1.5" in found


@needs_gcc
def test_macros_and_folders_reach_the_preprocessor(tmp_path: Path) -> None:
    (tmp_path / "inc").mkdir()
    (tmp_path / "inc" / "kernel.h").write_text("static inline T id(T v) { return v; }\n")
    source = tmp_path / "a.c"
    source.write_text('#include "kernel.h"\n')
    text = preprocess(source, [tmp_path / "inc"], {"T": "double"})
    assert check_purity(text) == ["function id: floating type double"]


@needs_gcc
def test_system_headers_and_errors_are_one_sentence(tmp_path: Path) -> None:
    source = tmp_path / "a.c"
    source.write_text("#include <math.h>\n")
    with pytest.raises(QccError, match=r"a\.c: gcc cannot preprocess it"):
        preprocess(source)
    with pytest.raises(QccError, match="no-such-cc: cannot be run"):
        preprocess(source, compiler="no-such-cc")


@needs_gcc
def test_arithmetic_of_the_runtime_is_pure() -> None:
    header = ROOT / "runtime_c" / "include" / "qcc_arith.h"
    text = preprocess(header)
    assert "qcc_rescale_mult64" in text
    assert check_purity(text) == []
