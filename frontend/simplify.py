"""Compute at compile time what does not depend on the inputs, so that shape arithmetic disappears.

One walk over the nodes in execution order. Each node's output shapes follow from the shapes and
constants before it; a node that reads constants only, or only the shape of something, becomes a
constant at once, so the next Reshape finds its target shape known.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, defs, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from qcc.errors import QccError, short
from qcc.frontend.structure import is_known, opset
from qcc.frontend.tensors import MAX_ELEMENTS, dense, describe, to_array
from qcc.frontend.weights import clip_bounds
from qcc.ir import Array, Shape

MAX_FOLDED_ELEMENTS = 1 << 27
"""Elements that all evaluations together may read and write: bounds their time and memory."""

_RANDOM = frozenset(
    {
        "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
        "RandomUniformLike",
    }
)  # fmt: skip
"""Never folded. Dropout is random in training mode."""

_LINEAR = frozenset(
    {
        "Abs", "Add", "Cast", "CastLike", "Ceil", "Clip", "Concat", "ConstantOfShape",
        "DequantizeLinear", "Div", "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather",
        "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "Max", "Min", "Mul",
        "Neg", "Not", "Pad", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin",
        "ReduceProd", "ReduceSum", "Relu", "Reshape", "Sigmoid", "Sign", "Slice", "Split", "Sqrt",
        "Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""Operators that numpy evaluates in one pass over their data, in every version of them."""

_PRODUCTS = frozenset({"Gemm", "MatMul"})

_LINEAR_ELEMENTS = 1 << 25
_PRODUCT_STEPS = 1 << 30
_OTHER_ELEMENTS = 1 << 12
"""The most that one evaluation may cost: elements, multiplications, and elements where the
evaluator may loop over them in Python."""

_SIZE_FROM_DATA = frozenset({"Compress", "NonZero", "Unique"})
"""Foldable although their output's shape is known only afterwards: it cannot exceed the input's."""

_EVALUATED_AS = {"DequantizeLinear": 19}
"""The evaluator starts with this version, which only adds types to the ones before it."""

_SMALL = 1 << 10
"""Constants up to this size are shown to shape inference, which reads shapes, axes, scales."""


@dataclass(slots=True)
class SimplifiedModel:
    """What is left to compute, and what is known of it.

    Attributes:
        nodes: in execution order; every one contributes to an output. An optional output that
            nothing reads is absent.
        constants: values of the weights and folded results that ``nodes`` or ``outputs`` use.
        shapes: static shape of every value whose shape is known: all but those in ``faults``
            and what depends on them.
        types: ONNX element type of the same values.
        faults: first output of a node whose shapes do not work out -> why.
        inputs: names, without those that are constants.
        outputs: names.
        opset: version of the default domain.
    """

    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: list[onnx.NodeProto]
    constants: dict[str, Array]
    shapes: dict[str, Shape]
    types: dict[str, int]
    faults: dict[str, str] = field(default_factory=dict[str, str])


def simplify(model: onnx.ModelProto, input_shapes: Mapping[str, Shape]) -> SimplifiedModel:
    """*model* for inputs of the given fixed shapes, constants folded, dead nodes dropped.

    Args:
        model: valid ONNX, nodes in execution order; it stays as it is.
        input_shapes: every input that is no initializer -> its shape.

    Raises:
        QccError: a value is too large, a constant is damaged or works out to NaN or infinity.
    """
    graph = model.graph
    outputs = tuple(o.name for o in graph.output)
    weights = {t.name: to_array(t, f"weight {short(t.name)!r}") for t in graph.initializer}
    simple = SimplifiedModel(
        opset=opset(model),
        inputs=tuple(input_shapes),
        outputs=outputs,
        nodes=[],
        constants=weights,
        shapes={**input_shapes, **{name: value.shape for name, value in weights.items()}},
        types={t.name: t.data_type for t in graph.initializer},
    )
    types = {v.name: v.type.tensor_type.elem_type for v in graph.input}
    simple.types.update((name, types[name]) for name in input_shapes)
    spent = 0
    for node in _needed(graph.node, outputs):
        folded = _fold(simple, node)
        if folded is None:
            simple.nodes.append(node)
            continue
        for name, value in folded.items():
            _define(simple, name, value)
        if (spent := spent + _cost(simple, node)) > MAX_FOLDED_ELEMENTS:
            raise QccError(f"{describe(node)}: the model's constants take too much to compute")
    simple.nodes = _trimmed(_needed(simple.nodes, outputs), outputs, simple.opset)
    _forget_unused(simple)
    _check_finite(simple)
    return simple


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that contribute to *outputs*."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.isdisjoint(filter(None, node.output)):
            continue
        kept.append(node)
        wanted.update(node.input)
        wanted.update(_captured(node))
    return kept[::-1]


def _captured(node: onnx.NodeProto) -> set[str]:
    """Names that the subgraphs of *node* read, their own among them."""
    graphs = [g for a in node.attribute for g in (*a.graphs, *([a.g] if a.HasField("g") else ()))]
    names = {o.name for g in graphs for o in g.output}
    for inner in (n for g in graphs for n in g.node):
        names.update(inner.input, _captured(inner))
    return names


