"""separate_outputs: outputs that would share bytes with an input or another output."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qcc.ops.examples import normal
from qcc.passes.separate_outputs import separate_outputs
from tests.build import check_on_host, compiled
from tests.graphs import apply_checked, channel_last, node, ops, proto


def test_a_reshaped_input_is_copied() -> None:
    constants = {"s": np.array([3, 4], np.int64)}
    graph = channel_last(proto([node("Reshape", "x s", "y")], (2, 6), constants=constants))
    assert apply_checked(graph, separate_outputs) == 1
    assert ops(graph) == ["reshape", "unary"]


def test_two_views_of_one_layer_are_two_buffers(tmp_path: Path) -> None:
    constants = {
        "w": normal((6, 6)), "s": np.array([3, 4], np.int64), "t": np.array([4, 3], np.int64),
    }  # fmt: skip
    nodes = [
        node("MatMul", "x w", "m"), node("Reshape", "m s", "y"), node("Reshape", "m t", "z"),
    ]  # fmt: skip
    m = proto(nodes, (2, 6), "y z", constants)
    graph = channel_last(m)
    assert apply_checked(graph, separate_outputs) == 1
    assert "bit-exact" in check_on_host(compiled(m), tmp_path / "out")


def test_a_view_of_a_view_that_was_copied_stays_with_the_layer(tmp_path: Path) -> None:
    """Random seed 31: the copy of y must not become what z is a view of."""
    constants = {
        "w": normal((6, 6)), "s": np.array([3, 4], np.int64), "t": np.array([4, 3], np.int64),
    }  # fmt: skip
    nodes = [
        node("MatMul", "x w", "m"), node("Reshape", "m s", "y"), node("Reshape", "y t", "z"),
    ]  # fmt: skip
    for i, outputs in enumerate(("z y", "y z", "z y m")):
        m = proto(nodes, (2, 6), outputs, constants)
        apply_checked(channel_last(m), separate_outputs)
        assert "bit-exact" in check_on_host(compiled(m), tmp_path / f"out{i}")


def test_a_layer_behind_a_reshape_needs_no_copy() -> None:
    constants = {"w": normal((6, 6)), "s": np.array([3, 4], np.int64)}
    nodes = [node("MatMul", "x w", "m"), node("Reshape", "m s", "y")]
    graph = channel_last(proto(nodes, (2, 6), constants=constants))
    assert apply_checked(graph, separate_outputs) == 0
