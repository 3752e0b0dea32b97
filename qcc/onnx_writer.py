"""An ONNX graph under construction: fresh names, constants of every integer width, nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from qcc.errors import short
from qcc.ir import Array, QType, Shape
from qcc.packing import pack

_IR_VERSION = {21: 10, 25: 13}
OPSETS = tuple(_IR_VERSION)
"""21 has 4-bit and 16-bit quantization, 25 has 2-bit quantization too."""

_TYPES = {
    (True, 2): TensorProto.INT2,
    (False, 2): TensorProto.UINT2,
    (True, 4): TensorProto.INT4,
    (False, 4): TensorProto.UINT4,
    (True, 8): TensorProto.INT8,
    (False, 8): TensorProto.UINT8,
    (True, 16): TensorProto.INT16,
    (False, 16): TensorProto.UINT16,
}


def storage(qtype: QType, opset: int) -> QType:
    """The narrowest type of *opset* that holds a format: whole range, no symmetry."""
    widths = (2, 4, 8, 16) if opset >= 25 else (4, 8, 16)
    needed = 2 if qtype.bits == 1 and qtype.signed else qtype.bits  # -1 and +1 of {-1, 0, 1}
    bits = next(width for width in widths if needed <= width)
    return QType(bits, qtype.signed, narrow=False)


def element_type(qtype: QType) -> int:
    """ONNX's number of a type that ``storage`` gave."""
    return int(_TYPES[qtype.signed, qtype.bits])


class Writer:
    """Nodes and constants of one graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._taken: set[str] = set()

    def name(self, wanted: str) -> str:
        """*wanted*, on one line, or the first free ``wanted.N``."""
        base, n = short(wanted, 200) or "value", 0
        name = base
        while name in self._taken:
            n += 1
            name = f"{base}.{n}"
        self._taken.add(name)
        return name

    def reserve(self, name: str) -> None:
        """Keep the name of an input or output, exactly as it is."""
        self._taken.add(name)

    def add(self, op: str, inputs: Sequence[str], wanted: str, **attrs: Any) -> str:
        """A node with one output, which gets a name like *wanted*; that name."""
        return self.add_named(op, inputs, self.name(wanted), **attrs)

    def add_named(self, op: str, inputs: Sequence[str], output: str, **attrs: Any) -> str:
        """A node with the output *output*."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}:{op}", **attrs))
        return output

    def const(self, data: Any, wanted: str, dtype: Any = np.float32) -> str:
        """A constant of a numpy type."""
        array = np.asarray(data, dtype)
        proto = onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape))
        return self._initializer(proto, wanted)

    def integers(self, data: Array, qtype: QType, wanted: str) -> str:
        """A constant of a type that ``storage`` gave, 2 and 4 bits packed."""
        if qtype.bits in (8, 16):
            return self.const(data, wanted, qtype.dtype)
        proto = TensorProto(data_type=element_type(qtype), dims=data.shape)
        proto.raw_data = pack(data, qtype.bits, qtype.signed).tobytes()
        return self._initializer(proto, wanted)

    def _initializer(self, proto: TensorProto, wanted: str) -> str:
        proto.name = self.name(wanted)
        self.initializers.append(proto)
        return proto.name

    def model(
        self,
        name: str,
        inputs: Mapping[str, tuple[int, Shape]],
        outputs: Mapping[str, tuple[int, Shape]],
        opset: int,
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The model; inputs and outputs are name -> (element type, shape)."""
        first, last = (
            [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in part.items()]
            for part in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, name, first, last, self.initializers)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="qcc"
        )
        model.ir_version = _IR_VERSION[opset]
        helper.set_model_props(model, dict(metadata))
        return model