# -- one node -----------------------------------------------------------------------------------


def _fold(simple: SimplifiedModel, node: onnx.NodeProto) -> dict[str, Array] | None:
    """The outputs of *node* if they can be known now; else its shapes are noted, and None."""
    if not is_known(node, simple.opset) or _has_subgraph(node):
        return None
    if node.op_type == "Constant":
        return _constant(node)
    if node.op_type in ("Shape", "Size") and node.input[0] in simple.shapes:
        return {node.output[0]: _shape_of(node, simple.shapes[node.input[0]])}
    if not all(name in simple.shapes for name in node.input if name):
        return None
    _infer(simple, node)
    if not _affordable(simple, node):
        return None
    return _evaluate(simple, node)


def _constant(node: onnx.NodeProto) -> dict[str, Array] | None:
    """The value of a Constant node, in any of its spellings."""
    if len(node.attribute) != 1:
        return None
    attribute, label = node.attribute[0], describe(node)
    value = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        array = to_array(attribute.t, label)
    elif attribute.type == AttributeProto.SPARSE_TENSOR:
        array = to_array(dense(attribute.sparse_tensor, label), label)
    elif attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
        array = np.asarray(value, np.float32)
    elif attribute.type in (AttributeProto.INT, AttributeProto.INTS):
        array = np.asarray(value, np.int64)
    else:
        array = np.asarray(value, object)
    return {node.output[0]: array}


def _shape_of(node: onnx.NodeProto, shape: Shape) -> Array:
    if node.op_type == "Size":
        return np.asarray(math.prod(shape), np.int64)
    bounds = {a.name: a.i for a in node.attribute}
    # Out-of-range bounds are clamped, as Python's slices do.
    return np.asarray(shape[bounds.get("start", 0) : bounds.get("end")], np.int64)


def _infer(simple: SimplifiedModel, node: onnx.NodeProto) -> None:
    """Note shapes and types of the outputs of *node*, or a fault."""
    model = _single(simple, node, _visible(simple, node))
    try:
        inferred = shape_inference.infer_shapes(model, strict_mode=True)
    except Exception as error:  # strict inference raises its own type, and ValueError for names
        _fault(simple, node, _reason(error))
        return
    for value in inferred.graph.output:
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        if not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in dims):
            continue
        shape = tuple(d.dim_value for d in dims)
        if min(shape, default=0) < 0:
            _fault(simple, node, f"its output would have the shape {list(shape)}")
            continue
        if math.prod(shape) > MAX_ELEMENTS:
            raise QccError(
                f"{describe(node)} makes {math.prod(shape)} elements ({_text(shape)});"
                f" at most {MAX_ELEMENTS} are supported"
            )
        simple.shapes[value.name], simple.types[value.name] = shape, tensor.elem_type
    if node.op_type == "Reshape" and node.output[0] in simple.shapes:
        _check_reshape(simple, node)


def _check_reshape(simple: SimplifiedModel, node: onnx.NodeProto) -> None:
    """Shape inference believes a shape that is given in full."""
    before, after = simple.shapes[node.input[0]], simple.shapes[node.output[0]]
    if math.prod(before) != math.prod(after):
        del simple.shapes[node.output[0]]
        _fault(simple, node, f"{_text(before)} does not have the elements of {_text(after)}")


def _fault(simple: SimplifiedModel, node: onnx.NodeProto, why: str) -> None:
    simple.faults[next(filter(None, node.output))] = why


def _affordable(simple: SimplifiedModel, node: onnx.NodeProto) -> bool:
    """Whether *node* is a function of constants that is cheap enough to evaluate."""
    if node.op_type in _RANDOM or not all(n in simple.constants for n in node.input if n):
        return False
    if any(simple.constants[n].dtype == object for n in node.input if n):
        return False
    elements = _elements(simple, node)
    if node.op_type in _SIZE_FROM_DATA:
        return elements <= _OTHER_ELEMENTS
    if not all(n in simple.shapes for n in node.output if n):
        return False
    if node.op_type in _LINEAR:
        return elements <= _LINEAR_ELEMENTS
    if node.op_type in _PRODUCTS:
        return _steps(simple, node) <= _PRODUCT_STEPS
    # The evaluator may read an old version of an operator as its newest (Softmax before 13).
    schema = defs.get_schema(node.op_type, simple.opset, "")
    newest = defs.get_schema(node.op_type, "").since_version
    return schema.since_version == newest and elements <= _OTHER_ELEMENTS


def _elements(simple: SimplifiedModel, node: onnx.NodeProto) -> int:
    """Elements that *node* reads and writes, as far as their number is known."""
    names = [*node.input, *node.output]
    return sum(math.prod(simple.shapes[name]) for name in names if name in simple.shapes)


def _steps(simple: SimplifiedModel, node: onnx.NodeProto) -> int:
    """Multiplications of the matrix product *node*, or somewhat more."""
    longest = max(simple.shapes[node.input[0]], default=1)
    return math.prod(simple.shapes[node.output[0]]) * longest


