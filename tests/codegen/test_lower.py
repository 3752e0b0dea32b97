"""lower: whatever a model calls its parts, each has a name of its own in the C."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from onnx import helper

from qcc.ir import Array
from qcc.ops.examples import model, normal
from tests.build import check_on_host, compiled


def chain(layers: Sequence[str], x: str = "x", y: str = "y") -> onnx.ModelProto:
    """Dense layers of the given names, one after the other."""
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {}
    value = x
    for i, name in enumerate(layers):
        after = y if i + 1 == len(layers) else f"t{i}"
        nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [after], name=name))
        constants |= {f"w{i}": normal((6, 6), i), f"b{i}": normal((6,), 9 + i)}
        value = after
    return model("m", nodes, {x: (1, 6)}, [y], constants)


@pytest.mark.parametrize(
    ("name", "layers", "ports"),
    [
        ("m", ["run", "last"], ("x", "y")),
        ("m", ["conv", "conv_b"], ("x", "y")),
        ("m", ["conv_b", "conv", "conv_2", "CONV"], ("x", "y")),
        ("M", ["H", "ARENA_BYTES", "WEIGHTS_H", "X_SIZE"], ("X", "y")),
        ("m", ["conv", "last"], ("m_conv", "y")),
        ("m", ["conv", "last"], ("m_conv_b", "m_last")),
        ("M", ["conv", "last"], ("M_ARENA_BYTES", "M_H")),
        ("m", ["conv", "last"], ("m_run", "m_float_h")),
        ("m", ["arena", "a", "x", "y"], ("arena", "a")),
    ],
)
def test_names_that_would_meet_in_the_c_are_parted(
    name: str, layers: list[str], ports: tuple[str, str], tmp_path: Path
) -> None:
    done = compiled(chain(layers, *ports), name=name)
    c_names = [layer.c_name.lower() for layer in done.program.layers]
    assert len(set(c_names)) == len(layers)
    assert "bit-exact" in check_on_host(done, tmp_path / "out")


def test_names_that_meet_nothing_stay() -> None:
    done = compiled(chain(["conv1", "Conv_2", "head"], "image", "scores"), name="net")
    assert [layer.c_name for layer in done.program.layers] == ["conv1", "Conv_2", "head"]
    assert [p.name for p in (*done.program.inputs, *done.program.outputs)] == ["image", "scores"]


@pytest.mark.parametrize("name", ["stdint", "String", "features", "board", "compare", "check"])
def test_a_model_hides_no_header(name: str, tmp_path: Path) -> None:
    done = compiled(chain(["one"]), name=name)
    assert "bit-exact" in check_on_host(done, tmp_path / "out")
