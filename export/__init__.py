"""Turning a checkpoint into a self-contained ONNX file. Run as `python -m export`."""

OPSET = 18
"""What torch's exporter writes without converting, and runtimes have read since 2023."""
