"""Real functions of one variable as small trees: what the operator ``unary`` computes.

A tree is hashable, prints compactly, and is evaluated only at compile time, in float64: qcc turns
it into a table, or into a clamp where it is one. Compositions of trees are trees, so that a model's
x * Clip(x + 3, 0, 6) / 6 ends as one table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Range = tuple[float, float]

UNBOUNDED: Range = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Var:
    """The variable."""

    def __repr__(self) -> str:
        return "x"


@dataclass(frozen=True, slots=True)
class Const:
    """A real constant; infinities are allowed as bounds of a clip."""

    value: float

    def __repr__(self) -> str:
        return f"{self.value:.7g}"


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of ``FUNCTIONS`` applied to arguments."""

    fn: str
    args: tuple[Expr, ...]

    def __repr__(self) -> str:
        return f"{self.fn}({', '.join(map(repr, self.args))})"


Expr = Var | Const | Apply

X = Var()


def apply(fn: str, *args: Expr | float) -> Expr:
    """The call of *fn*, numbers taken as constants; a clip of a clip becomes one clip."""
    nodes = tuple(Const(float(a)) if isinstance(a, (int, float)) else a for a in args)
    if fn == "clip":
        return _clip(*nodes)
    return Apply(fn, nodes)


def clip(x: Expr, lo: float, hi: float) -> Expr:
    """min(max(x, lo), hi), as ONNX defines it when lo > hi."""
    return apply("clip", x, lo, hi)


def _clip(x: Expr, lo: Expr, hi: Expr) -> Expr:
    assert isinstance(lo, Const)
    assert isinstance(hi, Const)
    bounds = intersect(UNBOUNDED, (lo.value, hi.value))
    if isinstance(x, Apply) and x.fn == "clip":
        inner = x.args
        assert isinstance(inner[1], Const)
        assert isinstance(inner[2], Const)
        x, bounds = inner[0], intersect((inner[1].value, inner[2].value), bounds)
    if bounds == UNBOUNDED:
        return x
    return Apply("clip", (x, Const(bounds[0]), Const(bounds[1])))


def intersect(inner: Range, outer: Range) -> Range:
    """The bounds of clip(clip(x, *inner), *outer); one point where the two do not meet."""
    lo, hi = (min(max(v, outer[0]), outer[1]) for v in inner)
    return lo, hi


def clip_bounds(expr: Expr) -> Range | None:
    """(lo, hi) if *expr* is a clip of the variable itself, and nothing more."""
    if not isinstance(expr, Apply) or expr.fn != "clip" or expr.args[0] != X:
        return None
    lo, hi = expr.args[1:]
    assert isinstance(lo, Const)
    assert isinstance(hi, Const)
    return lo.value, hi.value


def compose(outer: Expr, inner: Expr) -> Expr:
    """outer(inner(x))."""
    if isinstance(outer, Var):
        return inner
    if isinstance(outer, Const):
        return outer
    return apply(outer.fn, *(compose(a, inner) for a in outer.args))


def size(expr: Expr) -> int:
    """Number of nodes of the tree."""
    return 1 + sum(map(size, expr.args)) if isinstance(expr, Apply) else 1


def evaluate(expr: Expr, x: npt.ArrayLike) -> F64:
    """The values at *x* in float64; infinite or NaN where the function is."""
    with np.errstate(all="ignore"):
        return _evaluate(expr, np.asarray(x, np.float64))


def _evaluate(expr: Expr, x: F64) -> F64:
    if isinstance(expr, Var):
        return x
    if isinstance(expr, Const):
        return np.full_like(x, expr.value)
    value = FUNCTIONS[expr.fn].value
    return np.asarray(value(*(_evaluate(a, x) for a in expr.args)), np.float64)


def bounds(expr: Expr, x: Range) -> Range:
    """An interval that holds every value for arguments in *x*; not always the tightest."""
    if isinstance(expr, Var):
        return x
    if isinstance(expr, Const):
        return expr.value, expr.value
    ranges = [bounds(a, x) for a in expr.args]
    square = expr.fn == "mul" and expr.args[0] == expr.args[1]
    with np.errstate(all="ignore"):
        if square:
            return _pow(ranges[0], (2.0, 2.0))
        return FUNCTIONS[expr.fn].bounds(*ranges)


# -- the functions --------------------------------------------------------------------------------

Value = Callable[..., F64]
Rule = Callable[..., Range]


@dataclass(frozen=True, slots=True)
class Function:
    """Values on arrays, and bounds on intervals, of one function."""

    value: Value
    bounds: Rule


def _pieces(value: Value, *turns: float) -> Function:
    """A function that is monotonic between the points *turns*; its other arguments are numbers."""

    def rule(x: Range, *params: Range) -> Range:
        inside = [t for t in turns if x[0] < t < x[1]]
        points, rest = np.array([*x, *inside]), [np.float64(p[0]) for p in params]
        # inf * 0 and inf / inf have a limit, which the largest numbers show.
        v, limit = value(points, *rest), value(np.clip(points, -1e300, 1e300), *rest)
        return _hull(np.where(np.isnan(v), limit, v))

    return Function(value, rule)


