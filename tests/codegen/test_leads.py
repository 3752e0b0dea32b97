"""Leads: in the same memory, no kernel reads what it has already written over."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.codegen.leads import portable_leads, window_lead
from qcc.ir import Array, Shape
from qcc.ops.examples import model, normal
from qcc.ops.window import Window, output_size
from tests.build import SANITIZE, check_on_host, compiled


def spoiled(x: Shape, y: Shape, win: Window, sizes: tuple[int, int], lead: int) -> bool:
    """Whether pixel by pixel a window reads bytes that outputs before it have replaced."""
    (_, h, w, c), (_, oh, ow, oc) = x, y
    kh, kw = win.kernel
    dead = np.zeros(lead + h * w * c * sizes[0] + oh * ow * oc * sizes[1], bool)
    out = oc * sizes[1]
    for i in range(oh):
        for j in range(ow):
            p = i * ow + j
            # All channels but the last are written while the window is still read.
            dead[p * out : (p + 1) * out - sizes[1]] = True
            for u in range(kh):
                for v in range(kw):
                    row = i * win.strides[0] - win.pads[0] + u * win.dilations[0]
                    column = j * win.strides[1] - win.pads[1] + v * win.dilations[1]
                    if 0 <= row < h and 0 <= column < w:
                        at = lead + (row * w + column) * c * sizes[0]
                        if dead[at : at + c * sizes[0]].any():
                            return True
            dead[p * out : (p + 1) * out] = True
    return False


@pytest.mark.parametrize("seed", range(60))
def test_windows_read_nothing_that_is_written_over(seed: int) -> None:
    rng = random.Random(seed)
    kernel = (rng.randrange(1, 4), rng.randrange(1, 4))
    strides = (rng.randrange(1, 4), rng.randrange(1, 4))
    dilations = (rng.randrange(1, 3), rng.randrange(1, 3))
    top, left, bottom, right = (rng.randrange(k) for k in (*kernel, *kernel))
    pads = (top, left, bottom, right)  # every window has a tap inside
    win = Window(kernel, strides, pads, dilations)
    size = (rng.randrange(5, 9), rng.randrange(5, 9))
    out = output_size(size, kernel, win)
    x, y = (1, *size, rng.randrange(1, 5)), (1, *out, rng.randrange(1, 9))
    sizes = (rng.choice([1, 2]), rng.choice([1, 2]))
    lead = window_lead(x, y, kernel, win, *sizes)
    assert not spoiled(x, y, win, sizes, lead)
    less = lead - y[3] * sizes[1] - x[3] * sizes[0]
    if less >= 0:  # it counts whole pixels, so it may be too large by one of each
        assert spoiled(x, y, win, sizes, less)


def test_leads_of_common_layers() -> None:
    same = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    # A row and two pixels behind.
    assert window_lead((1, 8, 8, 4), (1, 8, 8, 4), (3, 3), same) == 4 * (8 + 2)
    one = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
    assert window_lead((1, 5, 2, 4), (1, 5, 2, 4), (1, 1), one) == 4
    assert window_lead((1, 5, 2, 4), (1, 5, 2, 6), (1, 1), one) == 10 * 6 - 9 * 4
    pool = Window((2, 2), (2, 2), (0, 0, 0, 0), (1, 1))
    assert window_lead((1, 8, 8, 4), (1, 4, 4, 4), (2, 2), pool) == 4


def network(op: str, rng: random.Random) -> onnx.ModelProto:
    """A window, or rows of dense, between elementwise layers, so that input and output overlap."""
    constants: dict[str, Array] = {}
    if op == "MatMul":
        shape: Shape = (1, 9, rng.randrange(2, 9))
        constants["w"] = normal((shape[2], rng.randrange(2, 9)), 1)
        layer = helper.make_node(op, ["r", "w"], ["m"])
    else:
        shape = (1, rng.randrange(2, 6), rng.randrange(6, 11), rng.randrange(6, 11))
        kernel = [rng.randrange(1, 4), rng.randrange(1, 4)]
        pads = [rng.randrange(k) for k in (*kernel, *kernel)]
        strides = [rng.choice([1, 1, 2]), rng.choice([1, 1, 2])]
        inputs = ["r"]
        if op == "Conv":
            group = rng.choice([1, shape[1]])
            out = shape[1] * rng.randrange(1, 3) if group > 1 else rng.randrange(1, 9)
            constants["w"] = normal((out, shape[1] // group, *kernel), 1)
            inputs.append("w")
            layer = helper.make_node(op, inputs, ["m"], pads=pads, strides=strides, group=group)
        else:
            layer = helper.make_node(
                op, inputs, ["m"], kernel_shape=kernel, pads=pads, strides=strides
            )
    nodes = [
        helper.make_node("LeakyRelu", ["x"], ["r"]),
        layer,
        helper.make_node("LeakyRelu", ["m"], ["s"]),
        helper.make_node("Sigmoid", ["s"], ["y"]),
    ]
    return model("overlapping", nodes, {"x": shape}, ["y"], constants)


@pytest.mark.parametrize("bits", ["8", "16"])
@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool", "MatMul"])
def test_kernels_compute_the_same_where_input_and_output_overlap(
    op: str, bits: str, tmp_path: Path
) -> None:
    rng, overlaps = random.Random(f"{op} {bits}"), 0
    for seed in range(4):
        done = compiled(network(op, rng), act_bits=int(bits), io="caller")
        tensors = [b for b in done.program.buffers if b.kind == "tensor"]
        for a in tensors:
            for b in tensors:
                low, high = sorted((a, b), key=lambda t: t.offset)
                met = a.last == b.first and a is not b
                overlaps += met and low.offset + low.bytes > high.offset
        assert "bit-exact" in check_on_host(done, tmp_path / str(seed), flags=[*SANITIZE, "-O1"])
    assert overlaps


def test_operators_without_a_stated_order_keep_apart() -> None:
    softmax = helper.make_node("Softmax", ["r"], ["y"], axis=1)
    nodes = [helper.make_node("LeakyRelu", ["x"], ["r"]), softmax]
    done = compiled(model("soft", nodes, {"x": (1, 8)}, ["y"]))
    (node,) = (n for n in done.graph.nodes() if n.op == "softmax")
    assert portable_leads(done.graph, node) == {}
