"""Model text in C: whatever comes in, what goes out compiles and means nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qcc.codegen.names import (
    MAX_COMMENT,
    MAX_IDENTIFIER,
    MAX_STRING,
    c_comment,
    c_identifier,
    c_string,
    unique,
)

HOSTILE = [
    "", " ", "_", "__", "0", "3x3", "int", "Int", "class", "co_await", "memcpy", "NULL", "null",
    "int8_t", "UINT16_MAX", "size_t", "INT32_C", "qcc_arith", "QCC", "main", "a b", "a/b:0", "é",
    "日本語", "\U0001f600", "*/ int x; /*", "/*/", "//", "/*", "\\", "a\\", "a\nb", "a\r\nb",
    "??/", "???/", "??=define x", '"', "'", "%s%n", "\0", "\x7f", "\u202e", "\u2028", "\ud800",
    "x" * 10_000, "*/" * 5_000, "?" * 10_000, "é" * 10_000, "A", "a", "a_2", "A.2", "-", "a--b",
    "#include <x>", "_Bool", "conv2d/Conv;StatefulPartitionedCall", "exit(1);", "{{ x }}",
]  # fmt: skip

anything = st.one_of(
    st.text(st.characters()),
    st.text(alphabet="*/\\?\"'\n_aA0:%"),
    st.sampled_from(HOSTILE),
)
IDENTIFIER = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")


@given(anything)
def test_identifier_is_a_short_plain_one(text: str) -> None:
    name = c_identifier(text)
    assert IDENTIFIER.fullmatch(name)
    assert len(name) <= MAX_IDENTIFIER


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("conv_1", "conv_1"),
        ("model/conv.1:0", "model_conv_1_0"),
        ("", "unnamed"),
        ("__", "unnamed"),
        ("_x_", "x"),
        ("a__b", "a_b"),
        ("3x3", "n_3x3"),
        ("int", "n_int"),
        ("Class", "n_Class"),
        ("NULL", "n_NULL"),
        ("int8_t", "n_int8_t"),
        ("INT32_MAX", "n_INT32_MAX"),
        ("qcc_conv2d", "n_qcc_conv2d"),
        ("interest", "interest"),
    ],
)
def test_identifiers(text: str, name: str) -> None:
    assert c_identifier(text) == name


def test_long_text_ends_in_a_hash_of_all_of_it() -> None:
    one, two = c_identifier("x" * 10_000), c_identifier("x" * 9_999)
    assert one != two
    assert one == "x" * (MAX_IDENTIFIER - 9) + "_" + one[-8:]
    assert c_identifier("x" * 10_000) == one


@given(st.lists(anything, max_size=30))
@example(["a", "a", "a_2", "A", "a_2"])
def test_unique_names_differ_where_case_does_not_count(names: list[str]) -> None:
    result = unique(names)
    assert len(result) == len(names)
    assert len({name.lower() for name in result}) == len(names)
    assert all(IDENTIFIER.fullmatch(n) and len(n) <= MAX_IDENTIFIER for n in result)
    assert result == unique(names)


def test_unique_leaves_plain_names_to_those_who_have_them() -> None:
    assert unique(["a", "a", "a_2", "A"]) == ["a", "a_3", "a_2", "A_4"]


def test_unique_is_quick_for_many_equals() -> None:
    assert unique(["conv"] * 10_000)[-1] == "conv_10000"


@given(anything)
def test_comment_text_stays_in_its_comment(text: str) -> None:
    safe = c_comment(text)
    assert re.fullmatch(r"[ -~]*", safe)
    assert not re.search(r"\*/|/\*|\?\?|\\", safe)
    assert len(safe) <= 2 * MAX_COMMENT


def test_comment_keeps_harmless_text() -> None:
    assert c_comment("model/conv_1:0 (3x3)") == "model/conv_1:0 (3x3)"
    assert c_comment("a */ b") == "a * / b"
    assert c_comment("one\ntwo") == "one?two"


def unescaped(literal: str) -> bytes:
    """The bytes of a literal that uses no escapes but octal, quote, backslash, question mark."""
    assert literal[0] == literal[-1] == '"'
    assert re.fullmatch(r'([ !#->@-\[\]-~]|\\["\\?]|\\[0-3][0-7]{2})*', literal[1:-1])
    parts = re.findall(r"\\[0-7]{3}|\\.|.", literal[1:-1])
    return bytes(
        int(p[1:], 8) if len(p) == 4 else ord(p[1]) if len(p) == 2 else ord(p) for p in parts
    )


@given(anything)
def test_string_literal_is_the_text(text: str) -> None:
    data = unescaped(c_string(text))
    assert len(data) <= 4095
    if len(text) <= MAX_STRING:
        assert data == text.encode("utf-8", "replace")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_hostile_text_compiles_without_a_warning(tmp_path: Path) -> None:
    lines = ["extern const char *const texts[];", "const char *const texts[] = {"]
    lines += [f"    {c_string(text)}, /* {c_comment(text)} */" for text in HOSTILE]
    lines += ["};"]
    for text, name in zip(HOSTILE, unique(HOSTILE), strict=True):
        comment = c_comment(text)
        lines += [f"// {comment}", f"int {name}(int {c_identifier(text)}_in); /* {comment} */"]
        lines += [f"int {name}(int {name}_x)", "{", f"    return {name}_x;", "}"]
    source = tmp_path / "hostile.c"
    source.write_text("#include <stdint.h>\n#include <string.h>\n" + "\n".join(lines) + "\n")
    flags = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-Wshadow", "-Wbidi-chars=any"]
    for language in (["-std=c99", "-trigraphs"], ["-x", "c++", "-std=c++11"]):
        command = ["gcc", *language, *flags, "-c", "-o", str(tmp_path / "o"), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
