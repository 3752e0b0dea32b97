"""What an operator's ``read`` works with: the graph under construction and the ONNX names so far.

The frontend owns the loop over the nodes; this file is the narrow waist between the two, so that
operators need not know the frontend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import onnx
from onnx import helper

from qcc.errors import UnsupportedError, short
from qcc.ir import Array, Graph, Node, Origin, Shape, Tensor

NHWC = (0, 2, 3, 1)
"""Transpose from NCHW to NHWC."""
NCHW = (0, 3, 1, 2)
"""Transpose from NHWC to NCHW."""


class Builder:
    """A graph under construction and the values of the ONNX names read so far.

    Attributes:
        graph: receives nodes and tensors.
        opset: version of the default domain.
        constants: ONNX names whose value is known.
        shapes: static shape of every ONNX name, from shape inference.
    """

    def __init__(
        self,
        graph: Graph,
        opset: int,
        constants: Mapping[str, Array],
        shapes: Mapping[str, Shape],
    ) -> None:
        self.graph = graph
        self.opset = opset
        self.constants = constants
        self.shapes = shapes
        self._bound: dict[str, str] = {}
        self._node: onnx.NodeProto | None = None
        self._layer = ""

    def begin(self, node: onnx.NodeProto, layer: str) -> None:
        """Nodes emitted from here on do the work of *node*; *layer* is its readable unique name."""
        self._node, self._layer = node, layer

    # -- reading ------------------------------------------------------------------------------

    def attributes(self, node: onnx.NodeProto) -> dict[str, Any]:
        """Attribute name -> value; bytes are decoded to str."""
        values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}

    def shape(self, name: str) -> Shape:
        """Static shape of an ONNX value, in ONNX's order."""
        return self.shapes[name]

    def constant(self, name: str) -> Array | None:
        """Value of an ONNX name where it is known at compile time."""
        return self.constants.get(name)

    def needs_constant(self, name: str, what: str) -> Array:
        """Value of an ONNX name that has to be known; *what* names it in the error."""
        if (value := self.constants.get(name)) is None:
            self.unsupported(f"{what} ({short(name)}) is computed at run time; only constants work")
        return value

    def optional(self, node: onnx.NodeProto, index: int) -> str | None:
        """Name of the *index*-th input if it is given."""
        return node.input[index] if index < len(node.input) and node.input[index] else None

    def unsupported(self, what: str) -> NoReturn:
        """Refuse the current node; *what* says what was found and what is supported."""
        raise UnsupportedError(what)

    # -- writing ------------------------------------------------------------------------------

    def tensor(self, name: str) -> str:
        """The IR tensor of an ONNX name, in ONNX's layout; constants are added on first use."""
        if name not in self._bound:
            value = self.constants[name]
            data = np.ascontiguousarray(value, np.float32).reshape(value.shape)
            self._bound[name] = self.graph.add_constant(name, data)
        return self._bound[name]

    def bind(self, name: str, tensor: str) -> None:
        """From here on the ONNX name *name* is the IR tensor *tensor*."""
        self._bound[name] = tensor

    def add_input(self, name: str, shape: Shape) -> None:
        """An input of the graph."""
        origin = Origin(name, tuple(range(len(shape))))
        self.graph.add_tensor(Tensor(name, shape, origin=origin))
        self.graph.inputs.append(name)
        self._bound[name] = name

    def const(self, suffix: str, data: Array) -> str:
        """A float32 constant of the current node; scalars keep shape ()."""
        value = np.asarray(data, np.float32)
        return self.graph.add_constant(f"{self._layer}.{suffix}", np.array(value, order="C"))

    def emit(self, op: str, inputs: Sequence[str], attrs: Any, output: str | None = None) -> str:
        """Add a node of the IR; the name of its output tensor.

        Args:
            op: IR operator.
            inputs: IR tensors.
            attrs: the operator's attributes.
            output: ONNX name that this tensor is the value of (and is bound to), if it is one.
        """
        from qcc.ops import OPS  # the ops import this file

        assert self._node is not None
        shape = OPS[op].infer(attrs, [self.graph.shape(t) for t in inputs])
        origin = None
        if output is not None:
            if shape != self.shapes[output]:
                raise ValueError(f"{short(output)}: {shape} read, {self.shapes[output]} declared")
            origin = Origin(output, tuple(range(len(shape))))
        name = self.graph.fresh(output or f"{self._layer}.{op}")
        self.graph.add_tensor(Tensor(name, shape, origin=origin))
        source = self._node.name or self._layer
        layer = self.graph.fresh(f"{self._layer}:{op}")
        self.graph.add_node(Node(layer, op, tuple(inputs), (name,), attrs, (source,)))
        if output is not None:
            self.bind(output, name)
        return name

    def to_nhwc(self, tensor: str) -> str:
        """The NHWC transpose of an NCHW tensor."""
        from qcc.ops.transpose import Attrs

        return self.emit("transpose", [tensor], Attrs(NHWC))

    def from_nhwc(self, tensor: str, output: str) -> str:
        """The NCHW transpose of an NHWC tensor, bound to the ONNX name *output*."""
        from qcc.ops.transpose import Attrs

        return self.emit("transpose", [tensor], Attrs(NCHW), output)
