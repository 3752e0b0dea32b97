"""Read an ONNX model into a Graph: one ``Op.read`` per node that is left after simplification.

What qcc does not compile is collected over the whole model and reported at once: a node that
cannot be read is replaced by tensors of its outputs' shapes, and reading goes on behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto

from qcc.builder import Builder
from qcc.errors import QccError, UnsupportedError, short
from qcc.frontend.shapes import check_batch, static_inputs
from qcc.frontend.simplify import SimplifiedModel, simplify
from qcc.frontend.tensors import describe, type_name
from qcc.ir import Graph, Shape, Tensor

MAX_HINTS = 9
"""Lines after the first one; the command line prints at most ten in all."""

_NAMED = 3
"""Nodes that one hint names."""

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinear", "QGemm")
_QONNX = ("Quant", "BipolarQuant", "Trunc", "IntQuant")


def read_onnx(
    proto: onnx.ModelProto, name: str, shapes: Mapping[str, Shape] | None = None
) -> Graph:
    """The float graph of *proto*, static shapes, named *name*.

    Args:
        proto: a model that ``load_model`` or ``check_model`` returned, or one known to be valid
            and float32; it stays as it is.
        name: of the graph.
        shapes: ONNX input name -> shape, for inputs that the model leaves open.

    Raises:
        UnsupportedError: listing every node that qcc does not compile.
        QccError: the shapes do not work out, or an input or output cannot be compiled.
    """
    input_shapes = static_inputs(proto, shapes)
    simple = simplify(proto, input_shapes)
    graph = Graph(name)
    builder = Builder(graph, simple.opset, simple.constants, simple.shapes)
    for input_name, shape in input_shapes.items():
        builder.add_input(input_name, shape)
    _read_nodes(builder, simple)
    check_batch(proto, input_shapes)
    _check_output_batch(proto, simple)
    _bind_outputs(builder, simple)
    for tensor in list(graph.tensors()):
        graph.remove_if_unused(tensor.name)
    graph.verify()
    return graph


# -- nodes -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Refused:
    """What is not supported, so far.

    Attributes:
        reasons: (op type, reason) -> layers; inputs come under the op type "input".
        unknown: values that cannot be judged because a refused node makes them: they have no known
            shape, or would have been constants.
    """

    reasons: dict[tuple[str, str], list[str]] = field(
        default_factory=dict[tuple[str, str], list[str]]
    )
    unknown: set[str] = field(default_factory=set[str])

    def add(self, op_type: str, layer: str, reason: str) -> None:
        self.reasons.setdefault((op_type, reason), []).append(layer)


def _read_nodes(builder: Builder, simple: SimplifiedModel) -> None:
    """Read every node; raise at the end if some could not be.

    Raises:
        UnsupportedError: listing them.
        QccError: for the first one that is wrong rather than unsupported.
    """
    refused, names = _Refused(), _LayerNames()
    for name in simple.inputs:
        if (elem_type := simple.types[name]) != TensorProto.FLOAT:
            kind = type_name(elem_type)
            refused.add("input", name, f"it holds {kind} values; only float inputs are supported")
    for index, node in enumerate(simple.nodes):
        layer = names.of(node, index)
        reason = _unknown_operator(node)
        if reason is None and not _is_consequence(node, simple, refused):
            reason = _unfit_output(node, simple) or _read(builder, node, layer, refused)
            if reason is None:
                continue
        if reason is not None:
            refused.add(node.op_type, layer, reason)
        _hold_places(builder, node, simple, refused)
    if refused.reasons:
        raise _unsupported(refused.reasons)


def _unknown_operator(node: onnx.NodeProto) -> str | None:
    """Why the operator of *node* is none that qcc reads, if so."""
    from qcc.ops import ONNX_OPS

    if _is_quantizer(node):
        return "models that are quantized already are not supported yet"
    if node.domain not in ("", "ai.onnx"):
        return f"the operators of domain {short(node.domain, 40)!r} are not supported"
    if node.op_type not in ONNX_OPS:
        return "the operator is not supported"
    return None


def _is_consequence(node: onnx.NodeProto, simple: SimplifiedModel, refused: _Refused) -> bool:
    """Whether *node* cannot be judged because of what has been refused before it.

    All values that are computed are float, but for those of refused nodes and inputs.
    """
    return any(
        name in refused.unknown
        or (name not in simple.constants and simple.types.get(name) != TensorProto.FLOAT)
        for name in filter(None, node.input)
    )


def _unfit_output(node: onnx.NodeProto, simple: SimplifiedModel) -> str | None:
    """Why what *node* computes cannot be a tensor of the graph, if so."""
    outputs = [name for name in node.output if name]
    if fault := simple.faults.get(outputs[0]):
        raise QccError(f"{describe(node)}: its shapes do not fit: {fault}")
    if any(name not in simple.shapes for name in outputs):
        return "the shape of its output is known only at run time"
    for name in outputs:
        if simple.types[name] != TensorProto.FLOAT:
            return f"it computes {type_name(simple.types[name])} values; only float is supported"
        if 0 in simple.shapes[name]:
            raise QccError(f"{describe(node)}: its output is empty: {list(simple.shapes[name])}")
    return None


def _is_quantizer(node: onnx.NodeProto) -> bool:
    if node.domain in ("", "ai.onnx", "com.microsoft"):
        return node.op_type.startswith(_QUANTIZERS) or node.op_type.endswith("Integer")
    return node.op_type in _QONNX


def _read(builder: Builder, node: onnx.NodeProto, layer: str, refused: _Refused) -> str | None:
    """Read *node*, whose operator and shapes are known; the reason if it is not supported."""
    from qcc.ops import ONNX_OPS

    builder.begin(node, layer)
    try:
        ONNX_OPS[node.op_type].read(builder, node)
    except UnsupportedError as error:
        return error.message
    except QccError as error:
        raise QccError(f"{describe(node)}: {error.message}", error.hints) from error
    except ValueError as error:
        if refused.reasons:  # maybe a consequence; what has been refused comes first
            return short(str(error), 120)
        raise QccError(f"{describe(node)}: {short(str(error), 160)}") from error
    except Exception as error:
        # Attributes that the checker lets pass can still be nonsense to the operator.
        what = short(f"{type(error).__name__}: {error}", 120)
        raise QccError(f"{describe(node)}: the node cannot be read ({what})") from error
    return None


def _hold_places(
    builder: Builder, node: onnx.NodeProto, simple: SimplifiedModel, refused: _Refused
) -> None:
    """Give the outputs of *node*, which was not read, tensors to go on with."""
    constant = all(n in simple.constants or n in refused.unknown for n in node.input if n)
    for name in filter(None, node.output):
        if constant or name not in simple.shapes:
            refused.unknown.add(name)
            continue
        tensor = Tensor(builder.graph.fresh(name), simple.shapes[name])
        builder.bind(name, builder.graph.add_tensor(tensor).name)


def _unsupported(reasons: Mapping[tuple[str, str], list[str]]) -> UnsupportedError:
    inputs = sum(len(layers) for (op, _), layers in reasons.items() if op == "input")
    nodes = sum(map(len, reasons.values())) - inputs
    parts = [_count(n, what) for n, what in ((inputs, "input"), (nodes, "node")) if n]
    verb = "are" if inputs + nodes > 1 else "is"
    hints = [f"{short(op, 40)}: {why}{_named(layers)}" for (op, why), layers in reasons.items()]
    if len(hints) > MAX_HINTS:
        hidden = sum(map(len, list(reasons.values())[MAX_HINTS - 1 :]))
        hints = [*hints[: MAX_HINTS - 1], f"... and {hidden} more"]
    return UnsupportedError(f"{' and '.join(parts)} {verb} not supported", hints)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"


def _named(layers: list[str]) -> str:
    shown = ", ".join(short(layer, 40) for layer in layers[:_NAMED])
    more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
    return f" ({shown}{more})"


class _LayerNames:
    """Readable unique names for nodes, whatever the model calls them."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._next: dict[str, int] = {}

    def of(self, node: onnx.NodeProto, index: int) -> str:
        first = next(filter(None, node.output), "")
        wanted = name = short(node.name or first or f"{node.op_type}_{index}")
        while name in self._used:
            self._next[wanted] = self._next.get(wanted, 0) + 1
            name = f"{wanted}.{self._next[wanted]}"
        self._used.add(name)
        return name


