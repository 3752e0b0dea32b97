"""Text of the model on its way into C: the only functions through which it may pass.

Names in a model are any text, up to hostile. What comes out of here is plain ASCII, compiles
without a warning in C and C++, and depends on nothing but the text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

MAX_IDENTIFIER = 48
MAX_COMMENT = 200
MAX_STRING = 1000
"""Characters; as UTF-8 they stay within the 4095 bytes that every C compiler takes."""

_C = """
    auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while alignas alignof bool constexpr false nullptr static_assert
    thread_local true typeof typeof_unqual asm fortran complex imaginary noreturn
"""
_CPP = """
    and and_eq bitand bitor catch char8_t char16_t char32_t class co_await co_return co_yield compl
    concept const_cast consteval constinit decltype delete dynamic_cast explicit export friend
    module import mutable namespace new noexcept not not_eq operator or or_eq private protected
    public reinterpret_cast requires static_cast template this throw try typeid typename using
    virtual wchar_t xor xor_eq final override
"""
# Not keywords, but macros or functions that the generated files, or any program that includes
# them, may have around.
_USED = """
    main memcpy memset memmove memcmp null offsetof assert errno eof linux unix i386 arm near far
    arena interrupt huge
"""
# Headers of compilers, C libraries and the check program, which <name>.h must not hide.
_HEADERS = """
    assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign
    stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar
    wchar wctype alloca endian features malloc memory sched strings unistd
    board compare layers vectors
"""
_RESERVED = frozenset(f"{_C} {_CPP} {_USED}".split())
_RESERVED_FILES = frozenset(_HEADERS.split())
# The names of stdint.h, and with them all others that end like types or limits.
_STDINT = re.compile(r"u?int((_(fast|least))?\d*|max|ptr)_(t|min|max|c|width)|\w+_(t|max)")


def c_identifier(text: str) -> str:
    """An ASCII identifier for *text*, readable where the text is.

    It begins with a letter, has no underscore at its ends and no two in a row (reserved in C++),
    is no keyword or common macro whatever the case, is not in the run-time's ``qcc_`` name space,
    and has at most ``MAX_IDENTIFIER`` characters; longer text ends in a hash of all of it.
    Different texts may give the same identifier: see ``unique``.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "unnamed"
    if not name[0].isalpha() or _is_reserved(name.lower()):
        name = f"n_{name}"
    if len(name) <= MAX_IDENTIFIER:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: MAX_IDENTIFIER - 9].rstrip('_')}_{digest}"


def model_name(text: str) -> str:
    """An identifier for a model called *text*, whose files can be named by it."""
    name = c_identifier(text)
    return f"n_{name}" if name.lower() in _RESERVED_FILES else name


def _is_reserved(lower: str) -> bool:
    in_runtime = lower == "qcc" or lower.startswith("qcc_")
    return lower in _RESERVED or in_runtime or _STDINT.fullmatch(lower) is not None


def unique(names: Iterable[str]) -> list[str]:
    """Identifiers for *names*, in order, no two alike even where case does not count.

    The first of several equals keeps the plain identifier, the others get ``_2``, ``_3``, ...
    """
    bases = [c_identifier(name) for name in names]
    plain = {base.lower() for base in bases}
    used: set[str] = set()
    counter: dict[str, int] = {}
    result = []
    for base in bases:
        name, key = base, base.lower()
        while name.lower() in used or (name != base and name.lower() in plain):
            counter[key] = counter.get(key, 1) + 1
            suffix = f"_{counter[key]}"
            name = base[: MAX_IDENTIFIER - len(suffix)].rstrip("_") + suffix
        used.add(name.lower())
        result.append(name)
    return result


def c_comment(text: str) -> str:
    """*text* on one line for a comment of either kind; the template puts spaces around it.

    Nothing in it ends or opens a comment, continues a line or is a trigraph.
    """
    plain = re.sub(r"[^ -~]+", "?", text).replace("\\", "|")
    plain = _shortened(plain, MAX_COMMENT)
    plain = re.sub(r"\*(?=/)|/(?=\*)|\?(?=\?)", lambda m: f"{m[0]} ", plain)
    return plain.strip()


def c_string(text: str) -> str:
    """A C string literal, quotes included, of the UTF-8 bytes of *text*.

    Text over ``MAX_STRING`` characters loses its middle.
    """
    data = _shortened(text, MAX_STRING).encode("utf-8", "replace")
    return f'"{"".join(map(_escaped, data))}"'


def _escaped(byte: int) -> str:
    char = chr(byte)
    if char in '"\\?':  # ? because of trigraphs
        return f"\\{char}"
    # Octal escapes end after three digits, hexadecimal ones only at the next other character.
    return char if 0x20 <= byte < 0x7F else f"\\{byte:03o}"


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}...{text[-half:]}"
