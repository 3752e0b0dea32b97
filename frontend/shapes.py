"""Choose one fixed shape for every input of a model: qcc compiles static shapes, batch 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx

from qcc.errors import QccError, UsageError, short
from qcc.frontend.tensors import MAX_ELEMENTS
from qcc.ir import Shape

Dim = int | str | None
"""A dimension of an input: fixed, symbolic, or nothing known."""

_BATCHED = frozenset(
    {
        "AveragePool", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalLpPool",
        "GlobalMaxPool", "InstanceNormalization", "LRN", "LpPool", "MaxPool", "MaxUnpool",
    }
)  # fmt: skip
"""Operators whose kernels work on one sample: where one is used, the inputs' axis 0 is the batch.

Elsewhere axis 0 is an axis like any other, and compiled as it is.
"""


def static_inputs(
    model: onnx.ModelProto, shapes: Mapping[str, Shape] | None = None
) -> dict[str, Shape]:
    """The fixed shape of every input of *model* that is not a weight, in order.

    A first axis of unknown size is the batch and becomes 1; other unknown dimensions come from
    *shapes*, or from the same symbol in another input.

    Args:
        model: an ONNX model.
        shapes: ONNX input name -> shape, from ``--shape``.

    Raises:
        UsageError: *shapes* contradicts the model.
        QccError: an input's shape is not known or too large, or it is no tensor.
    """
    chosen = dict(shapes or {})
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {v.name: v for v in model.graph.input if v.name not in weights}
    if not inputs:
        raise QccError("the model has no input; there is nothing to compute at run time")
    for name in chosen:
        if name not in inputs:
            known = ", ".join(short(n, 40) for n in list(inputs)[:5])
            raise UsageError(f"--shape {short(name)}: the model has no such input; it has {known}")
    dims = {name: _dims(value) for name, value in inputs.items()}
    for name, shape in chosen.items():
        _check_choice(name, shape, dims[name])
    symbols = _symbols(dims, chosen)
    return {name: _fix(name, dims[name], chosen.get(name), symbols) for name in inputs}


def check_batch(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> None:
    """Refuse inputs of several samples where an operator of *model* works on one.

    Raises:
        QccError: naming the input and the option that makes it one sample.
    """
    batched = next((node.op_type for node in model.graph.node if node.op_type in _BATCHED), None)
    for name, shape in shapes.items():
        if batched is None or len(shape) < 2 or shape[0] == 1:
            continue
        raise QccError(
            f"input {short(name)!r} has a fixed batch of {shape[0]} ({batched} takes axis 0 as the"
            f" batch), and qcc compiles one sample at a time;"
            f" give --shape {short(name)}={_text((1, *shape[1:]))}"
        )


def option(name: str, dims: Sequence[Dim]) -> str:
    """The ``--shape`` option for input *name*; what the user has to fill in is in brackets."""
    named = ["1" if axis == 0 else f"<axis{axis}>" for axis in range(len(dims))]
    parts = [f"<{short(d, 20)}>" if isinstance(d, str) else d for d in dims]
    text = [name if part is None else str(part) for name, part in zip(named, parts, strict=True)]
    return f"--shape {short(name)}={','.join(text)}"


def _dims(value: onnx.ValueInfoProto) -> list[Dim] | None:
    """The dimensions of an input as the model declares them; None: not even their number."""
    where = f"input {short(value.name)!r}"
    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value") or "value of no type"
        raise QccError(f"{where} is a {kind.removesuffix('_type')}; only tensors are supported")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [_dim(d) for d in tensor.shape.dim]


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    # Exporters write an unknown size as 0 or -1 too.
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return dim.dim_value
    return dim.dim_param if dim.dim_param.isidentifier() else None


def _symbols(dims: Mapping[str, list[Dim] | None], chosen: Mapping[str, Shape]) -> dict[str, int]:
    """Sizes of the symbolic dimensions: 1 for a batch, else what *chosen* says of them."""
    sizes: dict[str, set[int]] = {}
    for name, shape in chosen.items():
        for dim, size in zip(dims[name] or [], shape, strict=False):
            if isinstance(dim, str):
                sizes.setdefault(dim, set()).add(size)
    # Some exporters give one name to dimensions that differ; such a name says nothing.
    symbols = {symbol: found.pop() for symbol, found in sizes.items() if len(found) == 1}
    for declared in dims.values():
        if declared and isinstance(declared[0], str):
            symbols.setdefault(declared[0], 1)
    return symbols


def _check_choice(name: str, shape: Shape, dims: list[Dim] | None) -> None:
    where = f"--shape {short(name)}={_text(shape)}"
    if min(shape, default=1) < 1:
        raise UsageError(f"{where}: every dimension must be at least 1")
    if dims is None:
        return
    if len(shape) != len(dims):
        raise UsageError(f"{where}: the input has {len(dims)} dimensions, {_shown(dims)}")
    for axis, (dim, size) in enumerate(zip(dims, shape, strict=True)):
        overridden = axis == 0 and size == 1  # a fixed batch becomes one sample
        if isinstance(dim, int) and dim != size and not overridden:
            raise UsageError(f"{where}: axis {axis} is fixed to {dim} in the model")


def _fix(
    name: str, dims: list[Dim] | None, chosen: Shape | None, symbols: Mapping[str, int]
) -> Shape:
    where = f"input {short(name)!r}"
    if chosen is None and dims is None:
        raise QccError(f"{where} has no shape; give one, such as --shape {short(name)}=1,3,32,32")
    if chosen is None:
        assert dims is not None
        known = [symbols.get(d) if isinstance(d, str) else d for d in dims]
        if known and known[0] is None:
            known[0] = 1
        if None in known:
            named: list[Dim] = [k if k is not None else d for k, d in zip(known, dims, strict=True)]
            raise QccError(
                f"{where} has the shape {_shown(dims)}, which is not fixed;"
                f" give it with {option(name, named)}"
            )
        chosen = tuple(k for k in known if k is not None)
    if (size := math.prod(chosen)) > MAX_ELEMENTS:
        raise QccError(
            f"{where} has {size} elements ({_text(chosen)}); at most {MAX_ELEMENTS} are supported"
        )
    return chosen


def _shown(dims: Sequence[Dim]) -> str:
    return f"[{', '.join('?' if d is None else short(str(d), 20) for d in dims)}]"


def _text(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))