def _cost(simple: SimplifiedModel, node: onnx.NodeProto) -> int:
    """What evaluating *node* cost, counted in elements."""
    products = _steps(simple, node) >> 6 if node.op_type in _PRODUCTS else 0
    return _elements(simple, node) + products


def _evaluate(simple: SimplifiedModel, node: onnx.NodeProto) -> dict[str, Array] | None:
    """The outputs of *node*, whose inputs are constants; None where the evaluator cannot."""
    inputs = [name for name in dict.fromkeys(node.input) if name]
    names = [name for name in node.output if name]
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = ReferenceEvaluator(_single(simple, node, {}))
            values = evaluator.run(None, {name: simple.constants[name] for name in inputs})
    except Exception:  # anything may be missing in the evaluator; the node then stays as it is
        return None
    assert isinstance(values, list)
    folded: dict[str, Array] = {}
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, np.ndarray | np.generic):
            return None
        elem_type = simple.types.get(name, TensorProto.INT64)
        array = np.asarray(value, helper.tensor_dtype_to_np_dtype(elem_type))
        if array.shape != simple.shapes.get(name, array.shape):
            return None
        folded[name] = array
    return folded


def _define(simple: SimplifiedModel, name: str, value: Array) -> None:
    """Note that *name* is the constant *value*."""
    simple.constants[name], simple.shapes[name] = value, value.shape
    text = value.dtype == object
    elem_type = TensorProto.STRING if text else helper.np_dtype_to_tensor_dtype(value.dtype)
    simple.types.setdefault(name, elem_type)


# -- models of one node ---------------------------------------------------------------------------


def _single(
    simple: SimplifiedModel, node: onnx.NodeProto, visible: Mapping[str, TensorProto]
) -> onnx.ModelProto:
    """A model of *node* alone: inputs by type and shape, or by value where *visible*."""
    names = [name for name in dict.fromkeys(node.input) if name]
    inputs = [
        helper.make_tensor_value_info(name, simple.types[name], simple.shapes[name])
        for name in names
        if name not in visible
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "single", inputs, outputs, list(visible.values()))
    version = max(simple.opset, _EVALUATED_AS.get(node.op_type, 0))
    opsets = [helper.make_opsetid("", version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=onnx.IR_VERSION)


def _visible(simple: SimplifiedModel, node: onnx.NodeProto) -> dict[str, TensorProto]:
    """The small constants that *node* reads, for shape inference."""
    visible: dict[str, TensorProto] = {}
    for name in filter(None, node.input):
        value = simple.constants.get(name)
        if value is not None and value.size <= _SMALL and value.dtype.kind in "biuf":
            visible[name] = numpy_helper.from_array(value, name)
    return visible


def _has_subgraph(node: onnx.NodeProto) -> bool:
    return any(a.HasField("g") or a.graphs for a in node.attribute)


# -- tidying up ------------------------------------------------------------------------------------


def _trimmed(
    nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], version: int
) -> list[onnx.NodeProto]:
    """*nodes* without the optional outputs that nothing reads (masks, indices, statistics)."""
    read = {*outputs, *(name for n in nodes for name in (*n.input, *_captured(n)))}
    trimmed = []
    for node in nodes:
        if len(node.output) > 1 and is_known(node, version):
            formal = defs.get_schema(node.op_type, version, "").outputs
            optional = defs.OpSchema.FormalParameterOption.Optional
            kept = [
                ""
                if i < len(formal) and formal[i].option == optional and name not in read
                else name
                for i, name in enumerate(node.output)
            ]
            while kept and not kept[-1]:
                kept.pop()
            node = _with_outputs(node, kept)
        trimmed.append(node)
    return trimmed


def _with_outputs(node: onnx.NodeProto, outputs: Sequence[str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.output[:]
    copy.output.extend(outputs)
    return copy


def _forget_unused(simple: SimplifiedModel) -> None:
    """Keep the constants and facts of names that the model still has."""
    used = {name for node in simple.nodes for name in (*node.input, *node.output)}
    used.update(simple.inputs, simple.outputs)
    simple.constants = {n: v for n, v in simple.constants.items() if n in used}
    simple.shapes = {n: s for n, s in simple.shapes.items() if n in used}
    simple.types = {n: t for n, t in simple.types.items() if n in used}


def _check_finite(simple: SimplifiedModel) -> None:
    """Refuse constants that work out to NaN or infinity, except infinite bounds of Clip."""
    bounds = clip_bounds(simple.nodes, simple.outputs)
    for name, value in simple.constants.items():
        if value.dtype != np.float32:
            continue
        if (np.isnan(value) if name in bounds else ~np.isfinite(value)).any():
            raise QccError(f"the constant {short(name)!r} works out to NaN or infinity")


def _reason(error: Exception) -> str:
    """What strict shape inference says, without its prefixes."""
    text = str(error).strip().split("\n")[0]
    return short(text.rsplit("] ", 1)[-1].split("): ", 1)[-1], 120) or type(error).__name__


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
