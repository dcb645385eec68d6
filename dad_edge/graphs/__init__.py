"""What is done to an ONNX graph."""
