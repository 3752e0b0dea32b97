"""Text from templates, and the few spellings of values in C that all templates share."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import jinja2
import jinja2.meta
import numpy as np

from qcc.codegen.names import c_comment, c_string
from qcc.ir import Array, Shape

_TEMPLATES = Path(str(files("qcc.templates")))


def render(template: str, **args: object) -> str:
    """The text of templates/*template* with exactly the variables it uses.

    Raises:
        ValueError: when *args* are not the variables of the template, no more and no fewer.
    """
    used = _variables(template)
    if used != set(args):
        missing, unused = sorted(used - set(args)), sorted(set(args) - used)
        raise ValueError(f"{template}: missing variables {missing}, unused variables {unused}")
    return _environment().get_template(template).render(args)


def c_array(values: Array, per_line: int = 16) -> str:
    """The integers *values*, flattened, as the inside of a C initializer indented by four."""
    texts = list(map(_literal, np.ravel(values).tolist()))
    rows = (", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line))
    return ",\n    ".join(rows)


def c_float(value: float) -> str:
    """*value* as a literal of type float, rounded to the nearest one."""
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if set(text) & set(".e") else f"{text}.0f"


def dims(shape: Shape) -> str:
    """*shape* as C dimensions, ``[14][14][16]``; a batch axis of 1 is left out."""
    inner = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
    return "".join(f"[{d}]" for d in inner) or "[1]"


def affine(integer: str, scale: float, zero_point: int = 0) -> str:
    """The real value of *integer*, ``0.5 * (q - 3)``."""
    shifted = f"({integer} - {zero_point})" if zero_point else integer
    return f"{scale:.9g} * {shifted}"


def _literal(value: int) -> str:
    # The most negative int64 has no literal: -9223372036854775808 negates what does not fit.
    return str(value) if value != -(1 << 63) else "(-9223372036854775807 - 1)"


@cache
def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    env.filters |= {
        "affine": affine,
        "c_array": c_array,
        "c_comment": c_comment,
        "c_float": c_float,
        "c_string": c_string,
        "dims": dims,
    }
    return env


@cache
def _variables(template: str) -> frozenset[str]:
    env = _environment()
    assert env.loader is not None
    source = env.loader.get_source(env, template)[0]
    return frozenset(jinja2.meta.find_undeclared_variables(env.parse(source)))