def _hull(values: F64) -> Range:
    if np.isnan(values).any():
        return UNBOUNDED
    return float(values.min()), float(values.max())


def _corners(value: Value) -> Rule:
    """The rule of a product or sum: its extremes lie in the corners; 0 * inf counts as 0."""

    def rule(a: Range, b: Range) -> Range:
        v = value(np.array([a[0], a[0], a[1], a[1]]), np.array([*b, *b]))
        return _hull(np.where(np.isnan(v), 0.0, v))

    return rule


def _div(a: Range, b: Range) -> Range:
    if b[0] <= 0 <= b[1]:
        return UNBOUNDED
    return _corners(np.divide)(a, b)


def _reciprocal(x: Range) -> Range:
    return _div((1.0, 1.0), x)


def _of_positive(value: Value) -> Rule:
    """The rule of an increasing function of x > 0; below 0 it counts as continued from 0."""

    def rule(x: Range) -> Range:
        return _hull(value(np.maximum(np.array(x), 0.0)))

    return rule


def _pow(x: Range, exponent: Range) -> Range:
    e = exponent[0]
    even = e > 0 and e % 2 == 0
    if e > 0 and (x[0] >= 0 or float(e).is_integer()):
        return _pieces(lambda v: np.power(v, e), *([0.0] if even else [])).bounds(x)
    return (0.0, math.inf) if x[0] >= 0 or e % 2 == 0 else UNBOUNDED


def _thresholded(x: Range, alpha: Range) -> Range:
    return min(0.0, max(x[0], alpha[0])), max(0.0, x[1])


def _unit(x: Range) -> Range:
    return -1.0, 1.0


_object_erf = np.frompyfunc(math.erf, 1, 1)


def _erf(x: F64) -> F64:
    return np.asarray(_object_erf(x), np.float64)


def _sigmoid(x: F64) -> F64:
    return np.asarray(np.exp(-np.logaddexp(0.0, -x)), np.float64)


def _softplus(x: F64) -> F64:
    return np.asarray(np.logaddexp(0.0, x), np.float64)


def _negative_part(x: F64) -> F64:
    """min(x, 0): exponentials of the other half would overflow."""
    return np.minimum(x, 0.0)


def _gelu_tanh(x: F64) -> F64:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return np.asarray(0.5 * x * (1 + np.tanh(inner)), np.float64)


FUNCTIONS: dict[str, Function] = {
    "add": Function(np.add, _corners(np.add)),
    "sub": Function(np.subtract, _corners(np.subtract)),
    "mul": Function(np.multiply, _corners(np.multiply)),
    "div": Function(np.divide, _div),
    "pow": Function(np.power, _pow),
    "clip": _pieces(lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi)),
    "leaky_relu": _pieces(lambda x, alpha: np.where(x < 0, alpha * x, x), 0.0),
    "elu": _pieces(lambda x, a: np.where(x < 0, a * np.expm1(_negative_part(x)), x), 0.0),
    "celu": _pieces(lambda x, a: np.where(x < 0, a * np.expm1(_negative_part(x) / a), x), 0.0),
    "selu": _pieces(lambda x, a, g: g * np.where(x < 0, a * np.expm1(_negative_part(x)), x), 0.0),
    "thresholded_relu": Function(lambda x, alpha: np.where(x > alpha, x, 0.0), _thresholded),
    "sigmoid": _pieces(_sigmoid),
    "hard_sigmoid": _pieces(lambda x, a, b: np.clip(a * x + b, 0.0, 1.0)),
    "tanh": _pieces(np.tanh),
    "softplus": _pieces(_softplus),
    "softsign": _pieces(lambda x: x / (1 + np.abs(x))),
    "erf": _pieces(_erf),
    "exp": _pieces(np.exp),
    "log": Function(np.log, _of_positive(np.log)),
    "sqrt": Function(np.sqrt, _of_positive(np.sqrt)),
    "reciprocal": Function(np.reciprocal, _reciprocal),
    # Each of the next five has one minimum; its place is the root of the derivative.
    "hard_swish": _pieces(lambda x: x * np.clip(x / 6 + 0.5, 0.0, 1.0), -1.5),
    "silu": _pieces(lambda x: x * _sigmoid(x), -1.2784645427610738),
    "gelu": _pieces(lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))), -0.7517915246935645),
    "gelu_tanh": _pieces(_gelu_tanh, -0.7524614220710162),
    "mish": _pieces(lambda x: x * np.tanh(_softplus(x)), -1.1924312145290846),
    "abs": _pieces(np.abs, 0.0),
    "neg": _pieces(np.negative),
    "sin": Function(np.sin, _unit),
    "cos": Function(np.cos, _unit),
    "floor": _pieces(np.floor),
    "ceil": _pieces(np.ceil),
    "round": _pieces(np.rint),
    "sign": _pieces(np.sign),
}
"""Every function that a tree may hold."""