# -- outputs ---------------------------------------------------------------------------------------


def _check_output_batch(proto: onnx.ModelProto, simple: SimplifiedModel) -> None:
    """Where a fixed batch became 1, the outputs' batch must have followed.

    A Reshape to [8, -1] of a model exported for 8 samples fits one sample too, and would mean
    something else.
    """
    declared = {
        v.name: v.type.tensor_type.shape.dim for v in (*proto.graph.input, *proto.graph.output)
    }
    for name in simple.inputs:
        batch = declared[name][0].dim_value if declared[name] else 0
        if batch <= 1 or simple.shapes[name][0] != 1:
            continue
        for output in simple.outputs:
            shape = simple.shapes.get(output, ())
            if declared[output] and shape and declared[output][0].dim_value == batch == shape[0]:
                raise QccError(
                    f"output {short(output)!r} keeps the batch of {batch} that the model was"
                    f" exported for; export the model with a batch of 1"
                )


def _bind_outputs(builder: Builder, simple: SimplifiedModel) -> None:
    graph = builder.graph
    for name in simple.outputs:
        where = f"output {short(name)!r}"
        if name in simple.constants:
            raise QccError(f"{where} is the same for every input; remove it from the model")
        if name in simple.inputs:
            raise QccError(f"{where} is an input passed on unchanged; remove it from the model")
        tensor = builder.tensor(name)
        if tensor in graph.outputs:
            raise QccError(f"{where} is another output under a second name; remove one of them")
        graph.outputs.append(tensor)
