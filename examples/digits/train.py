"""Train the digits network and write digits.onnx: less than a minute on one core, no GPU.

This script made the digits.onnx beside it. It is the only file of the example that needs PyTorch:

    python3 -m venv torch-env
    torch-env/bin/pip install torch==2.13.0 numpy scikit-learn onnx
    torch-env/bin/python examples/digits/train.py

Everything is seeded and runs on one thread, so that one machine and one PyTorch version always
write the same bytes; another CPU may round differently and end at other weights.

The network has one of each kind of layer that a small vision model is made of: convolution,
depthwise-separable convolution, max pooling, a residual block, global average pooling, a dense
layer, batch normalization throughout. The ONNX graph is written node by node instead of through
an exporter, so that the BatchNormalization nodes stay and names are readable.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from data import Array, Digits, load
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn import functional

SEED = 1
EPOCHS = 60
BATCH = 32
LEARNING_RATE = 3e-3
OPSET = 17
OUTPUT = Path(__file__).with_name("digits.onnx")

# name: (in channels, out channels, kernel, groups); "same" padding, each followed by batch norm.
CONVOLUTIONS = {
    "stem": (1, 16, 3, 1),
    "depthwise": (16, 16, 3, 16),
    "pointwise": (16, 24, 1, 1),
    "block_1": (24, 24, 3, 1),
    "block_2": (24, 24, 3, 1),
}
FEATURES, CLASSES = 24, 10


def make_layers() -> nn.ModuleDict:
    """The trainable layers, by name; ``<conv>_bn`` belongs to ``<conv>``."""
    layers = nn.ModuleDict()
    for name, (c_in, c_out, kernel, groups) in CONVOLUTIONS.items():
        pad = kernel // 2
        layers[name] = nn.Conv2d(c_in, c_out, kernel, padding=pad, groups=groups, bias=False)
        layers[f"{name}_bn"] = nn.BatchNorm2d(c_out)
    layers["dense"] = nn.Linear(FEATURES, CLASSES)
    return layers


def forward(layers: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    """Logits (n, 10) of images (n, 1, 8, 8); ``write_onnx`` says the same in ONNX."""

    def conv(name: str, v: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = layers[f"{name}_bn"](layers[name](v))
        return y

    x = conv("stem", x).relu()
    x = conv("depthwise", x).relu()
    x = conv("pointwise", x).relu()
    x = functional.max_pool2d(x, 2)
    branch = conv("block_1", x).relu()
    x = (x + conv("block_2", branch)).relu()
    logits: torch.Tensor = layers["dense"](x.mean((2, 3)))
    return logits


def shifted(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A batch moved by -1, 0 or 1 pixel in both directions: the only augmentation."""
    dy, dx = torch.randint(0, 3, (2,), generator=generator).tolist()
    return functional.pad(x, (1, 1, 1, 1))[:, :, dy : dy + x.shape[2], dx : dx + x.shape[3]]


def train(digits: Digits) -> nn.ModuleDict:
    """The trained layers, in evaluation mode."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)
    layers = make_layers()
    x, y = torch.from_numpy(digits.train_x), torch.from_numpy(digits.train_y)
    steps = EPOCHS * -(-len(y) // BATCH)
    optimizer = torch.optim.AdamW(layers.parameters(), LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    layers.train()
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(y), generator=generator).split(BATCH):
            logits = forward(layers, shifted(x[batch], generator))
            loss = functional.cross_entropy(logits, y[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1:2d}: loss {total / len(y):.4f}", flush=True)
    return layers.eval()


def make_onnx(layers: nn.ModuleDict) -> onnx.ModelProto:
    """The network as an ONNX model: input ``image`` (N, 1, 8, 8), output ``logits`` (N, 10)."""
    weights = {k: v.detach().numpy() for k, v in layers.state_dict().items() if v.ndim}
    nodes: list[onnx.NodeProto] = []

    def add(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(name: str, x: str) -> str:
        _, _, kernel, groups = CONVOLUTIONS[name]
        window: dict[str, Any] = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4}
        y = add("Conv", [x, f"{name}.weight"], f"{name}_conv", group=groups, **window)
        norm = [f"{name}_bn.{p}" for p in ("weight", "bias", "running_mean", "running_var")]
        return add("BatchNormalization", [y, *norm], f"{name}_norm", epsilon=1e-5)

    x = add("Relu", [conv("stem", "image")], "stem_relu")
    x = add("Relu", [conv("depthwise", x)], "depthwise_relu")
    x = add("Relu", [conv("pointwise", x)], "pointwise_relu")
    x = add("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
    branch = add("Relu", [conv("block_1", x)], "block_1_relu")
    x = add("Relu", [add("Add", [x, conv("block_2", branch)], "block_add")], "block_relu")
    x = add("Flatten", [add("GlobalAveragePool", [x], "average")], "features", axis=1)
    add("Gemm", [x, "dense.weight", "dense.bias"], "logits", transB=1)

    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in weights.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], producer_name="qcc-examples")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def accuracy(logits: Array, y: Array) -> float:
    return float((logits.argmax(1) == y).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="train the digits network, write its ONNX file")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    output: Path = parser.parse_args().output
    digits = load()
    layers = train(digits)
    model = make_onnx(layers)
    with torch.no_grad():
        expected = forward(layers, torch.from_numpy(digits.eval_x)).numpy()
    outputs: Any = ReferenceEvaluator(model).run(None, {"image": digits.eval_x})
    logits: Array = outputs[0]
    difference = float(np.abs(logits - expected).max())
    if difference > 1e-3:
        raise SystemExit(f"the ONNX model differs from the trained one by {difference}")
    output.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{output}: {output.stat().st_size} bytes, {accuracy(logits, digits.eval_y):.2%} "
          f"of {len(digits.eval_y)} evaluation images right")  # fmt: skip


if __name__ == "__main__":
    main()
