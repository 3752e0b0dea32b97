"""Networks for tests of the whole compiler, and a place to keep their compilations."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from qcc.config import Config
from qcc.driver import Compilation, compile_proto
from qcc.frontend.load import load_model
from qcc.ir import Array
from qcc.ops.examples import model, normal
from tests.build import calibration

DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx"
SHARED = Path(__file__).parents[2] / "shared"
NAMES = ("digits", "medley")


def medley() -> onnx.ModelProto:
    """One network of nearly all operators: an image and a vector in, a map and classes out."""
    nodes: list[onnx.NodeProto] = []

    def add(op: str, inputs: str, outputs: str, **attrs: Any) -> None:
        nodes.append(helper.make_node(op, inputs.split(), outputs.split(), **attrs))

    # 4 x 12 x 12: convolution, batch normalization, a table; depthwise; grouped, strided.
    add("Conv", "image c1_w c1_b", "c1", pads=[1, 1, 1, 1])
    add("BatchNormalization", "c1 bn_s bn_b bn_m bn_v", "n1")
    add("HardSwish", "n1", "h1")
    add("Conv", "h1 c2_w", "c2", pads=[1, 1, 1, 1], group=8)
    add("PRelu", "c2 slope", "p2")
    add("Conv", "p2 c3_w c3_b", "c3", pads=[0, 0, 1, 1], strides=[2, 2], group=2)
    add("Clip", "c3 zero six", "r3")
    # Squeeze and excite, a shortcut, batch normalization after the sum.
    add("GlobalAveragePool", "r3", "squeezed")
    add("Conv", "squeezed se1_w se1_b", "se1")
    add("Relu", "se1", "se1_r")
    add("Conv", "se1_r se2_w se2_b", "se2")
    add("HardSigmoid", "se2", "gate")
    add("Mul", "r3 gate", "excited")
    add("MaxPool", "h1", "shortcut", kernel_shape=[2, 2], strides=[2, 2])
    add("Add", "excited shortcut", "sum")
    add("BatchNormalization", "sum bn_s bn_b bn_m bn_v", "n2")
    add("LeakyRelu", "n2", "l2", alpha=0.1)
    # 8 x 6 x 6, two halves, one through a table, one pooled; padded, cut and joined again.
    add("Split", "l2 halves", "first second", axis=1)
    add("Sigmoid", "first", "first_s")
    add("AveragePool", "second", "second_a", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    add("Pad", "second_a margins", "second_p", mode="constant")
    add("Slice", "second_p begin end axes", "second_c")
    add("Sub", "first second_c", "difference")
    add("Concat", "first_s second_c difference", "joined", axis=1)
    # Up again, two ways: the map.
    add("ConvTranspose", "joined up_w up_b", "up", strides=[2, 2])
    add("Resize", "l2 none scales", "resized", mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    add("Concat", "up resized", "both", axis=1)
    add("Conv", "both map_w map_b", "map", dilations=[2, 1], pads=[2, 1, 2, 1])
    # A sequence: positions by features, a dense layer on each; the features by position, 1-D.
    add("Transpose", "joined", "last", perm=[0, 2, 3, 1])
    add("Reshape", "last rows", "tokens")
    add("MatMul", "tokens token_w", "mixed")
    add("Add", "mixed token_b", "mixed_b")
    add("ReduceMean", "mixed_b", "pooled", axes=[1], keepdims=0)
    add("Reshape", "joined line", "sequence")
    add("Conv", "sequence line_w line_b", "line_c", strides=[2], pads=[1, 2])
    add("MaxPool", "line_c", "line_m", kernel_shape=[2], strides=[2])
    add("Flatten", "line_m", "line_f")
    # The vector, and the classes.
    add("Gemm", "vector v_w v_b", "v", transB=1)
    add("Tanh", "v", "v_t")
    add("Concat", "pooled line_f v_t", "features", axis=1)
    add("Gemm", "features out_w out_b", "logits")
    add("Softmax", "logits", "classes", axis=1)
    constants: dict[str, Array] = {
        "c1_w": normal((8, 4, 3, 3), 1, 0.3), "c1_b": normal((8,), 2, 0.2),
        "bn_s": 1 + normal((8,), 3, 0.1), "bn_b": normal((8,), 4, 0.1),
        "bn_m": normal((8,), 5, 0.2), "bn_v": 1 + normal((8,), 6, 0.1) ** 2,
        "c2_w": normal((8, 1, 3, 3), 7, 0.4), "slope": abs(normal((8, 1, 1), 8, 0.3)),
        "c3_w": normal((8, 4, 3, 3), 9, 0.3), "c3_b": normal((8,), 10, 0.3),
        "zero": np.array(0, np.float32), "six": np.array(6, np.float32),
        "se1_w": normal((4, 8, 1, 1), 11), "se1_b": normal((4,), 12),
        "se2_w": normal((8, 4, 1, 1), 13), "se2_b": normal((8,), 14),
        "halves": np.array([4, 4], np.int64),
        "margins": np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64),
        "begin": np.array([0, 1], np.int64), "end": np.array([6, 7], np.int64),
        "axes": np.array([2, 3], np.int64),
        "up_w": normal((12, 6, 2, 2), 15, 0.3), "up_b": normal((6,), 16, 0.2),
        "none": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32),
        "map_w": normal((3, 14, 3, 3), 17, 0.1), "map_b": normal((3,), 18, 0.2),
        "rows": np.array([1, 36, 12], np.int64),
        "token_w": normal((12, 5), 19, 0.4), "token_b": normal((5,), 20, 0.2),
        "line": np.array([1, 12, 36], np.int64),
        "line_w": normal((2, 12, 4), 21, 0.2), "line_b": normal((2,), 22, 0.2),
        "v_w": normal((4, 6), 23, 0.4), "v_b": normal((4,), 24, 0.2),
        "out_w": normal((27, 7), 25, 0.4), "out_b": normal((7,), 26, 0.2),
    }  # fmt: skip
    inputs = {"image": (1, 4, 12, 12), "vector": (1, 6)}
    return model("medley", nodes, inputs, ["map", "classes"], constants)


def network(name: str) -> onnx.ModelProto:
    """One of ``NAMES``."""
    return load_model(DIGITS) if name == "digits" else medley()


def samples(name: str, count: int = 12, seed: int = 7) -> dict[str, Array]:
    """Inputs for ``network(name)`` by ONNX name, (count, *ONNX shape) float32.

    The digits example takes strokes of 0 to 16; these resemble them where scikit-learn, which has
    the real ones, need not be installed.
    """
    drawn = calibration(network(name), count, seed)
    if name != "digits":
        return drawn
    return {k: np.clip(np.round(8 + 8 * v), 0, 16).astype(np.float32) for k, v in drawn.items()}


@cache
def compilation(name: str, target: str = "generic", scale: str = "single-shift") -> Compilation:
    """``network(name)`` compiled; once per worker, so do not change it."""
    options: dict[str, Any] = {"target": target, "scale": scale, "vectors": 4}
    return compile_proto(
        network(name), Config(name=name, calibration=samples(name), **options), f"{name}.onnx"
    )


def need_shared() -> Path:
    """The folder with models and data that are not part of the project; skips without it."""
    if not (SHARED / "models" / "mlperf_tiny").is_dir():
        pytest.skip("no ../shared/models")
    return SHARED
