"""ONNX to IR, and readers of calibration data."""
