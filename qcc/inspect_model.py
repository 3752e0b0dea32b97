"""``qcc inspect``: the layers that a model becomes, and what they cost, before it is quantized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcc.config import Config

if TYPE_CHECKING:
    import onnx

    from qcc.ir import Graph, Node, Shape


@dataclass(frozen=True, slots=True)
class PortInfo:
    """An input or output, in ONNX's own order of axes."""

    name: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One layer after the float passes; *shape* is that of its output, channels last.

    Attributes:
        macs: multiply-accumulates of one inference.
        parameters: elements of its constants.
    """

    name: str
    op: str
    onnx_nodes: tuple[str, ...]
    shape: Shape
    macs: int
    parameters: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model holds; layers that only hand on bytes (reshapes) have no code and no entry."""

    model: str
    opset: int
    inputs: tuple[PortInfo, ...]
    outputs: tuple[PortInfo, ...]
    layers: tuple[LayerInfo, ...]

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "model": self.model,
            "opset": self.opset,
            "inputs": [_port(p) for p in self.inputs],
            "outputs": [_port(p) for p in self.outputs],
            "macs": self.macs,
            "parameters": self.parameters,
            "layers": [_layer(layer) for layer in self.layers],
        }


def inspect_file(path: Path, config: Config) -> Inspection:
    """What the model in *path* holds.

    Raises:
        QccError: it is no model, or has operators that qcc does not compile.
    """
    from qcc.frontend.load import load_model

    return inspect_proto(load_model(path), path.name, config)


def inspect_proto(proto: onnx.ModelProto, title: str, config: Config) -> Inspection:
    """What a checked model holds."""
    from qcc.frontend.onnx_reader import read_onnx
    from qcc.ops import OPS
    from qcc.passes.manager import run_passes
    from qcc.passes.pipeline import FLOAT

    graph = read_onnx(proto, "model", config.shapes)
    run_passes(graph, FLOAT, config)
    nodes = [n for n in graph.nodes() if not OPS[n.op].alias]
    return Inspection(
        model=title,
        opset=_opset(proto),
        inputs=tuple(_port_info(graph, t) for t in graph.inputs),
        outputs=tuple(_port_info(graph, t) for t in graph.outputs),
        layers=tuple(_layer_info(graph, n, OPS[n.op].macs(graph, n)) for n in nodes),
    )


def _opset(proto: onnx.ModelProto) -> int:
    return max(int(o.version) for o in proto.opset_import if o.domain in ("", "ai.onnx"))


def _port_info(graph: Graph, name: str) -> PortInfo:
    tensor = graph.tensor(name)
    if tensor.origin is None:
        return PortInfo(name, tensor.shape)
    shape = dict(zip(tensor.origin.perm, tensor.shape, strict=True))
    return PortInfo(tensor.origin.name, tuple(shape[axis] for axis in sorted(shape)))


def _layer_info(graph: Graph, node: Node, macs: int) -> LayerInfo:
    return LayerInfo(
        name=node.name.rsplit(":", 1)[0],
        op=node.op,
        onnx_nodes=node.sources,
        shape=graph.shape(node.output),
        macs=macs,
        parameters=sum(graph.tensor(t).size for t in node.inputs if graph.is_constant(t)),
    )


def _port(port: PortInfo) -> Mapping[str, Any]:
    return {"name": port.name, "shape": list(port.shape)}


def _layer(layer: LayerInfo) -> Mapping[str, Any]:
    return {
        "name": layer.name,
        "op": layer.op,
        "onnx_nodes": list(layer.onnx_nodes),
        "shape": list(layer.shape),
        "macs": layer.macs,
        "parameters": layer.parameters,
    }
